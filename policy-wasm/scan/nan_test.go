package scan_test

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// Whatever NaN goes into an instruction, and even if none does, the NaN that
// comes out is the canonical one: in both engines, and in all of the 25
// instructions that compute.
//
// TMCP-20.7-6: A host MUST make each NaN that `ceil`, `floor`, `trunc`, `nearest`, `sqrt`, `add`, `sub`, `mul`, `div`, `min`, `max`, `demote` or `promote` gives the canonical one
func TestCanonicalNaN(t *testing.T) {
	f32 := func(bits uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{0x43}, bits) }
	f64 := func(bits uint64) []byte { return binary.LittleEndian.AppendUint64([]byte{0x44}, bits) }
	odd32, odd64 := f32(0xffa12345), f64(0xfff4_5678_9abc_def0) // negative, signalling
	inf64 := f64(0x7ff0_0000_0000_0000)
	var bodies [][]byte
	for op := byte(0x8d); op <= 0x91; op++ {
		bodies = append(bodies, Cat(odd32, op, 0xbc, 0xad))
	}
	for op := byte(0x92); op <= 0x97; op++ {
		bodies = append(bodies, Cat(odd32, f32(0x3f800000), op, 0xbc, 0xad), Cat(f32(0x3f800000), odd32, op, 0xbc, 0xad))
	}
	for op := byte(0x9b); op <= 0x9f; op++ {
		bodies = append(bodies, Cat(odd64, op, 0xbd))
	}
	for op := byte(0xa0); op <= 0xa5; op++ {
		bodies = append(bodies, Cat(odd64, F64Const(1), op, 0xbd), Cat(F64Const(1), odd64, op, 0xbd))
	}
	bodies = append(bodies,
		Cat(odd64, 0xb6, 0xbc, 0xad), Cat(odd32, 0xbb, 0xbd), // demote, promote
		Cat(F64Const(-1), 0x9f, 0xbd), Cat(inf64, inf64, 0xa1, 0xbd), Cat(F64Const(0), F64Const(0), 0xa3, 0xbd), // of no NaN
		// With a local that memory.grow needs, and both types.
		Cat(Const(I32, 0), 0x40, 0, 0x1a, odd32, 0x91, 0xbb, odd64, 0xa0, 0xbd))
	for _, code := range bodies {
		module := Guest{
			More: [][]byte{Locals([][]byte{Group(2, F64)}, code)}, MoreTypes: []byte{4}, Types: [][]byte{Type(nil, []byte{I64})},
			Exports: [][]byte{Export("f", 0, 4)},
		}.Module()
		m, err := scan.Scan(module, scan.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		for name, cfg := range map[string]wazero.RuntimeConfig{"compiler": wazero.NewRuntimeConfigCompiler(), "interpreter": wazero.NewRuntimeConfigInterpreter()} {
			rt := wazero.NewRuntimeWithConfig(ctx, cfg)
			inst, err := rt.InstantiateWithConfig(ctx, m.Instrument(), wazero.NewModuleConfig())
			if err != nil {
				t.Fatal(err)
			}
			inst.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal).Set(1 << 40)
			v, err := inst.ExportedFunction("f").Call(ctx)
			if err != nil || v[0] != 0x7fc0_0000 && v[0] != 0x7ff8_0000_0000_0000 {
				t.Errorf("%s: %x: %x %v", name, code, v, err)
			}
			rt.Close(ctx)
		}
	}
}
