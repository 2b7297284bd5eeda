package admin

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
)

// wellKnown is where the metadata of a protected resource is (RFC 9728 section 3).
const wellKnown = "/.well-known/oauth-protected-resource"

// metadataPath is the path of the metadata of the API; empty without an audience.
func metadataPath(audience string) string {
	u, err := url.Parse(audience)
	if err != nil || audience == "" {
		return ""
	}
	return wellKnown + strings.TrimSuffix(u.EscapedPath(), "/")
}

// metadataURL is where clients learn which authorization server gives tokens for the API.
func metadataURL(audience string) string {
	u, err := url.Parse(audience)
	if err != nil || audience == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host + metadataPath(audience)
}

// protectedResource is the metadata of RFC 9728 section 2.
type protectedResource struct {
	Resource   string   `json:"resource"`
	Servers    []string `json:"authorization_servers,omitempty"`
	Methods    []string `json:"bearer_methods_supported"`
	Algorithms []string `json:"dpop_signing_alg_values_supported"`
	Name       string   `json:"resource_name"`
}

func (a *API) serveMetadata(w http.ResponseWriter, r *http.Request) {
	m := protectedResource{Resource: a.cfg.Audience, Methods: []string{"header"}, Algorithms: []string{"ES256", "EdDSA"}, Name: "Warder admin"}
	if a.deps.Issuers != nil {
		m.Servers = a.deps.Issuers()
	}
	body, err := encode(m)
	if err != nil {
		a.deps.Log.ErrorContext(r.Context(), "encode metadata", slog.Any("error", err))
		problem(http.StatusInternalServerError, codeInternal, "").write(w)
		return
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	_, _ = w.Write(body) // the client may be gone
}
