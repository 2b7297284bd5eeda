package cedar

import (
	"hash/maphash"
	"iter"
	"sync/atomic"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// A slice is the policies that can concern one principal, one resource and one action.
type slice struct {
	set      *set
	policies []*policy
	obliges  bool // one of the policies asks for something besides
	open     bool // use the policies as they are without arguments
	uses     uses
	args     shape
}

// All yields the policies to Cedar's authorizer, in order of their ids.
func (sl *slice) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range sl.policies {
			body := p.final
			if sl.open {
				body = p.open
			}
			if body != nil && !yield(p.id, body) {
				return
			}
		}
	}
}

// scopeKey is what a policy's scope names: zero ids stand for "any".
type scopeKey struct{ principal, resource types.EntityUID }

// index finds policies by scope.
type index map[scopeKey][]int // positions in the sorted list of policies

// newIndex sorts policies by their scope. `==` and `in` name an entity, everything else is "any".
func newIndex(policies []*policy) index {
	ix := index{}
	for i, p := range policies {
		k := scopeKey{scopeOf(p.ast.Principal), scopeOf(p.ast.Resource)}
		ix[k] = append(ix[k], i)
	}
	return ix
}

func scopeOf(n ast.IsScopeNode) types.EntityUID {
	switch s := n.(type) {
	case ast.ScopeTypeEq:
		return s.Entity
	case ast.ScopeTypeIn:
		return s.Entity
	case ast.ScopeTypeIsIn:
		return s.Entity
	default:
		return types.EntityUID{}
	}
}

// find collects the policies whose scope names the principal, the resource, or anything they are in.
// It returns positions, unsorted and without repetition: each policy stands under one key.
func (ix index) find(principal, resource *subject) []int {
	out := make([]int, 0, 8)
	var anyone types.EntityUID
	for i := -1; i < len(principal.scopes); i++ {
		k := scopeKey{principal: anyone}
		if i >= 0 {
			k.principal = principal.scopes[i]
		}
		out = append(out, ix[k]...)
		for _, r := range resource.scopes {
			k.resource = r
			out = append(out, ix[k]...)
		}
	}
	return out
}

// ways is how many entries compete for one place of a table.
const ways = 4

// A table is a bounded cache without locks. A key may stand in one of four slots; when they are taken,
// the newcomer replaces one of them. An entry carries its whole key, so crowding costs work, never a
// wrong answer.
type table[K comparable, V any] struct {
	seed  maphash.Seed
	mask  uint64 // from a hash to the first of its four slots
	slots []atomic.Pointer[entry[K, V]]
	next  atomic.Uint32 // which of the four to replace next
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// newTable makes a table; size is a power of two, at least four.
func newTable[K comparable, V any](size uint64) *table[K, V] {
	return &table[K, V]{seed: maphash.MakeSeed(), mask: (size - 1) &^ (ways - 1), slots: make([]atomic.Pointer[entry[K, V]], size)}
}

func (t *table[K, V]) places(k K) []atomic.Pointer[entry[K, V]] {
	at := maphash.Comparable(t.seed, k) & t.mask
	return t.slots[at : at+ways]
}

func (t *table[K, V]) get(k K) (v V, ok bool) {
	places := t.places(k)
	for i := range places {
		if e := places[i].Load(); e != nil && e.key == k {
			return e.value, true
		}
	}
	return v, false
}

func (t *table[K, V]) put(k K, v V) {
	places := t.places(k)
	var free *atomic.Pointer[entry[K, V]]
	for i := range places {
		switch e := places[i].Load(); {
		case e != nil && e.key == k:
			places[i].Store(&entry[K, V]{k, v})
			return
		case e == nil && free == nil:
			free = &places[i]
		}
	}
	if free == nil {
		free = &places[t.next.Add(1)%ways]
	}
	free.Store(&entry[K, V]{k, v})
}
