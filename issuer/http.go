package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/warder-mcp/warder"
)

// Error codes of RFC 6749 section 5.2 and of the standards built on it.
const (
	errRequest      = "invalid_request"
	errClient       = "invalid_client"
	errGrant        = "invalid_grant"
	errUnauthorized = "unauthorized_client"
	errGrantType    = "unsupported_grant_type"
	errScope        = "invalid_scope"
	errTarget       = "invalid_target"                    // RFC 8707 section 2
	errDetails      = "invalid_authorization_details"     // RFC 9396 section 5
	errProof        = "invalid_dpop_proof"                // RFC 9449 section 5
	errNonce        = "use_dpop_nonce"                    // RFC 9449 section 8
	errDenied       = "access_denied"                     // RFC 6749 section 4.1.2.1
	errResponseType = "unsupported_response_type"         // the same
	errUnavailable  = "temporarily_unavailable"           // the same
	errLogin        = "login_required"                    // OpenID Connect Core section 3.1.2.6
	errConsent      = "consent_required"                  // the same
	errUnmet        = "unmet_authentication_requirements" // RFC 9470 section 5
	errRequestURI   = "invalid_request_uri"               // RFC 9101 section 6.3
	errMetadata     = "invalid_client_metadata"           // RFC 7591 section 3.2.2
	errRedirectURI  = "invalid_redirect_uri"              // the same
	errToken        = "invalid_token"                     // RFC 6750 section 3.1
)

const maxForm = 64 << 10 // bytes of a request

// A fault is a refusal as the client sees it. Detail and Reason are for the record.
type fault struct {
	code   string
	public string        // error_description: one of our own sentences, never the client's words
	reason warder.Reason // stable, for the record; empty: the code
	detail string        // for operators
	status int           // 0: 400
	ctrl   warder.ControlID
	err    error // set when nothing could be decided: answered with 503
}

// Error describes the fault for operators.
func (f *fault) Error() string {
	s := f.code
	if f.detail != "" {
		s += ": " + f.detail
	}
	if f.err != nil {
		s += ": " + f.err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (f *fault) Unwrap() error { return f.err }

// refuse builds a fault.
func refuse(code, public string) *fault { return &fault{code: code, public: public} }

// because adds what only the record says.
func (f *fault) because(reason warder.Reason, detail string) *fault {
	f.reason, f.detail = reason, detail
	return f
}

// as changes the code of a refusal; a fault of a dependency stays what it is.
func (f *fault) as(code string) *fault {
	if f != nil && f.err == nil {
		f.code = code
	}
	return f
}

// undecided is the fault of a dependency that could not answer: fail closed.
func undecided(err error) *fault {
	return &fault{code: errUnavailable, public: "The server cannot decide this now.", reason: "unavailable", status: http.StatusServiceUnavailable, err: err}
}

// handle mounts a handler behind the rate limit of the client's address. open true lets scripts of
// other origins read the answer: only what holds no cookie and is meant for browser clients.
func (is *Issuer) handle(mux *http.ServeMux, method, path string, open bool, h http.HandlerFunc) {
	guarded := func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		if open {
			head.Set("Access-Control-Allow-Origin", "*")
			head.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate, Retry-After")
		}
		if !is.limits.address.allow(network(is.deps.Peer(r)), is.deps.Now()) {
			is.slow(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		h(w, r)
	}
	mux.HandleFunc(method+" "+path, guarded)
	if open {
		mux.HandleFunc("OPTIONS "+path, func(w http.ResponseWriter, _ *http.Request) {
			head := w.Header()
			head.Set("Access-Control-Allow-Origin", "*")
			head.Set("Access-Control-Allow-Methods", method)
			head.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP, MCP-Protocol-Version")
			head.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
		})
	}
}

// slow answers a client that asks too often.
func (is *Issuer) slow(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "10")
	answer(w, http.StatusTooManyRequests, map[string]string{"error": errUnavailable, "error_description": "Too many requests."})
}

// parameters are those of a request, each at most once (RFC 6749 section 3.1).
type parameters map[string]string

// query reads the parameters of an authorization request.
func query(r *http.Request) (parameters, *fault) {
	if len(r.URL.RawQuery) > maxForm {
		return nil, refuse(errRequest, "The request is too large.")
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(errRequest, "The query is malformed.").because("malformed", err.Error())
	}
	return single(values)
}

// form reads the parameters of a POST. Parameters in the query are refused: they end up in logs.
func form(r *http.Request) (parameters, *fault) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return nil, refuse(errRequest, "Content-Type must be application/x-www-form-urlencoded.")
	}
	if r.URL.RawQuery != "" {
		return nil, refuse(errRequest, "Parameters belong in the body.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, tooLarge(err)
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, refuse(errRequest, "The body is malformed.").because("malformed", err.Error())
	}
	return single(values)
}

// tooLarge tells a body over the limit from one that could not be read.
func tooLarge(err error) *fault {
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		f := refuse(errRequest, "The request is too large.")
		f.status = http.StatusRequestEntityTooLarge
		return f
	}
	return refuse(errRequest, "The body could not be read.")
}

// single refuses repeated parameters. resource and audience may be repeated by their standards; here
// a token is for exactly one server, so that is invalid_target.
func single(values url.Values) (parameters, *fault) {
	p := parameters{}
	for name, list := range values {
		switch {
		case len(list) == 1:
			p[name] = list[0]
		case name == "resource" || name == "audience":
			return nil, refuse(errTarget, "A token is for exactly one resource.").because("resource_repeated", "")
		default:
			return nil, refuse(errRequest, "A parameter is repeated.").because("parameter_repeated", cut(name, 64))
		}
	}
	return p, nil
}

// answer writes JSON that nobody may keep.
func answer(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// fail renders a fault as RFC 6749 section 5.2 says.
func (is *Issuer) fail(w http.ResponseWriter, r *http.Request, f *fault) {
	status := f.status
	if status == 0 {
		status = http.StatusBadRequest
	}
	switch {
	case f.err != nil:
		is.deps.Log.LogAttrs(r.Context(), slog.LevelError, "authorization server cannot decide",
			slog.String("path", r.URL.Path), slog.String("error", f.err.Error()))
		w.Header().Set("Retry-After", "5")
	case f.code == errClient:
		status = http.StatusUnauthorized
		if strings.HasPrefix(r.Header.Get("Authorization"), "Basic ") {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", is.cfg.URL))
		}
	}
	if is.deps.Nonces != nil && (f.code == errNonce || f.code == errProof) {
		w.Header().Set("DPoP-Nonce", is.deps.Nonces.Make(is.deps.Now()))
	}
	body := map[string]string{"error": f.code}
	if f.public != "" {
		body["error_description"] = f.public
	}
	answer(w, status, body)
}

// unavailable answers when nothing could be decided.
func (is *Issuer) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	is.fail(w, r, undecided(err))
}

// cut shortens text for the record.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
