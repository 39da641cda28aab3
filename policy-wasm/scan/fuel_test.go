package scan_test

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// What code costs is part of the ABI: other weights would give other answers.
func TestWeights(t *testing.T) {
	i32 := func(n int64) []byte { return Const(I32, n) }
	// rounds runs code n times, counting in local l.
	rounds := func(l int, n int64, code ...any) []byte {
		return Cat(0x03, Void, Cat(code...), 0x20, l, i32(1), 0x6a, 0x22, l, i32(n), 0x49, 0x0d, 0, 0x0b)
	}
	for _, tt := range []struct {
		name string
		body []byte
		want uint64
	}{
		{"nothing", Code(), 0},
		{"nop", Code(0x01), 1},
		{"constant", Code(i32(0), 0x1a), 2},
		{"locals", Locals([][]byte{Group(7, I64)}), 7},
		{"load", Code(i32(0), 0x28, 0, 0, 0x1a), 4},
		{"float", Code(F64Const(1), F64Const(2), 0xa0, 0x1a), 7},
		{"truncate", Code(F64Const(1), 0xfc, 2, 0x1a), 6},
		{"divide", Code(i32(1), i32(1), 0x6e, 0x1a), 11},
		{"call", Code(0x10, 5), 10},
		{"indirect", Code(i32(0), 0x11, 0, 0), 16},
		{"fill", Code(i32(0), i32(0), i32(640), 0xfc, 11, 0), 33},
		{"copy", Code(i32(0), i32(0), i32(63), 0xfc, 10, 0, 0), 23},
		{"grow", Code(i32(1), 0x40, 0, 0x1a), 1002 + 4096},
		{"loop", Locals([][]byte{Group(1, I32)}, rounds(0, 10)), 1 + 10*8 + 1},
		{"both branches", Code(i32(0), 0x04, Void, 0x01, 0x05, 0x01, 0x01, 0x0b), 7},
		{"return early", Code(0x0f, 0x01), 2},
		// The inner loop's counter is not set back: it runs twice, then once in each
		// round. What stands behind it belongs to the outer loop.
		{"loops", Locals([][]byte{Group(2, I32)}, rounds(0, 3, rounds(1, 2), 0x01, 0x01)), 2 + 3*(8+1+2) + 4*8 + 1},
	} {
		module := Guest{
			More: [][]byte{tt.body, Code()}, Exports: [][]byte{Export("f", 0, 4)},
			Table: Cat(0x70, 0, 1), Elements: [][]byte{Cat(0, i32(0), 0x0b, 1, 5)},
		}.Module()
		m, err := scan.Scan(module, scan.Defaults())
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		ctx := context.Background()
		rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
		inst, err := rt.InstantiateWithConfig(ctx, m.Instrument(), wazero.NewModuleConfig())
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		fuel := inst.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal)
		for left, traps := range map[uint64]bool{1_000_000: false, tt.want: false, tt.want - 1: true} {
			fuel.Set(left)
			_, err := inst.ExportedFunction("f").Call(ctx)
			if (err != nil) != (traps || int64(left) < 0) {
				t.Errorf("%s: with %d units: %v", tt.name, int64(left), err)
			}
			if used := left - fuel.Get(); err == nil && used != tt.want {
				t.Errorf("%s: %d units are used; want %d", tt.name, used, tt.want)
			}
		}
		if m.Floats != (tt.name == "float" || tt.name == "truncate") {
			t.Errorf("%s: floats %v", tt.name, m.Floats)
		}
		rt.Close(ctx)
	}
}

// Depth is counted exactly: a chain of calls as long as the limit passes.
func TestDepth(t *testing.T) {
	for n, traps := range map[int]bool{10: false, 11: true} {
		g := Guest{Exports: [][]byte{Export("f", 0, 4)}}
		for i := range n {
			if i < n-1 {
				g.More = append(g.More, Code(0x10, U(uint64(5+i)), 0x0f))
			} else {
				g.More = append(g.More, Code())
			}
		}
		l := scan.Defaults()
		l.Depth = 10
		m, err := scan.Scan(g.Module(), l)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
		inst, err := rt.InstantiateWithConfig(ctx, m.Instrument(), wazero.NewModuleConfig())
		if err != nil {
			t.Fatal(err)
		}
		inst.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal).Set(1000)
		for range 2 {
			if _, err := inst.ExportedFunction("f").Call(ctx); (err != nil) != traps {
				t.Errorf("%d calls: %v", n, err)
			}
		}
		rt.Close(ctx)
	}
}
