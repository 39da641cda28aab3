package scan_test

import (
	"bytes"
	"testing"

	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// The cost of compiling is as the specification says, so that hosts agree on
// which modules they take.
func TestCost(t *testing.T) {
	times := func(n int, ins ...any) []byte { return bytes.Repeat(Cat(ins...), n) }
	zero := Const(I32, 0)
	for name, tt := range map[string]struct {
		body                                                    []byte
		locals, blocks, targets, nesting, loops, rounds, floats int
	}{
		"straight":     {Code(times(4000, 0x01)), 0, 0, 0, 0, 0, 0, 0},
		"blocks":       {Locals([][]byte{Group(100, I64)}, times(200, 0x02, Void, 0x0b)), 100, 200, 0, 1, 0, 0, 0},
		"nested":       {Code(times(300, 0x02, Void), times(300, 0x0b)), 0, 300, 0, 300, 0, 0, 0},
		"loops":        {Locals([][]byte{Group(40, I64)}, times(100, 0x03, Void, 0x0b)), 40, 100, 0, 1, 100, 100, 0},
		"nested loops": {Locals([][]byte{Group(90, I64)}, times(16, 0x03, Void), times(16, 0x0b)), 90, 16, 0, 16, 16, 136, 0},
		"ifs":          {Locals([][]byte{Group(7, I64)}, times(100, zero, 0x04, Void, 0x05, 0x0b)), 7, 100, 0, 1, 0, 0, 0},
		"branches":     {Locals([][]byte{Group(7, I64)}, times(100, 0x02, Void, zero, 0x0d, 0, 0x0c, 0, 0x0b)), 7, 300, 0, 1, 0, 0, 0},
		"table":        {Locals([][]byte{Group(30, I64)}, 0x02, Void, zero, 0x0e, U(500), make([]byte, 501), 0x0b), 30, 1, 501, 1, 0, 0, 0},
		"floats":       {Code(times(300, F64Const(1), 0x9f, 0x9a, 0xb6, 0x1a)), 0, 0, 0, 0, 0, 0, 600}, // neg makes none
	} {
		m, err := scan.Scan(Guest{More: [][]byte{tt.body}}.Module(), scan.Defaults())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := tt.locals*(tt.blocks+tt.targets) + tt.nesting*tt.blocks/24 + tt.targets*tt.targets/512 +
			tt.blocks*tt.blocks/40 + tt.loops*tt.loops/5 + tt.locals*tt.locals*tt.rounds/256 + tt.floats/2 + len(tt.body)/16
		if m.Cost != want { // the guest's other functions are too small to cost anything
			t.Errorf("%s: costs %d; the specification says %d", name, m.Cost, want)
		}
	}
}
