package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A person sits at a browser without JavaScript: cookies, redirects and forms.
type person struct {
	name, password string
	provider       string // button to press on the login page of Warder; empty: none
	leaves         bool   // is about to sign out; otherwise does not press that button
	decision       string // button to press where there are several; empty: allow
	browser        *http.Client
	pages          []string // titles of the pages that were shown
}

func newPerson(t *testing.T, name, password, provider string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{name: name, password: password, provider: provider, browser: &http.Client{
		Jar: jar, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

var (
	titleOf = regexp.MustCompile(`<title>([^<]*)</title>`)
	onward  = regexp.MustCompile(`http-equiv="refresh" content="0; url=([^"]+)"`)
	formOf  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputOf = regexp.MustCompile(`(?s)<(?:input|button)\b([^>]*)>`)
	attrOf  = regexp.MustCompile(`([\w-]+)="([^"]*)"`)
)

var errNoWay = errors.New("the page offers no way on")

// A refusal is a page with which a site ended the way.
type refusal struct {
	status int
	page   string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %.600s", r.status, words(r.page)) }

// words is the text of a page.
func words(page string) string {
	if _, main, ok := strings.Cut(page, "<main"); ok {
		page = main
	}
	text := regexp.MustCompile(`(?s)<style.*?</style>|<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(text)), " ")
}

// walk follows the way from an address until the browser is sent to one that begins with end, whose query
// it returns; with an empty end until a page offers no form.
func (p *person) walk(ctx context.Context, start, end string) (url.Values, string, error) {
	method, address, form := http.MethodGet, start, url.Values(nil)
	for range 40 {
		if end != "" && strings.HasPrefix(address, end) {
			u, err := url.Parse(address)
			if err != nil {
				return nil, "", err
			}
			return u.Query(), "", nil
		}
		status, to, page, err := p.open(ctx, method, address, form)
		if err != nil {
			return nil, "", err
		}
		if to != "" {
			method, address, form = http.MethodGet, to, nil
			continue
		}
		if status != http.StatusOK {
			return nil, page, &refusal{status, page}
		}
		next, values, found := p.choose(page)
		switch {
		case found:
			method, form = http.MethodPost, values
			if address, err = resolve(address, next); err != nil {
				return nil, page, err
			}
		case end == "":
			return nil, page, nil
		default:
			return nil, page, fmt.Errorf("%s: %w: %.300s", address, errNoWay, words(page))
		}
	}
	return nil, "", errors.New("the way has no end")
}

func resolve(base, ref string) (string, error) {
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	u, err := b.Parse(html.UnescapeString(ref))
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// open makes one request. to is where the answer sends the browser.
func (p *person) open(ctx context.Context, method, address string, form url.Values) (status int, to, page string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := p.browser.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, "", "", err
	}
	page = string(body)
	if m := titleOf.FindStringSubmatch(page); m != nil {
		p.pages = append(p.pages, m[1])
	}
	if location := resp.Header.Get("Location"); location != "" && resp.StatusCode/100 == 3 {
		to, err = resolve(address, location)
		return resp.StatusCode, to, page, err
	}
	if m := onward.FindStringSubmatch(page); m != nil {
		to, err = resolve(address, m[1])
	}
	return resp.StatusCode, to, page, err
}

// choose fills in the form of a page as this person would.
func (p *person) choose(page string) (action string, values url.Values, found bool) {
	for _, m := range formOf.FindAllStringSubmatch(page, -1) {
		attrs := attributes(m[1])
		if strings.HasSuffix(attrs["action"], "/logout") != p.leaves || !strings.EqualFold(attrs["method"], "post") {
			continue
		}
		values, mine := url.Values{}, true
		for _, in := range inputOf.FindAllStringSubmatch(m[2], -1) {
			a := attributes(in[1])
			name, value := a["name"], html.UnescapeString(a["value"])
			switch {
			case name == "login":
				value = p.name
			case name == "password":
				value = p.password
			case name == "provider":
				mine = value == p.provider
			case name == "decision" && value != cmp.Or(p.decision, "allow"):
				continue
			}
			if name != "" {
				values.Set(name, value)
			}
		}
		if attrs["id"] == "op.logoutForm" { // oidc-provider has its buttons beside the form
			values.Set("logout", "yes")
		}
		if mine {
			return attrs["action"], values, true
		}
	}
	return "", nil, false
}

func attributes(text string) map[string]string {
	out := map[string]string{}
	for _, m := range attrOf.FindAllStringSubmatch(text, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// enter logs a local user in with a one-time link.
func (p *person) enter(ctx context.Context, g *gate, groups string) error {
	out, err := g.Run(ctx, "login", "link", p.name, "--groups", groups)
	if err != nil {
		return err
	}
	link := regexp.MustCompile(`https?://\S+/login/link/\S+`).Find(out)
	if link == nil {
		return fmt.Errorf("login link printed %q", out)
	}
	status, _, page, err := p.open(ctx, http.MethodGet, string(link), nil)
	if err != nil {
		return err
	}
	action, values, found := p.choose(page)
	if status != http.StatusOK || !found {
		return &refusal{status, page}
	}
	to, err := resolve(string(link), action)
	if err != nil {
		return err
	}
	status, _, page, err = p.open(ctx, http.MethodPost, to, values)
	if err == nil && status/100 > 3 {
		return &refusal{status, page}
	}
	return err
}
