package held

import (
	"sync"
	"testing"
)

// TestCache: what was put is found, newest values replace older ones, and no more
// than the maximum is kept.
func TestCache(t *testing.T) {
	c := &Cache[int]{Max: 3}
	for i := range 10 {
		c.Put(Digest{byte(i)}, i)
		if v, ok := c.Get(Digest{byte(i)}); !ok || v != i {
			t.Fatalf("%d is %d, %v", i, v, ok)
		}
		if n := c.Len(); n > 3 {
			t.Fatalf("%d are kept", n)
		}
	}
	c.Put(Digest{9}, 99)
	if v, _ := c.Get(Digest{9}); v != 99 || c.Len() != 3 {
		t.Errorf("9 is %d, of %d", v, c.Len())
	}
	none := &Cache[int]{}
	none.Put(Digest{1}, 1)
	if _, ok := none.Get(Digest{1}); ok || none.Len() != 0 {
		t.Error("a cache of none kept one")
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() { c.Put(Digest{byte(i)}, i); c.Get(Digest{byte(i / 2)}) })
	}
	wg.Wait()
}
