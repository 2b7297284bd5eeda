package record

import (
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"get_weather":                                                             "get_weather",
		"read the file notes/plan.txt":                                            "read the file notes/plan.txt",
		"argument /path: want a string, got a number":                             "argument /path: want a string, got a number",
		"audience https://gate.example.com/mcp/files expected":                    "audience https://gate.example.com/mcp/files expected",
		"digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08": "digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"exchange 01k9x2v3w4y5z6a7b8c9d0e1f2":                                     "exchange 01k9x2v3w4y5z6a7b8c9d0e1f2",
		"Authorization: Bearer abc":                                               "Authorization: [redacted] [redacted]",
		"got bearer tok3n here":                                                   "got bearer [redacted] here",
		"password=hunter2&x=1":                                                    "password=[redacted]&x=1",
		`{"client_secret":"s3cr3t","a":"b"}`:                                      `{"client_secret":"[redacted]","a":"b"}`,
		"key sk-proj-abcdefghijkl end":                                            "key [redacted] end",
		"ghp_0123456789abcdefghijABCDEFGHIJ012345":                                "[redacted]",
		"token eyJhbGciOiJub25lIn0.e30.x":                                         "token [redacted]",
		"AKIAIOSFODNN7EXAMPLE":                                                    "[redacted]",
		"-----BEGIN PRIVATE KEY-----\nMIIE":                                       "[redacted]",
		"postgres://bob:pa55@db/x":                                                "postgres://[redacted]@db/x",
		"random q7Xp2ZbLm9Rt4KvW8sYc1NdF here":                                    "random [redacted] here",
		"a\x1b[31mred\nline":                                                      `a\x1b[31mred\nline`,
	} {
		if got := clean(in, 256); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	long := clean(strings.Repeat("wörd ", 500), 256)
	if len(long) > 256 || !strings.HasSuffix(long, "…") {
		t.Errorf("long text has %d bytes and ends with %q", len(long), long[len(long)-5:])
	}
}

func TestResource(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"send_mail":               "send_mail",
		"file:///home/a/plan.txt": "file:///home/a/plan.txt",
		"https://x.example/a?sig=deadbeef&n=1#frag":         "https://x.example/a?sig&n",
		"https://user:pw@x.example/a":                       "https://[redacted]@x.example/a",
		"is this ok?":                                       "is this ok?",
		"https://x.example/?" + strings.Repeat("k=v&", 200): "",
	} {
		got := resource(in)
		if want != "" && got != want {
			t.Errorf("resource(%q) = %q, want %q", in, got, want)
		}
		if len(got) > maxTarget {
			t.Errorf("resource(%.30q) has %d bytes", in, len(got))
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("Authorization: Bearer abc\x00ü", 40)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 8 || limit > 4096 {
			return
		}
		got := clean(s, limit)
		if len(got) > limit || !printable(got) {
			t.Fatalf("clean(%q, %d) = %q", s, limit, got)
		}
	})
}
