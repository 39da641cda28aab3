// The policy NAME: TEEs that are proven, genuine and up to date, whose code is
// known; and tools for those whom the settings let call them.
//
//	settings: {"tools": {"search": "anyone", "write": "identity", "pay": "attested"}}
package main

import policy "github.com/trustedmcp/tmcp/policy-wasm/guests/go/sdk"

func init() {
	policy.Appraise = appraise
	policy.Authorize = authorize
}

func main() {} // never called

// appraise: may this peer be trusted?
func appraise(doc policy.Value, r *policy.Result) {
	devices := doc.Get("devices")
	cpus := 0
	for _, d := range devices.Items() {
		if proven := d.Get("proven"); !proven.Bool() {
			r.Deny("not-proven", "the evidence is not proven", proven.Pointer())
		} else if simulated := d.Get("simulated"); simulated.Bool() {
			r.Deny("simulated", "a simulated TEE proves nothing", simulated.Pointer())
		}
		if debug := d.Get("debug"); debug.Bool() {
			r.Deny("debug", "the TEE can be read from outside", debug.Pointer())
		}
		if tcb := d.Get("tcb"); !tcb.IsNull() {
			if status := tcb.Get("status"); status.Text() != "UpToDate" {
				r.Deny("tcb", "the firmware is not up to date", status.Pointer())
			}
		}
		if d.Get("kind").Text() == "nvidia-gpu" {
			continue
		}
		cpus++
		if refs := d.Get("references"); refs.IsNull() || !refs.Get("matched").Bool() {
			r.Deny("reference-values", "the code is not known", refs.Pointer())
		}
	}
	if cpus == 0 {
		r.Deny("no-tee", "no CPU TEE is attested", devices.Pointer())
	}
	r.AffirmAll(policy.Affirming)
	r.Allow()
}

// authorize: may this call be made?
func authorize(doc policy.Value, r *policy.Result) {
	call := doc.Get("call")
	if method := call.Get("method"); method.IsNull() || method.Text() != "tools/call" {
		r.Allow()
		return
	}
	name, profile := call.Get("name"), doc.Get("peer").Get("profile")
	tools := doc.Get("settings").Find("tools")
	demand := tools.Find(name.Text())
	if demand.IsNull() {
		r.Deny("tool-not-listed", "the settings do not list this tool", name.Pointer())
		return
	}
	switch demand.Text() {
	case "attested":
		if profile.Text() != "attested" {
			r.Deny("not-attested", "this tool is for attested peers", profile.Pointer())
		}
	case "identity":
		if profile.Text() == "none" {
			r.Deny("not-identified", "this tool is for known peers", profile.Pointer())
		}
	case "anyone":
	default:
		r.Deny("settings", "the demand is none of attested, identity and anyone", tools.Pointer())
	}
	r.Allow()
}
