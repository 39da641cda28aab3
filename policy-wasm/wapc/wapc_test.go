package wapc_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	. "github.com/trustedmcp/tmcp/policy-wasm/corpus"
	"github.com/trustedmcp/tmcp/policy-wasm/wapc"
)

func caps(e policywasm.Engine) policywasm.Caps {
	c := policywasm.Defaults()
	c.Engine, c.Concurrent, c.Fuel = e, 2, 10_000_000
	return c
}

var engines = map[string]policywasm.Engine{"compiler": policywasm.Auto, "interpreter": policywasm.Interpreter}

func meta(entries ...policywasm.Entry) *policywasm.Metadata {
	m := Meta()
	m.Entries = entries
	return m
}

// Places in the memory of a guest.
const (
	opAt       = 256
	versionAt  = 512
	validAt    = 1024
	acceptedAt = 2048
	rejectedAt = 4096
	requestAt  = 8192
)

// Functions that a guest imports, in their order; then its own.
const (
	funcRequest = iota
	funcResponse
	funcError
	funcHostCall
	funcHostErrorLen
	funcHostError
	funcLog
	imported
)

// before stands in front of the call's name in each request.
const before = `{"request":{"dryRun":false,"kind":{"group":"trustedmcp","version":"v1","kind":"Document"},"name":"`

// A guest speaks waPC. Its zero value accepts calls whose name begins with g.
type guest struct {
	version  string // its answers; default: good ones
	valid    string
	accepted string
	rejected string
	body     []byte // of __guest_call
	init     []byte // of wapc_init; nil: there is none
	start    []byte // of the start function
	without  string // name of an export
	retype   byte   // another type of __guest_call
	imports  [][]byte
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func (g guest) answers() (version, valid, accepted, rejected string) {
	return orText(g.version, `"v1"`), orText(g.valid, `{"valid":true}`), orText(g.accepted, `{"accepted":true}`), orText(g.rejected, `{"accepted":false,"message":"no \"x\""}`)
}

// respond answers with n bytes at that place, and ends.
func respond(at, n int) []byte {
	return Cat(Const(I32, int64(at)), Const(I32, int64(n)), 0x10, funcResponse, Const(I32, 1), 0x0f)
}

func (g guest) module() []byte {
	version, valid, accepted, rejected := g.answers()
	when := func(size int, ins []byte) []byte { // the operation is told by its length
		return Cat(0x20, 0, Const(I32, int64(size)), 0x46, 0x04, Void, ins, 0x0b)
	}
	body := g.body
	if body == nil {
		body = Code(Const(I32, opAt), Const(I32, requestAt), 0x10, funcRequest,
			when(len("protocol_version"), respond(versionAt, len(version))),
			when(len("validate_settings"), respond(validAt, len(valid))),
			Const(I32, requestAt+int64(len(before))), 0x2d, 0, 0, Const(I32, 'g'), 0x46, 0x04, Void, respond(acceptedAt, len(accepted)), 0x0b,
			respond(rejectedAt, len(rejected)), 0x00)
	}
	many := func(n int) []byte { return bytes.Repeat([]byte{I32}, n) }
	types := [][]byte{Type(nil, nil), Type(many(2), nil), Type(many(8), many(1)), Type(nil, many(1)), Type(many(1), nil), Type(many(2), many(1))}
	imp := func(name string, typ byte) []byte {
		return Cat(Sized([]byte("wapc")), Sized([]byte(name)), 0, typ)
	}
	imports := append([][]byte{
		imp("__guest_request", 1), imp("__guest_response", 1), imp("__guest_error", 1), imp("__host_call", 2),
		imp("__host_error_len", 3), imp("__host_error", 4), imp("__console_log", 1),
	}, g.imports...)
	n := len(imports)
	typ := byte(5)
	if g.retype != 0 {
		typ, body = g.retype, Code()
	}
	nop := func(b []byte) []byte {
		if b == nil {
			return Code()
		}
		return b
	}
	var exports [][]byte
	for _, e := range []struct {
		name  string
		kind  byte
		index int
	}{{"memory", 2, 0}, {"__guest_call", 0, n}, {"wapc_init", 0, n + 1}} {
		if e.name != g.without && (e.name != "wapc_init" || g.init != nil) {
			exports = append(exports, Export(e.name, e.kind, e.index))
		}
	}
	out := Raw(Section(1, Vec(types...)), Section(2, Vec(imports...)), Section(3, Vec([]byte{typ}, []byte{0}, []byte{0})),
		Section(5, Vec([]byte{0, 1})), Section(7, Vec(exports...)))
	if g.start != nil {
		out = append(out, Section(8, U(uint64(n+2)))...)
	}
	out = append(out, Section(10, Vec(Sized(body), Sized(nop(g.init)), Sized(nop(g.start))))...)
	var data [][]byte
	for at, s := range map[int64]string{versionAt: version, validAt: valid, acceptedAt: accepted, rejectedAt: rejected} {
		data = append(data, Cat(0, Const(I32, at), 0x0b, Sized([]byte(s))))
	}
	return append(out, Section(11, Vec(data...))...)
}

func ask(t testing.TB, p *policywasm.Policy, name string) *policywasm.Result {
	t.Helper()
	in, err := policywasm.NewInput([]byte(`{"call":{"name":"`+name+`"},"peer":{"identity":null},"settings":null}`), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return p.Evaluate(t.Context(), policywasm.Call{Entry: policywasm.Authorize, Input: in})
}

func TestAuthorize(t *testing.T) {
	for engine, e := range engines {
		for _, pool := range []int{0, 1} {
			c := caps(e)
			c.Pool = pool
			p, err := wapc.Load(t.Context(), guest{init: Code()}.module(), c, meta(policywasm.Authorize))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Close(context.Background()) })
			for range 3 {
				if r := ask(t, p, "get_weather"); r.Decision != policywasm.Allow || r.Failure != nil || len(r.Reasons) != 0 {
					t.Errorf("%s: %+v %v", engine, r, r.Failure)
				}
				if r := ask(t, p, "send_mail"); r.Decision != policywasm.Deny || r.Failure != nil || len(r.Reasons) != 1 || r.Reasons[0].Code != "rejected" || r.Reasons[0].Text != `no "x"` {
					t.Errorf("%s: %+v %v", engine, r, r.Failure)
				}
			}
		}
	}
	if !wapc.Is(guest{}.module()) || wapc.Is(Guest{}.Module()) {
		t.Error("modules of waPC are not told from others")
	}
}

// TestHostile: guests that break the contract end in a reason of their own.
func TestHostile(t *testing.T) {
	validate := func(ins ...any) guest { // good until it is asked to validate
		return guest{body: Code(
			0x20, 0, Const(I32, 16), 0x46, 0x04, Void, respond(versionAt, 4), 0x0b,
			0x20, 0, Const(I32, 17), 0x46, 0x04, Void, respond(validAt, 14), 0x0b,
			Cat(ins...))}
	}
	imp := func(module, name string, typ byte) guest {
		return guest{imports: [][]byte{Cat(Sized([]byte(module)), Sized([]byte(name)), 0, typ)}}
	}
	hostCall := Cat(bytes.Repeat(Const(I32, 0), 8), 0x10, funcHostCall)
	for name, tt := range map[string]struct {
		guest guest
		load  bool
		want  string
		says  string
	}{
		"import-unknown":      {imp("wapc", "__host_now", 1), true, policywasm.ReasonImport, ""},
		"import-type":         {imp("wapc", "__host_response", 1), true, policywasm.ReasonSignature, ""},
		"import-other":        {imp("env", "now", 3), true, policywasm.ReasonImport, ""},
		"export-call":         {guest{without: "__guest_call"}, true, policywasm.ReasonExport, ""},
		"export-memory":       {guest{without: "memory"}, true, policywasm.ReasonExport, ""},
		"call-type":           {guest{retype: 1}, true, policywasm.ReasonSignature, ""},
		"version":             {guest{version: `"v2"`}, true, policywasm.ReasonABI, "v2"},
		"settings":            {guest{valid: `{"valid":false,"message":"no"}`}, false, policywasm.ReasonInput, `"no"`},
		"settings-undecided":  {guest{valid: `{}`}, false, policywasm.ReasonOutput, "valid"},
		"accepted-text":       {guest{accepted: `{"accepted":"true"}`}, false, policywasm.ReasonOutput, ""},
		"accepted-twice":      {guest{accepted: `{"accepted":false,"accepted":true}`}, false, policywasm.ReasonOutput, ""},
		"accepted-missing":    {guest{accepted: `{"message":"yes"}`}, false, policywasm.ReasonOutput, ""},
		"accepted-unknown":    {guest{accepted: `{"accepted":true,"allowed":true}`}, false, policywasm.ReasonOutput, "allowed"},
		"mutates":             {guest{accepted: `{"accepted":true,"mutated_object":{}}`}, false, policywasm.ReasonOutput, "change"},
		"response-array":      {guest{accepted: `[true]`}, false, policywasm.ReasonOutput, ""},
		"response-none":       {validate(Const(I32, 1)), false, policywasm.ReasonOutput, "no response"},
		"response-outside":    {validate(respond(65535, 2), 0), false, policywasm.ReasonOutput, ""},
		"response-minus":      {validate(respond(-1, 2), 0), false, policywasm.ReasonOutput, ""},
		"response-huge":       {validate(respond(0, -1), 0), false, policywasm.ReasonOversize, ""},
		"request-outside":     {validate(Const(I32, -1), Const(I32, 0), 0x10, funcRequest, Const(I32, 1)), false, policywasm.ReasonAllocate, ""},
		"request-no-room":     {validate(Const(I32, 0), Const(I32, 65530), 0x10, funcRequest, Const(I32, 1)), false, policywasm.ReasonAllocate, ""},
		"request-endless":     {validate(Loop(Const(I32, opAt), Const(I32, requestAt), 0x10, funcRequest), Const(I32, 1)), false, policywasm.ReasonFuel, ""},
		"fails":               {validate(Const(I32, rejectedAt), Const(I32, 22), 0x10, funcError, Const(I32, 0)), false, policywasm.ReasonTrap, "accepted"},
		"fails-huge":          {validate(Const(I32, 0), Const(I32, -1), 0x10, funcError, Const(I32, 0)), false, policywasm.ReasonTrap, ""},
		"fails-outside":       {validate(Const(I32, -1), Const(I32, 8), 0x10, funcError, Const(I32, 0)), false, policywasm.ReasonOutput, ""},
		"result-two":          {validate(Const(I32, 2)), false, policywasm.ReasonTrap, ""},
		"host-call":           {validate(hostCall), false, policywasm.ReasonTrap, "capability"},
		"host-error-outside":  {validate(hostCall, 0x1a, Const(I32, -1), 0x10, funcHostError, Const(I32, 0)), false, policywasm.ReasonTrap, ""},
		"response-at-start":   {guest{start: Code(Const(I32, 0), Const(I32, 1), 0x10, funcResponse)}, true, policywasm.ReasonTrap, ""},
		"loop":                {validate(Loop(), Const(I32, 1)), false, policywasm.ReasonFuel, ""},
		"loop-init":           {guest{init: Code(Loop())}, true, policywasm.ReasonFuel, ""},
		"recursion":           {validate(0x20, 0, 0x20, 1, 0x10, imported), false, policywasm.ReasonDepth, ""},
		"undecided-by-memory": {validate(Const(I32, 2000), 0x40, 0, 0x1a, 0x00), false, policywasm.ReasonMemory, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for engine, e := range engines {
				p, err := wapc.Load(t.Context(), tt.guest.module(), caps(e), meta(policywasm.Authorize))
				var f *policywasm.Failure
				if err != nil && !errors.As(err, &f) {
					t.Fatal(err)
				}
				if err == nil {
					f = ask(t, p, "g").Failure
					if err := p.Close(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if (err != nil) != tt.load || f == nil || f.Reason != tt.want || !strings.Contains(f.Detail, tt.says) || len(f.Detail) > 256 {
					t.Errorf("%s: want %s (%s), got %v", engine, tt.want, tt.says, f)
				}
			}
		})
	}
}

// A module of waPC can't be asked to appraise, and takes no CBOR.
func TestEntries(t *testing.T) {
	cbor := meta(policywasm.Authorize)
	cbor.Encoding = policywasm.CBOR
	for _, m := range []*policywasm.Metadata{nil, meta(policywasm.Appraise), meta(policywasm.Appraise, policywasm.Authorize), cbor} {
		var f *policywasm.Failure
		if _, err := wapc.Load(t.Context(), guest{}.module(), caps(policywasm.Interpreter), m); !errors.As(err, &f) || f.Reason != policywasm.ReasonMetadata {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// What the host copies for a guest is paid for: a unit for 16 bytes.
func TestCopiesArePaid(t *testing.T) {
	p, err := wapc.Load(t.Context(), guest{}.module(), caps(policywasm.Auto), meta(policywasm.Authorize))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	short, long := ask(t, p, "g"), ask(t, p, "g"+strings.Repeat("x", 16_000)) // it stands twice in the request
	if got := long.Fuel - short.Fuel; long.Decision != policywasm.Allow || got < 1999 || got > 2001 {
		t.Errorf("%d units for 32,000 bytes more: %v", got, long.Failure)
	}
}

// Upper halves of parameters are dirty in engines, and mean nothing.
func TestDirty(t *testing.T) {
	dirty := func(n int64) []byte { // not constant: n + (0 · size)
		return Cat(0x20, 1, Const(I32, 0), 0x6c, 0xad, Const(I64, n|-1<<32), 0x7c, 0xa7)
	}
	_, _, accepted, _ := guest{}.answers()
	g := guest{body: Code(
		dirty(opAt), dirty(requestAt), 0x10, funcRequest,
		0x20, 0, Const(I32, 16), 0x46, 0x04, Void, respond(versionAt, 4), 0x0b,
		0x20, 0, Const(I32, 17), 0x46, 0x04, Void, respond(validAt, 14), 0x0b,
		dirty(acceptedAt), dirty(int64(len(accepted))), 0x10, funcResponse, dirty(1))}
	for engine, e := range engines {
		p, err := wapc.Load(t.Context(), g.module(), caps(e), meta(policywasm.Authorize))
		if err != nil {
			t.Fatal(err)
		}
		if r := ask(t, p, "x"); r.Decision != policywasm.Allow {
			t.Errorf("%s: %+v %v", engine, r, r.Failure)
		}
		_ = p.Close(t.Context())
	}
}

// TestRefusedHostCall: the guest is told why, and may go on.
func TestRefusedHostCall(t *testing.T) {
	_, _, accepted, _ := guest{}.answers()
	g := guest{body: Code(
		0x20, 0, Const(I32, 16), 0x46, 0x04, Void, respond(versionAt, 4), 0x0b,
		0x20, 0, Const(I32, 17), 0x46, 0x04, Void, respond(validAt, 14), 0x0b,
		0x10, funcHostErrorLen, 0x04, Void, 0x00, 0x0b, // nothing yet
		bytes.Repeat(Const(I32, 0), 8), 0x10, funcHostCall, 0x04, Void, 0x00, 0x0b,
		Const(I32, requestAt), 0x10, funcHostError,
		Const(I32, requestAt), 0x2d, 0, 0, Const(I32, 't'), 0x47, 0x04, Void, 0x00, 0x0b, // "there are …"
		0x10, funcHostErrorLen, 0x45, 0x04, Void, 0x00, 0x0b,
		respond(acceptedAt, len(accepted)), 0x00)}
	p, err := wapc.Load(t.Context(), g.module(), caps(policywasm.Auto), meta(policywasm.Authorize))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	if r := ask(t, p, "x"); r.Decision != policywasm.Allow {
		t.Errorf("%+v %v", r, r.Failure)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(guest{}.module())
	f.Add(guest{init: Code(), start: Code()}.module())
	f.Fuzz(func(t *testing.T, b []byte) {
		c := caps(policywasm.Interpreter)
		c.Fuel, c.Scan.Pages = 200_000, 4
		p, err := wapc.Load(t.Context(), b, c, meta(policywasm.Authorize))
		if err != nil {
			var f *policywasm.Failure
			if !errors.As(err, &f) || f.Reason == policywasm.ReasonEngine {
				t.Errorf("an error without a reason: %v", err)
			}
			return
		}
		defer p.Close(t.Context())
		if r := ask(t, p, "g"); r.Failure != nil && r.Failure.Reason == policywasm.ReasonEngine {
			t.Errorf("the engine's fault: %v", r.Failure)
		}
	})
}
