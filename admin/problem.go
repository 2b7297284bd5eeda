package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/state"
	"github.com/warder-mcp/warder/registry"
)

// An Error is the answer to a request that was not carried out: problem details (RFC 9457). Code is stable; Detail is
// for people.
type Error struct {
	Type   string `json:"type" doc:"always about:blank; code says what it is"`
	Title  string `json:"title" doc:"the sentence of the status"`
	Status int    `json:"status"`
	Code   string `json:"code" enum:"cross_origin,conflict,forbidden,insufficient_user_authentication,internal,invalid_request,method_not_allowed,not_configured,not_found,rate_limited,refused,too_large,unauthenticated,unavailable,unsupported_media_type,version_mismatch"`
	Detail string `json:"detail,omitempty" doc:"what was wrong"`
	ID     string `json:"id,omitempty" doc:"names the request in the log and in the audit trail"`

	Challenge []string `json:"-"` // WWW-Authenticate as received; set by Client
}

// Error describes the problem for the person who asked.
func (p *Error) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// Is reports whether the problem is what a service's error means.
func (p *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return p.Code == codeNotFound
	case ErrConflict:
		return p.Code == codeConflict || p.Code == codeVersion
	case ErrInvalid:
		return p.Code == codeInvalid
	case ErrRefused:
		return p.Code == codeRefused || p.Code == codeForbidden
	default:
		return false
	}
}

// The codes of problems.
const (
	codeConflict    = "conflict"
	codeCrossOrigin = "cross_origin"
	codeForbidden   = "forbidden"
	codeStepUp      = "insufficient_user_authentication" // RFC 9470 section 3
	codeInternal    = "internal"
	codeInvalid     = "invalid_request"
	codeMethod      = "method_not_allowed"
	codeAbsent      = "not_configured"
	codeNotFound    = "not_found"
	codeRate        = "rate_limited"
	codeRefused     = "refused"
	codeTooLarge    = "too_large"
	codeLogin       = "unauthenticated"
	codeUnavailable = "unavailable"
	codeMediaType   = "unsupported_media_type"
	codeVersion     = "version_mismatch"
)

var errMediaType = errors.New("the body must be application/json")

func problem(status int, code, detail string) *Error {
	return &Error{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// problemOf says what the client may know of an error.
func problemOf(err error, matched bool) *Error {
	if p, ok := errors.AsType[*Error](err); ok {
		return p
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem(http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the body is larger than %d bytes", e.Limit))
	}
	switch {
	case errors.Is(err, errMediaType):
		return problem(http.StatusUnsupportedMediaType, codeMediaType, errMediaType.Error())
	case errors.Is(err, ErrInvalid):
		return problem(http.StatusBadRequest, codeInvalid, text(err, ErrInvalid))
	case errors.Is(err, ErrRefused):
		return problem(http.StatusUnprocessableEntity, codeRefused, text(err, ErrRefused))
	case errors.Is(err, registry.ErrRequest), errors.Is(err, registry.ErrInvalid), errors.Is(err, registry.ErrUnknown), errors.Is(err, registry.ErrTampered):
		return problem(http.StatusUnprocessableEntity, codeRefused, err.Error())
	case errors.Is(err, ErrNotFound), errors.Is(err, state.ErrNotFound):
		return problem(http.StatusNotFound, codeNotFound, "there is no such thing")
	case (errors.Is(err, ErrConflict) || errors.Is(err, state.ErrConflict)) && matched:
		return problem(http.StatusPreconditionFailed, codeVersion, "it was changed by another; look at it again")
	case errors.Is(err, ErrConflict), errors.Is(err, state.ErrConflict):
		return problem(http.StatusConflict, codeConflict, "it is there already, or was changed by another; look at it again")
	default:
		return problem(http.StatusInternalServerError, codeInternal, "the gateway could not do it; its log has the cause under this id")
	}
}

// text is the message of an error without the sentinel in front.
func text(err, sentinel error) string {
	return strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
}

// write answers with a problem.
func (p *Error) write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil { // only strings and a number
		body = []byte(`{"code":"internal"}`)
	}
	w.Header()["Content-Type"] = []string{"application/problem+json"}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}

// challenge writes what the client must bring (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9470
// section 3, RFC 9728 section 5.1).
func challenge(h http.Header, ask *warder.Ask) {
	var params []string
	add := func(name, value string) {
		if value != "" {
			params = append(params, name+`="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)+`"`)
		}
	}
	add("error", ask.Error)
	if ask.Error == codeStepUp {
		add("error_description", "a phishing-resistant login of the last minutes is needed")
	}
	add("scope", strings.Join(ask.Scopes, " "))
	add("acr_values", strings.Join(ask.ACR, " "))
	if ask.MaxAge > 0 {
		add("max_age", fmt.Sprint(int64(ask.MaxAge/time.Second)))
	}
	add("resource_metadata", ask.ResourceMetadata)
	scheme := ask.Scheme
	if scheme == "" {
		scheme = "Bearer"
	}
	h.Add("WWW-Authenticate", strings.TrimSpace(scheme+" "+strings.Join(params, ", ")))
	if len(ask.Algorithms) > 0 && scheme != "DPoP" {
		add("algs", strings.Join(ask.Algorithms, " "))
		h.Add("WWW-Authenticate", "DPoP "+strings.Join(params, ", "))
	}
	if ask.Nonce != "" {
		h.Set("DPoP-Nonce", ask.Nonce)
	}
}
