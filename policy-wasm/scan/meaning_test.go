package scan_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"pgregory.net/rapid"

	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// A program draws statements, each of which leaves the stack as it was. Local 0
// is the parameter, 1 and 2 hold values, 3 bounds loops: all programs end.
type program struct {
	t      *rapid.T
	labels int // open blocks
	left   int // statements that may still be drawn
}

func (p *program) pick(n int) int { return rapid.IntRange(0, n-1).Draw(p.t, "pick") }

func (p *program) value() []byte {
	switch p.pick(5) {
	case 0:
		return Const(I32, int64(p.pick(200)-100))
	case 1:
		return Cat(0x20, p.pick(3), 0x20, p.pick(3), 0x6a)
	case 2:
		return Cat(0x20, p.pick(3), Const(I32, 7), 0x73)
	case 3: // what memory holds at a place that the parameter names
		return Cat(0x20, 0, Const(I32, 0xfff), 0x71, 0x2d, 0, 0)
	}
	return Cat(0x20, p.pick(3))
}

func (p *program) body() (out []byte) {
	for range 1 + p.pick(4) {
		out = append(out, p.statement()...)
	}
	return out
}

func (p *program) block(op ...any) []byte {
	p.labels++
	b := Cat(Cat(op...), p.body(), 0x0b)
	p.labels--
	return b
}

func (p *program) statement() []byte {
	if p.left--; p.left < 0 {
		return Cat(0x01)
	}
	switch p.pick(13) {
	case 0:
		return Cat(p.value(), 0x21, 1+p.pick(2))
	case 1:
		return p.block(0x02, Void)
	case 2:
		return p.block(p.value(), 0x04, Void)
	case 3:
		p.labels++
		b := Cat(p.value(), 0x04, Void, p.body(), 0x05, p.body(), 0x0b)
		p.labels--
		return b
	case 4: // a loop of at most 5 rounds more
		p.labels++
		b := Cat(0x03, Void, p.body(), 0x20, 3, Const(I32, 1), 0x6a, 0x22, 3, Const(I32, 5), 0x49, 0x0d, 0, 0x0b)
		p.labels--
		return b
	case 5: // a return, at any depth
		return Cat(p.value(), 0x04, Void, p.value(), 0x0f, 0x0b)
	case 6: // out of the function, by the label that is its own
		return Cat(p.value(), p.value(), 0x0d, U(uint64(p.labels)), 0x21, 1)
	case 7: // a table whose targets are the function and itself
		return Cat(p.value(), p.value(), 0x0e, 2, U(uint64(p.labels)), U(uint64(p.labels)), U(uint64(p.labels)))
	case 8: // call the helper
		return Cat(p.value(), 0x10, 5, 0x21, 1)
	case 9:
		return Cat(Const(I32, int64(p.pick(3000))), p.value(), Const(I32, int64(p.pick(500))), 0xfc, 11, 0)
	case 10:
		return Cat(Const(I32, int64(p.pick(3000))), Const(I32, int64(p.pick(3000))), Const(I32, int64(p.pick(500))), 0xfc, 10, 0, 0)
	case 11:
		return Cat(Const(I32, int64(p.pick(3))), 0x40, 0, 0x21, 2)
	}
	if p.pick(8) == 0 {
		return Cat(p.value(), p.value(), 0x6d, 0x21, 2) // may divide by zero
	}
	return Cat(0x01)
}

// function has all labels of statements name the function itself, so that no
// branch but a counted one goes back.
func (p *program) function() []byte {
	return Locals([][]byte{Group(3, I32)}, p.body(), p.value())
}

type outcome struct {
	value   uint64
	trapped bool
	memory  []byte
	fuel    uint64
	depth   uint64
}

func execute(t *rapid.T, cfg wazero.RuntimeConfig, module []byte, arg uint64, instrumented bool) (o outcome) {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, cfg.WithMemoryLimitPages(1024))
	defer rt.Close(ctx)
	m, err := rt.InstantiateWithConfig(ctx, module, wazero.NewModuleConfig())
	if err != nil {
		t.Fatalf("%x: %v", module, err)
	}
	if instrumented {
		m.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal).Set(1 << 40)
	}
	v, err := m.ExportedFunction("f").Call(ctx, arg)
	if o.trapped = err != nil; !o.trapped {
		o.value = v[0]
	}
	b, _ := m.Memory().Read(0, m.Memory().Size())
	o.memory = bytes.Clone(b)
	if instrumented {
		o.fuel, o.depth = m.ExportedGlobal(scan.FuelGlobal).Get(), m.ExportedGlobal(scan.DepthGlobal).Get()
	}
	return o
}

// Instrumenting changes nothing of what a program computes: result, trap and
// memory; both engines use the same fuel; and what went down comes up again.
func TestMeaning(t *testing.T) {
	traps, runs := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := &program{t: t, left: 30}
		arg := uint64(rapid.Uint32().Draw(t, "argument"))
		f := p.function()
		helper := Locals([][]byte{Group(3, I32)}, 0x20, 0, 0x04, I32, Const(I32, 3), 0x0f, 0x05, Const(I32, 4), 0x0b)
		module := Guest{
			Memory: Cat(1, 1, 4), More: [][]byte{f, helper}, MoreTypes: []byte{2, 2},
			Exports: [][]byte{Export("f", 0, 4)},
		}.Module()
		m, err := scan.Scan(module, scan.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		want := execute(t, wazero.NewRuntimeConfigInterpreter(), module, arg, false)
		a := execute(t, wazero.NewRuntimeConfigInterpreter(), m.Instrument(), arg, true)
		b := execute(t, wazero.NewRuntimeConfigCompiler(), m.Instrument(), arg, true)
		for _, got := range []outcome{a, b} {
			if got.value != want.value || got.trapped != want.trapped || !bytes.Equal(got.memory, want.memory) {
				t.Fatalf("%x: result %d, trap %v; without instruments %d, %v", module, got.value, got.trapped, want.value, want.trapped)
			}
			if !got.trapped && got.depth != 1000 {
				t.Fatalf("%x: depth %d after the return", module, got.depth)
			}
		}
		if a.fuel != b.fuel || a.fuel >= 1<<40 {
			t.Fatalf("%x: fuel %d and %d", module, a.fuel, b.fuel)
		}
		if runs++; want.trapped {
			traps++
		}
	})
	if traps == runs {
		t.Errorf("all %d programs trap", runs)
	}
	t.Logf("%d programs, %d of which trap", runs, traps)
}
