package login

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/passkey/passkeytest"
	"github.com/warder-mcp/warder/issuer"
)

// register gives the person who is logged in a passkey on a device.
func (b *browser) register(d *passkeytest.Device) {
	b.t.Helper()
	page := b.get("/oauth/account")
	csrf := page.data("passkey-add", "csrf")
	status, begun := b.call("/oauth/account/passkey/options", keyRequest{CSRF: csrf})
	if status != http.StatusOK {
		b.t.Fatalf("options: %d %+v", status, begun)
	}
	made, err := d.Create(begun.Options)
	if err != nil {
		b.t.Fatal(err)
	}
	status, done := b.call("/oauth/account/passkey/finish", keyRequest{CSRF: csrf, Ceremony: begun.Ceremony, Credential: made, Label: "laptop"})
	if status != http.StatusOK || done.To != "/oauth/account" {
		b.t.Fatalf("finish: %d %+v", status, done)
	}
}

// passkey logs in with a device from the login page of a path, and returns what the script got.
func (b *browser) passkey(path string, d *passkeytest.Device) (int, keyAnswer) {
	b.t.Helper()
	return b.passkeyOn(b.get(path), d)
}

// passkeyOn logs in with a device from a login page.
func (b *browser) passkeyOn(page *view, d *passkeytest.Device) (int, keyAnswer) {
	b.t.Helper()
	csrf, need := page.data("passkey-login", "csrf"), page.data("passkey-login", "need")
	status, begun := b.call("/oauth/login/passkey/options", keyRequest{CSRF: csrf})
	if status != http.StatusOK {
		b.t.Fatalf("options: %d %+v", status, begun)
	}
	response, err := d.Get(begun.Options)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.call("/oauth/login/passkey/finish", keyRequest{CSRF: csrf, Need: need, Ceremony: begun.Ceremony, Credential: response})
}

func originOf(s *site) string { return strings.TrimSuffix(s.url, "/oauth") }

func TestPasskeyLogin(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{true, false} {
		s := newSite(t, secure, local)
		d := passkeytest.New(originOf(s))
		b := s.browser(t)
		b.link("ada", "operators")
		b.register(d)
		other := s.browser(t)
		status, done := other.passkey("/oauth/account", d)
		if status != http.StatusOK || done.To != "/oauth/account" {
			t.Fatalf("login: %d %+v", status, done)
		}
		page := other.get("/oauth/account")
		if got := page.shown("subject"); got != "local:ada" {
			t.Errorf("logged in as %q", got)
		}
		if !strings.Contains(page.shown("passkeys"), "laptop") {
			t.Errorf("passkeys: %s", page.shown("passkeys"))
		}
		s.wantReason(t, "passkey_added")
	}
}

func TestPasskeyIsStrong(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	d := passkeytest.New(originOf(s))
	b := s.browser(t)
	b.link("ada")
	b.register(d)
	s.need = issuer.Need{ACR: []string{ACRPasskey}}
	v := b.get("/oauth/authorize?x=1")
	if find(v.root, byID("passkey-first")) == nil {
		t.Error("nothing says where a first passkey is made")
	}
	if find(v.root, byID("passkey-login")) == nil || len(s.codes()) > 0 {
		t.Fatalf("a login with a link counts as a passkey: %s", v.main())
	}
	if status, done := b.passkey("/oauth/authorize?x=1", d); status != http.StatusOK || done.To != "/oauth/authorize?x=1" {
		t.Fatalf("step-up: %d %+v", status, done)
	}
	b.get("/oauth/authorize?x=1")
	if got := s.codes(); !slices.Equal(got, []string{"local:ada "}) {
		t.Errorf("codes %q", got)
	}
	if len(s.revoked) > 0 {
		t.Errorf("stepping up revoked %q", s.revoked)
	}
}

// assertion is what a device answers.
func assertion(t *testing.T, d *passkeytest.Device, begun keyAnswer) []byte {
	t.Helper()
	response, err := d.Get(begun.Options)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestPasskeyAttacks(t *testing.T) {
	s := newSite(t, true, local)
	d := passkeytest.New(originOf(s))
	owner := s.browser(t)
	owner.link("ada")
	owner.register(d)
	b := s.browser(t)
	page := b.get("/oauth/account")
	csrf, need := page.data("passkey-login", "csrf"), page.data("passkey-login", "need")
	begin := func() keyAnswer {
		t.Helper()
		status, begun := b.call("/oauth/login/passkey/options", keyRequest{CSRF: csrf})
		if status != http.StatusOK {
			t.Fatalf("options: %d %+v", status, begun)
		}
		return begun
	}
	assert := func(begun keyAnswer) []byte { return assertion(t, d, begun) }
	finish := func(from *browser, in keyRequest, change ...func(*http.Request)) string {
		t.Helper()
		_, out := from.call("/oauth/login/passkey/finish", in, change...)
		return out.Code
	}
	t.Run("deny_ceremony_of_another_browser", func(t *testing.T) {
		thief := s.browser(t)
		page := thief.get("/oauth/account")
		begun := begin()
		in := keyRequest{CSRF: page.data("passkey-login", "csrf"), Need: page.data("passkey-login", "need"), Ceremony: begun.Ceremony, Credential: assert(begun)}
		if got := finish(thief, in); got != "passkey_refused" {
			t.Errorf("got %q", got)
		}
		in.CSRF, in.Need = csrf, need
		if got := finish(b, in); got != "passkey_refused" { // and it is used up
			t.Errorf("got %q", got)
		}
	})
	t.Run("deny_cross_site", func(t *testing.T) {
		begun := begin()
		in := keyRequest{CSRF: csrf, Need: need, Ceremony: begun.Ceremony, Credential: assert(begun)}
		if got := finish(b, in, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); got != "form_forged" {
			t.Errorf("got %q", got)
		}
		in.CSRF = ""
		if got := finish(b, in); got != "form_forged" {
			t.Errorf("without a token: got %q", got)
		}
	})
	t.Run("deny_simple_content_type", func(t *testing.T) { // what a form of another site could send
		begun := begin()
		in := keyRequest{CSRF: csrf, Need: need, Ceremony: begun.Ceremony, Credential: assert(begun)}
		if got := finish(b, in, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }); got != "form_type" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("deny_unknown_account_alike", func(t *testing.T) {
		begun := begin()
		d.Handle = []byte("nobody")
		unknown := finish(b, keyRequest{CSRF: csrf, Need: need, Ceremony: begun.Ceremony, Credential: assert(begun)})
		d.Handle, d.Forge = nil, true
		begun = begin()
		forged := finish(b, keyRequest{CSRF: csrf, Need: need, Ceremony: begun.Ceremony, Credential: assert(begun)})
		d.Forge = false
		if unknown != "passkey_refused" || forged != unknown {
			t.Errorf("unknown account %q, forged signature %q: want the same", unknown, forged)
		}
	})
	t.Run("deny_locked", func(t *testing.T) {
		for range failuresPerHour {
			s.limits.fail("ada")
		}
		begun := begin()
		if got := finish(b, keyRequest{CSRF: csrf, Need: need, Ceremony: begun.Ceremony, Credential: assert(begun)}); got != "passkey_refused" {
			t.Errorf("got %q", got)
		}
		s.clock.add(time.Hour)
	})
}

func TestPasskeyWithoutAStore(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	d := passkeytest.New(originOf(s))
	owner := s.browser(t)
	owner.link("ada")
	owner.register(d)
	b := s.browser(t)
	page := b.get("/oauth/account")
	in := keyRequest{CSRF: page.data("passkey-login", "csrf"), Need: page.data("passkey-login", "need")}
	status, begun := b.call("/oauth/login/passkey/options", in)
	if status != http.StatusOK {
		t.Fatalf("options: %d %+v", status, begun)
	}
	response, err := d.Get(begun.Options)
	if err != nil {
		t.Fatal(err)
	}
	in.Ceremony, in.Credential = begun.Ceremony, response
	s.store.fail(errors.New("the store is gone"))
	if status, out := b.call("/oauth/login/passkey/finish", in); status != http.StatusServiceUnavailable || out.Code != "unavailable" {
		t.Errorf("got %d %+v", status, out)
	}
	s.store.fail(nil)
	if b.loggedIn() {
		t.Error("somebody is logged in")
	}
}

// TestRegistrationNeedsAFreshLogin proves that a session left open, or another's, registers no passkey.
func TestRegistrationNeedsAFreshLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	b := s.browser(t)
	b.link("ada")
	csrf := b.get("/oauth/account").data("passkey-add", "csrf")
	s.clock.add(keyFresh + time.Second)
	if status, out := b.call("/oauth/account/passkey/options", keyRequest{CSRF: csrf}); status != http.StatusForbidden || out.Code != "login_insufficient" {
		t.Errorf("got %d %+v", status, out)
	}
	if v := b.get("/oauth/account"); find(v.root, byID("passkey-add")) != nil {
		t.Error("the page offers it")
	}
	stranger := s.browser(t)
	page := stranger.get("/oauth/account")
	if status, out := stranger.call("/oauth/account/passkey/options", keyRequest{CSRF: page.data("passkey-login", "csrf")}); status != http.StatusForbidden {
		t.Errorf("nobody: got %d %+v", status, out)
	}
}

func TestRemovePasskey(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	d := passkeytest.New(originOf(s))
	b := s.browser(t)
	b.link("ada")
	b.register(d)
	v := b.get("/oauth/account")
	list := find(v.root, byID("passkeys"))
	form := find(list, func(n *htmlNode) bool { return n.Data == "button" })
	if form == nil {
		t.Fatal("no button to remove it")
	}
	a, err := s.account(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{"csrf": {attr(find(list, func(n *htmlNode) bool { return attr(n, "name") == "csrf" }), "value")}, "id": {keyName(a.Keys[0])}}
	b.post("/oauth/account/passkey/remove", values).onward()
	b.post("/oauth/account/passkey/remove", values).wantCode(t, http.StatusNotFound, "passkey_unknown")
	if status, out := s.browser(t).passkey("/oauth/account", d); status != http.StatusForbidden || out.Code != "passkey_refused" {
		t.Errorf("the removed key: %d %+v", status, out)
	}
}

func TestRemoveAccount(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, local)
	b := s.browser(t)
	b.link("ada")
	if err := s.RemoveAccount(t.Context(), "ada", "test"); err != nil {
		t.Fatal(err)
	}
	if v := b.get("/oauth/account"); find(v.root, byID("subject")) != nil || len(s.revoked) != 1 {
		t.Errorf("still logged in, or tokens live: revoked %q", s.revoked)
	}
}

// TestNoPasskeysForAddresses proves that a site at an address says so instead of failing in the browser.
func TestNoPasskeysForAddresses(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Local: Local{Enabled: true}}, newSite(t, false).atURL("http://127.0.0.1:8080"))
	if err != nil || s.Passkeys() {
		t.Errorf("New = %v, passkeys %v", err, s.Passkeys())
	}
}
