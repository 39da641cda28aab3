package dcap

import (
	"container/list"
	"sync"
)

// A cache holds what was verified, by SHA-256 of the bytes that it was verified
// from. It holds facts only, which neither time nor trust can change: who signed
// what. Everything else is judged again on each use. The least recently used
// entry goes when it is full.
type cache[V any] struct {
	mu      sync.Mutex
	size    int
	order   list.List // of *cached[V], most recently used first
	entries map[[32]byte]*list.Element
}

type cached[V any] struct {
	key   [32]byte
	value V
}

func (c *cache[V]) get(key [32]byte) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[V]).value, true
}

func (c *cache[V]) put(key [32]byte, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[[32]byte]*list.Element{}
	}
	if c.entries[key] != nil || c.size <= 0 {
		return
	}
	if c.order.Len() >= c.size {
		last := c.order.Back()
		delete(c.entries, c.order.Remove(last).(*cached[V]).key)
	}
	c.entries[key] = c.order.PushFront(&cached[V]{key, v})
}
