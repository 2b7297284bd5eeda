package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/warder-mcp/warder"
	"github.com/warder-mcp/warder/internal/secret"
)

// secrets shows a server a secret that is fetched from its place when it is needed: it stands in no
// configuration, is kept no longer than its lease, and follows its rotation without a restart.
// Control MSH-03.
type secrets struct{ *Keeper }

var _ warder.Interceptor = secrets{}

// Control returns "MSH-03".
func (secrets) Control() warder.ControlID { return "MSH-03" }

// Intercept sets the credential of the exchange. A secret that cannot be had refuses the call.
func (m secrets) Intercept(ctx context.Context, x *warder.Exchange) (warder.Decision, error) {
	s := m.serverOf(x)
	if s == nil || s.kind != kindSecret {
		return warder.Continue(), nil
	}
	if h := s.shown.value; h != nil {
		if _, err := h.Get(ctx); err != nil {
			if ctx.Err() != nil {
				return warder.Decision{}, ctx.Err()
			}
			return warder.Refuse(warder.CodeUpstreamFailed, "secret_unavailable", err.Error()).Tell("Warder could not obtain a credential for the server."), nil
		}
	}
	x.Attach = s.shown.attach
	return warder.Continue(), nil
}

// A shownSecret is what one server is shown.
type shownSecret struct {
	s      *server
	name   string // canonical header name
	prefix string
	value  *secret.Handle // nil for a child process
	env    []childSecret  // nil for a header
	attach warder.Credential
	last   atomic.Pointer[rendered]
}

// A childSecret is one secret of a child process.
type childSecret struct {
	name   string
	file   bool // handed over in a file
	handle *secret.Handle
}

// rendered is the header value of one lease.
type rendered struct {
	lease *secret.Lease
	value []string
}

// openSecret prepares the handles. Nothing is fetched yet.
func (s *server) openSecret(address string) error {
	conf := s.creds.Secret
	sh := &shownSecret{s: s, name: http.CanonicalHeaderKey(conf.Header), prefix: conf.Prefix}
	if sh.name == "" {
		sh.name = "Authorization"
	}
	sh.attach = warder.Credential{Kind: kindSecret}
	var err error
	if conf.Value.IsZero() {
		if address != "" {
			return errors.New("credentials.secret.env and fd are for servers that run as child processes")
		}
		for name, ref := range conf.Env {
			if err := sh.handOver(name, ref, false); err != nil {
				return err
			}
		}
		for name, ref := range conf.FD {
			if err := sh.handOver(name, ref, true); err != nil {
				return err
			}
		}
		sh.attach.Env = sh.environment
	} else {
		if address == "" {
			return errors.New("credentials.secret.value is for servers with a url")
		}
		if sh.value, err = s.k.deps.Secrets.Handle(conf.Value); err != nil {
			return err
		}
		sh.attach.Header, sh.attach.Denied = sh.header, sh.denied
	}
	s.shown = sh
	return nil
}

// handOver prepares one secret of a child process.
func (sh *shownSecret) handOver(name string, ref secret.Ref, file bool) error {
	h, err := sh.s.k.deps.Secrets.Handle(ref)
	sh.env = append(sh.env, childSecret{name, file, h})
	return err
}

func (sh *shownSecret) failure(err error) error {
	return &warder.Error{
		Code: warder.CodeUpstreamFailed, Control: "MSH-03", Reason: "secret_unavailable", Err: err,
		Public: "Warder could not obtain a credential for the server.",
	}
}

// header sets the header of one request.
func (sh *shownSecret) header(ctx context.Context, r *http.Request) error {
	l, err := sh.value.Get(ctx)
	if err != nil {
		return sh.failure(err)
	}
	now := sh.last.Load()
	if now == nil || now.lease != l {
		text := sh.prefix + string(l.Value.Bytes())
		for i := range len(text) {
			if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
				return sh.failure(errors.New("the secret holds control characters and fits in no header"))
			}
		}
		now = &rendered{lease: l, value: []string{text}}
		sh.last.Store(now)
	}
	r.Header[sh.name] = now.value
	return nil
}

// denied fetches the secret again: it may have been rotated since. The request is repeated only if it
// has.
func (sh *shownSecret) denied(ctx context.Context, r *http.Response) error {
	refusal := &warder.Error{
		Code: warder.CodeUpstreamFailed, Control: "MSH-03", Reason: "server_denied",
		Public: "The server behind the gateway does not take Warder's credential.",
	}
	before := sh.last.Load()
	if before == nil || r.StatusCode != http.StatusUnauthorized {
		return refusal
	}
	old := before.lease.Value.Clone()
	sh.value.Forget()
	l, err := sh.value.Get(ctx)
	if err != nil {
		return sh.failure(err)
	}
	if l.Value.Equal(old) {
		sh.s.k.tell(ctx, "MSH-03", sh.s, owner{}, refused, "server_denied", "")
		return refusal
	}
	sh.s.k.tell(ctx, "MSH-03", sh.s, owner{}, renewed, "secret_rotated", "")
	return nil
}

// environment returns the secrets of a child process. The receiver overwrites them.
func (sh *shownSecret) environment(ctx context.Context) ([]warder.EnvSecret, error) {
	var out []warder.EnvSecret
	for _, c := range sh.env {
		l, err := c.handle.Get(ctx)
		if err != nil {
			for _, s := range out {
				clear(s.Value)
			}
			return nil, sh.failure(err)
		}
		out = append(out, warder.EnvSecret{Name: c.name, File: c.file, Value: l.Value.Clone().Bytes()})
	}
	return out, nil
}
