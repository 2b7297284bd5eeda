package record

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/wire"
)

const (
	maxTarget   = 256  // bytes of a target in a record
	maxDetail   = 1024 // bytes of a detail in a record
	maxEvidence = 256  // bytes of a finding's evidence in a record
	mask        = "[redacted]"
)

// clean makes foreign text fit for the record: things that look like credentials are masked,
// unprintable characters are quoted, and what is longer than limit bytes is cut.
func clean(s string, limit int) string {
	if plain(s) && len(s) <= limit {
		return s
	}
	s = redact(cut(s, 4*limit))
	if !printable(s) {
		s = strconv.Quote(s)
		s = s[1 : len(s)-1]
	}
	if len(s) > limit {
		s = cut(s, limit-len("…")) + "…"
	}
	return s
}

// plain reports whether s is too short and too simple to hold a secret: a word of at most 20 small
// letters, digits, underscores and hyphens without the prefix of a token.
func plain(s string) bool {
	if len(s) > 20 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return !tokenPrefix(s)
}

func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func printable(s string) bool {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// redact masks credentials: known token forms, values of secret-sounding keys, what follows an
// authentication scheme, user information and query values of URLs, and long mixed strings.
func redact(s string) string {
	if i := strings.Index(s, "-----BEGIN "); i >= 0 {
		return s[:i] + mask
	}
	s = withoutUser(s)
	var out strings.Builder
	previous := "" // the word before, for "Bearer x" and "password: x"
	for len(s) > 0 {
		n := 0
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		if n == 0 {
			n = gap(s)
			out.WriteString(s[:n])
			previous = joiner(previous, s[:n])
			s = s[n:]
			continue
		}
		word := s[:n]
		s = s[n:]
		if secretWord(word) || secretKey(previous) {
			out.WriteString(mask)
			if previous = ""; scheme(word) {
				previous = word // "Authorization: Bearer x"
			}
			continue
		}
		out.WriteString(word)
		previous = word
	}
	return out.String()
}

// withoutUser masks the user information of URLs (RFC 3986 section 3.2.1).
func withoutUser(s string) string {
	const slashes = "://"
	for from := 0; ; {
		i := strings.Index(s[from:], slashes)
		if i < 0 {
			return s
		}
		from += i + len(slashes)
		end := strings.IndexAny(s[from:], "/?# \t\r\n\"'")
		if end < 0 {
			end = len(s) - from
		}
		if at := strings.LastIndexByte(s[from:from+end], '@'); at >= 0 {
			s = s[:from] + mask + s[from+at:]
		}
	}
}

// gap is the length of the run of bytes that belong to no word.
func gap(s string) int {
	n := 1
	for n < len(s) && !wordByte(s[n]) {
		n++
	}
	return n
}

// joiner says what the next word must know of what stands before it: the key of "key=value" or the
// scheme of "Bearer token".
func joiner(word, between string) string {
	switch t := strings.Trim(between, " \t\"'"); {
	case t == "=" || t == ":":
		return word + "="
	case t == "" && scheme(word):
		return word + "="
	default:
		return ""
	}
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '_' || c == '-' || c == '.' || c == '+' || c == '~' || c == '%' || c >= utf8.RuneSelf
}

func scheme(word string) bool {
	for _, s := range [...]string{"bearer", "basic", "dpop"} {
		if strings.EqualFold(word, s) {
			return true
		}
	}
	return false
}

// secretKey reports whether before, as made by joiner, announces a secret.
func secretKey(before string) bool {
	name, ok := strings.CutSuffix(before, "=")
	if !ok {
		return false
	}
	if scheme(name) {
		return true
	}
	name = strings.ToLower(name)
	for _, k := range [...]string{
		"password", "passwd", "pwd", "passphrase", "secret", "token", "api_key", "apikey", "api-key",
		"access_key", "accesskey", "authorization", "cookie", "credential", "private_key", "session",
		"signature", "sig", "pin", "otp", "jwt", "assertion", "client_assertion", "code_verifier",
	} {
		if name == k || len(k) > 4 && strings.Contains(name, k) {
			return true
		}
	}
	return false
}

// secretWord reports whether a word looks like a credential.
func secretWord(w string) bool {
	return tokenPrefix(w) || len(w) >= 24 && mixed(w)
}

// tokenPrefix knows the prefixes that issuers give their tokens.
func tokenPrefix(w string) bool {
	const least = 12
	if len(w) < least {
		return false
	}
	for _, p := range [...]string{
		"eyJ", "sk-", "sk_", "rk_", "pk_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-",
		"xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "xapp-", "AKIA", "ASIA", "AIza", "ya29.", "npm_", "pypi-",
		"hf_", "shpat_", "dop_v1_", "SG.", "AccountKey", "whsec_",
	} {
		if strings.HasPrefix(w, p) {
			return true
		}
	}
	return false
}

// mixed reports whether small letters, capitals and digits occur together, as in random keys but not
// in digests, ids and file names.
func mixed(w string) bool {
	var lower, upper, digit int
	for i := range len(w) {
		switch c := w[i]; {
		case c >= 'a' && c <= 'z':
			lower++
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= '0' && c <= '9':
			digit++
		}
	}
	return lower > 2 && upper > 2 && digit > 1
}

// resource is what a record keeps of a target: a URI loses the values of its query, its fragment and
// its user information.
func resource(target string) string {
	uri, query, ok := strings.Cut(target, "?")
	if ok && strings.Contains(uri, ":") {
		query, _, _ = strings.Cut(query, "#")
		var names []string
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
		target = uri + "?" + strings.Join(names, "&")
	}
	return clean(target, maxTarget)
}

// leastValue is the length from which a value of the message is masked wherever it appears; shorter
// ones occur in ordinary words.
const leastValue = 6

// withoutValues masks every argument and credential of the exchange that occurs in s, whoever wrote
// it there.
func withoutValues(x *warder.Exchange, s string) string {
	if s == "" {
		return s
	}
	for _, h := range [...]string{"Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Dpop"} {
		for _, v := range x.Conn.Header[h] {
			for word := range strings.FieldsSeq(v) {
				s = hide(s, word)
			}
		}
	}
	for _, m := range [...]*warder.Message{x.Inbound, x.Response} {
		if m == nil {
			continue
		}
		for _, span := range [...]warder.Span{argumentsOf(m), m.ResultSpan} {
			if !span.Present() {
				continue
			}
			for _, v := range wire.Leaves(wire.At(m, span)) {
				if text, ok := v.Text(); ok {
					s = hide(s, text)
				}
			}
		}
	}
	return s
}

func argumentsOf(m *warder.Message) warder.Span {
	if a := m.Params.Get("arguments"); a.Present() {
		return a
	}
	return m.ParamsSpan
}

func hide(s, value string) string {
	if len(value) < leastValue {
		return s
	}
	return strings.ReplaceAll(s, value, mask)
}
