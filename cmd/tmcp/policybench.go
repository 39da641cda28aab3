package main

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/gateway/policy/build"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/policytest"
)

// A benchReport is what tmcp policy bench prints with --json. Times are in
// microseconds.
type benchReport struct {
	Policy   string              `json:"policy"` // SHA-256, hex
	Document string              `json:"document"`
	Bytes    int                 `json:"document_bytes"`
	Decision string              `json:"decision"`
	Fuel     uint64              `json:"fuel"`
	Pages    uint32              `json:"pages"`
	Compile  map[string]float64  `json:"compile_us"` // by engine
	Modes    map[string]benchRow `json:"modes"`
}

type benchRow struct {
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	PerSec   float64 `json:"per_second"`          // one after the other
	Parallel float64 `json:"parallel_per_second"` // on all processors
}

func policyBenchCommand() *cobra.Command {
	var doc string
	var each time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench MODULE",
		Short: "Measure a policy: time, fuel and memory of a decision",
		Long: `Measure how long a module, or the policy.wasm of a project's folder, takes to
compile and to answer: in a fresh instance for each question, which is what hosts
do by default, and in instances that are kept, for modules that are trusted.`,
		Example: `  tmcp policy bench policy.wasm
  tmcp policy bench . --document gpu --time 5s`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) != 1:
				return usagef("%s takes one module, found %d arguments", cmd.CommandPath(), len(args))
			case each < time.Millisecond || each > time.Hour:
				return usagef("--time %v: want 1ms to 1h", each)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			module, _, err := readModule(cmd, args[0])
			if err != nil {
				return err
			}
			r, err := bench(cmd, module, doc, each)
			if err != nil {
				return err
			}
			if asJSON {
				return printPolicy(cmd.OutOrStdout(), r)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "document %s of %d bytes: %s, %d fuel, %d pages of memory\n", printable(r.Document), r.Bytes, r.Decision, r.Fuel, r.Pages)
			for _, e := range engines() {
				fmt.Fprintf(w, "load, %-12s %10.1f ms\n", engineName(e), r.Compile[engineName(e)]/1000)
			}
			for _, mode := range []string{"fresh", "pooled"} {
				b := r.Modes[mode]
				fmt.Fprintf(w, "%-6s p50 %8.1f µs  p99 %8.1f µs  %9.0f/s, on %d processors %9.0f/s\n", mode, b.P50, b.P99, b.PerSec, goruntime.GOMAXPROCS(0), b.Parallel)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&doc, "document", "", "file of a document, or name of a sample (default: one that fits)")
	f.DurationVar(&each, "time", time.Second, "how long each figure is measured")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func engineName(e policywasm.Engine) string {
	if e == policywasm.Compiler {
		return "compiler"
	}
	return "interpreter"
}

func bench(cmd *cobra.Command, module []byte, doc string, each time.Duration) (*benchReport, error) {
	ctx := cmd.Context()
	r := &benchReport{Compile: map[string]float64{}, Modes: map[string]benchRow{}}
	memory := runtime.NewMemory(0)
	defer memory.Close()
	for _, e := range engines() {
		start := time.Now()
		p, err := build.Load(ctx, module, authorCaps(e))
		if err != nil {
			return nil, refused(err)
		}
		r.Compile[engineName(e)] = micros(time.Since(start))
		_ = p.Close(ctx)
	}
	for mode, pool := range map[string]int{"fresh": 0, "pooled": goruntime.GOMAXPROCS(0)} {
		caps := authorCaps(engines()[0])
		caps.Pool, caps.Memory = pool, memory
		p, err := build.Load(ctx, module, caps)
		if err != nil {
			return nil, refused(err)
		}
		if doc == "" {
			doc = fitting(p.Metadata())
		}
		ask, err := r.question(cmd, p, doc)
		if err == nil {
			if r.Modes[mode], err = timeAll(ctx, ask, each); err != nil {
				err = fmt.Errorf("%s instances: %w", mode, err)
			}
		}
		_ = p.Close(context.WithoutCancel(ctx))
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// fitting is a sample that a policy is made for.
func fitting(m policywasm.Metadata) string {
	switch {
	case !slices.Contains(m.Entries, policywasm.Appraise):
		return "call-attested"
	case m.Development:
		return "simulated"
	}
	return "tdx"
}

// question asks once for the report, and returns what asks again.
func (r *benchReport) question(cmd *cobra.Command, p *policywasm.Policy, doc string) (func() *policywasm.Result, error) {
	d, err := readDocument(cmd, doc)
	if err != nil {
		return nil, err
	}
	text, err := d.JSON()
	if err != nil {
		return nil, err
	}
	call, err := policytest.Question(p.Metadata(), text)
	if err != nil {
		return nil, err
	}
	b, err := call.Input.Bytes(p.Metadata().Encoding)
	if err != nil {
		return nil, err
	}
	a := policytest.AnswerOf(p.Evaluate(cmd.Context(), call))
	if a.Failure != nil {
		return nil, fmt.Errorf("%s: %s", doc, a.Line())
	}
	r.Policy, r.Document, r.Bytes, r.Decision, r.Fuel, r.Pages = a.Policy, doc, len(b), a.Decision, a.Fuel, a.Pages
	return func() *policywasm.Result { return p.Evaluate(cmd.Context(), call) }, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// timeAll asks for some time in a row, and then on all processors.
func timeAll(ctx context.Context, ask func() *policywasm.Result, each time.Duration) (row benchRow, err error) {
	for range 10 { // caches, and the pool
		ask()
	}
	const most = 1 << 20
	var took []time.Duration
	start := time.Now()
	for time.Since(start) < each && len(took) < most && ctx.Err() == nil {
		at := time.Now()
		if r := ask(); r.Failure != nil {
			return row, errors.Join(ctx.Err(), fmt.Errorf("after %d answers: %s", len(took), policytest.AnswerOf(r).Line()))
		}
		took = append(took, time.Since(at))
	}
	row.PerSec = float64(len(took)) / time.Since(start).Seconds()
	slices.Sort(took)
	row.P50, row.P99 = micros(took[len(took)/2]), micros(took[len(took)*99/100])
	var n atomic.Int64
	var wg sync.WaitGroup
	start = time.Now()
	for range goruntime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Since(start) < each && ctx.Err() == nil {
				ask()
				n.Add(1)
			}
		})
	}
	wg.Wait()
	row.Parallel = float64(n.Load()) / time.Since(start).Seconds()
	return row, ctx.Err()
}
