package output

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/wire"
)

func newHygiene(tb testing.TB) *hygiene {
	tb.Helper()
	c, err := newCleaner(4096)
	if err != nil {
		tb.Fatal(err)
	}
	return &hygiene{c}
}

// internals are what no error may show, as words of the corpus.
var internals = regexp.MustCompile(`(?i)goroutine|/home/|/srv/|/app/|/usr/|/var/|/opt/|/etc/|/rustc|C:\\|\.go:\d|\.js:\d|\.py"|\.java:\d|\.cs:|\.rs:\d|\.rb:\d|\.php` +
	`|node:internal|MoveNext|0xc0|10\.42|192\.168|172\.20|10\.2\.3|localhost|\.internal|\.svc|fe80|fd12|::1|alice|fileserver|customers_private|users_email|ssn|SQLSTATE|ORA-|ODBC|MySQL` +
	`|nginx/|PHP/|Express 4|v20|3\.12|go1\.|6\.1\.0|3\.0|22\.04|thrown in|Caused by|stack trace:|backtrace:`)

func toolError(text string) string {
	return `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","isError":true,"content":[{"type":"text","text":` + string(wire.Quote(text)) + `}]}}`
}

func rpcError(code, text, data string) string {
	if data != "" {
		data = `,"data":` + data
	}
	return `{"jsonrpc":"2.0","id":1,"error":{"code":` + code + `,"message":` + string(wire.Quote(text)) + data + `}}`
}

func TestOUT04(t *testing.T) {
	t.Parallel()
	h := newHygiene(t)
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		for _, response := range []string{
			toolError("City not found. Try the name of a larger place nearby, such as Paris (France)."),
			toolError("Invalid date 2026-13-01: month must be 1 to 12. At least 3.5 hours, 10.5 percent, ratio 1/2, and/or 24/7."),
			toolError("HTTP 404 from https://api.example.com/v1/users?id=7: see https://docs.example.com/errors/404.html"),
			rpcError("-32602", "Unknown tool: frobnicate", `{"field":"name","expected":["a","b"]}`),
			rpcError("-32022", "Unsupported protocol version", `{"supported":["2025-11-25"],"requested":"2030-01-01","trace":"kept, it is the protocol's"}`),
			rpcError("4711", "Balance too low", ""),
			textResult(10),
			`{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"/home/alice/notes.txt"}]}}`,
		} {
			x := answered(t, callEcho, response)
			d := judge(t, h, x)
			mustPass(t, d)
			if diff := cmp.Diff(response, string(x.Response.Raw)); diff != "" || len(d.Findings) > 0 {
				t.Errorf("findings %v, (-want +got):\n%s", d.Findings, diff)
			}
		}
	})
	t.Run("near_miss_what_the_client_said_stays", func(t *testing.T) {
		t.Parallel()
		request := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/home/alice/a.txt","win":"C:\\data\\b.txt"}}}`
		want := `ENOENT: no such file, open '/home/alice/a.txt' nor C:\data\b.txt nor [path]`
		x := answered(t, request, toolError(strings.Replace(want, "[path]", "/home/bob/c.txt", 1)))
		mustPass(t, judge(t, h, x))
		got, _ := wire.At(x.Response, x.Response.ResultSpan).Get("content").Raw(), 0
		if !strings.Contains(string(got), string(wire.Quote(want))) {
			t.Errorf("got %s, want %q in it", got, want)
		}
	})
	t.Run("deny_corpus", func(t *testing.T) {
		t.Parallel()
		files, err := filepath.Glob("testdata/traces/*.txt")
		if err != nil || len(files) < 15 {
			t.Fatalf("corpus: %d files, %v", len(files), err)
		}
		for _, file := range files {
			trace, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, response := range []string{
				toolError(string(trace)), rpcError("-32000", string(trace), `{"a":[`+string(wire.Quote(string(trace)))+`]}`),
				rpcError("-32603", "Internal error", `{"stack":`+string(wire.Quote(string(trace)))+`}`),
			} {
				x := answered(t, callEcho, response)
				d := judge(t, h, x)
				mustPass(t, d)
				if found := internals.FindString(string(x.Response.Raw)); found != "" {
					t.Errorf("%s: %q is still there: %s", file, found, x.Response.Raw)
				}
				if len(d.Findings) == 0 {
					t.Errorf("%s: nothing was recorded", file)
				}
			}
		}
	})
	t.Run("deny_keeps_the_message", func(t *testing.T) {
		t.Parallel()
		x := answered(t, callEcho, toolError("Traceback (most recent call last):\n  File \"/app/s.py\", line 3, in f\n    boom()\nValueError: city must be set"))
		mustPass(t, judge(t, h, x))
		text, _ := wire.At(x.Response, x.Response.ResultSpan).Get("content").Raw(), 0
		if want := `"[stack trace removed]\nValueError: city must be set"`; !strings.Contains(string(text), want) {
			t.Errorf("got %s, want %s in it", text, want)
		}
	})
	t.Run("deny_codes_are_mapped", func(t *testing.T) {
		t.Parallel()
		for code, want := range map[string]string{"1045": "-32603", "-32000": "-32603", "-32602": "-32602", "-32020": "-32020"} {
			x := answered(t, callEcho, rpcError(code, "SQLSTATE[42000]: syntax error", ""))
			mustPass(t, judge(t, h, x))
			if got := string(x.Response.At(x.Response.Failure.Get("code"))); got != want {
				t.Errorf("code %s became %s, want %s", code, got, want)
			}
		}
	})
	t.Run("deny_structured_error", func(t *testing.T) {
		t.Parallel()
		x := answered(t, callEcho, `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","isError":true,"content":[],"structuredContent":{"debug":"x"}}}`)
		mustPass(t, judge(t, h, x))
		if strings.Contains(string(x.Response.Raw), "structuredContent") {
			t.Errorf("got %s", x.Response.Raw)
		}
	})
	t.Run("deny_record_is_masked", func(t *testing.T) {
		t.Parallel()
		x := answered(t, callEcho, toolError("open /etc/app/key: token=abcdefghijklmnop bad, sk_live_0123456789abcdefghijklmnopqrstuv"))
		d := judge(t, h, x)
		if len(d.Findings) == 0 || strings.Contains(d.Findings[0].Evidence, "abcdefghijklmnop") {
			t.Errorf("got %v", d.Findings)
		}
	})
	t.Run("dependency_killed", func(t *testing.T) {
		t.Parallel()
		for _, broken := range []*hygiene{{}, h} {
			x := answered(t, callEcho, toolError("x"))
			if broken == h {
				x.Response = nil
			}
			if d, err := broken.Intercept(t.Context(), x); err == nil {
				t.Errorf("got %s and no error, want an error, which denies", d.Verdict)
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	files, _ := filepath.Glob("testdata/traces/*.txt")
	for _, file := range files {
		trace, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(trace))
	}
	c, err := newCleaner(4096)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cleaned, rules := c.clean(text, nil)
		if len(rules) == 0 && cleaned != text {
			t.Errorf("changed without a rule: %q became %q", text, cleaned)
		}
	})
}

func BenchmarkOUT04(b *testing.B) {
	h := newHygiene(b)
	trace, err := os.ReadFile("testdata/traces/python.txt")
	if err != nil {
		b.Fatal(err)
	}
	for name, response := range map[string]string{
		"result": textResult(500), "error_clean": toolError("City not found."), "error_trace": toolError(string(trace)),
	} {
		b.Run(name, func(b *testing.B) {
			x := answered(b, callEcho, response)
			m := x.Response
			b.ReportAllocs()
			for b.Loop() {
				x.Response = m
				if _, err := h.Intercept(b.Context(), x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
