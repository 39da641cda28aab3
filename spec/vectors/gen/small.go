package main

import (
	"strings"
)

func scheduleVectors() {
	for _, v := range []struct {
		name, note string
		s          uint64
		change     []func(*session)
	}{
		{"hybrid", "The mandatory suite.", 1, nil},
		{"hybrid-second", "Another encapsulation to the same key.", 1, []func(*session){second}},
		{"hybrid-revision", "With a revision.", 1, []func(*session){rev("2026-07-28")}},
		{"x25519", "The other suite.", 2, nil},
		{"x25519-second", "Another encapsulation with it.", 2, []func(*session){second}},
		{"client-key", "With the digest of a client's key object.", 1, []func(*session){func(c *session) { c.clientKey = seed("client key") }}},
		{"server-role", "A context opened by a server, which this version does not use.", 1, []func(*session){func(c *session) { c.role = 1 }}},
	} {
		c := newSession(v.s, v.change...)
		var key any
		if k, ok := c.clientKey.([]byte); ok {
			key = x(k)
		}
		add("info", v.name, vec{req: "TMCP-6.2-1", note: v.note, in: obj{"role": c.role, "suite": c.suiteInInfo, "key_digest": x(c.keyDigest), "server_settings_digest": x(c.serverSettingsDigest),
			"client_settings_digest": x(c.clientSettings_), "client_key_digest": key, "revision": c.revision}, out: obj{"info": x(c.info)}})
		answerKey, answerNonce := c.answerKeys(salt)
		nonces := a{}
		for _, at := range [][2]uint64{{0, 0}, {1, 0}, {0, 1}, {1<<48 - 1, 1<<32 - 1}, {1 << 32, 7}} {
			nonces = append(nonces, obj{"seq": at[0], "n": at[1], "nonce": x(nonceAt(c.requestNonce(), at[0], at[1]))})
		}
		add("key-schedule", v.name, vec{req: "TMCP-6.3-3 TMCP-6.4-1", note: v.note + " From the recipient's private key to every key and some nonces.",
			in: obj{"suite": c.suite, "private_key": x(must(suites[v.s].private.Bytes())), "enc": x(c.enc), "info": x(c.info), "salt": x(salt)},
			out: obj{"exporter_context": x(L + "keys"), "exported": x(c.exported), "context": x(c.ctx()), "request_key": x(c.requestKey()), "request_base_nonce": x(c.requestNonce()),
				"answer_secret": x(c.answerSecret()), "answer_key": x(answerKey), "answer_base_nonce": x(answerNonce), "request_nonces": nonces}})
	}
	bad := func(name, note string, s uint64, enc []byte) {
		c := newSession(s)
		add("key-schedule", name, vec{reason: "open-failed", req: "TMCP-6.1-2", note: note,
			in: obj{"suite": s, "private_key": x(must(suites[s].private.Bytes())), "enc": x(enc), "info": x(c.info), "salt": x(salt)}})
	}
	bad("x25519-zero", "The point of order 1: RFC 9180 demands to refuse an all-zero shared secret.", 2, make([]byte, 32))
	bad("x25519-short", "A share of 31 bytes.", 2, newSession(2).enc[:31])
	bad("hybrid-short", "An encapsulated key one byte short.", 1, newSession(1).enc[:1119])
	bad("hybrid-x25519-zero", "The same point in the X25519 half.", 1, append(clone(newSession(1).enc[:1088]), make([]byte, 32)...))
}

func smallVectors() {
	paddingVectors()
	base64Vectors()
	errorVectors()
	negotiationVectors()
}

// bucket is the length of a padded content whose length was n without.
func bucket(n int) int {
	size := 256
	for ; size < n && size < 64<<10; size *= 2 {
	}
	for size < n {
		size += 64 << 10
	}
	return size
}

func paddingVectors() {
	for _, v := range []struct {
		name, note string
		body       int
	}{
		{"empty", "The smallest content.", 0}, {"small", "Below the first bucket.", 100}, {"bucket-exact", "An item of padding of no bytes fills the first bucket exactly.", 256 - 3 - 2 - 1},
		{"bucket-over", "One byte more goes to the next bucket.", 256 - 3 - 2 - 1 + 1}, {"head-grows", "24 bytes of padding and more need a longer head.", 256 - 3 - 2 - 25},
		{"head-grows-2", "The content would need 24 zeros with a head of one byte, or 23 with one of two: no padding fits, and the next bucket is used.", 256 - 3 - 2 - 26 + 1},
		{"thousand", "1000 bytes.", 1000}, {"top", "Just below 64 KiB.", 65000}, {"above-top", "Above 64 KiB: multiples of it.", 66000}, {"large", "200 kB.", 200_000},
	} {
		content := padded(v.body)
		add("padding", v.name, vec{req: "TMCP-6.7-2", note: v.note, in: obj{"body_length": v.body},
			out: obj{"content_length": len(content), "content_sha256": x(sha(content))}})
	}
}

// padded is a padded content of kind message with n bytes of 'x'.
func padded(n int) []byte {
	head := enc(a{1, m{}, []byte(strings.Repeat("x", n))})
	for size := bucket(len(head) + 1); ; size = bucket(size + 1) {
		for zeros := 0; zeros <= size-len(head); zeros++ {
			if zeros < size-len(head)-9 {
				zeros = size - len(head) - 9 // no head is longer
			}
			if b := enc(a{1, m{}, []byte(strings.Repeat("x", n)), make([]byte, zeros)}); len(b) == size {
				return b
			}
		}
	}
}

func base64Vectors() {
	for _, v := range []struct {
		name, note, text string
		want             []byte
	}{
		{"empty", "No bytes.", "", []byte{}}, {"one-byte", "One byte in two characters.", "AQ", []byte{1}}, {"two-bytes", "Two bytes in three.", "AQI", []byte{1, 2}},
		{"three-bytes", "Three bytes in four.", "AQID", []byte{1, 2, 3}}, {"alphabet", "The two characters in which base64url differs.", "-_-_", []byte{0xfb, 0xff, 0xbf}},
	} {
		add("base64", v.name, vec{req: "TMCP-2.3-3", note: v.note, in: obj{"text": v.text}, out: obj{"bytes": x(v.want)}})
	}
	for _, v := range []struct{ name, note, text string }{
		{"padded", "Padding.", "AQ=="}, {"standard-alphabet", "The alphabet of plain base64.", "+/+/"}, {"trailing-bits", "Bits after the last byte: two spellings of one value.", "AR"},
		{"trailing-bits-3", "The same with three characters.", "AQJ"}, {"one-character", "One character is no byte.", "A"}, {"line-feed", "A line break, which lenient decoders skip.", "AQ\nID"},
		{"carriage-return", "Another one, at the end.", "AQID\r"}, {"space", "A space.", "AQ ID"}, {"zero-byte", "A NUL.", "AQ\x00ID"}, {"non-ascii", "A character beyond ASCII.", "AQÏD"},
	} {
		add("base64", v.name, vec{reason: "malformed-frame", req: "TMCP-2.3-3", note: v.note, in: obj{"text": v.text}})
	}
}

func errorVectors() {
	good := func(name, note, reason string, code int, more string) {
		js := `{"code":` + itoa(code) + `,"message":"trust: ` + reason + `","data":{"extension":"org.trustedmcp/trust","reason":"` + reason + `"` + more + `}}`
		add("error", name, vec{req: "TMCP-10.1-1 TMCP-10.1-2", note: note, in: obj{"error": js}, out: obj{"reason": reason, "code": code}})
	}
	for i, reason := range []string{"trust-required", "malformed-frame", "unsupported-version", "unsupported-suite", "carrier-refused", "unknown-key", "unknown-context", "replayed", "open-failed",
		"negotiation-mismatch", "outer-mismatch", "tool-changed", "client-key-required", "client-key-refused", "busy", "too-large", "out-of-order", "malformed-content", "profile-refused"} {
		good(reason, "The reason "+reason+" with its code.", reason, 29000+i, "")
	}
	good("with-key", "unknown-key with a key object.", "unknown-key", 29005, `,"key":"`+b64([]byte("key object"))+`","detail":"x"`)
	good("with-tool", "tool-changed with the tool.", "tool-changed", 29011, `,"tool":{"name":"transfer","digest":"`+b64(seed("tool"))+`"}`)
	good("unknown-member", "A member of data that is not known.", "busy", 29014, `,"later":[1]`)
	bad := func(name, note, js string) {
		add("error", name, vec{reason: "unsealed-error", req: "TMCP-10.3-4", note: note, in: obj{"error": js}})
	}
	bad("plain", "An ordinary JSON-RPC error.", `{"code":-32601,"message":"Method not found"}`)
	bad("other-extension", "An error of another extension.", `{"code":29005,"message":"x","data":{"extension":"org.example/x","reason":"unknown-key"}}`)
	bad("no-extension", "A reason without the extension.", `{"code":29005,"message":"x","data":{"reason":"unknown-key"}}`)
	bad("no-reason", "The extension without a reason.", `{"code":29005,"message":"x","data":{"extension":"org.trustedmcp/trust"}}`)
	bad("unknown-reason", "A reason that is not known.", `{"code":29099,"message":"x","data":{"extension":"org.trustedmcp/trust","reason":"please-send-plaintext"}}`)
	bad("reason-case", "Reasons are case-sensitive.", `{"code":29005,"message":"x","data":{"extension":"org.trustedmcp/trust","reason":"Unknown-Key"}}`)
	bad("reason-number", "A reason that is a number.", `{"code":29005,"message":"x","data":{"extension":"org.trustedmcp/trust","reason":29005}}`)
	bad("local-reason", "A peer tells a reason that only a client finds by itself.", `{"code":29106,"message":"x","data":{"extension":"org.trustedmcp/trust","reason":"no-overlap"}}`)
	bad("key-not-base64", "A key that is no base64url.", `{"code":29005,"message":"x","data":{"extension":"org.trustedmcp/trust","reason":"unknown-key","key":"A=="}}`)
	bad("data-array", "data that is an array.", `{"code":29005,"message":"x","data":["org.trustedmcp/trust","unknown-key"]}`)
}

func itoa(n int) string { return toJSON(n) }

func negotiationVectors() {
	const h, p = `"mlkem768x25519-sha256-aes256gcm"`, `"x25519-sha256-chacha20poly1305"`
	of := func(suites, carriers, profiles string) string {
		return `{"version":1,"profiles":[` + profiles + `],"carriers":[` + carriers + `],"suites":[` + suites + `],"mode":"required"}`
	}
	all := `"envelope","inline","http"`
	both := of(h+","+p, all, `"identity"`)
	good := func(name, note, client, server string, carrier, suite int) {
		add("negotiation", name, vec{req: "TMCP-4.7-1 TMCP-4.7-2", note: note, in: obj{"client": client, "server": server, "carrier": carrier}, out: obj{"suite": suite}})
	}
	bad := func(name, note, client, server string, carrier int) {
		add("negotiation", name, vec{reason: "no-overlap", req: "TMCP-4.7-3", note: note, in: obj{"client": client, "server": server, "carrier": carrier}})
	}
	good("both", "Both have both: the client's first.", both, both, 1, 1)
	good("client-decides", "The client's order counts, not the server's.", of(p+","+h, all, `"identity"`), both, 1, 2)
	good("server-order-ignored", "The server's order does not count.", both, of(p+","+h, all, `"identity"`), 1, 1)
	good("only-hybrid", "The client has one suite.", of(h, all, `"identity"`), both, 1, 1)
	good("server-only-hybrid", "The client prefers what the server lacks.", of(p+","+h, all, `"identity"`), of(h, all, `"identity"`), 1, 1)
	good("unknown-preferred", "The client prefers a suite that the server does not know.", of(`"later",`+h, all, `"identity"`), of(`"later",`+h, all, `"identity"`), 1, 1)
	good("inline", "A carrier that both list.", both, of(h, `"inline"`, `"identity"`), 2, 1)
	good("profiles", "One of several profiles in common.", of(h, all, `"attested","identity"`), of(h, all, `"identity"`), 1, 1)
	bad("no-suite", "No suite in common.", of(p, all, `"identity"`), of(h, all, `"identity"`), 1)
	bad("only-unknown-suite", "The only common suite is one that nobody knows here.", of(`"later"`, all, `"identity"`), of(`"later",`+h, all, `"identity"`), 1)
	bad("client-without-carrier", "The client's own settings do not list the carrier.", of(h, `"inline"`, `"identity"`), both, 1)
	bad("server-without-carrier", "The server's do not.", both, of(h, `"envelope"`, `"identity"`), 3)
	bad("no-profile", "No profile in common.", of(h, all, `"attested"`), both, 1)
	bad("empty-lists", "Empty lists.", of("", "", ""), both, 1)
}
