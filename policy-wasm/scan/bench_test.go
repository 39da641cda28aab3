package scan_test

import (
	"context"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// BenchmarkFuel is what counting costs, beside no counting and beside the
// engine's own deadline: a guest looks through 4 KiB, byte by byte.
func BenchmarkFuel(b *testing.B) {
	m, err := scan.Scan(corpus.Debug().Module(), scan.Defaults())
	if err != nil {
		b.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		module []byte
		cfg    wazero.RuntimeConfig
	}{
		{"none", m.Stripped(), wazero.NewRuntimeConfigCompiler()},
		{"fuel", m.Instrument(), wazero.NewRuntimeConfigCompiler()},
		{"engine-deadline", m.Stripped(), wazero.NewRuntimeConfigCompiler().WithCloseOnContextDone(true)},
	} {
		b.Run(tt.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			rt := wazero.NewRuntimeWithConfig(ctx, tt.cfg)
			defer rt.Close(context.Background())
			inst, err := rt.InstantiateWithConfig(ctx, tt.module, wazero.NewModuleConfig())
			if err != nil {
				b.Fatal(err)
			}
			fuel, counted := inst.ExportedGlobal(scan.FuelGlobal).(api.MutableGlobal)
			f := inst.ExportedFunction("tmcp_appraise")
			for b.Loop() {
				if counted {
					fuel.Set(1 << 40)
				}
				if _, err := f.Call(ctx, 8192, 4096); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkScan is what reading and rewriting a small module costs.
func BenchmarkScan(b *testing.B) {
	module := corpus.Debug().Module()
	for b.Loop() {
		m, err := scan.Scan(module, scan.Defaults())
		if err != nil {
			b.Fatal(err)
		}
		m.Instrument()
	}
}
