package scan_test

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// CallFunc does what the functions do that it calls, at no cost of its own, and
// traps at all others.
func TestCallFunc(t *testing.T) {
	i32, i64, f64 := []byte{I32}, []byte{I64}, []byte{F64}
	b := Raw(
		Section(1, Vec(Type(nil, nil), Type(nil, i32), Type(i32, i64), Type([]byte{I32, I32}, i32), Type(i64, nil), Type(nil, f64))),
		Section(3, Vec(U(0), U(1), U(2), U(3), U(4), U(5))),
		Section(5, Vec(Cat(0, 1))),
		Section(6, Vec(Cat(I32, 1, Const(I32, 0), 0x0b))),
		Section(7, Vec(Export("one", 0, 1), Export("wide", 0, 2), Export("less", 0, 3), Export("long", 0, 4), Export("float", 0, 5), Export("memory", 2, 0))),
		Section(8, U(0)),
		Section(10, Vec(
			Sized(Code(0x23, 0, Const(I32, 7), 0x6a, 0x24, 0)), // add 7 to the global
			Sized(Code(0x23, 0)),
			Sized(Code(Const(I64, -5))),
			Sized(Code(0x20, 0, 0x20, 1, 0x6b)),
			Sized(Code()),
			Sized(Code(F64Const(1))))))
	m, err := scan.Scan(b, scan.Defaults())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	g, err := rt.Instantiate(ctx, m.Instrument(scan.StartFunc, "one", "wide", "less", "long", "float", "memory", "none"))
	if err != nil {
		t.Fatal(err)
	}
	fuel := g.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal)
	depth := g.ExportedGlobal(scan.DepthGlobal)
	full := depth.Get()
	call := func(args ...uint64) (uint64, error) {
		fuel.Set(1000)
		out, err := g.ExportedFunction(scan.CallFunc).Call(ctx, args...)
		if err != nil {
			return 0, err
		}
		return out[0], nil
	}
	for _, want := range []struct {
		name       string
		a, b, got  uint64
		number     uint64
		isDirectly []uint64
	}{
		{scan.StartFunc, 0, 0, 0, 0, nil},
		{"one", 0, 0, 14, 1, nil}, // it was started twice
		{"wide", 3, 0, 1<<64 - 5, 2, []uint64{3}},
		{"less", 3, 4, 1<<32 - 1, 3, []uint64{3, 4}},
	} {
		got, err := call(want.number, want.a, want.b)
		if err != nil || got != want.got || depth.Get() != full {
			t.Errorf("%s: %d, %v", want.name, got, err)
		}
		used := fuel.Get()
		fuel.Set(1000)
		if _, err := g.ExportedFunction(want.name).Call(ctx, want.isDirectly...); err != nil || fuel.Get() != used {
			t.Errorf("%s: %d units of fuel are left, called directly %d: %v", want.name, used, fuel.Get(), err)
		}
	}
	for _, number := range []uint64{4, 5, 6, 7, 8, 1<<32 - 1} {
		if _, err := call(number, 0, 0); err == nil {
			t.Errorf("function %d is called", number)
		}
	}
}
