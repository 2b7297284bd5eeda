package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
	"github.com/warder-mcp/warder/internal/oauth"
	"github.com/warder-mcp/warder/internal/safedial"
	"github.com/warder-mcp/warder/internal/secret"
	"github.com/warder-mcp/warder/internal/state"
)

// A server is one server with credentials.
type server struct {
	k     *Keeper
	name  string
	kind  string
	url   *url.URL
	creds *Credentials

	http   *http.Client
	client *oauth.Client
	issued func(ctx context.Context, e *entry, scopes []string) (*oauth.Tokens, error) // gets a token without a person; nil for oauth

	people *people // entries of callers; nil when one credential serves all
	own    *entry  // the one entry; nil when each caller has one
	shown  *shownSecret

	target atomic.Pointer[found]
	turn   chan struct{} // one discovery at a time
}

// found is a discovered target.
type found struct {
	*oauth.Target
	at     time.Time
	forced bool // a challenge asked for it
}

// Bounds.
const (
	fetchTimeout = 10 * time.Second // of one request to an authorization server
	grantTimeout = 25 * time.Second // of everything it takes to get a token
	targetKeep   = 10 * time.Minute // how long discovered metadata is used
	targetPause  = 2 * time.Second  // between two discoveries that were asked for by a challenge
)

// open prepares one server that is shown something.
func (k *Keeper) open(cfg *Server) (*server, error) {
	s := &server{k: k, name: cfg.Name, kind: cfg.Credentials.Kind(), creds: &cfg.Credentials, turn: make(chan struct{}, 1)}
	if s.kind == kindSecret {
		return s, s.openSecret(cfg.URL)
	}
	var err error
	if s.url, err = url.Parse(cfg.URL); err != nil || s.url.Host == "" {
		return nil, errors.New("credentials: only a server with a url can be shown a token")
	}
	if err := s.openClient(cfg); err != nil {
		return nil, err
	}
	maker := func(o owner) *entry { return newEntry(s, o) }
	switch s.kind {
	case kindOAuth:
		if _, err := k.base(); err != nil {
			return nil, err
		}
		s.people = newPeople(maker)
	case kindExchange:
		if cfg.Credentials.Exchange.Subject.IsZero() && k.deps.Mint == nil {
			return nil, errors.New("credentials.exchange: there is no issuer of our own: set subject")
		}
		s.people, s.issued = newPeople(maker), s.exchange
	case kindIDJAG:
		if cfg.Credentials.IDJAG.Subject.IsZero() && k.deps.Identity == nil {
			return nil, errors.New("credentials.id_jag: people do not log in here: set subject")
		}
		s.people, s.issued = newPeople(maker), s.identityGrant
	case kindClient:
		s.own, s.issued = newEntry(s, owner{}), s.clientCredentials
	case kindWorkload:
		s.own, s.issued = newEntry(s, owner{}), s.workload
	}
	return s, nil
}

// openClient makes the OAuth client of the server.
func (s *server) openClient(cfg *Server) error {
	a := cfg.Credentials.Authorization
	local := loopbackHost(s.url.Hostname())
	rules := []safedial.Rule{{Host: s.url.Hostname(), Loopback: local, Private: cfg.AllowPrivate}}
	if local { // development: the authorization server is on this computer too
		for _, h := range []string{"localhost", "127.0.0.1", "::1"} {
			rules = append(rules, safedial.Rule{Host: h, Loopback: true})
		}
	}
	hosts := []string{strings.ToLower(s.url.Hostname())}
	for _, h := range a.PrivateHosts {
		rules = append(rules, safedial.Rule{Host: h, Private: true})
		hosts = append(hosts, strings.ToLower(h))
	}
	dialer := safedial.New(safedial.Config{Allow: rules, Refused: func(ctx context.Context, r safedial.Refusal) {
		s.k.tell(ctx, "AUT-08", s, owner{}, refused, "address_refused", r.Detail)
	}})
	s.http = dialer.Client(fetchTimeout)
	conf := oauth.Config{
		HTTP: s.http, Now: s.k.now, Name: s.k.cfg.ClientName, URI: s.k.cfg.ClientURI, Redirect: s.k.deps.Base + pathCallback,
		Document: s.k.cfg.ClientID, Registrations: registrations{s}, RequireDPoP: a.DPoP == "required",
		Issuers: a.Issuers, Loopback: local, Hosts: hosts,
		Refused: func(ctx context.Context, control warder.ControlID, reason warder.Reason, detail string) {
			s.k.tell(ctx, control, s, owner{}, refused, reason, detail)
		},
	}
	for _, c := range s.registered() {
		conf.Registered = append(conf.Registered, s.registration(c))
	}
	if a.DPoP != "off" {
		prover, err := s.prover()
		if err != nil {
			return fmt.Errorf("key of dpop: %w", err)
		}
		conf.Prover = prover
	}
	var err error
	s.client, err = oauth.New(conf)
	return err
}

// loopbackHost reports whether a configured host means this machine.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// registered are the registrations of the configuration.
func (s *server) registered() []Client {
	switch {
	case s.creds.OAuth != nil && s.creds.OAuth.Client != nil:
		return []Client{*s.creds.OAuth.Client}
	case s.creds.ClientCredentials != nil:
		return []Client{s.creds.ClientCredentials.Client}
	case s.creds.Exchange != nil:
		return []Client{s.creds.Exchange.Client}
	case s.creds.IDJAG != nil:
		return []Client{s.creds.IDJAG.Client, s.creds.IDJAG.Provider}
	default:
		return nil
	}
}

// registration reads secret and key when they are needed (MSH-03).
func (s *server) registration(c Client) oauth.Registration {
	r := oauth.Registration{Issuer: c.Issuer, ClientID: c.ID, Method: c.Method}
	if !c.Secret.IsZero() {
		r.Fetch = func(ctx context.Context) (secret.Value, error) { return s.k.fetch(ctx, c.Secret) }
	}
	if !c.Key.IsZero() {
		r.Key = func(ctx context.Context) (oauth.Signer, error) {
			text, err := s.k.fetch(ctx, c.Key)
			if err != nil {
				return nil, err
			}
			return jose.ParseSigner(text.Bytes())
		}
	}
	return r
}

func (k *Keeper) fetch(ctx context.Context, ref secret.Ref) (secret.Value, error) {
	h, err := k.deps.Secrets.Handle(ref)
	if err != nil {
		return secret.Value{}, err
	}
	l, err := h.Get(ctx)
	if err != nil {
		return secret.Value{}, err
	}
	return l.Value, nil
}

// prover returns the proofs of the server's own key, which all replicas share and which no other server
// sees: two of them cannot tell by the key that they serve the same Warder.
func (s *server) prover() (*jose.Prover, error) {
	ctx, cancel := context.WithTimeout(s.k.ctx, fetchTimeout)
	defer cancel()
	for range 3 {
		doc, err := s.k.deps.State.Get(ctx, docKey, s.name)
		if err == nil {
			text, err := s.k.unseal(docKey, s.name, doc.Body)
			if err != nil {
				return nil, err
			}
			defer clear(text)
			signer, err := jose.ParseSigner(text)
			if err != nil {
				return nil, err
			}
			return jose.ProverOf(signer, s.k.now), nil
		}
		if !errors.Is(err, state.ErrNotFound) {
			return nil, err
		}
		if err := s.makeKey(ctx); err != nil && !errors.Is(err, state.ErrConflict) {
			return nil, err
		}
	}
	return nil, state.ErrConflict
}

func (s *server) makeKey(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	body, err := s.k.seal(docKey, s.name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return err
	}
	_, err = s.k.deps.State.Put(ctx, state.Doc{Kind: docKey, ID: s.name, Topic: s.name, Body: body})
	return err
}

// discover returns where tokens for the server come from. challenges are those of an answer that refused
// us, and make it look anew; without them the server is asked for one.
func (s *server) discover(ctx context.Context, challenges []oauth.Challenge) (*oauth.Target, error) {
	fresh := func() *oauth.Target {
		f := s.target.Load()
		if f == nil {
			return nil
		}
		age := s.k.now().Sub(f.at)
		if age >= targetKeep || challenges != nil && (!f.forced || age >= targetPause) {
			return nil
		}
		return f.Target
	}
	if t := fresh(); t != nil {
		return t, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if t := fresh(); t != nil {
		return t, nil
	}
	forced := challenges != nil
	if len(challenges) == 0 {
		var err error
		if challenges, err = s.probe(ctx); err != nil {
			return nil, err
		}
	}
	t, err := s.client.Discover(ctx, s.url.String(), challenges)
	if err != nil {
		return nil, err
	}
	s.target.Store(&found{Target: t, at: s.k.now(), forced: forced})
	return t, nil
}

// probeBody asks for the list of tools without any credential: a server that wants one answers with a
// challenge, any other with a list or an error, which nobody reads.
const probeBody = `{"jsonrpc":"2.0","id":"warder-probe","method":"tools/list","params":{"_meta":{` +
	`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},` +
	`"io.modelcontextprotocol/clientInfo":{"name":"warder","version":"1"}}}}`

// probe returns the challenges of the server.
func (s *server) probe(ctx context.Context) ([]oauth.Challenge, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), strings.NewReader(probeBody))
	if err != nil {
		return nil, fmt.Errorf("ask for a challenge: %w", err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list",
	} {
		req.Header.Set(name, value)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for a challenge: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
	if resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return nil, nil
	}
	s.client.Nonce(s.url, resp.Header)
	return oauth.ParseChallenges(resp.Header), nil
}

// register returns who we are at the target's authorization server.
func (s *server) register(ctx context.Context, t *oauth.Target) (*oauth.Registration, error) {
	return s.client.Register(ctx, t.Server)
}
