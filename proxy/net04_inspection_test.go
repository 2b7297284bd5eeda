package proxy

import (
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestNET04(t *testing.T) {
	t.Parallel()
	const call = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}`
	small := wire.DefaultLimits()
	small.Bytes, small.Depth = 200, 4
	tests := []struct {
		name, raw string
		code      warder.Code
		reason    warder.Reason
	}{
		{"pass call", call, "", ""},
		{"pass notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, "", ""},
		{"near_miss spaces and escapes", " {\t\"jsonrpc\":\"2.0\",\"id\":\"\\u0061\",\"method\":\"tools\\/list\"}\n", "", ""},
		{"near_miss equal names in different objects", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"name":"b"}}}`, "", ""},
		{"deny name twice", `{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`, warder.CodeMalformed, "duplicate_key"},
		{"deny name twice, once escaped", `{"jsonrpc":"2.0","id":1,"method":"a","\u006dethod":"b"}`, warder.CodeMalformed, "duplicate_key"},
		{"deny second message", call + call, warder.CodeMalformed, "trailing_data"},
		{"deny not JSON", `{"jsonrpc":"2.0",}`, warder.CodeMalformed, "bad_json"},
		{"deny not UTF-8", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", warder.CodeMalformed, "bad_utf8"},
		{"deny too deep", `{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":[[[[[1]]]]]}}`, warder.CodeMalformed, "too_deep"},
		{"deny nothing", "", warder.CodeMalformed, "empty"},
		{"dependency_killed beyond what the decoder takes", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("a", 300) + `"}`, warder.CodeTooLarge, "too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := inspection{small}.read([]byte(tt.raw))
			if tt.code == "" {
				if err != nil || m == nil || string(m.Raw) == "" {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Control != "NET-04" || err.Code != tt.code || err.Reason != tt.reason {
				t.Errorf("got %s %s (%s), want NET-04 %s (%s)", err.Control, err.Code, err.Reason, tt.code, tt.reason)
			}
		})
	}
}
