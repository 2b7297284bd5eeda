package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

func TestPRT02(t *testing.T) {
	t.Parallel()
	f := newFakes()
	f.annotations["files/search"] = []warder.Header{
		{Name: "Region", Pointer: []string{"region"}, Type: "string"},
		{Name: "Level", Pointer: []string{"opts", "level"}, Type: "integer"},
		{Name: "Dry-Run", Pointer: []string{"dry"}, Type: "boolean"},
	}
	c := f.layer(t, Config{}).agreement
	const region = "Mcp-Param-Region"
	arguments := `{"region":"eu","opts":{"level":42},"dry":true}`
	good := func(h http.Header) {
		h[region], h["Mcp-Param-Level"], h["Mcp-Param-Dry-Run"] = []string{"eu"}, []string{"42"}, []string{"true"}
	}
	tests := []struct {
		name      string
		arguments string
		headers   func(h http.Header)
		want      warder.Reason
	}{
		{"pass/all agree", arguments, func(http.Header) {}, ""},
		{"pass/value in Base64", arguments, func(h http.Header) { h[region] = []string{"=?base64?ZXU=?="} }, ""},
		{"pass/name in Base64", arguments, func(h http.Header) {
			h[wire.HeaderName] = []string{"=?base64?c2VhcmNo?="}
		}, ""},
		{"pass/integer written otherwise", arguments, func(h http.Header) { h["Mcp-Param-Level"] = []string{"4.20e1"} }, ""},
		{"pass/escaped argument", `{"region":"\u0065u","opts":{"level":42},"dry":true}`, func(http.Header) {}, ""},
		{"pass/null argument without header", `{"region":null,"opts":{"level":42},"dry":true}`, func(h http.Header) { delete(h, region) }, ""},
		{"pass/absent argument without header", `{"opts":{"level":42},"dry":true}`, func(h http.Header) { delete(h, region) }, ""},
		{"pass/unknown parameter header", arguments, func(h http.Header) { h["Mcp-Param-Other"] = []string{"x"} }, ""},
		{"near_miss/header name in another case", arguments, func(h http.Header) { h["Mcp-Param-REGION"] = h[region]; delete(h, region) }, ""},
		{"near_miss/session header on a stateless request", arguments, func(h http.Header) { h["Mcp-Session-Id"] = []string{"x"} }, ""},

		{"deny/no version", arguments, func(h http.Header) { delete(h, keyVersion) }, "version_missing"},
		{"deny/other version", arguments, func(h http.Header) { h[keyVersion] = []string{"2025-11-25"} }, "version_mismatch"},
		{"deny/two versions", arguments, func(h http.Header) { h[keyVersion] = []string{"2026-07-28", "2026-07-28"} }, "header_repeated"},
		{"deny/no method", arguments, func(h http.Header) { delete(h, wire.HeaderMethod) }, "method_missing"},
		{"deny/other method", arguments, func(h http.Header) { h[wire.HeaderMethod] = []string{"tools/list"} }, "method_mismatch"},
		{"deny/method in another case", arguments, func(h http.Header) { h[wire.HeaderMethod] = []string{"Tools/Call"} }, "method_mismatch"},
		{"deny/two methods", arguments, func(h http.Header) { h[wire.HeaderMethod] = []string{"tools/call", "tools/list"} }, "header_repeated"},
		{"deny/method list in one header", arguments, func(h http.Header) { h[wire.HeaderMethod] = []string{"tools/call, tools/list"} }, "method_mismatch"},
		{"deny/no name", arguments, func(h http.Header) { delete(h, wire.HeaderName) }, "name_missing"},
		{"deny/other name", arguments, func(h http.Header) { h[wire.HeaderName] = []string{"delete"} }, "name_mismatch"},
		{"deny/name with other case", arguments, func(h http.Header) { h[wire.HeaderName] = []string{"Search"} }, "name_mismatch"},
		{"deny/name with control character", arguments, func(h http.Header) { h[wire.HeaderName] = []string{"sea\x00rch"} }, "header_encoding"},
		{"deny/name not ASCII", arguments, func(h http.Header) { h[wire.HeaderName] = []string{"se\u0430rch"} }, "header_encoding"},
		{"deny/other parameter", arguments, func(h http.Header) { h[region] = []string{"us"} }, "param_mismatch"},
		{"deny/no parameter header", arguments, func(h http.Header) { delete(h, region) }, "param_missing"},
		{"deny/header for a null argument", `{"region":null,"opts":{"level":42},"dry":true}`, func(http.Header) {}, "param_unexpected"},
		{"deny/header for an absent argument", `{"opts":{"level":42},"dry":true}`, func(http.Header) {}, "param_unexpected"},
		{"deny/parameter repeated", arguments, func(h http.Header) { h[region] = []string{"eu", "us"} }, "header_repeated"},
		{"deny/Base64 markers in upper case", arguments, func(h http.Header) { h[region] = []string{"=?BASE64?ZXU=?="} }, "param_mismatch"},
		{"deny/Base64 without padding", arguments, func(h http.Header) { h[region] = []string{"=?base64?ZXU?="} }, "header_encoding"},
		{"deny/Base64 of another alphabet", arguments, func(h http.Header) { h[region] = []string{"=?base64?_-8=?="} }, "header_encoding"},
		{"deny/Base64 of bad UTF-8", arguments, func(h http.Header) { h[region] = []string{"=?base64?/w==?="} }, "header_encoding"},
		{"deny/other integer", arguments, func(h http.Header) { h["Mcp-Param-Level"] = []string{"43"} }, "param_mismatch"},
		{"deny/integer in hexadecimal", arguments, func(h http.Header) { h["Mcp-Param-Level"] = []string{"0x2a"} }, "param_mismatch"},
		{"deny/fraction", arguments, func(h http.Header) { h["Mcp-Param-Level"] = []string{"84/2"} }, "param_mismatch"},
		{"deny/integer with a sign", arguments, func(h http.Header) { h["Mcp-Param-Level"] = []string{"+42"} }, "param_mismatch"},
		{"deny/huge exponent", arguments, func(h http.Header) { h["Mcp-Param-Level"] = []string{"42e999999999"} }, "param_mismatch"},
		{
			"deny/integers beyond doubles that a float would call equal", `{"region":"eu","opts":{"level":9007199254740993},"dry":true}`,
			func(h http.Header) { h["Mcp-Param-Level"] = []string{"9007199254740992"} }, "param_mismatch",
		},
		{"deny/boolean otherwise", arguments, func(h http.Header) { h["Mcp-Param-Dry-Run"] = []string{"TRUE"} }, "param_mismatch"},
		{"deny/object mirrored", `{"region":{},"opts":{"level":42},"dry":true}`, func(h http.Header) { h[region] = []string{"{}"} }, "param_mismatch"},
		{"deny/underscore variant", arguments, func(h http.Header) { h["Mcp_name"] = []string{"delete"} }, "header_name"},
		{"deny/underscore inside", arguments, func(h http.Header) { h["Mcp-Protocol_version"] = []string{"2025-11-25"} }, "header_name"},
		{"deny/too many", arguments, func(h http.Header) {
			for i := range maxMirrored {
				h["Mcp-Param-X"+itoa(i)] = []string{"x"}
			}
		}, "headers_too_large"},
		{"deny/too large, before decoding", arguments, func(h http.Header) {
			h["Mcp-Param-X"] = []string{"=?base64?" + strings.Repeat("A", maxMirroredBytes) + "?="}
		}, "headers_too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := call2026(t, tt.arguments)
			good(x.Conn.Header)
			tt.headers(x.Conn.Header)
			verdict(t, c, x, warder.CodeHeaderMismatch, tt.want)
		})
	}
	t.Run("pass/group name is compared as the client sent it", func(t *testing.T) {
		t.Parallel()
		x := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"files__search","arguments":{"region":"eu"},`+modernMeta+`}}`)
		inner, err := wire.WithTarget(x.Inbound, "search", wire.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		x.Request = inner
		verdict(t, c, x, warder.CodeHeaderMismatch, "param_missing") // the tool's own annotations apply
		x.Conn.Header[region] = []string{"eu"}
		pass(t, c, x)
		x.Conn.Header[wire.HeaderName] = []string{"search"}
		verdict(t, c, x, warder.CodeHeaderMismatch, "name_mismatch")
	})
	t.Run("pass/other methods", func(t *testing.T) {
		t.Parallel()
		for _, raw := range []string{
			`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + modernMeta + `}}`,
			`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///ü",` + modernMeta + `}}`,
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,` + modernMeta + `}}`,
			`{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":""},` + modernMeta + `}}`,
		} {
			x := exchange(t, warder.Revision20260728, raw)
			if h := x.Conn.Header[wire.HeaderName]; h != nil {
				h[0] = wire.EncodeHeaderValue(h[0])
			}
			pass(t, c, x)
		}
	})
	t.Run("deny/name where nothing is named", func(t *testing.T) {
		t.Parallel()
		x := exchange(t, warder.Revision20260728, `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{`+modernMeta+`}}`)
		x.Conn.Header[wire.HeaderName] = []string{"search"}
		verdict(t, c, x, warder.CodeHeaderMismatch, "name_unexpected")
	})
	t.Run("stateful revisions", func(t *testing.T) {
		t.Parallel()
		const ping = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"region":"eu"}}}`
		const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`
		for _, tt := range []struct {
			raw, version string
			want         warder.Reason
		}{
			{ping, "", ""},
			{ping, "2025-11-25", ""},
			{ping, "2025-06-18", "version_mismatch"},
			{ping, "2026-07-28", "version_mismatch"},
			{ping, "2025-11-25x", "version_mismatch"},
			{hello, "", ""},
			{hello, "2025-06-18", ""},
			{hello, "2026-07-28", "version_mismatch"},
			{hello, "x", "version_mismatch"},
		} {
			x := exchange(t, warder.Revision20251125, tt.raw)
			if tt.version != "" {
				x.Conn.Header[keyVersion] = []string{tt.version}
			}
			// Headers that mirror nothing in these revisions decide nothing.
			x.Conn.Header[wire.HeaderMethod], x.Conn.Header[wire.HeaderName] = []string{"tools/list"}, []string{"other"}
			verdict(t, c, x, warder.CodeHeaderMismatch, tt.want)
		}
	})
	t.Run("pass/stdio has no headers", func(t *testing.T) {
		t.Parallel()
		x := call2026(t, `{}`)
		x.Door, x.Conn.Header = warder.DoorStdio, nil
		pass(t, c, x)
	})
	t.Run("dependency_killed/no headers at all", func(t *testing.T) {
		t.Parallel()
		x := call2026(t, `{}`)
		x.Conn.Header = nil
		verdict(t, c, x, warder.CodeHeaderMismatch, "version_missing")
	})
}

func FuzzSameNumber(f *testing.F) {
	for _, s := range []string{"42", "4.2e1", "-0", "1e400", "0x2a", "1/2", "1_000", "", "-", "01", "1.", ".5", "1e", "1e+5"} {
		f.Add(s, "42")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if sameNumber(a, []byte(b)) != sameNumber(b, []byte(a)) {
			t.Errorf("sameNumber(%q, %q) is not symmetric", a, b)
		}
		if jsonNumber(a) {
			if err := wire.Validate([]byte(a), wire.Limits{}); err != nil {
				t.Errorf("jsonNumber(%q), but it is not JSON: %v", a, err)
			}
		}
	})
}
