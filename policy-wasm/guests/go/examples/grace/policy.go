// The policy NAME: firmware may be out of date for some days.
//
//	settings: {"days": 30}
package main

import policy "github.com/trustedmcp/tmcp/policy-wasm/guests/go/sdk"

func init() { policy.Appraise = appraise }

func main() {} // never called

const day = 86400 // seconds

func appraise(doc policy.Value, r *policy.Result) {
	setting := doc.Get("settings").Find("days")
	days := setting.IntOr(30)
	if days < 0 || days > 3650 {
		r.Deny("settings", "days are 0 to 3650", setting.Pointer())
		return
	}
	now := doc.Get("time").Int()
	devices := doc.Get("devices")
	cpus, late := 0, false
	for _, d := range devices.Items() {
		if proven := d.Get("proven"); !proven.Bool() {
			r.Deny("not-proven", "the evidence is not proven", proven.Pointer())
		} else if simulated := d.Get("simulated"); simulated.Bool() {
			r.Deny("simulated", "a simulated TEE proves nothing", simulated.Pointer())
		}
		if debug := d.Get("debug"); debug.Bool() {
			r.Deny("debug", "the TEE can be read from outside", debug.Pointer())
		}
		kind := d.Get("kind").Text()
		if kind != "nvidia-gpu" {
			cpus++
		}
		if tcb := d.Get("tcb"); !tcb.IsNull() {
			late = firmware(tcb, now, days*day, r) || late
		} else if kind != "nitro" && kind != "nvidia-gpu" && kind != "cca" {
			r.Deny("tcb", "nothing is known of the firmware", tcb.Pointer())
		}
	}
	if cpus == 0 {
		r.Deny("no-tee", "no CPU TEE is attested", devices.Pointer())
	}
	r.AffirmAll(policy.Affirming)
	if late {
		r.Affirm(policy.Hardware, policy.Warning)
		r.Oblige("valid-for", 3600)
	}
	r.Allow()
}

// firmware reports whether it is out of date, and may be for now.
func firmware(tcb policy.Value, now, grace int64, r *policy.Result) (late bool) {
	status := tcb.Get("status")
	switch status.Text() {
	case "UpToDate":
		return false
	case "OutOfDate", "OutOfDateConfigurationNeeded":
	default:
		r.Deny("tcb", "the firmware's status is not acceptable", status.Pointer())
		return false
	}
	since := tcb.Get("out_of_date_since")
	from := since
	if from.IsNull() {
		from = tcb.Get("date")
	}
	switch {
	case from.IsNull():
		r.Deny("tcb", "nothing says since when", tcb.Pointer())
	case now >= from.Int()+grace:
		r.Deny("tcb-grace", "the days of grace are over", since.Pointer())
	default:
		r.Note("tcb-grace", "out of date, within the days of grace", since.Pointer())
		return true
	}
	return false
}
