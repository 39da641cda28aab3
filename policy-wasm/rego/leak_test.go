package rego_test

import (
	"sync/atomic"
	"testing"

	"github.com/tetratelabs/wazero/experimental"
	"go.uber.org/goleak"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

// A counted memory says when it is given back.
type counted struct {
	b    []byte
	live *atomic.Int64
}

func (c *counted) Reallocate(size uint64) []byte {
	if size > uint64(cap(c.b)) {
		return nil
	}
	c.b = c.b[:size]
	return c.b
}

func (c *counted) Free() { c.live.Add(-1) }

// TestNothingIsLeft: the shim's memory is the operator's, and is given back once;
// no goroutine stays, whatever the guest did.
func TestNothingIsLeft(t *testing.T) {
	defer goleak.VerifyNone(t)
	var live, made atomic.Int64
	c := caps(policywasm.Auto)
	c.Memory = experimental.MemoryAllocatorFunc(func(_, most uint64) experimental.LinearMemory {
		live.Add(1)
		made.Add(1)
		return &counted{make([]byte, 0, most), &live}
	})
	c.Scan.Pages = 16
	for _, pool := range []int{0, 1} {
		c.Pool = pool
		for _, g := range []opaGuest{{}, builtin(7, valueAt), builtin(9, valueAt), with("opa_eval", 0x00), with("entrypoints", 0x00), {major: 2}} {
			p, err := rego.Load(t.Context(), g.module(), c, meta(policywasm.Appraise))
			if err != nil {
				continue
			}
			for range 3 {
				p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: input(t, "{}")})
			}
			if err := p.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if made.Load() < 20 || live.Load() != 0 {
		t.Errorf("%d memories were made, %d are left", made.Load(), live.Load())
	}
}
