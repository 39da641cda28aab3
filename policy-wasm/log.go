package policywasm

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// logBuffer keeps the first bytes of what a guest logs, one line for each call.
type logBuffer struct {
	b     []byte
	limit int
}

// write keeps what still fits. A nil buffer keeps nothing.
func (l *logBuffer) write(b []byte) {
	if l != nil {
		l.b = append(l.b, b[:min(len(b), max(l.limit-len(l.b), 0))]...)
	}
}

type logKey struct{}

// offerLog makes the log import. A guest without a buffer, or whose buffer is
// full, or that points outside of its memory, logs nothing; it is told nothing
// either, so that the log can't change a decision.
func offerLog(ctx context.Context, rt wazero.Runtime) error {
	f := api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
		log, _ := ctx.Value(logKey{}).(*logBuffer)
		if log == nil || len(log.b) >= log.limit {
			return
		}
		at, n := api.DecodeU32(stack[0]), api.DecodeU32(stack[1]) // upper halves are dirty
		n = min(n, uint32(min(log.limit-len(log.b), 1<<16)))
		if line, ok := m.Memory().Read(at, n); ok {
			log.b = append(log.b, line...)
			if len(log.b) < log.limit {
				log.b = append(log.b, '\n')
			}
		}
	})
	_, err := rt.NewHostModuleBuilder(logImport.Module).NewFunctionBuilder().
		WithGoModuleFunction(f, []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, nil).
		Export(logImport.Name).Instantiate(ctx)
	return err
}
