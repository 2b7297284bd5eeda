package issuer

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/warder-mcp/warder/internal/jose"
)

// keySetAge is how long anybody may cache the key set, in seconds. It is below the shortest time that a
// key is published before it signs.
const keySetAge = 240

// metadata is the document of RFC 8414 section 2, which is also found where OpenID Connect Discovery
// looks. It says what this server does, and nothing it does not do.
type metadata struct {
	Issuer              string   `json:"issuer"`
	KeySet              string   `json:"jwks_uri"`
	Authorization       string   `json:"authorization_endpoint,omitempty"`
	Token               string   `json:"token_endpoint"`
	PAR                 string   `json:"pushed_authorization_request_endpoint,omitempty"`
	PARRequired         bool     `json:"require_pushed_authorization_requests,omitempty"`
	Registration        string   `json:"registration_endpoint,omitempty"`
	Introspection       string   `json:"introspection_endpoint"`
	IntrospectionAuth   []string `json:"introspection_endpoint_auth_methods_supported"`
	Revocation          string   `json:"revocation_endpoint"`
	RevocationAuth      []string `json:"revocation_endpoint_auth_methods_supported"`
	ResponseTypes       []string `json:"response_types_supported"`
	ResponseModes       []string `json:"response_modes_supported"`
	Grants              []string `json:"grant_types_supported"`
	GrantProfiles       []string `json:"authorization_grant_profiles_supported,omitempty"`
	PKCE                []string `json:"code_challenge_methods_supported"`
	TokenAuth           []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	DPoP                []string `json:"dpop_signing_alg_values_supported"`
	DetailTypes         []string `json:"authorization_details_types_supported"`
	CertificateBound    bool     `json:"tls_client_certificate_bound_access_tokens"`
	ResponseIssuer      bool     `json:"authorization_response_iss_parameter_supported"`
	CIMD                bool     `json:"client_id_metadata_document_supported"`
	ResourceIndicators  bool     `json:"resource_indicators_supported"`
	Prompts             []string `json:"prompt_values_supported"`
}

// describe fills in the metadata for what is configured.
func (is *Issuer) describe() metadata {
	at := func(name string) string { return is.cfg.URL + "/" + name }
	auth := []string{authNone, authPrivateKey, authTLS, authSelfSigned}
	if is.cfg.LegacySecrets {
		auth = append(auth, authBasic, authPost)
	}
	m := metadata{
		Issuer: is.cfg.URL, KeySet: at("jwks.json"), Token: at("token"),
		Introspection: at("introspect"), IntrospectionAuth: auth[1:], Revocation: at("revoke"), RevocationAuth: auth,
		ResponseTypes: []string{}, ResponseModes: []string{"query"}, Grants: is.grants(), PKCE: []string{"S256"},
		TokenAuth: auth, TokenAuthAlgorithms: assertionAlgorithms(), DPoP: jose.ProofAlgorithms(), DetailTypes: []string{"mcp"},
		CertificateBound: true, ResponseIssuer: true, CIMD: len(is.cfg.CIMD.Allow) > 0, ResourceIndicators: true,
		Prompts: []string{"none", "login", "consent", "select_account"},
	}
	if is.interactive() {
		m.Authorization, m.PAR, m.PARRequired, m.ResponseTypes = at("authorize"), at("par"), is.cfg.RequirePAR, []string{"code"}
	}
	if is.cfg.DCR.Mode == "open" || is.cfg.DCR.Mode == "token" {
		m.Registration = at("register")
	}
	if slices.Contains(m.Grants, grantJWTBearer) && is.trusts(UseIDJAG) {
		m.GrantProfiles = []string{profileIDJAG}
	}
	return m
}

// interactive reports whether people can log in and consent.
func (is *Issuer) interactive() bool { return is.deps.Login != nil && is.deps.Consent != nil }

// trusts reports whether any foreign issuer is trusted for a use.
func (is *Issuer) trusts(use string) bool {
	return slices.ContainsFunc(is.cfg.Trust, func(t Trust) bool { return slices.Contains(t.Use, use) })
}

// grants lists the grant types offered.
func (is *Issuer) grants() []string {
	var g []string
	if is.interactive() {
		g = append(g, grantCode, grantRefresh)
	}
	g = append(g, grantClient, grantExchange)
	if is.trusts(UseIDJAG) || is.trusts(UseWorkload) {
		g = append(g, grantJWTBearer)
	}
	return g
}

// serveMetadata answers at the places of RFC 8414 section 3.1 (well-known part before the path) and of
// OpenID Connect Discovery section 4 (after the path).
func (is *Issuer) serveMetadata(mux *http.ServeMux) error {
	body, err := json.Marshal(is.describe())
	if err != nil {
		return fmt.Errorf("issuer metadata: %w", err)
	}
	serve := func(w http.ResponseWriter, _ *http.Request) {
		document(w, "application/json", "public, max-age=300", body)
	}
	places := []string{
		"/.well-known/oauth-authorization-server" + is.base,
		"/.well-known/openid-configuration" + is.base,
		is.base + "/.well-known/oauth-authorization-server",
		is.base + "/.well-known/openid-configuration",
	}
	slices.Sort(places) // without a base path they are two places, not four
	for _, p := range slices.Compact(places) {
		is.handle(mux, http.MethodGet, p, true, serve)
	}
	return nil
}

// serveKeys answers with the published keys.
func (is *Issuer) serveKeys(w http.ResponseWriter, r *http.Request) {
	set, err := is.keys.published(r.Context())
	if err != nil {
		is.unavailable(w, r, err)
		return
	}
	document(w, "application/jwk-set+json", fmt.Sprintf("public, max-age=%d", keySetAge), set)
}

func document(w http.ResponseWriter, mediaType, caching string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", caching)
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // the client may be gone
}
