package main

import (
	"bytes"
	"encoding/binary"
)

// Value types of WebAssembly, and the type of a block without a result.
const (
	i32, i64, void = 0x7f, 0x7e, 0x40
)

// cat joins bytes: an int is one byte.
func cat(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			panic("cat joins int, string and []byte")
		}
	}
	return b
}

// leb is n as an unsigned LEB128 number.
func leb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// sleb is n as a signed one.
func sleb(n int64) (b []byte) {
	for {
		c := byte(n & 0x7f)
		if n >>= 7; n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// sized is b behind its length.
func sized(b []byte) []byte { return append(leb(len(b)), b...) }

// list is a vector of items.
func list(items ...[]byte) []byte { return append(leb(len(items)), bytes.Join(items, nil)...) }

func section(id int, content []byte) []byte { return cat(id, sized(content)) }

// con is an i32.const.
func con(n int64) []byte { return cat(0x41, sleb(n)) }

// fun is a function body without locals.
func fun(code ...any) []byte { return cat(0, cat(code...), 0x0b) }

// answerAt is where the answer of a guest stands in its memory.
const answerAt = 16

// A guest is a policy that returns one answer. Functions 0 to 2 are version,
// allocate and appraise; more follow. With log, an import comes before them.
type guest struct {
	encoding string
	answer   []byte
	locals   []byte // of appraise: groups, a vector
	code     []byte // of appraise, in front of its answer
	more     [][]byte
	log      bool
	memory   []byte
	table    bool
}

func (g guest) module() []byte {
	if g.encoding == "" {
		g.encoding = "json"
	}
	if g.answer == nil {
		g.answer = []byte(allowing)
	}
	if g.locals == nil {
		g.locals = list()
	}
	if g.memory == nil {
		g.memory = cat(1, 1, 16)
	}
	appraise := cat(g.locals, g.code, 0x42, sleb(answerAt<<32|int64(len(g.answer))), 0x0b)
	bodies, types, imports := [][]byte{fun(con(1)), fun(con(8192)), appraise}, [][]byte{{0}, {1}, {2}}, 0
	for _, f := range g.more {
		bodies, types = append(bodies, f), append(types, []byte{3})
	}
	for i := range bodies {
		bodies[i] = sized(bodies[i])
	}
	b := cat("\x00asm\x01\x00\x00\x00", section(0, cat(sized([]byte("tmcp.policy")), enc(policyMeta(m{7: g.encoding})))),
		section(1, list(cat(0x60, 0, 1, i32), cat(0x60, 1, i32, 1, i32), cat(0x60, 2, i32, i32, 1, i64), cat(0x60, 0, 0), cat(0x60, 2, i32, i32, 0))))
	if g.log {
		b, imports = cat(b, section(2, list(cat(sized([]byte("tmcp_1")), sized([]byte("log")), 0, 4)))), 1
	}
	b = cat(b, section(3, list(types...)))
	if g.table {
		b = cat(b, section(4, list(cat(0x70, 0, 1))))
	}
	export := func(name string, kind, index int) []byte { return cat(sized([]byte(name)), kind, index) }
	b = cat(b, section(5, list(g.memory)), section(6, list(cat(i32, 1, con(0), 0x0b))),
		section(7, list(export("memory", 2, 0), export("tmcp_abi_version", 0, imports), export("tmcp_allocate", 0, imports+1), export("tmcp_appraise", 0, imports+2))))
	if g.table {
		b = cat(b, section(9, list(cat(0, con(0), 0x0b, list([]byte{byte(imports + 3)})))))
	}
	return cat(b, section(12, leb(2)), section(10, list(bodies...)),
		section(11, list(cat(0, con(answerAt), 0x0b, sized(g.answer)), cat(1, sized(make([]byte, 128))))))
}
