package scan

// A body is a function's code and where it must be rewritten.
type body struct {
	code, end int // from behind the locals to before the last end, in bytes of the module
	groups    int // of locals
	groupsAt  int // where the first group begins
	locals    int // with parameters
	operands  int // most of them on the stack
	result    byte
	weight    int64 // of what is in no loop
	sites     []site
	scratch   bool // a local is needed
	f32, f64  bool // and one of that type
}

// A site is a place where Instrument writes something else, or more.
type site struct {
	at   uint32 // where the instruction begins
	n    uint32 // weight of a loop, label of a return: below 2^31, for a body has 128 KiB
	size uint8  // of the instruction
	kind siteKind
}

type siteKind byte

const (
	siteLoop   siteKind = iota // charge behind it
	siteReturn                 // becomes br n
	siteBulk                   // charge the length, which is on the stack, before it
	siteGrow                   // charge the pages, and note a refusal
	siteF32                    // if its result is NaN, make that the canonical one
	siteF64                    // the same
)

// mark notes the instruction from at up to here.
func (b *body) mark(r *reader, at int, kind siteKind, n int) {
	b.sites = append(b.sites, site{at: uint32(at), size: uint8(r.pos - at), kind: kind, n: uint32(n)})
}

// noResult is the block type without a result.
const noResult = 0x40

// A frame is an open block.
type frame struct {
	op     byte
	loop   int // the innermost loop, as an index of sites, or -1
	base   int // height of the operand stack around it
	result int // values that it leaves
}

// counts are what the cost of compiling depends on. rounds is the sum, over all
// loops, of how many loops each one stands in, itself included.
// floats are the instructions that can make a NaN.
type counts struct{ blocks, loops, nesting, targets, rounds, floats int }

func (m *Module) code(r *reader) {
	if len(m.Imports)+len(m.bodies) >= len(m.funcs) {
		r.fail(Invalid, "more functions have code than are declared")
		return
	}
	size := r.u32()
	if size < 0 || size > r.left() {
		r.fail(Invalid, "function of %d bytes, %d are left", uint32(size), r.left())
		return
	}
	if size > m.limits.Body {
		r.fail(Limit, "function of %d bytes; at most %d are allowed", size, m.limits.Body)
		return
	}
	sectionEnd, at := r.end, r.pos
	r.end = r.pos + size
	typ := m.types[m.funcs[len(m.Imports)+len(m.bodies)]]
	b := body{result: noResult}
	if len(typ.Results) == 1 {
		b.result = byte(typ.Results[0])
	}
	m.locals(r, &b, len(typ.Params))
	var c counts
	m.instructions(r, &b, &c)
	if r.ok() && r.left() != 0 {
		r.fail(Invalid, "%d bytes behind the end of a function", r.left())
	}
	if r.ok() {
		n := cost(b.locals, size, c)
		m.Cost += n
		if r.pos = at; n > m.limits.Cost {
			r.fail(Limit, "function that costs %d to compile; at most %d are allowed", n, m.limits.Cost)
		} else if m.Cost > m.limits.TotalCost {
			r.fail(Limit, "a module that costs more than %d to compile", m.limits.TotalCost)
		}
	}
	m.bodies = append(m.bodies, b)
	r.pos, r.end = r.end, sectionEnd
}

// cost estimates what compiling takes. The
// terms are those that measured compile times of hostile shapes follow; the one
// of rounds is for loops in each other, through all of which the compiler
// carries all locals.
func cost(locals, size int, c counts) int {
	l, blocks, loops, targets := int64(locals), int64(c.blocks), int64(c.loops), int64(c.targets)
	n := l*(blocks+targets) + int64(c.nesting)*blocks/24 + targets*targets/512 +
		blocks*blocks/40 + loops*loops/5 + l*l*int64(c.rounds)/256 + int64(c.floats)/2 + int64(size)/16
	return int(min(n, 1<<30))
}

func (m *Module) locals(r *reader, b *body, params int) {
	b.locals = params
	b.groups = r.count("groups of locals", m.limits.Locals)
	b.groupsAt = r.pos
	for i := 0; i < b.groups && r.ok(); i++ {
		n := r.u32()
		if n < 0 || n > m.limits.Locals-b.locals {
			r.fail(Limit, "more than %d locals", m.limits.Locals)
			return
		}
		b.locals += n
		if t := m.valueType(r); t == F32 || t == F64 {
			m.Floats = true
		}
	}
	b.weight = int64(b.locals)
	b.code = r.pos
}

// instructions reads a function's code up to the end of its body.
func (m *Module) instructions(r *reader, b *body, c *counts) {
	var frames []frame    // the function itself is not among them
	loop, around := -1, 0 // the innermost loop, and how many there are
	var st stack
	defer func() { b.operands = st.most }()
	for r.ok() {
		at := r.pos
		op := r.byte()
		weight := int64(1)
		switch op {
		case opUnreachable:
			st.height = st.base
		case opNop:
		case opDrop:
			st.move(-1)
		case opSelect:
			st.move(-2)
		case opBlock, opLoop, opIf:
			t := r.byte()
			if r.ok() && t != noResult && !ValueType(t).valid() {
				r.fail(Profile, "block of type %#x; blocks have no parameters and at most one result", t)
			}
			if op == opIf {
				st.move(-1)
			}
			f := frame{op: op, loop: loop, base: st.base}
			if t != noResult {
				f.result = 1
			}
			st.base = st.height
			frames = append(frames, f)
			c.blocks++
			if op == opLoop {
				c.loops++
				around++
				c.rounds += around
				if around > m.limits.Loops {
					r.fail(Limit, "loops nested deeper than %d", m.limits.Loops)
				}
				b.mark(r, at, siteLoop, 0)
				loop = len(b.sites) - 1
			}
			if c.nesting = max(c.nesting, len(frames)); c.nesting > m.limits.Nesting {
				r.fail(Limit, "blocks nested deeper than %d", m.limits.Nesting)
			}
		case opElse:
			if len(frames) == 0 || frames[len(frames)-1].op != opIf {
				r.fail(Invalid, "else without if")
				return
			}
			frames[len(frames)-1].op = opElse
			st.height = st.base
		case opEnd:
			if len(frames) == 0 {
				b.end = at
				return
			}
			if frames[len(frames)-1].op == opLoop {
				around--
			}
			f := frames[len(frames)-1]
			loop = f.loop
			st.height, st.base = st.base, f.base
			st.move(f.result)
			frames = frames[:len(frames)-1]
		case opBr, opBrIf:
			r.index("label", len(frames)+1)
			c.blocks++
			if op == opBrIf {
				st.move(-1)
			} else {
				st.height = st.base
			}
		case opBrTable:
			n := r.count("targets", m.limits.Targets-c.targets)
			if c.targets += n + 1; r.ok() && c.targets > m.limits.Targets {
				r.fail(Limit, "%d targets with their defaults; at most %d are allowed", c.targets, m.limits.Targets)
			}
			for i := 0; i <= n && r.ok(); i++ { // and the default
				r.index("label", len(frames)+1)
			}
			st.height = st.base
		case opReturn:
			b.mark(r, at, siteReturn, len(frames))
			st.height = st.base
		case opCall:
			weight = weightCall
			f := r.index("function", len(m.funcs))
			if f < len(m.Imports) {
				weight = weightHost
			}
			if r.ok() {
				st.call(m.types[m.funcs[f]])
			}
		case opCallIndirect:
			weight = weightIndirect
			typ := r.index("type", len(m.types))
			if !m.table {
				r.fail(Invalid, "call_indirect without a table")
			}
			r.index("table", 1)
			st.move(-1)
			if r.ok() {
				st.call(m.types[typ])
			}
		case opLocalGet, opLocalSet, opLocalTee:
			r.index("local", b.locals)
			st.variable(op == opLocalGet, op == opLocalSet)
		case opGlobalGet, opGlobalSet:
			r.index("global", m.globals)
			st.variable(op == opGlobalGet, op == opGlobalSet)
		case opMemorySize, opMemoryGrow:
			r.index("memory", 1)
			if op == opMemorySize {
				st.move(1)
			}
			if op == opMemoryGrow {
				weight = weightGrow
				b.scratch = true
				b.mark(r, at, siteGrow, 0)
			}
		case opI32Const:
			r.skipInt(32)
			st.move(1)
		case opI64Const:
			r.skipInt(64)
			st.move(1)
		case opF32Const:
			r.bytes(4)
			st.move(1)
			m.Floats = true
		case opF64Const:
			r.bytes(8)
			st.move(1)
			m.Floats = true
		case opPrefix:
			weight = m.prefixed(r, b, at)
			if weight == weightBulk {
				st.move(-3)
			}
		default:
			weight = m.plain(r, op)
			st.move(effect(op))
			switch givesNaN(op) {
			case F32:
				b.f32 = true
				b.mark(r, at, siteF32, 0)
				c.floats++
			case F64:
				b.f64 = true
				b.mark(r, at, siteF64, 0)
				c.floats++
			}
		}
		if loop >= 0 {
			b.sites[loop].n += uint32(weight)
		} else {
			b.weight += weight
		}
	}
}

// plain reads instructions of one byte, and loads and stores.
func (m *Module) plain(r *reader, op byte) (weight int64) {
	switch {
	case op >= opLoadFirst && op <= opStoreLast:
		if align := r.u32(); r.ok() && (align < 0 || align > 3) {
			r.fail(Profile, "alignment of 2^%d, or another memory", uint32(align))
		}
		r.uint(32)
		if op == 0x2a || op == 0x2b || op == 0x38 || op == 0x39 {
			m.Floats = true
		}
		return weightMemory
	case op >= opNumericFirst && op <= opNumericLast:
		switch {
		case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82: // div and rem
			weight = weightDivide
		case op >= 0x8b && op <= 0xa6: // f32 and f64
			weight, m.Floats = weightFloat, true
		case op >= 0x5b && op <= 0x66, op >= 0xa8 && op <= 0xab, op >= 0xae && op <= 0xbf:
			weight, m.Floats = weightFloat, true
		default:
			weight = 1
		}
		return weight
	}
	if r.ok() {
		r.pos--
		r.fail(Profile, "opcode %#x", op)
	}
	return 0
}

// prefixed reads instructions that begin with 0xfc.
func (m *Module) prefixed(r *reader, b *body, at int) (weight int64) {
	switch op := r.uint(32); {
	case !r.ok():
	case op <= 7: // saturating truncation
		m.Floats = true
		return weightFloat
	case op == 8: // memory.init
		m.named = true
		r.index("data segment", max(m.data, 0))
		r.index("memory", 1)
	case op == 9: // data.drop
		m.named = true
		r.index("data segment", max(m.data, 0))
		return 1
	case op == 10: // memory.copy
		r.index("memory", 1)
		r.index("memory", 1)
	case op == 11: // memory.fill
		r.index("memory", 1)
	default:
		r.pos = at
		r.fail(Profile, "opcode 0xfc %d", op)
	}
	b.scratch = true
	b.mark(r, at, siteBulk, 0)
	return weightBulk
}
