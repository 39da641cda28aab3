package scan_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/tetratelabs/wazero"
	"pgregory.net/rapid"

	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// contents instantiates a module of one memory, and gives what is in it; nil if
// it can't be.
func contents(t *rapid.T, b []byte) []byte {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	c, err := rt.CompileModule(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := rt.InstantiateModule(ctx, c, wazero.NewModuleConfig())
	if err != nil {
		return nil
	}
	mem, _ := m.Memory().Read(0, m.Memory().Size())
	return bytes.Clone(mem)
}

// segmentsOf is the number of data segments, which is below 128.
func segmentsOf(module []byte) int {
	for b := module[8:]; len(b) > 0; {
		n, size := binary.Uvarint(b[1:])
		if b[0] == 11 {
			return int(b[1+size])
		}
		b = b[1+size+int(n):]
	}
	return 0
}

// Data segments are merged, and memory begins as it was written all the same:
// whatever their order, and where they overlap, or do not fit.
func TestData(t *testing.T) {
	fewer := false
	rapid.Check(t, func(t *rapid.T) {
		var segments [][]byte
		at := 0
		ordered := rapid.IntRange(0, 3).Draw(t, "ordered") > 0
		for range rapid.IntRange(0, 12).Draw(t, "segments") {
			if at += rapid.IntRange(0, 100).Draw(t, "gap"); !ordered {
				at = rapid.SampledFrom([]int{0, 1, 60, 64, 100, 8000, 1 << 16, 1<<16 - 1, 1<<16 + 1, -1, -1 << 31, 63, 1<<14 - 3}).Draw(t, "at")
			}
			b := rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "bytes")
			segments = append(segments, Cat(0, Const(I32, int64(at)), 0x0b, Sized(b)))
			at += len(b)
		}
		if rapid.IntRange(0, 9).Draw(t, "passive") == 0 {
			segments = append(segments, Cat(1, Sized([]byte("x"))))
		}
		b := Raw(Section(5, Vec(Cat(0, 1))), Section(11, Vec(segments...)))
		m, err := scan.Scan(b, scan.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		i := m.Instrument()
		if was, is := contents(t, m.Stripped()), contents(t, i); !bytes.Equal(was, is) {
			t.Fatalf("%x has other memory than %x", i, b)
		}
		fewer = fewer || segmentsOf(i) < segmentsOf(m.Stripped())
	})
	if !fewer {
		t.Error("nothing was merged")
	}
}
