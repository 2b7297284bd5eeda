package shape

import "bytes"

// A format is an asserted string format.
type format uint8

const (
	formatNone format = iota
	formatURI
	formatTemplate
	formatByte
)

func (f format) String() string {
	return [...]string{"", "uri", "uri-template", "byte"}[f]
}

// fits judges the string between its quotes, as written.
func (f format) fits(inner []byte) bool {
	switch f {
	case formatURI:
		return uri(text(inner))
	case formatTemplate:
		return template(text(inner))
	case formatByte:
		return encoded(inner)
	default:
		return true
	}
}

// uri reports whether s is an absolute URI in the characters of RFC 3986 section 2, with a scheme
// of section 3.1 and complete percent-encodings.
func uri(s []byte) bool {
	colon := bytes.IndexByte(s, ':')
	if colon < 1 || !letter(s[0]) {
		return false
	}
	for _, c := range s[1:colon] {
		if !letter(c) && !digit(c) && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	rest := s[colon+1:]
	if hash := bytes.IndexByte(rest, '#'); hash >= 0 && bytes.IndexByte(rest[hash+1:], '#') >= 0 {
		return false
	}
	return characters(rest, "-._~:/?#[]@!$&'()*+,;=") && authority(rest)
}

// authority checks the bracketed and port parts of "//host:port", which decoders read differently
// when they are malformed.
func authority(rest []byte) bool {
	if !bytes.HasPrefix(rest, []byte("//")) {
		return !bytes.ContainsAny(rest, "[]")
	}
	rest = rest[2:]
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if bytes.ContainsAny(rest[end:], "[]") {
		return false
	}
	host := rest[:end]
	if at := bytes.LastIndexByte(host, '@'); at >= 0 {
		if bytes.ContainsAny(host[:at], "@[]") {
			return false
		}
		host = host[at+1:]
	}
	if len(host) > 0 && host[0] == '[' {
		closing := bytes.IndexByte(host, ']')
		if closing < 3 || bytes.IndexFunc(host[1:closing], notIPv6) >= 0 {
			return false
		}
		host = host[closing+1:]
		return len(host) == 0 || host[0] == ':' && digits(host[1:])
	}
	name, port, found := bytes.Cut(host, []byte{':'})
	return !bytes.ContainsAny(name, "[]") && (!found || digits(port))
}

func notIPv6(r rune) bool {
	return r != ':' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'f') && (r < 'A' || r > 'F')
}

func digits(s []byte) bool {
	for _, c := range s {
		if !digit(c) {
			return false
		}
	}
	return true
}

// template reports whether s is a URI template: literals of RFC 6570 section 2.1 and expressions in
// balanced, unnested braces of section 2.2 that name a variable.
func template(s []byte) bool {
	for len(s) > 0 {
		open := bytes.IndexAny(s, "{}")
		if open < 0 {
			return literals(s)
		}
		if s[open] == '}' || !literals(s[:open]) {
			return false
		}
		length := bytes.IndexAny(s[open+1:], "{}")
		if length < 1 || s[open+1+length] != '}' || !expression(s[open+1:open+1+length]) {
			return false
		}
		s = s[open+length+2:]
	}
	return true
}

func literals(s []byte) bool {
	return characters(s, "-._~:/?#[]@!$&()*+,;=")
}

// expression checks what stands in braces: an operator, then variables with modifiers.
func expression(s []byte) bool {
	if bytes.IndexByte([]byte("+#./;?&"), s[0]) >= 0 {
		s = s[1:]
	}
	for variable := range bytes.SplitSeq(s, []byte{','}) {
		name, prefix, cut := bytes.Cut(variable, []byte{':'})
		if cut && (len(prefix) == 0 || len(prefix) > 4 || prefix[0] == '0' || !digits(prefix)) {
			return false
		}
		if !cut {
			name = bytes.TrimSuffix(name, []byte{'*'})
		}
		if len(name) == 0 || name[0] == '.' || name[len(name)-1] == '.' || bytes.Contains(name, []byte("..")) ||
			!characters(name, "_.") {
			return false
		}
	}
	return true
}

// characters reports whether s consists of letters, digits, percent-encodings and the bytes of set.
func characters(s []byte, set string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if letter(c) || digit(c) {
			continue
		}
		if c == '%' {
			if i+2 >= len(s) || !hex(s[i+1]) || !hex(s[i+2]) {
				return false
			}
			i += 2
			continue
		}
		found := false
		for j := range len(set) {
			if set[j] == c {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }
func hex(c byte) bool    { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// encoded reports whether the string is Base64 with padding (RFC 4648 section 4). Some encoders
// write "/" as "\/"; other escapes take the slow way.
func encoded(inner []byte) bool {
	if bytes.IndexByte(inner, '\\') >= 0 {
		inner = text(inner)
	}
	if len(inner)%4 != 0 {
		return false
	}
	if len(inner) == 0 {
		return true
	}
	body := inner[:len(inner)-2]
	for _, c := range body {
		if !letter(c) && !digit(c) && c != '+' && c != '/' {
			return false
		}
	}
	last, end := inner[len(inner)-2], inner[len(inner)-1]
	return end == '=' && (last == '=' || sixBits(last)) || sixBits(last) && sixBits(end)
}

func sixBits(c byte) bool { return letter(c) || digit(c) || c == '+' || c == '/' }
