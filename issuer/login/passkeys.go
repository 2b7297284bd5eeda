package login

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/warder-mcp/warder/internal/passkey"
	"github.com/warder-mcp/warder/internal/state"
)

// keyFresh is how long after a login its person may add or remove passkeys.
const keyFresh = 15 * time.Minute

// errUnknownKey is a passkey of no account. People are told the same as for any other refusal.
var errUnknownKey = errors.New("no account has this passkey")

// keyRequest is what the script sends.
type keyRequest struct {
	CSRF       string          `json:"csrf"`
	Need       string          `json:"need"`
	Ceremony   string          `json:"ceremony"`
	Credential json.RawMessage `json:"credential"`
	Label      string          `json:"label"`
}

// keyAnswer is what it gets.
type keyAnswer struct {
	Options  json.RawMessage `json:"options,omitempty"`
	Ceremony string          `json:"ceremony,omitempty"`
	To       string          `json:"to,omitempty"`    // path to go to
	Code     string          `json:"code,omitempty"`  // of a refusal
	Error    string          `json:"error,omitempty"` // the same for people
}

// script reads a request of the script: JSON, bounded, from this site, with the token of the page.
func (s *Service) script(w http.ResponseWriter, r *http.Request, path string) (*keyRequest, bool) {
	var in keyRequest
	if s.party == nil {
		s.answer(w, http.StatusNotFound, keyAnswer{Code: "passkeys_off", Error: "Passkeys are not available on this site."})
		return nil, false
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		s.answer(w, http.StatusUnsupportedMediaType, keyAnswer{Code: "form_type", Error: "That request cannot be read."})
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	if err == nil {
		err = json.Unmarshal(body, &in)
	}
	if err != nil {
		s.answer(w, http.StatusBadRequest, keyAnswer{Code: "form_malformed", Error: "That request cannot be read."})
		return nil, false
	}
	if err := s.checkForm(r, path, in.CSRF); err != nil {
		s.refused(r, nil, "form_forged", err.Error())
		s.answer(w, http.StatusForbidden, keyAnswer{Code: "form_forged", Error: "This page is too old. Open it again."})
		return nil, false
	}
	if !s.limits.attempt(s.deps.Peer(r)) {
		s.refused(r, nil, "rate_limited", "too many passkey attempts")
		w.Header().Set("Retry-After", "60")
		s.answer(w, http.StatusTooManyRequests, keyAnswer{Code: "rate_limited", Error: "Too many attempts. Wait a minute."})
		return nil, false
	}
	return &in, true
}

func (s *Service) answer(w http.ResponseWriter, status int, a keyAnswer) {
	b, err := json.Marshal(a)
	if err != nil {
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the browser went away
}

// keyRefused answers every refused ceremony alike, and records why.
func (s *Service) keyRefused(w http.ResponseWriter, r *http.Request, reason string, err error) {
	s.refused(r, nil, reasonOf(reason), err.Error())
	s.answer(w, http.StatusForbidden, keyAnswer{Code: "passkey_refused", Error: "This passkey was not accepted."})
}

// keyBroken answers when Warder itself cannot go on.
func (s *Service) keyBroken(w http.ResponseWriter, r *http.Request, err error) {
	s.deps.Log.ErrorContext(r.Context(), "a passkey cannot be used", attrError(err))
	s.answer(w, http.StatusServiceUnavailable, keyAnswer{Code: "unavailable", Error: "This does not work right now."})
}

// putCeremony stores a ceremony for the browser that begins it, and returns its name.
func (s *Service) putCeremony(r *http.Request, body []byte) (string, error) {
	name := newSecret()
	_, err := s.deps.State.Put(r.Context(), state.Doc{
		Kind: kindCeremony, ID: hashed(name), Owner: s.holder(r), NotAfter: s.deps.Now().Add(passkey.Timeout), Body: body,
	})
	if err != nil {
		return "", fmt.Errorf("begin ceremony: %w", err)
	}
	return name, nil
}

// takeCeremony returns a ceremony of this browser, once.
func (s *Service) takeCeremony(r *http.Request, name string) ([]byte, error) {
	d, err := s.deps.State.Take(r.Context(), kindCeremony, hashed(name))
	if err != nil {
		return nil, err
	}
	if d.Owner != s.holder(r) {
		return nil, fmt.Errorf("%w: begun in another browser or session", state.ErrNotFound)
	}
	return d.Body, nil
}

// postLoginOptions begins a login with a passkey. It does not say whether anybody has one.
func (s *Service) postLoginOptions(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.script(w, r, s.path+"/login/passkey"); !ok {
		return
	}
	options, ceremony, err := s.party.BeginLogin()
	s.offer(w, r, options, ceremony, err)
}

// offer sends the options of a ceremony that has begun, and keeps what it needs to be ended.
func (s *Service) offer(w http.ResponseWriter, r *http.Request, options, ceremony []byte, err error) {
	var name string
	if err == nil {
		name, err = s.putCeremony(r, ceremony)
	}
	if err != nil {
		s.keyBroken(w, r, err)
		return
	}
	s.answer(w, http.StatusOK, keyAnswer{Options: options, Ceremony: name})
}

// postLoginFinish ends it.
func (s *Service) postLoginFinish(w http.ResponseWriter, r *http.Request) {
	in, ok := s.script(w, r, s.path+"/login/passkey")
	if !ok {
		return
	}
	n, err := s.openNeed(r, in.Need)
	if err != nil {
		s.answer(w, http.StatusBadRequest, keyAnswer{Code: "login_expired", Error: "This sign-in page is too old. Start again."})
		return
	}
	ceremony, err := s.takeCeremony(r, in.Ceremony)
	if errors.Is(err, state.ErrNotFound) {
		s.keyRefused(w, r, "ceremony_unknown", err)
		return
	}
	if err != nil {
		s.keyBroken(w, r, err)
		return
	}
	a, method, err := s.provePasskey(r.Context(), ceremony, in.Credential)
	switch {
	case errors.Is(err, passkey.ErrCloned):
		s.keyRefused(w, r, "passkey_cloned", err)
		return
	case errors.Is(err, passkey.ErrRefused), errors.Is(err, errUnknownKey):
		s.keyRefused(w, r, "passkey_refused", err)
		return
	case err != nil:
		s.keyBroken(w, r, err)
		return
	}
	ss := &session{User: s.localUser(a, ACRPasskey, method, "user"), Provider: localProvider, For: hashed(n.Back)}
	if err := s.welcome(w, r, ss, "passkey"); err != nil {
		s.keyBroken(w, r, err)
		return
	}
	back, lack := s.entered(ss, &n)
	if lack != "" {
		s.answer(w, http.StatusForbidden, keyAnswer{Code: "login_insufficient", Error: "You are signed in, but that is not enough here."})
		return
	}
	s.answer(w, http.StatusOK, keyAnswer{To: back})
}

// provePasskey checks an assertion and stores the moved counter; if another login moved it meanwhile, this
// one is refused rather than counted twice. method is the key's authentication method (RFC 8176): "swk" for
// one that is copied between devices, "hwk" for one that is not.
func (s *Service) provePasskey(ctx context.Context, ceremony, credential []byte) (a *account, method string, err error) {
	var found *account
	_, key, err := s.party.FinishLogin(ceremony, credential, func(handle []byte) (passkey.Account, error) {
		a, err := s.byHandle(ctx, handle)
		if err != nil {
			return passkey.Account{}, err
		}
		if a == nil {
			return passkey.Account{}, errUnknownKey
		}
		if s.limits.locked(a.Name) {
			return passkey.Account{}, fmt.Errorf("%w: too many failures", errUnknownKey)
		}
		found = a
		return a.passkeys(), nil
	}, s.deps.Now())
	if err != nil {
		if found != nil {
			s.limits.fail(found.Name)
		}
		return nil, "", err
	}
	for i := range found.Keys {
		if bytes.Equal(found.Keys[i].ID, key.ID) {
			found.Keys[i] = key
		}
	}
	method = "hwk"
	if key.Synced {
		method = "swk"
	}
	return found, method, s.putAccount(ctx, found)
}

// keyOwner returns the local account whose person is logged in, by a login that is fresh enough to change
// passkeys.
func (s *Service) keyOwner(r *http.Request) (*account, *session, error) {
	ss, err := s.session(r)
	if err != nil || ss == nil || ss.Provider != localProvider || s.deps.Now().Sub(ss.User.AuthTime) > keyFresh {
		return nil, nil, err
	}
	a, err := s.account(r.Context(), ss.User.Name)
	return a, ss, err
}

// postKeyOptions begins a registration.
func (s *Service) postKeyOptions(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.script(w, r, s.path+"/account/passkey"); !ok {
		return
	}
	a, _, err := s.keyOwner(r)
	if err != nil {
		s.keyBroken(w, r, err)
		return
	}
	if a == nil || len(a.Keys) >= maxKeys {
		s.answer(w, http.StatusForbidden, keyAnswer{Code: "login_insufficient", Error: "Sign in again to add a passkey."})
		return
	}
	options, ceremony, err := s.party.BeginRegister(a.passkeys())
	s.offer(w, r, options, ceremony, err)
}

// postKeyFinish ends it.
func (s *Service) postKeyFinish(w http.ResponseWriter, r *http.Request) {
	in, ok := s.script(w, r, s.path+"/account/passkey")
	if !ok {
		return
	}
	a, ss, err := s.keyOwner(r)
	if err != nil {
		s.keyBroken(w, r, err)
		return
	}
	if a == nil || len(a.Keys) >= maxKeys {
		s.answer(w, http.StatusForbidden, keyAnswer{Code: "login_insufficient", Error: "Sign in again to add a passkey."})
		return
	}
	ceremony, err := s.takeCeremony(r, in.Ceremony)
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		s.keyBroken(w, r, err)
		return
	}
	var key passkey.Key
	if err == nil {
		key, err = s.party.FinishRegister(a.passkeys(), ceremony, in.Credential, s.deps.Now().UTC())
	}
	if err != nil {
		s.keyRefused(w, r, "passkey_refused", err)
		return
	}
	key.Label = cut(in.Label, 64)
	a.Keys = append(a.Keys, key)
	if err := s.allowed(r, &ss.User, "passkey_added", key.Label); err != nil {
		s.keyBroken(w, r, err)
		return
	}
	if err := s.putAccount(r.Context(), a); err != nil {
		s.keyBroken(w, r, err)
		return
	}
	s.answer(w, http.StatusOK, keyAnswer{To: s.path + "/account"})
}
