package app

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/issuer"
)

// TestRefusedConnectionsAreRecorded points the authorization server at a document inside the network, and a
// server at an address that its name was never allowed: neither is asked, and the trail says so.
func TestRefusedConnectionsAreRecorded(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	a, door, token := openBound(t, data, "", func(c *issuer.Claims, _ *Options) { c.Audience = strings.TrimSuffix(c.Audience, "s") + "inside" })
	get := func(method, path, body string, header http.Header) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, door+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	get(http.MethodGet, "/issuer/authorize?client_id=https://10.1.2.3/client.json&response_type=code", "", nil)
	answer := get(http.MethodPost, "/mcp/inside", initialize, http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}})
	if strings.Contains(answer, "10.1.2.4") {
		t.Errorf("the caller was told where the server is: %s", answer)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"issuer": "10.1.2.3", "server": "10.1.2.4"}
	for _, e := range trailOf(t, data) {
		if e.Type != warder.EventEgress {
			continue
		}
		if where, ok := want[e.Method]; !ok || e.Control != "AUT-08" || e.Reason != "address_refused" || !strings.Contains(e.Detail, where) {
			t.Errorf("unexpected record: %+v", e)
		}
		delete(want, e.Method)
	}
	if len(want) > 0 {
		t.Errorf("not in the trail: %v", want)
	}
}
