package issuer

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
)

// Pushed authorization requests (RFC 9126).
const (
	kindPushed   = "issuer.par"
	pushedPrefix = "urn:ietf:params:oauth:request_uri:"
	pushedTTL    = 90 * time.Second
)

// push is the PAR endpoint: it authenticates the client and judges the request before a browser sees it.
func (is *Issuer) push(w http.ResponseWriter, r *http.Request) {
	uri, client, f := is.pushRequest(w, r)
	if f == nil {
		e := is.event("request_pushed", warder.OutcomeAllowed)
		e.Principal, e.Peer = &warder.EventPrincipal{Client: client}, is.deps.Peer(r)
		if err := is.deps.Record(r.Context(), e); err != nil {
			f = undecided(err)
		}
	} else if err := is.recordFault(r, client, f); err != nil {
		f = undecided(err)
	}
	if f != nil {
		is.fail(w, r, f)
		return
	}
	answer(w, http.StatusCreated, map[string]any{"request_uri": uri, "expires_in": int(pushedTTL.Seconds())})
}

func (is *Issuer) pushRequest(w http.ResponseWriter, r *http.Request) (uri, client string, f *fault) {
	p, f := form(r)
	if f != nil {
		return "", "", f
	}
	who, f := is.authenticate(r, p)
	if f != nil {
		return "", p["client_id"], f
	}
	client = who.client.ID
	if f := is.prove(w, r, who); f != nil {
		return "", client, f
	}
	if _, nested := p["request_uri"]; nested {
		return "", client, refuse(errRequest, "A pushed request cannot refer to another.")
	}
	redirect, f := who.client.redirectOf(p)
	if f != nil {
		return "", client, f
	}
	q, f := is.read(p, who.client, redirect)
	if f != nil {
		return "", client, f
	}
	if key := who.key(); key != "" {
		if q.Key != "" && q.Key != key {
			return "", client, refuse(errProof, "The proof is of another key than dpop_jkt.").because("key_mismatch", "")
		}
		q.Key = key // RFC 9449 section 10.1
	}
	id := rand.Text()
	if err := is.keep(r.Context(), kindPushed, id, q, pushedTTL); err != nil {
		return "", client, undecided(err)
	}
	return pushedPrefix + id, client, nil
}

// pushed takes a pushed request: it is good once, and for the client that pushed it.
func (is *Issuer) pushed(ctx context.Context, uri string, c *Client) (*request, *fault) {
	id, ok := strings.CutPrefix(uri, pushedPrefix)
	if !ok {
		return nil, refuse(errRequestURI, "Only pushed requests can be referred to.").because("request_uri_foreign", "")
	}
	d, err := is.deps.State.Take(ctx, kindPushed, digest(id))
	q, f := is.revive(d, err, "The request is not known: it was used before, or came too late.")
	if f != nil {
		return nil, f
	}
	if q.Client != c.ID {
		return nil, refuse(errRequestURI, "The request is of another client.").because("request_of_another", "")
	}
	return q, nil
}
