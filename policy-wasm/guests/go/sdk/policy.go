// Package policy is what policies in Go are written with, for the standard
// toolchain and for TinyGo.
//
// Set [Appraise], [Authorize] or both in an init function. A policy reads the
// document as a [Value], and tells a [Result] what it decides:
//
//	func init() { policy.Appraise = appraise }
//
//	func appraise(doc policy.Value, r *policy.Result) {
//		for _, device := range doc.Get("devices").Items() {
//			if device.Get("debug").Bool() {
//				r.Deny("debug", "the TEE can be read from outside", device.Pointer()+"/debug")
//			}
//		}
//		r.AffirmAll(policy.Affirming)
//		r.Allow()
//	}
//
// It fails closed: reading a member that is missing, or of another type, makes
// the result a denial, whatever the policy says then; so does saying nothing.
//
// Unit tests ask with [Try], on the machine that builds.
package policy

// Appraise answers whether a peer may be trusted, and how far.
var Appraise func(doc Value, r *Result)

// Authorize answers whether a peer may make a call.
var Authorize func(doc Value, r *Result)

// answer asks f about a document in deterministic CBOR, and returns the result in
// the same encoding. Of appraise it has a vector.
func answer(f func(Value, *Result), doc string, appraise bool) []byte {
	r := &Result{}
	switch {
	case !valid(doc):
		r.fail(inputMalformed, "")
	case f != nil:
		r.doc = doc
		f(Value{r: r}, r)
	}
	return r.encode(appraise)
}
