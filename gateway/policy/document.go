package policy

import (
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/ear"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/policy-wasm/document"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Appraisal is the document of an appraisal, without settings.
func Appraisal(f *appraise.Facts) *document.Document {
	d := &document.Document{Question: "appraise", Time: f.Now.Unix(), Devices: devices(f.Devices)}
	d.Peer.Profile = "none"
	d.Peer.Alone = f.Alone
	d.Peer.Config = hexOf(f.Config)
	if f.Peer != nil {
		d.Peer.Role, d.Peer.Identity = text(role(f.Peer.Role)), text(f.Peer.Identity)
	}
	return d
}

// Attributes are what was proven of a peer, for [appraise.Config.Attributes].
func Attributes(r *appraise.Result) []byte {
	b, err := json.Marshal(devices(r.Devices), json.FormatNilMapAsNull(true), json.Deterministic(true))
	if err != nil {
		return nil // then calls are judged without
	}
	return b
}

// Authorization is the document of a call, without settings. Arguments stand in
// it if arguments is true. Its devices may be those of other documents too, and are
// not to be changed.
func Authorization(c *transport.Call, now time.Time, arguments bool) (*document.Document, error) {
	d := &document.Document{Question: "authorize", Time: now.Unix()}
	p := &c.Party
	d.Peer = document.Peer{Role: text(role(p.Role)), Identity: text(p.Identity), Thumbprint: text(p.Thumbprint), Profile: "none", Config: hexOf(p.Config)}
	switch {
	case p.Appraisal != nil:
		d.Peer.Profile = "attested"
		d.Devices = known(p.Appraisal)
	case p.Identity != "":
		d.Peer.Profile = "identity"
	}
	d.Call = &document.Call{Kind: string(c.Kind), Method: text(c.Method), Revision: text(c.Revision), Carrier: "none"}
	if c.Carrier != 0 {
		d.Call.Carrier = c.Carrier.String()
	} else if p.Profile == protocol.ProfileAttestedTLS {
		d.Call.Carrier = "tls"
	}
	if c.Params == nil {
		return d, nil
	}
	var args jsontext.Value
	// What is no object has no members.
	_ = jsonrpc.Members(c.Params, func(name string, v jsontext.Value) error {
		switch name {
		case "name":
			d.Call.Name = param(v)
		case "uri":
			d.Call.URI = param(v)
		case "arguments":
			args = v
		}
		return nil
	})
	if args != nil && arguments {
		var err error
		if d.Call.Arguments, err = whole(args); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func param(v jsontext.Value) *string {
	if s, ok := jsonrpc.Text(v); ok {
		return &s
	}
	return nil
}

func role(r protocol.Role) string {
	switch r {
	case protocol.RoleServer:
		return "server"
	case protocol.RoleClient:
		return "client"
	}
	return ""
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func hexOf(b []byte) *string { return text(hex.EncodeToString(b)) }

func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.Unix()
	return &n
}

func devices(all []appraise.Device) []document.Device {
	out := make([]document.Device, 0, len(all))
	for i := range all {
		d := &all[i]
		o := document.Device{Label: d.Label, Kind: string(d.Kind), Checks: checks(d.Checks)}
		// TMCP-20.5-4: A host MUST NOT tell of a device that is not proven more than its label, kind
		// and checks.
		if c := d.Claims; c != nil {
			o.Proven, o.Simulated, o.Debug, o.TCB = true, c.Simulated, c.Debug, tcb(d.TCB)
			o.Platform, o.NotAfter, o.Claims = hexOf(c.Platform), seconds(c.NotAfter), claims(d.Kind, c.Values)
			if r := d.References; r != nil {
				o.References = &document.References{Known: r.Known, Matched: r.Matched, Tags: list(r.Tags)}
			}
		}
		out = append(out, o)
	}
	return out
}

func checks(cs evidence.Checks) []document.Check {
	out := make([]document.Check, 0, len(cs))
	for _, c := range cs {
		out = append(out, document.Check{Name: c.Name, Outcome: string(c.Outcome)})
	}
	return out
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func tcb(t *evidence.TCB) *document.TCB {
	if t == nil {
		return nil
	}
	o := &document.TCB{Status: status(t.Status), Date: seconds(t.Date), OutOfDateSince: seconds(t.OutOfDateSince), Advisories: list(t.Advisories), Parts: []document.Part{}}
	if n := int64(min(t.EvaluationNumber, 1<<53-1)); n > 0 {
		o.Evaluation = &n
	}
	for _, p := range t.Parts {
		o.Parts = append(o.Parts, document.Part{Name: p.Name, Status: status(p.Status), Date: seconds(p.Date), Behind: p.Behind, Advisories: list(p.Advisories)})
	}
	return o
}

// status is one that policies know, or empty where none is told.
func status(s evidence.TCBStatus) string {
	if s != "" && s.Rank() > evidence.Unrecognized.Rank() {
		s = evidence.Unrecognized
	}
	return string(s)
}

// claims are values as the data model of documents has them. Integers beyond it
// are text, as in the arguments of calls. What a kind's evidence may tell, and
// this does not, is null.
func claims(kind evidence.Kind, values map[string]any) map[string]any {
	out := make(map[string]any, len(values))
	for _, name := range document.ClaimNames(string(kind)) {
		out[name] = nil
	}
	for name, v := range values {
		switch v := v.(type) {
		case []byte:
			out[name] = hex.EncodeToString(v)
		case uint64:
			if out[name] = any(v); v >= 1<<53 {
				out[name] = strconv.FormatUint(v, 10)
			}
		case []string:
			out[name] = list(v)
		case string, bool:
			out[name] = v
		}
	}
	return out
}

// remembered are the devices that attributes were read as: those of a peer are the
// same in each of its calls.
var remembered struct {
	sync.RWMutex
	devices map[string][]document.Device
	size    int // of the attributes
}

const maxRemembered = 512 << 10

// known are the devices of an appraisal; none where it told no more than its
// result.
func known(a *protocol.Appraisal) (out []document.Device) {
	r := &remembered
	r.RLock()
	out, ok := r.devices[string(a.Attributes)]
	r.RUnlock()
	if ok {
		return out
	}
	if json.Unmarshal(a.Attributes, &out) != nil {
		return nil
	}
	r.Lock()
	defer r.Unlock()
	if r.size += len(a.Attributes); r.devices == nil || r.size > maxRemembered {
		r.devices, r.size = map[string][]document.Device{}, len(a.Attributes)
	}
	if r.size <= maxRemembered {
		r.devices[string(a.Attributes)] = out
	}
	return out
}

// FromEAR are the attributes that stand in another verifier's attestation result.
// It has no claims and no comparisons, so they are not known.
func FromEAR(r *ear.Result) []byte {
	var out []document.Device
	for _, label := range slices.Sorted(maps.Keys(r.Submods)) {
		d := document.Device{Label: label, Checks: []document.Check{}}
		if x := r.Submods[label].Extension; x != nil {
			d.Kind, d.Proven, d.Simulated, d.Debug = string(x.Kind), x.Kind != "", x.Simulated, x.Debug
			d.Platform, d.Checks, d.TCB, d.NotAfter = hexOf(x.Platform), checks(x.Checks), tcb(x.TCB), seconds(x.NotAfter)
		}
		out = append(out, d)
	}
	b, err := json.Marshal(out, json.FormatNilMapAsNull(true), json.Deterministic(true))
	if err != nil {
		return nil
	}
	return b
}

// whole is v with each number that is no integer of the data model as text.
func whole(v jsontext.Value) (jsontext.Value, error) {
	var out strings.Builder
	enc := jsontext.NewEncoder(&out)
	dec := jsontext.NewDecoder(strings.NewReader(string(v)))
	for dec.PeekKind() != 0 {
		t, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if t.Kind() == '0' {
			if s := t.String(); !integer(s) {
				t = jsontext.String(s)
			}
		}
		if err := enc.WriteToken(t); err != nil {
			return nil, err
		}
	}
	return jsontext.Value(strings.TrimSpace(out.String())), nil
}

func integer(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n > -1<<53 && n < 1<<53 && s != "-0"
}
