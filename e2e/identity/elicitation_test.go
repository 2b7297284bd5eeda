package identity

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// links is the elicitation of a client that can show links: it remembers them, and lets a person do something.
type links struct {
	mu    sync.Mutex
	shown []string
	then  func(link string) error // nil: the link is not opened
}

func (l *links) options() *mcp.ClientOptions {
	return &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{Elicitation: &mcp.ElicitationCapabilities{URL: &mcp.URLElicitationCapabilities{}}},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			if r.Params.Mode != "url" || r.Params.URL == "" || r.Params.Message == "" {
				return nil, errors.New("no link to show")
			}
			l.mu.Lock()
			l.shown = append(l.shown, r.Params.URL)
			then := l.then
			l.mu.Unlock()
			if then == nil {
				return &mcp.ElicitResult{Action: "decline"}, nil
			}
			if err := then(r.Params.URL); err != nil {
				return nil, err
			}
			return &mcp.ElicitResult{Action: "accept"}, nil
		},
	}
}

func (l *links) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.shown)
}

func (l *links) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.shown) == 0 {
		return ""
	}
	return l.shown[len(l.shown)-1]
}

func (l *links) do(then func(string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.then = then
}

// TestElicitation holds calls until somebody has opened the link that the client shows, and approved exactly
// that call.
func TestElicitation(t *testing.T) {
	ctx := bounded(t)
	needNode(t)
	needFixture(t, "a real browser", chromium)
	alpha := newOrigin(t, "alpha")
	s := newSite(t, "localhost")
	g := s.open(t, setup{
		issuer: "dcr: {mode: open}\nlogin: {local: {enabled: true}}\n", access: "approval: {wait: 10ms}\n", policies: careful,
		servers: map[string]*origin{"alpha": alpha},
	})
	b := openBrowser(ctx, t, "elicitation")
	ana, ben := newPerson(t, "ana", "", ""), b.window(ctx, "ben")
	if err := ana.enter(ctx, g, "people"); err != nil {
		t.Fatal(err)
	}
	ben.enter(g, "ops")
	asked := &links{}
	a := newAuthorizer(t, ana.walker(), registration{}, http.DefaultClient)
	session, err := dial(ctx, t, s.mcp("alpha"), a, asked.options())
	if err != nil {
		t.Fatal(err)
	}
	decide := func(button string) func(string) error {
		return func(link string) error {
			if _, err := ben.try("open", map[string]any{"url": link}); err != nil {
				return err
			}
			if _, err := ben.try("shot", map[string]any{"name": "asked-" + button}); err != nil {
				return err
			}
			_, err := ben.try("click", map[string]any{"at": "#" + button})
			return err
		}
	}
	pay := func(amount int) map[string]any { return map[string]any{"to": "zoe", "amount": amount} }
	t.Run("approved in the browser, the repeated call passes", func(t *testing.T) {
		asked.do(decide("approve"))
		wants(ctx, t, session, "send", pay(5), "alpha: send zoe 5")
		if asked.count() != 1 || alpha.times("send zoe 5") != 1 || !strings.HasPrefix(asked.last(), s.issuer()+"/approve/") {
			t.Errorf("asked %d times with %v, sent %d times", asked.count(), asked.shown, alpha.times("send zoe 5"))
		}
	})
	t.Run("an approval is used once", func(t *testing.T) {
		used, before := asked.last(), asked.count()
		asked.do(nil)
		if got, err := call(ctx, session, "send", pay(5)); err == nil {
			t.Errorf("the same call again: %q", got)
		}
		if asked.count() != before+1 || asked.last() == used || alpha.times("send zoe 5") != 1 {
			t.Errorf("asked %d times, sent %d times", asked.count()-before, alpha.times("send zoe 5"))
		}
		ben.open(used)
		if ben.wait("[role=status]"); ben.has("#approve") || !strings.Contains(ben.text("[role=status]"), "does not wait any more") {
			t.Error("the page of a used approval can still be decided on")
		}
	})
	t.Run("a changed parameter is asked about anew", func(t *testing.T) {
		asked.do(func(link string) error {
			return errors.Join(decide("approve")(link), errors.New("the client goes away"))
		})
		if got, err := call(ctx, session, "send", pay(7)); err == nil {
			t.Fatalf("a client that went away got %q", got)
		}
		before := asked.count()
		asked.do(nil)
		if got, err := call(ctx, session, "send", pay(70)); err == nil {
			t.Errorf("with another amount: %q", got)
		}
		if asked.count() != before+1 || alpha.times("send zoe 70") != 0 {
			t.Errorf("asked %d times, sent %d times", asked.count()-before, alpha.times("send zoe 70"))
		}
		wants(ctx, t, session, "send", pay(7), "alpha: send zoe 7") // what was approved is still good, once
		if alpha.times("send zoe 7") != 1 {
			t.Errorf("sent %d times", alpha.times("send zoe 7"))
		}
	})
	t.Run("a form that is sent twice decides once", func(t *testing.T) {
		var link string
		asked.do(func(l string) error { link = l; return errors.New("not now") })
		if got, err := call(ctx, session, "send", pay(9)); err == nil {
			t.Fatalf("held: %q", got)
		}
		ben2 := newPerson(t, "ben", "", "")
		if err := ben2.enter(ctx, g, "ops"); err != nil {
			t.Fatal(err)
		}
		_, _, page, err := ben2.open(ctx, http.MethodGet, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		ben2.decision = "deny"
		action, values, found := ben2.choose(page)
		if !found || values.Get("decision") != "deny" {
			t.Fatalf("no form: %v", values)
		}
		send := func(v url.Values) int {
			status, _, _, err := ben2.open(ctx, http.MethodPost, s.base+action, v)
			if err != nil {
				t.Fatal(err)
			}
			return status
		}
		if status := send(values); status != http.StatusOK {
			t.Errorf("deny: status %d", status)
		}
		values.Set("decision", "approve")
		if status := send(values); status != http.StatusConflict {
			t.Errorf("approve with the same form: status %d", status)
		}
		if got, err := call(ctx, session, "send", pay(9)); err == nil || alpha.times("send zoe 9") != 0 {
			t.Errorf("denied call: %q, sent %d times", got, alpha.times("send zoe 9"))
		}
	})
	t.Run("TypeScript SDK in a session is told the link", func(t *testing.T) {
		legacyLink(ctx, t, s, ana.walker(), decide("approve"))
		if alpha.times("send zoe 13") != 1 {
			t.Errorf("sent %d times", alpha.times("send zoe 13"))
		}
	})
	t.Run("nobody decides on the own call", func(t *testing.T) {
		var link string
		asked.do(func(l string) error { link = l; return errors.New("not now") })
		if got, err := call(ctx, session, "send", pay(11)); err == nil {
			t.Fatalf("held: %q", got)
		}
		_, _, page, err := ana.open(ctx, http.MethodGet, link, nil)
		if err != nil || strings.Contains(page, `id="approve"`) {
			t.Errorf("the caller is offered the decision: %v", err)
		}
	})
}

// legacyLink lets a client of 2025-11-25 call, which gets URLElicitationRequiredError with the link, and
// call again once it was approved.
func legacyLink(ctx context.Context, t *testing.T, s site, walk walker, approve func(string) error) {
	t.Helper()
	options, err := json.Marshal(map[string]any{"legacy": true, "links": true, "calls": 2, "redirect": callback})
	if err != nil {
		t.Fatal(err)
	}
	c := startScript(t, nil, "client-oauth.mjs", s.mcp("alpha"), "send", `{"to":"zoe","amount":13}`, string(options))
	first, _ := tsLogin(ctx, t, c, walk)
	data, _ := first["data"].(map[string]any)
	list, _ := data["elicitations"].([]any)
	if code, _ := first["code"].(float64); code != -32042 || len(list) != 1 {
		t.Fatalf("first call: %v", first)
	}
	question, _ := list[0].(map[string]any)
	if text(question, "mode") != "url" || text(question, "elicitationId") == "" {
		t.Errorf("elicitation %v", question)
	}
	if err := errors.Join(approve(text(question, "url")), c.tell("again")); err != nil {
		t.Fatal(err)
	}
	if second, err := c.next(ctx); err != nil || said(second) != "alpha: send zoe 13" {
		t.Errorf("second call: %v, %v", second, err)
	}
}
