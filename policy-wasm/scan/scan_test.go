package scan_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

func compiles(t testing.TB, b []byte) error {
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(ctx)
	_, err := rt.CompileModule(ctx, b)
	return err
}

func TestGoodGuests(t *testing.T) {
	for name, g := range map[string]corpus.Guest{"allow": {}, "debug": corpus.Debug()} {
		t.Run(name, func(t *testing.T) {
			b := g.Module()
			m, err := scan.Scan(b, scan.Defaults())
			if err != nil {
				t.Fatal(err)
			}
			if err := compiles(t, m.Stripped()); err != nil {
				t.Error("stripped:", err)
			}
			if err := compiles(t, m.Instrument()); err != nil {
				t.Error("instrumented:", err)
			}
			if !bytes.Equal(m.Instrument(), m.Instrument()) {
				t.Error("instrumenting twice gives two modules")
			}
			if _, err := scan.Scan(m.Stripped(), scan.Defaults()); err != nil {
				t.Error("stripped, again:", err)
			}
			// The host's names are reserved, so what was instrumented is not taken again.
			var e *scan.Error
			if _, err := scan.Scan(m.Instrument(), scan.Defaults()); !errors.As(err, &e) || e.Reason != scan.Export {
				t.Errorf("instrumented, again: %v", err)
			}
		})
	}
}

// The scanner itself refuses what it is there to refuse: the engine must not be
// the one that does, which validates the module as it came too.
//
// TMCP-20.2-5: A host MUST check all of that before an engine reads the module.
func TestHostile(t *testing.T) {
	mine := []string{scan.Invalid, scan.Profile, scan.Limit, scan.Import, scan.Memory}
	also := []string{"export-twice", "export-reserved", "signature-start"}
	n := 0
	for _, c := range corpus.Cases() {
		if !c.Load || !slices.Contains(mine, c.Want) && !slices.Contains(also, c.Name) || c.Name == "operand-types" {
			continue
		}
		n++
		b := c.Module()
		var e *scan.Error
		if _, err := scan.Scan(b, scan.Defaults()); !errors.As(err, &e) || e.Reason != c.Want {
			t.Errorf("%s: %v; %s is due: %s", c.Name, err, c.Want, c.Why)
		} else if e.Offset > len(b) || e.Detail == "" {
			t.Errorf("%s: no place or rule: %v", c.Name, err)
		}
	}
	if n < 60 {
		t.Errorf("%d modules only", n)
	}
}

// Each prefix of a good module is refused, or has all it needs; no byte changed
// makes the scanner panic, or lets a module through that becomes valid by being
// instrumented.
func TestPrefixesAndFlips(t *testing.T) {
	b := corpus.Debug().Module()
	for n := range b {
		if m, err := scan.Scan(b[:n:n], scan.Defaults()); err == nil && compiles(t, m.Stripped()) != nil {
			t.Errorf("the first %d bytes are taken", n)
		}
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1 << (i % 8)
		noNewValidity(t, c)
	}
}

func noNewValidity(t testing.TB, b []byte) {
	m, err := scan.Scan(b, scan.Defaults())
	if err != nil {
		var e *scan.Error
		if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(b) || e.Detail == "" {
			t.Fatalf("error without a place or rule: %#v", err)
		}
		return
	}
	stripped, instrumented := compiles(t, m.Stripped()), compiles(t, m.Instrument())
	if stripped != nil && instrumented == nil {
		t.Fatalf("%x is invalid (%v), and valid once instrumented", b, stripped)
	}
	if stripped == nil && instrumented != nil {
		t.Fatalf("%x is valid, and invalid once instrumented: %v", b, instrumented)
	}
}

func seeds(f *testing.F) {
	f.Add(corpus.Guest{}.Module())
	f.Add(corpus.Debug().Module())
	// Numbers that become canonical, beside memory that grows, and an import.
	f.Add(corpus.Guest{More: [][]byte{corpus.Locals([][]byte{corpus.Group(1, corpus.F32)},
		corpus.Const(corpus.I32, 0), 0x40, 0, 0x1a, 0x20, 0, 0x91, 0xbb, 0x9f, 0xb6, 0x21, 0)}}.Module())
	f.Add(corpus.Guest{Types: [][]byte{corpus.Type(nil, []byte{corpus.I32})}, Imports: [][]byte{
		corpus.Cat(corpus.Sized([]byte("wasi_snapshot_preview1")), corpus.Sized([]byte("sched_yield")), 0, 4)}}.Module())
	for _, c := range corpus.Cases() {
		if b := c.Module(); len(b) < 4096 {
			f.Add(b)
		}
	}
}

func FuzzScan(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := scan.Scan(b, scan.Defaults())
		if err != nil {
			return
		}
		if len(m.Instrument()) > 64*len(b)+4096 {
			t.Errorf("%d bytes became %d", len(b), len(m.Instrument()))
		}
	})
}

// FuzzNoNewValidity: what is invalid must not become valid by being
// instrumented, and the other way round.
func FuzzNoNewValidity(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= 8192 {
			noNewValidity(t, b)
		}
	})
}

func TestExportsFunc(t *testing.T) {
	good := corpus.Guest{Data: [][]byte{corpus.Cat(0, corpus.Const(corpus.I32, 4096), 0x0b, corpus.Sized([]byte("\x08opa_eval\x00")))}}.Module()
	if !scan.ExportsFunc(good, "tmcp_allocate") {
		t.Error("an export is not seen")
	}
	for _, name := range []string{"opa_eval", "memory", ""} { // data, a memory, nothing
		if scan.ExportsFunc(good, name) {
			t.Errorf("%q is seen", name)
		}
	}
	for n := range good { // no panic, wherever it ends
		scan.ExportsFunc(good[:n], "none")
	}
	for _, c := range corpus.Cases() {
		scan.ExportsFunc(c.Module(), "none")
	}
}
