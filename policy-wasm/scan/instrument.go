package scan

import "slices"

// Names of what [Module.Instrument] exports. All globals are mutable; fuel is
// an i64, the others are i32.
const (
	FuelGlobal  = reserved + "fuel"  // left; the host sets it before each call. Negative: it ran out
	DepthGlobal = reserved + "depth" // calls that may still be nested. Negative: too deep
	GrowGlobal  = reserved + "grow"  // 1: memory.grow was refused
	StartFunc   = reserved + "start" // the start function, for the host to call
	CallFunc    = reserved + "call"  // (number, a, b) calls one of the functions that Instrument was given, and has its result as an i64
)

// Instrument returns the module with its code counting fuel and the depth of
// calls, and trapping when either ends. Each NaN that an instruction makes becomes
// the canonical one: processors differ in its bits, and code can look at them. Custom sections are left out, the start
// function is exported in place of being started, and the memory's maximum is
// that of the limits.
//
// Fuel is charged on entering a function and on each round of a loop, for all
// instructions that may run before the next charge: an upper bound, the same in
// every engine.
//
// With names of exported functions, or [StartFunc], there is [CallFunc] too: an
// engine makes a stack for each function that is called from outside, so it is
// cheaper to call one. Those functions have at most two parameters, all i32, and
// as result nothing, an i32 or an i64. The number of others, and of what is not
// there, traps.
func (m *Module) Instrument(names ...string) []byte {
	out := append([]byte{}, "\x00asm\x01\x00\x00\x00"...)
	var gate []byte // the code of CallFunc
	if len(names) > 0 && m.sections[secCode].present {
		gate = m.gate(names)
		out = appendSection(out, secType, append(m.vector(secType, 1), 0x60, 3, byte(I32), byte(I32), byte(I32), 1, byte(I64)))
		out = m.copySection(out, secImport)
		out = appendSection(out, secFunction, appendUint(m.vector(secFunction, 1), uint64(len(m.types))))
	} else {
		for _, id := range []int{secType, secImport, secFunction} {
			out = m.copySection(out, id)
		}
	}
	out = m.copySection(out, secTable)
	if !m.imported { // who gives the memory bounds it
		mem := append(appendUint([]byte{1, 1}, uint64(m.Pages)), appendUint(nil, uint64(m.max))...)
		out = appendSection(out, secMemory, mem)
	}
	out = appendSection(out, secGlobal, m.newGlobals())
	out = appendSection(out, secExport, m.newExports(gate != nil))
	out = m.copySection(out, secElement)
	data := m.newData()
	if data == nil {
		out = m.copySection(out, secDataCount)
	}
	if m.sections[secCode].present {
		out = appendSection(out, secCode, m.newCode(gate))
	}
	if data == nil {
		return m.copySection(out, secData)
	}
	return appendSection(out, secData, data)
}

// gap is how many zeros stand between data segments at most that become one.
const gap = 64

// newData is the data section with fewer segments. Engines take each by itself for
// each instance, and compilers write one for each text. Nil: it is to stay, since
// code names segments, or they overlap, are not in order or do not fit, or the
// memory may be anything before.
func (m *Module) newData() []byte {
	s := m.sections[secData]
	if !s.present || m.named || m.imported {
		return nil
	}
	var out, merged []byte
	n, at, end := 0, uint64(0), uint64(0) // merged is for at to end
	flush := func() {
		if len(merged) > 0 {
			out = appendInt(append(out, 0, opI32Const), int64(int32(at)))
			out = append(appendUint(append(out, opEnd), uint64(len(merged))), merged...)
			n++
		}
		merged = merged[:0]
	}
	r := &reader{b: m.file, pos: s.content, end: s.end}
	for range s.items {
		if r.u32() != 0 { // passive
			return nil
		}
		r.byte() // i32.const
		to := uint64(r.i32())
		r.byte() // end
		b := r.bytes(r.u32())
		if !r.ok() || to < end || to+uint64(len(b)) > uint64(m.Pages)<<16 {
			return nil
		}
		if to-end > gap || len(merged) == 0 {
			flush()
			at, end = to, to
		}
		merged = append(append(merged, make([]byte, to-end)...), b...)
		end = to + uint64(len(b))
	}
	flush()
	return append(appendUint(nil, uint64(n)), out...)
}

// Stripped returns the module as it is, without custom sections. An engine that
// validates it before the instrumented one does is a second guard against what
// this package may have overlooked.
func (m *Module) Stripped() []byte {
	out := append([]byte{}, "\x00asm\x01\x00\x00\x00"...)
	for _, id := range []int{secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart, secElement, secDataCount, secCode, secData} {
		out = m.copySection(out, id)
	}
	return out
}

func (m *Module) copySection(out []byte, id int) []byte {
	s := m.sections[id]
	if !s.present {
		return out
	}
	return appendSection(out, byte(id), m.file[s.start:s.end])
}

func appendSection(out []byte, id byte, payload []byte) []byte {
	return append(appendUint(append(out, id), uint64(len(payload))), payload...)
}

// vector is a section's items with more behind them.
func (m *Module) vector(id, more int) []byte {
	s := m.sections[id]
	return append(appendUint(nil, uint64(s.items+more)), m.file[s.content:s.end]...)
}

func (m *Module) newGlobals() []byte {
	b := m.vector(secGlobal, 3)
	b = append(b, byte(I64), 1, opI64Const, 0, opEnd)
	b = append(b, byte(I32), 1, opI32Const)
	b = append(appendInt(b, int64(m.limits.Depth)), opEnd)
	return append(b, byte(I32), 1, opI32Const, 0, opEnd)
}

// Indexes of the new globals.
func (m *Module) fuel() uint64  { return uint64(m.globals) }
func (m *Module) depth() uint64 { return uint64(m.globals) + 1 }
func (m *Module) grown() uint64 { return uint64(m.globals) + 2 }

func (m *Module) newExports(gate bool) []byte {
	more := 3
	if gate {
		more++
	}
	if m.Starts() {
		more++
	}
	b := m.vector(secExport, more)
	add := func(name string, kind Kind, index uint64) {
		b = append(appendUint(b, uint64(len(name))), name...)
		b = appendUint(append(b, byte(kind)), index)
	}
	add(FuelGlobal, KindGlobal, m.fuel())
	add(DepthGlobal, KindGlobal, m.depth())
	add(GrowGlobal, KindGlobal, m.grown())
	if m.Starts() {
		add(StartFunc, KindFunc, uint64(m.start))
	}
	if gate {
		add(CallFunc, KindFunc, uint64(len(m.funcs)))
	}
	return b
}

// gate is the body of [CallFunc]. It costs no fuel and no depth.
func (m *Module) gate(names []string) []byte {
	b := []byte{0} // no locals
	for i, name := range names {
		index := m.start
		if name != StartFunc {
			e, ok := m.exports[name]
			if index = e.index; !ok || e.kind != KindFunc {
				continue
			}
		}
		if index < 0 {
			continue
		}
		t := m.types[m.funcs[index]]
		if len(t.Params) > 2 || slices.ContainsFunc(t.Params, func(p ValueType) bool { return p != I32 }) {
			continue
		}
		b = append(b, opLocalGet, 0, opI32Const)
		b = append(appendInt(b, int64(i)), opI32Eq, opIf, noResult)
		for k := range t.Params {
			b = append(b, opLocalGet, byte(k+1))
		}
		b = appendUint(append(b, opCall), uint64(index))
		switch {
		case len(t.Results) == 0:
			b = append(b, opI64Const, 0)
		case t.Results[0] == I32:
			b = append(b, opI64ExtendU)
		case t.Results[0] != I64: // traps, when it is asked for
			b = append(b, opUnreachable)
		}
		b = append(b, opReturn, opEnd)
	}
	return append(b, opUnreachable, opEnd)
}

func (m *Module) newCode(gate []byte) []byte {
	n := len(m.bodies)
	if gate != nil {
		n++
	}
	out := appendUint(nil, uint64(n))
	var buf []byte
	for i := range m.bodies {
		buf = m.newBody(buf[:0], &m.bodies[i])
		out = append(appendUint(out, uint64(len(buf))), buf...)
	}
	if gate != nil {
		out = append(appendUint(out, uint64(len(gate))), gate...)
	}
	return out
}

// newBody writes
//
//	locals [scratch]
//	charge, descend
//	block result
//	  the code; return as br to this block
//	end
//	ascend
//	end
//
// The block stands where the function's own label stood, so that labels keep
// their numbers.
func (m *Module) newBody(out []byte, b *body) []byte {
	var more []byte
	for t, needed := range [3]bool{b.scratch, b.f32, b.f64} {
		if needed {
			more = append(more, 1, byte([3]ValueType{I32, F32, F64}[t]))
		}
	}
	out = append(appendUint(out, uint64(b.groups+len(more)/2)), m.file[b.groupsAt:b.code]...)
	out = append(out, more...)
	out = m.charge(out, b.weight)
	out = m.step(out, b, opI32Sub)
	out = global(out, opGlobalGet, m.depth())
	out = append(out, opI32Const, 0, opI32LtS)
	out = trapIf(out)
	out = append(out, opBlock, b.result)
	at := b.code
	for _, s := range b.sites {
		out = append(out, m.file[at:s.at]...)
		at = int(s.at) + int(s.size)
		ins := m.file[s.at:at]
		switch s.kind {
		case siteLoop:
			out = m.charge(append(out, ins...), int64(s.n))
		case siteReturn:
			out = appendUint(append(out, opBr), uint64(s.n))
		case siteBulk:
			out = m.chargeTop(out, b, opI64ShrU, bulkShift)
			out = append(out, ins...)
		case siteGrow:
			out = m.chargeTop(out, b, opI64Shl, growShift)
			out = m.noteRefusal(append(out, ins...), b)
		case siteF32:
			out = b.canonical(append(out, ins...), b.floatScratch(F32), opF32Const, nan32, opF32Eq)
		case siteF64:
			out = b.canonical(append(out, ins...), b.floatScratch(F64), opF64Const, nan64, opF64Eq)
		}
	}
	out = append(out, m.file[at:b.end]...)
	out = append(out, opEnd)
	out = m.step(out, b, opI32Add)
	return append(out, opEnd)
}

func global(out []byte, op byte, index uint64) []byte { return appendUint(append(out, op), index) }

func trapIf(out []byte) []byte { return append(out, opIf, noResult, opUnreachable, opEnd) }

// step adds what a call of b counts to the depth left, or takes it away.
func (m *Module) step(out []byte, b *body, op byte) []byte {
	out = global(out, opGlobalGet, m.depth())
	out = appendInt(append(out, opI32Const), b.calls())
	return global(append(out, op), opGlobalSet, m.depth())
}

// charge takes weight units of fuel.
func (m *Module) charge(out []byte, weight int64) []byte {
	out = global(out, opGlobalGet, m.fuel())
	out = appendInt(append(out, opI64Const), weight)
	return m.settle(out)
}

// settle has fuel and charge on the stack.
func (m *Module) settle(out []byte) []byte {
	out = global(append(out, opI64Sub), opGlobalSet, m.fuel())
	out = global(out, opGlobalGet, m.fuel())
	return trapIf(append(out, opI64Const, 0, opI64LtS))
}

// chargeTop charges for the i32 on top of the stack, shifted, and leaves it
// there.
func (m *Module) chargeTop(out []byte, b *body, shift byte, by int64) []byte {
	scratch := uint64(b.locals)
	out = appendUint(append(out, opLocalSet), scratch)
	out = global(out, opGlobalGet, m.fuel())
	out = appendUint(append(out, opLocalGet), scratch)
	out = append(out, opI64ExtendU, opI64Const)
	out = m.settle(append(appendInt(out, by), shift))
	return appendUint(append(out, opLocalGet), scratch)
}

// noteRefusal remembers that memory.grow, whose result is on the stack, failed.
func (m *Module) noteRefusal(out []byte, b *body) []byte {
	out = appendUint(append(out, opLocalTee), uint64(b.locals))
	out = append(out, opI32Const, 0x7f, opI32Eq, opIf, noResult, opI32Const, 1)
	out = append(global(out, opGlobalSet, m.grown()), opEnd)
	return appendUint(append(out, opLocalGet), uint64(b.locals))
}

// The canonical NaN, as WebAssembly calls it: positive, and of the payload the
// highest bit alone.
const (
	nan32 = "\x00\x00\xc0\x7f"
	nan64 = "\x00\x00\x00\x00\x00\x00\xf8\x7f"
)

// floatScratch is the local for values of that type.
func (b *body) floatScratch(t ValueType) uint64 {
	n := uint64(b.locals)
	if b.scratch {
		n++
	}
	if t == F64 && b.f32 {
		n++
	}
	return n
}

// canonical leaves the number on the stack as it is, and any NaN as the one that
// is the same on all machines.
func (b *body) canonical(out []byte, scratch uint64, constant byte, nan string, eq byte) []byte {
	out = appendUint(append(out, opLocalTee), scratch)
	out = append(append(out, constant), nan...)
	for range 2 {
		out = appendUint(append(out, opLocalGet), scratch)
	}
	return append(out, eq, opSelect)
}
