package policywasm_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

var engines = map[string]policywasm.Engine{"compiler": policywasm.Compiler, "interpreter": policywasm.Interpreter}

func caps(e policywasm.Engine) policywasm.Caps {
	c := policywasm.Defaults()
	c.Engine = e
	return c
}

func input(t testing.TB, doc string) *policywasm.Input {
	t.Helper()
	in, err := policywasm.NewInput([]byte(doc), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func load(t testing.TB, module []byte, c policywasm.Caps) *policywasm.Policy {
	t.Helper()
	p, err := policywasm.Load(context.Background(), module, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

// outcome loads a module and asks it to appraise; it gives the failure, where
// it was met, and the fuel used.
func outcome(t testing.TB, module []byte, c policywasm.Caps, in *policywasm.Input) (f *policywasm.Failure, loaded bool, fuel uint64) {
	t.Helper()
	p, err := policywasm.Load(context.Background(), module, c)
	if err != nil {
		if !errors.As(err, &f) {
			t.Fatalf("error of another type: %v", err)
		}
		return f, false, 0
	}
	defer p.Close(context.Background())
	r := p.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: in})
	if r.Failure != nil && (r.Decision != policywasm.Deny || r.Reasons != nil || r.Vector != nil || r.Obligations != nil) {
		t.Errorf("a failure that left something of the policy's result: %+v", r)
	}
	return r.Failure, true, r.Fuel
}

// Each hostile module is survived, with the reason that it has to have, the same
// one and the same fuel in both engines.
func TestHostile(t *testing.T) {
	cases := corpus.Cases()
	if len(cases) < 40 {
		t.Errorf("%d hostile modules only", len(cases))
	}
	names := map[string]bool{}
	in := input(t, `{"debug":false}`)
	for _, c := range cases {
		if names[c.Name] || c.Why == "" {
			t.Errorf("case %q stands twice, or says nothing", c.Name)
		}
		names[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			module := c.Module()
			fuels := map[uint64]bool{}
			for name, e := range engines {
				cp := caps(e)
				if e == policywasm.Interpreter {
					cp.Fuel /= 20 // it is slow; the reason must not depend on it
				}
				before := spent()
				f, loaded, fuel := outcome(t, module, cp, in)
				if f == nil {
					t.Fatalf("%s: there is a decision; %s is due (%s)", name, c.Want, c.Why)
				}
				if f.Reason != c.Want || loaded == c.Load {
					t.Errorf("%s: %v (loaded: %v); %s is due (loaded: %v)", name, f, loaded, c.Want, !c.Load)
				}
				if f.Detail == "" || len(f.Detail) > 256 {
					t.Errorf("%s: detail %q", name, f.Detail)
				}
				if d := spent() - before; d > raceFactor*3*time.Second {
					t.Errorf("%s: took %v", name, d)
				}
				if c.Want != policywasm.ReasonFuel { // which uses up what there is
					fuels[fuel] = true
				}
			}
			if len(fuels) > 1 {
				t.Errorf("engines used different fuel: %v", fuels)
			}
		})
	}
}

// What is evaluated ends with the time that it was given, and 50 ms. It is time of
// the processor, so that other programs on the machine don't count; the best of
// five tries.
func TestHostileDeadline(t *testing.T) {
	const limit, grace = 100 * time.Millisecond, 50 * time.Millisecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in := input(t, `{"debug":false}`)
	for _, k := range corpus.Cases() {
		if k.Load {
			continue
		}
		p := load(t, k.Module(), caps(policywasm.Auto))
		best := time.Hour
		for range 5 {
			before := spent()
			r := p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: in, Fuel: policywasm.FuelFor(limit)})
			best = min(best, spent()-before)
			if r.Failure == nil || r.Pages > 1024 {
				t.Errorf("%s: %+v", k.Name, r)
			}
			if best <= limit+grace {
				break
			}
		}
		if best > raceFactor*(limit+grace) {
			t.Errorf("%s: took %v, of %v", k.Name, best, limit)
		}
	}
}

// Rounds of hostile modules, with good ones between them and beside them, leave
// no memory and no goroutine behind, and change no decision. TMCP_ROUNDS says how
// many.
func TestEndures(t *testing.T) {
	rounds := 4
	if s := os.Getenv("TMCP_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	c := caps(policywasm.Auto)
	c.Fuel = 1_000_000
	yes := input(t, `{"debug":false}`)
	var modules [][]byte
	var want []string
	for _, k := range corpus.Cases() {
		if b := k.Module(); len(b) < 64<<10 {
			modules, want = append(modules, b), append(want, k.Want)
		}
	}
	good := load(t, corpus.Debug().Module(), c)
	round := func() {
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := w; i < len(modules); i += 4 {
					c := c
					if want[i] == policywasm.ReasonMemory { // asking for that much costs more
						c.Fuel *= 10
					}
					if f, _, _ := outcome(t, modules[i], c, yes); f == nil || f.Reason != want[i] {
						t.Errorf("module %d: %v; %s is due", i, f, want[i])
					}
					if r := appraise(good, yes); r.Decision != policywasm.Allow {
						t.Errorf("good one, beside module %d: %v", i, r.Failure)
					}
				}
			})
		}
		wg.Wait()
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	round() // what is made once
	before, running := heap(), runtime.NumGoroutine()
	for range rounds {
		round()
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d bytes of heap, then %d", before, after)
	}
	if n := runtime.NumGoroutine(); n > running {
		t.Errorf("%d goroutines, then %d", running, n)
	}
}
