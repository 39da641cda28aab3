package policywasm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/corpus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func appraise(p *policywasm.Policy, in *policywasm.Input) *policywasm.Result {
	return p.Evaluate(context.Background(), policywasm.Call{Entry: policywasm.Appraise, Input: in})
}

func TestDecides(t *testing.T) {
	var fuel []uint64
	for name, e := range engines {
		t.Run(name, func(t *testing.T) {
			p := load(t, corpus.Debug().Module(), caps(e))
			r := appraise(p, input(t, `{"x":[1,2],"debug":false}`))
			if r.Failure != nil || r.Decision != policywasm.Allow || len(r.Reasons) != 1 || r.Vector["hardware"] != 2 || len(r.Vector) != 8 {
				t.Errorf("%+v", r)
			}
			if r.Policy != p.Digest() || r.Pages != 1 || r.Fuel == 0 {
				t.Errorf("%+v", r)
			}
			fuel = append(fuel, r.Fuel)
			for range 3 { // the same again
				if again := appraise(p, input(t, ` {"debug" : false, "x":[1,2]}`)); fmt.Sprint(again) != fmt.Sprint(r) {
					t.Errorf("%+v, then %+v", r, again)
				}
			}
			r = appraise(p, input(t, `{"debug":true}`))
			if r.Decision != policywasm.Deny || r.Failure != nil || len(r.Reasons) != 1 || r.Reasons[0].Code != "debug" || r.Reasons[0].Claim != "/debug" {
				t.Errorf("%+v", r)
			}
		})
	}
	if len(fuel) != 2 || fuel[0] != fuel[1] {
		t.Errorf("the engines used different fuel: %v", fuel)
	}
}

func TestAnswers(t *testing.T) {
	for answer, want := range map[string]policywasm.Decision{
		corpus.AllowAnswer: policywasm.Allow, corpus.DenyAnswer: policywasm.Deny, corpus.AbstainAnswer: policywasm.Abstain,
	} {
		p := load(t, corpus.Guest{Answer: answer}.Module(), caps(policywasm.Interpreter))
		if r := appraise(p, input(t, `{}`)); r.Decision != want || r.Failure != nil {
			t.Errorf("%s: %+v", answer, r)
		}
	}
	// Without a vector only authorize may allow; with one it may not answer.
	bare := load(t, corpus.Guest{Answer: `{"decision":"allow"}`}.Module(), caps(policywasm.Interpreter))
	authorize := policywasm.Call{Entry: policywasm.Authorize, Input: input(t, `{}`)}
	if r := bare.Evaluate(context.Background(), authorize); r.Decision != policywasm.Allow {
		t.Errorf("%+v", r)
	}
	whole := load(t, corpus.Guest{}.Module(), caps(policywasm.Interpreter))
	if r := whole.Evaluate(context.Background(), authorize); r.Failure == nil || r.Failure.Reason != policywasm.ReasonOutput {
		t.Errorf("%+v", r)
	}
}

func TestObligation(t *testing.T) {
	module := corpus.Guest{Answer: strings.Replace(corpus.AllowAnswer, `"obligations":[]`, `"obligations":[{"id":"max-session","value":3600}]`, 1)}.Module()
	c := caps(policywasm.Interpreter)
	c.Obligations = []string{"max-session"}
	r := appraise(load(t, module, c), input(t, `{}`))
	if r.Decision != policywasm.Allow || len(r.Obligations) != 1 || string(r.Obligations[0].Value) != "3600" {
		t.Errorf("%+v", r)
	}
}

// counter is a guest that traps when it runs for the second time in an instance.
func counter() corpus.Guest {
	trapUnlessZero := corpus.Code(0x23, 0, 0x04, corpus.Void, 0x00, 0x0b, corpus.Const(corpus.I32, 1), 0x24, 0)
	return corpus.Guest{
		Globals:  [][]byte{corpus.Cat(corpus.I32, 1, corpus.Const(corpus.I32, 0), 0x0b)},
		More:     [][]byte{trapUnlessZero},
		Allocate: corpus.Code(0x10, 4, corpus.Const(corpus.I32, 4096)),
	}
}

func TestNothingIsKept(t *testing.T) {
	for name, e := range engines {
		p := load(t, counter().Module(), caps(e))
		for i := range 3 {
			if r := appraise(p, input(t, `{}`)); r.Decision != policywasm.Allow {
				t.Errorf("%s: evaluation %d: %+v", name, i, r.Failure)
			}
		}
	}
}

// The start function and _initialize run, in this order, in each instance.
func TestInitialisation(t *testing.T) {
	add := func(was, is int64) []byte {
		return corpus.Code(0x23, 0, corpus.Const(corpus.I32, was), 0x47, 0x04, corpus.Void, 0x00, 0x0b, corpus.Const(corpus.I32, is), 0x24, 0)
	}
	g := corpus.Guest{
		Globals:  [][]byte{corpus.Cat(corpus.I32, 1, corpus.Const(corpus.I32, 0), 0x0b)},
		More:     [][]byte{add(0, 1), add(1, 2), add(2, 3)},
		Start:    corpus.U(4),
		Exports:  [][]byte{corpus.Export("_initialize", 0, 5)},
		Allocate: corpus.Code(0x10, 6, corpus.Const(corpus.I32, 4096)),
	}
	for name, e := range engines {
		p := load(t, g.Module(), caps(e))
		for range 2 {
			if r := appraise(p, input(t, `{}`)); r.Decision != policywasm.Allow {
				t.Errorf("%s: %v", name, r.Failure)
			}
		}
	}
}

// What a caller does to a result is not seen by the next one, who gets the same;
// and what one entry may answer is not taken from the other.
func TestResultsAreTheCallers(t *testing.T) {
	c := caps(policywasm.Interpreter)
	c.Obligations = []string{"max-session"}
	whole := strings.Replace(corpus.AllowAnswer, `"obligations":[]`, `"obligations":[{"id":"max-session","value":3600}]`, 1)
	p := load(t, corpus.Guest{Answer: whole}.Module(), c)
	for range 3 {
		r := appraise(p, input(t, `{}`))
		if r.Vector["hardware"] != 2 || r.Reasons[0].Code != "ok" || string(r.Obligations[0].Value) != "3600" || len(r.Obligations) != 1 {
			t.Fatalf("%+v", r)
		}
		r.Vector["hardware"], r.Reasons[0].Code, r.Obligations[0].Value[0], r.Obligations[0].ID = 97, "changed", '9', "other"
	}
	authorize := policywasm.Call{Entry: policywasm.Authorize, Input: input(t, `{}`)}
	if r := p.Evaluate(t.Context(), authorize); r.Failure == nil || r.Failure.Reason != policywasm.ReasonOutput {
		t.Errorf("a vector of authorize: %+v", r)
	}
}

func TestTime(t *testing.T) {
	p := load(t, corpus.Guest{Appraise: corpus.Code(corpus.Loop(), corpus.Const(corpus.I64, 0))}.Module(), caps(policywasm.Auto))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	call := policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `{}`)}
	if r := p.Evaluate(ctx, call); r.Failure == nil || r.Failure.Reason != policywasm.ReasonDeadline || r.Fuel != 0 {
		t.Errorf("over before it began: %+v", r)
	}
	var f *policywasm.Failure
	if _, err := policywasm.Load(ctx, corpus.Guest{}.Module(), caps(policywasm.Auto)); !errors.As(err, &f) || f.Reason != policywasm.ReasonDeadline {
		t.Errorf("loaded after the end: %v", err)
	}
	call.Fuel = policywasm.FuelFor(10 * time.Millisecond)
	started := time.Now()
	r := p.Evaluate(context.Background(), call)
	if r.Failure == nil || r.Failure.Reason != policywasm.ReasonDeadline || r.Fuel != 500_000 {
		t.Errorf("cut to the time left: %+v", r)
	}
	if d := time.Since(started); d > 500*time.Millisecond {
		t.Errorf("fuel for 10 ms took %v", d)
	}
	call.Fuel = 1 << 63 // above the cap is the cap
	if r := p.Evaluate(context.Background(), call); r.Failure == nil || r.Failure.Reason != policywasm.ReasonFuel {
		t.Errorf("%+v", r)
	}
	if policywasm.FuelFor(-time.Second) != 0 {
		t.Error("fuel for time that is over")
	}
}

// slow is a context that makes the engine wait where it asks for a value, which
// it does once the evaluation has its place.
type slow struct {
	context.Context
	held, release chan struct{}
	once          *sync.Once
}

func (s slow) Value(key any) any {
	s.once.Do(func() {
		close(s.held)
		<-s.release
	})
	return s.Context.Value(key)
}

func TestBusy(t *testing.T) {
	c := caps(policywasm.Interpreter)
	c.Concurrent = 1
	p := load(t, corpus.Guest{}.Module(), c)
	call := policywasm.Call{Entry: policywasm.Appraise, Input: input(t, `{}`)}
	first := slow{context.Background(), make(chan struct{}), make(chan struct{}), new(sync.Once)}
	var r *policywasm.Result
	var wg sync.WaitGroup
	wg.Go(func() { r = p.Evaluate(first, call) })
	<-first.held
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if r := p.Evaluate(ctx, call); r.Failure == nil || r.Failure.Reason != policywasm.ReasonBusy {
		t.Errorf("beside the one that is allowed: %+v", r)
	}
	close(first.release)
	wg.Wait()
	if r.Decision != policywasm.Allow {
		t.Errorf("%+v", r)
	}
}

func TestLog(t *testing.T) {
	imported := [][]byte{corpus.Cat(corpus.Sized([]byte("tmcp_1")), corpus.Sized([]byte("log")), 0, 4)}
	answer := corpus.AllowAnswer
	guest := func(pointer, n int64) []byte {
		return corpus.Guest{
			Imports: imported, Types: [][]byte{corpus.Type([]byte{corpus.I32, corpus.I32}, nil)},
			Appraise: corpus.Code(
				corpus.Const(corpus.I32, pointer), corpus.Const(corpus.I32, n), 0x10, 0,
				corpus.Const(corpus.I32, pointer), corpus.Const(corpus.I32, n), 0x10, 0,
				corpus.Packed(16, len(answer))),
		}.Module()
	}
	c := caps(policywasm.Auto)
	c.Log = 20
	for _, tt := range []struct {
		pointer, n int64
		want       string
	}{
		{16, 5, "{\"dec\n{\"dec\n"},
		{16, 15, "{\"decision\":\"al\n{\"de"}, // bounded
		{65535, 2, ""},                        // outside: nothing, and no trap
		{-1, -1, ""},
		{16, 0, "\n\n"},
	} {
		r := appraise(load(t, guest(tt.pointer, tt.n), c), input(t, `{}`))
		if r.Fuel != 409 { // three parameters, six constants and two calls of the host
			t.Errorf("%d units of fuel", r.Fuel)
		}
		if r.Decision != policywasm.Allow || string(r.Log) != tt.want {
			t.Errorf("log(%d, %d): %v %q; want %q", tt.pointer, tt.n, r.Failure, r.Log, tt.want)
		}
	}
	// Neither the table nor an export may hold the import, which is dear.
	for name, g := range map[string]corpus.Guest{
		"table":  {Table: corpus.Cat(0x70, 0, 1), Elements: [][]byte{corpus.Cat(0, corpus.Const(corpus.I32, 0), 0x0b, 1, 0)}},
		"export": {Exports: [][]byte{corpus.Export("l", 0, 0)}},
	} {
		g.Imports, g.Types = imported, [][]byte{corpus.Type([]byte{corpus.I32, corpus.I32}, nil)}
		if f, _, _ := outcome(t, g.Module(), c, nil); f == nil || f.Reason != policywasm.ReasonProfile {
			t.Errorf("%s: %v", name, f)
		}
	}
	g := corpus.Guest{Imports: [][]byte{corpus.Cat(corpus.Sized([]byte("tmcp_1")), corpus.Sized([]byte("log")), 0, 0)}}
	if f, _, _ := outcome(t, g.Module(), c, nil); f == nil || f.Reason != policywasm.ReasonSignature {
		t.Errorf("log of another type: %v", f)
	}
}

// echo returns its input, so what it was given shows in the failure or result.
func echo(enc policywasm.Encoding) corpus.Guest {
	m := corpus.Meta()
	m.Encoding = enc
	body := corpus.Code(0x20, 0, 0xad, corpus.Const(corpus.I64, 32), 0x86, 0x20, 1, 0xad, 0x84)
	return corpus.Guest{Metadata: m, Appraise: body, Authorize: body}
}

func TestEncodings(t *testing.T) {
	for _, enc := range []policywasm.Encoding{policywasm.JSON, policywasm.CBOR} {
		p := load(t, echo(enc).Module(), caps(policywasm.Auto))
		doc := ` {"reasons" : [{"text":"\u0061\u00e4","code":"b-1"}], "decision":"deny"}`
		r := appraise(p, input(t, doc))
		if r.Failure != nil || r.Decision != policywasm.Deny || len(r.Reasons) != 1 || r.Reasons[0] != (policywasm.Reason{Code: "b-1", Text: "aä"}) {
			t.Errorf("%s: %+v", enc, r)
		}
	}
}

func TestInput(t *testing.T) {
	for doc, want := range map[string]string{
		`{"b":1,"a":[true,null,"\u0041"]}`: `{"a":[true,null,"A"],"b":1}`,
		`{"n":-9007199254740991}`:          `{"n":-9007199254740991}`,
		`{"a":1,"a":2}`:                    "",
		`{"n":1.0}`:                        "",
		`{"n":1e3}`:                        "",
		`{"n":-0}`:                         "",
		`{"n":9007199254740992}`:           "",
		`{"n":12345678901234567890}`:       "",
		`{"n":1}{}`:                        "",
		`{"s":"` + "\xff" + `"}`:           "",
		`{"s":"\ud800"}`:                   "",
		``:                                 "",
		strings.Repeat("[", 33) + strings.Repeat("]", 33): "",
		`"` + strings.Repeat("x", 200) + `"`:              "",
	} {
		in, err := policywasm.NewInput([]byte(doc), 200)
		if (err == nil) != (want != "") {
			t.Errorf("%.60s: %v", doc, err)
			continue
		}
		if err == nil {
			if b, _ := in.Bytes(policywasm.JSON); string(b) != want {
				t.Errorf("%s: %s", doc, b)
			}
		}
	}
	p := load(t, corpus.Guest{}.Module(), caps(policywasm.Interpreter))
	for _, in := range []*policywasm.Input{nil, {}} {
		if r := appraise(p, in); r.Failure == nil || r.Failure.Reason != policywasm.ReasonInput {
			t.Errorf("no document: %+v", r)
		}
	}
	c := caps(policywasm.Interpreter)
	c.Input = 10
	p = load(t, corpus.Guest{}.Module(), c)
	if r := appraise(p, input(t, `{"a":"0123456789"}`)); r.Failure == nil || r.Failure.Reason != policywasm.ReasonInput {
		t.Errorf("beyond the cap: %+v", r)
	}
}

func TestMetadata(t *testing.T) {
	m := corpus.Meta()
	m.Fuel, m.Pages = 1_000_000, 4
	b := m.Append(nil)
	got, err := policywasm.ParseMetadata(b)
	if err != nil || !bytes.Equal(got.Append(nil), b) {
		t.Fatalf("%+v %v", got, err)
	}
	p := load(t, corpus.Guest{Metadata: m}.Module(), caps(policywasm.Interpreter))
	if p.Metadata().Name != "guest" || p.Metadata().Pages != 4 || p.Floats() {
		t.Errorf("%+v", p.Metadata())
	}
	for name, change := range map[string]func(*policywasm.Metadata){
		"no name":     func(m *policywasm.Metadata) { m.Name = "" },
		"no version":  func(m *policywasm.Metadata) { m.Version = "" },
		"long":        func(m *policywasm.Metadata) { m.Author = strings.Repeat("a", 129) },
		"no entries":  func(m *policywasm.Metadata) { m.Entries = nil },
		"entry twice": func(m *policywasm.Metadata) { m.Entries = []policywasm.Entry{"appraise", "appraise"} },
		"other entry": func(m *policywasm.Metadata) { m.Entries = []policywasm.Entry{"evaluate"} },
		"encoding":    func(m *policywasm.Metadata) { m.Encoding = "JSON" },
		"input, long": func(m *policywasm.Metadata) { m.Inputs = []string{strings.Repeat("a", 129)} },
		"inputs, many": func(m *policywasm.Metadata) {
			for i := range 257 {
				m.Inputs = append(m.Inputs, fmt.Sprint("/", i))
			}
		},
		"inputs, twice": func(m *policywasm.Metadata) { m.Inputs = []string{"/a", "/a"} },
	} {
		m := corpus.Meta()
		change(m)
		if _, err := policywasm.ParseMetadata(m.Append(nil)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for n := range b {
		if _, err := policywasm.ParseMetadata(b[:n]); err == nil {
			t.Errorf("the first %d bytes are taken", n)
		}
	}
}

func TestObserve(t *testing.T) {
	var began, ended int
	c := caps(policywasm.Interpreter)
	c.Observe = func(p *policywasm.Policy, e policywasm.Entry) func(*policywasm.Result) {
		began++
		return func(r *policywasm.Result) {
			if ended++; r.Policy != p.Digest() || e != policywasm.Appraise || r.Decision != policywasm.Allow {
				t.Errorf("%s: %+v", e, r)
			}
		}
	}
	p := load(t, corpus.Guest{}.Module(), c)
	appraise(p, input(t, `{}`))
	if began != 1 || ended != 1 {
		t.Errorf("began %d, ended %d", began, ended)
	}
}

// Good and hostile evaluations of several policies at one time do not touch each
// other.
func TestConcurrent(t *testing.T) {
	c := caps(policywasm.Auto)
	c.Fuel = 2_000_000
	good := load(t, corpus.Debug().Module(), c)
	bad := load(t, corpus.Guest{Appraise: corpus.Code(corpus.Loop(), corpus.Const(corpus.I64, 0))}.Module(), c)
	yes, no := input(t, `{"debug":false}`), input(t, `{"debug":true}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if r := appraise(good, yes); r.Decision != policywasm.Allow {
					t.Errorf("%+v", r)
				}
				if r := appraise(good, no); r.Decision != policywasm.Deny || r.Failure != nil {
					t.Errorf("%+v", r)
				}
				if r := appraise(bad, yes); r.Failure == nil || r.Failure.Reason != policywasm.ReasonFuel {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	wg.Wait()
}

func Example() {
	ctx := context.Background()
	module := corpus.Debug().Module() // a file, as a rule
	policy, err := policywasm.Load(ctx, module, policywasm.Defaults())
	if err != nil {
		fmt.Println(err) // the reason, and the rule that the module breaks
		return
	}
	defer policy.Close(ctx)
	in, err := policywasm.NewInput([]byte(`{"debug":true}`), 1<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	r := policy.Evaluate(ctx, policywasm.Call{Entry: policywasm.Appraise, Input: in})
	fmt.Println(r.Decision, r.Reasons[0].Text)
	// Output: deny debugging is possible
}

func FuzzDecodeResult(f *testing.F) {
	for _, s := range []string{corpus.AllowAnswer, corpus.DenyAnswer, corpus.AbstainAnswer, `{"decision":"allow","obligations":[{"id":"a","value":{}}]}`} {
		f.Add([]byte(s), false)
		in, err := policywasm.NewInput([]byte(s), 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		b, err := in.Bytes(policywasm.CBOR)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, cbor bool) {
		enc := policywasm.JSON
		if cbor {
			enc = policywasm.CBOR
		}
		r, err := policywasm.DecodeResult(b, enc, policywasm.Appraise)
		if err != nil {
			return
		}
		if len(r.Reasons) > 32 || len(r.Obligations) > 16 || len(r.Vector) > 8 || r.Failure != nil {
			t.Errorf("%+v", r)
		}
		if !cbor { // one data model: the CBOR of it says the same
			in, err := policywasm.NewInput(b, 1<<20)
			if err != nil {
				return // floats
			}
			c, err := in.Bytes(policywasm.CBOR)
			if err != nil {
				t.Fatal(err)
			}
			s, err := policywasm.DecodeResult(c, policywasm.CBOR, policywasm.Appraise)
			if err != nil || s.Decision != r.Decision || len(s.Reasons) != len(r.Reasons) {
				t.Errorf("%+v, as CBOR %+v %v", r, s, err)
			}
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add(corpus.Meta().Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := policywasm.ParseMetadata(b); err == nil && !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%x is read, and written as %x", b, m.Append(nil))
		}
	})
}

// BenchmarkEvaluate has a small guest look through a document of 4 KiB, in a
// fresh instance each time, and in a pooled one.
func BenchmarkEvaluate(b *testing.B) {
	doc := `{"a":"` + strings.Repeat("x", 4000) + `","debug":false}`
	for name, c := range map[string]policywasm.Caps{
		"compiler": caps(policywasm.Compiler), "interpreter": caps(policywasm.Interpreter), "pooled": pooled(policywasm.Compiler, 4),
	} {
		b.Run(name, func(b *testing.B) {
			p := load(b, corpus.Debug().Module(), c)
			in := input(b, doc)
			b.ReportAllocs()
			for b.Loop() {
				if r := appraise(p, in); r.Decision != policywasm.Allow {
					b.Fatal(r.Failure)
				}
			}
		})
	}
}

func BenchmarkDecodeResult(b *testing.B) {
	in := input(b, corpus.AllowAnswer)
	for _, enc := range []policywasm.Encoding{policywasm.JSON, policywasm.CBOR} {
		b.Run(string(enc), func(b *testing.B) {
			out, err := in.Bytes(enc)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := policywasm.DecodeResult(out, enc, policywasm.Appraise); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInput(b *testing.B) {
	doc := []byte(`{"a":"` + strings.Repeat("x", 4000) + `","debug":false}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := policywasm.NewInput(doc, 1<<20); err != nil {
			b.Fatal(err)
		}
	}
}
