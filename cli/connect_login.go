package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/warder-mcp/warder"
)

// A holder keeps the key and the tokens of a login at a remote MCP server, and shows them for a client that
// can do neither OAuth nor DPoP.
type holder struct{ account *account }

// signIn finds the login that is kept for a server, or leads the person through the browser to one.
// Without a login at a server that asks for none it returns nil.
func (l *login) signIn(ctx context.Context, always bool) (*holder, error) {
	a, err := openAccount(ctx, l.resource)
	if err == nil {
		if _, _, terr := a.token(ctx); terr == nil {
			return &holder{a}, nil
		} else if !errors.Is(terr, errNoAccount) {
			return nil, terr
		}
	} else if !errors.Is(err, errNoAccount) {
		return nil, err
	}
	if !always {
		return nil, nil
	}
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	if a, err = openAccount(ctx, l.resource); err != nil {
		return nil, err
	}
	return &holder{a}, nil
}

// credential is what the server is shown.
func (h *holder) credential(string) warder.Credential {
	return warder.Credential{Kind: "oauth", Owner: h.account.kept.Client, Header: h.header, Denied: h.denied}
}

// header sets the token, and the proof for this one request.
func (h *holder) header(ctx context.Context, r *http.Request) error {
	token, bound, err := h.account.token(ctx)
	if err != nil {
		return err
	}
	if !bound {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	proof, err := h.account.client.Proof(r.Method, r.URL, token)
	if err != nil {
		return fmt.Errorf("prove the key: %w", err)
	}
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("Dpop", proof)
	return nil
}

var errLoginRefused = errors.New("the server does not accept the login; run warder connect --login again")

// denied learns the nonce that the server wants in proofs, or that its word was no.
func (h *holder) denied(_ context.Context, r *http.Response) error {
	if r.Request != nil && r.StatusCode == http.StatusUnauthorized && h.account.client.Nonce(r.Request.URL, r.Header) {
		return nil
	}
	return errLoginRefused
}

// given reports whether the user handed in a token, so that no login is needed.
func given(env, file string) bool { return file != "" || os.Getenv(env) != "" }
