package admin

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/warder-mcp/warder"
)

// admit establishes who is asking, within the rates.
func (a *API) admit(w http.ResponseWriter, r *http.Request, o *operation) (*Operator, error) {
	address, local := addressOf(r)
	if !a.rates.address(address, local) {
		return nil, tooMany(w)
	}
	if o.open {
		if !a.rates.guess(address) {
			return nil, tooMany(w)
		}
		return &Operator{Principal: &warder.Principal{Issuer: localIssuer, Subject: "unknown"}, Address: address}, nil
	}
	by, err := a.operator(r, address)
	if err != nil {
		if !a.rates.guess(address) {
			return nil, tooMany(w)
		}
		a.unknown(r, o, address, err)
		return nil, a.unauthenticated(w, err)
	}
	if !a.rates.operator(by.Principal.Key()) {
		return nil, tooMany(w)
	}
	return by, nil
}

// unknown writes down that somebody came without a good credential, and which control said so.
func (a *API) unknown(r *http.Request, o *operation, address string, err error) {
	c := &call{
		op: o, by: &Operator{Principal: &warder.Principal{Issuer: localIssuer, Subject: "unknown"}, Address: address},
		path: func(string) string { return "" },
	}
	e := a.event(c, nil, codeLogin)
	if why, ok := errors.AsType[*warder.Error](err); ok && why.Reason != "" {
		e.Control, e.Reason = why.Control, why.Reason
	}
	if err := a.deps.Note(r.Context(), e); err != nil {
		a.deps.Log.ErrorContext(r.Context(), "record admin operation", slog.String("operation", o.id), slog.Any("error", err))
	}
}

func tooMany(w http.ResponseWriter) error {
	w.Header().Set("Retry-After", "10")
	return problem(http.StatusTooManyRequests, codeRate, "too many requests; wait a little")
}

// socketAddress is the address of a caller at the socket.
const socketAddress = "socket"

// addressOf names where a request comes from, without the port.
func addressOf(r *http.Request) (address string, local bool) {
	if _, ok := r.Context().Value(peerKey{}).(caller); ok {
		return socketAddress, true
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr, false
	}
	return host, false
}

var errNoCredential = errors.New("no credential")

// operator is who holds the credential of a request, or stands at the socket.
func (a *API) operator(r *http.Request, address string) (*Operator, error) {
	peer, local := r.Context().Value(peerKey{}).(caller)
	if local && (peer.err != nil || peer.name == "") {
		return nil, problem(http.StatusForbidden, codeForbidden, "you are not the user who runs the gateway")
	}
	header := r.Header.Values("Authorization")
	switch {
	case len(header) > 1:
		return nil, invalid("two Authorization headers")
	case len(header) == 1:
		return a.holder(r, header[0], address)
	case local:
		by := &Operator{Principal: &warder.Principal{Issuer: localIssuer, Subject: peer.name, Transport: "socket"}, Roles: []Role{RoleOwner}, Address: address}
		if a.cfg.LocalOwner {
			by.Factor = "local"
		}
		return by, nil
	default:
		return nil, errNoCredential
	}
}

// holder is who holds a token: of break-glass, or an access token for this API.
func (a *API) holder(r *http.Request, header, address string) (*Operator, error) {
	scheme, token, _ := strings.Cut(header, " ")
	if strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(token, glassPrefix) {
		return a.glass.operator(r.Context(), token, address)
	}
	if a.deps.Authenticate == nil {
		return nil, errNoCredential
	}
	p, err := a.deps.Authenticate(r)
	if err != nil {
		return nil, err
	}
	if p == nil || p.Issuer == "" || p.Subject == "" || p.Issuer == localIssuer {
		return nil, errors.New("authenticate: nobody")
	}
	return &Operator{Principal: p, Roles: a.cfg.Roles.of(p.Groups), Factor: a.factor.of(p), Address: address}, nil
}

// unauthenticated is the answer to a request without a good credential. It says how to get one, and
// nothing of why the one that came is not good.
func (a *API) unauthenticated(w http.ResponseWriter, err error) error {
	if p, ok := errors.AsType[*Error](err); ok {
		return p
	}
	if errors.Is(err, ErrInvalid) {
		return err
	}
	ask := &warder.Ask{Scheme: "Bearer"}
	if !errors.Is(err, errNoCredential) {
		ask.Error = "invalid_token"
		e, ok := errors.AsType[*warder.Error](err)
		if ok && e.Code == warder.CodeUnavailable || errors.Is(err, errUnavailable) {
			return problem(http.StatusServiceUnavailable, codeUnavailable, "the credential cannot be verified now")
		}
		if ok && e.Ask != nil {
			asked := *e.Ask
			ask = &asked
		}
	}
	if ask.ResourceMetadata == "" {
		ask.ResourceMetadata = metadataURL(a.cfg.Audience)
	}
	challenge(w.Header(), ask)
	return problem(http.StatusUnauthorized, codeLogin, "an access token for this API is required")
}
