package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"

	"github.com/warder-mcp/warder"
)

// maxDenials is how often one request is repeated because the server did not like its credential: once
// for a proof that must carry the server's nonce, once for a credential that was renewed.
const maxDenials = 2

// request sends one request of the link with the credential of its caller. When the server answers 401
// or 403 and a better credential is to be had, the request is sent again: the server has not acted on it.
func (l *httpLink) request(ctx context.Context, method string, u *url.URL, h http.Header, body *payload) (*http.Response, error) {
	sign := l.srv.opt.Sign
	if l.cred.Header == nil && sign == nil {
		return l.c.do(ctx, method, u, h, body)
	}
	for denials := 0; ; denials++ {
		req := (&http.Request{Method: method, URL: u, Host: u.Host, Header: h}).WithContext(ctx)
		if l.cred.Header != nil {
			if err := l.cred.Header(ctx, req); err != nil {
				return nil, credentialFailure(err)
			}
		}
		if sign != nil {
			if err := signed(sign, req, body); err != nil {
				return nil, err
			}
		}
		resp, err := l.c.do(ctx, method, u, h, body)
		if err != nil || !denied(resp) || denials == maxDenials || l.cred.Denied == nil {
			return resp, err
		}
		if err := l.cred.Denied(ctx, resp); err != nil {
			discard(resp)
			return nil, credentialFailure(err)
		}
		discard(resp)
	}
}

// signed signs a request with the body it will be sent with.
func signed(sign func(*http.Request) error, req *http.Request, body *payload) error {
	if body != nil {
		req.GetBody = func() (io.ReadCloser, error) { return &reader{left: *body}, nil }
		req.Body = &reader{left: *body}
	}
	if err := sign(req); err != nil {
		return fail(ReasonUnreachable, err)
	}
	return nil
}

func denied(resp *http.Response) bool {
	return resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
}

// credentialFailure keeps a failure that says what the caller can do about it, such as to authorise
// Warder at the server.
func credentialFailure(err error) error {
	if _, ok := errors.AsType[*warder.Error](err); ok {
		return err
	}
	return fail(ReasonUnauthorized, err)
}

// withSecrets adds to a command that has not started what the process is given on behalf of its caller. The
// files that it adds are closed by the caller.
func withSecrets(ctx context.Context, cmd *exec.Cmd, cred warder.Credential) error {
	if cred.Env == nil {
		return nil
	}
	secrets, err := cred.Env(ctx)
	if err != nil {
		return credentialFailure(err)
	}
	defer func() {
		for _, s := range secrets {
			clear(s.Value)
		}
	}()
	const first = 3 // after the standard streams
	for _, s := range secrets {
		if !s.File {
			cmd.Env = append(cmd.Env, s.Name+"="+string(s.Value))
			continue
		}
		f, err := sealedFile(s.Value)
		if err != nil {
			return credentialFailure(fmt.Errorf("secret %s: %w", s.Name, err))
		}
		cmd.Env = append(cmd.Env, s.Name+"_FILE="+pathOf(first+len(cmd.ExtraFiles)))
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return nil
}
