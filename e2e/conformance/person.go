package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/warder-mcp/warder/e2e/kit"
)

// A person is a local user of the gateway at a browser: logged in with a one-time link, following
// redirects with a cookie jar. The authorization servers of the suite ask nothing.
type person struct {
	gateway *kit.Gateway
	browser *http.Client
}

// newPerson logs the subject of the caller's token in.
func newPerson(ctx context.Context, g *kit.Gateway) (*person, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	p := &person{gateway: g, browser: &http.Client{Jar: jar, Timeout: 20 * time.Second}}
	out, err := g.Run(ctx, "login", "link", "ana")
	if err != nil {
		return nil, err
	}
	address := regexp.MustCompile(`https?://\S+/login/link/\S+`).Find(out)
	if address == nil {
		return nil, fmt.Errorf("login link printed %q", out)
	}
	status, page, err := p.open(ctx, http.MethodGet, string(address), nil)
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("open the one-time link: status %d: %w", status, err)
	}
	action := regexp.MustCompile(`action="([^"]+/login/link)"`).FindStringSubmatch(page)
	if action == nil {
		return nil, errors.New("the page of the one-time link has no form")
	}
	if status, _, err = p.open(ctx, http.MethodPost, g.Base+action[1], hidden(page)); err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("use the one-time link: status %d: %w", status, err)
	}
	return p, nil
}

// open opens an address and returns the page on which the browser comes to rest.
func (p *person) open(ctx context.Context, method, address string, form url.Values) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", p.gateway.Base)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := p.browser.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(page), err
}

// follow opens the link of a held call.
func (p *person) follow(ctx context.Context, link string) error {
	status, page, err := p.open(ctx, http.MethodGet, link, nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "person: opened", link, "status", status)
	if status != http.StatusOK {
		return fmt.Errorf("the link of a held call: status %d: %.200q", status, page)
	}
	return nil
}

// allow opens an authorization request and says yes if it is asked.
func (p *person) allow(ctx context.Context, address string) error {
	status, page, err := p.open(ctx, http.MethodGet, address, nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("status %d: %w", status, err)
	}
	action := regexp.MustCompile(`action="([^"]+/consent)"`).FindStringSubmatch(page)
	if action == nil {
		return errors.New("the page does not ask whether the client may")
	}
	form := hidden(page)
	form.Set("decision", "allow")
	status, page, err = p.open(ctx, http.MethodPost, p.gateway.Base+action[1], form)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("consent: status %d: %w", status, err)
	}
	next := regexp.MustCompile(`http-equiv="refresh" content="0; url=([^"]+)"`).FindStringSubmatch(page)
	if next == nil {
		return errors.New("consent leads nowhere")
	}
	status, _, err = p.open(ctx, http.MethodGet, p.gateway.Base+html.UnescapeString(next[1]), nil)
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("the client's callback: status %d: %w", status, err)
	}
	return nil
}

// hidden are the fields of a form that its page fills in.
func hidden(page string) url.Values {
	form := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="(\w+)" value="([^"]*)">`).FindAllStringSubmatch(page, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return form
}

// protectedServer is the configuration of the server at address with the credentials of a scenario. What
// an operator would know beforehand comes from the suite's context; the issuer at which a client is
// registered, which the context leaves out, from the server's metadata.
func protectedServer(ctx context.Context, dir, scenario, address string) (string, error) {
	facts := map[string]string{}
	if text := os.Getenv("MCP_CONFORMANCE_CONTEXT"); text != "" {
		var all map[string]any
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			return "", fmt.Errorf("context of the scenario: %w", err)
		}
		for k, v := range all {
			if s, ok := v.(string); ok {
				facts[k] = s
			}
		}
	}
	for _, k := range []string{"client_secret", "private_key_pem", "idp_id_token", "valid_jwt"} {
		if v, ok := facts[k]; ok {
			if err := os.WriteFile(filepath.Join(dir, k), []byte(v), 0o600); err != nil {
				return "", fmt.Errorf("secret of the scenario: %w", err)
			}
		}
	}
	client := func(rest string) (string, error) {
		issuer, err := issuerOf(ctx, address)
		return fmt.Sprintf("{issuer: %q, id: %q%s}", issuer, facts["client_id"], rest), err
	}
	file := func(name string) string { return fmt.Sprintf("{file: %q}", filepath.Join(dir, name)) }
	kind, after := "oauth: {}", ""
	var err error
	switch scenario {
	case "auth/pre-registration":
		kind = fmt.Sprintf("oauth: {client: {issuer: %q, id: %q, secret: %s}}", facts["issuer"], facts["client_id"], file("client_secret"))
	case "auth/client-credentials-basic":
		kind, err = client(", secret: " + file("client_secret"))
		kind = "client_credentials: {client: " + kind + "}"
	case "auth/client-credentials-jwt":
		kind, err = client(", key: " + file("private_key_pem"))
		kind = "client_credentials: {client: " + kind + "}"
	case "auth/enterprise-managed-authorization":
		kind, err = client(", secret: " + file("client_secret"))
		kind = fmt.Sprintf("id_jag: {client: %s, provider: {issuer: %q, id: %q, method: none}, subject: %s}", kind, facts["idp_issuer"], facts["idp_client_id"], file("idp_id_token"))
	case "auth/wif-jwt-bearer":
		kind = fmt.Sprintf("workload: {client_id: %q, token: %s}", facts["client_id"], file("valid_jwt"))
	case "auth/basic-cimd": // a gateway on loopback has no document of its own that an authorization server could fetch
		after = "\nupstream: {client_id: \"https://conformance-test.local/client-metadata.json\"}"
	}
	return fmt.Sprintf("  - {name: s, url: %q, credentials: {%s}}%s", address, kind, after), err
}

// issuerOf asks the suite's server for its authorization server.
func issuerOf(ctx context.Context, address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.Scheme+"://"+u.Host+"/.well-known/oauth-protected-resource"+u.Path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("metadata of the server: %w", err)
	}
	defer resp.Body.Close()
	var doc struct {
		Servers []string `json:"authorization_servers"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || len(doc.Servers) == 0 {
		return "", fmt.Errorf("metadata of the server: %w", err)
	}
	return doc.Servers[0], nil
}
