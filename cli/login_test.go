package cli

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// TestLoopbackTakesOneAnswer sends the loopback port what is not the answer to the login that began.
func TestLoopbackTakesOneAnswer(t *testing.T) {
	b, err := listenBack(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	get := func(query string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.redirect+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if code := get("?state=&code=x"); code != http.StatusNotFound {
		t.Errorf("before the login began: %d, want 404", code)
	}
	b.expect("right")
	for _, query := range []string{"", "?state=wrong&code=x", "?code=x", "?state=&code=x"} {
		if code := get(query); code != http.StatusBadRequest {
			t.Errorf("%q: %d, want 400", query, code)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if q, err := b.wait(short); err == nil {
		t.Errorf("took %v for the answer", q)
	}
	if code := get("?state=right&code=good"); code != http.StatusOK {
		t.Errorf("the answer: %d, want 200", code)
	}
	if q, err := b.wait(t.Context()); err != nil || q.Get("code") != "good" {
		t.Errorf("wait: %v %v", q, err)
	}
	if code := get("?state=right&code=again"); code != http.StatusNotFound {
		t.Errorf("the answer again: %d, want 404", code)
	}
	if u, err := url.Parse(b.redirect); err != nil || u.Hostname() != "127.0.0.1" {
		t.Errorf("listens at %s, want loopback", b.redirect)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsKeptIsForThisUserOnly(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	const server = "https://admin.example/admin/v1"
	if err := saveGlass(server, "secret", time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	root, err := accountFolder(server, false)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, glassFile: 0o600} {
		info, err := root.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	if token, err := loadGlass("https://other.example/admin/v1"); err != nil || token != "" {
		t.Errorf("another server gets %q %v", token, err)
	}
	if token, err := loadGlass(server); err != nil || token != "secret" {
		t.Errorf("load: %q %v", token, err)
	}
	if err := saveGlass(server, "secret", time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if token, err := loadGlass(server); err != nil || token != "" {
		t.Errorf("after its end: %q %v", token, err)
	}
}

func TestParseBound(t *testing.T) {
	for word, want := range map[string]string{
		`/path^=/srv/`: `/path begins with /srv/`, `/mode="read"`: `/mode = "read"`, `/mode=read`: `/mode = "read"`,
		`/n=3`: `/n = 3`, `/n<=3.5`: `/n at most 3.5`, `/n>=2`: `/n at least 2`, `/q=a=b`: `/q = "a=b"`,
	} {
		b, err := parseBound(word)
		if err != nil || boundText(&b) != want {
			t.Errorf("%s: %s %v, want %s", word, boundText(&b), err, want)
		}
	}
	for _, word := range []string{"", "path", "=x", "path=x", "/n<=many", "^=x"} {
		if b, err := parseBound(word); err == nil {
			t.Errorf("%q was read as %+v", word, b)
		}
	}
}

func TestResourceOf(t *testing.T) {
	for word, want := range map[string]string{
		"https://admin.example.com":            "https://admin.example.com/admin/v1",
		"https://admin.example.com/":           "https://admin.example.com/admin/v1",
		"https://a.example.com/x/admin/v1":     "https://a.example.com/x/admin/v1",
		"http://127.0.0.1:9444":                "http://127.0.0.1:9444/admin/v1",
		"http://admin.example.com":             "",
		"https://user@admin.example.com":       "",
		"https://admin.example.com?x=1":        "",
		"admin.example.com":                    "",
		"ftp://admin.example.com":              "",
		"http://127.0.0.1.evil.example:1/path": "",
	} {
		got, err := resourceOf(word)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v, want %q", word, got, err, want)
		}
	}
}

func TestStrongerLogin(t *testing.T) {
	acr, age := strongerLogin([]string{`Bearer error="insufficient_user_authentication", acr_values="phr phrh", max_age="300"`})
	if strings.Join(acr, " ") != "phr phrh" || age == nil || *age != 5*time.Minute {
		t.Errorf("%v %v, want phr phrh within 5m", acr, age)
	}
	if acr, age := strongerLogin([]string{`Bearer max_age="soon"`}); acr != nil || age != nil {
		t.Errorf("%v %v, want nothing", acr, age)
	}
}
