package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/warder-mcp/warder/admin"
)

// browseCommand is a person at a browser: browse LINK ADDRESS logs in with the one-time link in a file of
// JSON, opens the address that a login printed into another file, consents, and lets the browser go back.
func browseCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: browse LINK ADDRESS")
	}
	var link admin.Link
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &link))
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	b := &browser{ts: ts, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	b.open(link.URL, 1) // the page after it can log out
	var address string
	for range 100 {
		text, err := os.ReadFile(ts.MkAbs(args[1]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if address = regexp.MustCompile(`http://\S+/authorize\?\S+`).FindString(string(text)); address != "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if address == "" {
		ts.Fatalf("no address was printed within 5 s")
	}
	b.open(address, 4)
	if !strings.Contains(b.page, "close this window") {
		ts.Fatalf("the login did not come back: %s at %s", b.page, b.at)
	}
}

// A browser submits every form with a button that says yes.
type browser struct {
	ts   *testscript.TestScript
	http *http.Client
	page string
	at   *url.URL
}

var (
	formTag  = regexp.MustCompile(`(?s)<form[^>]*>.*?</form>`)
	inputTag = regexp.MustCompile(`<(?:input|button)[^>]*>`)
	refresh  = regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]*)"`)
	attr     = regexp.MustCompile(`([a-z]+)="([^"]*)"`)
)

func attrs(tag string) map[string]string {
	out := map[string]string{}
	for _, m := range attr.FindAllStringSubmatch(tag, -1) {
		out[m[1]] = html.UnescapeString(m[2])
	}
	return out
}

// open follows an address, and submits at most so many forms.
func (b *browser) open(address string, forms int) {
	b.get(address)
	for range forms {
		_, main, _ := strings.Cut(b.page, "<main") // in front of it one logs out
		form := formTag.FindString(main)
		if next := refresh.FindStringSubmatch(b.page); next != nil {
			target, err := b.at.Parse(html.UnescapeString(next[1]))
			b.ts.Check(err)
			b.get(target.String())
			continue
		}
		if form == "" {
			return
		}
		if err := b.submit(form); err != nil {
			b.ts.Fatalf("%v: %s", err, b.page)
		}
	}
}

func (b *browser) submit(form string) error {
	head, _, _ := strings.Cut(form, ">")
	target, err := b.at.Parse(attrs(head)["action"])
	if err != nil {
		return err
	}
	values := url.Values{}
	for _, tag := range inputTag.FindAllString(form, -1) {
		a := attrs(tag)
		no := regexp.MustCompile(`^(deny|no|cancel|refuse)$`).MatchString(a["value"])
		if a["name"] == "" || no || a["type"] == "radio" && values.Has(a["name"]) {
			continue
		}
		values.Add(a["name"], a["value"])
	}
	r, err := http.NewRequest(http.MethodPost, target.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.at.Scheme+"://"+b.at.Host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(r)
}

func (b *browser) get(address string) {
	r, err := http.NewRequest(http.MethodGet, address, nil)
	b.ts.Check(err)
	b.ts.Check(b.do(r))
}

func (b *browser) do(r *http.Request) error {
	resp, err := b.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	b.page, b.at = string(body), resp.Request.URL
	if resp.StatusCode >= http.StatusBadRequest {
		return errors.Join(err, fmt.Errorf("%s: %s", r.URL.Path, resp.Status))
	}
	return err
}
