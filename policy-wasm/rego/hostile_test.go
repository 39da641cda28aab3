package rego_test

import (
	"errors"
	"strings"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
)

// with replaces one function.
func with(name string, ins ...any) opaGuest {
	return opaGuest{functions: map[string][]byte{name: Code(ins...)}}
}

// builtin is a guest whose opa_eval calls a builtin of one argument first.
func builtin(number, argument int64) opaGuest {
	g := with("opa_eval", Const(I32, number), Const(I32, 0), Const(I32, argument), 0x10, funcBuiltin1, 0x1a, Const(I32, answerAt))
	g.builtins = `{"hex.encode":7}`
	return g
}

// dirty is an i32 that engines hand to the host with bits in its upper half; the
// first parameter must be 0.
func dirty(n int64) []byte {
	return Cat(0x20, 0, 0xad, Const(I64, n|-1<<32), 0x7c, 0xa7)
}

// TestHostile: modules that OPA would not make end in a reason of their own.
func TestHostile(t *testing.T) {
	change := func(g opaGuest, f func(*opaGuest)) opaGuest { f(&g); return g }
	deep := Cat(Const(I32, 7), Const(I32, 0), Const(I32, valueAt), 0x10, funcBuiltin1)
	for name, tt := range map[string]struct {
		guest opaGuest
		load  bool
		want  string
	}{
		"good":                  {opaGuest{}, false, ""},
		"good-prints":           {opaGuest{imports: [][]byte{Cat(Sized([]byte("env")), Sized([]byte("opa_println")), 0, 8)}}, false, ""},
		"good-builtin":          {builtin(7, valueAt), false, ""},
		"import-unknown":        {opaGuest{imports: [][]byte{Cat(Sized([]byte("env")), Sized([]byte("http_send")), 0, 8)}}, true, policywasm.ReasonImport},
		"import-wasi":           {opaGuest{imports: [][]byte{Cat(Sized([]byte("wasi_snapshot_preview1")), Sized([]byte("sched_yield")), 0, 0)}}, true, policywasm.ReasonImport},
		"import-type":           {opaGuest{imports: [][]byte{Cat(Sized([]byte("env")), Sized([]byte("opa_println")), 0, 2)}}, true, policywasm.ReasonSignature},
		"import-memory-twice":   {opaGuest{imports: [][]byte{Cat(Sized([]byte("env")), Sized([]byte("memory")), 2, 0, 1)}}, true, policywasm.ReasonImport},
		"import-memory-other":   {opaGuest{imports: [][]byte{Cat(Sized([]byte("host")), Sized([]byte("memory")), 2, 0, 1)}}, true, policywasm.ReasonImport},
		"memory-two":            {opaGuest{own: []byte{0, 1}}, true, policywasm.ReasonProfile},
		"memory-large":          {opaGuest{memory: Cat(0, U(1025))}, true, policywasm.ReasonMemory},
		"memory-4-gib":          {opaGuest{memory: Cat(0, U(65536))}, true, policywasm.ReasonMemory},
		"memory-shared":         {opaGuest{memory: Cat(3, 1, 2)}, true, policywasm.ReasonProfile},
		"memory-none":           {opaGuest{memory: Cat(1, 0, 0)}, true, policywasm.ReasonTrap}, // data beyond it
		"export-missing":        {opaGuest{without: "opa_eval"}, true, policywasm.ReasonExport},
		"export-type":           {opaGuest{retype: "opa_malloc"}, true, policywasm.ReasonSignature},
		"export-reserved":       {opaGuest{exports: [][]byte{Export("__tmcp_fuel", 3, 0)}}, true, policywasm.ReasonExport},
		"abi-1.1":               {opaGuest{minor: 1}, true, policywasm.ReasonABI},
		"abi-2":                 {opaGuest{major: 2}, true, policywasm.ReasonABI},
		"abi-minus":             {opaGuest{minor: -1}, false, ""}, // a later one, as a number without sign
		"entry-missing":         {opaGuest{entrypoints: `{"tmcp/authorize":1}`}, true, policywasm.ReasonExport},
		"entrypoints-text":      {opaGuest{entrypoints: `{"tmcp/appraise":"0"}`}, true, policywasm.ReasonExport},
		"entrypoints-negative":  {opaGuest{entrypoints: `{"tmcp/appraise":-1}`}, true, policywasm.ReasonExport},
		"entrypoints-array":     {opaGuest{entrypoints: `[]`}, true, policywasm.ReasonExport},
		"entrypoints-twice":     {opaGuest{entrypoints: `{"tmcp/appraise":0,"tmcp/appraise":1}`}, true, policywasm.ReasonExport},
		"entrypoints-outside":   {with("entrypoints", Const(I32, -1)), true, policywasm.ReasonOutput},
		"entrypoints-null":      {with("entrypoints", Const(I32, 0)), true, policywasm.ReasonOutput},
		"entrypoints-endless":   {change(with("entrypoints", Const(I32, answerAt)), func(g *opaGuest) { g.answer, g.memory = strings.Repeat("x", 66_000), []byte{0, 3} }), true, policywasm.ReasonOversize},
		"builtin-http":          {opaGuest{builtins: `{"http.send":0}`}, true, policywasm.ReasonImport},
		"builtin-random":        {opaGuest{builtins: `{"rand.intn":0,"sprintf":1}`}, true, policywasm.ReasonImport},
		"builtin-number":        {builtin(8, valueAt), false, policywasm.ReasonTrap},
		"builtin-number-minus":  {builtin(-1, valueAt), false, policywasm.ReasonTrap},
		"builtin-arguments":     {change(builtin(7, valueAt), func(g *opaGuest) { g.builtins = `{"sprintf":7}` }), false, policywasm.ReasonTrap},
		"builtin-value-bad":     {change(builtin(7, valueAt), func(g *opaGuest) { g.value = `{"a"` }), false, policywasm.ReasonTrap},
		"builtin-value-deep":    {change(builtin(7, valueAt), func(g *opaGuest) { g.value = strings.Repeat("[", 900) }), false, policywasm.ReasonTrap},
		"builtin-value-outside": {change(builtin(7, -1), func(g *opaGuest) { g.functions["opa_value_dump"] = Code(0x20, 0) }), false, policywasm.ReasonOutput},
		"builtin-in-builtin":    {change(builtin(7, valueAt), func(g *opaGuest) { g.functions["opa_value_dump"] = Code(deep) }), false, policywasm.ReasonTrap},
		"builtin-no-room": {change(builtin(7, valueAt), func(g *opaGuest) {
			g.functions["opa_malloc"] = Code(0x20, 0, 0x45, 0x04, I32, Const(I32, roomAt), 0x05, Const(I32, 0), 0x0b)
		}), false, policywasm.ReasonAllocate},
		"builtin-not-taken":      {change(builtin(7, valueAt), func(g *opaGuest) { g.functions["opa_json_parse"] = Code(Const(I32, 0)) }), false, policywasm.ReasonTrap},
		"builtin-endless":        {change(builtin(7, valueAt), func(g *opaGuest) { g.functions["opa_eval"] = Code(Loop(deep, 0x1a), Const(I32, 0)) }), false, policywasm.ReasonFuel},
		"builtin-at-start":       {change(builtin(7, valueAt), func(g *opaGuest) { g.start = Code(deep, 0x1a) }), true, policywasm.ReasonTrap},
		"abort-dirty":            {with("opa_eval", dirty(answerAt), 0x10, funcAbort, Const(I32, 0)), false, policywasm.ReasonTrap},
		"abort":                  {with("opa_eval", Const(I32, answerAt), 0x10, funcAbort, Const(I32, 0)), false, policywasm.ReasonTrap},
		"abort-outside":          {with("opa_eval", Const(I32, -1), 0x10, funcAbort, Const(I32, 0)), false, policywasm.ReasonTrap},
		"abort-huge":             {change(with("opa_eval", Const(I32, valueAt), 0x10, funcAbort, Const(I32, 0)), func(g *opaGuest) { g.value = strings.Repeat("\xff\n", 8000) }), false, policywasm.ReasonTrap},
		"abort-at-start":         {opaGuest{start: Code(Const(I32, -1), 0x10, funcAbort)}, true, policywasm.ReasonTrap},
		"abort-after-memory":     {with("opa_eval", Const(I32, 2000), 0x40, 0, 0x1a, Const(I32, answerAt), 0x10, funcAbort, Const(I32, 0)), false, policywasm.ReasonMemory},
		"loop":                   {with("opa_eval", Loop(), Const(I32, 0)), false, policywasm.ReasonFuel},
		"loop-start":             {opaGuest{start: Code(Loop())}, true, policywasm.ReasonFuel},
		"loop-malloc":            {with("opa_malloc", Loop(), Const(I32, 0)), true, policywasm.ReasonFuel},
		"loop-builtins":          {with("builtins", Loop(), Const(I32, 0)), true, policywasm.ReasonFuel},
		"recursion":              {with("opa_eval", Const(I32, 0), 0x20, 0, 0x20, 0, 0x20, 0, 0x20, 0, 0x20, 0, 0x20, 0, 0x10, imported), false, policywasm.ReasonDepth},
		"unreachable":            {with("opa_eval", 0x00), false, policywasm.ReasonTrap},
		"no-room":                {with("opa_malloc", 0x20, 0, 0x45, 0x04, I32, Const(I32, roomAt), 0x05, Const(I32, 0), 0x0b), false, policywasm.ReasonAllocate},
		"room-outside":           {with("opa_malloc", Const(I32, -8)), false, policywasm.ReasonAllocate},
		"answer-null":            {with("opa_eval", Const(I32, 0)), false, policywasm.ReasonOutput},
		"answer-outside":         {with("opa_eval", Const(I32, 65536)), false, policywasm.ReasonOutput},
		"answer-minus":           {with("opa_eval", Const(I32, -1)), false, policywasm.ReasonOutput},
		"answer-last-byte":       {with("opa_eval", Const(I32, 65535), Const(I32, 0x41), 0x3a, 0, 0, Const(I32, 65535)), false, policywasm.ReasonOutput},
		"answer-endless":         {with("opa_eval", Const(I32, 32), 0x40, 0, 0x1a, Const(I32, 65536), Const(I32, 'x'), Const(I32, 32<<16), 0xfc, 11, 0, Const(I32, 65536)), false, policywasm.ReasonOversize},
		"answer-large":           {opaGuest{answer: `[{"result":{"decision":"deny","x":"` + strings.Repeat("x", 66_000) + `"}}]`, memory: []byte{0, 3}}, false, policywasm.ReasonOversize},
		"answer-undefined":       {opaGuest{answer: `[]`}, false, policywasm.ReasonOutput},
		"answer-undefined-set":   {opaGuest{answer: `{}`}, false, policywasm.ReasonOutput},
		"answer-two":             {opaGuest{answer: `[{"result":{"decision":"deny"}},{"result":{"decision":"allow"}}]`}, false, policywasm.ReasonOutput},
		"answer-no-result":       {opaGuest{answer: `[{"Result":{"decision":"deny"}}]`}, false, policywasm.ReasonOutput},
		"answer-twice":           {opaGuest{answer: `[{"result":{"decision":"deny","decision":"allow"}}]`}, false, policywasm.ReasonOutput},
		"answer-true":            {opaGuest{answer: `[{"result":true}]`}, false, policywasm.ReasonOutput},
		"answer-allow-boolean":   {opaGuest{answer: `[{"result":{"allow":true}}]`}, false, policywasm.ReasonOutput},
		"answer-text":            {opaGuest{answer: `allow`}, false, policywasm.ReasonOutput},
		"answer-deep":            {opaGuest{answer: strings.Repeat("[", 20_000)}, false, policywasm.ReasonOutput},
		"answer-no-vector":       {opaGuest{answer: `[{"result":{"decision":"allow"}}]`}, false, policywasm.ReasonContradiction},
		"answer-obligation":      {opaGuest{answer: `[{"result":` + strings.Replace(AllowAnswer, `"obligations":[]`, `"obligations":[{"id":"dance","value":1}]`, 1) + `}]`}, false, policywasm.ReasonObligation},
		"section-twice":          {opaGuest{custom: append(Custom(rego.DataSection, []byte("{}")), Custom(rego.DataSection, []byte("{}"))...)}, true, policywasm.ReasonInvalid},
		"section-not-canonical":  {opaGuest{custom: Custom(rego.DataSection, []byte(`{"b":1, "a":2}`))}, true, policywasm.ReasonInvalid},
		"section-array":          {opaGuest{custom: Custom(rego.DataSection, []byte(`[]`))}, true, policywasm.ReasonInvalid},
		"data-not-taken":         {opaGuest{custom: Custom(rego.DataSection, []byte(`{"a":1}`)), functions: map[string][]byte{"opa_json_parse": Code(Const(I32, 0))}}, false, policywasm.ReasonAllocate},
		"fuel-refill":            {with("opa_eval", Const(I64, 1<<40), 0x24, 2, Const(I32, answerAt)), true, policywasm.ReasonInvalid},
		"types-huge-in-a-module": {opaGuest{custom: Section(1, U(1<<32-1))}, true, policywasm.ReasonInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			for engine, e := range engines {
				p, err := rego.Load(t.Context(), tt.guest.module(), caps(e), meta(policywasm.Appraise))
				var f *policywasm.Failure
				if tt.load || err != nil {
					if !tt.load || !errors.As(err, &f) || f.Reason != tt.want || f.Detail == "" || len(f.Detail) > 256 {
						t.Errorf("%s: load: want %q, got %v", engine, tt.want, err)
					}
					if err == nil {
						_ = p.Close(t.Context())
					}
					continue
				}
				for range 2 {
					r := p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `{"time":1}`)})
					switch {
					case tt.want == "" && r.Decision != policywasm.Allow:
						t.Errorf("%s: %v, %v", engine, r.Decision, r.Failure)
					case tt.want != "" && (r.Decision != policywasm.Deny || r.Failure == nil || r.Failure.Reason != tt.want || len(r.Failure.Detail) > 256):
						t.Errorf("%s: want %q, got %v, %v", engine, tt.want, r.Decision, r.Failure)
					}
				}
				if err := p.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
