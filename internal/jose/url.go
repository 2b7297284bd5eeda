package jose

import (
	"errors"
	"net/url"
	"strings"
)

// errURL reports an address that has no normal form.
var errURL = errors.New("address is not an absolute http or https URL")

// NormalizeURL writes an address as proofs are compared (RFC 9449 section 4.3, step 9; RFC 3986 sections
// 6.2.2 and 6.2.3): without query and fragment, scheme and host in lower case, no default port, percent
// encodings of unreserved characters undone and the others in upper case, dot segments removed, an empty
// path as "/".
func NormalizeURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Hostname() == "" || u.Opaque != "" {
		return "", errURL
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", errURL
	}
	path := removeDots(normalPercent(u.EscapedPath()))
	if path == "" {
		path = "/"
	}
	return scheme + "://" + strings.TrimSuffix(host, ":") + path, nil
}

// normalPercent undoes percent encodings of unreserved characters and writes the others in upper case.
func normalPercent(p string) string {
	if !strings.Contains(p, "%") {
		return p
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] != '%' || i+2 >= len(p) {
			b.WriteByte(p[i])
			continue
		}
		c := unhex(p[i+1])<<4 | unhex(p[i+2])
		if unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(p[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default: // url.Parse has refused anything else
		return c - 'A' + 10
	}
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// removeDots is RFC 3986 section 5.2.4, for a path that is empty or begins with a slash.
func removeDots(p string) string {
	if !strings.Contains(p, "/.") {
		return p
	}
	parts := strings.Split(p, "/") // the first part is empty
	out := parts[:1]
	for i, s := range parts[1:] {
		switch s {
		case ".":
		case "..":
			if len(out) > 1 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, s)
			continue
		}
		if i == len(parts)-2 {
			out = append(out, "") // what ends in dots names a folder
		}
	}
	return strings.Join(out, "/")
}
