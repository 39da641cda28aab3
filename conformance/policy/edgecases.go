package policy

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	c "github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

// moduleVectors are good policies.
func moduleVectors() []vector {
	debug := func(docs ...string) func() Request {
		return func() Request { return ask(c.Debug().Module(), "appraise", docs...) }
	}
	answer := func(s string) func() Request {
		return func() Request { return single(c.Guest{Answer: s}.Module()) }
	}
	return []vector{
		{name: good, req: "TMCP-20.2-6", title: "the least policy that allows", make: func() Request { return single(c.Guest{}.Module()) }},
		{name: "reads", req: "TMCP-20.2-6", title: "a policy that looks into its input", make: debug(`{"debug":false}`, `{"debug":true}`, `{"x":[1,2],"debug":false}`),
			look: decides("allow", "deny", "allow")},
		{name: "authorizes", req: "TMCP-20.4-4", title: "a policy that only authorizes", make: func() Request {
			m := c.Meta()
			m.Entries = m.Entries[1:]
			return ask(c.Guest{Metadata: m, Answer: `{"decision":"allow"}`, Without: "tmcp_appraise"}.Module(), "authorize", "{}")
		}},
		{name: "denies", req: "TMCP-20.6-5", title: "a policy that denies, with a reason", make: answer(c.DenyAnswer), look: func(t *conformance.T, a *asked) {
			decides("deny")(t, a)
			if want := (Reason{Code: "debug", Text: "debugging is possible", Claim: "/debug"}); len(a.Results[0].Reasons) != 1 || a.Results[0].Reasons[0] != want {
				t.Violate("the reasons are %+v, want %+v", a.Results[0].Reasons, want)
			}
		}},
		{name: "abstains", req: "TMCP-20.6-5", title: "a policy that abstains", make: answer(c.AbstainAnswer), look: decides("abstain")},
		{name: "custom-sections", req: "TMCP-20.2-6", title: "custom sections that mean nothing here, whatever they hold", make: func() Request {
			return single(c.Guest{Custom: c.Cat(c.Custom("name", []byte{0xff, 0xff, 0xff, 0xff, 0x0f}), c.Custom("producers", nil))}.Module())
		}},
		{name: "floats", req: "TMCP-20.2-6", title: "instructions on floats, sign extension and saturating truncation", make: func() Request {
			return single(appraise(c.F64Const(-2.5), 0xfc, 2, unless(-2), c.Const(c.I32, 200), 0xc0, unless(-56), c.Const(c.I64, 40_000), 0xc3, 0xa7, unless(-25_536)).Module())
		}},
		{name: "nan-f32", req: "TMCP-20.7-6", title: "a NaN of 32 bits is the canonical one, whatever made it", make: func() Request {
			odd, one := []byte{0x43, 0x45, 0x23, 0xa1, 0xff}, []byte{0x43, 0, 0, 0x80, 0x3f} // negative and signalling; 1
			var code []byte
			for op := byte(0x8d); op <= 0x97; op++ {
				if code = append(code, odd...); op > 0x91 {
					code = append(code, one...)
				}
				code = c.Cat(code, op, 0xbc, unless(0x7fc00000))
			}
			zero := []byte{0x43, 0, 0, 0, 0}
			return single(appraise(code, zero, zero, 0x95, 0xbc, unless(0x7fc00000), c.F64Const(math.NaN()), 0xb6, 0xbc, unless(0x7fc00000)).Module())
		}},
		{name: "nan-f64", req: "TMCP-20.7-6", title: "a NaN of 64 bits is the canonical one", make: func() Request {
			odd := c.F64Const(math.Float64frombits(0xfff4_5678_9abc_def0))
			upper := c.Cat(0xbd, c.Const(c.I64, 32), 0x88, 0xa7, unless(0x7ff80000))
			var code []byte
			for op := byte(0x9b); op <= 0xa5; op++ {
				if code = append(code, odd...); op > 0x9f {
					code = append(code, c.F64Const(1)...)
				}
				code = c.Cat(code, op, upper)
			}
			return single(appraise(code, c.F64Const(0), c.F64Const(0), 0xa3, upper, c.F64Const(-1), 0x9f, upper, 0x43, 1, 0, 0x80, 0x7f, 0xbb, upper).Module())
		}},
		{name: "nan-untouched", req: "TMCP-20.7-6", title: "what only moves bits leaves a NaN as it is", make: func() Request {
			odd := []byte{0x43, 0x45, 0x23, 0xe1, 0x7f}
			return single(appraise(odd, 0x8c, 0xbc, unless(-0x1edcbb), odd, 0x8b, 0xbc, unless(0x7fe12345)).Module())
		}},
		{name: "bulk", req: "TMCP-20.2-6", title: "memory.init, fill and copy do what they say", make: func() Request {
			g := appraise(c.Const(c.I32, scratch), c.Const(c.I32, 1), c.Const(c.I32, 4), 0xfc, 8, 1, 0, word(scratch), unless(0x65646362),
				c.Const(c.I32, scratch+1), c.Const(c.I32, scratch), c.Const(c.I32, 3), 0xfc, 10, 0, 0, word(scratch), unless(0x64636262),
				c.Const(c.I32, scratch), c.Const(c.I32, 7), c.Const(c.I32, 2), 0xfc, 11, 0, word(scratch), unless(0x64630707), 0xfc, 9, 1)
			g.Data, g.DataCount = [][]byte{c.Cat(1, c.Sized([]byte("abcde")))}, c.U(2)
			return single(g.Module())
		}},
	}
}

// edgeVectors are policies at each limit, and just beyond.
func edgeVectors() []vector {
	one := func(body []byte) c.Guest { return c.Guest{More: [][]byte{body}} }
	times := func(n int, ins ...any) []byte { return bytes.Repeat(c.Cat(ins...), n) }
	zero := c.Const(c.I32, 0)
	var out []vector
	edge := func(name, title, reason string, most int, make func(n int) Request) {
		twin := "edge-" + name
		req := map[string]string{policywasm.ReasonLimit: "TMCP-20.2-3", policywasm.ReasonMemory: "TMCP-20.2-4", policywasm.ReasonDepth: "TMCP-20.2-7",
			policywasm.ReasonOversize: "TMCP-20.6-2", policywasm.ReasonInput: "TMCP-20.5-1"}[reason]
		out = append(out,
			vector{name: twin, req: "TMCP-20.2-6", title: "at the limit: " + title, make: func() Request { return make(most) }},
			vector{name: "beyond-" + name, req: req, title: "one beyond the limit: " + title, twin: twin, reason: reason, make: func() Request { return make(most + 1) }})
	}
	guest := func(name, title, reason string, most int, make func(n int) c.Guest) {
		edge(name, title, reason, most, func(n int) Request { return single(make(n).Module()) })
	}
	limit := policywasm.ReasonLimit
	many := func(n int, item []byte) (items [][]byte) {
		for range n {
			items = append(items, item)
		}
		return items
	}
	edge("module", "a module of 8 MiB", limit, 8<<20, func(n int) Request {
		b := c.Guest{}.Module()
		return single(append(b, c.Custom("x", make([]byte, n-len(b)-1-4-2))...))
	})
	guest("locals", "500 locals with parameters", limit, 500, func(n int) c.Guest {
		return c.Guest{Appraise: c.Locals([][]byte{c.Group(uint64(n-2), c.I64)}, allow())}
	})
	guest("params", "a function of 64 parameters", limit, 64, func(n int) c.Guest {
		return c.Guest{Types: [][]byte{c.Type(bytes.Repeat([]byte{c.I64}, n), nil)}}
	})
	guest("types", "4096 types", limit, 4096, func(n int) c.Guest { return c.Guest{Types: many(n-4, c.Type(nil, nil))} })
	guest("functions", "20,000 functions", limit, 20_000, func(n int) c.Guest { return c.Guest{More: many(n-4, c.Code())} })
	guest("globals", "10,000 globals", limit, 10_000, func(n int) c.Guest { return c.Guest{Globals: many(n, c.Cat(c.I32, 0, zero, 0x0b))} })
	guest("exports", "1024 exports", limit, 1024, func(n int) (g c.Guest) {
		for i := range n - 5 {
			g.Exports = append(g.Exports, c.Export(fmt.Sprint("e", i), 0, 0))
		}
		return g
	})
	guest("name", "an export with a name of 1024 bytes", limit, 1024, func(n int) c.Guest {
		return c.Guest{Exports: [][]byte{c.Export(strings.Repeat("n", n), 0, 0)}}
	})
	guest("table", "a table of 100,000", limit, 100_000, func(n int) c.Guest { return c.Guest{Table: c.Cat(0x70, 0, c.U(uint64(n)))} })
	guest("elements", "100,000 elements in two segments", limit, 100_000, func(n int) c.Guest {
		return c.Guest{Table: c.Cat(0x70, 0, c.U(60_000)), Elements: [][]byte{c.Cat(0, zero, 0x0b, c.U(50_000), make([]byte, 50_000)),
			c.Cat(0, zero, 0x0b, c.U(uint64(n-50_000)), make([]byte, n-50_000))}}
	})
	guest("memory", "a memory of 1024 pages", policywasm.ReasonMemory, 1024, func(n int) c.Guest { return c.Guest{Memory: c.Cat(0, c.U(uint64(n)))} })
	guest("data", "100,000 data segments", limit, 100_000, func(n int) c.Guest { return c.Guest{Data: many(n-1, segment(scratch, []byte{1}))} })
	guest("body", "a body of 128 KiB", limit, 128<<10, func(n int) c.Guest { return one(c.Code(times(n-2, 0x01))) })
	guest("nesting", "1024 nested blocks", limit, 1024, func(n int) c.Guest { return one(c.Code(times(n, 0x02, c.Void), times(n, 0x0b))) })
	guest("loops", "16 loops in each other", limit, 16, func(n int) c.Guest { return one(c.Code(times(n, 0x03, c.Void), times(n, 0x0b))) })
	guest("targets", "br_table of 4096 targets in all, with their defaults", limit, 4096, func(n int) c.Guest {
		table := func(n int) []byte {
			return c.Cat(0x02, c.Void, zero, 0x0e, c.U(uint64(n-1)), make([]byte, n), 0x0b)
		}
		return one(c.Code(table(2048), table(n-2048)))
	})
	guest("cost", "a function whose compiling costs 250,000", limit, 250_000, func(n int) c.Guest {
		const ifs = 3150 // blocks*blocks/40 + nesting*blocks/24; the rest is for its length
		size := (n - ifs*ifs/40 - ifs/24) * 16
		code := times(ifs, zero, 0x04, c.Void, 0x0b)
		return one(c.Code(code, times(size-len(code)-2, 0x01)))
	})
	guest("depth", "1000 nested calls", policywasm.ReasonDepth, 1000, func(n int) c.Guest { return chain(n - 1) })
	guest("frames", "499 nested calls that count twice, and one that counts once", policywasm.ReasonDepth, 499, frames)
	edge("metadata", "16 KiB of metadata", limit, 16<<10, func(n int) Request {
		m := c.Meta()
		m.Inputs = nil
		for i := range 125 {
			m.Inputs = append(m.Inputs, fmt.Sprintf("/%0127d", i))
		}
		m.Author = strings.Repeat("a", n-len(m.Append(nil))+len(m.Author)-1) // whose length now has a byte more
		mustf(len(m.Append(nil)) == n, "metadata of %d bytes", len(m.Append(nil)))
		return single(c.Guest{Metadata: m}.Module())
	})
	edge("result", "a result of 64 KiB", policywasm.ReasonOversize, 64<<10, func(n int) Request {
		return single(c.Guest{Memory: c.Cat(0, 3), Answer: c.AllowAnswer + strings.Repeat(" ", n-len(c.AllowAnswer)), Allocate: c.Code(c.Const(c.I32, 2<<16))}.Module())
	})
	edge("document", "a document of 1 MiB", policywasm.ReasonInput, 1<<20, func(n int) Request { return ask(roomy(), "appraise", large(n)) })
	return out
}

// chain is a guest whose appraise is the first of n+1 nested calls.
func chain(n int) c.Guest {
	g := appraise(0x10, 4)
	for i := range n {
		if i < n-1 {
			g.More = append(g.More, c.Code(0x10, c.U(uint64(5+i))))
		} else {
			g.More = append(g.More, c.Code())
		}
	}
	return g
}

// frames is the same with calls that count twice.
func frames(n int) c.Guest {
	g := chain(n)
	for i := range g.More {
		next := []byte{}
		if i < n-1 {
			next = c.Cat(0x10, c.U(uint64(5+i)))
		}
		g.More[i] = c.Locals([][]byte{c.Group(300, c.I32)}, next)
	}
	return g
}

// roomy is a guest that has room for a large document.
func roomy() []byte {
	return c.Guest{Memory: c.Cat(0, 20), Allocate: c.Code(c.Const(c.I32, 8192))}.Module()
}

// large is a document of n bytes in its one spelling.
func large(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }

// capVectors are about what the operator grants.
func capVectors() []vector {
	wishes := func(g c.Guest) []byte {
		g.Metadata = c.Meta()
		g.Metadata.Fuel, g.Metadata.Pages = 1<<40, 1<<16
		return g.Module()
	}
	spends := func() c.Guest { return appraise(bytes.Repeat([]byte{0x01}, 1000)) }
	grows := func() c.Guest {
		g := appraise(c.Const(c.I32, 5), 0x40, 0, c.Const(c.I32, -1), 0x46, 0x04, c.Void, 0x00, 0x0b)
		g.Memory = c.Cat(0, 1)
		return g
	}
	fuel := func(r Request, n uint64) Request { return withCaps(r, func(c *Caps) { c.Fuel = n }) }
	pages := func(r Request, n uint32) Request { return withCaps(r, func(c *Caps) { c.Pages = n }) }
	endless := func() []byte { return c.Guest{Appraise: c.Code(c.Loop(), c.Const(c.I64, 0))}.Module() }
	return []vector{
		{name: "wish-fuel", req: "TMCP-20.4-3", title: "metadata that asks for more fuel than there is: enough is granted", make: func() Request { return single(wishes(spends())) }},
		{name: "wish-fuel-cap", req: "TMCP-20.4-3", title: "metadata that asks for more fuel than the cap, and needs it", twin: "wish-fuel", reason: policywasm.ReasonFuel,
			make: func() Request { return fuel(single(wishes(spends())), 1000) }},
		{name: "wish-pages", req: "TMCP-20.4-3", title: "metadata that asks for more memory than there is: enough is granted", make: func() Request { return pages(single(wishes(grows())), 6) }},
		{name: "wish-pages-cap", req: "TMCP-20.4-3", title: "metadata that asks for more memory than the cap, and needs it", twin: "wish-pages", reason: policywasm.ReasonMemory,
			make: func() Request { return pages(single(wishes(grows())), 5) }},
		{name: "memory-cap", req: "TMCP-20.2-4", title: "a memory that begins a page beyond the operator's cap", twin: good, reason: policywasm.ReasonMemory,
			make: func() Request { return pages(single(c.Guest{Memory: c.Cat(0, 2)}.Module()), 1) }},
		{name: "expired", req: "TMCP-20.7-5", title: "a question whose deadline is over", twin: good, reason: policywasm.ReasonDeadline, make: func() Request {
			r := single(c.Guest{}.Module())
			r.Expired = true
			return r
		}, look: func(t *conformance.T, a *asked) {
			if f := a.Results[0].Fuel; f != nil && *f != 0 {
				t.Violate("%d units of fuel were used", *f)
			}
		}},
		{name: "deadline-endless", req: "TMCP-20.7-4", title: "an endless loop with little time left", twin: good, reason: policywasm.ReasonDeadline, make: func() Request {
			r := single(endless())
			r.Granted = 100_000
			return r
		}},
	}
}

// stateVectors are about what one evaluation leaves, and what the next one sees.
func stateVectors() []vector {
	trapUnless := func(get []byte, n int64) []byte { return c.Cat(get, unless(n)) }
	counter := func() c.Guest {
		g := appraise(trapUnless(c.Cat(0x23, 0), 0), c.Const(c.I32, 1), 0x24, 0)
		g.Globals = [][]byte{c.Cat(c.I32, 1, c.Const(c.I32, 0), 0x0b)}
		return g
	}
	remembers := func() c.Guest {
		return appraise(trapUnless(word(scratch), 0), c.Const(c.I32, scratch), c.Const(c.I32, 1), 0x36, 2, 0)
	}
	grown := func() c.Guest {
		g := appraise(c.Cat(0x3f, 0), unless(1), c.Const(c.I32, 1), 0x40, 0, 0x1a)
		g.Memory = c.Cat(0, 1)
		return g
	}
	dropped := func() c.Guest {
		g := appraise(c.Const(c.I32, scratch), c.Const(c.I32, 0), c.Const(c.I32, 1), 0xfc, 8, 1, 0, 0xfc, 9, 1)
		g.Data, g.DataCount = [][]byte{c.Cat(1, c.Sized([]byte("x")))}, c.U(2)
		return g
	}
	thrice := func(name, title string, make func() c.Guest) vector {
		return vector{name: name, req: "TMCP-20.3-10", title: title, make: func() Request { return ask(make().Module(), "appraise", "{}", "{}", "{}") }}
	}
	step := func(was, is int64) []byte { return c.Code(0x23, 0, unless(was), c.Const(c.I32, is), 0x24, 0) }
	// picky traps where Debug denies.
	picky := func() []byte {
		g := c.Debug()
		g.Data = [][]byte{segment(1024, []byte("no result"))}
		return g.Module()
	}
	out := []vector{
		thrice("fresh-global", "a global that was set is as at first in the next evaluation", counter),
		thrice("fresh-memory", "so is the memory", remembers),
		thrice("fresh-size", "and its size", grown),
		thrice("fresh-data", "and a data segment that was dropped", dropped),
		{name: "initialisation", req: "TMCP-20.3-9", title: "the start function, then _initialize, then allocate, in each instance", make: func() Request {
			g := c.Guest{
				Globals: [][]byte{c.Cat(c.I32, 1, c.Const(c.I32, 0), 0x0b)}, More: [][]byte{step(0, 1), step(1, 2), step(2, 3)},
				Start: c.U(4), Exports: [][]byte{c.Export("_initialize", 0, 5)}, Allocate: c.Code(0x10, 6, c.Const(c.I32, 8192)),
			}
			return ask(g.Module(), "appraise", "{}", "{}")
		}},
		{name: "again", req: "TMCP-20.7-3", title: "the same question twice: the same answer and the same fuel", make: func() Request {
			return ask(c.Debug().Module(), "appraise", `{"x":"yyyyyyyyyyyyyyyy","debug":true}`, ` { "debug" : true, "x" : "yyyyyyyyyyyyyyyy" } `)
		}, look: func(t *conformance.T, a *asked) {
			decides("deny", "deny")(t, a)
			for _, r := range a.Results {
				if r.Fuel == nil {
					t.Violate("no fuel is told")
				}
			}
			if x, y := a.Results[0], a.Results[1]; *x.Fuel != *y.Fuel || len(x.Reasons) != 1 || len(y.Reasons) != 1 || x.Reasons[0] != y.Reasons[0] {
				t.Violate("%d units and %v, then %d and %v", *x.Fuel, x.Reasons, *y.Fuel, y.Reasons)
			}
		}},
		{name: "after-failure", req: "TMCP-20.8-3", title: "a policy that fails for one document decides about the next", make: func() Request {
			return ask(picky(), "appraise", `{"debug":true}`, `{"debug":false}`)
		}, look: decides(policywasm.ReasonOutput, "allow")},
		{name: "failure-forgotten", req: "TMCP-20.8-4", title: "what failed is asked again, and so is what did not", make: func() Request {
			return ask(picky(), "appraise", `{"debug":false}`, `{"debug":true}`, `{"debug":false}`, `{"debug":true}`)
		}, look: decides("allow", policywasm.ReasonOutput, "allow", policywasm.ReasonOutput)},
		{name: "nothing-kept", req: "TMCP-20.8-2", title: "a result of which nothing may be kept: it allows, with reasons, a vector and an obligation that nobody knows", twin: good, reason: policywasm.ReasonObligation,
			make: func() Request {
				return single(c.Guest{Answer: strings.Replace(c.AllowAnswer, `"obligations":[]`, `"obligations":[{"id":"reboot","value":true}]`, 1)}.Module())
			}},
	}
	return out
}
