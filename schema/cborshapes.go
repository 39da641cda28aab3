package schema

import "github.com/trustedmcp/tmcp/internal/dcbor"

// The shapes of trust/trust.cddl, in its order and under its names.

var (
	algorithm = integers(-8, -7, -35, -37) // EdDSA, ES256, ES384, PS256

	keyHeader = table([]field{{key: 16, required: true, s: texts("application/vnd.trustedmcp.key+cose")}})

	identitySignature = tuple([]shape{holds(table([]field{
		{key: 1, required: true, s: algorithm},
		{key: 4, required: true, s: literal("identity")},
		{key: 33, s: x5chain},
	})), empty, octets})

	attestedSignature = tuple([]shape{holds(table([]field{
		{key: 1, required: true, s: algorithm},
		{key: 4, required: true, s: literal("attested")},
	})), empty, octets})

	empty = table(nil)

	coseSign = tuple([]shape{holds(keyHeader), empty, holds(keyClaims), tuple([]shape{identitySignature}, attestedSignature)})

	coseKey = table([]field{{key: 1, required: true, s: integers()}}, mUint, mNint)

	keyClaims = table([]field{
		{key: 2, required: true, s: text},
		{key: 4, required: true, s: unsigned},
		{key: 5, required: true, s: unsigned},
		{key: 6, required: true, s: unsigned},
		{key: 10, s: size(8, 64)},
		{key: 265, required: true, s: texts("tag:trustedmcp.org,2026:key-1")},
		{key: 299, s: anyItem},
		{key: -70000, required: true, s: integers(1, 2)},
		{key: -70001, required: true, s: list(0, maxCBOR, tuple([]shape{unsigned, octets}))},
		{key: -70002, required: true, s: text},
		{key: -70003, required: true, s: digest},
		{key: -70004, s: digest},
		{key: -70005, s: digest},
		{key: -70006, s: coseKey},
		{key: -70007, s: coseKey},
		{key: -70008, s: freshness},
		{key: -70009, s: digest},
	}, mUint, mNint)

	names = list(1, maxCBOR, text)

	settings = table([]field{
		{name: "version", required: true, s: integers(1)},
		{name: "profiles", required: true, s: names},
		{name: "carriers", required: true, s: names},
		{name: "suites", required: true, s: names},
		{name: "mode", required: true, s: texts("required", "preferred")},
		{name: "clientKey", s: texts("none", "accepted", "required")},
	}, mText)

	ctxID      = size(16, 16)
	sequence   = between(0, 1<<48-1)
	chunk      = between(0, 1<<32-1)
	ciphertext = size(16, maxCBOR) // ends with the AEAD's tag

	nextFrame = tuple([]shape{integers(2), ctxID, sequence, chunk, boolean, ciphertext})

	content = tuple([]shape{between(1, 7), meta, octets}, octets)

	meta = table([]field{
		{key: 1, s: between(100, 599)},
		{key: 2, s: list(0, maxCBOR, tuple([]shape{text, octets}))},
		{key: 3, s: text},
		{key: 4, s: text},
		{key: 5, s: text},
		{key: 6, s: unsigned},
		{key: 7, s: text},
		{key: 8, s: tuple([]shape{ctxID, sequence, unsigned})},
		{key: 9, s: isTrue},
		{key: 10, s: size(1, 4096)},
	}, mUint)
)

// freshness is one of three kinds of evidence's.
func freshness(c *cborWalk, r *dcbor.Reader, path string) {
	kinds := map[uint64]shape{1: tuple([]shape{integers(1), unsigned}), 2: tuple([]shape{integers(2), size(8, 64)})}
	_, first := look(r, 0)
	if s, ok := kinds[first]; ok {
		s(c, r, path)
		return
	}
	tuple([]shape{integers(3), size(1, 64)})(c, r, path)
}

// keyObject is #6.98 of a COSE_Sign.
func keyObject(c *cborWalk, r *dcbor.Reader, path string) {
	if !c.is(r, path, mTag) {
		return
	}
	probe := *r
	probe.Tag(98)
	if probe.Err() != nil {
		c.fail(path, "tag", "must have tag 98 (COSE_Sign)")
		r.Skip()
		return
	}
	*r = probe
	coseSign(c, r, path)
}

// x5chain is one certificate, or two to eight, leaf first (RFC 9360).
func x5chain(c *cborWalk, r *dcbor.Reader, path string) {
	if r.PeekMajor() == mArray {
		list(2, 8, octets)(c, r, path)
		return
	}
	octets(c, r, path)
}

// frame picks the kind of frame by the first item.
func frame(c *cborWalk, r *dcbor.Reader, path string) {
	kinds := map[uint64]shape{1: openFrame, 2: nextFrame, 3: answerFrame}
	_, first := look(r, 0)
	if s, ok := kinds[first]; ok {
		s(c, r, path)
		return
	}
	c.fail(path, "enum", "is no array that begins with 1 (open), 2 (next) or 3 (answer)")
	r.Skip()
}

// look reads the unsigned integer at index i of the array ahead, without
// moving r. It gives the array's length, and 1<<64-1 where there is no such.
func look(r *dcbor.Reader, i int) (int, uint64) {
	probe := *r
	if probe.Err() != nil || probe.PeekMajor() != mArray {
		return 0, 1<<64 - 1
	}
	n := probe.Array()
	for range min(i, n) {
		probe.Skip()
	}
	if i >= n || probe.PeekMajor() != mUint {
		return n, 1<<64 - 1
	}
	return n, probe.Uint()
}

// encLen is the length of an encapsulated key by suite (chapter 6.1).
var encLen = map[uint64]int{1: 1120, 2: 32}

func openFrame(c *cborWalk, r *dcbor.Reader, path string) {
	_, suite := look(r, 1)
	n, ok := encLen[suite]
	if !ok {
		n = encLen[1] // the suite itself is the violation
	}
	tuple([]shape{integers(1), between(1, 2), digest, size(n, n), holds(settings), text, clientKey, boolean, ciphertext})(c, r, path)
}

// clientKey is null, a digest, or a key object.
func clientKey(c *cborWalk, r *dcbor.Reader, path string) {
	probe := *r
	if probe.Err() == nil && probe.Null() {
		*r = probe
		return
	}
	probe = *r
	if c.is(&probe, path, mBytes) && len(probe.Bytes()) == 32 {
		digest(c, r, path)
		return
	}
	holds(keyObject)(c, r, path)
}

func answerFrame(c *cborWalk, r *dcbor.Reader, path string) {
	salt := shape(null)
	if _, n := look(r, 3); n == 0 {
		salt = size(16, 16)
	}
	tuple([]shape{integers(3), ctxID, sequence, chunk, boolean, salt, ciphertext})(c, r, path)
}

func null(c *cborWalk, r *dcbor.Reader, path string) {
	if r.Err() != nil {
		return
	}
	probe := *r
	if !probe.Null() {
		c.fail(path, "type", "must be null: only the first answer frame has a salt")
		r.Skip()
		return
	}
	*r = probe
}
