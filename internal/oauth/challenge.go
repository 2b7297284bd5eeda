package oauth

import (
	"net/http"
	"slices"
	"strings"
)

// A Challenge is one authentication challenge of a resource server (RFC 9110 section 11.6.1, RFC 6750
// section 3, RFC 9449 section 7.1, RFC 9728 section 5.1). Every field is text of the server.
type Challenge struct {
	Scheme           string // "bearer" or "dpop", in lower case
	Error            string
	Scopes           []string
	ResourceMetadata string
	Algorithms       []string // of DPoP proofs
}

// Bounds of a WWW-Authenticate header.
const (
	maxChallengeText = 8 << 10
	maxParams        = 32
	maxScopes        = 64
	maxScope         = 256
)

// ParseChallenges reads the Bearer and DPoP challenges of a response. What is not well formed is left
// out: a client that cannot read a challenge falls back to the well-known places.
func ParseChallenges(h http.Header) []Challenge {
	var out []Challenge
	for _, line := range h.Values("Www-Authenticate") {
		if len(line) > maxChallengeText {
			continue
		}
		out = append(out, challengesOf(line)...)
	}
	return out
}

func challengesOf(line string) []Challenge {
	var out []Challenge
	p := challengeReader{s: line}
	for {
		scheme := p.token()
		if scheme == "" {
			return out
		}
		params, ok := p.params()
		if !ok {
			return out
		}
		switch scheme = strings.ToLower(scheme); scheme {
		case "bearer", "dpop":
			out = append(out, Challenge{
				Scheme: scheme, Error: code(params["error"]), Scopes: ParseScopes(params["scope"]),
				ResourceMetadata: params["resource_metadata"], Algorithms: strings.Fields(params["algs"]),
			})
			if params["error"] == "" {
				out[len(out)-1].Error = ""
			}
		}
	}
}

// ParseScopes splits a scope text (RFC 6749 section 3.3) and drops words that are not well formed, and
// those said twice. It is nil when nothing remains.
func ParseScopes(s string) []string {
	var out []string
	for w := range strings.FieldsSeq(s) {
		if len(out) < maxScopes && ValidScope(w) && !contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// ValidScope reports whether s is a scope token of RFC 6749 section 3.3 and of a sane length.
func ValidScope(s string) bool {
	if s == "" || len(s) > maxScope {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

// A challengeReader walks one header line.
type challengeReader struct {
	s  string
	at int
}

func (p *challengeReader) space() {
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t' || p.s[p.at] == ',') {
		p.at++
	}
}

// token reads a token, skipping spaces and commas before it; empty at the end or at anything else.
func (p *challengeReader) token() string {
	p.space()
	start := p.at
	for p.at < len(p.s) && isTokenByte(p.s[p.at]) {
		p.at++
	}
	return p.s[start:p.at]
}

// params reads "name=value" pairs up to the next scheme. It is false for a line that cannot be read.
func (p *challengeReader) params() (map[string]string, bool) {
	params := map[string]string{}
	for {
		back := p.at
		name := p.token()
		if name == "" {
			return params, p.at == len(p.s)
		}
		spaces := p.at
		for p.at < len(p.s) && p.s[p.at] == ' ' {
			p.at++
		}
		if p.at >= len(p.s) || p.s[p.at] != '=' {
			p.at = back // a scheme: the next challenge begins
			return params, spaces >= back
		}
		p.at++
		value, ok := p.value()
		name = strings.ToLower(name)
		if _, twice := params[name]; !ok || twice || len(params) == maxParams {
			return nil, false
		}
		params[name] = value
	}
}

func (p *challengeReader) value() (string, bool) {
	for p.at < len(p.s) && p.s[p.at] == ' ' {
		p.at++
	}
	if p.at >= len(p.s) || p.s[p.at] != '"' {
		start := p.at
		for p.at < len(p.s) && (isTokenByte(p.s[p.at]) || strings.IndexByte(":/?=&", p.s[p.at]) >= 0) {
			p.at++ // unquoted URLs are seen in the wild
		}
		return p.s[start:p.at], p.at > start
	}
	var b strings.Builder
	for p.at++; p.at < len(p.s); p.at++ {
		switch c := p.s[p.at]; {
		case c == '"':
			p.at++
			return b.String(), true
		case c == '\\' && p.at+1 < len(p.s):
			p.at++
			b.WriteByte(p.s[p.at])
		case c < ' ' || c == 0x7f:
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
