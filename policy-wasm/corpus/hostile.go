package corpus

import (
	"bytes"
	"strings"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// A Case is a hostile module with one fault.
type Case struct {
	Name   string
	Why    string // what it does to hosts that are not careful
	Module func() []byte
	Load   bool   // refused when it is loaded; else when it is evaluated
	Want   string // the reason
}

// Cases are the hostile modules. All are asked to appraise, with the caps of
// [policywasm.Defaults].
func Cases() []Case {
	return append(append(append(format(), features()...), bombs()...), append(abi(), runs()...)...)
}

// huge is the count 2^32-1.
var huge = U(1<<32 - 1)

// with is a good guest, changed.
func with(change func(*Guest)) func() []byte {
	return func() []byte {
		var g Guest
		change(&g)
		return g.Module()
	}
}

// appraise is a guest whose appraise runs these instructions first.
func appraise(ins ...any) func() []byte {
	return with(func(g *Guest) { g.Appraise = Code(append(ins, Packed(answerAt, len(AllowAnswer)))...) })
}

func fixed(b []byte) func() []byte { return func() []byte { return b } }

func repeat(n int, ins ...any) []byte { return bytes.Repeat(Cat(ins...), n) }

// format has what is no module.
func format() []Case {
	inv := policywasm.ReasonInvalid
	good := Guest{}.Module()
	announced := func(id byte, before ...[]byte) func() []byte {
		return fixed(Raw(append(before, Section(id, huge))...))
	}
	types := Section(1, Vec(Type(nil, nil)))
	return []Case{
		{"empty", "nothing at all", fixed(nil), true, inv},
		{"garbage", "no WebAssembly", fixed([]byte("package policy\ndefault allow := true")), true, inv},
		{"component", "a component, not a core module", fixed([]byte("\x00asm\x0d\x00\x01\x00")), true, inv},
		{"truncated", "the end is missing", fixed(good[:len(good)-1]), true, inv},
		{"trailing", "bytes behind the last section", fixed(append(bytes.Clone(good), 0xff)), true, inv},
		{"twice", "a section stands twice", fixed(Raw(types, types)), true, inv},
		{"order", "sections out of order", fixed(Raw(Section(3, Vec()), types)), true, inv},
		{"types-huge", "engines make room for 2^32-1 types: the process is killed", announced(1), true, inv},
		{"params-huge", "17 bytes that announce 2^32-1 parameters", fixed(Raw(Section(1, Cat(1, 0x60, huge)))), true, inv},
		{"results-huge", "2^32-1 results", fixed(Raw(Section(1, Cat(1, 0x60, 0, huge)))), true, inv},
		{"imports-huge", "2^32-1 imports", announced(2), true, inv},
		{"functions-huge", "2^32-1 functions", announced(3, types), true, inv},
		{"tables-huge", "2^32-1 tables", announced(4), true, inv},
		{"globals-huge", "2^32-1 globals", announced(6), true, inv},
		{"exports-huge", "2^32-1 exports: 23 s, then killed", announced(7), true, inv},
		{"elements-huge", "2^32-1 element segments", announced(9), true, inv},
		{"codes-huge", "2^32-1 bodies", announced(10), true, inv},
		{"datas-huge", "2^32-1 data segments", announced(11), true, inv},
		{"element-vector-huge", "a segment of 2^32-1 functions", with(func(g *Guest) {
			g.Table, g.Elements = Cat(0x70, 0, 1), [][]byte{Cat(0, Const(I32, 0), 0x0b, huge)}
		}), true, inv},
		{"data-length-huge", "a segment of 4 GiB that is not there", with(func(g *Guest) {
			g.Data = [][]byte{Cat(0, Const(I32, 0), 0x0b, huge)}
		}), true, inv},
		{"custom-huge", "a custom section of 4 GiB that is not there", fixed(Raw(Cat(0, huge))), true, inv},
		{"name-huge", "a name of 4 GiB", fixed(Raw(Section(7, Cat(1, huge)))), true, inv},
		{"body-huge", "a body of 4 GiB", fixed(Raw(types, Section(3, Cat(1, 0)), Section(10, Cat(1, huge)))), true, inv},
		{"leb-long", "a number in six bytes", fixed(Raw(Section(1, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0}))), true, inv},
		{"leb-wide", "a number of 33 bits", fixed(Raw(Section(1, []byte{0xff, 0xff, 0xff, 0xff, 0x1f}))), true, inv},
		{"name-utf8", "an export whose name is not UTF-8", with(func(g *Guest) { g.Exports = [][]byte{Export("\xff", 0, 0)} }), true, inv},
		{"bodies-missing", "a function without code", fixed(Raw(types, Section(3, Cat(1, 0)))), true, inv},
		{"bodies-more", "code without a function", fixed(Raw(types, Section(10, Vec(Sized(Code()))))), true, inv},
		{"operand-types", "f32 where i32 is due: only the engine sees it", appraise(Const(I64, 0), 0x45, 0x1a), true, inv},
		{"fuel-refill", "sets a global that it does not have, which instrumenting adds: fuel without end", appraise(Const(I64, 1<<40), 0x24, 0), true, inv},
		{"depth-reset", "the same with the depth of calls", appraise(Const(I32, 1000), 0x24, 1), true, inv},
		{"fuel-export", "exports that global", with(func(g *Guest) { g.Exports = [][]byte{Export("g", 3, 0)} }), true, inv},
		{"label-outside", "branches one label past the function, around the depth's counting", appraise(0x0c, 1), true, inv},
		{"label-outside-table", "the same in a table of branches", appraise(Const(I32, 0), 0x0e, 1, 0, 1), true, inv},
		{"local-outside", "sets a local that instrumenting adds", appraise(0x20, 2, 0x1a, 0x20, 0, 0x40, 0, 0x1a), true, inv},
		{"table-bounds", "a table whose minimum is above its maximum", with(func(g *Guest) { g.Table = Cat(0x70, 1, 2, 1) }), true, inv},
		{"data-count", "announces two data segments, and has one", with(func(g *Guest) { g.DataCount = U(2) }), true, inv},
		{"data-uncounted", "uses data segments without having announced them", appraise(Const(I32, 0), Const(I32, 0), Const(I32, 0), 0xfc, 8, 0, 0), true, inv},
		{"else-else", "an if with two else", appraise(Const(I32, 0), 0x04, Void, 0x05, 0x05, 0x0b), true, inv},
		{"else-block", "an else in a block", appraise(0x02, Void, 0x05, 0x0b), true, inv},
		{"end-early", "code behind the end of a function", appraise(Const(I64, 0), 0x0b, 0x01), true, inv},
		{"indirect-no-table", "calls through a table that is not there", appraise(Const(I32, 0), 0x11, typeVoid, 0), true, inv},
		{"const-wide", "an i32.const of 33 bits", appraise(0x41, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, 0x1a), true, inv},
		{"call-outside", "calls a function that is not there", appraise(0x10, 99), true, inv},
		{"type-outside", "a function of a type that is not there", with(func(g *Guest) { g.More, g.MoreTypes = [][]byte{Code()}, []byte{99} }), true, inv},
		{"memory-bounds", "a memory whose minimum is above its maximum", with(func(g *Guest) { g.Memory = Cat(1, 2, 1) }), true, inv},
	}
}

// features has what is outside the profile.
func features() []Case {
	prof := policywasm.ReasonProfile
	return []Case{
		{"simd", "vector instructions", appraise(0xfd, 0x0c, make([]byte, 16), 0x1a), true, prof},
		{"threads", "shared memory", with(func(g *Guest) { g.Memory = Cat(3, 1, 2) }), true, prof},
		{"atomics", "atomic instructions", appraise(0xfe, 3, 0), true, prof},
		{"memory64", "a memory of 64 bits", with(func(g *Guest) { g.Memory = Cat(4, 1) }), true, prof},
		{"no-memory", "no memory", fixed(Raw()), true, prof},
		{"multi-value", "two results", with(func(g *Guest) { g.Types = [][]byte{Type(nil, []byte{I32, I32})} }), true, prof},
		{"block-params", "a block with parameters", appraise(Const(I32, 0), 0x02, typeAllocate, 0x0b, 0x1a), true, prof},
		{"reference-type", "a global of functions", with(func(g *Guest) { g.Globals = [][]byte{Cat(0x70, 0, 0xd0, 0x70, 0x0b)} }), true, prof},
		{"externref", "a table of references of the host", with(func(g *Guest) { g.Table = Cat(0x6f, 0, 1) }), true, prof},
		{"element-passive", "a passive element segment", with(func(g *Guest) {
			g.Table, g.Elements = Cat(0x70, 0, 1), [][]byte{Cat(1, Const(I32, 0), 0x0b, 1, 0)}
		}), true, prof},
		{"data-memory", "a data segment that names its memory", with(func(g *Guest) { g.Data = [][]byte{Cat(2, 0, Const(I32, 0), 0x0b, 0)} }), true, prof},
		{"align", "an alignment that names another memory", appraise(Const(I32, 0), 0x28, 0x42, 0, 0, 0x1a), true, prof},
		{"select-type", "select of given types", appraise(Const(I32, 0), Const(I32, 0), Const(I32, 0), 0x1c, 1, I32, 0x1a), true, prof},
		{"constant-long", "a constant that is computed", with(func(g *Guest) {
			g.Globals = [][]byte{Cat(I32, 0, Const(I32, 0), Const(I32, 0), 0x6a, 0x0b)}
		}), true, prof},
		{"ref-null", "reference instructions", appraise(0xd0, 0x70, 0x1a), true, prof},
		{"table-grow", "table.grow by 100 million: 790 MB", with(func(g *Guest) {
			g.Table = Cat(0x70, 0, 1)
			g.Appraise = Code(0xd0, 0x70, Const(I32, 100_000_000), 0xfc, 15, 0, 0x1a, Const(I64, 0))
		}), true, prof},
		{"table-copy", "table.copy", with(func(g *Guest) {
			g.Table = Cat(0x70, 0, 1)
			g.Appraise = Code(Const(I32, 0), Const(I32, 0), Const(I32, 0), 0xfc, 14, 0, 0, Const(I64, 0))
		}), true, prof},
		{"tail-call", "return_call", appraise(0x12, 0), true, prof},
		{"exceptions", "throw", appraise(0x08, 0), true, prof},
		{"tag-section", "a section of exceptions", fixed(Raw(Section(13, Vec()))), true, prof},
		{"global-get-constant", "a constant that is another global's", with(func(g *Guest) {
			g.Globals = [][]byte{Cat(I32, 0, Const(I32, 0), 0x0b), Cat(I32, 0, 0x23, 0, 0x0b)}
		}), true, prof},
	}
}

// bombs have what costs too much before anything runs.
func bombs() []Case {
	lim := policywasm.ReasonLimit
	one := func(body []byte) func() []byte { return with(func(g *Guest) { g.More = [][]byte{body} }) }
	many := func(n int, body []byte) func() []byte {
		return with(func(g *Guest) {
			for range n {
				g.More = append(g.More, body)
			}
		})
	}
	ifs := func(n int) []byte { return repeat(n, Const(I32, 0), 0x04, Void, 0x0b) }
	return []Case{
		{"module-large", "9 MiB of custom section", fixed(Raw(Custom("x", make([]byte, 9<<20)))), true, lim},
		{"locals-4g", "125 bytes with 2^32-1 locals: killed, 34 GB", one(Locals([][]byte{Group(1<<32-1, I64)})), true, lim},
		{"locals-sum", "groups of locals whose sum overflows", one(Locals([][]byte{Group(400, I64), Group(1<<32-1, I32)})), true, lim},
		{"locals-1m", "a million locals", one(Locals([][]byte{Group(1_000_000, I64)})), true, lim},
		{"params-many", "a type of 1000 parameters", with(func(g *Guest) { g.Types = [][]byte{Type(bytes.Repeat([]byte{I32}, 1000), nil)} }), true, lim},
		{"functions-many", "100,000 empty functions", many(100_000, Code()), true, lim},
		{"globals-many", "a million globals", with(func(g *Guest) {
			g.Globals = bytes.SplitAfter(repeat(1_000_000, I32, 0, Const(I32, 0), 0x0b), []byte{0x0b})[:1_000_000]
		}), true, lim},
		{"body-long", "200 KB of straight code", one(Code(repeat(200_000, 0x01))), true, lim},
		{"nesting-deep", "1025 nested blocks", one(Code(repeat(1025, 0x02, Void), repeat(1025, 0x0b))), true, lim},
		{"nesting", "40,000 nested blocks: 40 s and more to compile", one(Code(repeat(40_000, 0x02, Void), repeat(40_000, 0x0b))), true, lim},
		{"br-table", "a br_table of 100,000 targets", one(Code(Const(I32, 0), 0x0e, U(100_000), make([]byte, 100_001))), true, lim},
		{"br-tables", "many of the largest br_table allowed", one(Code(repeat(20, Const(I32, 0), 0x0e, U(4000), make([]byte, 4001)))), true, lim},
		{"loops", "3000 loops with 400 locals: 15 s", one(Locals([][]byte{Group(400, I64)}, repeat(3000, 0x03, Void, 0x0b))), true, lim},
		{"loops-nested", "300 loops in each other with 200 locals: a second for each such function", one(Locals([][]byte{Group(200, I64)},
			repeat(300, 0x03, Void), repeat(300, 0x20, 0, 0xa7, 0x0d, 0, 0x0b))), true, lim},
		{"loops-deep", "17 loops in each other", one(Code(repeat(17, 0x03, Void), repeat(17, 0x0b))), true, lim},
		{"ifs", "20,000 ifs: 40 s and more", one(Code(ifs(20_000))), true, lim},
		{"ifs-fewer", "3500 ifs: within all other limits", one(Code(ifs(3_500))), true, lim},
		{"ifs-many", "dear functions, many of them", many(100, Code(ifs(2_000))), true, lim},
		{"exports-many", "100,000 exports", with(func(g *Guest) {
			for i := range 100_000 {
				g.Exports = append(g.Exports, Export("e"+strings.Repeat("x", i%7)+string(rune('a'+i%26)), 0, 0))
			}
		}), true, lim},
		{"table-10m", "a table of 10 million", with(func(g *Guest) { g.Table = Cat(0x70, 0, U(10_000_000)) }), true, lim},
		{"elements-many", "segments of 200,000 functions", with(func(g *Guest) {
			g.Table = Cat(0x70, 0, U(1000))
			g.Elements = [][]byte{Cat(0, Const(I32, 0), 0x0b, U(200_000), make([]byte, 200_000))}
		}), true, lim},
		{"name-long", "an export with a name of 2 KiB", with(func(g *Guest) { g.Exports = [][]byte{Export(strings.Repeat("n", 2048), 0, 0)} }), true, lim},
		{"metadata-large", "20 KiB of metadata", with(func(g *Guest) { g.Custom = Custom("tmcp.policy", make([]byte, 20<<10)) }), true, lim},
		{"memory-4g", "a memory of 4 GiB", with(func(g *Guest) { g.Memory = Cat(0, U(65_536)) }), true, policywasm.ReasonMemory},
		{"memory-65m", "a page more than the cap", with(func(g *Guest) { g.Memory = Cat(0, U(1025)) }), true, policywasm.ReasonMemory},
	}
}

// abi has what breaks the contract of imports, exports and metadata.
func abi() []Case {
	sig, exp, meta := policywasm.ReasonSignature, policywasm.ReasonExport, policywasm.ReasonMetadata
	imp := func(module, name string, rest ...any) func() []byte {
		return with(func(g *Guest) { g.Imports = [][]byte{Cat(Sized([]byte(module)), Sized([]byte(name)), Cat(rest...))} })
	}
	changed := func(change func(*policywasm.Metadata)) func() []byte {
		return with(func(g *Guest) {
			g.Metadata = Meta()
			change(g.Metadata)
		})
	}
	return []Case{
		{"import-unknown", "imports a function that nobody offers", imp("env", "now", 0, typeVersion), true, policywasm.ReasonImport},
		{"import-wasi-files", "wants to open files", imp("wasi_snapshot_preview1", "path_open", 0, typeVersion), true, policywasm.ReasonImport},
		{"import-wasi-sockets", "wants to take connections", imp("wasi_snapshot_preview1", "sock_accept", 0, typeVersion), true, policywasm.ReasonImport},
		{"import-wasi-unstable", "wants WASI of an older version", imp("wasi_unstable", "sched_yield", 0, typeVersion), true, policywasm.ReasonImport},
		{"import-wasi-type", "wants one of WASI's functions, with another type", imp("wasi_snapshot_preview1", "random_get", 0, typeVersion), true, sig},
		{"import-log", "wants a log where none is offered", imp("tmcp_1", "log", 0, typeVoid), true, policywasm.ReasonImport},
		{"import-memory", "imports its memory", imp("env", "memory", 2, 0, 1), true, policywasm.ReasonImport},
		{"import-global", "imports a global", imp("env", "g", 3, I32, 0), true, policywasm.ReasonImport},
		{"export-twice", "one name for two functions", with(func(g *Guest) { g.Exports = [][]byte{Export("tmcp_appraise", 0, 0)} }), true, exp},
		{"export-reserved", "a name of the host's", with(func(g *Guest) {
			g.Globals, g.Exports = [][]byte{Cat(I64, 1, Const(I64, 0), 0x0b)}, [][]byte{Export("__tmcp_fuel", 3, 0)}
		}), true, exp},
		{"export-missing", "no appraise, though its metadata names it", with(func(g *Guest) { g.Without = "tmcp_appraise" }), true, exp},
		{"export-no-allocate", "no allocate", with(func(g *Guest) { g.Without = "tmcp_allocate" }), true, exp},
		{"export-no-memory", "its memory is not exported", with(func(g *Guest) { g.Without = "memory" }), true, exp},
		{"export-global", "a global named like a function", with(func(g *Guest) {
			g.Without = "tmcp_appraise"
			g.Globals, g.Exports = [][]byte{Cat(I32, 0, Const(I32, 0), 0x0b)}, [][]byte{Export("tmcp_appraise", 3, 0)}
		}), true, exp},
		{"signature", "appraise takes one parameter", with(func(g *Guest) {
			g.Retype, g.Appraise = map[int]byte{funcAppraise: typeAllocate}, Code(Const(I32, 0))
		}), true, sig},
		{"signature-start", "a start function with a result", with(func(g *Guest) { g.Start = U(funcVersion) }), true, sig},
		{"abi-metadata", "made for ABI 2", changed(func(m *policywasm.Metadata) { m.ABI = 2 }), true, policywasm.ReasonABI},
		{"abi-function", "its version function says 2", with(func(g *Guest) { g.Version = Code(Const(I32, 2)) }), true, policywasm.ReasonABI},
		{"metadata-none", "no metadata", func() []byte {
			return bytes.Replace(Guest{}.Module(), []byte("tmcp.policy"), []byte("tmcp.polity"), 1)
		}, true, meta},
		{"metadata-garbage", "metadata that is no CBOR", func() []byte {
			b := Guest{}.Module()
			b[bytes.Index(b, []byte("tmcp.policy"))+len("tmcp.policy")] = 0xff
			return b
		}, true, meta},
		{"metadata-twice", "two sections of metadata", with(func(g *Guest) { g.Custom = Custom("tmcp.policy", nil) }), true, policywasm.ReasonInvalid},
		{"metadata-entry", "answers a question that there is not", changed(func(m *policywasm.Metadata) { m.Entries = []policywasm.Entry{"decide"} }), true, meta},
		{"metadata-encoding", "wants XML", changed(func(m *policywasm.Metadata) { m.Encoding = "xml" }), true, meta},
		{"entry", "only authorizes, and is asked to appraise", changed(func(m *policywasm.Metadata) { m.Entries = m.Entries[1:] }), false, policywasm.ReasonEntry},
	}
}

// runs have what goes wrong when it runs.
func runs() []Case {
	trap, fuel, depth, output := policywasm.ReasonTrap, policywasm.ReasonFuel, policywasm.ReasonDepth, policywasm.ReasonOutput
	answer := func(s string) func() []byte { return with(func(g *Guest) { g.Answer = s }) }
	vector := func(from, to string) func() []byte { return answer(strings.Replace(AllowAnswer, from, to, 1)) }
	calls := func(n int) func() []byte { // each function calls the next one twice
		return with(func(g *Guest) {
			for i := range n {
				g.More = append(g.More, Code(0x10, U(uint64(funcMore+i+1)), 0x10, U(uint64(funcMore+i+1))))
			}
			g.More = append(g.More, Code())
			g.Appraise = Code(0x10, U(funcMore), Packed(answerAt, len(AllowAnswer)))
		})
	}
	self := func(groups ...[]byte) func() []byte {
		return with(func(g *Guest) {
			g.More = [][]byte{Locals(groups, 0x10, U(funcMore))}
			g.Appraise = Code(0x10, U(funcMore), Const(I64, 0))
		})
	}
	return []Case{
		{"trap", "unreachable", appraise(0x00), false, trap},
		{"divide", "divides by zero", appraise(Const(I32, 1), Const(I32, 0), 0x6d, 0x1a), false, trap},
		{"out-of-bounds", "reads outside of its memory", appraise(Const(I32, -8), 0x29, 0, 0, 0x1a), false, trap},
		{"indirect-type", "calls a function of another type through the table", with(func(g *Guest) {
			g.Table, g.Elements = Cat(0x70, 0, 1), [][]byte{Cat(0, Const(I32, 0), 0x0b, 1, funcVersion)}
			g.Appraise = Code(Const(I32, 0), 0x11, typeVoid, 0, Const(I64, 0))
		}), false, trap},
		{"indirect-null", "calls through an empty table", with(func(g *Guest) {
			g.Table, g.Appraise = Cat(0x70, 0, 1), Code(Const(I32, 0), 0x11, typeVoid, 0, Const(I64, 0))
		}), false, trap},
		{"data-outside", "a data segment outside of the memory", with(func(g *Guest) { g.Data = [][]byte{Cat(0, Const(I32, -1), 0x0b, 1, "x")} }), true, trap},
		{"loop", "an endless loop", appraise(Loop()), false, fuel},
		{"loop-allocate", "an endless loop in allocate", with(func(g *Guest) { g.Allocate = Code(Loop(), Const(I32, 0)) }), false, fuel},
		{"loop-start", "an endless loop in the start function", with(func(g *Guest) { g.More, g.Start = [][]byte{Code(Loop())}, U(funcMore) }), true, fuel},
		{"loop-initialize", "an endless loop in _initialize", with(func(g *Guest) {
			g.More, g.Exports = [][]byte{Code(Loop())}, [][]byte{Export("_initialize", 0, funcMore)}
		}), true, fuel},
		{"loop-version", "an endless loop in the version function", with(func(g *Guest) { g.Version = Code(Loop(), Const(I32, 1)) }), true, fuel},
		{"exponential", "45 functions without a loop, 2^45 calls: engines ignore their deadline", calls(45), false, fuel},
		{"fill-loop", "fills 64 KiB in a loop", appraise(Loop(Const(I32, 32768), Const(I32, 0), Const(I32, 32768), 0xfc, 11, 0)), false, fuel},
		{"divide-loop", "divides for ever", appraise(Loop(Const(I64, -1), Const(I64, 3), 0x80, 0x1a)), false, fuel},
		{"grow-loop", "asks for memory for ever", with(func(g *Guest) {
			g.Memory, g.Appraise = Cat(0, 1), Code(Loop(Const(I32, 1), 0x40, 0, 0x1a), Const(I64, 0))
		}), false, fuel},
		{"grow-trap", "asks for more memory than the cap, and traps when it does not get it", with(func(g *Guest) {
			g.Memory, g.Appraise = Cat(0, 1), Code(Const(I32, 2000), 0x40, 0, Const(I32, -1), 0x46, 0x04, Void, 0x00, 0x0b, Const(I64, 0))
		}), false, policywasm.ReasonMemory},
		{"grow-allocate", "has no room for the input, for the cap on memory", with(func(g *Guest) {
			g.Allocate = Code(Const(I32, 2000), 0x40, 0, 0x1a, Const(I32, 0))
		}), false, policywasm.ReasonMemory},
		{"recursion", "calls itself for ever: 173 MB of stack", self(), false, depth},
		{"recursion-frames", "the same with 200 locals", self(Group(200, I64)), false, depth},
		{"recursion-operands", "the same with 12,000 operands on the stack: 230 MB", with(func(g *Guest) {
			g.Globals = [][]byte{Cat(I32, 1, Const(I32, 0), 0x0b)}
			g.More = [][]byte{Code(repeat(12_000, 0x23, 0, 0x28, 2, 0), 0x10, U(funcMore), repeat(12_000, 0x24, 0))}
			g.Appraise = Code(0x10, U(funcMore), Const(I64, 0))
		}), false, depth},
		{"recursion-indirect", "the same through the table", with(func(g *Guest) {
			g.Table, g.Elements = Cat(0x70, 0, 1), [][]byte{Cat(0, Const(I32, 0), 0x0b, 1, funcMore)}
			g.More = [][]byte{Code(Const(I32, 0), 0x11, typeVoid, 0)}
			g.Appraise = Code(0x10, U(funcMore), Const(I64, 0))
		}), false, depth},
		{"allocate-zero", "allocate gives nothing", with(func(g *Guest) { g.Allocate = Code(Const(I32, 0)) }), false, policywasm.ReasonAllocate},
		{"allocate-outside", "allocate points behind the memory", with(func(g *Guest) { g.Allocate = Code(Const(I32, -16)) }), false, policywasm.ReasonAllocate},
		{"allocate-edge", "allocate points at the last byte", with(func(g *Guest) { g.Allocate = Code(Const(I32, 65535)) }), false, policywasm.ReasonAllocate},
		{"output-none", "no result", with(func(g *Guest) { g.Appraise = Code(Const(I64, 0)) }), false, output},
		{"output-outside", "a result behind the memory", with(func(g *Guest) { g.Appraise = Code(Packed(65530, 100)) }), false, output},
		{"output-wraps", "a result that begins at the end of 32 bits", with(func(g *Guest) { g.Appraise = Code(Packed(1<<32-8, 100)) }), false, output},
		{"output-4g", "a result of 4 GiB", with(func(g *Guest) { g.Appraise = Code(Packed(0, 1<<32-1)) }), false, policywasm.ReasonOversize},
		{"output-oversize", "a result of 64 KiB and a byte", with(func(g *Guest) { g.Memory, g.Appraise = Cat(0, 2), Code(Packed(1, 65537)) }), false, policywasm.ReasonOversize},
		{"output-garbage", "a result that is no JSON", answer("yes"), false, output},
		{"output-utf8", "a result that is not UTF-8", answer(`{"decision":"allow","reasons":[{"code":"x","text":"` + "\xff" + `"}]}`), false, output},
		{"output-deep", "a result of 8000 arrays in each other", answer(strings.Repeat("[", 4000) + strings.Repeat("]", 4000)), false, output},
		{"output-twice", "denies and allows", answer(`{"decision":"deny","decision":"allow"}`), false, output},
		{"output-unknown", "a member that is not known", vector(`{"decision"`, `{"override":true,"decision"`), false, output},
		{"output-recased", "Decision for decision", vector("decision", "Decision"), false, output},
		{"output-trailing", "two results", answer(AllowAnswer + AllowAnswer), false, output},
		{"output-no-decision", "a result without a decision", answer(`{"reasons":[]}`), false, output},
		{"output-decision", "a decision that there is not", vector(`"allow"`, `"permit"`), false, output},
		{"output-true", "true for a decision", vector(`"allow"`, `true`), false, output},
		{"output-reasons", "33 reasons", answer(`{"decision":"deny","reasons":[` + strings.Repeat(`{"code":"a"},`, 32) + `{"code":"a"}]}`), false, output},
		{"output-code", "a code with a line feed, for the log", answer(`{"decision":"deny","reasons":[{"code":"a\nb"}]}`), false, output},
		{"output-vector", "a claim beyond 127", vector(`"hardware":2`, `"hardware":300`), false, output},
		{"output-vector-float", "a claim that is no integer", vector(`"hardware":2`, `"hardware":2.0`), false, output},
		{"output-vector-unknown", "a claim that there is not", vector(`"hardware"`, `"firmware"`), false, output},
		{"allow-bare", "allows, and says nothing of the claims", answer(`{"decision":"allow"}`), false, policywasm.ReasonContradiction},
		{"allow-contraindicated", "allows what it calls contraindicated", vector(`"hardware":2`, `"hardware":97`), false, policywasm.ReasonContradiction},
		{"allow-negative", "the same in negative numbers", vector(`"hardware":2`, `"hardware":-97`), false, policywasm.ReasonContradiction},
		{"obligation", "allows under a condition that the host does not know", vector(`"obligations":[]`, `"obligations":[{"id":"reboot","value":true}]`), false, policywasm.ReasonObligation},
	}
}
