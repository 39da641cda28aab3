// Package held keeps what verifiers have verified, by digest and bounded.
package held

import (
	"crypto/sha256"
	"sync"
)

// A Digest is the SHA-256 of an encoded object.
type Digest = [sha256.Size]byte

// A Cache keeps up to Max values; when full it forgets any of them. Put into it
// only what a vendor, or a simulator that is trusted, has signed, so that
// strangers can't fill it. It is safe for concurrent use.
type Cache[V any] struct {
	Max int // 0: none are kept

	mu   sync.RWMutex
	held map[Digest]V
}

// Get returns what is kept under d.
func (c *Cache[V]) Get(d Digest) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.held[d]
	return v, ok
}

// Put keeps v under d.
func (c *Cache[V]) Put(d Digest, v V) {
	if c.Max <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[Digest]V{}
	}
	if _, ok := c.held[d]; !ok {
		for k := range c.held {
			if len(c.held) < c.Max {
				break
			}
			delete(c.held, k)
		}
	}
	c.held[d] = v
}

// Len is the number of values that are kept.
func (c *Cache[V]) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.held)
}
