package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
)

// stored is a registered client in the store. The secret itself is not kept.
type stored struct {
	registration

	SecretSum []byte `json:"secret_sum,omitempty"`
}

func parseStored(body []byte) (stored, error) {
	var s stored
	err := json.Unmarshal(body, &s)
	return s, err
}

// registered is the answer of RFC 7591 section 3.2.1.
type registered struct {
	registration

	Issued        int64  `json:"client_id_issued_at"`
	Secret        string `json:"client_secret,omitempty"`
	SecretExpires *int64 `json:"client_secret_expires_at,omitempty"`
}

// register is the registration endpoint of RFC 7591, which is off unless the operator wants it.
func (is *Issuer) register(w http.ResponseWriter, r *http.Request) {
	peer, now := is.deps.Peer(r), is.deps.Now()
	if !is.limits.register.allow(network(peer), now) {
		is.slow(w)
		return
	}
	answered, f := is.registerClient(r, now)
	outcome, reason := warder.OutcomeAllowed, warder.Reason("client_registered")
	if f != nil {
		outcome, reason = warder.OutcomeRefused, f.why()
	}
	e := is.event(reason, outcome)
	e.Control, e.Peer = aut02, peer
	if f == nil {
		e.Principal = &warder.EventPrincipal{Client: answered.ID}
		e.Detail = fmt.Sprintf("registered %q", cut(answered.Name, 80))
	} else {
		e.Detail = cut(f.Error(), 256)
	}
	if err := is.deps.Record(r.Context(), e); err != nil {
		is.unavailable(w, r, err)
		return
	}
	if f != nil {
		is.fail(w, r, f)
		return
	}
	answer(w, http.StatusCreated, answered)
}

// registerClient judges and stores one registration.
func (is *Issuer) registerClient(r *http.Request, now time.Time) (*registered, *fault) {
	if f := is.mayRegister(r); f != nil {
		return nil, f
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, refuse(errMetadata, "Content-Type must be application/json.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, tooLarge(err)
	}
	meta, err := parseRegistration(body)
	if err != nil {
		code := errMetadata
		if strings.Contains(err.Error(), "redirect_uris") {
			code = errRedirectURI
		}
		return nil, refuse(code, "The client metadata cannot be accepted.").because("metadata_unusable", err.Error())
	}
	if f := is.limitMetadata(&meta); f != nil {
		return nil, f
	}
	return is.storeClient(r, meta, now)
}

// mayRegister checks the initial access token (RFC 7591 section 3).
func (is *Issuer) mayRegister(r *http.Request) *fault {
	if is.cfg.DCR.Mode == "open" {
		return nil
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	want, err := is.cfg.DCR.Token.Read(r.Context())
	if err != nil {
		return undecided(err)
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256(want.Bytes())
	if !ok || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		f := refuse(errToken, "An initial access token is required.").because("initial_token", "")
		f.status = http.StatusUnauthorized
		return f
	}
	return nil
}

// limitMetadata takes away what a client that nobody knows may not have.
func (is *Issuer) limitMetadata(meta *registration) *fault {
	meta.Grants = slices.DeleteFunc(slices.Clone(meta.Grants), func(g string) bool { return g != grantCode && g != grantRefresh })
	if !slices.Contains(meta.Grants, grantCode) {
		return refuse(errMetadata, "Only the authorization code grant is open to clients that register themselves.")
	}
	switch meta.Auth {
	case authNone:
	case authPrivateKey:
		if len(meta.KeySet) == 0 && meta.KeySetURI == "" {
			return refuse(errMetadata, "private_key_jwt needs jwks or jwks_uri.")
		}
	case authBasic, authPost:
		if !is.cfg.LegacySecrets {
			return refuse(errMetadata, "Shared secrets are not accepted here.").because("secret_asked", "")
		}
	default:
		return refuse(errMetadata, "The authentication method is not accepted here.")
	}
	meta.Responses, meta.Secret = []string{"code"}, ""
	return nil
}

// storeClient keeps the registration under this issuer, until it expires.
func (is *Issuer) storeClient(r *http.Request, meta registration, now time.Time) (*registered, *fault) {
	meta.ID = "c_" + rand.Text()
	s := stored{registration: meta}
	out := &registered{registration: meta, Issued: now.Unix()}
	end := now.Add(is.cfg.DCR.TTL)
	if meta.Auth == authBasic || meta.Auth == authPost {
		out.Secret = rand.Text() + rand.Text()
		out.SecretExpires = new(end.Unix())
		sum := sha256.Sum256([]byte(out.Secret))
		s.SecretSum = sum[:]
	}
	if _, err := is.newClient(meta, SourceDynamic); err != nil {
		return nil, refuse(errMetadata, "The keys cannot be used.").because("metadata_unusable", err.Error())
	}
	body, err := json.Marshal(s)
	if err != nil {
		return nil, undecided(err)
	}
	_, err = is.deps.State.Put(r.Context(), state.Doc{Kind: kindClient, ID: meta.ID, Owner: is.cfg.URL, NotAfter: end, Body: body})
	if err != nil {
		return nil, undecided(err)
	}
	return out, nil
}
