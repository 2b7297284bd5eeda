package gateway

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/warder-mcp/warder"
)

// ways is how many places a key may take in a table; a power of two.
const ways = 8

// A hasher turns names into keys of 64 bits. Its seed is random and secret, so nobody outside can
// choose two names with one key.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed()} }

// add mixes one more text into a key. The order of texts matters; their lengths cannot be shifted
// from one to the next, since each is hashed on its own.
func (h hasher) add(key uint64, text string) uint64 {
	return mix(key, maphash.String(h.seed, text))
}

func (h hasher) bytes(key uint64, b []byte) uint64 {
	return mix(key, maphash.Bytes(h.seed, b))
}

func mix(key, next uint64) uint64 {
	key = (key ^ next) * 0x9e3779b97f4a7c15
	return key ^ key>>29
}

// caller mixes in everything that [warder.Principal.Key] is made of, without building the text.
func (h hasher) caller(key uint64, p *warder.Principal) uint64 {
	if p == nil {
		return h.add(key, "")
	}
	key = h.add(h.add(key, p.Tenant), p.Issuer)
	return h.add(h.add(h.add(key, p.Subject), p.Client), p.Agent)
}

// nonzero keeps 0 free to mark empty places.
func nonzero(key uint64) uint64 {
	if key == 0 {
		return 1
	}
	return key
}

// serverName names the server an exchange is about, or the group while it fans out.
func serverName(x *warder.Exchange) string {
	if x.Server != nil {
		return x.Server.Name
	}
	return x.Endpoint
}

// A clock gives monotonic time since it was made, always above zero.
type clock struct {
	now  func() time.Time
	base time.Time
}

func newClock(now func() time.Time) clock { return clock{now, now().Add(-time.Nanosecond)} }

func (c clock) since() int64 { return int64(c.now().Sub(c.base)) }

// A buckets holds token buckets under keys, in a table of fixed size without locks. Each is kept as
// the one instant at which it will be full again (the generic cell rate algorithm, ITU-T I.371), so a
// full bucket needs no place: its place is taken by the next key that needs one. When all places of
// a key are taken by buckets that are not full, the answer is "no": the table fails closed.
//
// When a place changes hands in the very instant in which its old key returns, one token may be
// counted for the wrong key, or a key may start with a second full bucket; nothing else can go wrong.
type buckets struct {
	slots []bucket
	mask  uint64
}

type bucket struct {
	key  atomic.Uint64
	full atomic.Int64 // when the bucket will be full again
}

// newBuckets makes room for at least n keys.
func newBuckets(n int) *buckets {
	size := ways
	for size < n {
		size *= 2
	}
	return &buckets{slots: make([]bucket, size), mask: uint64(size - 1)}
}

// take takes one token at time now. If there is none it returns how long until there is; a negative
// wait says that the table is full.
func (b *buckets) take(key uint64, l limit, now int64) (wait time.Duration, ok bool) {
	key = nonzero(key)
	s := b.find(key, now)
	if s == nil {
		return -1, false
	}
	for {
		old := s.full.Load()
		next := max(old, now) + l.interval
		if over := next - now - l.tolerance; over > 0 {
			return time.Duration(over), false
		}
		if s.full.CompareAndSwap(old, next) {
			return 0, true
		}
	}
}

// find returns the place of key, or a free one that it takes for it; nil if there is none.
func (b *buckets) find(key uint64, now int64) *bucket {
	first := key & b.mask &^ (ways - 1)
	set := b.slots[first : first+ways]
	for i := range set {
		if set[i].key.Load() == key {
			return &set[i]
		}
	}
	for i := range set {
		old := set[i].key.Load()
		if old == key || set[i].full.Load() <= now && set[i].key.CompareAndSwap(old, key) || set[i].key.Load() == key {
			return &set[i] // or another caller has just taken it for the same key
		}
	}
	return nil
}

// A limit is a rate as the bucket needs it.
type limit struct {
	interval  int64 // nanoseconds for one token
	tolerance int64 // nanoseconds for a full bucket
}

// A table keeps values under keys in a fixed number of places, each shard under its own lock. When
// all places of a key are taken, the one used longest ago is forgotten, unless it must be kept.
type table[T any] struct {
	shards []shard[T]
	keep   bool // never forget an entry before its time
}

const tableShards = 64

type shard[T any] struct {
	mu    sync.Mutex
	slots []entry[T]
}

type entry[T any] struct {
	key   uint64
	used  int64 // when it was last asked for
	until int64 // when it ends; 0: never
	value T
}

// newTable makes room for at least n entries.
func newTable[T any](n int, keep bool) *table[T] {
	per := ways
	for per*tableShards < n {
		per *= 2
	}
	t := &table[T]{shards: make([]shard[T], tableShards), keep: keep}
	for i := range t.shards {
		t.shards[i].slots = make([]entry[T], per)
	}
	return t
}

// lock returns the entry of key with its shard locked; the caller unlocks. A new entry is zero but
// for its key. With create unset an absent key yields nil; with it set, nil says that the table is
// full of entries that must be kept.
func (t *table[T]) lock(key uint64, now int64, create bool) (*entry[T], *sync.Mutex) {
	key = nonzero(key)
	sh := &t.shards[key>>58]
	sh.mu.Lock()
	first := key & uint64(len(sh.slots)-1) &^ (ways - 1)
	set := sh.slots[first : first+ways]
	var free *entry[T]
	for i := range set {
		e := &set[i]
		over := e.until != 0 && e.until <= now
		switch {
		case e.key == key && !over:
			e.used = now
			return e, &sh.mu
		case e.key == 0 || over:
			free = e
		case t.keep || free != nil && (free.key == 0 || free.until != 0 && free.until <= now):
		case free == nil || e.used < free.used:
			free = e
		}
	}
	if !create || free == nil {
		return nil, &sh.mu
	}
	*free = entry[T]{key: key, used: now}
	return free, &sh.mu
}
