package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	goruntime "runtime"
	"runtime/debug"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// A Child compiles a stranger's module in a process of its own, which is killed
// when it takes too long and can't take more memory than it is granted. The
// scanner's model of what compiling costs is a model; this does not rely on it.
// It does not guard against a compiler that can be made to write other code than
// it should: child and parent are one user.
type Child struct {
	// Time is how long it may take, in all: wall time and, on unix, time of the
	// processor. 0 means [ChildTime].
	Time time.Duration
	// Memory are the bytes that it may have, on Linux; elsewhere it is only asked to
	// be thrifty. 0 means [ChildMemory].
	Memory uint64
	// Program is what is started; "" means this program. It must call [MaybeChild].
	Program string
}

// Defaults of [Child]: ten times what the largest policy that was measured takes
// (3 MiB, by the standard Go toolchain: 0.9 s and 300 MiB).
const (
	ChildTime   = 10 * time.Second
	ChildMemory = 1 << 30
)

// childVariable tells a process that it is a child.
const childVariable = "TMCP_POLICY_CHILD"

// maxHeader bounds an order.
const maxHeader = 64 << 10

// order is what a child is to do.
type order struct {
	Scan    scan.Limits // of the caps what matters for compiling
	Log     int
	Engine  policywasm.Engine
	Dir     string // where the compiled module goes; "": nowhere
	Memory  uint64
	Seconds int
}

// An answer is what came of it.
type answer struct{ Failure *policywasm.Failure }

// MaybeChild returns at once, unless this process was started to compile a
// module: then it does that, and ends the process. Call it first thing in main,
// and in TestMain of tests that load policies in a child.
func MaybeChild() {
	if os.Getenv(childVariable) == "" {
		return
	}
	code := 0
	if err := serveChild(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func serveChild(in io.Reader, out io.Writer) error {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxHeader {
		return errors.New("the order is too long")
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(in, head); err != nil {
		return err
	}
	var o order
	if err := json.Unmarshal(head, &o); err != nil {
		return err
	}
	if err := confine(o.Seconds, o.Memory); err != nil {
		return err
	}
	debug.SetMemoryLimit(int64(o.Memory / 2))
	module, err := io.ReadAll(io.LimitReader(in, int64(o.Scan.Module)+1))
	if err != nil {
		return err
	}
	var a answer
	if err := compile(context.Background(), module, policywasm.Caps{Scan: o.Scan, Log: o.Log, Engine: o.Engine}, o.Dir); err != nil && !errors.As(err, &a.Failure) {
		return err
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = out.Write(b)
	return err
}

// compile fills dir with the compiled module.
func compile(ctx context.Context, module []byte, caps policywasm.Caps, dir string) error {
	if dir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(dir)
		if err != nil {
			return err
		}
		defer cache.Close(ctx)
		caps.Cache = cache
	}
	return compileModule(workers(ctx), module, caps)
}

// workers has the engine compile on all processors.
func workers(ctx context.Context) context.Context {
	return experimental.WithCompilationWorkers(ctx, min(goruntime.GOMAXPROCS(0), 8))
}

// compile runs a child. An error is of type [*policywasm.Failure] where the
// module is to blame.
func (c *Child) compile(ctx context.Context, module []byte, caps policywasm.Caps, dir string) error {
	o := order{Scan: caps.Scan, Log: caps.Log, Engine: caps.Engine, Dir: dir, Memory: c.Memory}
	if o.Memory == 0 {
		o.Memory = ChildMemory
	}
	limit := c.Time
	if limit == 0 {
		limit = ChildTime
	}
	o.Seconds = int(limit/time.Second) + 1
	head, err := json.Marshal(o)
	if err != nil {
		return err
	}
	program := c.Program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return err
		}
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(within, program)
	cmd.Env = []string{childVariable + "=1"}
	cmd.Dir = dir
	cmd.Stdin = io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32(nil, uint32(len(head)))), bytes.NewReader(head), bytes.NewReader(module))
	var out, said bounded
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if ctx.Err() != nil { // who asked has gone: the module is not to blame
		return ctx.Err()
	}
	if within.Err() != nil {
		return &policywasm.Failure{Reason: policywasm.ReasonCompile, Detail: fmt.Sprintf("compiling took longer than the %v that are granted", limit)}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		first, _, _ := bytes.Cut(said.b, []byte("\n"))
		return &policywasm.Failure{Reason: policywasm.ReasonCompile, Detail: fmt.Sprintf("the process that compiled it ended with %v: %.100q", exit, first)}
	}
	if err != nil {
		return fmt.Errorf("compiling in a child process: %w", err)
	}
	var a answer
	if err := json.Unmarshal(out.b, &a); err != nil {
		return fmt.Errorf("%s does not compile policies when it is asked to (it has to call MaybeChild): %w", program, err)
	}
	if a.Failure != nil {
		return a.Failure
	}
	return nil
}

// bounded keeps the first 4 KiB that are written to it.
type bounded struct{ b []byte }

func (w *bounded) Write(b []byte) (int, error) {
	w.b = append(w.b, b[:min(len(b), 4096-len(w.b))]...)
	return len(b), nil
}
