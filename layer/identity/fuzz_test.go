package identity

import (
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/wardertest/issuer"
)

// FuzzConnect checks that no header and no query but the one good token makes a principal.
func FuzzConnect(f *testing.F) {
	b := newBench(f, nil)
	good := b.mint(issuer.Claims{Audience: filesURI})
	for _, h := range []string{"Bearer " + good, "bearer  " + good, "Bearer", "Basic x", "Bearer a.b.c", "Bearer " + good + ","} {
		f.Add(h, "")
	}
	f.Add("DPoP "+good, "")
	f.Add("Bearer "+good, "access_token=x")
	f.Add("", "a=%zz")
	f.Fuzz(func(t *testing.T, header, query string) {
		x := exchange(header)
		x.Conn.Query = query
		d := b.connect(x)
		if d.Verdict != warder.Pass {
			return
		}
		if c, ok := readCredential(header); !ok || c.token != good || c.dpop || tokenInQuery(query) {
			t.Fatalf("header %q, query %q: principal %+v", header, query, x.Principal)
		}
	})
}
