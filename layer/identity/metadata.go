package identity

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/rar"
)

// endpointName is what a server or group may be called.
var endpointName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// metadata is the document of RFC 9728 section 2.
type metadata struct {
	Resource string   `json:"resource"`
	Issuers  []string `json:"authorization_servers,omitempty"`
	Scopes   []string `json:"scopes_supported,omitempty"`
	Methods  []string `json:"bearer_methods_supported"`
	Name     string   `json:"resource_name,omitempty"`
	Docs     string   `json:"resource_documentation,omitempty"`
	Details  []string `json:"authorization_details_types_supported"`                // RFC 9396 section 10
	Proofs   []string `json:"dpop_signing_alg_values_supported"`                    // RFC 9449 section 5.1
	DPoPOnly bool     `json:"dpop_bound_access_tokens_required,omitempty"`          // where policy requires bound tokens
	MTLS     bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 section 3.3
}

// Metadata serves the protected-resource metadata (RFC 9728) of every endpoint, at
// /.well-known/oauth-protected-resource/mcp/{server} (after the path of base_url, if it has one), and
// that of the gateway itself at /.well-known/oauth-protected-resource.
//
// resources finds a server or group by endpoint name. A well-formed name that does not exist gets the
// document it would have if it did: metadata needs no token, so any other answer would let strangers
// list the servers. Part of control AUT-01.
func Metadata(cfg Config, resources func(name string) (*warder.Server, bool)) http.Handler {
	mux := http.NewServeMux()
	base := pathOf(cfg.BaseURL)
	h := &metadataHandler{cfg: cfg, resources: resources}
	mux.HandleFunc(metadataPrefix+base+pathPrefix+"{server}", h.server)
	mux.HandleFunc(metadataPrefix+base, h.root)
	return mux
}

type metadataHandler struct {
	cfg       Config
	resources func(name string) (*warder.Server, bool)
}

func (h *metadataHandler) server(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("server")
	if !endpointName.MatchString(name) {
		http.NotFound(w, r)
		return
	}
	resource := h.cfg.Resource(name)
	if s, ok := h.resources(name); ok && s != nil && s.Resource != "" {
		resource = s.Resource
	}
	h.write(w, r, resource, name)
}

func (h *metadataHandler) root(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, h.cfg.BaseURL, "")
}

func (h *metadataHandler) write(w http.ResponseWriter, r *http.Request, resource, name string) {
	head := w.Header()
	// Browser clients read the document before they have any credentials (RFC 9728 section 3.1).
	head.Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		head.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
		head.Set("Access-Control-Allow-Headers", "Accept, Content-Type, MCP-Protocol-Version")
		head.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		head.Set("Allow", "GET, HEAD, OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	doc := metadata{
		Resource: resource, Scopes: h.cfg.ScopesSupported, Methods: []string{"header"}, Name: name, Docs: h.cfg.Documentation,
		Details: []string{rar.Type}, Proofs: asker{cfg: h.cfg}.algorithms(), DPoPOnly: h.cfg.boundOnly(name), MTLS: len(h.cfg.Clients.Certificates) > 0,
	}
	for _, is := range h.cfg.accepted() {
		if !is.trustDomain() { // a trust domain has no authorization server to ask
			doc.Issuers = append(doc.Issuers, is.URL)
		}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", "public, max-age=300")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the client may be gone
	}
}

func pathOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.EscapedPath()
}
