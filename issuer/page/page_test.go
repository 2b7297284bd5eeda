package page_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder/issuer/page"
)

func TestPieces(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, in, want string
		most           int
	}{
		{"plain", "Grüße, 世界", "Grüße, 世界", 80},
		{"bidi", "a\u202eb", "a[U+202E]b", 80},
		{"zero_width", "pay\u200bpal", "pay[U+200B]pal", 80},
		{"tag", "x\U000e0041", "x[U+E0041]", 80},
		{"variation", "x\ufe0f", "x[U+FE0F]", 80},
		{"blank_letter", "x\u3164\u2800", "x[U+3164][U+2800]", 80},
		{"no_break_space", "a\u00a0b", "a[U+00A0]b", 80},
		{"line_break", "a\nb\tc", "a[U+000A]b[U+0009]c", 80},
		{"zero", "a\x00", "a[U+0000]", 80},
		{"bad_utf8", "a\xffb", "a[U+FFFD]b", 80},
		{"private", "\ue000", "[U+E000]", 80},
		{"padding", "a     b", "a   [U+0020][U+0020]b", 80},
		{"cut", "abcdef", "abc[… 3 more characters]", 3},
		{"not_cut", "abc", "abc", 3},
		{"empty", "", "", 3},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			for _, p := range page.Pieces(c.in, c.most) {
				if p.Hidden {
					got.WriteString("[" + p.Text + "]")
				} else {
					got.WriteString(p.Text)
				}
			}
			if diff := cmp.Diff(c.want, got.String()); diff != "" {
				t.Errorf("Pieces(%q) (-want +got):\n%s", c.in, diff)
			}
		})
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://a.example/cb?x": "a.example", "http://127.0.0.1:7/": "127.0.0.1:7", "com.example.app:/cb": "com.example.app:",
		"https://good.example@evil.example/": "evil.example", "%zz": "unreadable address",
	} {
		if got := page.Host(in); got != want {
			t.Errorf("Host(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestOnwardIsData(t *testing.T) {
	t.Parallel()
	s, err := page.New(page.Config{Origin: "https://gate.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Onward(w, `/x?a=1&b="><script>alert(1)</script>`, "Go")
	if text := w.Body.String(); strings.Contains(text, "<script") || !strings.Contains(text, `http-equiv="refresh"`) {
		t.Errorf("page: %s", text)
	}
}

// TestStyleIsTheOneOfThePolicy proves that browsers apply the style sheet: its hash is in the policy.
func TestStyleIsTheOneOfThePolicy(t *testing.T) {
	t.Parallel()
	s, err := page.New(page.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Problem(w, page.Problem{Status: 404, Code: "x"})
	_, rest, _ := strings.Cut(w.Body.String(), "<style>")
	style, _, ok := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !ok || len(style) < 1000 || !strings.Contains(w.Header().Get("Content-Security-Policy"), want) {
		t.Errorf("the policy %q lacks %q", w.Header().Get("Content-Security-Policy"), want)
	}
}

func TestBrokenTemplates(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"without_main": "x", "syntax": "{{define"} {
		_, err := page.New(page.Config{Templates: fstest.MapFS{"templates/a.html": {Data: []byte(body)}}})
		if err == nil {
			t.Errorf("%s: New = nil error", name)
		}
	}
	s, err := page.New(page.Config{Templates: fstest.MapFS{"templates/a.html": {Data: []byte(`{{define "main"}}{{.Data.Nothing.There}}{{end}}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, template := range []string{"a", "none"} {
		w := httptest.NewRecorder()
		s.Show(w, 200, page.View{Template: template, Data: 1})
		if w.Code != 500 || strings.Contains(w.Body.String(), "Nothing") {
			t.Errorf("%s: status %d: %s", template, w.Code, w.Body)
		}
	}
}

func FuzzPieces(f *testing.F) {
	f.Add("a\u202eb", 3)
	f.Fuzz(func(t *testing.T, s string, most int) {
		for _, p := range page.Pieces(s, most) {
			for _, r := range p.Text {
				if !p.Hidden && !page.Plain(r) {
					t.Errorf("%q shows %U", s, r)
				}
			}
		}
	})
}
