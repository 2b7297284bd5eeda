// Package bounded holds a cache that cannot grow without limit. Everything in Warder that remembers
// something under a key a peer can choose uses it.
//
//	c := bounded.New[string, int](1000)
//	c.Put("a", 1)
//	n, ok := c.Get("a")
package bounded

import "sync"

// A Cache keeps the most recently used entries: at least size of them, at most twice as many. It
// has two generations; when the young one is full, the old one is forgotten and the young one takes
// its place. That costs one map operation per access and no list to maintain.
//
// A cache is safe for concurrent use.
type Cache[K comparable, V any] struct {
	mu    sync.Mutex
	size  int
	young map[K]V
	old   map[K]V
}

// New returns a cache for at least size and at most 2*size entries. A size below one means one.
func New[K comparable, V any](size int) *Cache[K, V] {
	return &Cache[K, V]{size: max(size, 1), young: make(map[K]V)}
}

// Get returns the value kept under key and keeps it longer.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[key]; ok {
		return v, true
	}
	v, ok := c.old[key]
	if ok {
		c.put(key, v)
	}
	return v, ok
}

// Put keeps value under key.
func (c *Cache[K, V]) Put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key, value)
}

// Add keeps value under key unless there is one already, and returns the one that is kept.
func (c *Cache[K, V]) Add(key K, value V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[key]; ok {
		return v
	}
	if v, ok := c.old[key]; ok {
		value = v
	}
	c.put(key, value)
	return value
}

// Len returns the number of entries kept, counting none twice.
func (c *Cache[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.young)
	for k := range c.old {
		if _, ok := c.young[k]; !ok {
			n++
		}
	}
	return n
}

// Clear forgets every entry.
func (c *Cache[K, V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = make(map[K]V), nil
}

func (c *Cache[K, V]) put(key K, value V) {
	if _, ok := c.young[key]; !ok && len(c.young) >= c.size {
		c.old, c.young = c.young, make(map[K]V)
	}
	c.young[key] = value
}
