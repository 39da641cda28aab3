// Package corpus builds small WebAssembly modules byte by byte: policies that
// are as they should be ([Guest]), and hostile ones with one fault each
// ([Cases]), with the reason that a host must give.
//
// It is for tests and for the conformance suite, which holds other hosts
// against it.
package corpus

import (
	"encoding/binary"
	"math"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// U is n as an unsigned LEB128 number.
func U(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// I is n as a signed LEB128 number.
func I(n int64) (b []byte) {
	for {
		c := byte(n & 0x7f)
		if n >>= 7; n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Cat joins bytes (byte, int for one byte, string, []byte).
func Cat(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case byte:
			b = append(b, p)
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			panic("corpus: Cat joins byte, int, string and []byte") // a mistake in a case
		}
	}
	return b
}

// Vec is a vector of items.
func Vec(items ...[]byte) []byte {
	b := U(uint64(len(items)))
	for _, i := range items {
		b = append(b, i...)
	}
	return b
}

// Sized is b behind its length.
func Sized(b []byte) []byte { return append(U(uint64(len(b))), b...) }

// Section is a section with that id.
func Section(id byte, payload []byte) []byte { return append([]byte{id}, Sized(payload)...) }

// Custom is a custom section.
func Custom(name string, content []byte) []byte {
	return Section(0, append(Sized([]byte(name)), content...))
}

// Raw is a module of these sections.
func Raw(sections ...[]byte) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		b = append(b, s...)
	}
	return b
}

// Value types, and the empty block type.
const (
	I32, I64, F32, F64, Void = 0x7f, 0x7e, 0x7d, 0x7c, 0x40
)

// Type is a function type.
func Type(params, results []byte) []byte { return Cat(0x60, Sized(params), Sized(results)) }

// Export is one export.
func Export(name string, kind byte, index int) []byte {
	return Cat(Sized([]byte(name)), []byte{kind}, U(uint64(index)))
}

// Code is a function without locals; the last end is added.
func Code(ins ...any) []byte { return Locals(nil, ins...) }

// Locals is a function with groups of locals, each a count and a type.
func Locals(groups [][]byte, ins ...any) []byte { return Cat(Vec(groups...), Cat(ins...), 0x0b) }

// Group is n locals of type t.
func Group(n uint64, t byte) []byte { return append(U(n), t) }

// Const is an i32.const or i64.const.
func Const(t byte, n int64) []byte { return append([]byte{0x41 + I32 - t}, I(n)...) }

// Loop repeats the instructions without end.
func Loop(ins ...any) []byte { return Cat(0x03, Void, Cat(ins...), 0x0c, 0, 0x0b) }

// Types of a [Guest]; more come behind them.
const (
	typeVoid = iota // () -> ()
	typeVersion
	typeAllocate
	typeEvaluate
)

// Functions of a [Guest]; more come behind them.
const (
	funcVersion = iota
	funcAllocate
	funcAppraise
	funcAuthorize
	funcMore
)

// Places in the memory of a [Guest].
const (
	answerAt = 16
	inputAt  = 8192
)

// A Guest is a policy. Its zero value is a good one that always allows.
type Guest struct {
	Metadata  *policywasm.Metadata
	Answer    string   // what both entries return; default: AllowAnswer
	Memory    []byte   // limits; default: one page and no more than 16
	Table     []byte   // table with its type, if any
	Elements  [][]byte // element segments
	Types     [][]byte // more of them
	Imports   [][]byte // they move all functions; see Shift
	Globals   [][]byte
	Exports   [][]byte // more of them
	Start     []byte   // index of the start function
	Version   []byte   // function bodies that stand in for the good ones
	Allocate  []byte
	Appraise  []byte
	Authorize []byte
	More      [][]byte // more functions, of type () -> () unless MoreTypes says
	MoreTypes []byte
	Data      [][]byte
	DataCount []byte
	Without   string // name of an export to leave out
	Retype    map[int]byte
	Custom    []byte // sections in front
}

// AllowAnswer is a result that allows, with a whole vector.
const AllowAnswer = `{"decision":"allow","obligations":[],"reasons":[{"code":"ok","text":"as expected"}],"vector":{` +
	`"configuration":2,"executables":2,"file-system":0,"hardware":2,"instance-identity":2,"runtime-opaque":2,"sourced-data":0,"storage-opaque":0}}`

// DenyAnswer is a result that denies.
const DenyAnswer = `{"decision":"deny","reasons":[{"claim":"/debug","code":"debug","text":"debugging is possible"}]}`

// AbstainAnswer is a result that leaves the decision to others.
const AbstainAnswer = `{"decision":"abstain"}`

// Meta is the metadata of a good guest.
func Meta() *policywasm.Metadata {
	return &policywasm.Metadata{
		ABI: 1, Name: "guest", Version: "1.0.0", Author: "corpus", Licence: "Apache-2.0",
		Entries:  []policywasm.Entry{policywasm.Appraise, policywasm.Authorize},
		Encoding: policywasm.JSON, Inputs: []string{"/debug"},
	}
}

// Packed is the constant that points at n bytes at the answer's place.
func Packed(at, n int) []byte { return Const(I64, int64(at)<<32|int64(n)) }

// Module encodes the guest.
func (g Guest) Module() []byte {
	or := func(b []byte, def ...any) []byte {
		if b != nil {
			return b
		}
		return Cat(def...)
	}
	meta := g.Metadata
	if meta == nil {
		meta = Meta()
	}
	answer := g.Answer
	if answer == "" {
		answer = AllowAnswer
	}
	evaluate := Code(Packed(answerAt, len(answer)))
	bodies := [][]byte{
		or(g.Version, Code(Const(I32, 1))), or(g.Allocate, Code(Const(I32, inputAt))),
		or(g.Appraise, evaluate), or(g.Authorize, evaluate),
	}
	funcs := [][]byte{{typeVersion}, {typeAllocate}, {typeEvaluate}, {typeEvaluate}}
	for i, t := range g.Retype {
		funcs[i] = []byte{t}
	}
	for i, b := range g.More {
		t := byte(typeVoid)
		if i < len(g.MoreTypes) {
			t = g.MoreTypes[i]
		}
		bodies, funcs = append(bodies, b), append(funcs, []byte{t})
	}
	types := append([][]byte{Type(nil, nil), Type(nil, []byte{I32}), Type([]byte{I32}, []byte{I32}), Type([]byte{I32, I32}, []byte{I64})}, g.Types...)
	var exports [][]byte
	for _, e := range []struct {
		name  string
		kind  byte
		index int
	}{{"memory", 2, 0}, {"tmcp_abi_version", 0, funcVersion}, {"tmcp_allocate", 0, funcAllocate}, {"tmcp_appraise", 0, funcAppraise}, {"tmcp_authorize", 0, funcAuthorize}} {
		if e.name != g.Without {
			if e.kind == 0 {
				e.index += len(g.Imports)
			}
			exports = append(exports, Export(e.name, e.kind, e.index))
		}
	}
	var sized [][]byte
	for _, b := range bodies {
		sized = append(sized, Sized(b))
	}
	out := Raw(g.Custom, Custom("tmcp.policy", meta.Append(nil)), Section(1, Vec(types...)))
	if g.Imports != nil {
		out = append(out, Section(2, Vec(g.Imports...))...)
	}
	out = append(out, Section(3, Vec(funcs...))...)
	if g.Table != nil {
		out = append(out, Section(4, Vec(g.Table))...)
	}
	out = append(out, Section(5, Vec(or(g.Memory, 1, 1, 16)))...)
	if g.Globals != nil {
		out = append(out, Section(6, Vec(g.Globals...))...)
	}
	out = append(out, Section(7, Vec(append(exports, g.Exports...)...))...)
	if g.Start != nil {
		out = append(out, Section(8, g.Start)...)
	}
	if g.Elements != nil {
		out = append(out, Section(9, Vec(g.Elements...))...)
	}
	if g.DataCount != nil {
		out = append(out, Section(12, g.DataCount)...)
	}
	out = append(out, Section(10, Vec(sized...))...)
	data := append([][]byte{Cat(0, Const(I32, answerAt), 0x0b, Sized([]byte(answer)))}, g.Data...)
	return append(out, Section(11, Vec(data...))...)
}

// Debug is a policy that looks for `"debug":f` in its input, and allows when it
// is there: the smallest one that reads.
func Debug() Guest {
	needle := int64(binary.LittleEndian.Uint64([]byte(`debug":f`)))
	deny := 1024
	body := Locals([][]byte{Group(1, I32)}, // local 2: offset
		0x20, 1, Const(I32, 8), 0x49, // len < 8
		0x04, Void, Packed(deny, len(DenyAnswer)), 0x0f, 0x0b,
		0x03, Void,
		0x20, 0, 0x20, 2, 0x6a, 0x29, 0, 0, // i64.load (pointer + offset)
		Const(I64, needle), 0x51,
		0x04, Void, Packed(answerAt, len(AllowAnswer)), 0x0f, 0x0b,
		0x20, 2, Const(I32, 1), 0x6a, 0x22, 2, // offset++
		0x20, 1, Const(I32, 8), 0x6b, 0x4d, 0x0d, 0, // while offset <= len - 8
		0x0b,
		Packed(deny, len(DenyAnswer)))
	return Guest{Appraise: body, Authorize: body, Data: [][]byte{Cat(0, Const(I32, int64(deny)), 0x0b, Sized([]byte(DenyAnswer)))}}
}

// F64Const is an f64.const.
func F64Const(f float64) []byte {
	return binary.LittleEndian.AppendUint64([]byte{0x44}, math.Float64bits(f))
}
