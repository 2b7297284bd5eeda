package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A browser is Chromium with a window for each person.
type browser struct {
	t  *testing.T
	s  *script
	mu sync.Mutex
}

const chromium = "/usr/bin/chromium"

func openBrowser(ctx context.Context, t *testing.T, folder string) *browser {
	t.Helper()
	needNode(t)
	needFixture(t, "a real browser", chromium)
	s := startScript(t, nil, "browser.mjs", filepath.Join(kit.Root(), ".cache", "identity", folder))
	if m, err := s.next(ctx); err != nil || m["ready"] != true {
		t.Fatalf("browser: %v, %v", m, err)
	}
	return &browser{t: t, s: s}
}

// A window is the browser of one person.
type window struct {
	b   *browser
	ctx context.Context
	who string
}

func (b *browser) window(ctx context.Context, who string) *window { return &window{b, ctx, who} }

// try does one thing in the window.
func (w *window) try(verb string, more map[string]any) (map[string]any, error) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	order := map[string]any{"who": w.who, "do": verb}
	maps.Copy(order, more)
	line, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	if err := w.b.s.tell(string(line)); err != nil {
		return nil, err
	}
	m, err := w.b.s.next(w.ctx)
	if err == nil && m["ok"] != true {
		err = fmt.Errorf("%s %s: %v", w.who, line, m)
	}
	return m, err
}

// must is try for the test itself.
func (w *window) must(verb string, more map[string]any) map[string]any {
	w.b.t.Helper()
	m, err := w.try(verb, more)
	if err != nil {
		w.b.t.Fatal(err)
	}
	return m
}

func (w *window) open(address string) { w.b.t.Helper(); w.must("open", map[string]any{"url": address}) }
func (w *window) click(at string)     { w.b.t.Helper(); w.must("click", map[string]any{"at": at}) }
func (w *window) fill(at, value string) {
	w.b.t.Helper()
	w.must("fill", map[string]any{"at": at, "text": value})
}

func (w *window) text(at string) string {
	w.b.t.Helper()
	return text(w.must("text", map[string]any{"at": at}), "text")
}
func (w *window) shot(name string) { w.b.t.Helper(); w.must("shot", map[string]any{"name": name}) }
func (w *window) wait(at ...string) string {
	w.b.t.Helper()
	return text(w.must("wait", map[string]any{"at": at}), "found")
}

func (w *window) has(at string) bool {
	w.b.t.Helper()
	return w.must("has", map[string]any{"at": at})["has"] == true
}

// enter logs a local user in with a one-time link.
func (w *window) enter(g *gate, groups string) {
	w.b.t.Helper()
	out, err := g.Run(w.ctx, "login", "link", w.who, "--groups", groups)
	if err != nil {
		w.b.t.Fatal(err)
	}
	link := regexp.MustCompile(`https?://\S+/login/link/\S+`).Find(out)
	if link == nil {
		w.b.t.Fatalf("login link printed %q", out)
	}
	w.open(string(link))
	w.click("#link-login")
	w.wait("#subject")
}

func (w *window) leave() {
	w.b.t.Helper()
	w.click("#sign-out")
	w.wait("main")
}

// A client's callback is where the browser comes back to the client.
func callbackServer(t *testing.T) (address string, back <-chan url.Values) {
	t.Helper()
	queries := make(chan url.Values, 8)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			queries <- r.URL.Query()
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><title>client</title><p id="client">Back at the client.</p>`)
	}))
	t.Cleanup(ts.Close)
	return ts.URL + "/callback", queries
}

// walker lets the person follow an authorization request: a passkey where one is asked for, and yes.
func (w *window) walker(back <-chan url.Values, answer string, shots string) walker {
	return func(ctx context.Context, address string) (url.Values, error) {
		if _, err := w.try("open", map[string]any{"url": address}); err != nil {
			return nil, err
		}
		for n := range 6 {
			m, err := w.try("wait", map[string]any{"at": []string{"#client", "#passkey-login", answer}})
			if err != nil {
				return nil, err
			}
			if shots != "" {
				if _, err := w.try("shot", map[string]any{"name": fmt.Sprintf("%s-%d", shots, n)}); err != nil {
					return nil, err
				}
			}
			found := text(m, "found")
			if found == "#client" {
				select {
				case q := <-back:
					return q, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			if _, err := w.try("click", map[string]any{"at": found}); err != nil {
				return nil, err
			}
			if found == "#passkey-login" { // it goes on by itself
				time.Sleep(300 * time.Millisecond)
			}
		}
		return nil, errNoWay
	}
}

const careful = `
@id("look") permit (principal in Warder::Group::"people", action in [Warder::Action::"connect", Warder::Action::"list", Warder::Action::"read"], resource);
@id("look up") permit (principal in Warder::Group::"people", action == Warder::Action::"tools/call", resource == Warder::Tool::"alpha/look");
@id("send") @approval("group:ops") permit (principal in Warder::Group::"people", action == Warder::Action::"tools/call", resource == Warder::Tool::"alpha/send");
@id("purge") @acr("phr") permit (principal in Warder::Group::"people", action == Warder::Action::"tools/call", resource == Warder::Tool::"alpha/purge");
@id("beta") permit (principal in Warder::Group::"people", action == Warder::Action::"tools/call", resource in Warder::Server::"beta");
`

// TestBrowser lets people do with Chromium what they do at Warder's pages.
func TestBrowser(t *testing.T) {
	ctx := bounded(t)
	needNode(t)
	needFixture(t, "a real browser", chromium)
	alpha, beta := newOrigin(t, "alpha"), newOrigin(t, "beta")
	s := newSite(t, "localhost")
	idp := corpProvider(ctx, t, s)
	g := s.open(t, setup{
		identity: "step_up: [{servers: [beta], effects: [destructive], acr: [phr]}]\n",
		issuer:   "dcr: {mode: open}\n" + corpLogin(t, idp), policies: careful, servers: map[string]*origin{"alpha": alpha, "beta": beta},
	})
	b := openBrowser(ctx, t, "browser")
	ana := b.window(ctx, "ana")
	at, back := callbackServer(t)

	if !t.Run("link, passkey, out, and in with the passkey", func(t *testing.T) {
		ana.enter(g, "people")
		if got := ana.text("#groups"); got != "people" {
			t.Errorf("groups %q", got)
		}
		ana.must("authenticator", nil)
		ana.fill("#passkey-label", "laptop")
		ana.click("#passkey-add")
		ana.wait("#passkeys li")
		ana.shot("account")
		ana.leave()
		ana.open(s.issuer() + "/account")
		ana.wait("#passkey-login")
		ana.shot("login")
		ana.click("#passkey-login")
		if ana.wait("#subject"); ana.text("#subject") == "" {
			t.Error("nobody is signed in")
		}
		if made, _ := ana.must("credentials", nil)["credentials"].([]any); len(made) != 1 {
			t.Errorf("the device has %d passkeys", len(made))
		}
		cookies, _ := ana.must("cookies", map[string]any{"url": s.base})["cookies"].([]any)
		for _, c := range cookies {
			if m, _ := c.(map[string]any); m["httpOnly"] != true || m["sameSite"] != "Lax" && m["sameSite"] != "Strict" {
				t.Errorf("cookie %v", m["name"])
			}
		}
	}) {
		return
	}
	t.Run("consent", func(t *testing.T) {
		a := newAuthorizer(t, ana.walker(back, "#allow", "consent"), registration{redirect: at}, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", map[string]any{"topic": "sky"}, "alpha: look sky")
		refuser := newAuthorizer(t, ana.walker(back, "#refuse", ""), registration{redirect: at}, http.DefaultClient)
		if _, err := dial(ctx, t, s.mcp("alpha"), refuser, nil); err == nil || !strings.Contains(err.Error(), "access_denied") {
			t.Errorf("refused consent: %v", err)
		}
	})
	again := func() { // a link is no passkey
		ana.open(s.issuer() + "/account")
		ana.leave()
		ana.enter(g, "people")
	}
	t.Run("step up by configuration", func(t *testing.T) {
		again()
		a := newAuthorizer(t, ana.walker(back, "#allow", ""), registration{redirect: at}, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("beta"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", map[string]any{"topic": "sea"}, "beta: look sea")
		wants(ctx, t, session, "purge", map[string]any{"name": "old"}, "beta: purge old")
		if n := len(a.requests); n != 2 || a.requests[1].Get("acr_values") != "phr" || beta.times("purge old") != 1 {
			t.Errorf("%d authorization requests, purged %d times", n, beta.times("purge old"))
		}
	})
	t.Run("step up by policy", func(t *testing.T) {
		again()
		a := newAuthorizer(t, ana.walker(back, "#allow", "step-up"), registration{redirect: at}, http.DefaultClient)
		session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
		if err != nil {
			t.Fatal(err)
		}
		wants(ctx, t, session, "look", map[string]any{"topic": "sea"}, "alpha: look sea")
		if r := post(ctx, t, s.mcp("alpha"), "purge", map[string]any{"name": "old"}, bearer(a.last(t).AccessToken)); r.status != http.StatusUnauthorized ||
			!strings.Contains(r.challenge, `error="insufficient_user_authentication"`) || !strings.Contains(r.challenge, `acr_values="phr"`) {
			t.Errorf("challenge: %v %s", r, r.challenge)
		}
		wants(ctx, t, session, "purge", map[string]any{"name": "old"}, "alpha: purge old")
		if n := len(a.requests); n != 2 || a.requests[1].Get("acr_values") != "phr" || alpha.times("purge old") != 1 {
			t.Errorf("%d authorization requests, purged %d times", n, alpha.times("purge old"))
		}
	})
	t.Run("approve and deny a call that waits", func(t *testing.T) { approvals(ctx, t, s, g, b, alpha, ana.walker(back, "#allow", ""), at) })
	t.Run("login at the company", func(t *testing.T) {
		carl := b.window(ctx, "carl")
		carl.open(s.issuer() + "/account")
		carl.click("#provider-corp")
		carl.fill("input[name=login]", "ana")
		carl.fill("input[name=password]", "x")
		carl.shot("company")
		carl.click("button[type=submit]")
		if carl.wait("#subject", "button[type=submit]") != "#subject" {
			carl.click("button[type=submit]")
			carl.wait("#subject")
		}
		if got := carl.text("#subject"); got != "corp:ana" || carl.text("#groups") != "people" {
			t.Errorf("signed in as %q in %q", got, carl.text("#groups"))
		}
		carl.shot("federated")
	})
	faults, _ := ana.must("faults", nil)["faults"].([]any)
	for _, fault := range faults {
		if line := fmt.Sprint(fault); strings.HasPrefix(line, s.base) {
			t.Errorf("a page of Warder wrote to the console: %s", line)
		}
	}
}

// approvals lets ben of ops decide on two calls of ana.
func approvals(ctx context.Context, t *testing.T, s site, g *gate, b *browser, alpha *origin, walk walker, at string) {
	t.Helper()
	a := newAuthorizer(t, walk, registration{redirect: at}, http.DefaultClient)
	session, err := dial(ctx, t, s.mcp("alpha"), a, nil)
	if err != nil {
		t.Fatal(err)
	}
	ben := b.window(ctx, "ben")
	ben.enter(g, "ops")
	type result struct {
		text string
		err  error
	}
	paused := func(to string, decide string) result {
		done := make(chan result, 1)
		go func() {
			text, err := call(ctx, session, "send", map[string]any{"to": to, "amount": 5})
			done <- result{text, err}
		}()
		deadline := time.Now().Add(15 * time.Second)
		for ben.open(s.issuer() + "/approve"); !ben.has("#waiting a"); ben.open(s.issuer() + "/approve") {
			if time.Now().After(deadline) {
				t.Fatal("no call waits")
			}
			time.Sleep(50 * time.Millisecond)
		}
		ben.click("#waiting a")
		ben.wait("#parameters")
		if shown := ben.text("#parameters"); !strings.Contains(shown, to) || !strings.Contains(shown, "5") || ben.text("#tool") != "send" {
			t.Errorf("the page shows %q of %q", shown, ben.text("#tool"))
		}
		if alpha.times("send "+to+" 5") != 0 {
			t.Error("the call did not wait")
		}
		ben.shot("approval-" + decide)
		ben.click("#" + decide)
		select {
		case r := <-done:
			return r
		case <-ctx.Done():
			t.Fatal(ctx.Err())
			return result{}
		}
	}
	if r := paused("zoe", "approve"); r.err != nil || r.text != "alpha: send zoe 5" || alpha.times("send zoe 5") != 1 {
		t.Errorf("approved: %q, %v, done %d times", r.text, r.err, alpha.times("send zoe 5"))
	}
	if r := paused("eve", "deny"); r.err == nil || alpha.times("send eve 5") != 0 {
		t.Errorf("denied: %q, %v, done %d times", r.text, r.err, alpha.times("send eve 5"))
	}
}
