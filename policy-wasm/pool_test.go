package policywasm_test

import (
	"sync"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

func pooled(e policywasm.Engine, n int) policywasm.Caps {
	c := caps(e)
	c.Pool, c.Concurrent = n, 4
	return c
}

// counting is a guest that traps in the evaluation of an instance after n others.
func counting(n int64) corpus.Guest {
	return corpus.Guest{
		Globals:  [][]byte{corpus.Cat(corpus.I32, 1, corpus.Const(corpus.I32, 0), 0x0b)},
		Allocate: corpus.Code(0x23, 0, corpus.Const(corpus.I32, n), 0x4e, 0x04, corpus.Void, 0x00, 0x0b, 0x23, 0, corpus.Const(corpus.I32, 1), 0x6a, 0x24, 0, corpus.Const(corpus.I32, 4096)),
	}
}

// A pooled instance keeps what it had; one that failed is not used again.
// TMCP-20.3-12: A host that keeps instances MUST NOT use one again that failed.
func TestPoolKeeps(t *testing.T) {
	for name, e := range engines {
		p := load(t, counting(2).Module(), pooled(e, 1))
		for i, want := range []string{"", "", policywasm.ReasonTrap, "", "", policywasm.ReasonTrap, ""} {
			r := appraise(p, input(t, `{}`))
			if got := r.Failure; (got == nil) != (want == "") || got != nil && got.Reason != want {
				t.Errorf("%s: evaluation %d: %v", name, i, got)
			}
		}
		// A result that can't be taken is a failure as well.
		g := counting(1)
		g.Answer = `{"decision":"allow"}`
		p = load(t, g.Module(), pooled(e, 1))
		for range 3 {
			if r := appraise(p, input(t, `{}`)); r.Failure == nil || r.Failure.Reason != policywasm.ReasonContradiction {
				t.Errorf("%s: %v", name, r.Failure)
			}
		}
	}
}

// Fuel, depth and the note of refused memory begin anew in each evaluation, and
// an instance ends after 1000 of them.
func TestPoolBeginsAnew(t *testing.T) {
	self := corpus.Guest{ // calls itself 600 times, which leaves no room for 600 more
		Globals: [][]byte{corpus.Cat(corpus.I32, 1, corpus.Const(corpus.I32, 0), 0x0b)},
		More: [][]byte{corpus.Code(0x23, 0, 0x45, 0x04, corpus.Void, 0x0f, 0x0b,
			0x23, 0, corpus.Const(corpus.I32, 1), 0x6b, 0x24, 0, 0x10, 4)},
		Appraise: corpus.Code(corpus.Const(corpus.I32, 600), 0x24, 0, 0x10, 4, corpus.Packed(16, len(corpus.AllowAnswer))),
	}
	for what, g := range map[string]corpus.Guest{"uses": counting(1000), "depth": self} {
		c := pooled(policywasm.Auto, 2)
		c.Fuel = 20_000
		p := load(t, g.Module(), c)
		var fuel uint64
		for i := range 2500 {
			r := appraise(p, input(t, `{}`))
			if r.Decision != policywasm.Allow || fuel > 0 && r.Fuel != fuel {
				t.Fatalf("%s: evaluation %d: %v, %d units of fuel, not %d", what, i, r.Failure, r.Fuel, fuel)
			}
			fuel = r.Fuel
		}
	}
}

// An instance whose memory has grown ends.
func TestPoolGrowth(t *testing.T) {
	g := corpus.Guest{Memory: corpus.Cat(0, 1), Allocate: corpus.Code(corpus.Const(corpus.I32, 10), 0x40, 0, 0x1a, corpus.Const(corpus.I32, 4096))}
	p := load(t, g.Module(), pooled(policywasm.Auto, 1))
	most := uint32(0)
	for range 200 {
		r := appraise(p, input(t, `{}`))
		if r.Decision != policywasm.Allow {
			t.Fatal(r.Failure)
		}
		most = max(most, r.Pages)
	}
	if most != 71 {
		t.Errorf("%d pages at most; want 71, which is the first size beyond 64 more than at first", most)
	}
}

func TestPoolConcurrent(t *testing.T) {
	p := load(t, corpus.Debug().Module(), pooled(policywasm.Auto, 3))
	yes, no := input(t, `{"debug":false}`), input(t, `{"debug":true}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if r := appraise(p, yes); r.Decision != policywasm.Allow {
					t.Error(r.Failure)
				}
				if r := appraise(p, no); r.Decision != policywasm.Deny || r.Failure != nil {
					t.Error(r.Failure)
				}
			}
		})
	}
	wg.Wait()
}
