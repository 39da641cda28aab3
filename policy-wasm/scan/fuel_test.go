package scan_test

import (
	"bytes"
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

// A frame of many words counts as several calls, so that what nested calls keep
// is bounded; code that puts its operands away does not.
func TestFrames(t *testing.T) {
	i32 := func(n int64) []byte { return Const(I32, n) }
	times := func(n int, ins ...any) []byte { return bytes.Repeat(Cat(ins...), n) }
	drop := byte(0x1a)
	for name, tt := range map[string]struct {
		body  []byte
		calls uint64
	}{
		"nothing":         {Code(), 1},
		"locals":          {Locals([][]byte{Group(300, I64)}), 2},
		"both":            {Locals([][]byte{Group(200, I64)}, times(56, i32(0)), times(56, drop)), 2},
		"below":           {Locals([][]byte{Group(200, I64)}, times(55, i32(0)), times(55, drop)), 1},
		"operands":        {Code(times(600, i32(0)), times(600, drop)), 3},
		"loaded":          {Code(times(600, i32(0), 0x28, 0, 0), times(600, drop)), 3},
		"global":          {Code(times(600, 0x23, 0), times(600, 0x24, 0)), 3},
		"results":         {Code(times(600, 0x02, I32, i32(0), 0x0b), times(600, drop)), 3},
		"called":          {Code(times(600, 0x10, 0), times(600, drop)), 3},
		"sizes":           {Code(times(600, 0x3f, 0), times(600, drop)), 3},
		"in blocks":       {Code(times(300, i32(0)), 0x02, Void, times(300, i32(0)), times(300, drop), 0x0b, times(300, drop)), 3},
		"dropped":         {Code(times(600, i32(0), drop)), 1},
		"added":           {Code(times(600, i32(0), i32(0), 0x6a, drop)), 1},
		"compared":        {Code(times(600, i32(0), 0x45, drop, F64Const(0), 0x9f, F64Const(0), 0x61, drop)), 1},
		"converted":       {Code(times(600, i32(0), 0xac, 0xa7, 0xb7, 0xfc, 2, drop)), 1},
		"selected":        {Code(times(600, i32(0), i32(0), i32(0), 0x1b, drop)), 1},
		"stored":          {Code(times(600, i32(0), i32(0), 0x36, 0, 0)), 1},
		"filled":          {Code(times(600, i32(0), i32(0), i32(0), 0xfc, 11, 0)), 1},
		"grown":           {Code(times(600, i32(0), 0x40, 0, drop)), 1},
		"set":             {Locals([][]byte{Group(1, I32)}, times(600, i32(0), 0x22, 0, 0x21, 0)), 1},
		"parameters":      {Code(times(600, i32(0), i32(0), 0x10, 2, drop)), 1},
		"indirect":        {Code(times(600, i32(0), 0x11, 0, 0)), 1},
		"branches":        {Code(times(300, i32(0), 0x04, Void, 0x01, 0x05, 0x01, 0x0b, 0x02, Void, i32(0), 0x0d, 0, 0x0b)), 1},
		"left by a br":    {Code(times(300, 0x02, Void, i32(0), i32(0), 0x0c, 0, 0x0b)), 1},
		"left by a table": {Code(times(300, 0x02, Void, i32(0), i32(0), 0x0e, 0, 0, 0x0b)), 1},
	} {
		module := Guest{
			More: [][]byte{tt.body, Code()}, Exports: [][]byte{Export("f", 0, 4)}, Globals: [][]byte{Cat(I32, 1, i32(0), 0x0b)},
			Table: Cat(0x70, 0, 1), Elements: [][]byte{Cat(0, i32(0), 0x0b, 1, 5)},
		}.Module()
		m, err := scan.Scan(module, scan.Defaults())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ctx := context.Background()
		rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
		inst, err := rt.InstantiateWithConfig(ctx, m.Instrument(), wazero.NewModuleConfig())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		inst.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal).Set(1 << 40)
		nested := uint64(0) // calls that the body makes need a place of their own
		if name == "called" || name == "parameters" || name == "indirect" {
			nested = 1
		}
		for left, traps := range map[uint64]bool{tt.calls + nested: false, tt.calls + nested - 1: true} {
			inst.ExportedGlobal(scan.DepthGlobal).(api.MutableGlobal).Set(left)
			if _, err := inst.ExportedFunction("f").Call(ctx); (err != nil) != traps {
				t.Errorf("%s: with %d calls left: %v", name, left, err)
			}
		}
		rt.Close(ctx)
	}
}
