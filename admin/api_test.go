package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/warder-mcp/warder"
)

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"owners"}, func(*warder.Principal) {})
	for name, header := range map[string]http.Header{
		"cross-site":      {"Sec-Fetch-Site": {"cross-site"}},
		"same-site":       {"Sec-Fetch-Site": {"same-site"}},
		"other origin":    {"Origin": {"https://evil.example"}},
		"null origin":     {"Origin": {"null"}},
		"other port":      {"Origin": {"https://admin.example:444"}},
		"a cookie does":   {"Origin": {"https://evil.example"}, "Cookie": {"session=1"}},
		"simple form":     {"Origin": {"https://evil.example"}, "Content-Type": {"text/plain"}},
		"websocket style": {"Origin": {"http://admin.example.evil.example"}},
	} {
		for _, r := range []*http.Request{as("t", http.MethodGet, "/status", ""), as("t", http.MethodPost, "/revocations", `{"kind":"agent","value":"a"}`), request0(http.MethodPost, "/break-glass", `{"code":"x","reason":"a good reason"}`)} {
			maps.Copy(r.Header, header)
			code, body, answered := send(rig.api, r)
			if code != http.StatusForbidden || !strings.Contains(body, codeCrossOrigin) {
				t.Errorf("%s %s: %d %s, want 403 cross_origin", name, r.URL.Path, code, body)
			}
			for k := range answered {
				if strings.HasPrefix(k, "Access-Control-") {
					t.Errorf("%s: answered with %s", name, k)
				}
			}
		}
	}
	if done := rig.services.done(); len(done) != 0 {
		t.Errorf("%v was done for a page of another origin", done)
	}
	preflight := as("t", http.MethodOptions, "/revocations", "")
	if code, _, h := send(rig.api, preflight); code != http.StatusMethodNotAllowed || h.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight: %d, want 405 and no permission", code)
	}
	same := as("t", http.MethodGet, "/status", "")
	same.Header.Set("Origin", "https://admin.example")
	same.Header.Set("Sec-Fetch-Site", "same-origin")
	if code, body, _ := send(rig.api, same); code != http.StatusOK {
		t.Errorf("near miss: %d %s, want 200", code, body)
	}
}

// TestCookiesAreNoCredential proves that what a browser sends by itself opens nothing.
func TestCookiesAreNoCredential(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"owners"}, func(*warder.Principal) {})
	r := request0(http.MethodGet, "/status", "")
	r.AddCookie(&http.Cookie{Name: "token", Value: "t"})
	r.AddCookie(&http.Cookie{Name: "Authorization", Value: "Bearer t"})
	if code, p := ask(rig.api, r); code != http.StatusUnauthorized {
		t.Errorf("%d %s, want 401", code, p.Code)
	}
	r = as("t", http.MethodGet, "/status", "")
	r.Header.Add("Authorization", "Bearer t")
	if code, p := ask(rig.api, r); code != http.StatusBadRequest {
		t.Errorf("two Authorization headers: %d %s, want 400", code, p.Code)
	}
	r = request0(http.MethodGet, "/status?access_token=t", "")
	if code, p := ask(rig.api, r); code != http.StatusUnauthorized {
		t.Errorf("token in the query: %d %s, want 401", code, p.Code)
	}
}

func TestAnswersSayHowToLogIn(t *testing.T) {
	rig := newRig(t, newClock())
	_, _, h := send(rig.api, request0(http.MethodGet, "/status", ""))
	if got, want := h.Get("WWW-Authenticate"), `Bearer resource_metadata="https://admin.example/.well-known/oauth-protected-resource/admin/v1"`; got != want {
		t.Errorf("challenge %q, want %q", got, want)
	}
	_, _, h = send(rig.api, as("nobody", http.MethodGet, "/status", ""))
	if got := h.Get("WWW-Authenticate"); !strings.Contains(got, `error="invalid_token"`) {
		t.Errorf("challenge %q, want invalid_token", got)
	}
	if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v, want no-store and nosniff", h)
	}
	w := httptest.NewRecorder()
	rig.api.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, metadataURL(audience), nil))
	var m protectedResource
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || m.Resource != audience || len(m.Servers) != 1 || m.Servers[0] != "https://idp.example" {
		t.Errorf("metadata %s %v", w.Body, err)
	}
	rig.providerDown()
	if code, p := ask(rig.api, as("t", http.MethodGet, "/status", "")); code != http.StatusServiceUnavailable || p.Code != codeUnavailable {
		t.Errorf("provider down: %d %s, want 503", code, p.Code)
	}
}

func TestUnroutedIsAProblem(t *testing.T) {
	rig := newRig(t, newClock())
	for _, tc := range []struct {
		method, path string
		code         int
		allow        string
	}{
		{http.MethodGet, "/nothing", http.StatusNotFound, ""},
		{http.MethodDelete, "/grants", http.StatusMethodNotAllowed, "GET, POST"},
		{http.MethodPost, "/status", http.StatusMethodNotAllowed, "GET"},
		{"TRACE", "/status", http.StatusMethodNotAllowed, "GET"},
	} {
		code, body, h := send(rig.api, request0(tc.method, tc.path, ""))
		if code != tc.code || h.Get("Allow") != tc.allow || h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d allow %q %s", tc.method, tc.path, code, h.Get("Allow"), body)
		}
	}
}

func TestIfMatch(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"owners"}, func(p *warder.Principal) { p.ACR, p.AuthTime = "phr", newClock().now() })
	_, _, h := send(rig.api, as("t", http.MethodGet, "/agents/bot", ""))
	tag := h.Get("Etag")
	if len(tag) < 10 {
		t.Fatalf("ETag %q", tag)
	}
	put := func(match string) *http.Request {
		r := as("t", http.MethodPut, "/agents/bot", `{"owner":"carol"}`)
		r.Header.Set("If-Match", match)
		return r
	}
	if code, p := ask(rig.api, put(`"000000000000000000000000"`)); code != http.StatusPreconditionFailed || p.Code != codeVersion {
		t.Errorf("another state: %d %s, want 412", code, p.Code)
	}
	if code, p := ask(rig.api, put("*")); code != http.StatusPreconditionFailed {
		t.Errorf("*: %d %s, want 412", code, p.Code)
	}
	if done := rig.services.done(); len(done) != 0 {
		t.Errorf("%v was done", done)
	}
	if code, p := ask(rig.api, put(tag)); code != http.StatusOK {
		t.Errorf("the same state: %d %s, want 200", code, p.Code)
	}
	r := as("t", http.MethodPost, "/keys/rotate", "")
	r.Header.Set("If-Match", tag)
	if code, p := ask(rig.api, r); code != http.StatusBadRequest {
		t.Errorf("where it means nothing: %d %s, want 400", code, p.Code)
	}
}

func TestPaging(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"staff"}, func(*warder.Principal) {})
	get := func(q string) Page[Definition] {
		_, body, _ := send(rig.api, as("t", http.MethodGet, "/tools?"+q, ""))
		var p Page[Definition]
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := get("limit=2")
	if len(first.Items) != 2 || first.Items[0].Name != "a" || first.Next == "" {
		t.Fatalf("first page %+v", first)
	}
	last := get("limit=2&after=" + url.QueryEscape(first.Next))
	if len(last.Items) != 1 || last.Items[0].Name != "c" || last.Next != "" {
		t.Errorf("last page %+v", last)
	}
	for _, q := range []string{"limit=0", "limit=501", "limit=x", "limit=-1", "nosuch=1", "limit=1&limit=2", "state=bad", "after=" + strings.Repeat("x", 600)} {
		if code, p := ask(rig.api, as("t", http.MethodGet, "/tools?"+q, "")); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", q, code, p.Code)
		}
	}
}

func TestRatesAreBounded(t *testing.T) {
	c := newClock()
	rig := newRig(t, c)
	limited := 0
	for range 40 {
		if code, _ := ask(rig.api, as("guess", http.MethodGet, "/status", "")); code == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 25 {
		t.Errorf("%d of 40 guesses were refused, want nearly all after the first 10", limited)
	}
	c.add(10 * time.Minute)
	rig.login("t", []string{"staff"}, func(*warder.Principal) {})
	limited = 0
	for range 100 {
		if code, _ := ask(rig.api, as("t", http.MethodGet, "/status", "")); code == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited < 30 {
		t.Errorf("%d of 100 requests of one operator were refused, want those after the first 60", limited)
	}
}

// TestRevocationsDoNotWaitForTheTrail proves that the stop works when the disk is full.
func TestRevocationsDoNotWaitForTheTrail(t *testing.T) {
	rig := newRig(t, newClock())
	rig.trail.broken = errors.New("disk full")
	if code, p := ask(rig.api, asLocal(http.MethodPost, "/revocations", `{"kind":"all","value":"*"}`)); code != http.StatusOK {
		t.Errorf("revoke all: %d %s, want it done", code, p.Code)
	}
	if code, p := ask(rig.api, asLocal(http.MethodPost, "/grants/other/approve", "")); code != http.StatusServiceUnavailable {
		t.Errorf("approve: %d %s, want 503", code, p.Code)
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	rig := newRig(t, newClock())
	rig.services.broken = errors.New("password=hunter2 at db.internal")
	code, body, _ := send(rig.api, asLocal(http.MethodPost, "/agents/bot/disable", ""))
	if code != http.StatusInternalServerError || strings.Contains(body, "hunter2") || !strings.Contains(body, `"id"`) {
		t.Errorf("%d %s, want an id and no cause", code, body)
	}
	rig.services.broken = nil
	if code, p := ask(rig.api, asLocal(http.MethodGet, "/grants/absent", "")); code != http.StatusNotFound || p.Code != codeNotFound {
		t.Errorf("absent: %d %s, want 404", code, p.Code)
	}
	if code, p := ask(rig.api, asLocal(http.MethodPost, "/approvals/x/approve", `{"nonce":"stale"}`)); code != http.StatusUnprocessableEntity || p.Code != codeRefused {
		t.Errorf("stale nonce: %d %s, want 422", code, p.Code)
	}
}

func TestSocketHearsOnlyWhomTheKernelNames(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"owners"}, func(*warder.Principal) {})
	r := request0(http.MethodGet, "/status", "")
	r = r.WithContext(contextWithPeer(r, caller{err: errors.New("user 1000 does not run the gateway")}))
	if code, p := ask(rig.api, r); code != http.StatusForbidden {
		t.Errorf("another user: %d %s, want 403", code, p.Code)
	}
	r.Header.Set("Authorization", "Bearer t")
	if code, p := ask(rig.api, r); code != http.StatusForbidden {
		t.Errorf("another user with a token: %d %s, want 403", code, p.Code)
	}
	r = request0(http.MethodGet, "/status", "")
	r.RemoteAddr = "@"
	r.Header.Set("X-Forwarded-For", "socket")
	if code, p := ask(rig.api, r); code != http.StatusUnauthorized {
		t.Errorf("somebody who says to be the socket: %d %s, want 401", code, p.Code)
	}
}

// TestLocalPrincipalsComeFromTheSocketOnly proves that no issuer can name a local user.
func TestLocalPrincipalsComeFromTheSocketOnly(t *testing.T) {
	rig := newRig(t, newClock())
	rig.login("t", []string{"owners"}, func(p *warder.Principal) { p.Issuer = localIssuer })
	if code, p := ask(rig.api, as("t", http.MethodGet, "/status", "")); code != http.StatusUnauthorized {
		t.Errorf("%d %s, want 401", code, p.Code)
	}
}

func TestDocumentDescribesEveryOperation(t *testing.T) {
	body, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Document()
	if err != nil || !bytes.Equal(body, again) {
		t.Errorf("the document is not the same twice: %v", err)
	}
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi %q", doc.OpenAPI)
	}
	rig := newRig(t, newClock())
	for i := range rig.api.operations {
		o := &rig.api.operations[i]
		d := doc.Paths[prefix+o.path][strings.ToLower(o.method)]
		if d["operationId"] != o.id || d["summary"] == "" {
			t.Errorf("%s is not described: %v", o.id, d)
		}
		if !o.open && d["x-warder-roles"] == nil {
			t.Errorf("%s: no roles", o.id)
		}
	}
	for ref := range strings.SplitSeq(string(body), `"#/components/schemas/`) {
		name, _, ok := strings.Cut(ref, `"`)
		if ok && strings.HasPrefix(ref, name) && name != "" && !strings.ContainsAny(name, "{\n ") && doc.Components.Schemas[name] == nil {
			t.Errorf("schema %s is not defined", name)
		}
	}
	code, served, _ := send(rig.api, request0(http.MethodGet, "/openapi.json", ""))
	if code != http.StatusOK || served != string(body) {
		t.Errorf("served document: %d, %d bytes, want the same", code, len(served))
	}
}

func TestConfig(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg Config
		bad string
	}{
		"empty":              {Config{}, ""},
		"loopback":           {Config{Address: "127.0.0.1:9444", Audience: "http://127.0.0.1:9444/admin/v1"}, ""},
		"no audience":        {Config{Address: "127.0.0.1:9444"}, "audience"},
		"plaintext":          {Config{Address: "0.0.0.0:9444", Audience: "https://a.example/admin/v1"}, "tls"},
		"plaintext audience": {Config{Audience: "http://a.example/admin/v1"}, "https outside loopback"},
		"no URL":             {Config{Audience: "admin"}, "absolute URL"},
		"query":              {Config{Audience: "https://a.example/?x"}, "absolute URL"},
		"old login":          {Config{Factor: Factor{MaxAge: 6 * time.Minute}}, "max_age"},
		"webhook":            {Config{Alert: Webhook{URL: "http://hooks.example"}}, "https"},
		"webhook secret":     {Config{Alert: Webhook{URL: "https://hooks.example"}}, "alert.secret"},
	} {
		err := tc.cfg.Validate()
		if (err == nil) != (tc.bad == "") || err != nil && !strings.Contains(err.Error(), tc.bad) {
			t.Errorf("%s: %v, want %q", name, err, tc.bad)
		}
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("an API without an audit trail was made")
	}
}

func TestAlertsAreSigned(t *testing.T) {
	key := strings.Repeat("k", minSecret)
	t.Setenv("WARDER_TEST_ALERT", key)
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tries++
		if tries == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		var b bytes.Buffer
		_, _ = b.ReadFrom(r.Body)
		if got, want := r.Header.Get("Webhook-Signature"), "v1,"+sign([]byte(key), r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), b.Bytes()); got != want {
			t.Errorf("signature %q, want %q", got, want)
		}
		if !strings.Contains(b.String(), `"severity":"critical"`) {
			t.Errorf("body %s", b.String())
		}
	}))
	defer server.Close()
	hook := Webhook{URL: server.URL}
	hook.Secret.Env = "WARDER_TEST_ALERT"
	alert := hook.Alerter(server.Client(), newClock().now)
	if err := alert(t.Context(), Alert{ID: "x", Severity: "critical"}); err != nil || tries != 2 {
		t.Errorf("alert: %v after %d tries, want the second to succeed", err, tries)
	}
	t.Setenv("WARDER_TEST_ALERT", "short")
	if err := alert(t.Context(), Alert{ID: "x"}); err == nil {
		t.Error("a short secret was used")
	}
	if (&Webhook{}).Alerter(server.Client(), time.Now) != nil {
		t.Error("a webhook without URL alerts")
	}
	// As Python's hmac module computes it.
	const want = "DbvuQm5boKt0dY4WS8hyrY2Sqc3fxsQx4qLcD8uWbEU="
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqTwUPUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if got := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}
