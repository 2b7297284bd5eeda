package identity

import (
	"math"
	"sync"
	"time"

	"github.com/warder-mcp/warder"
)

// cacheShards keeps writers of different tokens apart. A power of two.
const cacheShards = 32

// cacheKey names a verified token: what was verified is the token for one resource, never the token.
type cacheKey struct {
	sum      [32]byte // SHA-256 of the token, so a memory dump holds no credentials
	resource string
}

type cached struct {
	principal  *warder.Principal
	until      time.Time
	generation uint64
}

// cache remembers verified tokens. It is bounded: a full shard first drops what has ended, then
// anything. Losing an entry costs one verification, never a decision.
type cache struct {
	limit  int // entries per shard
	shards [cacheShards]shard
}

type shard struct {
	mu      sync.RWMutex
	entries map[cacheKey]cached
	_       [32]byte // keeps neighbouring locks off one cache line
}

// newCache remembers at least size tokens. They fall unevenly into the shards, each of which therefore holds
// a little more than its part: four times the deviation.
func newCache(size int) *cache {
	part := max(1, size/cacheShards)
	c := &cache{limit: part + int(4*math.Sqrt(float64(part)))}
	for i := range c.shards {
		c.shards[i].entries = map[cacheKey]cached{}
	}
	return c
}

func (c *cache) shard(k *cacheKey) *shard { return &c.shards[k.sum[0]%cacheShards] }

// get returns the principal of a token verified before, within its time and generation.
func (c *cache) get(k *cacheKey, now time.Time, generation uint64) *warder.Principal {
	s := c.shard(k)
	s.mu.RLock()
	e, ok := s.entries[*k]
	s.mu.RUnlock()
	if !ok || e.generation != generation || !now.Before(e.until) {
		return nil
	}
	return e.principal
}

// put remembers a verified token.
func (c *cache) put(k cacheKey, e cached, now time.Time) {
	s := c.shard(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.entries[k]; !known && len(s.entries) >= c.limit {
		s.evict(now, e.generation)
	}
	s.entries[k] = e
}

// evict makes room for one entry.
func (s *shard) evict(now time.Time, generation uint64) {
	room := false
	for k, e := range s.entries {
		if !now.Before(e.until) || e.generation != generation {
			delete(s.entries, k)
			room = true
		}
	}
	if room {
		return
	}
	for k := range s.entries { // map order is random enough to choose a victim
		delete(s.entries, k)
		return
	}
}
