package replicas

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/warder-mcp/warder/admin"
	"github.com/warder-mcp/warder/internal/jose"
)

// A person is a local user at a browser, logged in with a one-time link at one gateway.
type person struct {
	f       *fleet
	browser *http.Client
	link    string // the one-time link
	back    *url.URL
}

// callback is where the client wants the browser to be sent; nothing listens there.
const callback = "http://127.0.0.1:33419/callback"

// login logs a user in at a gateway.
func (f *fleet) login(g *gate, name string) *person {
	t := f.t
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &person{f: f}
	p.browser = &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			p.back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}}
	p.at(g)
	p.link = operate[admin.Link](g, "links.create", nil, admin.LinkRequest{User: name}).URL
	page := p.open(http.MethodGet, p.link, nil)
	action := regexp.MustCompile(`action="([^"]+/login/link)"`).FindStringSubmatch(page)
	if action == nil {
		t.Fatalf("the page of the one-time link has no form: %s", page)
	}
	p.open(http.MethodPost, f.name+action[1], hidden(page))
	return p
}

// at has the browser reach another gateway from now on.
func (p *person) at(g *gate) { p.browser.Transport = g.transport() }

func (p *person) open(method, address string, form url.Values) string {
	t := p.f.t
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", p.f.name)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := p.browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 400 {
		t.Fatalf("%s %s: %d %v %s", method, address, resp.StatusCode, err, page)
	}
	return string(page)
}

// hidden are the fields of a form that its page fills in.
func hidden(page string) url.Values {
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)">`).FindAllStringSubmatch(page, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

const verifier = "a-verifier-of-the-test-which-is-long-enough-0123456789"

// code authorizes the client "app" and returns its authorization code.
func (p *person) code(resource string) string {
	t := p.f.t
	t.Helper()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "resource": {resource}, "state": {"st"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "scope": {"offline_access"},
	}
	p.back = nil
	page := p.open(http.MethodGet, p.f.name+"/issuer/authorize?"+q.Encode(), nil)
	if p.back == nil {
		action := regexp.MustCompile(`action="([^"]+/consent)"`).FindStringSubmatch(page)
		if action == nil {
			t.Fatalf("the page does not ask whether the client may: %s", page)
		}
		form := hidden(page)
		form.Set("decision", "allow")
		page = p.open(http.MethodPost, p.f.name+action[1], form)
		if next := regexp.MustCompile(`http-equiv="refresh" content="0; url=([^"]+)"`).FindStringSubmatch(page); next != nil && p.back == nil {
			address := html.UnescapeString(next[1])
			if strings.HasPrefix(address, "/") {
				address = p.f.name + address
			}
			if u, err := url.Parse(address); err == nil && strings.HasPrefix(address, callback) {
				p.back = u
			} else {
				p.open(http.MethodGet, address, nil)
			}
		}
	}
	if p.back == nil || p.back.Query().Get("code") == "" {
		t.Fatalf("no code: %v %s", p.back, page)
	}
	return p.back.Query().Get("code")
}

// tokens are the answer of a token endpoint.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string `json:"error"`
	Active  bool   `json:"active"`
	status  int
	proof   string
}

// ask posts a form to an endpoint of the authorization server at a gateway; prover may be nil.
func (f *fleet) ask(g *gate, endpoint string, form url.Values, prover *jose.Prover) tokens {
	t := f.t
	t.Helper()
	address := f.name + "/issuer/" + endpoint
	h := f.client(g, "").http
	var out tokens
	nonce := ""
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if prover != nil {
			if out.proof, err = prover.Proof(http.MethodPost, address, "", nonce); err != nil {
				t.Fatal(err)
			}
			req.Header.Set("DPoP", out.proof)
		}
		resp, err := h.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // read to its end
		if err != nil {
			t.Fatal(err)
		}
		out.status, out.Error = resp.StatusCode, ""
		if len(body) > 0 {
			if err := json.Unmarshal(body, &out); err != nil {
				t.Fatalf("%s answered %d %s", endpoint, resp.StatusCode, body)
			}
		}
		if out.Error != "use_dpop_nonce" {
			return out
		}
		nonce = resp.Header.Get("Dpop-Nonce")
	}
	return out
}
