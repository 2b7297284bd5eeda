package login

import (
	"bytes"
	"encoding/json"
	"io"
	"net/url"

	"github.com/warder-mcp/warder/internal/jose"
)

// pretty indents JSON for people; what is not JSON stays as it is.
func pretty(b []byte) string {
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return string(b)
	}
	return out.String()
}

// decodeClaims reads one JSON object, strictly.
func decodeClaims(r io.Reader) (jose.Claims, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return jose.ParseObject(b)
}

// secure reports whether a URL is https, or http on loopback.
func secure(u *url.URL) bool { return u.Host != "" && jose.SecureURL(u) }
