package issuer

// Methods by which clients authenticate (RFC 7591 section 2, RFC 8705 section 2).
const (
	authNone       = "none"
	authPrivateKey = "private_key_jwt"
	authTLS        = "tls_client_auth"
	authSelfSigned = "self_signed_tls_client_auth"
	authBasic      = "client_secret_basic"
	authPost       = "client_secret_post"
)

// assertionAlgorithms are those of private_key_jwt and of foreign assertions.
func assertionAlgorithms() []string { return []string{"ES256", "EdDSA", "PS256", "RS256"} }
