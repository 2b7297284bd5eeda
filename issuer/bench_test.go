package issuer

import (
	"testing"
	"time"

	"github.com/warder-mcp/warder/internal/seal"
	"github.com/warder-mcp/warder/internal/state"
)

// BenchmarkKey is what a verifier in this process pays to find the key of a token.
func BenchmarkKey(b *testing.B) {
	w := benchWorld(b)
	id := w.keys.current.Load().ring.signing(time.Now()).ID
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.keys.Key(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMint is one token signed with a local key.
func BenchmarkMint(b *testing.B) {
	w := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Mint(b.Context(), Claims{Subject: "ada", Audience: notes, Scopes: []string{"a"}}); err != nil {
			b.Fatal(err)
		}
	}
}

func benchWorld(b *testing.B) *Issuer {
	b.Helper()
	box, err := seal.New(seal.NewKey())
	if err != nil {
		b.Fatal(err)
	}
	m := state.NewMemory(nil)
	is, err := New(b.Context(), Config{URL: "https://gate.example/issuer"}, Deps{State: m, Replays: m, Box: box, Record: (&trail{}).record})
	if err != nil {
		b.Fatal(err)
	}
	return is
}
