package main

import (
	"bytes"
	"maps"
	"strings"
)

// step is one frame as it reaches the server; change replaces members.
func step(frame []byte, change ...obj) obj {
	s := obj{"frame": x(frame), "carrier": 1, "now": t0}
	for _, c := range change {
		maps.Copy(s, c)
	}
	return s
}

// http is a step under the HTTP carrier; of makes it a further chunk of the
// request that an earlier step began.
func http(frame []byte) obj { return step(frame, obj{"carrier": 3}) }

func of(i int) obj { return obj{"carrier": 3, "of": i} }

func request(name, reason, req, note string, steps ...obj) {
	list := a{}
	for _, s := range steps {
		list = append(list, s)
	}
	if reason == "" {
		panic(name + ": use accepted")
	}
	add("request", name, vec{reason: reason, req: req, note: note, in: obj{"steps": list}})
}

// accepted is a valid request; c and p made the last step's frame.
func accepted(name, req, note string, c *session, p part, steps ...obj) {
	list := a{}
	for _, s := range steps {
		list = append(list, s)
	}
	add("request", name, vec{req: req, note: note, in: obj{"steps": list}, out: obj{
		"suite": c.suite, "context": x(c.ctx()), "seq": p.seq, "n": p.n, "final": p.final, "revision": c.revision,
		"info": x(c.info), "enc": x(c.enc), "exported": x(c.exported), "request_key": x(c.requestKey()), "request_base_nonce": x(c.requestNonce()),
		"nonce": x(nonceAt(c.requestNonce(), p.seq, p.n)), "aad": x(p.requestAAD()), "plaintext": x(p.content), "ciphertext": x(c.sealRequest(p)),
	}})
}

func set(f func(*part)) part { return newPart(f) }

func content(v ...any) func(*part) { return func(p *part) { p.content = enc(a(v)) } }

func place(seq, n uint64, final bool) func(*part) {
	return func(p *part) { p.seq, p.n, p.final = seq, n, final }
}

func onHTTP(n uint64, final bool, seq ...uint64) part {
	p := newPart(func(p *part) {
		p.carrier, p.n, p.final = 3, n, final
		p.content = enc(a{6, m{}, []byte("more")})
		if n == 0 {
			p.content = enc(a{5, m{3: "/mcp?x=1", 4: "POST", 2: a{a{"content-type", []byte("application/json")}}}, []byte(ping)})
		}
		if seq != nil {
			p.seq = seq[0]
		}
	})
	return p
}

const callTransfer = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"transfer","arguments":{"to":"bob","amount":10}}}`

func inline(change ...func(*part)) part {
	p := newPart(func(p *part) {
		p.carrier, p.content, p.tool = 2, message(callTransfer), a{"transfer", toolDigest(identity, tool)}
	})
	for _, f := range change {
		f(&p)
	}
	return p
}

func outerTool(name string, digest []byte) obj {
	return obj{"carrier": 2, "tool": obj{"name": name, "digest": x(digest)}}
}

func rev(r string) func(*session)     { return func(c *session) { c.revision = r } }
func second(c *session)               { c.which = "b" }
func retryOf(ctx []byte, seq any) any { return m{8: a{ctx, seq, t0 + 600}} }

func requestVectors() {
	hybrid, plain := newSession(1), newSession(2)
	p := newPart()
	goodRequests(hybrid, plain, p)
	badOpen(hybrid, plain, p)
	badCommitments(p)
	badOutside(hybrid)
	badNext(hybrid, p)
	badChunks(hybrid)
	badInside(hybrid)
	retries(hybrid)
}

func goodRequests(hybrid, plain *session, p part) {
	simple := func(name, req, note string, c *session, p part, change ...obj) {
		change = append([]obj{{"carrier": p.carrier}}, change...)
		accepted(name, req, note, c, p, step(c.open(p), change...))
	}
	simple("open-hybrid", "TMCP-6.1-1 TMCP-6.3-1", "The positive twin of the negative cases: a cold message with the mandatory suite.", hybrid, p)
	simple("open-x25519", "TMCP-4.8-3", "The other suite, from a client that prefers it.", plain, p)
	simple("open-second-context", "TMCP-6.3-1", "Another encapsulation: another context.", newSession(1, second), p)
	simple("open-padded", "TMCP-6.7-1", "Padding.", hybrid, set(content(1, m{}, []byte(ping), make([]byte, 100))))
	simple("open-empty-padding", "TMCP-6.7-1", "A padding of no bytes.", hybrid, set(content(1, m{}, []byte(ping), []byte{})))
	simple("open-unknown-meta", "TMCP-6.6-2", "A meta key that is not known is ignored.", hybrid, set(content(1, m{99: a{1, m{}}}, []byte(ping))))
	simple("open-revision-field", "TMCP-4.8-5", "The revision is in the sealed field mcp-protocol-version.", newSession(1, rev("2025-06-18")), set(content(1, m{2: a{a{"mcp-protocol-version", []byte("2025-06-18")}}}, []byte(ping))))
	simple("open-revision-initialize", "TMCP-4.8-5", "The revision that an initialize asks for.", newSession(1, rev("2025-11-25")), set(content(1, m{}, []byte(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`))))
	simple("open-revision-meta", "TMCP-4.8-5", "The revision in a modern request's _meta.", newSession(1, rev("2026-07-28")), set(content(1, m{}, []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`))))
	simple("open-get", "TMCP-9.5-1", "The standing stream.", hybrid, set(content(2, m{}, []byte{})))
	simple("open-delete", "TMCP-7.2-1", "The end of an inner session.", hybrid, set(content(3, m{}, []byte{})))
	simple("open-labels", "TMCP-7.7-1", "Two disclosed labels, which sort by their encoding: shorter names first.", hybrid, set(func(p *part) { p.labels = m{"tenant": "blue", "zz": "1"} }), obj{"labels": obj{"zz": "1", "tenant": "blue"}})
	simple("open-inline", "TMCP-7.4-4", "Inline, with the tool outside.", hybrid, inline(), outerTool("transfer", toolDigest(identity, tool)))
	simple("open-inline-list", "TMCP-7.4-4", "An inline tools/list: no tool outside.", hybrid, inline(func(p *part) { p.tool, p.content = nil, message(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`) }))
	simple("open-http", "TMCP-7.5-1", "A whole HTTP message.", hybrid, onHTTP(0, true))
	simple("open-client-settings-unknown", "TMCP-4.2-6", "Client settings with a member and a suite that are not known.", newSession(1, func(c *session) {
		c.clientSettings = strings.Replace(clientSettings, `"suites":[`, `"zeta":[0.5],"suites":["later",`, 1)
	}), p)
	simple("open-last-second", "TMCP-5.6-3", "A server answers with an old key until 60 seconds after its exp.", hybrid, p, obj{"now": t0 + 659})

	at := func(seq uint64) part { return set(place(seq, 0, true)) }
	accepted("next", "TMCP-8.3-1", "A warm message.", hybrid, at(1), step(hybrid.open(p)), step(hybrid.next(at(1))))
	accepted("next-x25519", "TMCP-8.3-1", "A warm message with the other suite.", plain, at(1), step(plain.open(p)), step(plain.next(at(1))))
	accepted("next-overtaken", "TMCP-8.3-2", "Messages may overtake one another. Catches a counter in the place of a window.", hybrid, at(1), step(hybrid.open(p)), step(hybrid.next(at(2))), step(hybrid.next(at(1))))
	accepted("next-oldest-in-window", "TMCP-8.3-2", "1023 behind the newest is still in the window.", hybrid, at(1), step(hybrid.open(p)), step(hybrid.next(at(1024))), step(hybrid.next(at(1))))
	accepted("next-far-ahead", "TMCP-8.3-2", "A jump larger than the window.", hybrid, at(5000), step(hybrid.open(p)), step(hybrid.next(at(5000))))
	accepted("next-last-seq", "TMCP-6.4-2", "The last seq, 2^48-1.", hybrid, at(1<<48-1), step(hybrid.open(p)), step(hybrid.next(at(1<<48-1))))
	accepted("next-after-jump", "TMCP-8.3-2", "After a jump the window is clean: a seq that shares its place with an old one is fresh.", hybrid, at(1025), step(hybrid.open(p)), step(hybrid.next(at(1))), step(hybrid.next(at(2000))), step(hybrid.next(at(1025))))
	accepted("chunks", "TMCP-9.1-8", "A message of three chunks.", hybrid, onHTTP(2, true), http(hybrid.open(onHTTP(0, false))), step(hybrid.next(onHTTP(1, false)), of(0)), step(hybrid.next(onHTTP(2, true)), of(0)))
	accepted("chunks-warm", "TMCP-9.1-8", "A message of two chunks, warm.", hybrid, onHTTP(1, true, 3), http(hybrid.open(onHTTP(0, true))), http(hybrid.next(onHTTP(0, false, 3))), step(hybrid.next(onHTTP(1, true, 3)), of(1)))
}

func badOpen(hybrid, plain *session, p part) {
	items, items2 := hybrid.openItems(p), plain.openItems(p)
	const mf, of = "malformed-frame", "open-failed"
	one := func(name, reason, req, note string, frame []byte) { request(name, reason, req, note, step(frame)) }
	one("suite-2-in-hybrid", mf, "TMCP-7.1-3", "The suite rewritten to the weaker one: the encapsulated key has the wrong size.", with(items, 1, 2))
	one("suite-1-in-x25519", mf, "TMCP-7.1-3", "And the other way.", with(items2, 1, 1))
	one("suite-3", "unsupported-suite", "TMCP-4.8-4", "A suite that nobody knows.", with(items, 1, 3))
	one("suite-0", "unsupported-suite", "TMCP-4.8-4", "Suite 0.", with(items, 1, 0))
	one("suite-257", "unsupported-suite", "TMCP-4.8-4", "Suite 257. Catches truncation to a byte.", with(items, 1, 257))
	one("key-digest-flipped", "unknown-key", "TMCP-8.6-1", "Sealed to a key object that this server does not have.", with(items, 2, flip(hybrid.keyDigest, 0)))
	for _, v := range []struct {
		name, note string
		at         int
	}{{"mlkem-first", "One bit of the ML-KEM half, at its start. ML-KEM rejects implicitly, so only the schedule shows it.", 0},
		{"mlkem-last", "One bit of the ML-KEM half, at its end.", 1087}, {"x25519-first", "One bit of the X25519 half. A receiver that uses one half opens it.", 1088}, {"x25519-top-bit", "The top bit of the X25519 half, which X25519 itself ignores: the encapsulated key is in the key schedule.", 1119}} {
		e := clone(hybrid.enc)
		e[v.at] ^= map[bool]byte{true: 0x80, false: 1}[v.name == "x25519-top-bit"]
		one("enc-"+v.name, of, "TMCP-6.1-2", v.note, with(items, 3, e))
	}
	one("enc-halves-swapped", of, "TMCP-6.1-2", "The X25519 half before the ML-KEM half.", with(items, 3, append(clone(hybrid.enc[1088:]), hybrid.enc[:1088]...)))
	one("enc-mlkem-zero", of, "TMCP-6.1-2", "An ML-KEM half of zeros.", with(items, 3, append(make([]byte, 1088), hybrid.enc[1088:]...)))
	top := clone(plain.enc)
	top[31] ^= 0x80
	one("x25519-enc-top-bit", of, "TMCP-6.1-2", "The top bit of an X25519 share: the same point, another encoding.", with(items2, 3, top))
	one("x25519-enc-flipped", of, "TMCP-6.1-2", "One bit of the X25519 share.", with(items2, 3, flip(plain.enc, 0)))
	for i, point := range lowOrder() {
		name := string(rune('a' + i))
		one("x25519-low-order-"+name, of, "TMCP-6.1-2", "A point of low order: the shared secret is known to everybody.", with(items2, 3, point))
		one("hybrid-low-order-"+name, of, "TMCP-6.1-2", "A point of low order in the X25519 half.", with(items, 3, append(clone(hybrid.enc[:1088]), point...)))
	}
	one("enc-short", mf, "TMCP-7.1-3", "An encapsulated key one byte short.", with(items, 3, hybrid.enc[1:]))
	one("enc-long", mf, "TMCP-7.1-3", "One byte too long.", with(items, 3, append(clone(hybrid.enc), 0)))
	one("enc-other", of, "TMCP-6.2-1", "The encapsulated key of another message to the same key.", with(items, 3, encapsulation(1, "b")))

	settings := func(js string) []byte { return enc(fromJSON(js)) }
	one("client-settings-changed", of, "TMCP-6.2-1", "The client settings in the frame were rewritten: mode preferred.", with(items, 4, settings(strings.Replace(clientSettings, "required", "preferred", 1))))
	one("client-settings-suites-reordered", "negotiation-mismatch", "TMCP-4.8-3", "They were rewritten to prefer the weaker suite.", with(items, 4, settings(clientSettings2)))
	one("client-settings-version", "unsupported-version", "TMCP-4.2-1", "Client settings of version 2.", with(items, 4, settings(strings.Replace(clientSettings, `"version":1`, `"version":2`, 1))))
	one("client-settings-missing-mode", "negotiation-mismatch", "TMCP-4.2-7", "Client settings without mode.", with(items, 4, settings(strings.Replace(clientSettings, `,"mode":"required"`, ``, 1))))
	one("client-settings-not-cbor", mf, "TMCP-2.3-1", "Client settings as JSON text.", with(items, 4, []byte(clientSettings)))
	one("client-settings-trailing", mf, "TMCP-2.3-1", "A byte after the client settings.", with(items, 4, append(settings(clientSettings), 0)))
	one("client-settings-long-head", mf, "TMCP-2.3-1", "Client settings in an encoding that is not the shortest.", with(items, 4, append([]byte{0xb8, 5}, settings(clientSettings)[1:]...)))
	one("client-settings-byte-string", mf, "TMCP-2.4-1", "A value that JSON has no counterpart for.", with(items, 4, enc(m{"version": 1, "z": []byte{1}})))
	one("client-settings-float-one", mf, "TMCP-2.4-1", "The version as the float 1.0, which no mapping writes.", with(items, 4, bytes.Replace(settings(clientSettings), append(enc("version"), 1), append(enc("version"), 0xf9, 0x3c, 0), 1)))
	one("client-settings-large", "negotiation-mismatch", "TMCP-2.3-6", "Client settings beyond 16 KiB: memory of the server, once for each context.", with(items, 4, settings(strings.Replace(clientSettings, `"mode"`, `"z":"`+strings.Repeat("z", 16<<10)+`","mode"`, 1))))
	only := func(js string) *session { return newSession(1, func(c *session) { c.clientSettings = js }) }
	one("client-settings-without-carrier", "negotiation-mismatch", "TMCP-4.8-7", "Sealed by a client whose settings do not list the carrier.", only(strings.Replace(clientSettings, `"envelope",`, ``, 1)).open(p))
	one("client-settings-no-profile", "profile-refused", "TMCP-10.2-2", "No common profile.", only(strings.Replace(clientSettings, `"identity"`, `"attested"`, 1)).open(p))
	one("client-settings-no-suite", "negotiation-mismatch", "TMCP-4.8-3", "A client whose own settings list none of the server's suites.", only(strings.Replace(clientSettings, `["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"]`, `["later"]`, 1)).open(p))
	one("weaker-suite-used", "negotiation-mismatch", "TMCP-4.8-3", "A client that prefers the hybrid suite seals with the other one, as after a rewritten list. It would open.", newSession(2, func(c *session) { c.clientSettings = clientSettings }).open(p))

	one("revision-changed", of, "TMCP-6.2-1", "The revision in the frame was rewritten.", with(items, 5, "2025-06-18"))
	one("client-key-by-value", "client-key-refused", "TMCP-8.7-3", "A client key that nobody asked for.", with(items, 6, []byte("key object")))
	one("client-key-digest", "client-key-refused", "TMCP-8.7-3", "Its digest.", with(items, 6, seed("client key")))
	one("final-cleared", of, "TMCP-6.5-1", "final rewritten to false.", with(items, 7, false))
	ct := hybrid.sealRequest(p)
	one("ciphertext-first", of, "TMCP-6.5-2", "One bit of the ciphertext.", with(items, 8, flip(ct, 0)))
	one("ciphertext-tag", of, "TMCP-6.5-2", "One bit of the tag.", with(items, 8, flip(ct, -1)))
	one("ciphertext-short", of, "TMCP-6.5-2", "The last byte is missing.", with(items, 8, ct[:len(ct)-1]))
	one("ciphertext-long", of, "TMCP-6.5-2", "A byte more.", with(items, 8, append(clone(ct), 0)))
	one("ciphertext-tag-only", of, "TMCP-6.5-2", "A tag without ciphertext.", with(items, 8, ct[len(ct)-16:]))
	one("trailing", mf, "TMCP-2.3-1", "A byte after the frame.", append(hybrid.open(p), 0))
	one("empty", mf, "TMCP-7.1-1", "No bytes.", nil)
	one("answer-as-request", mf, "TMCP-7.1-1", "Reflection: an answer frame sent to the server.", hybrid.answer(p))

	open := hybrid.open(p)
	request("open-replayed", "replayed", "TMCP-8.4-2", "The same open frame a second time, as in a copied request with a new JSON-RPC id.", step(open), step(open))
	request("open-replayed-later", "replayed", "TMCP-8.4-1", "The same in the last second in which the key opens.", step(open), step(open, obj{"now": t0 + 659}))
	request("open-replayed-after-others", "replayed", "TMCP-8.4-1", "With other messages in between.", step(open), step(newSession(1, second).open(p)), step(plain.open(p)), step(open))
	request("open-61-after-exp", "unknown-key", "TMCP-5.6-3", "60 seconds after exp the key is gone.", step(open, obj{"now": t0 + 660}))
	request("carrier-other", of, "TMCP-6.5-1", "Sealed for the envelope, arrived under the HTTP carrier.", http(open))
}

// lowOrder are the encodings of points of order 1, 2, 4 and 8 on Curve25519 and
// its twist, and one that is not canonical.
func lowOrder() [][]byte {
	le := func(first byte, rest byte, last byte) []byte {
		b := bytes.Repeat([]byte{rest}, 32)
		b[0], b[31] = first, last
		return b
	}
	eight := unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	eightB := unhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
	return [][]byte{le(0, 0, 0), le(1, 0, 0), eight, eightB, le(0xec, 0xff, 0x7f), le(0xed, 0xff, 0x7f), le(0xee, 0xff, 0x7f)}
}

// badCommitments each have one item of the context's info changed on the
// sender's side.
func badCommitments(p part) {
	for _, v := range []struct {
		name, req, note string
		change          func(*session)
	}{
		{"info-role", "TMCP-6.2-1", "The role is that of the server: a message reflected.", func(c *session) { c.role = 1 }},
		{"info-suite", "TMCP-6.2-1", "The other suite's number.", func(c *session) { c.suiteInInfo = 2 }},
		{"info-server-settings", "TMCP-6.2-2", "The client saw other server settings: the negotiation was rewritten on the way.", func(c *session) { c.serverSettings = clientSettings2 }},
		{"info-client-settings", "TMCP-6.2-1", "The client has other settings than the frame tells.", func(c *session) { c.clientSettings_ = settingsDigest(clientSettings2) }},
		{"info-digests-swapped", "TMCP-6.2-1", "The two settings digests in each other's place.", func(c *session) {
			c.serverSettingsDigest, c.clientSettings_ = settingsDigest(clientSettings2), settingsDigest(serverSettings)
		}},
		{"info-client-key", "TMCP-6.2-1", "The client committed to a key that the frame does not tell.", func(c *session) { c.clientKey = seed("client key") }},
	} {
		c := newSession(1, v.change)
		c.clientKey = nil
		request(v.name, "open-failed", v.req, v.note, step(c.open(p)))
	}
	c := newSession(1, func(c *session) { c.keyDigest = seed("other key object") })
	c.keyDigest = keyDigest(serverObject())
	request("info-key-digest", "open-failed", "TMCP-6.2-1", "The client committed to another key object with the same HPKE key, so to another statement about it.", step(c.open(p)))
	c = newSession(1, rev("2025-06-18"))
	c.revision = ""
	request("info-revision", "open-failed", "TMCP-6.2-1", "The client committed to a revision that the frame does not tell.", step(c.open(p)))
	c = newSession(1)
	c.exported = must(reExport(c, L+"key"))
	request("export-label", "open-failed", "TMCP-6.3-1", "The secrets exported under another label.", step(c.open(p)))
}

func badOutside(hybrid *session) {
	d := toolDigest(identity, tool)
	frame := hybrid.open(inline())
	const of = "open-failed"
	request("tool-renamed", of, "TMCP-7.4-4", "Another tool stands outside than was sealed.", step(frame, outerTool("transfer2", d)))
	request("tool-digest", of, "TMCP-7.4-4", "The tool's definition changed since it was approved.", step(frame, outerTool("transfer", seed("tool"))))
	request("tool-removed", of, "TMCP-7.4-4", "No tool stands outside.", step(frame, obj{"carrier": 2}))
	request("tool-resplit", of, "TMCP-6.5-1", "A byte moved from the name to the digest. Catches concatenation without lengths.", step(frame, outerTool("transfe", append([]byte("r"), d[:31]...))))
	request("tool-under-envelope", "outer-mismatch", "TMCP-7.4-5", "A tool outside under the envelope.", step(hybrid.open(newPart()), obj{"tool": obj{"name": "transfer", "digest": x(d)}}))
	request("tool-missing-in-seal", "outer-mismatch", "TMCP-7.4-4", "A tools/call sealed inline without its tool.", step(hybrid.open(inline(func(p *part) { p.tool = nil })), obj{"carrier": 2}))
	request("tool-with-list", "outer-mismatch", "TMCP-7.4-4", "A tool outside of a sealed tools/list.", step(hybrid.open(inline(func(p *part) { p.content = message(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`) })), outerTool("transfer", d)))
	request("inline-as-envelope", of, "TMCP-6.5-1", "Sealed inline, arrived in the envelope.", step(frame))
	labelled := hybrid.open(set(func(p *part) { p.labels = m{"tenant": "blue"} }))
	label := func(k, v string) obj { return obj{"labels": obj{k: v}} }
	request("label-changed", of, "TMCP-6.5-1", "A disclosed label was rewritten.", step(labelled, label("tenant", "red")))
	request("label-renamed", of, "TMCP-6.5-1", "Its name was.", step(labelled, label("tenants", "blue")))
	request("label-removed", of, "TMCP-6.5-1", "It was taken away.", step(labelled))
	request("label-added", of, "TMCP-6.5-1", "One was added.", step(hybrid.open(newPart()), label("tenant", "blue")))
	request("label-resplit", of, "TMCP-6.5-1", "A byte moved from the name to the value.", step(labelled, label("tenan", "tblue")))
	bare := newSession(1)
	p := newPart()
	ct := aeadOf(1, bare.requestKey()).Seal(nil, nonceAt(bare.requestNonce(), 0, 0), p.content, nil)
	request("aad-empty", of, "TMCP-6.5-1", "Sealed without associated data.", step(with(bare.openItems(p), 8, ct)))
	ct = aeadOf(1, bare.requestKey()).Seal(nil, nonceAt(bare.requestNonce(), 0, 0), p.content, p.answerAAD())
	request("aad-of-answer", of, "TMCP-6.5-1", "Sealed with an answer's associated data.", step(with(bare.openItems(p), 8, ct)))
}

func badNext(hybrid *session, p part) {
	open := step(hybrid.open(p))
	at := func(seq uint64) part { return set(place(seq, 0, true)) }
	next := func(seq uint64) []byte { return hybrid.next(at(seq)) }
	items := hybrid.nextItems(at(1))
	const of, re = "open-failed", "replayed"
	request("next-without-open", "unknown-context", "TMCP-8.2-3", "A warm message of a context that this server never had.", step(next(1)))
	request("next-context-flipped", "unknown-context", "TMCP-8.2-3", "Another context id.", open, step(with(items, 1, flip(hybrid.ctx(), 0))))
	request("next-context-of-another", of, "TMCP-6.5-1", "A message moved to another context that the server has.", open, step(newSession(1, second).open(p)), step(with(items, 1, newSession(1, second).ctx())))
	request("next-seq-rewritten", of, "TMCP-6.5-1", "seq rewritten, so that a replay looks fresh.", open, step(next(1)), step(with(items, 2, 2)))
	request("next-n-rewritten", "out-of-order", "TMCP-9.1-9", "n rewritten: a message does not begin with chunk 1.", open, step(with(items, 3, 1)))
	request("next-final-cleared", of, "TMCP-6.5-1", "final rewritten.", open, step(with(items, 4, false)))
	request("next-ciphertext", of, "TMCP-6.5-2", "One bit of the ciphertext.", open, step(with(items, 5, flip(hybrid.sealRequest(at(1)), 3))))
	request("next-replayed", re, "TMCP-8.3-1", "The same warm message twice.", open, step(next(1)), step(next(1)))
	request("next-replayed-out-of-order", re, "TMCP-8.3-1", "The same warm message twice, after a later one.", open, step(next(1)), step(next(2)), step(next(1)))
	request("next-replays-open", re, "TMCP-8.3-1", "Message 0 again, as a next frame.", open, step(next(0)))
	request("next-before-window", re, "TMCP-8.3-2", "1024 behind the newest: a server that forgot must refuse.", open, step(next(1025)), step(next(1)))
	request("next-before-window-unseen", re, "TMCP-8.3-2", "Behind the window, at a place that nothing took. Catches a window one size too large.", open, step(next(1030)), step(next(2)))
	request("next-long-before-window", re, "TMCP-8.3-2", "Far behind the newest.", open, step(next(1<<40)), step(next(1)))
	request("next-seq-2-to-48", "malformed-frame", "TMCP-6.4-2", "A seq beyond its range.", open, step(with(items, 2, uint64(1)<<48)))
	request("next-n-2-to-32", "malformed-frame", "TMCP-6.4-3", "An n beyond its range.", open, step(with(items, 3, uint64(1)<<32)))
	request("next-after-key-dropped", "unknown-context", "TMCP-8.2-1", "60 seconds after exp the contexts of a key are gone with it.", open, step(next(1), obj{"now": t0 + 660}))
	request("next-carrier-other", of, "TMCP-6.5-1", "A warm message under another carrier.", open, http(next(1)))
	request("next-of-answer", of, "TMCP-6.5-1", "Reflection: the ciphertext of an answer in a next frame.", open, step(with(items, 5, hybrid.answerItems(set(place(1, 0, true)))[6])))
	request("next-not-final-in-envelope", "malformed-frame", "TMCP-7.3-1", "Only the HTTP carrier has messages of several frames.", open, step(hybrid.next(set(place(1, 0, false)))))
	request("next-nonce-of-seq-0", of, "TMCP-6.4-1", "Sealed with the nonce of another seq.", open, step(with(items, 5, aeadOf(1, hybrid.requestKey()).Seal(nil, nonceAt(hybrid.requestNonce(), 0, 0), p.content, at(1).requestAAD()))))
	request("next-revision-changes", "negotiation-mismatch", "TMCP-4.8-5", "A message of another revision than its context's.", open, step(hybrid.next(newPart(place(1, 0, true), content(1, m{2: a{a{"mcp-protocol-version", []byte("2025-06-18")}}}, []byte(ping))))))
}

func badChunks(c *session) {
	first := http(c.open(onHTTP(0, false)))
	chunk := func(n uint64, final bool) []byte { return c.next(onHTTP(n, final)) }
	const ooo = "out-of-order"
	request("chunk-missing", ooo, "TMCP-9.1-9", "Chunk 2 follows chunk 0.", first, step(chunk(2, true), of(0)))
	request("chunk-twice", ooo, "TMCP-9.1-9", "Chunk 1 twice.", first, step(chunk(1, false), of(0)), step(chunk(1, false), of(0)))
	request("chunk-after-final", ooo, "TMCP-9.1-9", "A chunk after the final one.", first, step(chunk(1, true), of(0)), step(chunk(2, true), of(0)))
	request("chunk-of-another-message", ooo, "TMCP-9.1-9", "A chunk of another message of the context.", first, step(c.next(onHTTP(1, true, 4)), of(0)))
	request("chunk-open-again", ooo, "TMCP-9.1-9", "The open frame again, as a chunk.", first, step(c.open(onHTTP(0, false)), of(0)))
	request("chunk-flipped", "open-failed", "TMCP-6.5-2", "One bit of a chunk.", first, step(flip(chunk(1, true), -1), of(0)))
	request("chunk-final-set", "open-failed", "TMCP-6.5-1", "Truncation: a middle chunk made the final one.", first, step(with(c.nextItems(onHTTP(1, false)), 4, true), of(0)))
	request("chunk-renumbered", "open-failed", "TMCP-6.5-1", "Chunk 2 renumbered as chunk 1.", first, step(with(c.nextItems(onHTTP(2, true)), 3, 1), of(0)))
	p := onHTTP(1, true)
	p.content = onHTTP(0, true).content
	request("chunk-with-head", "malformed-content", "TMCP-6.6-3", "A second HTTP head in a further chunk.", first, step(c.next(p), of(0)))
	request("chunk-alone", ooo, "TMCP-9.1-9", "A chunk that no message began.", http(c.open(onHTTP(0, true))), http(c.next(onHTTP(1, true))))
}

func badInside(c *session) {
	const mc = "malformed-content"
	one := func(name, reason, req, note string, p part, change ...obj) {
		request(name, reason, req, note, step(c.open(p), append([]obj{{"carrier": p.carrier}}, change...)...))
	}
	one("kind-end", mc, "TMCP-6.6-3", "A kind of answers in a request.", set(content(4, m{}, []byte{})))
	one("kind-http-in-envelope", mc, "TMCP-6.6-3", "A whole HTTP message under the envelope.", set(content(5, m{4: "POST"}, []byte{})))
	one("kind-message-in-http", mc, "TMCP-6.6-3", "A bare message under the HTTP carrier.", set(func(p *part) { p.carrier = 3 }))
	one("kind-get-inline", mc, "TMCP-6.6-3", "The standing stream under the inline carrier.", inline(func(p *part) { p.tool, p.content = nil, enc(a{2, m{}, []byte{}}) }))
	one("kind-data-first", mc, "TMCP-6.6-3", "A further chunk in the place of the first.", set(func(p *part) { p.carrier, p.content = 3, enc(a{6, m{}, []byte{}}) }))
	one("content-not-cbor", mc, "TMCP-6.6-3", "A JSON-RPC message sealed without its content array.", set(func(p *part) { p.content = []byte(ping) }))
	one("content-empty", mc, "TMCP-6.6-3", "An empty plaintext.", set(func(p *part) { p.content = []byte{} }))
	one("padding-not-zero", mc, "TMCP-6.6-5", "Padding that holds something: a hidden channel.", set(content(1, m{}, []byte(ping), []byte{0, 0, 1})))
	one("revision-not-in-context", "negotiation-mismatch", "TMCP-4.8-5", "The inner message is of a revision, its context of none.", set(content(1, m{2: a{a{"mcp-protocol-version", []byte("2025-06-18")}}}, []byte(ping))))
	one("field-crlf", mc, "TMCP-6.6-7", "A field value that would end the HTTP head it becomes.", set(content(1, m{2: a{a{"x", []byte("a\r\nx-admin: 1")}}}, []byte(ping))))
}

func retries(c *session) {
	p := newPart()
	again := newSession(1, second)
	retry := func(ctx []byte, seq any) part { return set(content(1, retryOf(ctx, seq), []byte(ping))) }
	at := func(seq uint64) part { return set(place(seq, 0, true)) }
	const re, mc = "replayed", "malformed-content"
	r := retry(c.ctx(), 0)
	accepted("retry", "TMCP-8.5-1 TMCP-8.5-3", "A message sealed afresh, whose first seal did not arrive.", again, r, step(again.open(r)))
	request("retry-of-executed", re, "TMCP-8.5-2", "The first seal arrived: the message ran.", step(c.open(p)), step(again.open(r)))
	request("retry-then-first", re, "TMCP-8.5-3", "The first seal arrives after its retry ran. Catches a double transfer.", step(again.open(r)), step(c.open(p)))
	r1 := retry(c.ctx(), 1)
	request("retry-of-executed-warm", re, "TMCP-8.5-2", "The same with a warm message.", step(c.open(p)), step(c.next(at(1))), step(again.open(r1)))
	request("retry-then-first-warm", re, "TMCP-8.5-3", "The same in the other order.", step(c.open(p)), step(again.open(r1)), step(c.next(at(1))))
	third := newSession(2)
	request("retry-twice", re, "TMCP-8.5-3", "Two retries of one message: both name the first seal, so that one uses it up for the other.", step(again.open(r)), step(third.open(r)))
	request("retry-twice-warm-unknown", re, "TMCP-8.5-3", "Two retries of a warm message whose context this server never had.", step(again.open(r1)), step(third.open(r1)))
	accepted("retry-leaves-others", "TMCP-8.5-3", "A retry uses up its own message only.", c, at(2), step(c.open(p)), step(again.open(r1)), step(c.next(at(2))))
	warm := func(v any) []byte { return c.next(newPart(place(1, 0, true), content(1, v, []byte(ping)))) }
	request("retry-in-next", mc, "TMCP-8.5-1", "retry-of in a warm message, where remembering it costs the sender nothing.", step(c.open(p)), step(warm(retryOf(again.ctx(), 0))))
	request("retry-seq-too-large", mc, "TMCP-6.4-2", "retry-of names seq 2^64-1. Catches a window that wraps around and forgets.", step(c.open(p)), step(again.open(retry(c.ctx(), uint64(1<<64-1)))))
	request("retry-seq-far", re, "TMCP-8.5-3", "retry-of names a seq far ahead, which would shut the context's owner out.", step(c.open(p)), step(again.open(retry(c.ctx(), 1<<40))))
	request("retry-context-short", mc, "TMCP-6.6-3", "A context id of 15 bytes.", step(again.open(retry(c.ctx()[:15], 0))))
}
