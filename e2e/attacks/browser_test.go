package attacks

import (
	"crypto/rand"
	"crypto/sha256"
	"html"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"

	"github.com/warder-mcp/warder/issuer/login"
)

// A browser is one person's: it keeps cookies and says where requests come from, as browsers do.
type browser struct {
	w    *world
	http *http.Client
	last answer
}

func (w *world) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	c := *w.http
	c.Jar = jar
	return &browser{w: w, http: &c}
}

// login returns a browser in which a local user is logged in.
func (w *world) login(user string, groups ...string) *browser {
	w.t.Helper()
	b := w.browser()
	link, err := w.app.Link(w.t.Context(), login.Invite{User: user, Groups: append([]string{}, groups...)})
	if err != nil {
		w.t.Fatal(err)
	}
	b.get(link)
	if got := b.submit("/login/link", nil); got.status != http.StatusOK {
		w.t.Fatalf("log in %s: %s", user, got)
	}
	return b
}

// get opens an address, following redirects and onward pages within the gateway.
func (b *browser) get(address string) answer {
	b.w.t.Helper()
	return b.follow(b.w.request(http.MethodGet, b.absolute(address), ""))
}

func (b *browser) absolute(address string) string {
	if strings.HasPrefix(address, "/") {
		return b.w.base + address
	}
	return address
}

// do sends one request with the cookies of the browser.
func (b *browser) do(req *http.Request) answer {
	b.w.t.Helper()
	plain := b.w.http
	b.w.http = b.http
	defer func() { b.w.http = plain }()
	b.last = b.w.do(req)
	return b.last
}

func (b *browser) follow(req *http.Request) answer {
	b.w.t.Helper()
	got := b.do(req)
	for range 6 {
		next := got.header.Get("Location")
		if m := refresh().FindStringSubmatch(got.text); m != nil {
			next = html.UnescapeString(m[1])
		}
		if next == "" || !strings.HasPrefix(b.absolute(next), b.w.base+"/") {
			return got
		}
		got = b.do(b.w.request(http.MethodGet, b.absolute(next), ""))
	}
	return got
}

func refresh() *regexp.Regexp {
	return regexp.MustCompile(`http-equiv="refresh" content="0; url=([^"]*)"`)
}

// fields are the hidden fields of the form on the page that is sent to a path ending so.
func (b *browser) fields(path string) url.Values {
	out := url.Values{}
	for part := range strings.SplitSeq(b.last.text, "<form") {
		action, _, ok := strings.Cut(part, ">")
		if !ok || !strings.Contains(action, path+`"`) {
			continue
		}
		part, _, _ = strings.Cut(part, "</form>")
		for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(part, -1) {
			out.Set(m[1], html.UnescapeString(m[2]))
		}
		break
	}
	return out
}

// submit sends the form on the page that goes to a path, with further fields, as the page itself would.
func (b *browser) submit(path string, more url.Values) answer {
	b.w.t.Helper()
	f := b.fields(path)
	if len(f) == 0 {
		b.w.t.Fatalf("no form for %s on %s", path, b.last)
	}
	maps.Copy(f, more)
	return b.follow(b.form(path, f))
}

// form is the request of a form of the site.
func (b *browser) form(path string, f url.Values) *http.Request {
	b.w.t.Helper()
	req := b.w.request(http.MethodPost, b.w.base+"/issuer"+path, f.Encode())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.w.base)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	return req
}

// A flow is an authorization code flow of a client, as the client itself would run it.
type flow struct {
	ask      url.Values
	verifier string
}

func (w *world) flow(client, redirect string) *flow {
	verifier := rand.Text() + rand.Text()
	return &flow{verifier: verifier, ask: url.Values{
		"response_type": {"code"}, "client_id": {client}, "redirect_uri": {redirect}, "state": {rand.Text()},
		"code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"}, "resource": {w.resource("a")},
	}}
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return b64(sum[:])
}

// address is where the browser is sent.
func (f *flow) address(w *world) string { return w.base + "/issuer/authorize?" + f.ask.Encode() }

// code is the code of the answer, empty if there is none.
func (a answer) code() string {
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		return ""
	}
	return u.Query().Get("code")
}

// granted reports whether an answer carries a code or a token.
func (a answer) granted() bool {
	return a.code() != "" || a.status == http.StatusOK && strings.Contains(a.text, `"access_token"`)
}

// post sends a form to an endpoint of the authorization server.
func (w *world) post(endpoint string, f url.Values, header http.Header) answer {
	w.t.Helper()
	req := w.request(http.MethodPost, w.base+"/issuer/"+endpoint, f.Encode())
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	maps.Copy(req.Header, header)
	return w.do(req)
}

// federate goes where an onward page leads, to a provider and back.
func (b *browser) federate() answer {
	b.w.t.Helper()
	for range 4 {
		m := refresh().FindStringSubmatch(b.last.text)
		if m == nil {
			break
		}
		b.through(html.UnescapeString(m[1]), nil)
	}
	return b.last
}
