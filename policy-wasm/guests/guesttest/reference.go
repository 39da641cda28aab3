package guesttest

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Reference answers as every SDK's version of the policy must, byte for byte.
// Policies are starter, grace and probe; the document is decoded JSON of int64, string,
// bool, nil, []any and map[string]any.
func Reference(policy, question string, doc any) []byte {
	r := &result{vector: map[string]int8{}, appraise: question == "appraise"}
	v := value{r: r, v: doc}
	switch policy + " " + question {
	case "starter appraise":
		starterAppraise(v, r)
	case "starter authorize":
		starterAuthorize(v, r)
	case "grace appraise":
		grace(v, r)
	case "probe appraise", "probe authorize":
		probe(v, r)
	}
	return r.encode()
}

func starterAppraise(doc value, r *result) {
	devices := doc.get("devices")
	cpus := 0
	for i := range devices.len() {
		d := devices.at(i)
		provenAndClosed(d, r)
		if tcb := d.get("tcb"); !tcb.isNull() && tcb.get("status").text() != "UpToDate" {
			r.deny("tcb", "the firmware is not up to date", tcb.get("status"))
		}
		if d.get("kind").text() == "nvidia-gpu" {
			continue
		}
		cpus++
		if refs := d.get("references"); refs.isNull() || !refs.get("matched").bool() {
			r.deny("reference-values", "the code is not known", refs)
		}
	}
	if cpus == 0 {
		r.deny("no-tee", "no CPU TEE is attested", devices)
	}
	r.affirmAll(2)
	r.allow()
}

func provenAndClosed(d value, r *result) {
	if !d.get("proven").bool() {
		r.deny("not-proven", "the evidence is not proven", d.get("proven"))
	} else if d.get("simulated").bool() {
		r.deny("simulated", "a simulated TEE proves nothing", d.get("simulated"))
	}
	if d.get("debug").bool() {
		r.deny("debug", "the TEE can be read from outside", d.get("debug"))
	}
}

func starterAuthorize(doc value, r *result) {
	call := doc.get("call")
	if m := call.get("method"); m.isNull() || m.text() != "tools/call" {
		r.allow()
		return
	}
	name, profile := call.get("name"), doc.get("peer").get("profile")
	tools := doc.get("settings").find("tools")
	demand := tools.find(name.text())
	switch {
	case demand.isNull():
		r.deny("tool-not-listed", "the settings do not list this tool", name)
	case demand.text() == "attested":
		if profile.text() != "attested" {
			r.deny("not-attested", "this tool is for attested peers", profile)
		}
	case demand.text() == "identity":
		if profile.text() == "none" {
			r.deny("not-identified", "this tool is for known peers", profile)
		}
	case demand.text() != "anyone":
		r.deny("settings", "the demand is none of attested, identity and anyone", tools)
	}
	r.allow()
}

func grace(doc value, r *result) {
	setting := doc.get("settings").find("days")
	days := setting.intOr(30)
	if days < 0 || days > 3650 {
		r.deny("settings", "days are 0 to 3650", setting)
		return
	}
	now := doc.get("time").int()
	devices := doc.get("devices")
	cpus, late := 0, false
	for i := range devices.len() {
		d := devices.at(i)
		provenAndClosed(d, r)
		kind := d.get("kind").text()
		if kind != "nvidia-gpu" {
			cpus++
		}
		tcb := d.get("tcb")
		if tcb.isNull() {
			if kind != "nitro" && kind != "nvidia-gpu" && kind != "cca" {
				r.deny("tcb", "nothing is known of the firmware", tcb)
			}
			continue
		}
		status := tcb.get("status").text()
		if status == "UpToDate" {
			continue
		}
		if status != "OutOfDate" && status != "OutOfDateConfigurationNeeded" {
			r.deny("tcb", "the firmware's status is not acceptable", tcb.get("status"))
			continue
		}
		since := tcb.get("out_of_date_since")
		from := since
		if from.isNull() {
			from = tcb.get("date")
		}
		switch {
		case from.isNull():
			r.deny("tcb", "nothing says since when", tcb)
		case now >= from.int()+days*86400:
			r.deny("tcb-grace", "the days of grace are over", since)
		default:
			r.note("tcb-grace", "out of date, within the days of grace", since)
			late = true
		}
	}
	if cpus == 0 {
		r.deny("no-tee", "no CPU TEE is attested", devices)
	}
	r.affirmAll(2)
	if late {
		r.affirm("hardware", 32)
		r.oblige("valid-for", int64(3600))
	}
	r.allow()
}

// A value is a view of the document. missing is set by find.
type value struct {
	r       *result
	v       any
	path    []string
	missing bool
}

func (v value) child(name string, to any) value {
	return value{r: v.r, v: to, path: append(slices.Clone(v.path), name)}
}

func (v value) get(name string) value {
	m, ok := v.v.(map[string]any)
	if !ok {
		v.wrong()
		return v.child(name, nil)
	}
	to, ok := m[name]
	out := v.child(name, to)
	if !ok {
		out.missing = true
		out.wrong()
	}
	return out
}

func (v value) find(name string) value {
	if v.v == nil {
		return v
	}
	m, ok := v.v.(map[string]any)
	if !ok {
		v.wrong()
		return v.child(name, nil)
	}
	to, ok := m[name]
	out := v.child(name, to)
	out.missing = !ok
	return out
}

func (v value) len() int {
	switch x := v.v.(type) {
	case []any:
		return len(x)
	case map[string]any:
		return len(x)
	}
	v.wrong()
	return 0
}

func (v value) at(i int) value {
	a, ok := v.v.([]any)
	if !ok {
		v.wrong()
		return v.child(strconv.Itoa(i), nil)
	}
	out := v.child(strconv.Itoa(i), nil)
	if i >= len(a) {
		out.missing = true
		out.wrong()
		return out
	}
	out.v = a[i]
	return out
}

func (v value) isNull() bool { return v.v == nil }

func read[T any](v value) (x T) {
	x, ok := v.v.(T)
	if !ok {
		v.wrong()
	}
	return x
}

func (v value) bool() bool   { return read[bool](v) }
func (v value) text() string { return read[string](v) }
func (v value) int() int64   { return read[int64](v) }

func (v value) intOr(x int64) int64 {
	if v.isNull() {
		return x
	}
	return v.int()
}

func (v value) boolOr(x bool) bool {
	if v.isNull() {
		return x
	}
	return v.bool()
}

func (v value) textOr(x string) string {
	if v.isNull() {
		return x
	}
	return v.text()
}

// wrong notes the first fault.
func (v value) wrong() {
	if v.r.fault != nil {
		return
	}
	v.r.fault = &reason{"claim-type", "a member that the policy reads has another type", v.pointer()}
	if v.missing {
		v.r.fault = &reason{"claim-missing", "a member that the policy reads is missing", v.pointer()}
	}
}

func (v value) pointer() string {
	p := ""
	for _, s := range v.path {
		s = "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
		if len(p)+len(s) > 256 {
			break
		}
		p += s
	}
	return p
}

type reason struct{ code, text, claim string }

type obligation struct {
	id    string
	value any // int64, bool or string
}

type result struct {
	appraise             bool
	fault                *reason
	denied, allowed, off bool
	reasons              []reason
	vector               map[string]int8
	obligations          []obligation
}

func (r *result) note(code, text string, claim value) {
	for len(text) > 256 || !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	if len(r.reasons) < 32 {
		r.reasons = append(r.reasons, reason{code, text, claim.pointer()})
	}
}

func (r *result) deny(code, text string, claim value) {
	r.denied = true
	r.note(code, text, claim)
}

var claims = []string{"hardware", "executables", "file-system", "sourced-data", "configuration", "runtime-opaque", "storage-opaque", "instance-identity"}

func (r *result) affirm(claim string, v int8) { r.vector[claim] = v }

func (r *result) affirmAll(v int8) {
	for _, c := range claims {
		r.affirm(c, v)
	}
}

func (r *result) oblige(id string, v any) {
	for i := range r.obligations {
		if r.obligations[i].id == id {
			r.obligations[i].value = v
			return
		}
	}
	if len(r.obligations) == 16 {
		if r.fault == nil {
			r.fault = &reason{"result-limit", "the result has more than 16 obligations", ""}
		}
		return
	}
	r.obligations = append(r.obligations, obligation{id, v})
}

func (r *result) allow() { r.allowed = true }

func (r *result) encode() []byte {
	decision := "deny"
	switch {
	case r.fault != nil:
		r.reasons, r.vector = []reason{*r.fault}, nil
	case r.denied:
	case r.allowed:
		decision = "allow"
	case r.off:
		decision = "abstain"
	default:
		r.note("no-decision", "the policy did not decide", value{})
	}
	if !r.appraise {
		r.vector = nil
	}
	if decision != "allow" {
		r.obligations = nil
	}
	size := func(ns ...int) (n int) {
		for _, m := range ns {
			n += min(m, 1)
		}
		return n
	}
	b := dcbor.AppendMap(nil, 1+size(len(r.vector), len(r.reasons), len(r.obligations)))
	if len(r.vector) > 0 {
		b = dcbor.AppendMap(dcbor.AppendText(b, "vector"), len(r.vector))
		for _, c := range claims {
			if v, ok := r.vector[c]; ok {
				b = dcbor.AppendInt(dcbor.AppendText(b, c), int64(v))
			}
		}
	}
	if len(r.reasons) > 0 {
		b = dcbor.AppendArray(dcbor.AppendText(b, "reasons"), len(r.reasons))
		for _, x := range r.reasons {
			b = dcbor.AppendMap(b, 1+size(len(x.text), len(x.claim)))
			b = dcbor.AppendText(dcbor.AppendText(b, "code"), x.code)
			if x.text != "" {
				b = dcbor.AppendText(dcbor.AppendText(b, "text"), x.text)
			}
			if x.claim != "" {
				b = dcbor.AppendText(dcbor.AppendText(b, "claim"), x.claim)
			}
		}
	}
	b = dcbor.AppendText(dcbor.AppendText(b, "decision"), decision)
	if len(r.obligations) > 0 {
		b = dcbor.AppendArray(dcbor.AppendText(b, "obligations"), len(r.obligations))
		for _, o := range r.obligations {
			b = dcbor.AppendText(dcbor.AppendText(dcbor.AppendMap(b, 2), "id"), o.id)
			b = dcbor.AppendText(b, "value")
			switch v := o.value.(type) {
			case int64:
				b = dcbor.AppendInt(b, v)
			case bool:
				b = dcbor.AppendBool(b, v)
			case string:
				b = dcbor.AppendText(b, v)
			}
		}
	}
	return b
}
