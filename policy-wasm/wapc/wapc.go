// Package wapc runs policies that speak waPC, as those of Kubewarden do, under
// the same protections as all other policies.
//
// Call [Load] with a module. It answers authorize only: such a policy accepts or
// rejects, and can't say what an appraisal must. It gets Kubewarden's operation
// "validate", with the document as the object of an admission request, and no
// capability of a host: each host call is refused. What does not fit stands in
// docs/policy-rego.md.
package wapc

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/scan"
)

// Load loads a module. meta is for modules that have no metadata of their own:
// it is attached first, and the digest is that of both. Errors are of type
// [*policywasm.Failure]. The caller closes the policy.
func Load(ctx context.Context, module []byte, caps policywasm.Caps, meta *policywasm.Metadata) (*policywasm.Policy, error) {
	if meta != nil {
		module = attach(module, meta)
	}
	caps.Scan.Allow = slices.Concat(caps.Scan.Allow, imports)
	return policywasm.LoadForeign(ctx, module, caps, adapter{})
}

// Compile is [policywasm.Compile] for what [Load] takes.
func Compile(ctx context.Context, module []byte, caps policywasm.Caps) error {
	caps.Scan.Allow = slices.Concat(caps.Scan.Allow, imports)
	return policywasm.CompileForeign(ctx, module, caps, adapter{})
}

func attach(module []byte, meta *policywasm.Metadata) []byte {
	section := append(binary.AppendUvarint(nil, uint64(len(scan.Metadata))), scan.Metadata...)
	section = append(section, meta.Append(nil)...)
	return append(binary.AppendUvarint(append(slices.Clone(module), 0), uint64(len(section))), section...)
}

// Is reports whether b is a module that exports __guest_call. It says nothing
// about whether it is acceptable.
func Is(b []byte) bool { return scan.ExportsFunc(b, guestCall) }

const guestCall = "__guest_call"

// adapter implements [policywasm.Foreign].
type adapter struct{}

// Describe implements [policywasm.Foreign].
func (adapter) Describe(m *scan.Module, meta *policywasm.Metadata) error {
	if !slices.Equal(meta.Entries, []policywasm.Entry{policywasm.Authorize}) {
		return policywasm.NewFailure(policywasm.ReasonMetadata, "a module of waPC accepts or rejects: it can answer authorize, and nothing else")
	}
	if !m.Exports("memory", scan.KindMemory) {
		return policywasm.NewFailure(policywasm.ReasonExport, "no memory is exported as memory")
	}
	if t, ok := m.Func(guestCall); !ok {
		return policywasm.NewFailure(policywasm.ReasonExport, "no function is exported as "+guestCall)
	} else if !t.Equal(scan.FuncType{Params: i32s(2), Results: i32s(1)}) {
		return policywasm.NewFailure(policywasm.ReasonSignature, "the function "+guestCall+" has another type than waPC's")
	}
	for _, name := range starts {
		if t, ok := m.Func(name); ok && !t.Equal(scan.FuncType{}) {
			return policywasm.NewFailure(policywasm.ReasonSignature, "the function "+name+" has parameters or a result")
		}
	}
	return nil
}

// Offer implements [policywasm.Foreign].
func (adapter) Offer(ctx context.Context, rt wazero.Runtime, _ *scan.Module) error {
	return offer(ctx, rt)
}

// A run is the state of one instance.
type run struct {
	i        *policywasm.Instance // nil while the start function runs
	op       string
	request  []byte
	response []byte // nil: none
	said     []byte // the guest's error
	refused  bool   // a host call was made
	begun    bool   // starts were called
}

type runKey struct{}

// Link implements [policywasm.Foreign].
func (adapter) Link(ctx context.Context) (context.Context, func(), error) {
	return context.WithValue(ctx, runKey{}, &run{}), func() {}, nil
}

// starts are what hosts of waPC call first, if it is there, beside _initialize.
var starts = []string{"_start", "wapc_init"}

// begin takes over an instance.
func begin(ctx context.Context, i *policywasm.Instance) (*run, error) {
	r := ctx.Value(runKey{}).(*run)
	r.i, r.refused = i, false
	for _, name := range starts {
		if r.begun || !i.Exports(name) {
			continue
		}
		if _, err := i.Call(ctx, name); err != nil {
			return nil, err
		}
	}
	r.begun = true
	return r, nil
}

// Try implements [policywasm.Foreign].
func (adapter) Try(ctx context.Context, i *policywasm.Instance) error {
	r, err := begin(ctx, i)
	if err != nil {
		return err
	}
	b, err := r.call(ctx, "protocol_version", nil)
	if err != nil {
		return err
	}
	if string(b) != `"v1"` {
		return policywasm.NewFailure(policywasm.ReasonABI, fmt.Sprintf("the module speaks version %.20q of Kubewarden's protocol; \"v1\" is spoken", b))
	}
	return nil
}

// Ask implements [policywasm.Foreign].
func (adapter) Ask(ctx context.Context, i *policywasm.Instance, _ policywasm.Entry, input []byte) ([]byte, error) {
	r, err := begin(ctx, i)
	if err != nil {
		return nil, err
	}
	settings := jsonrpc.Get(input, "settings")
	if settings == nil || settings.Kind() == 'n' {
		settings = jsontext.Value("{}")
	}
	b, err := r.call(ctx, "validate_settings", settings)
	if err != nil {
		return nil, err
	}
	valid, message, err := verdict(b, "valid")
	if err != nil {
		return nil, err
	}
	if !valid {
		return nil, policywasm.NewFailure(policywasm.ReasonInput, fmt.Sprintf("the policy does not take its settings: %q", message))
	}
	if b, err = r.call(ctx, "validate", admission(input, settings)); err != nil {
		return nil, err
	}
	accepted, message, err := verdict(b, "accepted")
	if err != nil {
		return nil, err
	}
	if accepted {
		return []byte(`{"decision":"allow"}`), nil
	}
	return slices.Concat([]byte(`{"decision":"deny","reasons":[{"code":"rejected","text":`), jsonrpc.Quote(short(message)), []byte(`}]}`)), nil
}

// short is at most 256 bytes of s, that end with a whole character.
func short(s string) string { return strings.ToValidUTF8(s[:min(len(s), 256)], "") }

// admission is the request of an admission review whose object is the document.
func admission(doc, settings jsontext.Value) []byte {
	text := func(path ...string) jsontext.Value {
		if v := jsonrpc.Get(doc, path...); v.Kind() == '"' {
			return v
		}
		return jsontext.Value(`""`)
	}
	kind := `{"group":"trustedmcp","version":"v1","kind":"Document"}`
	resource := `{"group":"trustedmcp","version":"v1","resource":"documents"}`
	return slices.Concat([]byte(`{"request":{"dryRun":false,"kind":`+kind+`,"name":`), text("call", "name"),
		[]byte(`,"namespace":"","object":`), doc, []byte(`,"oldObject":null,"operation":"CONNECT","options":null,"requestKind":`+kind+`,"requestResource":`+resource+`,"requestSubResource":"","resource":`+resource+`,"subResource":"","uid":"","userInfo":{"extra":{},"groups":[],"uid":`), text("peer", "thumbprint"),
		[]byte(`,"username":`), text("peer", "identity"), []byte(`}},"settings":`), settings, []byte(`}`))
}

// verdict reads an answer: a boolean of that name, and a message.
func verdict(b []byte, name string) (yes bool, message string, err error) {
	bad := func(why string) error { return policywasm.NewFailure(policywasm.ReasonOutput, why) }
	if err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: maxResponse, MaxDepth: 16}); err != nil {
		return false, "", bad("response: " + err.Error())
	}
	decided := false
	err = jsonrpc.Members(b, func(member string, v jsontext.Value) error {
		switch member {
		case name:
			if v.Kind() != 't' && v.Kind() != 'f' {
				return fmt.Errorf("%q is no boolean", name)
			}
			decided, yes = true, v.Kind() == 't'
		case "message":
			message, _ = jsonrpc.Text(v) // or null
		case "code", "audit_annotations", "warnings": // for Kubernetes
		case "mutated_object":
			if v.Kind() != 'n' {
				return fmt.Errorf("the policy wants to change the request, which it can't")
			}
		default:
			return fmt.Errorf("member %.40q is not known", member)
		}
		return nil
	})
	switch {
	case err != nil:
		return false, "", bad("response: " + err.Error())
	case !decided:
		return false, "", bad(fmt.Sprintf("response without %q", name))
	}
	return yes, message, nil
}

// call has the guest do one operation, and returns its response.
func (r *run) call(ctx context.Context, op string, request []byte) ([]byte, error) {
	r.op, r.request, r.response, r.said = op, request, nil, nil
	v, err := r.i.Call(ctx, guestCall, uint64(len(op)), uint64(len(request)))
	if err != nil {
		return nil, err
	}
	why := ""
	if r.refused {
		why = "; it had called a capability of its host, and there are none"
	}
	switch {
	case api.DecodeU32(v) != 1:
		return nil, policywasm.NewFailure(policywasm.ReasonTrap, fmt.Sprintf("%s: the guest failed, and says %q%s", op, r.said, why))
	case r.response == nil:
		return nil, policywasm.NewFailure(policywasm.ReasonOutput, op+": no response")
	}
	return r.response, nil
}
