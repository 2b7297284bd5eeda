package issuer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/jose"
)

func TestCodeFlow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.authorize(authRequest("authorization_details", `[{"type":"mcp","tools":["read"],"purpose":"report"}]`))
	if q.Get("state") != "st&1" || q.Get("iss") != w.url || q.Get("code") == "" {
		t.Fatalf("authorization response: %v", q)
	}
	r := w.post("token", redeemForm(q.Get("code")))
	if r.status != http.StatusOK || r.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, %v: %s", r.status, r.header, r.body)
	}
	if r.text("token_type") != "Bearer" || r.json["expires_in"] != 300.0 || r.text("scope") != "a b" || r.text("refresh_token") == "" {
		t.Errorf("token response: %s", r.body)
	}
	c := w.claims(r.text("access_token"))
	if id, _ := c.Text("jti"); id != w.log.last().Principal.TokenID || len(id) < 20 {
		t.Errorf("jti %q is not what the trail says", id)
	}
	delete(c, "jti")
	now := w.clock.now()
	number := func(at time.Time) json.Number { b, _ := json.Marshal(at.Unix()); return json.Number(b) }
	want := jose.Claims{
		"iss": w.url, "sub": "ada", "aud": notes, "client_id": "app", "scope": "a b", "groups": []any{"dev"},
		"acr": "urn:pwd", "amr": []any{"pwd"}, "auth_time": number(now.Add(-time.Hour)), "sid": "s1",
		"iat": number(now), "exp": number(now.Add(5 * time.Minute)), "purpose": "report",
		"authorization_details": []any{map[string]any{"type": "mcp", "server": "notes", "tools": []any{"read"}, "purpose": "report"}},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

func TestAuthorizeIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		form   url.Values
		reason warder.Reason
	}{
		"no client":             {authRequest("client_id", ""), "client_id_malformed"},
		"unknown client":        {authRequest("client_id", "other"), "client_unknown"},
		"no redirect":           {authRequest("redirect_uri", ""), "redirect_missing"},
		"other redirect":        {authRequest("redirect_uri", "https://evil.example/callback"), "redirect_mismatch"},
		"longer redirect":       {authRequest("redirect_uri", back+"/x"), "redirect_mismatch"},
		"redirect with query":   {authRequest("redirect_uri", back+"?x=1"), "redirect_mismatch"},
		"redirect, upper case":  {authRequest("redirect_uri", "https://APP.example/callback"), "redirect_mismatch"},
		"redirect, encoded":     {authRequest("redirect_uri", "https://app.example/%63allback"), "redirect_mismatch"},
		"redirect, user":        {authRequest("redirect_uri", "https://app.example@evil.example/callback"), "redirect_mismatch"},
		"loopback, other path":  {authRequest("client_id", "native", "redirect_uri", "http://127.0.0.1:9/other"), "redirect_mismatch"},
		"loopback, user":        {authRequest("client_id", "native", "redirect_uri", "http://127.0.0.1:9@evil.example/cb"), "redirect_mismatch"},
		"loopback, other host":  {authRequest("client_id", "native", "redirect_uri", "http://localhost:9/cb"), "redirect_mismatch"},
		"loopback, not a port":  {authRequest("client_id", "native", "redirect_uri", "http://127.0.0.1:9.evil.example/cb"), "redirect_mismatch"},
		"port for a web client": {authRequest("redirect_uri", "https://app.example:444/callback"), "redirect_mismatch"},
		"foreign request_uri":   {authRequest("request_uri", "https://evil.example/r"), "request_uri_foreign"},
		"unknown request_uri":   {authRequest("request_uri", pushedPrefix+"x"), "request_unknown"},
		"unknown continue":      {url.Values{"continue": {"x"}}, "request_unknown"},
	} {
		r := w.get(w.url + "/authorize?" + c.form.Encode())
		if r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
			t.Errorf("%s: status %d, location %q", name, r.status, r.header.Get("Location"))
		}
		if got := w.log.last().Reason; got != c.reason {
			t.Errorf("%s: the trail says %q, want %q", name, got, c.reason)
		}
		if strings.Contains(r.body, "evil") {
			t.Errorf("%s: the page repeats the request", name)
		}
	}
	if r := w.get(w.url + "/authorize?" + authRequest().Encode() + "&state=again"); r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
		t.Errorf("repeated parameter: status %d", r.status)
	}
}

func TestAuthorizeTellsTheClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		form url.Values
		code string
	}{
		"no response type":       {authRequest("response_type", ""), "unsupported_response_type"},
		"implicit":               {authRequest("response_type", "token"), "unsupported_response_type"},
		"fragment":               {authRequest("response_mode", "fragment"), "invalid_request"},
		"no PKCE":                {authRequest("code_challenge", "", "code_challenge_method", ""), "invalid_request"},
		"plain PKCE":             {authRequest("code_challenge_method", "plain"), "invalid_request"},
		"default PKCE is plain":  {authRequest("code_challenge_method", ""), "invalid_request"},
		"short challenge":        {authRequest("code_challenge", "abc"), "invalid_request"},
		"no resource":            {authRequest("resource", ""), "invalid_target"},
		"unknown resource":       {authRequest("resource", notes+"/"), "invalid_target"},
		"unknown scope":          {authRequest("resource", files, "scope", "read admin"), "invalid_scope"},
		"malformed scope":        {authRequest("scope", `a"b`), "invalid_scope"},
		"details of another":     {authRequest("authorization_details", `[{"type":"mcp","server":"files"}]`), "invalid_authorization_details"},
		"details of other type":  {authRequest("authorization_details", `[{"type":"payment"}]`), "invalid_authorization_details"},
		"details not understood": {authRequest("authorization_details", `[{"type":"mcp","tool":["x"]}]`), "invalid_authorization_details"},
		"none and login":         {authRequest("prompt", "none login"), "invalid_request"},
		"bad max_age":            {authRequest("max_age", "-1"), "invalid_request"},
		"bad dpop_jkt":           {authRequest("dpop_jkt", "x"), "invalid_request"},
		"request object":         {authRequest("request", "x.y.z"), "request_not_supported"},
	} {
		q := w.authorize(c.form)
		if q.Get("error") != c.code || q.Get("iss") != w.url || q.Get("state") != "st&1" || q.Has("code") {
			t.Errorf("%s: %v, want %s", name, q, c.code)
		}
	}
	w.cfg.Clients[0].RedirectURIs = []string{back}
	r := w.get(w.url + "/authorize?" + authRequest().Encode() + "&resource=" + url.QueryEscape(files))
	if r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
		t.Errorf("two resources: status %d, location %q", r.status, r.header.Get("Location"))
	}
}

func TestLoopbackPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	q := w.authorize(authRequest("client_id", "native", "redirect_uri", "http://127.0.0.1:49152/cb"))
	if q.Get("code") == "" {
		t.Fatalf("a native client may choose its port: %v", q)
	}
	r := w.post("token", redeemForm(q.Get("code"), "client_id", "native", "redirect_uri", "http://127.0.0.1:49153/cb"))
	w.wants("another port at the token endpoint", r, 400, "invalid_grant", "redirect_mismatch")
}

func TestLoginAndConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	user := w.who.user
	w.who.user, w.who.consent = nil, ""
	r := w.get(w.url + "/authorize?" + authRequest().Encode())
	_, path, ok := strings.Cut(r.body, "log in, then go to ")
	if r.status != http.StatusOK || !ok || !strings.HasPrefix(path, "/issuer/authorize?continue=") {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	w.who.user = user
	host := strings.TrimSuffix(w.url, "/issuer")
	r = w.get(host + path)
	if _, again, ok := strings.Cut(r.body, "consent, then go to "); !ok || again != path {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	w.who.consent = "yes"
	if q := w.location(w.get(host + path)); q.Get("code") == "" {
		t.Fatalf("no code: %v", q)
	}
	if r := w.get(host + path); r.status != http.StatusBadRequest || r.header.Get("Location") != "" {
		t.Errorf("a finished request goes on: %d", r.status)
	}
	w.who.consent = "no"
	if q := w.authorize(authRequest()); q.Get("error") != "access_denied" {
		t.Errorf("the person refused: %v", q)
	}
	got := w.who.asked[len(w.who.asked)-1]
	if got.Resource != notes || got.Server != "notes" || got.RedirectURI != back || got.Client.Name != "App" || got.User.Subject != "ada" {
		t.Errorf("question: %+v", got)
	}
	w.who.consent = ""
	if q := w.authorize(authRequest("prompt", "none")); q.Get("error") != "consent_required" {
		t.Errorf("prompt none without consent: %v", q)
	}
	w.who.user = nil
	if q := w.authorize(authRequest("prompt", "none")); q.Get("error") != "login_required" {
		t.Errorf("prompt none without login: %v", q)
	}
	r = w.get(w.url + "/authorize?" + authRequest().Encode())
	_, path, _ = strings.Cut(r.body, "log in, then go to ")
	w.clock.move(11 * time.Minute)
	w.who.user = user
	if r := w.get(host + path); r.status != http.StatusBadRequest {
		t.Errorf("a request that waited too long goes on: %d", r.status)
	}
}

func TestLoginNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		pairs []string
		code  string // error
		age   time.Duration
	}{
		"recent enough":     {[]string{"max_age", "7200"}, "", 2 * time.Hour},
		"too old":           {[]string{"max_age", "60"}, "login_required", time.Minute},
		"login":             {[]string{"prompt", "login"}, "login_required", 0},
		"stronger":          {[]string{"acr_values", "urn:phr"}, "unmet_authentication_requirements", -1},
		"one of two":        {[]string{"acr_values", "urn:phr urn:pwd"}, "", -1},
		"zero means log in": {[]string{"max_age", "0"}, "login_required", 0},
	} {
		q := w.authorize(authRequest(c.pairs...))
		if q.Get("error") != c.code || (c.code == "") != q.Has("code") {
			t.Errorf("%s: %v, want error %q", name, q, c.code)
		}
		need := w.who.needs[len(w.who.needs)-1]
		if (need.MaxAge == nil) != (c.age < 0) || need.MaxAge != nil && *need.MaxAge != c.age {
			t.Errorf("%s: need %+v", name, need)
		}
	}
	// A login made for the request satisfies it.
	w.who.user.AuthTime = w.clock.now()
	if q := w.authorize(authRequest("prompt", "login")); q.Get("code") == "" {
		t.Errorf("just logged in: %v", q)
	}
}

func TestCodeIsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		pairs  []string
		wait   time.Duration
		code   string
		reason warder.Reason
	}{
		"other client":         {[]string{"client_id", "native"}, 0, "invalid_grant", "code_of_another"},
		"other redirect":       {[]string{"redirect_uri", "https://evil.example/callback"}, 0, "invalid_grant", "redirect_mismatch"},
		"other verifier":       {[]string{"code_verifier", verifier + "x"}, 0, "invalid_grant", "pkce_mismatch"},
		"no verifier":          {[]string{"code_verifier", ""}, 0, "invalid_grant", "pkce_mismatch"},
		"challenge as itself":  {[]string{"code_verifier", challenge(verifier)}, 0, "invalid_grant", "pkce_mismatch"},
		"other resource":       {[]string{"resource", files}, 0, "invalid_target", "resource_mismatch"},
		"wider scope":          {[]string{"scope", "a b c"}, 0, "invalid_scope", "scope_wider"},
		"too late":             {nil, time.Minute, "invalid_grant", "code_expired"},
		"grant not offered":    {[]string{"grant_type", "password"}, 0, "unsupported_grant_type", "unsupported_grant_type"},
		"secret of a public":   {[]string{"client_secret", "x"}, 0, "invalid_client", "auth_method"},
		"details out of place": {[]string{"authorization_details", `[{"type":"mcp","server":"files"}]`}, 0, "invalid_authorization_details", "details_of_another"},
	} {
		code := w.code()
		w.clock.move(c.wait)
		status := 400
		if c.code == "invalid_client" {
			status = 401
		}
		w.wants(name, w.post("token", redeemForm(code, c.pairs...)), status, c.code, c.reason)
	}
	// OAuth 2.1 does not send redirect_uri any more, and less scope is fine.
	if r := w.post("token", redeemForm(w.code(), "redirect_uri", "", "scope", "a", "resource", "")); r.status != 200 || r.text("scope") != "a" {
		t.Errorf("less: %d %s", r.status, r.body)
	}
}

func TestCodeIsForOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	code := w.code()
	first := w.post("token", redeemForm(code))
	if first.status != 200 {
		t.Fatal(first.body)
	}
	w.wants("again", w.post("token", redeemForm(code)), 400, "invalid_grant", "code_reused")
	if _, f := w.is.verify(t.Context(), first.text("access_token")); f == nil || f.reason != "token_revoked" {
		t.Errorf("the access token still works: %v", f)
	}
	w.wants("its refresh token", w.post("token", refreshForm(first.text("refresh_token"))), 400, "invalid_grant", "refresh_dead")

	code = w.code()
	var wg sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for range 16 {
		wg.Go(func() {
			if r := w.post("token", redeemForm(code)); r.status == 200 {
				mu.Lock()
				good++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if good > 1 {
		t.Errorf("%d of 16 got a token for one code", good)
	}
	// A failed attempt of the right client uses the code up: there is one guess, not many.
	code = w.code()
	_ = w.post("token", redeemForm(code, "code_verifier", verifier+"x"))
	w.wants("after a wrong guess", w.post("token", redeemForm(code)), 400, "invalid_grant", "code_reused")
}

func TestNoOpenRedirector(t *testing.T) {
	t.Parallel()
	w, p := documents(t)
	at := func(pairs ...string) reply {
		return w.get(w.url + "/authorize?" + authRequest(append([]string{"client_id", docID}, pairs...)...).Encode())
	}
	user := w.who.user
	w.who.user = nil
	for name, pairs := range map[string][]string{
		"a fault": {"response_type", "token"}, "nobody logged in": {"prompt", "none"}, "unknown server": {"resource", notes + "x"},
	} {
		if r := at(pairs...); r.header.Get("Location") != "" || r.status != 400 {
			t.Errorf("%s: anybody's client sends browsers to %q (%d)", name, r.header.Get("Location"), r.status)
		}
	}
	w.who.user, w.who.consent = user, ""
	if r := at("prompt", "none"); r.header.Get("Location") != "" {
		t.Errorf("no consent: %q", r.header.Get("Location"))
	}
	// Whoever has refused has seen where the answer goes; and a loopback address is the person's own.
	w.who.consent = "no"
	if q := w.location(at()); q.Get("error") != "access_denied" {
		t.Errorf("refused: %v", q)
	}
	p.doc("redirect_uris", []string{"http://127.0.0.1/cb"})
	w.clock.move(2 * time.Minute)
	if q := w.location(at("redirect_uri", "http://127.0.0.1:1/cb", "response_type", "token")); q.Get("error") != "unsupported_response_type" {
		t.Errorf("loopback: %v", q)
	}
}
