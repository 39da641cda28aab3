package guesttest

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/trustedmcp/tmcp/internal/dcbor"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// Module tests a module of the policy starter or grace as the compiler made it,
// without metadata.
func Module(t *testing.T, policy string, raw []byte) {
	t.Helper()
	meta := Metadata(policy, policywasm.CBOR)
	module := WithMetadata(raw, meta)
	var engines []policywasm.Evaluator
	for _, e := range []policywasm.Engine{policywasm.Compiler, policywasm.Interpreter} {
		p, err := policywasm.Load(t.Context(), module, Caps(e))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close(context.Background()) })
		engines = append(engines, p)
	}
	Decisions(t, policy, false, engines...)

	run := instantiator(t, raw)
	for _, in := range Inputs(t, policy) {
		got := run(in.Entry, in.CBOR)
		if want := Reference(policy, string(in.Entry), in.Document); !bytes.Equal(got, want) {
			t.Fatalf("%s: a document is answered with other bytes than the reference's:\ninput %x\nwant  %q\ngot   %q", in.Entry, in.CBOR, want, got)
		}
	}
	for _, in := range damaged(t, policy) {
		want := malformed
		if in.Document != nil {
			want = Reference(policy, string(in.Entry), in.Document)
		}
		if got := run(in.Entry, in.CBOR); !bytes.Equal(got, want) {
			t.Fatalf("%s: damaged bytes are answered with other bytes than the reference's:\ninput %x\nwant  %q\ngot   %q", in.Entry, in.CBOR, want, got)
		}
	}
	for _, entry := range meta.Entries {
		for why, b := range Malformed() {
			if got := run(entry, b); !bytes.Equal(got, malformed) {
				t.Errorf("%s: %s: input %x: want %q, got %q", entry, why, b, malformed, got)
			}
		}
	}
}

// WithMetadata appends the custom section that makes a policy of a module.
func WithMetadata(raw []byte, m policywasm.Metadata) []byte {
	leb := func(b []byte, n int) []byte {
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(b, byte(n))
	}
	content := m.Append(append(leb(nil, len(scan.Metadata)), scan.Metadata...))
	return append(leb(append(slices.Clone(raw), 0), len(content)), content...)
}

// instantiator returns a function that asks a fresh instance, outside of our
// host, and returns the bytes of its answer.
func instantiator(t *testing.T, raw []byte) func(policywasm.Entry, []byte) []byte {
	t.Helper()
	ctx := t.Context()
	rt := wazero.NewRuntime(ctx)
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.NewHostModuleBuilder("tmcp_1").NewFunctionBuilder().WithFunc(func(uint32, uint32) {}).Export("log").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	compiled, err := rt.CompileModule(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	return func(entry policywasm.Entry, in []byte) []byte {
		m, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize"))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close(ctx)
		out, err := ask(ctx, m, entry, in)
		if err != nil {
			t.Fatalf("%s: input %x: %v", entry, in, err)
		}
		return out
	}
}

func ask(ctx context.Context, m api.Module, entry policywasm.Entry, in []byte) ([]byte, error) {
	r, err := m.ExportedFunction("tmcp_allocate").Call(ctx, uint64(len(in)))
	if err != nil {
		return nil, err
	}
	at := uint32(r[0])
	if at == 0 || !m.Memory().Write(at, in) {
		return nil, fmt.Errorf("no room at %#x", at)
	}
	if r, err = m.ExportedFunction("tmcp_"+string(entry)).Call(ctx, uint64(at), uint64(len(in))); err != nil {
		return nil, err
	}
	out, ok := m.Memory().Read(uint32(r[0]>>32), uint32(r[0]))
	if !ok {
		return nil, fmt.Errorf("no result at %#x", r[0])
	}
	return slices.Clone(out), nil
}

// An Input is one document.
type Input struct {
	Entry    policywasm.Entry
	CBOR     []byte
	Document any // as [Reference] takes it
}

// Inputs are the documents of a policy's tests, and those documents damaged: some
// thousand, each once.
func Inputs(t *testing.T, policy string) []Input {
	t.Helper()
	r := &recorder{Evaluator: Oracle(policy), seen: map[string]bool{}}
	Decisions(t, policy, true, r)
	return r.inputs
}

// damaged are documents with some bytes changed, the same ones each time. Where
// Document is nil the bytes are no document.
func damaged(t *testing.T, policy string) []Input {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := Inputs(t, policy)
	var out []Input
	for range 500 {
		in := all[rnd.IntN(len(all))]
		b := slices.Clone(in.CBOR)
		for range 1 + rnd.IntN(2) {
			i := rnd.IntN(len(b))
			switch rnd.IntN(5) {
			case 0:
				b[i] = byte(rnd.Uint32())
			case 1:
				b[i] ^= 1 << rnd.IntN(8)
			case 2:
				b = slices.Delete(b, i, i+1)
			case 3:
				b = slices.Insert(b, i, byte(rnd.Uint32()))
			case 4:
				b = b[:i+1]
			}
		}
		out = append(out, Input{in.Entry, b, decodeCBOR(b)})
	}
	return out
}

// decodeCBOR decodes b, or returns nil if it is no document in its one spelling.
func decodeCBOR(b []byte) any {
	text, err := dcbor.ToJSON(nil, b)
	if err != nil {
		return nil
	}
	in, err := policywasm.NewInput(text, 1<<20)
	if err != nil {
		return nil
	}
	if again, err := in.Bytes(policywasm.CBOR); err != nil || !bytes.Equal(again, b) {
		return nil
	}
	doc, err := Decode(text)
	if err != nil {
		return nil
	}
	return doc
}

// A recorder keeps what an evaluator is asked.
type recorder struct {
	policywasm.Evaluator
	mu     sync.Mutex
	seen   map[string]bool
	inputs []Input
}

func (r *recorder) Evaluate(ctx context.Context, c policywasm.Call) *policywasm.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := c.Input.Bytes(policywasm.JSON)
	if err == nil && !r.seen[string(c.Entry)+string(text)] {
		r.seen[string(c.Entry)+string(text)] = true
		in := Input{Entry: c.Entry}
		if in.Document, err = Decode(text); err == nil {
			in.CBOR, err = c.Input.Bytes(policywasm.CBOR)
		}
		r.inputs = append(r.inputs, in)
	}
	if err != nil {
		return &policywasm.Result{Failure: &policywasm.Failure{Reason: policywasm.ReasonInput, Detail: err.Error()}}
	}
	return r.Evaluator.Evaluate(ctx, c)
}

var malformed = func() []byte {
	r := &result{fault: &reason{"input-malformed", "the input is not deterministic CBOR of a document", ""}}
	return r.encode()
}()

// Malformed are inputs that are no documents, by what is wrong with them.
func Malformed() map[string][]byte {
	out := map[string][]byte{
		"nothing":        {},
		"33 levels":      append(bytes.Repeat([]byte{0x81}, 32), 0x80),
		"1000 levels":    append(bytes.Repeat([]byte{0x81}, 1000), 0x80),
		"only the start": bytes.Repeat([]byte{0xa1, 0x61, 'a'}, 5),
	}
	for why, s := range map[string]string{
		"two items":                     "f6f6",
		"a map that ends early":         "a1",
		"a map without its value":       "a16161",
		"an array that ends early":      "82f6",
		"a huge array":                  "9b7fffffffffffffff",
		"an array of 2^32 elements":     "9b0000000100000000",
		"a huge map":                    "bb7fffffffffffffff",
		"a map of 2^31 members":         "ba80000000",
		"a huge text":                   "7b7fffffffffffffff",
		"a text of 2^32-1 bytes":        "7affffffff",
		"a text that ends early":        "6261",
		"an integer in too many bytes":  "1817",
		"an integer in 2 bytes for 1":   "1900ff",
		"an integer in 4 bytes for 2":   "1a0000ffff",
		"an integer in 8 bytes for 4":   "1b00000000ffffffff",
		"an integer that ends early":    "19ff",
		"a length in too many bytes":    "7800",
		"2^53":                          "1b0020000000000000",
		"-2^53":                         "3b001fffffffffffff",
		"2^64-1":                        "1bffffffffffffffff",
		"-2^64":                         "3bffffffffffffffff",
		"a byte string":                 "4161",
		"a tag":                         "c100",
		"a float of 2 bytes":            "f93e00",
		"a float of 4 bytes":            "fa3fc00001",
		"a float of 8 bytes":            "fb3ff8000000000001",
		"undefined":                     "f7",
		"a simple value":                "e0",
		"a simple value in two bytes":   "f8ff",
		"false in two bytes":            "f814",
		"a break":                       "ff",
		"an indefinite array":           "9fff",
		"an indefinite map":             "bfff",
		"an indefinite text":            "7fff",
		"additional information 28":     "1c",
		"keys out of order":             "a2616200616100",
		"a key twice":                   "a2616100616100",
		"keys ordered without length":   "a262616100616200",
		"a key that is an integer":      "a10000",
		"a key that is null":            "a1f600",
		"a key of bytes":                "a1416100",
		"text with a lone continuation": "6180",
		"text with a cut character":     "62c3",
		"text with two bytes for one":   "62c080",
		"text with a surrogate":         "63eda080",
		"text beyond Unicode":           "64f4908080",
		"text with byte ff":             "61ff",
		"text with an overlong E0":      "63e08080",
		"text with an overlong F0":      "64f0808080",
		"a key that is no UTF-8":        "a161ff00",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			panic(err)
		}
		out[why] = b
	}
	return out
}
