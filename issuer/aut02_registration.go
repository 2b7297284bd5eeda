package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/bounded"
	"github.com/warder-mcp/warder/internal/state"
)

const aut02 = "AUT-02"

// Registration is control AUT-02 wherever a client names itself: whether it is known, from where, and
// whether what is said about it may be believed. In order: clients the operator registered, clients
// with a metadata document at an https URL (draft-ietf-oauth-client-id-metadata-document), clients that
// registered themselves here (RFC 7591). Registrations of another issuer do not exist here. It is safe
// for concurrent use.
type Registration struct {
	is        *Issuer
	config    map[string]*Client
	documents *bounded.Cache[string, cached]
	dynamic   *bounded.Cache[string, cached]
}

// cached is a client as it was last seen.
type cached struct {
	client  *Client
	until   time.Time // documents: fetch it again from then on
	version int64     // dynamic: of the document in the store
}

const maxCachedClients = 4096

// Control names the control.
func (*Registration) Control() warder.ControlID { return aut02 }

func newRegistration(ctx context.Context, is *Issuer) (*Registration, error) {
	g := &Registration{
		is: is, config: map[string]*Client{},
		documents: bounded.New[string, cached](maxCachedClients), dynamic: bounded.New[string, cached](maxCachedClients),
	}
	for i := range is.cfg.Clients {
		k := &is.cfg.Clients[i]
		r, err := k.registration()
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", k.ID, err)
		}
		if !k.Secret.IsZero() {
			v, err := k.Secret.Read(ctx)
			if err != nil {
				return nil, fmt.Errorf("client %s: %w", k.ID, err)
			}
			r.Secret = string(v.Bytes())
		}
		c, err := is.newClient(r, SourceConfig)
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", k.ID, err)
		}
		c.meta.config = k
		g.config[k.ID] = c
	}
	return g, nil
}

// find returns the client of an id. peer is the address that asks, which bounds how many documents are
// fetched for it.
func (g *Registration) find(ctx context.Context, id, peer string) (*Client, *fault) {
	if c, ok := g.config[id]; ok {
		return c, nil
	}
	if strings.HasPrefix(id, "https://") {
		return g.document(ctx, id, peer)
	}
	return g.registered(ctx, id)
}

// unknown is the answer for clients that are not there, of another issuer, or expired: all the same.
func unknown(reason warder.Reason, detail string) *fault {
	return refuse(errClient, "The client is not known here.").because(reason, detail)
}

// document returns the client whose metadata document is at the URL.
func (g *Registration) document(ctx context.Context, id, peer string) (*Client, *fault) {
	now := g.is.deps.Now()
	host, err := documentURL(id)
	if err != nil {
		return nil, unknown("client_id_malformed", err.Error())
	}
	if f := g.is.enforce(ctx, aut02, errClient, id, func() warder.Decision { return g.judgeHost(host) }); f != nil {
		return nil, f
	}
	if c, ok := g.documents.Get(id); ok && now.Before(c.until) {
		return c.client, nil
	}
	if !g.is.limits.register.allow(network(peer), now) {
		f := refuse(errUnavailable, "Too many clients were introduced from here.")
		f.status = 429
		return nil, f
	}
	r, fresh, err := g.is.fetchDocument(ctx, id)
	if err != nil {
		return nil, unknown("document_unusable", err.Error())
	}
	if f := g.is.enforce(ctx, aut02, errClient, id, func() warder.Decision { return judgeDocument(id, r) }); f != nil {
		return nil, f
	}
	r.ID, r.Secret = id, ""
	if !slices.Contains([]string{authNone, authPrivateKey}, r.Auth) {
		r.Auth = authNone // only reached when the control does not enforce
	}
	c, err := g.is.newClient(r, SourceDocument)
	if err != nil {
		return nil, unknown("document_unusable", err.Error())
	}
	g.documents.Put(id, cached{client: c, until: now.Add(min(fresh, g.is.cfg.CIMD.MaxCache))})
	return c, nil
}

// documentURL checks a client id as section 3 of the draft has it, and returns its host.
func documentURL(id string) (string, error) {
	u, err := url.Parse(id)
	switch {
	case err != nil || len(id) > 2048:
		return "", errors.New("client id is not a URL")
	case u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || strings.Contains(id, "#"):
		return "", errors.New("client id is not a plain https URL")
	case u.EscapedPath() == "" || u.EscapedPath() == "/":
		return "", errors.New("client id has no path")
	case u.Host != strings.ToLower(u.Host) || strings.ContainsAny(id, " \\\t\r\n"):
		return "", errors.New("client id is not in normal form")
	}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
			return "", errors.New("client id has dot segments")
		}
	}
	return u.Hostname(), nil
}

// judgeHost applies the operator's trust policy: whose documents are believed at all.
func (g *Registration) judgeHost(host string) warder.Decision {
	fits := func(p string) bool { return hostMatches(p, host) }
	switch {
	case slices.ContainsFunc(g.is.cfg.CIMD.Deny, fits):
		return warder.Refuse(warder.CodeDenied, "client_host_denied", "cimd.deny names the host").Tell("Clients of this host are not accepted.")
	case !slices.ContainsFunc(g.is.cfg.CIMD.Allow, fits):
		return warder.Refuse(warder.CodeDenied, "client_host_not_allowed", "cimd.allow does not name the host").Tell("Clients of this host are not accepted.")
	default:
		return warder.Continue()
	}
}

// judgeDocument decides whether a document says what a metadata document may say: it is about exactly
// the client whose id led to it, and holds and wants no shared secret (sections 4 and 4.1 of the draft).
func judgeDocument(id string, r registration) warder.Decision {
	no := func(reason warder.Reason, detail string) warder.Decision {
		return warder.Refuse(warder.CodeDenied, reason, detail).Tell("The client's metadata document cannot be accepted.")
	}
	switch {
	case r.ID != id:
		return no("document_of_another", "client_id in the document is another than its address")
	case r.Secret != "":
		return no("document_has_secret", "a public document holds a secret")
	case r.Auth != authNone && r.Auth != authPrivateKey:
		return no("document_auth_method", "token_endpoint_auth_method "+cut(r.Auth, 40)+" is not for metadata documents")
	case r.Auth == authPrivateKey && len(r.KeySet) == 0 && r.KeySetURI == "":
		return no("document_without_keys", "private_key_jwt without keys")
	default:
		return warder.Continue()
	}
}

// kindClient holds clients that registered themselves, by client id.
const kindClient = "issuer.client"

// registered returns a client that registered itself at this issuer.
func (g *Registration) registered(ctx context.Context, id string) (*Client, *fault) {
	if id == "" || len(id) > 256 {
		return nil, unknown("client_id_malformed", "")
	}
	d, err := g.is.deps.State.Get(ctx, kindClient, id)
	if errors.Is(err, state.ErrNotFound) {
		return nil, unknown("client_unknown", "")
	}
	if err != nil {
		return nil, undecided(err)
	}
	f := g.is.enforce(ctx, aut02, errClient, id, func() warder.Decision {
		if d.Owner != g.is.cfg.URL {
			return warder.Refuse(warder.CodeDenied, "client_of_another_issuer", "registered at "+cut(d.Owner, 200)).Tell("The client is not known here.")
		}
		return warder.Continue()
	})
	if f != nil {
		return nil, f
	}
	if c, ok := g.dynamic.Get(id); ok && c.version == d.Version {
		return c.client, nil
	}
	stored, err := parseStored(d.Body)
	if err != nil {
		return nil, undecided(fmt.Errorf("read client: %w", err))
	}
	stored.ID = id
	c, err := g.is.newClient(stored.registration, SourceDynamic)
	if err != nil {
		return nil, undecided(fmt.Errorf("read client: %w", err))
	}
	c.meta.secretSum = stored.SecretSum
	g.dynamic.Put(id, cached{client: c, version: d.Version})
	return c, nil
}
