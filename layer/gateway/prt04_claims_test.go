package gateway

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestPRT04(t *testing.T) {
	t.Parallel()
	cfg := Config{Clients: map[string][]string{"desktop": {"claude-ai", "claude-code"}}, Elicitation: Elicitation{Form: true, URL: true}}
	named := func(client, name string) *warder.Exchange {
		x := call2026(t, `{}`)
		x.Principal.Client, x.Client.Name = client, name
		return x
	}
	c := newFakes().layer(t, cfg).claims
	t.Run("pass/name that belongs to the client id", func(t *testing.T) {
		t.Parallel()
		pass(t, c, named("desktop", "claude-code"))
	})
	t.Run("pass/client id that is not mapped", func(t *testing.T) {
		t.Parallel()
		pass(t, c, named("other", "anything"))
		pass(t, c, named("", "anything"))
	})
	t.Run("near_miss/no name given", func(t *testing.T) {
		t.Parallel()
		pass(t, c, named("desktop", ""))
	})
	t.Run("deny/name of another client", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"trusted-agent", "Claude-Code", "claude-code "} {
			d := verdict(t, c, named("desktop", name), warder.CodeDenied, "client_claim_conflict")
			if len(d.Findings) != 1 || d.Findings[0].Rule != "client_info_conflict" {
				t.Errorf("findings = %+v, want one client_info_conflict", d.Findings)
			}
		}
	})
	t.Run("dependency_killed/no principal", func(t *testing.T) {
		t.Parallel()
		x := named("desktop", "claude-code")
		x.Principal = nil
		fails(t, c, x)
	})

	all := `{"sampling":{"tools":{}},"roots":{"listChanged":true},"elicitation":{"form":{},"url":{}},"x":{"sampling":1}}`
	strip := []struct {
		name string
		cfg  Config
		caps string
		want string
	}{
		{"pass/nothing to take away", Config{Elicitation: Elicitation{Form: true, URL: true}, Deprecated: Deprecated{Sampling: true, Roots: true}}, all, all},
		{"near_miss/deprecated ones alone", Config{Elicitation: Elicitation{Form: true, URL: true}}, all, `{"elicitation":{"form":{},"url":{}},"x":{"sampling":1}}`},
		{"deny/everything", Config{}, all, `{"x":{"sampling":1}}`},
		{"deny/links", Config{Elicitation: Elicitation{Form: true}, Deprecated: Deprecated{Sampling: true, Roots: true}}, `{"elicitation":{"form":{},"url":{}}}`, `{"elicitation":{"form":{}}}`},
		{"deny/forms", Config{Elicitation: Elicitation{URL: true}}, `{"elicitation":{"form":{},"url":{}}}`, `{"elicitation":{"url":{}}}`},
		{"deny/forms, which an empty capability means", Config{Elicitation: Elicitation{URL: true}}, `{"elicitation":{}}`, `{}`},
		{"near_miss/link only, forms off", Config{Elicitation: Elicitation{URL: true}}, `{"elicitation":{"url":{}}}`, `{"elicitation":{"url":{}}}`},
		{"deny/written with escapes", Config{}, `{"\u0073ampling":{},"roots":{}}`, `{}`},
	}
	for _, tt := range strip {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newFakes().layer(t, tt.cfg).claims
			x := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":`+tt.caps+`}}}`)
			pass(t, c, x)
			if diff := cmp.Diff(tt.want, string(declared(x.Request).Raw())); diff != "" {
				t.Errorf("capabilities of the request (-want +got):\n%s", diff)
			}
			x = exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":`+tt.caps+`,"protocolVersion":"2025-11-25"}}`)
			pass(t, c, x)
			if diff := cmp.Diff(tt.want, string(declared(x.Request).Raw())); diff != "" {
				t.Errorf("capabilities of initialize (-want +got):\n%s", diff)
			}
			if x.Inbound.Raw[0] != '{' || string(declared(x.Inbound).Raw()) != tt.caps {
				t.Error("the message as the client sent it was changed")
			}
		})
	}
	t.Run("dependency_killed/a message that cannot be rewritten", func(t *testing.T) {
		t.Parallel()
		c := newClaims(Config{}, wire.Limits{Bytes: 8})
		fails(t, c, exchange(t, warder.Revision20251125, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{"roots":{}}}}`))
	})
}
