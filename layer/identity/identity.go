package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

// Keys finds the public key that a token of one issuer names. [jose.Source] is one.
type Keys interface {
	Key(ctx context.Context, id string) (jose.Key, error)
}

// Replays remembers ids that may be used once. An error means that nobody knows, and the caller is
// refused. state.Replays is one.
type Replays interface {
	Add(ctx context.Context, id string, until time.Time) (fresh bool, err error)
}

// Deps are what the layer needs from outside.
type Deps struct {
	// Resource returns the canonical URI of the endpoint, a server or a group, and false for an
	// endpoint that does not exist. Required. It must not block: it is asked for every message.
	Resource func(endpoint string) (string, bool)
	// HTTP fetches metadata and key sets and asks issuers about tokens; it decides what may be dialled
	// (see Config.DialRules). Nil means that every issuer needs keys of its own.
	HTTP *http.Client
	// Keys holds ready key sources by issuer URL, such as that of an issuer in this process. An issuer
	// in this map needs no jwks.
	Keys map[string]Keys
	// Generation is a number that changes when credentials were revoked: every remembered token is
	// then verified anew. Nil means it never changes.
	Generation func() uint64
	// Replays remembers the ids of DPoP proofs, for all replicas. Nil remembers them in this process.
	Replays Replays
	// NonceKeys are secrets of at least 32 bytes that replicas share; the first makes DPoP nonces, the
	// others are those of before. None: a random key, whose nonces no other replica knows.
	NonceKeys [][]byte
	// User names the operating system's user behind the stdio door. Nil asks the operating system.
	User func() (string, error)
	// Agents is the registry of agents. Nil: none is registered.
	Agents Agents
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// New builds the layer.
func New(cfg Config, deps Deps) (warder.Layer, error) {
	if err := cfg.Validate(); err != nil {
		return warder.Layer{}, fmt.Errorf("identity: %w", err)
	}
	if deps.Resource == nil {
		return warder.Layer{}, errors.New("identity: no way to resolve endpoints")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.User == nil {
		deps.User = currentUser
	}
	if deps.Generation == nil {
		deps.Generation = func() uint64 { return 0 }
	}
	ask := asker{cfg: cfg}
	v, err1 := newVerifier(cfg, deps)
	certs, err2 := newCertificates(cfg, deps, ask)
	bound, err3 := newSenderConstraint(cfg, deps, ask)
	if err := errors.Join(err1, err2, err3); err != nil {
		return warder.Layer{}, fmt.Errorf("identity: %w", err)
	}
	layer := warder.Layer{
		Name: "identity",
		Connect: []warder.Interceptor{
			newLocalUser(deps.User),
			certs,
			&challenge{ask: ask},
			newAudience(cfg, deps, v, ask),
			newLifetime(cfg, deps, ask),
			bound,
			newStrongClients(cfg, ask),
			newNotShared(cfg, ask),
			&noImplicitTrust{resource: deps.Resource, ask: ask},
			newDelegation(cfg, deps.Agents),
			newRegistry(cfg, deps.Agents, deps.Now),
		},
	}
	if cfg.DPoP.ContentDigest {
		layer.Request = []warder.Interceptor{&contentDigest{ask: ask}}
	}
	if cfg.Signatures.on() {
		signed, err := newSignatures(cfg, deps)
		if err != nil {
			return warder.Layer{}, fmt.Errorf("identity: %w", err)
		}
		layer.Connect = append(layer.Connect, signedHeaders{signed})
		layer.Request = append(layer.Request, signedMessage{signed})
	}
	return layer, nil
}

func currentUser() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("name the local user: %w", err)
	}
	return u.Username, nil
}

// resourceOf is the audience that a token for the exchange's endpoint must have. An endpoint that
// does not exist gets the URI it would have, so that its refusals look like those of any other.
func resourceOf(x *warder.Exchange, resource func(string) (string, bool), cfg *Config) string {
	if x.Server != nil {
		return x.Server.Resource
	}
	if r, ok := resource(x.Endpoint); ok {
		return r
	}
	return cfg.Resource(x.Endpoint)
}
