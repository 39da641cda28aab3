package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/binary"

	"github.com/fxamacker/cbor/v2"
)

func badHeaders(other ed25519.PrivateKey, ec256 *ecdsa.PrivateKey) []keyCase {
	const si = "signature-invalid"
	return []keyCase{
		{name: "signature-flipped", reason: si, req: "TMCP-5.4-7", note: "One bit of the signature.", change: do(func(k *ko) { k.sigs[0].bytes = flip(ed25519.Sign(identityKey(), []byte("x")), 5) })},
		{name: "payload-flipped", reason: si, req: "TMCP-5.4-7", note: "One bit of the settings digest after signing.", mutate: replace(settingsDigest(serverSettings), flip(settingsDigest(serverSettings), 0))},
		{name: "exp-extended", reason: si, req: "TMCP-5.4-7", note: "exp pushed back after signing.", mutate: replace(append([]byte{4, 0x1a}, be32(t0+600)...), append([]byte{4, 0x1a}, be32(t0+900)...))},
		{name: "hpke-key-swapped", reason: si, req: "TMCP-5.4-7", note: "Key substitution: another X25519 key after signing.", mutate: replace(suites[2].private.PublicKey().Bytes(), seed("attacker key"))},
		{name: "signed-by-another", reason: si, req: "TMCP-5.4-7", note: "Signed by another key than the one claimed.", change: do(func(k *ko) { k.sigs[0].key = other })},
		{name: "signature-empty", reason: si, req: "TMCP-5.4-7", note: "An empty signature.", change: do(func(k *ko) { k.sigs[0].bytes = []byte{} })},
		{name: "signature-short", reason: si, req: "TMCP-5.4-7", note: "A signature of 63 bytes.", mutate: cutSignature(1)},
		{name: "signature-zero", reason: si, req: "TMCP-5.4-7", note: "64 zero bytes.", change: do(func(k *ko) { k.sigs[0].bytes = make([]byte, 64) })},
		{name: "es256-zero", reason: si, req: "TMCP-5.4-7", note: "r and s of zero (psychic signatures).", change: do(by(ec256, algES256), func(k *ko) { k.sigs[0].bytes = make([]byte, 64) }), in: obj{"pins": []x{thumbprint(ec256.Public())}}},
		{name: "aad-empty", reason: si, req: "TMCP-5.1-4", note: "Signed without the label: such a signature may have been made for something else.", change: do(func(k *ko) { k.aad = "" })},
		{name: "aad-other-label", reason: si, req: "TMCP-5.1-4", note: "Signed under another label.", change: do(func(k *ko) { k.aad = L + "keys" })},
		{name: "alg-of-another-kind", reason: si, req: "TMCP-5.2-2", note: "alg says ES256, the key is Ed25519.", change: do(header(1, algES256))},
		{name: "alg-es384-with-p256", reason: si, req: "TMCP-5.2-2", note: "alg says ES384, the key is of P-256.", change: do(by(ec256, algES256), header(1, algES384)), in: obj{"pins": []x{thumbprint(ec256.Public())}}},
		{name: "alg-none", reason: si, req: "TMCP-5.2-1", note: "alg 0.", change: do(header(1, 0))},
		{name: "alg-rs256", reason: si, req: "TMCP-5.2-1", note: "alg -257, RSASSA-PKCS1-v1_5.", change: do(header(1, -257))},
		{name: "alg-hmac", reason: si, req: "TMCP-5.2-1", note: "alg 5, HMAC: the public key as a shared secret.", change: do(header(1, 5))},
		{name: "alg-missing", reason: si, req: "TMCP-5.2-1", note: "No alg: a verifier that falls back to the key's own kind accepts what was not said.", change: do(header(1, nil))},
		{name: "alg-text", reason: koi, req: "TMCP-5.2-1", note: "alg as text.", change: do(header(1, "EdDSA"))},
		{name: "kid-missing", reason: koi, req: "TMCP-5.2-3", note: "No kid.", change: do(header(4, nil))},
		{name: "kid-attested", reason: koi, req: "TMCP-5.2-3", note: "The only signature is named attested.", change: do(header(4, []byte("attested")))},
		{name: "kid-other", reason: koi, req: "TMCP-5.2-3", note: "A kid that is not known.", change: do(header(4, []byte("Identity")))},
		{name: "kid-text", reason: koi, req: "TMCP-5.2-3", note: "kid as text.", change: do(header(4, "identity"))},
		{name: "header-unknown", reason: koi, req: "TMCP-5.1-1", note: "A label that is not known in a signature's header.", change: do(header(99, 1))},
		{name: "header-crit", reason: koi, req: "TMCP-5.1-1", note: "crit demands understanding.", change: do(header(2, a{99}))},
		{name: "header-negative", reason: koi, req: "TMCP-5.1-1", note: "A private label.", change: do(header(-70000, 1))},
		{name: "header-double", reason: koi, req: "TMCP-2.3-1", note: "alg twice.", change: do(func(k *ko) {
			k.sigs[0].rawPro = append(append([]byte{0xa3, 1, 0x27, 1, 0x27, 4, 0x48}, "identity"...), []byte{}...)
		})},
		{name: "header-unsorted", reason: koi, req: "TMCP-2.3-1", note: "kid before alg.", change: do(func(k *ko) { k.sigs[0].rawPro = append(append([]byte{0xa2, 4, 0x48}, "identity"...), 1, 0x27) })},
		{name: "header-trailing", reason: koi, req: "TMCP-2.3-1", note: "A byte after the signature's header.", change: do(func(k *ko) { k.sigs[0].rawPro = append(enc(k.sigs[0].prot), 0) })},
		{name: "header-empty-string", reason: koi, req: "TMCP-5.2-3", note: "An empty protected header.", change: do(func(k *ko) { k.sigs[0].rawPro = []byte{} })},
		{name: "unprotected-body", reason: koi, req: "TMCP-5.1-3", note: "An unprotected header beside the body.", change: do(func(k *ko) { k.unprot = m{4: []byte("x")} })},
		{name: "unprotected-signature", reason: koi, req: "TMCP-5.1-3", note: "An unprotected kid beside a signature.", change: do(func(k *ko) { k.sigs[0].unprot = m{4: []byte("identity")} })},
		{name: "typ-missing", reason: koi, req: "TMCP-5.1-2", note: "No typ: a COSE_Sign made for another purpose.", change: do(func(k *ko) { k.typ = m{} })},
		{name: "typ-other", reason: koi, req: "TMCP-5.1-2", note: "The typ of another kind of object.", change: do(func(k *ko) { k.typ = m{16: "application/eat+cwt"} })},
		{name: "typ-number", reason: koi, req: "TMCP-5.1-2", note: "typ as a content format.", change: do(func(k *ko) { k.typ = m{16: 263} })},
		{name: "typ-and-more", reason: koi, req: "TMCP-5.1-2", note: "A label beside typ.", change: do(func(k *ko) { k.typ = m{16: "application/vnd.trustedmcp.key+cose", 3: 0} })},
	}
}

func be32(n int64) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// cutSignature shortens the last signature by n bytes.
func cutSignature(n int) func([]byte) []byte {
	return func(b []byte) []byte {
		at := len(b) - 66
		if b[at] != 0x58 || b[at+1] != 64 {
			panic("no signature of 64 bytes at the end")
		}
		b = clone(b[:len(b)-n])
		b[at+1] = byte(64 - n)
		return b
	}
}

func badStructures() []keyCase {
	long := func(b []byte) []byte { return append(b[:len(b):len(b)], make([]byte, 130<<10)...) }
	head := func(b []byte) []byte { // the head of the map of claims, in two bytes
		return append([]byte{0xb8, b[0] & 31}, b[1:]...)
	}
	indefinite := func(b []byte) []byte { return append(append([]byte{0xbf}, b[1:]...), 0xff) }
	double := func(b []byte) []byte { // sub once more, at its place
		one := append([]byte{cSub}, enc(identity)...)
		b = replace(one, append(clone(one), one...))(b)
		b[0]++
		return b
	}
	return []keyCase{
		{name: "empty", reason: koi, req: "TMCP-5.1-1", note: "No bytes.", mutate: func([]byte) []byte { return []byte{} }},
		{name: "truncated", reason: koi, req: "TMCP-5.1-1", note: "The last byte is missing.", mutate: func(b []byte) []byte { return b[:len(b)-1] }},
		{name: "trailing", reason: koi, req: "TMCP-2.3-1", note: "A byte follows.", mutate: func(b []byte) []byte { return append(b, 0) }},
		{name: "too-large", reason: koi, req: "TMCP-5.1-5", note: "Beyond 128 KiB.", mutate: long},
		{name: "tag-missing", reason: koi, req: "TMCP-5.1-1", note: "Without tag 98.", change: do(func(k *ko) { k.tag = 0 })},
		{name: "tag-sign1", reason: koi, req: "TMCP-5.1-1", note: "Tag 18, COSE_Sign1.", change: do(func(k *ko) { k.tag = 18 })},
		{name: "tag-twice", reason: koi, req: "TMCP-5.1-1", note: "Tag 98 twice.", mutate: func(b []byte) []byte { return append([]byte{0xd8, 98}, b...) }},
		{name: "array-of-five", reason: koi, req: "TMCP-5.1-1", note: "An item too many.", change: do(func(k *ko) { k.extra = a{nil} })},
		{name: "no-signatures", reason: koi, req: "TMCP-5.2-3", note: "An empty list of signatures: \"all of them verify\" holds.", change: do(func(k *ko) { k.sigs = nil })},
		{name: "two-signatures-of-identity", reason: koi, req: "TMCP-5.2-3", note: "The identity's signature twice.", change: do(func(k *ko) { k.sigs = append(k.sigs, k.sigs[0]) })},
		{name: "three-signatures", reason: koi, req: "TMCP-5.2-3", note: "Three signatures.", change: do(func(k *ko) { k.sigs = append(k.sigs, k.sigs[0], k.sigs[0]) })},
		{name: "payload-detached", reason: koi, req: "TMCP-5.1-1", note: "A null payload.", mutate: func([]byte) []byte { return nullPayload() }},
		{name: "payload-trailing", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "A byte after the claims, signed.", change: do(encodedClaims(func(b []byte) []byte { return append(b, 0) }))},
		{name: "payload-not-a-map", reason: koi, req: "TMCP-5.3-7", note: "Claims that are an array.", change: do(encodedClaims(func([]byte) []byte { return enc(a{1}) }))},
		{name: "claims-long-head", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "The map's length in more bytes than it needs, signed.", change: do(encodedClaims(head))},
		{name: "claims-indefinite", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "A map of indefinite length, signed.", change: do(encodedClaims(indefinite))},
		{name: "claim-double", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "sub twice, signed: two readers see two identities.", change: do(encodedClaims(double))},
		{name: "claims-unsorted", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "nbf before exp, signed.", change: do(encodedClaims(swapTimes))},
		{name: "claim-long-integer", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "The role in two bytes, signed.", change: do(encodedClaims(replace(append(enc(cRole), 1), append(enc(cRole), 0x18, 1))))},
		{name: "unknown-claim-double-deep", reason: koi, req: "TMCP-2.3-1 TMCP-5.1-1", note: "A key twice in a claim that is not known, signed.", change: do(claim(-70999, raw{0xa2, 1, 1, 1, 1}))},
		{name: "unknown-claim-bomb", reason: koi, req: "TMCP-2.3-2", note: "A claim that is not known nests 100 levels.", change: do(claim(-70999, raw(append(bytes.Repeat([]byte{0x81}, 100), 0))))},
		{name: "unknown-claim-huge-length", reason: koi, req: "TMCP-2.3-2", note: "A claim announces 2^63 elements, at the end of the map.", change: do(encodedClaims(func(b []byte) []byte {
			b = append(b, enc(-70999)...)
			b[0]++
			return append(b, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		}))},
		{name: "bad-utf8", reason: koi, req: "TMCP-2.3-1", note: "A profile that is not UTF-8, signed.", change: do(encodedClaims(replace([]byte("\x68identity"), []byte("\x68identit\xff"))))},
	}
}

func nullPayload() []byte {
	k := newKO()
	var t cbor.RawTag
	var items []cbor.RawMessage
	if err := cbor.Unmarshal(k.bytes(), &t); err != nil {
		panic(err)
	}
	if err := cbor.Unmarshal(t.Content, &items); err != nil {
		panic(err)
	}
	items[2] = raw{0xf6}
	return enc(cbor.Tag{Number: 98, Content: items})
}

// swapTimes exchanges claims 4 and 5, which stand side by side.
func swapTimes(b []byte) []byte {
	exp := append([]byte{cExp, 0x1a}, be32(t0+600)...)
	nbf := append([]byte{cNbf, 0x1a}, be32(t0)...)
	return replace(append(clone(exp), nbf...), append(clone(nbf), exp...))(b)
}

func badIdentityKeys(ec256 *ecdsa.PrivateKey) []keyCase {
	key := func(change func(m)) func(*ko) {
		return func(k *ko) { change(k.claims[cIDKey].(m)) }
	}
	return []keyCase{
		{name: "pin-of-another-key", reason: "identity-mismatch", req: "TMCP-5.4-8", note: "A key that is not pinned, everything else genuine.", in: obj{"pins": []x{seed("other")}}},
		{name: "no-pins", reason: "identity-mismatch", req: "TMCP-5.4-11", note: "Nothing is trusted: nobody passes.", in: obj{"pins": []x{}}},
		{name: "identity-key-missing", reason: koi, req: "TMCP-5.2-4", note: "Neither an identity key nor an x5chain.", change: do(claim(cIDKey, nil))},
		{name: "identity-key-with-kid", reason: koi, req: "TMCP-5.3-7", note: "A COSE_Key with a member beyond the required ones: one key, two encodings, two thumbprints.", change: do(key(func(k m) { k[2] = []byte("kid") }))},
		{name: "identity-key-without-x", reason: koi, req: "TMCP-5.3-7", note: "No x.", change: do(key(func(k m) { delete(k, -2) }))},
		{name: "identity-key-x448", reason: koi, req: "TMCP-5.3-7", note: "A curve that is not allowed.", change: do(key(func(k m) { k[-1] = 7 }))},
		{name: "identity-key-x25519", reason: koi, req: "TMCP-5.3-7", note: "A curve for key agreement (4).", change: do(key(func(k m) { k[-1] = 4 }))},
		{name: "identity-key-short", reason: koi, req: "TMCP-5.3-7", note: "x of 31 bytes.", change: do(key(func(k m) { k[-2] = k[-2].([]byte)[:31] }))},
		{name: "identity-key-off-curve", reason: koi, req: "TMCP-5.3-7", note: "A point that is not on P-256.", change: do(by(ec256, algES256), key(func(k m) { k[-3] = flip(k[-3].([]byte), 31) })), in: obj{"pins": []x{thumbprint(ec256.Public())}}},
		{name: "identity-key-resplit", reason: koi, req: "TMCP-5.3-7", note: "x of 31 and y of 33 bytes whose concatenation is the key. Catches concatenation without lengths.", change: do(by(ec256, algES256), key(func(k m) {
			px, py := k[-2].([]byte), k[-3].([]byte)
			k[-2], k[-3] = px[:31], append([]byte{px[31]}, py...)
		})), in: obj{"pins": []x{thumbprint(ec256.Public())}}},
		{name: "identity-key-text", reason: koi, req: "TMCP-5.3-7", note: "The identity key as text.", change: do(claim(cIDKey, "key"))},
	}
}

func badAttested() []keyCase {
	both := func(f func(*ko)) []func(*ko) { return do(attested, f) }
	return []keyCase{
		{name: "attested-signature-missing", reason: koi, req: "TMCP-5.4-12", note: "An attested key is claimed, its signature is missing.", change: both(func(k *ko) { k.sigs = k.sigs[:1] })},
		{name: "attested-key-missing", reason: koi, req: "TMCP-5.4-12", note: "The attested signature is there, the key is not.", change: both(claim(cAttKey, nil))},
		{name: "attested-signature-by-another", reason: "signature-invalid", req: "TMCP-5.4-1", note: "The attested signature is by another key: the hash of a key is no proof of having it.", change: both(func(k *ko) { k.sigs[1].key = ed25519.NewKeyFromSeed(seed("another attested key")) })},
		{name: "attested-signature-flipped", reason: "signature-invalid", req: "TMCP-5.4-1", note: "One bit of the attested signature.", change: attestedOnly(), mutate: func(b []byte) []byte { return flip(b, -1) }},
		{name: "signatures-reordered", reason: koi, req: "TMCP-5.2-3", note: "The two signatures in the other order.", change: both(func(k *ko) { k.sigs[0], k.sigs[1] = k.sigs[1], k.sigs[0] })},
		{name: "signatures-swapped", reason: "signature-invalid", req: "TMCP-5.2-3", note: "Each key signs in the other's name. Catches \"some signature is by some key\".", change: both(func(k *ko) { k.sigs[0].key, k.sigs[1].key = k.sigs[1].key, k.sigs[0].key })},
		{name: "attested-without-evidence", reason: koi, req: "TMCP-18.1-1", note: "An attested key that no evidence is shown for.", change: both(claim(cCMW, nil))},
		{name: "attested-without-freshness", reason: koi, req: "TMCP-18.1-1", note: "Evidence of an age that nobody can tell.", change: both(claim(cFresh, nil))},
		{name: "freshness-kind-unknown", reason: koi, req: "TMCP-18.1-2", note: "A kind of freshness that is not known.", change: both(claim(cFresh, a{4, []byte("freshness")}))},
		{name: "freshness-nonce-short", reason: koi, req: "TMCP-18.1-2", note: "Evidence for a nonce of 7 bytes.", change: both(claim(cFresh, a{2, []byte("1234567")}))},
		{name: "freshness-epoch-empty", reason: koi, req: "TMCP-18.1-2", note: "Evidence of an epoch without a name.", change: both(claim(cFresh, a{3, []byte{}}))},
		{name: "freshness-time-as-bytes", reason: koi, req: "TMCP-18.1-2", note: "A time as bytes.", change: both(claim(cFresh, a{1, []byte("12345678")}))},
		{name: "freshness-of-three", reason: koi, req: "TMCP-18.1-2", note: "An array of three.", change: both(claim(cFresh, a{1, 1795262400, 0}))},
		{name: "config-short", reason: koi, req: "TMCP-18.1-2", note: "A configuration digest of 31 bytes.", change: both(claim(cConfig, make([]byte, 31)))},
		{name: "config-without-key", reason: koi, req: "TMCP-18.1-1", note: "A configuration digest that nothing attested signs.", change: do(claim(cConfig, make([]byte, 32)))},
		{name: "identity-with-attested-key", reason: koi, req: "TMCP-12.1-1", note: "Profile identity, and an attested key beside it.", change: both(claim(cTrust, "identity"))},
		{name: "evidence-without-key", reason: koi, req: "TMCP-5.4-12", note: "Evidence beside a key object that nothing attested signs.", change: do(claim(cCMW, a{"application/octet-stream", []byte("evidence")}))},
	}
}

func attestedOnly() []func(*ko) { return do(attested) }
