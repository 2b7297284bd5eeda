package jose

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/state"
)

type deadMemory struct{}

func (deadMemory) Add(context.Context, string, time.Time) (bool, error) {
	return false, errors.New("connection refused")
}

func TestVerifyAssertion(t *testing.T) {
	t.Parallel()
	const client, server = "https://client.example/id.json", "https://as.example"
	now := time.Unix(1_800_000_000, 0)
	own, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := own.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeySet(doc)
	if err != nil {
		t.Fatal(err)
	}
	claims := func(change map[string]any) map[string]any {
		return with(map[string]any{
			"iss": client, "sub": client, "aud": server, "jti": "1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		}, change)
	}
	sign := func(s *Signer, change map[string]any) string {
		raw, err := s.Sign("JWT", claims(change))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, tt := range []struct {
		name string
		raw  string
		want error // all but nil wrap ErrAssertion too
	}{
		{"good", sign(own, nil), nil},
		{"audience in a list of one", sign(own, map[string]any{"aud": []string{server}}), nil},
		{"wrong key", sign(other, nil), ErrUnknownKey},
		{"by another client", sign(own, map[string]any{"iss": "https://evil.example"}), ErrClaim},
		{"about another client", sign(own, map[string]any{"sub": "https://evil.example"}), ErrClaim},
		{"for another server", sign(own, map[string]any{"aud": "https://as.example.evil"}), ErrClaim},
		{"for another server too", sign(own, map[string]any{"aud": []string{server, "https://evil.example"}}), ErrClaim},
		{"for a place below the server", sign(own, map[string]any{"aud": server + "/"}), ErrClaim},
		{"for nobody", sign(own, map[string]any{"aud": nil}), ErrClaim},
		{"without id", sign(own, map[string]any{"jti": nil}), ErrClaim},
		{"expired", sign(own, map[string]any{"exp": now.Add(-time.Minute).Unix()}), ErrExpired},
		{"without end", sign(own, map[string]any{"exp": nil}), ErrClaim},
		{"for an hour", sign(own, map[string]any{"exp": now.Add(time.Hour).Unix()}), ErrLifetime},
		{"not yet valid", sign(own, map[string]any{"nbf": now.Add(time.Minute).Unix()}), ErrNotYetValid},
		{"from the future", sign(own, map[string]any{"iat": now.Add(time.Minute).Unix()}), ErrFutureIssue},
		{"no token", "x", ErrMalformed},
	} {
		rule := AssertionRule{Client: client, Audiences: []string{server}, Keys: Static(keys), Once: state.NewMemory(nil), Now: now}
		_, err := VerifyAssertion(t.Context(), tt.raw, rule)
		if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) || err != nil && !errors.Is(err, ErrAssertion) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if tt.want != nil {
			continue
		}
		if _, err := VerifyAssertion(t.Context(), tt.raw, rule); !errors.Is(err, ErrReplay) {
			t.Errorf("%s, again: %v, want %v", tt.name, err, ErrReplay)
		}
		rule.Once = deadMemory{}
		if _, err := VerifyAssertion(t.Context(), tt.raw, rule); err == nil || errors.Is(err, ErrAssertion) {
			t.Errorf("%s, memory is dead: %v", tt.name, err)
		}
		rule.Once = nil
		if _, err := VerifyAssertion(t.Context(), tt.raw, rule); err == nil {
			t.Errorf("%s: accepted without a memory", tt.name)
		}
	}
	made, err := own.Assert(client, server, now)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := AssertionClient(made); id != client || err != nil {
		t.Errorf("client = %q, %v", id, err)
	}
	rule := AssertionRule{Client: client, Audiences: []string{server}, Keys: Static(keys), Once: state.NewMemory(nil), Now: now}
	if _, err := VerifyAssertion(t.Context(), made, rule); err != nil {
		t.Errorf("our own assertion: %v", err)
	}
	if _, err := AssertionClient("x"); err == nil {
		t.Error("no token has a client")
	}
}
