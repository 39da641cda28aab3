package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"slices"
)

// keyCase is one key object: what is changed of the positive one, before or
// after it is signed, and what the verifier was given otherwise.
type keyCase struct {
	name, reason, req, note string
	change                  []func(*ko)
	mutate                  func([]byte) []byte
	in                      obj
}

func do(f ...func(*ko)) []func(*ko) { return f }

// header changes the protected header of the identity's signature.
func header(label, v any) func(*ko) {
	return func(k *ko) {
		if k.sigs[0].prot[label] = v; v == nil {
			delete(k.sigs[0].prot, label)
		}
	}
}

// encodedClaims replaces the payload after it was encoded; it is then signed.
func encodedClaims(f func([]byte) []byte) func(*ko) {
	return func(k *ko) { k.payload = f(enc(k.claims)) }
}

func replace(old, new []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		if bytes.Count(b, old) != 1 {
			panic("the bytes to replace stand there not once")
		}
		return bytes.Replace(b, old, new, 1)
	}
}

func goodKeys() []keyCase {
	nonce := seed("nonce")[:16]
	ec256, ec384 := ecKey(elliptic.P256(), "p256"), ecKey(elliptic.P384(), "p384")
	return []keyCase{
		{name: "plain", req: "TMCP-5.1-1 TMCP-5.4-7", note: "The positive twin of the negative cases: Ed25519, pinned, at the first second of its validity."},
		{name: "es256", req: "TMCP-5.2-2", note: "An ECDSA P-256 identity.", change: do(by(ec256, algES256)), in: obj{"pins": []x{thumbprint(ec256.Public())}}},
		{name: "es384", req: "TMCP-5.2-2", note: "An ECDSA P-384 identity.", change: do(by(ec384, algES384)), in: obj{"pins": []x{thumbprint(ec384.Public())}}},
		{name: "second-pin", req: "TMCP-5.4-8", note: "The key is the second of two pinned ones.", in: obj{"pins": []x{seed("other"), thumbprint(identityKey().Public())}}},
		{name: "last-second", req: "TMCP-5.4-4", note: "One second before exp.", in: obj{"now": t0 + 599}},
		{name: "nbf-60-ahead", req: "TMCP-5.4-5", note: "The verifier's clock is 60 seconds behind: allowed.", in: obj{"now": t0 - 60}},
		{name: "one-hour", req: "TMCP-5.4-6", note: "Valid for exactly an hour.", change: do(claim(cExp, t0+3600))},
		{name: "nonce", req: "TMCP-4.6-4", note: "The nonce that was sent.", change: do(claim(cNonce, nonce)), in: obj{"nonce": x(nonce)}},
		{name: "nonce-8", req: "TMCP-4.6-4", note: "The shortest nonce.", change: do(claim(cNonce, nonce[:8])), in: obj{"nonce": x(nonce[:8])}},
		{name: "nonce-64", req: "TMCP-4.6-4", note: "The longest nonce.", change: do(claim(cNonce, bytes.Repeat(nonce, 4))), in: obj{"nonce": x(bytes.Repeat(nonce, 4))}},
		{name: "nonce-not-asked", req: "TMCP-4.6-4", note: "A nonce that nobody sent is ignored.", change: do(claim(cNonce, nonce))},
		{name: "role-client", req: "TMCP-5.4-2", note: "A client's key object where one is expected.", change: do(claim(cRole, 2)), in: obj{"role": 2}},
		{name: "tool-set", req: "TMCP-5.3-7", note: "With a tool-set digest.", change: do(claim(cTools, seed("tools")))},
		{name: "policy-digest", req: "TMCP-5.3-7", note: "With the digest of a policy.", change: do(claim(cPolicy, seed("policy")))},
		{name: "unknown-claim", req: "TMCP-5.3-6", note: "A claim that is not known is ignored.", change: do(claim(-70999, a{1, m{"x": nil}}))},
		{name: "unknown-text-claim", req: "TMCP-5.3-6", note: "So is one whose key is text.", change: do(func(k *ko) { k.claims["x"] = true })},
		{name: "unknown-suite", req: "TMCP-5.3-5", note: "A key for a suite of a later version is ignored.", change: do(claim(cKeys, append(serverKeys(), a{3, []byte{1}})))},
		{name: "two-unknown-suites", req: "TMCP-5.3-5", note: "Two of them, with large numbers. Catches clamping both to one.", change: do(claim(cKeys, append(serverKeys(), a{300, []byte{1}}, a{301, []byte{1}})))},
		{name: "only-mandatory-suite", req: "TMCP-5.3-3", note: "A key for suite 1 alone.", change: do(claim(cKeys, serverKeys()[:1]))},
		{name: "attested", req: "TMCP-5.2-3", note: "With an attested key, its signature and evidence; the verifier demands identity only.", change: do(attested)},
		{name: "settings-respaced", req: "TMCP-4.8-1", note: "A proxy re-serialised the settings: nothing changed.", in: obj{"settings": "{ " + serverSettings[1:]}},
	}
}

const koi = "key-object-invalid"

func badKeys() []keyCase {
	other := ed25519.NewKeyFromSeed(seed("another identity"))
	ec256 := ecKey(elliptic.P256(), "p256")
	nonce := seed("nonce")[:16]
	list := slices.Concat(badClaims(other, nonce), badHeaders(other, ec256), badStructures(), badIdentityKeys(ec256), badAttested())
	return list
}

func badClaims(other ed25519.PrivateKey, nonce []byte) []keyCase {
	list := []keyCase{
		{name: "expired", reason: "key-object-expired", req: "TMCP-5.4-4", note: "At exp. Without grace: a stolen key is good for its minutes and no longer.", in: obj{"now": t0 + 600}},
		{name: "expired-by-a-second", reason: "key-object-expired", req: "TMCP-5.4-4", note: "One second past.", in: obj{"now": t0 + 601}},
		{name: "nbf-61-ahead", reason: "key-object-not-yet-valid", req: "TMCP-5.4-5", note: "nbf 61 seconds ahead.", change: do(claim(cIat, t0-120)), in: obj{"now": t0 - 61}},
		{name: "iat-61-ahead", reason: "key-object-not-yet-valid", req: "TMCP-5.4-14", note: "Issued in the future.", change: do(claim(cIat, t0+61))},
		{name: "longer-than-an-hour", reason: koi, req: "TMCP-5.4-6", note: "Valid for an hour and a second.", change: do(claim(cExp, t0+3601))},
		{name: "exp-is-nbf", reason: koi, req: "TMCP-5.4-6", note: "exp equals nbf, both ahead within the skew.", change: do(claim(cExp, t0+30), claim(cNbf, t0+30))},
		{name: "exp-huge", reason: koi, req: "TMCP-5.4-6", note: "exp 2^63-1. Catches overflow.", change: do(claim(cExp, uint64(1<<63-1)))},
		{name: "exp-max", reason: koi, req: "TMCP-5.4-6", note: "exp 2^64-1. Catches a negative time.", change: do(claim(cExp, uint64(1<<64-1)))},
		{name: "exp-negative", reason: koi, req: "TMCP-5.3-7", note: "Times are unsigned.", change: do(claim(cExp, -1))},
		{name: "exp-float", reason: koi, req: "TMCP-5.3-7", note: "A float where an integer belongs.", change: do(claim(cExp, float64(t0)+600.5))},
		{name: "role-mismatch", reason: "role-mismatch", req: "TMCP-5.4-2", note: "Reflection: a client's own key object shown to it as the server's.", change: do(claim(cRole, 2))},
		{name: "role-server-for-client", reason: "role-mismatch", req: "TMCP-5.4-2", note: "Reflection the other way.", in: obj{"role": 2}},
		{name: "role-257", reason: "role-mismatch", req: "TMCP-5.4-2", note: "Role 257 is not role 1. Catches truncation to a byte.", change: do(claim(cRole, 257))},
		{name: "sub-other", reason: "identity-mismatch", req: "TMCP-5.4-3", note: "Diversion: a genuine key object of another server.", change: do(claim(cSub, "https://other.example/mcp"))},
		{name: "sub-slash", reason: "identity-mismatch", req: "TMCP-5.4-3", note: "Byte-equal, so without normalising.", change: do(claim(cSub, identity+"/"))},
		{name: "sub-case", reason: "identity-mismatch", req: "TMCP-5.4-3", note: "Case counts.", change: do(claim(cSub, "https://API.example.com/mcp"))},
		{name: "sub-prefix", reason: "identity-mismatch", req: "TMCP-5.4-3", note: "A prefix of the identity.", change: do(claim(cSub, "https://api.example.com"))},
		{name: "eat-profile-other", reason: koi, req: "TMCP-5.3-2", note: "An EAT of another profile, signed by the same key.", change: do(claim(cProfile, "tag:trustedmcp.org,2026:key-2"))},
		{name: "nonce-differs", reason: "nonce-mismatch", req: "TMCP-4.6-4", note: "Replay of an object made for another nonce.", change: do(claim(cNonce, nonce)), in: obj{"nonce": x(flip(nonce, 3))}},
		{name: "nonce-missing", reason: "nonce-mismatch", req: "TMCP-4.6-4", note: "Replay of the object without a nonce.", in: obj{"nonce": x(nonce)}},
		{name: "nonce-prefix", reason: "nonce-mismatch", req: "TMCP-4.6-4", note: "The first half of the nonce.", change: do(claim(cNonce, nonce[:8])), in: obj{"nonce": x(nonce)}},
		{name: "nonce-7", reason: koi, req: "TMCP-5.3-7", note: "A nonce of 7 bytes.", change: do(claim(cNonce, nonce[:7]))},
		{name: "nonce-65", reason: koi, req: "TMCP-5.3-7", note: "A nonce of 65 bytes.", change: do(claim(cNonce, append(bytes.Repeat(nonce, 4), 0)))},
		{name: "nonce-text", reason: koi, req: "TMCP-5.3-7", note: "A nonce as text.", change: do(claim(cNonce, "0123456789abcdef"))},
		{name: "settings-digest-other", reason: "settings-mismatch", req: "TMCP-5.4-13", note: "The digest of other settings.", change: do(claim(cSettings, seed("settings")))},
		{name: "settings-rewritten", reason: "settings-mismatch", req: "TMCP-5.4-13 TMCP-4.8-1", note: "A relay rewrote the list of suites to the weaker one.", in: obj{"settings": clientSettings2}},
		{name: "settings-digest-31", reason: koi, req: "TMCP-5.3-7", note: "A digest of 31 bytes.", change: do(claim(cSettings, seed("settings")[:31]))},
		{name: "tool-set-31", reason: koi, req: "TMCP-5.3-7", note: "A tool-set digest of 31 bytes.", change: do(claim(cTools, seed("tools")[:31]))},
		{name: "policy-digest-text", reason: koi, req: "TMCP-5.3-7", note: "A policy digest as text.", change: do(claim(cPolicy, "policy"))},
		{name: "profile-unknown", reason: koi, req: "TMCP-10.4-4", note: "A profile that no key object has.", change: do(claim(cTrust, "gold"))},
		{name: "profile-attested-without-key", reason: koi, req: "TMCP-5.4-12", note: "Claims to be attested, and shows no attested key.", change: do(claim(cTrust, "attested"))},
		{name: "keys-empty", reason: koi, req: "TMCP-5.3-3", note: "No keys.", change: do(claim(cKeys, a{}))},
		{name: "keys-without-mandatory", reason: koi, req: "TMCP-5.3-3", note: "No key for suite 1.", change: do(claim(cKeys, serverKeys()[1:]))},
		{name: "keys-unsorted", reason: koi, req: "TMCP-5.3-3", note: "Suite 2 before suite 1.", change: do(claim(cKeys, a{serverKeys()[1], serverKeys()[0]}))},
		{name: "keys-double", reason: koi, req: "TMCP-5.3-3", note: "Two keys for suite 1: which one is meant?", change: do(claim(cKeys, a{serverKeys()[0], serverKeys()[0]}))},
		{name: "keys-suite-0", reason: koi, req: "TMCP-5.3-3", note: "There is no suite 0.", change: do(claim(cKeys, append(a{a{0, []byte{1}}}, serverKeys()...)))},
		{name: "keys-suite-257", reason: koi, req: "TMCP-5.3-3", note: "Suite 257 in the place of suite 1. Catches truncation to a byte.", change: do(claim(cKeys, a{a{257, suites[1].private.PublicKey().Bytes()}}))},
		{name: "keys-triple", reason: koi, req: "TMCP-5.3-7", note: "An entry of three items.", change: do(claim(cKeys, a{append(serverKeys()[0].(a), 1)}))},
		{name: "hybrid-key-short", reason: koi, req: "TMCP-5.3-4", note: "A hybrid public key one byte short.", change: do(claim(cKeys, a{a{1, suites[1].private.PublicKey().Bytes()[:1215]}}))},
		{name: "hybrid-key-long", reason: koi, req: "TMCP-5.3-4", note: "One byte too long.", change: do(claim(cKeys, a{a{1, append(suites[1].private.PublicKey().Bytes(), 0)}}))},
		{name: "hybrid-key-coefficient", reason: koi, req: "TMCP-5.3-4 TMCP-6.1-2", note: "The ML-KEM half holds a coefficient that is not below q. FIPS 203 demands the check.", change: do(claim(cKeys, a{a{1, append([]byte{0xff, 0xff, 0xff}, suites[1].private.PublicKey().Bytes()[3:]...)}}))},
		{name: "x25519-key-short", reason: koi, req: "TMCP-5.3-4", note: "An X25519 public key of 31 bytes.", change: do(claim(cKeys, a{serverKeys()[0], a{2, suites[2].private.PublicKey().Bytes()[:31]}}))},
	}
	for _, c := range []struct {
		name string
		key  int
	}{{"sub", cSub}, {"exp", cExp}, {"nbf", cNbf}, {"iat", cIat}, {"eat-profile", cProfile}, {"role", cRole}, {"keys", cKeys}, {"profile", cTrust}, {"settings", cSettings}} {
		list = append(list,
			keyCase{name: "missing-" + c.name, reason: koi, req: "TMCP-5.3-7", note: "The claim is missing. A zero value in its place would be a default that nobody signed.", change: do(claim(c.key, nil))},
			keyCase{name: "wrong-type-" + c.name, reason: koi, req: "TMCP-5.3-7", note: "The claim is a map.", change: do(claim(c.key, m{}))})
	}
	return list
}
