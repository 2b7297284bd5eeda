package login

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
)

// cookies names and makes the two cookies of the site: one for the browser, which forms and logins that
// have begun are bound to, and one for the session of the person who logged in.
//
// Over https both have the prefix __Host- (RFC 6265bis section 4.1.3.2): Secure, without Domain, for the
// whole host, so no other host and no plain connection can plant one. A quick start on plain http at a
// loopback address cannot have that: browsers keep cookies for all ports of a host together. There the
// name carries the port and the path is that of the pages, so another local service neither meets the
// cookie by accident nor overwrites it. New refuses plain http anywhere else.
type cookies struct {
	browser, session string
	path             string
	secure           bool
}

func newCookies(u *url.URL) cookies {
	if u.Scheme == "https" {
		return cookies{browser: "__Host-warder_browser", session: "__Host-warder_session", path: "/", secure: true}
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if path == "" {
		path = "/"
	}
	return cookies{browser: "warder_browser_" + port, session: "warder_session_" + port, path: path}
}

// set gives the browser a value for as long as it runs; the session itself ends earlier, in the store.
func (c cookies) set(w http.ResponseWriter, name, value string) {
	http.SetCookie(w, c.make(name, value, 0))
}

// clear takes a value away.
func (c cookies) clear(w http.ResponseWriter, name string) { http.SetCookie(w, c.make(name, "", -1)) }

func (c cookies) make(name, value string, maxAge int) *http.Cookie {
	cookie := &http.Cookie{
		Name: name, Value: value, Path: c.path, MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	cookie.Secure = c.secure // a browser drops Secure cookies of a plain loopback address
	return cookie
}

// get returns the only value of a name that we could have made. Two cookies of one name are none: the
// other was planted (on loopback, by another path or service).
func (c cookies) get(r *http.Request, name string) string {
	found := r.CookiesNamed(name)
	if len(found) != 1 || len(found[0].Value) != secretLength {
		return ""
	}
	return found[0].Value
}

// secretLength is the length of newSecret, in characters.
const secretLength = 52

// newSecret returns 260 random bits.
func newSecret() string { return rand.Text() + rand.Text() }

// hashed is what the store knows of a secret.
func hashed(secret string) string {
	sum := sha256.Sum256([]byte("warder login\x00" + secret))
	return hex.EncodeToString(sum[:])
}
