package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// destructive are requests that need the second factor, one for each reason.
func destructive() map[string]func(token string) *http.Request {
	return map[string]func(string) *http.Request{
		"revoke all": func(t string) *http.Request {
			return as(t, http.MethodPost, "/revocations", `{"kind":"all","value":"*"}`)
		},
		"revoke an issuer": func(t string) *http.Request {
			return as(t, http.MethodPost, "/revocations", `{"kind":"issuer","value":"https://i"}`)
		},
		"lift": func(t string) *http.Request {
			return as(t, http.MethodPost, "/revocations/lift", `{"kind":"agent","value":"a"}`)
		},
		"emergency":        func(t string) *http.Request { return as(t, http.MethodPost, "/keys/emergency", `{"reason":"lost"}`) },
		"approve own":      func(t string) *http.Request { return as(t, http.MethodPost, "/grants/own/approve", ``) },
		"approve for self": func(t string) *http.Request { return as(t, http.MethodPost, "/grants/mine/approve", ``) },
		"own call":         func(t string) *http.Request { return as(t, http.MethodPost, "/approvals/own/approve", `{"nonce":"n"}`) },
		"enable an agent":  func(t string) *http.Request { return as(t, http.MethodPost, "/agents/bot/enable", ``) },
		"widen an agent":   func(t string) *http.Request { return as(t, http.MethodPut, "/agents/bot", `{"owner":"o"}`) },
		"recovery codes":   func(t string) *http.Request { return as(t, http.MethodPost, "/recovery-codes", ``) },
		"login link":       func(t string) *http.Request { return as(t, http.MethodPost, "/links", `{"user":"eve"}`) },
	}
}

func TestPUB08(t *testing.T) {
	c := newClock()
	strong := func(p *warder.Principal) { p.ACR, p.AuthTime = "phr", c.now().Add(-time.Minute) }
	t.Run("pass a login with a passkey of the last minutes", func(t *testing.T) {
		for name, change := range map[string]func(*warder.Principal){
			"acr phr":  strong,
			"acr phrh": func(p *warder.Principal) { p.ACR, p.AuthTime = "phrh", c.now() },
			"amr hwk":  func(p *warder.Principal) { p.AMR, p.AuthTime = []string{"pwd", "hwk"}, c.now().Add(-5*time.Minute) },
			"amr fido": func(p *warder.Principal) { p.AMR, p.AuthTime = []string{"fido"}, c.now().Add(20*time.Second) },
		} {
			for what, request := range destructive() {
				rig := newRig(t, c)
				rig.login("t", []string{"owners"}, change)
				if code, p := ask(rig.api, request("t")); code >= 300 {
					t.Errorf("%s, %s: %d %s %s, want it done", name, what, code, p.Code, p.Detail)
				}
				if e := rig.trail.last(t); !strings.Contains(e.Detail, "factor="+strings.Replace(name, " ", ":", 1)) {
					t.Errorf("%s, %s: recorded %q, want the factor", name, what, e.Detail)
				}
			}
		}
	})
	t.Run("near_miss what takes rights away from one needs no second factor, nor does an approval for another", func(t *testing.T) {
		rig := newRig(t, c)
		rig.login("t", []string{"owners"}, func(*warder.Principal) {})
		for _, r := range []*http.Request{
			as("t", http.MethodPost, "/revocations", `{"kind":"principal","value":"https://i|eve"}`),
			as("t", http.MethodPost, "/grants/other/approve", ``),
			as("t", http.MethodPost, "/approvals/other/approve", `{"nonce":"n"}`),
			as("t", http.MethodPut, "/agents/new", `{"owner":"o"}`),
			as("t", http.MethodPost, "/agents/bot/disable", ``),
			as("t", http.MethodPost, "/keys/rotate", ``),
		} {
			if code, p := ask(rig.api, r); code != http.StatusOK {
				t.Errorf("%s: %d %s %s, want 200", r.URL.Path, code, p.Code, p.Detail)
			}
		}
	})
	t.Run("deny a login that is weak, old, of the future or of unknown time", func(t *testing.T) {
		for name, change := range map[string]func(*warder.Principal){
			"nothing":        func(*warder.Principal) {},
			"password":       func(p *warder.Principal) { p.AMR, p.ACR, p.AuthTime = []string{"pwd", "otp", "mfa"}, "aal2", c.now() },
			"old":            func(p *warder.Principal) { p.ACR, p.AuthTime = "phr", c.now().Add(-5*time.Minute-time.Second) },
			"of the future":  func(p *warder.Principal) { p.ACR, p.AuthTime = "phr", c.now().Add(time.Minute) },
			"no time":        func(p *warder.Principal) { p.ACR, p.AMR = "phr", []string{"hwk"} },
			"prefix of phr":  func(p *warder.Principal) { p.ACR, p.AuthTime = "phrx", c.now() },
			"mtls":           func(p *warder.Principal) { p.Transport, p.Binding, p.AuthTime = "mtls", "x5t", c.now() },
			"purpose a word": func(p *warder.Principal) { p.Purpose, p.Scopes, p.AuthTime = "phr", []string{"phr"}, c.now() },
		} {
			for what, request := range destructive() {
				rig := newRig(t, c)
				rig.login("t", []string{"owners"}, change)
				code, body, header := send(rig.api, request("t"))
				if code != http.StatusUnauthorized || !strings.Contains(body, codeStepUp) {
					t.Fatalf("%s, %s: %d %s, want 401 %s", name, what, code, body, codeStepUp)
				}
				challenge := header.Get("WWW-Authenticate")
				for _, part := range []string{`error="insufficient_user_authentication"`, `acr_values="phr phrh"`, `max_age="300"`, `resource_metadata="https://admin.example/.well-known/oauth-protected-resource/admin/v1"`} {
					if !strings.Contains(challenge, part) {
						t.Errorf("%s: challenge %q, want %s", what, challenge, part)
					}
				}
				if done := rig.services.done(); len(done) != 0 {
					t.Errorf("%s, %s: %v was done", name, what, done)
				}
				if e := rig.trail.last(t); e.Control != "PUB-08" || e.Reason != codeStepUp || e.Principal.Subject != "ana" {
					t.Errorf("%s, %s: recorded %+v, want a refusal of PUB-08", name, what, e)
				}
			}
		}
	})
	t.Run("deny the socket when the local user is no owner by configuration", func(t *testing.T) {
		rig := newRig(t, c)
		rig.local(false)
		if code, p := ask(rig.api, asLocal(http.MethodPost, "/revocations", `{"kind":"all","value":"*"}`)); code != http.StatusUnauthorized || p.Code != codeStepUp {
			t.Errorf("%d %s, want 401 %s", code, p.Code, codeStepUp)
		}
		rig.local(true)
		if code, p := ask(rig.api, asLocal(http.MethodPost, "/revocations", `{"kind":"all","value":"*"}`)); code != http.StatusOK {
			t.Errorf("local_owner: %d %s, want 200", code, p.Code)
		}
	})
	t.Run("dependency_killed what is decided about cannot be asked, or the trail cannot be written", func(t *testing.T) {
		rig := newRig(t, c)
		rig.login("t", []string{"owners"}, func(*warder.Principal) {})
		rig.services.broken = errors.New("the store is gone")
		if code, p := ask(rig.api, as("t", http.MethodPost, "/grants/other/approve", ``)); code != http.StatusUnauthorized || p.Code != codeStepUp {
			t.Errorf("whose grant it is cannot be asked: %d %s, want 401 %s", code, p.Code, codeStepUp)
		}
		rig = newRig(t, c)
		rig.login("t", []string{"owners"}, strong)
		rig.trail.broken = errors.New("disk full")
		for what, request := range destructive() {
			if strings.HasPrefix(what, "revoke") {
				continue // carried out even so: it only takes rights away
			}
			if code, p := ask(rig.api, request("t")); code != http.StatusServiceUnavailable || p.Code != codeUnavailable {
				t.Errorf("%s without a trail: %d %s, want 503", what, code, p.Code)
			}
		}
		if done := rig.services.done(); len(done) != 0 {
			t.Errorf("%v was done without a record", done)
		}
	})
}

// TestStepUpLiftsTheRefusal walks the way of RFC 9470: refused, a stronger login, done.
func TestStepUpLiftsTheRefusal(t *testing.T) {
	c := newClock()
	rig := newRig(t, c)
	rig.login("weak", []string{"sec"}, func(p *warder.Principal) { p.AMR, p.AuthTime = []string{"pwd"}, c.now() })
	rig.login("strong", []string{"sec"}, func(p *warder.Principal) { p.AMR, p.AuthTime = []string{"hwk", "user"}, c.now() })
	lift := func(token string) *http.Request {
		return as(token, http.MethodPost, "/revocations/lift", `{"kind":"all","value":"*"}`)
	}
	if code, p := ask(rig.api, lift("weak")); code != http.StatusUnauthorized || p.Code != codeStepUp {
		t.Fatalf("weak: %d %s", code, p.Code)
	}
	if code, p := ask(rig.api, lift("strong")); code != http.StatusNoContent {
		t.Fatalf("strong: %d %s %s", code, p.Code, p.Detail)
	}
	c.add(6 * time.Minute)
	if code, p := ask(rig.api, lift("strong")); code != http.StatusUnauthorized || p.Code != codeStepUp {
		t.Errorf("six minutes later: %d %s, want it refused again", code, p.Code)
	}
}

func TestBreakGlass(t *testing.T) {
	c := newClock()
	rig := newRig(t, c)
	code, body, _ := send(rig.api, asLocal(http.MethodPost, "/recovery-codes", ""))
	var made RecoveryCodes
	if err := json.Unmarshal([]byte(body), &made); err != nil || code != http.StatusOK || len(made.Codes) != recoverySet {
		t.Fatalf("codes: %d %s %v", code, body, err)
	}
	docs, err := rig.store.List(t.Context(), state.Query{Kind: kindRecovery})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		for _, secret := range made.Codes {
			if strings.Contains(d.ID+string(d.Body), secret) || strings.Contains(d.ID, strings.ReplaceAll(secret, "-", "")) {
				t.Fatal("a recovery code is kept in the clear")
			}
		}
	}
	open := func(code, reason string, extra string) *http.Request {
		return request0(http.MethodPost, "/break-glass", `{"code":"`+code+`","reason":"`+reason+`"`+extra+`}`)
	}
	const why = "the identity provider is down"
	for name, r := range map[string]*http.Request{
		"no reason":    open(made.Codes[0], "", ""),
		"short reason": open(made.Codes[0], "test", ""),
		"too long":     open(made.Codes[0], why, `,"ttl_seconds":3601`),
		"negative":     open(made.Codes[0], why, `,"ttl_seconds":-1`),
	} {
		if code, p := ask(rig.api, r); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", name, code, p.Code)
		}
	}
	if code, p := ask(rig.api, open("AAAAA-BBBBB-CCCCC-DDDDD-EEEEE", why, "")); code != http.StatusForbidden {
		t.Errorf("unknown code: %d %s, want 403", code, p.Code)
	}
	if e := rig.trail.last(t); e.Method != "break_glass.refused" || e.Type != warder.EventAdmin {
		t.Errorf("an unknown code was recorded as %+v", e)
	}
	// Typed as people type: lower case, without the hyphens. The identity provider is down.
	rig.providerDown()
	code, body, _ = send(rig.api, open(strings.ToLower(strings.ReplaceAll(made.Codes[0], "-", " ")), why, ""))
	var s GlassSession
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK || s.Token == "" {
		t.Fatalf("open: %d %s %v", code, body, err)
	}
	if got := s.NotAfter.Sub(c.now()); got != defaultGlass {
		t.Errorf("it lasts %s, want %s", got, defaultGlass)
	}
	e := rig.trail.last(t)
	if e.Type != warder.EventAdmin || len(e.Findings) != 1 || e.Findings[0].Severity != warder.Critical || !strings.Contains(e.Detail, why) || strings.Contains(e.Detail, s.Token) {
		t.Errorf("recorded %+v, want a critical entry with the reason and without the token", e)
	}
	if alerts := rig.alerts(); len(alerts) != 1 || alerts[0].Reason != why || alerts[0].Severity != "critical" {
		t.Errorf("alerts = %+v, want one", alerts)
	}
	if code, p := ask(rig.api, open(made.Codes[0], why, "")); code != http.StatusForbidden {
		t.Errorf("the same code again: %d %s, want 403", code, p.Code)
	}
	if code, p := ask(rig.api, as(s.Token, http.MethodPost, "/revocations", `{"kind":"all","value":"*"}`)); code != http.StatusOK {
		t.Errorf("destructive with the session: %d %s, want 200", code, p.Code)
	}
	if e := rig.trail.last(t); !strings.Contains(e.Detail, "factor=break-glass") || e.Principal.Subject != glassSubject {
		t.Errorf("recorded %+v, want break-glass as factor", e)
	}
	_, body, _ = send(rig.api, asLocal(http.MethodGet, "/status", ""))
	var status Status
	if err := json.Unmarshal([]byte(body), &status); err != nil || len(status.BreakGlass) != 1 || status.Recovery != recoverySet-1 || !strings.Contains(strings.Join(status.Warnings, " "), "BREAK-GLASS") {
		t.Errorf("status %s, want it loud", body)
	}
	if strings.Contains(body, s.Token) {
		t.Error("the status shows the token")
	}
	c.add(defaultGlass)
	if code, p := ask(rig.api, as(s.Token, http.MethodGet, "/status", "")); code != http.StatusUnauthorized {
		t.Errorf("after its end: %d %s, want 401", code, p.Code)
	}
}

func TestBreakGlassFailsClosed(t *testing.T) {
	c := newClock()
	const why = `","reason":"the identity provider is down"}`
	t.Run("trail", func(t *testing.T) {
		rig := newRig(t, c)
		codes, err := rig.api.glass.Codes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rig.trail.broken = errors.New("disk full")
		r := request0(http.MethodPost, "/break-glass", `{"code":"`+codes.Codes[0]+why)
		if code, p := ask(rig.api, r); code != http.StatusServiceUnavailable {
			t.Errorf("without a trail: %d %s, want 503", code, p.Code)
		}
		rig.trail.broken = nil
		r = request0(http.MethodPost, "/break-glass", `{"code":"`+codes.Codes[0]+why)
		if code, p := ask(rig.api, r); code != http.StatusOK {
			t.Errorf("the code was lost: %d %s", code, p.Code)
		}
	})
	t.Run("alert", func(t *testing.T) {
		rig := newRig(t, c)
		codes, err := rig.api.glass.Codes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rig.alertBroken = errors.New("the webhook is gone")
		r := request0(http.MethodPost, "/break-glass", `{"code":"`+codes.Codes[0]+why)
		if code, p := ask(rig.api, r); code != http.StatusOK {
			t.Errorf("nobody can be told: %d %s, want it open all the same", code, p.Code)
		}
	})
	t.Run("store", func(t *testing.T) {
		rig := newRig(t, c)
		rig.store.broken = errors.New("gone")
		r := request0(http.MethodPost, "/break-glass", `{"code":"AAAAA`+why)
		if code, p := ask(rig.api, r); code != http.StatusInternalServerError {
			t.Errorf("without a store: %d %s, want 500", code, p.Code)
		}
		if code, p := ask(rig.api, as(glassPrefix+"x", http.MethodGet, "/status", "")); code != http.StatusServiceUnavailable {
			t.Errorf("a session that cannot be looked up: %d %s, want 503", code, p.Code)
		}
	})
	t.Run("race", func(t *testing.T) {
		rig := newRig(t, c)
		codes, err := rig.api.glass.Codes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const tries = 16
		got := make(chan error, tries)
		for range tries {
			go func() {
				_, err := rig.api.glass.Open(context.Background(), "x", GlassRequest{Code: codes.Codes[0], Reason: "two at the same time"})
				got <- err
			}()
		}
		opened := 0
		for range tries {
			if err := <-got; err == nil {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("one code opened %d sessions", opened)
		}
	})
}
