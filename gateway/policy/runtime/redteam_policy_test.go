package runtime_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

// Memory that is used again is empty, whether it is cleared in place, given back to
// the system, or was both small and large before.
func TestMemoryIsEmptyAgain(t *testing.T) {
	const page = 64 << 10
	m := runtime.NewMemory(4 * page)
	defer m.Close()
	for _, sizes := range [][]uint64{{page}, {2 * page}, {3 * page}, {page, 2 * page}, {page, 4 * page}, {page, 3 * page, page}} {
		l := m.Allocate(0, 4*page)
		for _, size := range sizes {
			b := l.Reallocate(size)
			for i := range b {
				b[i] = 0xff
			}
		}
		l.Free()
		l = m.Allocate(0, 4*page) // the same: the limit leaves no other
		for i, b := range l.Reallocate(4 * page) {
			if b != 0 {
				t.Fatalf("after %v: byte %d was left of the one before", sizes, i)
			}
		}
		l.Free()
	}
}

// No more is mapped than the limit says.
func TestMemoryIsLimited(t *testing.T) {
	const size = 1 << 20
	m := runtime.NewMemory(2 * size)
	defer m.Close()
	kinds := map[string]int{}
	for range 5 {
		l := m.Allocate(0, size)
		defer l.Free()
		kinds[fmt.Sprintf("%T", l)]++
	}
	if kinds["*runtime.mapped"] > 2 || kinds["*runtime.heap"] < 3 {
		t.Errorf("of a limit of two: %v", kinds)
	}
}

// What somebody else's file holds is not run, wherever it stands.
func TestCacheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	c, dir := cache(t)
	module := corpus.Debug().Module()
	load(t, &runtime.Loader{Cache: c}, module, true, policywasm.Defaults())
	if err := os.Chown(files(t, dir, strings.Repeat("[0-9a-f]", 64))[0], 12345, 12345); err != nil {
		t.Fatal(err)
	}
	l := &runtime.Loader{Cache: c, Child: &runtime.Child{Program: "/nowhere"}}
	if _, err := l.Load(context.Background(), module, false, policywasm.Defaults()); err == nil {
		t.Error("a compiled module that belongs to another user is used")
	}
}
