package issuer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/warder-mcp/warder/internal/jose"
)

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

// A caller is a client at an endpoint, as it proved to be.
type caller struct {
	client *Client
	cert   string // SHA-256 of its certificate, when it authenticated with one: tokens are bound to it
	proof  *jose.Proof
}

// key is the thumbprint of the key the caller proved to hold; empty: none.
func (c *caller) key() string {
	if c.proof == nil {
		return ""
	}
	return c.proof.Thumbprint
}

// authenticate finds the client and checks that it is the one, by the one method it is registered with.
func (is *Issuer) authenticate(r *http.Request, p parameters) (*caller, *fault) {
	id, method, f := is.presented(r, p)
	if f != nil {
		return nil, f
	}
	c, f := is.registration.find(r.Context(), id, is.deps.Peer(r))
	if f != nil {
		return nil, f
	}
	out := &caller{client: c}
	want := c.meta.Auth
	switch {
	case method == authNone && (want == authTLS || want == authSelfSigned):
		f = is.byCertificate(r, out)
	case method == authPrivateKey && want == authPrivateKey:
		f = is.byAssertion(r.Context(), c, p["client_assertion"])
	case (method == authBasic || method == authPost) && (want == authBasic || want == authPost):
		f = is.bySecret(r, c, p)
	case method != authNone || want != authNone:
		f = refuse(errClient, "Client authentication failed.").because("auth_method", "presented "+method+", registered "+want)
	}
	if f != nil {
		return nil, f
	}
	return out, is.limit(out, is.deps.Peer(r))
}

// limit bounds the requests of one client. Anybody can name a public client, so it is counted for each
// address apart: nobody can use up what others have.
func (is *Issuer) limit(who *caller, peer string) *fault {
	key := who.client.ID
	if !who.client.confidential() {
		key += "\x1f" + network(peer)
	}
	if is.limits.client.allow(key, is.deps.Now()) {
		return nil
	}
	f := refuse(errUnavailable, "Too many requests.").because("rate_limited", "")
	f.status = http.StatusTooManyRequests
	return f
}

// presented tells which client the request names, and by which method it authenticates. More than one
// method is refused (RFC 6749 section 2.3).
func (is *Issuer) presented(r *http.Request, p parameters) (id, method string, f *fault) {
	id, method = p["client_id"], authNone
	ways := 0
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		user, _, ok := r.BasicAuth()
		name, err := url.QueryUnescape(user) // RFC 6749 section 2.3.1: form-encoded first
		if len(header) > 1 || !ok || err != nil || id != "" && id != name {
			return "", "", refuse(errClient, "Client authentication failed.").because("auth_malformed", "")
		}
		id, method, ways = name, authBasic, ways+1
	}
	if _, given := p["client_secret"]; given {
		method, ways = authPost, ways+1
	}
	if assertion, given := p["client_assertion"]; given {
		name, f := is.asserted(assertion, p["client_assertion_type"])
		if f != nil {
			return "", "", f
		}
		if id != "" && id != name {
			return "", "", refuse(errClient, "Client authentication failed.").because("client_mismatch", "client_id and assertion differ")
		}
		id, method, ways = name, authPrivateKey, ways+1
	}
	if ways > 1 {
		return "", "", refuse(errRequest, "More than one way of client authentication.")
	}
	if id == "" {
		return "", "", refuse(errClient, "The request names no client.").because("client_missing", "")
	}
	return id, method, nil
}

// asserted returns the client that an assertion is about, unverified: its own, or the one whose
// platform speaks for it.
func (is *Issuer) asserted(assertion, typ string) (string, *fault) {
	bad := func(err error) *fault {
		return refuse(errClient, "Client authentication failed.").because("assertion_malformed", err.Error())
	}
	if typ != jose.AssertionType {
		return "", bad(errors.New("client_assertion_type is unknown"))
	}
	name, err := jose.AssertionClient(assertion)
	if err != nil {
		return "", bad(err)
	}
	if t, ok := is.foreign[name]; !ok || !t.used(UseWorkload) {
		return name, nil
	}
	token, err := jose.Parse(assertion)
	if err != nil {
		return "", bad(err)
	}
	subject, err := token.Claims.Text("sub")
	if err != nil {
		return "", bad(err)
	}
	k := is.workload(name, subject)
	if k == nil {
		return "", unknown("workload_unknown", cut(subject, 200))
	}
	return k.ID, nil
}

// workload is the configured client that a platform knows by a subject.
func (is *Issuer) workload(issuer, subject string) *ClientConfig {
	i := slices.IndexFunc(is.cfg.Clients, func(k ClientConfig) bool {
		return subject != "" && k.Workload == WorkloadConfig{Issuer: issuer, Subject: subject}
	})
	if i < 0 {
		return nil
	}
	return &is.cfg.Clients[i]
}

// byAssertion verifies private_key_jwt, or the assertion of the client's platform.
func (is *Issuer) byAssertion(ctx context.Context, c *Client, assertion string) *fault {
	failed := func(err error) *fault {
		return refuse(errClient, "Client authentication failed.").because("assertion_refused", err.Error())
	}
	if k := c.meta.config; k != nil && k.Workload != (WorkloadConfig{}) {
		f := is.workloadToken(ctx, k, assertion)
		return f
	}
	if c.meta.keys == nil {
		return failed(errors.New("the client has no keys"))
	}
	_, err := jose.VerifyAssertion(ctx, assertion, jose.AssertionRule{
		Client: c.ID, Audiences: []string{is.cfg.URL, is.cfg.URL + "/token"}, Keys: c.meta.keys,
		Algorithms: assertionAlgorithms(), Once: is.deps.Replays, Now: is.deps.Now(),
	})
	switch {
	case errors.Is(err, jose.ErrAssertion):
		return failed(err)
	case err != nil:
		return undecided(err)
	}
	return nil
}

// workloadToken verifies the token of the platform that vouches for a client.
func (is *Issuer) workloadToken(ctx context.Context, k *ClientConfig, raw string) *fault {
	t := is.foreign[k.Workload.Issuer]
	token, f := t.verify(ctx, raw, is.deps.Now())
	if f != nil {
		return f.as(errClient)
	}
	subject, err1 := token.Claims.Text("sub")
	audience, err2 := token.Claims.List("aud")
	switch {
	case err1 != nil || err2 != nil || subject != k.Workload.Subject:
		return refuse(errClient, "Client authentication failed.").because("workload_mismatch", "")
	case !t.aimed(audience):
		return refuse(errClient, "Client authentication failed.").because("workload_audience", "")
	}
	return nil
}

// bySecret compares a shared secret in constant time.
func (is *Issuer) bySecret(r *http.Request, c *Client, p parameters) *fault {
	secret := p["client_secret"]
	if _, pass, ok := r.BasicAuth(); ok {
		plain, err := url.QueryUnescape(pass)
		if err != nil {
			return refuse(errClient, "Client authentication failed.").because("auth_malformed", "")
		}
		secret = plain
	}
	sum := sha256.Sum256([]byte(secret))
	if !is.cfg.LegacySecrets || len(c.meta.secretSum) == 0 || secret == "" || subtle.ConstantTimeCompare(sum[:], c.meta.secretSum) != 1 {
		return refuse(errClient, "Client authentication failed.").because("secret_refused", "")
	}
	return nil
}

// byCertificate compares the certificate of the connection with the registered one (RFC 8705 section 2).
func (is *Issuer) byCertificate(r *http.Request, out *caller) *fault {
	failed := refuse(errClient, "Client authentication failed.").because("certificate_refused", "")
	leaf, verified := is.deps.Certificate(r)
	if leaf == nil || out.client.meta.config == nil {
		return failed
	}
	want := out.client.meta.config.TLS
	sum := sha256.Sum256(leaf.Raw)
	out.cert = base64.RawURLEncoding.EncodeToString(sum[:])
	now := is.deps.Now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return failed
	}
	if want.Thumbprint != "" {
		if subtle.ConstantTimeCompare([]byte(want.Thumbprint), []byte(out.cert)) != 1 {
			return failed
		}
		return nil
	}
	if !verified || !want.names(leaf) {
		return failed
	}
	return nil
}

// names reports whether a verified certificate is of the registered subject.
func (t ClientTLS) names(leaf *x509.Certificate) bool {
	switch {
	case t.SubjectDN != "":
		return leaf.Subject.String() == t.SubjectDN
	case t.SANDNS != "":
		return slices.Contains(leaf.DNSNames, t.SANDNS)
	case t.SANURI != "":
		return slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == t.SANURI })
	default:
		return false
	}
}

// prove checks the DPoP proof of a request to this server (RFC 9449 section 5). Without one, the caller
// is bound to no key, unless the server or the client wants it.
func (is *Issuer) prove(w http.ResponseWriter, r *http.Request, c *caller) *fault {
	values := r.Header.Values("DPoP")
	if len(values) == 0 {
		if is.cfg.RequireDPoP && c.cert == "" || c.client.meta.BoundTokens {
			return refuse(errProof, "A DPoP proof is required.").because("proof_missing", "")
		}
		return nil
	}
	if len(values) > 1 {
		return refuse(errProof, "More than one DPoP proof.").because("proof_repeated", "")
	}
	now := is.deps.Now()
	address, err := jose.NormalizeURL(is.cfg.URL + r.URL.EscapedPath()[len(is.base):])
	if err != nil {
		return refuse(errProof, "The DPoP proof is not acceptable.").because("proof_refused", err.Error())
	}
	proof, err := jose.CheckProof(values[0], jose.ProofRule{Method: r.Method, URL: address, Now: now, Nonces: is.deps.Nonces})
	switch {
	case errors.Is(err, jose.ErrProofNonce):
		return refuse(errNonce, "The DPoP proof must carry the nonce given.").because("proof_nonce", "")
	case err != nil:
		return refuse(errProof, "The DPoP proof is not acceptable.").because("proof_refused", err.Error())
	}
	fresh, err := is.deps.Replays.Add(r.Context(), "dpop\x1f"+proof.Thumbprint+"\x1f"+proof.ID, proof.Until)
	if err != nil {
		return undecided(err)
	}
	if !fresh {
		return refuse(errProof, "The DPoP proof was used before.").because("proof_replayed", "")
	}
	c.proof = proof
	if is.deps.Nonces != nil {
		if next := is.deps.Nonces.Renew(proof.Nonce, now); next != "" { // RFC 9449 section 8.2
			w.Header().Set("DPoP-Nonce", next)
		}
	}
	return nil
}
