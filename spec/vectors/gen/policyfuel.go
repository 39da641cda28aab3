package main

import (
	"bytes"
	"encoding/binary"
	"math"
)

// fuelVectors are modules with the exact fuel that an evaluation uses: allocate
// pays 1 for its parameter and 1 for its constant, appraise 2 for its parameters
// and 1 for the constant of its answer, and what its code costs.
func fuelVectors() {
	const base = 2 + 3
	const drop = 0x1a
	zero, f64 := con(0), func(f float64) []byte { return cat(0x44, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))) }
	i64con := func(n int64) []byte { return cat(0x42, sleb(n)) }
	// rounds runs code n times, counting in local l (8 units for each round).
	rounds := func(l, n int, code []byte) []byte {
		return cat(0x03, void, code, 0x20, l, con(1), 0x6a, 0x22, l, con(int64(n)), 0x49, 0x0d, 0, 0x0b)
	}
	local := func(n int) []byte { return list(cat(leb(n), i32)) }
	empty := fun()
	for _, v := range []struct {
		name, note string
		g          guest
		want       int
		log        int
	}{
		{"nothing", "Nothing but an answer.", guest{}, 0, 0},
		{"nop", "Most instructions cost 1.", guest{code: cat(0x01)}, 1, 0},
		{"locals", "Each local costs 1 when the function is entered.", guest{locals: list(cat(7, i64), cat(3, i32))}, 10, 0},
		{"variables", "Getting, setting and teeing locals and globals.", guest{locals: local(1), code: cat(0x20, 2, 0x22, 2, 0x21, 2, 0x23, 0, 0x24, 0)}, 1 + 5, 0},
		{"load", "A load costs 2.", guest{code: cat(zero, 0x28, 2, 0, drop)}, 4, 0},
		{"load-byte", "Of any size.", guest{code: cat(zero, 0x2d, 0, 0, drop)}, 4, 0},
		{"store", "So does a store.", guest{code: cat(con(4096), zero, 0x36, 2, 0)}, 4, 0},
		{"integer", "Arithmetic on integers.", guest{code: cat(con(6), con(7), 0x6c, 0x67, drop)}, 5, 0},
		{"divide", "Division and remainder cost 8, signed or not, of either width.", guest{code: cat(con(7), con(2), 0x6d, con(2), 0x6e, con(2), 0x6f, con(2), 0x70, drop, i64con(7), i64con(2), 0x7f, i64con(2), 0x82, drop)}, 5 + 4*8 + 1 + 3 + 2*8 + 1, 0},
		{"float", "Arithmetic on floats costs 4, constants 1.", guest{code: cat(f64(1), f64(2), 0xa0, 0x9f, drop)}, 2 + 8 + 1, 0},
		{"float-compare", "So do comparisons.", guest{code: cat(f64(1), f64(2), 0x63, drop)}, 2 + 4 + 1, 0},
		{"float-convert", "And conversions, also those that saturate.", guest{code: cat(zero, 0xb7, 0xfc, 2, drop)}, 1 + 4 + 4 + 1, 0},
		{"reinterpret", "And reinterpretation.", guest{code: cat(i64con(1), 0xbf, drop)}, 1 + 4 + 1, 0},
		{"wrap", "Conversions between integers cost 1.", guest{code: cat(i64con(1), 0xa7, 0xac, 0xc2, drop)}, 5, 0},
		{"call", "A call costs 10, and what the function costs.", guest{code: cat(0x10, 3), more: [][]byte{fun(0x01, 0x01)}}, 12, 0},
		{"call-locals", "With its locals.", guest{code: cat(0x10, 3), more: [][]byte{cat(list(cat(leb(200), i32)), 0x0b)}}, 210, 0},
		{"call-indirect", "A call through the table costs 15.", guest{code: cat(zero, 0x11, 3, 0), more: [][]byte{empty}, table: true}, 16, 0},
		{"call-import", "A call of an import costs 200.", guest{code: cat(con(answerAt), con(8), 0x10, 0), log: true}, 202, 64},
		{"fill", "memory.fill costs 20, and 1 for each whole 64 bytes.", guest{code: cat(con(1024), zero, con(640), 0xfc, 11, 0)}, 3 + 20 + 10, 0},
		{"copy", "memory.copy too: 127 bytes are one time 64.", guest{code: cat(con(1024), con(2048), con(127), 0xfc, 10, 0, 0)}, 3 + 20 + 1, 0},
		{"copy-63", "63 bytes are none.", guest{code: cat(con(1024), con(2048), con(63), 0xfc, 10, 0, 0)}, 3 + 20, 0},
		{"init", "memory.init too.", guest{code: cat(con(1024), zero, con(128), 0xfc, 8, 1, 0)}, 3 + 20 + 2, 0},
		{"data-drop", "data.drop costs 1.", guest{code: cat(0xfc, 9, 1)}, 1, 0},
		{"grow", "memory.grow costs 1000, and 4096 for each page asked for.", guest{code: cat(con(3), 0x40, 0, drop)}, 1 + 1000 + 3*4096 + 1, 0},
		{"grow-nothing", "To ask for no page.", guest{code: cat(zero, 0x40, 0, drop)}, 1002, 0},
		{"grow-refused", "What is refused is paid as well.", guest{code: cat(con(20), 0x40, 0, drop)}, 1 + 1000 + 20*4096 + 1, 0},
		{"size", "memory.size costs 1.", guest{code: cat(0x3f, 0, drop)}, 2, 0},
		{"if", "Both branches are paid, whichever runs.", guest{code: cat(zero, 0x04, void, 0x01, 0x05, 0x01, 0x01, 0x0b)}, 1 + 1 + 1 + 1 + 2 + 1, 0},
		{"if-alone", "Also the one that does not run.", guest{code: cat(zero, 0x04, void, 0x01, 0x01, 0x01, 0x0b)}, 1 + 1 + 3 + 1, 0},
		{"block", "The end of a block costs 1.", guest{code: cat(0x02, void, 0x0b)}, 2, 0},
		{"skipped", "What is jumped over is paid.", guest{code: cat(0x02, void, 0x0c, 0, 0x01, 0x01, 0x0b)}, 1 + 1 + 2 + 1, 0},
		{"table", "A branch table costs 1.", guest{code: cat(0x02, void, 0x02, void, zero, 0x0e, 2, 0, 1, 0, 0x0b, 0x0b)}, 2 + 2 + 2, 0},
		{"return", "What stands behind a return is paid.", guest{code: cat(i64con(answerAt<<32|int64(len(allowing))), 0x0f, 0x01, 0x01)}, 4, 0},
		{"loop", "Each round of a loop is paid when it begins.", guest{locals: local(1), code: rounds(2, 10, nil)}, 1 + 1 + 10*8, 0},
		{"loop-once", "A loop that is not repeated is paid once.", guest{code: cat(0x03, void, 0x01, 0x01, 0x0b)}, 1 + 2 + 1, 0},
		{"loop-behind", "What stands behind a loop belongs to what stands around it.", guest{locals: local(1), code: cat(rounds(2, 2, nil), 0x01, 0x01, 0x01)}, 1 + 1 + 2*8 + 3, 0},
		{"loops", "A loop in a loop: the inner counter is not set back, so it runs twice, then once in each round.", guest{locals: local(2), code: rounds(2, 3, cat(rounds(3, 2, nil), 0x01, 0x01))}, 2 + 1 + 3*(8+1+2) + 4*8, 0},
		{"loop-call", "Calls in a loop.", guest{locals: local(1), code: rounds(2, 5, cat(0x10, 3)), more: [][]byte{fun(0x01)}}, 1 + 1 + 5*(8+10+1), 0},
		{"straight", "A thousand instructions without a branch.", guest{code: bytes.Repeat([]byte{0x01}, 1000)}, 1000, 0},
	} {
		want := base + v.want
		in := func(cap, granted int) obj {
			return obj{"module": x(v.g.module()), "question": "appraise", "document": "{}", "cap": cap, "granted": granted, "log": v.log}
		}
		out := obj{"decision": "allow", "fuel": want}
		add("policy-fuel", v.name, vec{req: "TMCP-20.7-1 TMCP-20.7-3", note: v.note, in: in(1_000_000, 0), out: out})
		switch v.name {
		case "nothing", "loop", "grow-refused", "call-import":
			add("policy-fuel", v.name+"-exact", vec{req: "TMCP-20.7-1", note: v.note + " With no fuel to spare.", in: in(want, 0), out: out})
			add("policy-fuel", v.name+"-short", vec{reason: "policy.fuel", req: "TMCP-20.7-2", note: v.note + " With a unit too little.", in: in(want-1, 0)})
		case "fill":
			add("policy-fuel", "deadline", vec{reason: "policy.deadline", req: "TMCP-20.7-4", note: "The time left pays for a unit too little.", in: in(1_000_000, want-1)})
			add("policy-fuel", "deadline-exact", vec{req: "TMCP-20.7-4", note: "The time left is enough.", in: in(1_000_000, want), out: out})
			add("policy-fuel", "deadline-beyond", vec{reason: "policy.fuel", req: "TMCP-20.7-4", note: "The time left pays for more than the cap, so the cap it is that ran out.", in: in(want-1, 1_000_000)})
		}
	}
	add("policy-fuel", "endless", vec{reason: "policy.fuel", req: "TMCP-20.7-2", note: "A loop without an end.",
		in: obj{"module": x(guest{code: cat(0x03, void, 0x0c, 0, 0x0b)}.module()), "question": "appraise", "document": "{}", "cap": 1_000_000, "granted": 0, "log": 0}})
}
