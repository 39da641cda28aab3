package schema

import (
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// The shapes of chapter 20 in trust/trust.cddl, in its order.

const maxSafe = 1<<53 - 1

var (
	policyEntry   = texts("appraise", "authorize")
	policyInteger = ranged(-maxSafe, maxSafe)
	policyTexts   = list(0, maxCBOR, text)
	policyStatus  = texts("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
		"OutOfDateConfigurationNeeded", "Revoked", "Unrecognized", "")

	policyMetadata = table([]field{
		{key: 1, required: true, s: unsigned},
		{key: 2, required: true, s: textSize(1, 128)},
		{key: 3, required: true, s: textSize(1, 128)},
		{key: 4, required: true, s: textSize(0, 128)},
		{key: 5, required: true, s: textSize(0, 128)},
		{key: 6, required: true, s: list(1, 2, policyEntry)},
		{key: 7, required: true, s: texts("json", "cbor")},
		{key: 8, required: true, s: list(0, 256, textSize(0, 128))},
		{key: 9, required: true, s: unsigned},
		{key: 10, required: true, s: unsigned},
		{key: 11, required: true, s: boolean},
	})

	policyDocument = members(
		"abi", integers(1), "question", policyEntry, "time", policyInteger, "settings", shape(policyValue),
		"peer", members("role", orNull(texts("server", "client")), "identity", orNull(text), "thumbprint", orNull(text),
			"profile", texts("none", "identity", "attested"), "config", orNull(text), "alone", shape(boolean)),
		"devices", list(0, maxCBOR, policyDevice),
		"call", orNull(members("kind", texts("request", "notification", "response", "stream", "end"), "method", orNull(text), "name", orNull(text),
			"uri", orNull(text), "arguments", shape(policyValue), "revision", orNull(text), "carrier", texts("envelope", "inline", "http", "tls", "none"))),
	)

	policyDevice = members(
		"label", shape(text), "kind", texts("tdx", "sgx", "sev-snp", "nitro", "nvidia-gpu", "cca", ""),
		"proven", shape(boolean), "simulated", shape(boolean), "debug", shape(boolean), "platform", orNull(text),
		"checks", list(0, maxCBOR, members("name", shape(text), "outcome", texts("pass", "fail", "warn", "not-performed"))),
		"tcb", orNull(members("status", policyStatus, "date", orNull(policyInteger), "out_of_date_since", orNull(policyInteger),
			"evaluation_number", orNull(policyInteger), "advisories", policyTexts,
			"parts", list(0, maxCBOR, members("name", shape(text), "status", policyStatus, "date", orNull(policyInteger),
				"behind", ranged(0, maxSafe), "advisories", policyTexts)))),
		"references", orNull(members("known", shape(boolean), "matched", shape(boolean), "tags", policyTexts)),
		"claims", orNull(each(func(c *cborWalk, r *dcbor.Reader, path string) {
			switch r.PeekMajor() {
			case mArray:
				policyTexts(c, r, path)
			case mMap:
				c.is(r, path, mText)
			default:
				policyValue(c, r, path)
			}
		})),
		"not_after", orNull(policyInteger),
	)

	policyResult = table([]field{
		{name: "decision", required: true, s: texts("allow", "deny", "abstain")},
		{name: "reasons", s: list(0, 32, table([]field{
			{name: "code", required: true, s: textSize(1, 64)}, {name: "text", s: textSize(0, 256)}, {name: "claim", s: textSize(0, 256)},
		}))},
		{name: "vector", s: table(func() (out []field) {
			for _, name := range strings.Fields("configuration executables file-system hardware instance-identity runtime-opaque sourced-data storage-opaque") {
				out = append(out, field{name: name, s: ranged(-128, 127)})
			}
			return out
		}())},
		{name: "obligations", s: list(0, 16, table([]field{
			{name: "id", required: true, s: textSize(1, 64)}, {name: "value", required: true, s: policyJSON},
		}))},
	})
)

// members is a map with exactly these members: names and shapes in turn.
func members(pairs ...any) shape {
	var out []field
	for pair := range slices.Chunk(pairs, 2) {
		out = append(out, field{name: pair[0].(string), required: true, s: pair[1].(shape)})
	}
	return table(out)
}

// orNull is s, or null.
func orNull(s shape) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		probe := *r
		if probe.Err() == nil && probe.Null() {
			*r = probe
			return
		}
		s(c, r, path)
	}
}

// textSize is a text of lo to hi bytes.
func textSize(lo, hi int) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mText) {
			return
		}
		if n := len(r.Text()); n < lo || n > hi {
			c.fail(path, "size", "has %d bytes, must have %s", n, span(lo, hi))
		}
	}
}

// ranged is an integer from lo to hi.
func ranged(lo, hi int64) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if r.Err() != nil {
			return
		}
		if m := r.PeekMajor(); m != mUint && m != mNint {
			c.fail(path, "type", "is %s, must be an integer", majorNames[m])
			r.Skip()
			return
		}
		probe := *r
		v := probe.Int()
		r.Skip()
		if probe.Err() != nil || v < lo || v > hi {
			c.fail(path, "range", "must be %d to %d", lo, hi)
		}
	}
}

// each is a map with text keys, whose values are of shape s.
func each(s shape) shape {
	return func(c *cborWalk, r *dcbor.Reader, path string) {
		if !c.is(r, path, mMap) {
			return
		}
		for range r.Map() {
			if c.out != nil || r.Err() != nil || !c.is(r, path, mText) {
				return
			}
			s(c, r, path+"/"+escape(r.Text()))
		}
	}
}

// policyValue is JSON whose only numbers are integers that survive a double.
func policyValue(c *cborWalk, r *dcbor.Reader, path string) { jsonValue(c, r, path, false) }

// policyJSON is JSON.
func policyJSON(c *cborWalk, r *dcbor.Reader, path string) { jsonValue(c, r, path, true) }

// jsonValue follows the input's nesting, which the reader bounds.
func jsonValue(c *cborWalk, r *dcbor.Reader, path string, floats bool) {
	if r.Err() != nil {
		return
	}
	self := func(c *cborWalk, r *dcbor.Reader, path string) { jsonValue(c, r, path, floats) }
	switch m := r.PeekMajor(); m {
	case mUint, mNint:
		if floats {
			r.Skip()
			return
		}
		policyInteger(c, r, path)
	case mText:
		r.Text()
	case mArray:
		list(0, maxCBOR, self)(c, r, path)
	case mMap:
		each(self)(c, r, path)
	case mSimple:
		probe := *r
		if floats || probe.Null() {
			r.Skip()
			return
		}
		boolean(c, r, path)
	default:
		c.fail(path, "type", "is %s, must be JSON", majorNames[m])
		r.Skip()
	}
}
