package wire

import (
	"hash/maphash"
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxLinear is how many members an object may have before its keys go into a hash set.
const maxLinear = 16

// A keySet remembers the folded member names of all open objects. Only their seeded hashes are kept:
// two names with one hash count as colliding, which refuses a message wrongly once in 2^64 pairs and
// never accepts one wrongly.
type keySet struct {
	seed   maphash.Seed
	hashes []uint64 // of all open objects, innermost last
	large  map[largeKey]struct{}
	folded []byte
}

// A largeKey is one key of an object with many members.
type largeKey struct {
	base int
	hash uint64
}

// push opens an object and returns its base.
func (k *keySet) push() int { return len(k.hashes) }

// pop closes the object that started at base.
func (k *keySet) pop(base int) {
	if len(k.hashes)-base > maxLinear {
		for _, h := range k.hashes[base:] {
			delete(k.large, largeKey{base, h})
		}
	}
	k.hashes = k.hashes[:base]
}

// size is the number of members of the innermost object, which started at base.
func (k *keySet) size(base int) int { return len(k.hashes) - base }

// add reports whether the key is new in the innermost object, up to case.
func (k *keySet) add(base int, key []byte) bool {
	h := k.hash(key)
	own := k.hashes[base:]
	if len(own) < maxLinear {
		if slices.Contains(own, h) {
			return false
		}
		k.hashes = append(k.hashes, h)
		return true
	}
	if k.large == nil {
		k.large = make(map[largeKey]struct{})
	}
	if len(own) == maxLinear {
		for _, o := range own {
			k.large[largeKey{base, o}] = struct{}{}
		}
	}
	if _, dup := k.large[largeKey{base, h}]; dup {
		return false
	}
	k.large[largeKey{base, h}] = struct{}{}
	k.hashes = append(k.hashes, h)
	return true
}

// reset forgets all objects.
func (k *keySet) reset() {
	k.hashes = k.hashes[:0]
	if len(k.large) > 0 {
		k.large = nil
	}
	if cap(k.folded) > 1<<16 {
		k.folded = nil
	}
	if cap(k.hashes) > 1<<14 {
		k.hashes, k.large = nil, nil // one odd message must not weigh on the pool for ever
	}
}

// hash is the hash of the key after simple case folding.
func (k *keySet) hash(key []byte) uint64 {
	k.folded = appendFolded(k.folded[:0], key)
	return maphash.Bytes(k.seed, k.folded)
}

// appendFolded appends key with every character replaced by the least one that Unicode simple
// folding makes equal to it, so that K, k and the Kelvin sign are one, and S, s and the long s.
func appendFolded(dst, key []byte) []byte {
	for i := 0; i < len(key); {
		c := key[i]
		if c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(key[i:])
		dst = utf8.AppendRune(dst, foldRune(r))
		i += n
	}
	return dst
}

// foldRune returns the least rune of r's folding orbit.
func foldRune(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}
