// The probe calls the functions of the SDK as the settings say: see
// guesttest/probe.go.
package main

import policy "policy/sdk"

func init() { policy.Appraise, policy.Authorize = probe, probe }

func main() {}

func probe(doc policy.Value, r *policy.Result) {
	for _, op := range doc.Get("settings").Get("ops").Items() {
		v := doc
		for _, step := range op.Get("path").Items() {
			if name := step.Find("get"); !name.IsNull() {
				v = v.Get(name.Text())
			} else if name := step.Find("find"); !name.IsNull() {
				v = v.Find(name.Text())
			} else {
				v = v.At(int(step.Get("at").Int()))
			}
		}
		code, text, n := op.Find("code").TextOr(""), op.Find("text").TextOr(""), op.Find("n").IntOr(0)
		same := false
		switch op.Get("do").Text() {
		case "null":
			same = v.IsNull()
		case "len":
			same = int64(v.Len()) == n
		case "bool":
			same = v.Bool() == (n == 1)
		case "bool-or":
			same = v.BoolOr(true) == (n == 1)
		case "int":
			same = v.Int() == n
		case "int-or":
			same = v.IntOr(-7) == n
		case "text":
			same = v.Text() == text
		case "text-or":
			same = v.TextOr("none") == text
		case "deny":
			r.Deny(code, text, v.Pointer())
		case "note":
			r.Note(code, text, v.Pointer())
		case "affirm":
			r.Affirm(policy.RuntimeOpaque, int8(n))
		case "affirm-all":
			r.AffirmAll(int8(n))
		case "oblige-int":
			r.Oblige(code, n)
		case "oblige-bool":
			r.ObligeBool(code, n == 1)
		case "oblige-text":
			r.ObligeText(code, text)
		case "allow":
			r.Allow()
		case "abstain":
			r.Abstain()
		}
		if same {
			r.Note("same", "", v.Pointer())
		}
	}
}
