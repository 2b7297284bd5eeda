package state_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/warder-mcp/warder/internal/state"
)

var errAway = errors.New("away")

// failing is a store that is away from the second page on.
type failing struct {
	state.Store
	pages int
}

func (f *failing) List(ctx context.Context, q state.Query) ([]state.Doc, error) {
	if f.pages++; f.pages > 1 {
		return nil, errAway
	}
	return f.Store.List(ctx, q)
}

func TestAll(t *testing.T) {
	t.Parallel()
	s := state.NewMemory(nil)
	for i := range 7 {
		if _, err := s.Put(t.Context(), state.Doc{Kind: "grant", ID: fmt.Sprint("g", i), Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	for name, limit := range map[string]int{"one page": 0, "many pages": 2, "pages that fit": 7} {
		q := state.Query{Kind: "grant", Limit: limit}
		all := state.All(t.Context(), s, q)
		for range 2 { // a sequence can be ranged over again
			n := 0
			for d, err := range all {
				if err != nil || d.ID != fmt.Sprint("g", n) {
					t.Fatalf("%s: document %d: %v, %v", name, n, d, err)
				}
				n++
			}
			if n != 7 {
				t.Errorf("%s: %d documents, want 7", name, n)
			}
		}
	}
	n := 0
	var last error
	for _, err := range state.All(t.Context(), &failing{Store: s}, state.Query{Kind: "grant", Limit: 2}) {
		last = err
		n++
	}
	if n != 3 || !errors.Is(last, errAway) {
		t.Errorf("%d steps, then %v; want two documents, then the error", n, last)
	}
}
