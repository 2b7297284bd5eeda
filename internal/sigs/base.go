package sigs

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A Message is the part of an HTTP message that a signature can cover.
type Message struct {
	Method    string      // of a request
	TargetURI string      // of a request: absolute, as the signer addressed it
	Status    int         // of a response; 0 for a request
	Header    http.Header // canonical names
	Request   *Message    // the request of a response, for components with req; may be nil
}

// ErrComponent says that a signature covers something that is absent or not supported.
var ErrComponent = errors.New("signature covers what is not there or not known")

// combine joins the lines of a field (RFC 9421 section 2.1).
func combine(lines []string) string {
	trimmed := make([]string, len(lines))
	for i, l := range lines {
		trimmed[i] = strings.Trim(l, " \t")
	}
	return strings.Join(trimmed, ", ")
}

// base builds the signature base (RFC 9421 section 2.5) for the covered components of an inner list.
func base(m *Message, list *item) ([]byte, error) {
	var b []byte
	seen := make(map[string]bool, len(list.inner))
	for i := range list.inner {
		c := &list.inner[i]
		name, ok := c.value.(string)
		if !ok || name == "" || strings.ToLower(name) != name {
			return nil, fmt.Errorf("%w: not a component name", ErrComponent)
		}
		id := string(appendItem(nil, c))
		if seen[id] {
			return nil, fmt.Errorf("%w: %s stands twice", ErrComponent, id)
		}
		seen[id] = true
		value, err := component(m, name, c)
		if err != nil {
			return nil, err
		}
		b = append(append(append(append(b, id...), ": "...), value...), '\n')
	}
	return appendItem(append(b, `"@signature-params": `...), list), nil
}

// component returns the value of one covered component.
func component(m *Message, name string, c *item) (string, error) {
	key, sf := "", false
	for _, p := range c.params {
		text, isText := p.value.(string)
		switch {
		case p.key == "req" && p.value == true:
			if m.Request == nil {
				return "", fmt.Errorf("%w: no request", ErrComponent)
			}
			m = m.Request
		case p.key == "sf" && p.value == true:
			sf = true
		case p.key == "key" && isText && text != "":
			key = text
		default:
			return "", fmt.Errorf("%w: parameter %q", ErrComponent, p.key)
		}
	}
	if strings.HasPrefix(name, "@") {
		if key != "" || sf {
			return "", fmt.Errorf("%w: %s with parameters", ErrComponent, name)
		}
		return derived(m, name)
	}
	lines, ok := m.Header[http.CanonicalHeaderKey(name)]
	if !ok || len(lines) == 0 {
		return "", fmt.Errorf("%w: %q", ErrComponent, name)
	}
	value := combine(lines)
	if strings.ContainsAny(value, "\r\n") {
		return "", fmt.Errorf("%w: %q holds a line break", ErrComponent, name)
	}
	if key == "" && !sf {
		return value, nil
	}
	return structured(name, value, key)
}

// structured re-serialises a dictionary field, or one member of it (RFC 9421 sections 2.1.1, 2.1.2).
func structured(name, value, key string) (string, error) {
	switch name {
	case "content-digest", "repr-digest", "signature", "signature-input", "accept-signature", "priority", "cache-control":
	default:
		if key == "" {
			return "", fmt.Errorf("%w: the type of %q is not known", ErrComponent, name)
		}
	}
	dict, err := parseDictionary(value)
	if err != nil {
		return "", err
	}
	var b []byte
	for i := range dict {
		if key != "" {
			if dict[i].key == key {
				return string(appendItem(nil, &dict[i].item)), nil
			}
			continue
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, dict[i].key...)
		if it := &dict[i].item; it.value == true && it.inner == nil {
			b = appendParams(b, it.params)
		} else {
			b = appendItem(append(b, '='), it)
		}
	}
	if key != "" {
		return "", fmt.Errorf("%w: %q has no member %q", ErrComponent, name, key)
	}
	return string(b), nil
}

// derived returns a component that is no field (RFC 9421 section 2.2).
func derived(m *Message, name string) (string, error) {
	if name == "@status" {
		if m.Status < 100 || m.Status > 999 {
			return "", fmt.Errorf("%w: %s of a request", ErrComponent, name)
		}
		return strconv.Itoa(m.Status), nil
	}
	u, err := url.Parse(m.TargetURI)
	if m.Status != 0 || err != nil || u.Host == "" {
		return "", fmt.Errorf("%w: %s of a response", ErrComponent, name)
	}
	switch name {
	case "@method":
		return m.Method, nil
	case "@target-uri":
		return m.TargetURI, nil
	case "@authority":
		return authority(u), nil
	case "@scheme":
		return strings.ToLower(u.Scheme), nil
	case "@path":
		if p := u.EscapedPath(); p != "" {
			return p, nil
		}
		return "/", nil
	case "@query":
		return "?" + u.RawQuery, nil
	case "@request-target":
		return u.RequestURI(), nil
	default:
		return "", fmt.Errorf("%w: %s", ErrComponent, name)
	}
}

// authority is the host in lower case without the scheme's default port (RFC 9421 section 2.2.3).
func authority(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		return strings.TrimSuffix(host, ":443")
	case "http":
		return strings.TrimSuffix(host, ":80")
	default:
		return host
	}
}
