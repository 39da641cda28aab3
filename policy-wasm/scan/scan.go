// Package scan reads WebAssembly modules of strangers before any engine does,
// and rewrites them so that they count what they use.
//
// Call [Scan], and hand the engine what [Module.Instrument] returns. An engine
// that gets a stranger's bytes can be killed by 17 of them: it makes room for
// as many types as the module announces. Scan bounds every count by the bytes
// that are left, admits one small profile of WebAssembly, and bounds what
// compiling will cost. It does not check the types of operands: engines do that
// when they compile, in linear time.
//
// Instrumenting adds three globals. A module could name them, where it names
// globals that it does not have; so Scan checks each index against the module's
// own counts. What is invalid stays invalid.
package scan

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
)

// Metadata is the name of the one custom section that is read.
const Metadata = "tmcp.policy"

// reserved begins the names of what instrumenting exports.
const reserved = "__tmcp_"

// A ValueType is the type of a number.
type ValueType byte

// The value types of the profile.
const (
	I32 ValueType = 0x7f
	I64 ValueType = 0x7e
	F32 ValueType = 0x7d
	F64 ValueType = 0x7c
)

func (t ValueType) valid() bool { return t >= F64 && t <= I32 }

// A FuncType is the type of a function; it has at most one result.
type FuncType struct{ Params, Results []ValueType }

// Equal reports whether both are the same type.
func (t FuncType) Equal(u FuncType) bool {
	return slices.Equal(t.Params, u.Params) && slices.Equal(t.Results, u.Results)
}

// A Kind says what is exported.
type Kind byte

// Kinds of exports.
const (
	KindFunc   Kind = 0
	KindTable  Kind = 1
	KindMemory Kind = 2
	KindGlobal Kind = 3
)

// An exported thing.
type exported struct {
	kind  Kind
	index int
}

// A Module was found to be acceptable.
type Module struct {
	Digest   [32]byte // SHA-256 of the whole file
	Metadata []byte   // of the custom section of that name; nil: none
	Imports  []Func   // those it uses
	Floats   bool     // it computes with floating-point numbers
	Pages    uint32   // of memory at the start
	Cost     int      // of compiling, in the units of Limits

	file     []byte
	limits   Limits
	sections [13]section // by id; custom ones are left out
	types    []FuncType
	funcs    []int // type of each function, imported ones first
	globals  int
	table    bool
	imported bool   // the memory is
	max      uint32 // pages of memory
	exports  map[string]exported
	data     int  // count of the data count section, or -1
	named    bool // code names data segments
	start    int  // start function, or -1
	bodies   []body
}

// A section's payload; what it holds begins behind its count.
type section struct {
	present        bool
	start, end     int
	items, content int // number of items; where the first one begins
}

const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

// order is where sections stand: the data count comes before the code.
var order = [13]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secGlobal: 6, secExport: 7, secStart: 8, secElement: 9, secDataCount: 10, secCode: 11, secData: 12}

// Scan reads a module and refuses what is outside the profile or the limits.
// Errors are of type [*Error]. It takes time and memory linear in the module's
// length. The result keeps b.
func Scan(b []byte, l Limits) (*Module, error) {
	m := &Module{file: b, limits: l, exports: map[string]exported{}, data: -1, start: -1}
	r := &reader{b: b, end: len(b)}
	if m.scan(r); r.err != nil {
		return nil, r.err
	}
	m.Digest = sha256.Sum256(b)
	return m, nil
}

func (m *Module) scan(r *reader) {
	if r.left() > m.limits.Module {
		r.fail(Limit, "%d bytes; at most %d are allowed", r.left(), m.limits.Module)
		return
	}
	if !bytes.Equal(r.bytes(4), []byte("\x00asm")) {
		r.fail(Invalid, "no WebAssembly module: it does not begin with 00 61 73 6d")
		return
	}
	if v := r.uint32le(); v != 1 {
		r.fail(Invalid, "version %#x; core modules have 1, components are not policies", v)
		return
	}
	last, end := 0, r.end
	for r.ok() && r.pos < end {
		at := r.pos
		id := int(r.byte())
		size := r.u32()
		if size < 0 || size > r.left() {
			r.fail(Invalid, "section %d of %d bytes, %d are left", id, uint32(size), r.left())
			return
		}
		if id > secDataCount {
			r.fail(Profile, "section %d", id)
			return
		}
		if id != secCustom {
			if order[id] <= last {
				r.pos = at
				r.fail(Invalid, "section %d stands twice, or not in its place", id)
				return
			}
			last = order[id]
		}
		r.end = r.pos + size
		m.sections[id] = section{present: true, start: r.pos, end: r.end}
		m.section(r, id)
		if r.ok() && r.left() != 0 {
			r.fail(Invalid, "section %d has %d bytes too many", id, r.left())
		}
		r.end = end
	}
	m.finish(r)
}

// finish checks what sections owe each other.
func (m *Module) finish(r *reader) {
	switch {
	case !r.ok():
	case len(m.bodies) != len(m.funcs)-len(m.Imports):
		r.fail(Invalid, "%d functions are declared, %d have code", len(m.funcs)-len(m.Imports), len(m.bodies))
	case m.data >= 0 && m.data != m.sections[secData].items:
		r.fail(Invalid, "%d data segments are announced, there are %d", m.data, m.sections[secData].items)
	case m.limits.ImportMemory != nil && (!m.imported || m.sections[secMemory].items != 0):
		r.fail(Profile, "such a policy imports its one memory as %q %q", m.limits.ImportMemory.Module, m.limits.ImportMemory.Name)
	case m.limits.ImportMemory == nil && m.sections[secMemory].items != 1:
		r.fail(Profile, "a policy has exactly one memory of its own")
	}
}

func (m *Module) section(r *reader, id int) {
	s := &m.sections[id]
	items := func(what string, limit int, each func()) {
		s.items = r.count(what, limit)
		s.content = r.pos
		for i := 0; i < s.items && r.ok(); i++ {
			each()
		}
	}
	switch id {
	case secCustom:
		if name := r.name(); name == Metadata {
			if m.Metadata != nil {
				r.fail(Invalid, "two sections %q", Metadata)
			} else if r.left() > maxMetadata {
				r.fail(Limit, "metadata of %d bytes; at most %d are allowed", r.left(), maxMetadata)
			}
			m.Metadata = append([]byte{}, r.bytes(r.left())...)
		}
		r.pos = r.end
	case secType:
		items("types", m.limits.Types, func() { m.types = append(m.types, m.funcType(r)) })
	case secImport:
		items("imports", m.limits.Imports, func() { m.importOne(r) })
	case secFunction:
		items("functions", m.limits.Functions, func() { m.funcs = append(m.funcs, r.index("type", len(m.types))) })
	case secTable:
		items("tables", 1, func() { m.tableOne(r) })
	case secMemory:
		items("memories", 1, func() { m.memory(r) })
	case secGlobal:
		items("globals", m.limits.Globals, func() { m.global(r) })
	case secExport:
		items("exports", m.limits.Exports, func() { m.export(r) })
	case secStart:
		m.start = r.index("function", len(m.funcs))
		if r.ok() && !m.types[m.funcs[m.start]].Equal(FuncType{}) {
			r.fail(Signature, "the start function has parameters or a result")
		}
	case secElement:
		left := m.limits.Elements
		items("element segments", left, func() { m.element(r, &left) })
	case secDataCount:
		m.data = r.u32()
		if m.data < 0 || m.data > m.limits.Data {
			r.fail(Limit, "%d data segments; at most %d are allowed", uint32(m.data), m.limits.Data)
		}
	case secCode:
		if n := len(m.funcs) - len(m.Imports); r.ok() && n > 0 {
			m.bodies = make([]body, 0, min(n, r.left()))
		}
		items("function bodies", m.limits.Functions, func() { m.code(r) })
	case secData:
		items("data segments", m.limits.Data, func() { m.dataOne(r) })
	}
}

func (m *Module) valueType(r *reader) ValueType {
	t := ValueType(r.byte())
	if r.ok() && !t.valid() {
		r.fail(Profile, "value type %#x; policies have i32, i64, f32 and f64", byte(t))
	}
	return t
}

func (m *Module) funcType(r *reader) (t FuncType) {
	if c := r.byte(); r.ok() && c != 0x60 {
		r.fail(Profile, "type of form %#x; policies have function types only", c)
	}
	for range r.count("parameters", m.limits.Params) {
		t.Params = append(t.Params, m.valueType(r))
	}
	n := r.count("results", max(1, r.left()))
	if n > 1 {
		r.fail(Profile, "%d results; policies have at most one", n)
		return t
	}
	for range n {
		t.Results = append(t.Results, m.valueType(r))
	}
	return t
}

func (m *Module) importOne(r *reader) {
	at := r.pos
	f := Func{Module: r.name(), Name: r.name()}
	kind := Kind(r.byte())
	if own := m.limits.ImportMemory; r.ok() && kind == KindMemory && own != nil && !m.imported && *own == (ImportedMemory{f.Module, f.Name}) {
		m.imported = true
		m.memory(r)
		return
	}
	if r.ok() && kind != KindFunc {
		r.fail(Import, "%q %q is no function; policies import functions only", f.Module, f.Name)
	}
	typ := r.index("type", len(m.types))
	if !r.ok() {
		return
	}
	f.Type = m.types[typ]
	i := slices.IndexFunc(m.limits.Allow, func(a Func) bool { return a.Module == f.Module && a.Name == f.Name })
	switch {
	case i < 0:
		r.pos = at
		r.fail(Import, "%q %q is not offered", f.Module, f.Name)
	case !m.limits.Allow[i].Type.Equal(f.Type):
		r.pos = at
		r.fail(Signature, "import %q %q has another type", f.Module, f.Name)
	}
	m.Imports = append(m.Imports, f)
	m.funcs = append(m.funcs, typ)
}

// bounds reads the limits of a table or memory. Without a maximum it is limit.
func (m *Module) bounds(r *reader, limit uint32) (least, most uint32) {
	flag := r.byte()
	if r.ok() && flag > 1 {
		r.fail(Profile, "limits of kind %#x; policies have no shared and no 64-bit memory", flag)
	}
	least, most = uint32(r.uint(32)), limit
	if flag == 1 {
		most = uint32(r.uint(32))
	}
	if r.ok() && least > most {
		r.fail(Invalid, "at least %d, at most %d", least, most)
	}
	return least, most
}

func (m *Module) tableOne(r *reader) {
	if c := r.byte(); r.ok() && c != 0x70 {
		r.fail(Profile, "table of %#x; policies have one of functions", c)
	}
	least, _ := m.bounds(r, 1<<32-1)
	if r.ok() && least > m.limits.Table {
		r.fail(Limit, "table of %d elements; at most %d are allowed", least, m.limits.Table)
	}
	m.table = true
}

func (m *Module) memory(r *reader) {
	least, most := m.bounds(r, maxPages)
	if r.ok() && most > maxPages {
		r.fail(Invalid, "memory of %d pages", most)
	}
	if r.ok() && least > m.limits.Pages {
		r.fail(Memory, "memory of %d pages; at most %d are allowed", least, m.limits.Pages)
	}
	m.Pages, m.max = least, min(most, m.limits.Pages)
}

func (m *Module) hasMemory() bool { return m.imported || m.sections[secMemory].items == 1 }

// MaxPages is how many pages the memory has at most: what the module says, or
// the limits.
func (m *Module) MaxPages() uint32 { return m.max }

func (m *Module) global(r *reader) {
	t := m.valueType(r)
	if mut := r.byte(); r.ok() && mut > 1 {
		r.fail(Invalid, "global of mutability %#x", mut)
	}
	m.constant(r, t)
	m.globals++
}

// constant reads a constant expression: one const instruction.
func (m *Module) constant(r *reader, t ValueType) {
	op := r.byte()
	if want := byte(0x41 + I32 - t); r.ok() && op != want { // i32, i64, f32, f64 in turn
		r.fail(Profile, "constant expression with opcode %#x; %#x is expected", op, want)
		return
	}
	switch t {
	case I32:
		r.skipInt(32)
	case I64:
		r.skipInt(64)
	case F32:
		r.bytes(4)
	case F64:
		r.bytes(8)
	}
	if end := r.byte(); r.ok() && end != 0x0b {
		r.fail(Profile, "constant expression of more than one instruction")
	}
}

func (m *Module) export(r *reader) {
	at := r.pos
	name := r.name()
	e := exported{kind: Kind(r.byte())}
	switch {
	case !r.ok():
		return
	case e.kind == KindFunc:
		if e.index = r.index("function", len(m.funcs)); e.index < len(m.Imports) {
			r.fail(Profile, "export %q is an imported function", name)
		}
	case e.kind == KindTable && m.table, e.kind == KindMemory && m.hasMemory():
		e.index = r.index("table or memory", 1)
	case e.kind == KindGlobal:
		e.index = r.index("global", m.globals)
	default:
		r.fail(Invalid, "export %q of kind %#x, which is not there", name, byte(e.kind))
	}
	if !r.ok() {
		return
	}
	if _, twice := m.exports[name]; twice {
		r.pos = at
		r.fail(Export, "two exports %q", name)
	} else if strings.HasPrefix(name, reserved) {
		r.pos = at
		r.fail(Export, "export %q: names that begin with %s are the host's", name, reserved)
	}
	m.exports[name] = e
}

func (m *Module) element(r *reader, left *int) {
	if flag := r.u32(); r.ok() && flag != 0 {
		r.fail(Profile, "element segment of kind %d; policies have active ones of functions", flag)
	} else if r.ok() && !m.table {
		r.fail(Invalid, "element segment without a table")
	}
	m.constant(r, I32)
	n := r.count("elements", *left)
	*left -= n
	for i := 0; i < n && r.ok(); i++ {
		if f := r.index("function", len(m.funcs)); r.ok() && f < len(m.Imports) {
			r.fail(Profile, "the table holds an imported function")
		}
	}
}

func (m *Module) dataOne(r *reader) {
	switch flag := r.u32(); {
	case !r.ok():
	case flag == 0 && !m.hasMemory():
		r.fail(Invalid, "data segment without a memory")
	case flag == 0:
		m.constant(r, I32)
	case flag != 1:
		r.fail(Profile, "data segment of kind %d", flag)
	}
	r.bytes(r.count("bytes of data", r.left()))
}

// Func returns the type of an exported function.
func (m *Module) Func(name string) (t FuncType, ok bool) {
	e, ok := m.exports[name]
	if !ok || e.kind != KindFunc {
		return t, false
	}
	return m.types[m.funcs[e.index]], true
}

// Exports reports whether name is exported as that kind.
func (m *Module) Exports(name string, kind Kind) bool {
	e, ok := m.exports[name]
	return ok && e.kind == kind
}

// ExportsFunc reports whether b looks like a module that exports a function of
// that name. It tells kinds of modules apart, and checks nothing else: [Scan]
// does.
func ExportsFunc(b []byte, name string) bool {
	r := &reader{b: b, end: len(b)}
	for r.bytes(8); r.left() > 0; {
		id, size := r.byte(), r.u32()
		if !r.ok() || size < 0 || size > r.left() {
			return false
		}
		if id != secExport {
			r.pos += size
			continue
		}
		r.end = r.pos + size
		for range r.count("exports", size) {
			got, kind := r.name(), Kind(r.byte())
			if r.u32(); r.ok() && kind == KindFunc && got == name {
				return true
			}
		}
		return false
	}
	return false
}

// Starts reports whether the module has a start function.
func (m *Module) Starts() bool { return m.start >= 0 }
