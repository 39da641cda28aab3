package main

import "bytes"

// syntaxVectors are the outer structure of frames, which anyone can check.
func syntaxVectors() {
	c, p := newSession(1), newPart()
	warm := set(place(1, 0, true))
	open, next := c.openItems(p), c.nextItems(warm)
	answer, later := c.answerItems(reply(0, 0, false)), c.answerItems(reply(0, 1, true))
	good := func(name, req, note string, frame []byte, out obj) {
		add("frame", name, vec{req: req, note: note, in: obj{"frame": x(frame)}, out: out})
	}
	nextOut := func(seq, n uint64) obj {
		return obj{"type": 2, "context": x(c.ctx()), "seq": seq, "n": n, "final": true}
	}
	good("open", "TMCP-7.1-1", "An open frame.", enc(open), obj{"type": 1, "suite": 1, "key_digest": x(c.keyDigest), "enc": x(c.enc), "revision": "", "final": true})
	good("open-x25519", "TMCP-7.1-1", "One with the other suite.", newSession(2).open(p), obj{"type": 1, "suite": 2, "key_digest": x(c.keyDigest), "enc": x(newSession(2).enc), "revision": "", "final": true})
	good("open-revision", "TMCP-7.1-1", "One with a revision.", with(open, 5, "2026-07-28"), obj{"type": 1, "suite": 1, "key_digest": x(c.keyDigest), "enc": x(c.enc), "revision": "2026-07-28", "final": true})
	good("next", "TMCP-7.1-1", "A next frame.", enc(next), nextOut(1, 0))
	good("next-last-seq", "TMCP-6.4-2", "The largest seq, 2^48-1.", with(next, 2, uint64(1)<<48-1), nextOut(1<<48-1, 0))
	good("next-last-n", "TMCP-6.4-3", "The largest n, 2^32-1.", with(next, 3, uint64(1)<<32-1), nextOut(1, 1<<32-1))
	good("answer", "TMCP-7.1-1", "Frame 0 of an answer, with its salt.", enc(answer), obj{"type": 3, "context": x(c.ctx()), "seq": 0, "n": 0, "final": false, "salt": x(salt)})
	good("answer-later", "TMCP-7.1-1", "Frame 1 of an answer.", enc(later), obj{"type": 3, "context": x(c.ctx()), "seq": 0, "n": 1, "final": true})

	bad := func(name, req, note string, frame []byte) {
		add("frame", name, vec{reason: "malformed-frame", req: req, note: note, in: obj{"frame": x(frame)}})
	}
	const r1, r3, dc = "TMCP-7.1-1", "TMCP-7.1-3", "TMCP-2.3-1"
	bad("empty", r1, "No bytes.", []byte{})
	bad("empty-array", r1, "An empty array.", enc(a{}))
	bad("map", r1, "A map.", enc(m{}))
	bad("tagged", r1, "A tag before the array.", append([]byte{0xc1}, enc(next)...))
	bad("type-0", r1, "Type 0.", with(next, 0, 0))
	bad("type-4", r1, "A type that is not known.", with(next, 0, 4))
	bad("type-258", r1, "Type 258. Catches truncation to a byte.", with(next, 0, 258))
	bad("type-text", r1, "The type as text.", with(next, 0, "next"))
	bad("type-negative", r1, "Type -3.", with(next, 0, -3))
	bad("open-short", r3, "An open frame of eight items.", enc(open[:8]))
	bad("open-long", r3, "An open frame of ten items.", enc(append(open[:9:9], nil)))
	bad("next-short", r3, "A next frame of five items.", enc(next[:5]))
	bad("next-long", r3, "A next frame of seven items.", enc(append(next[:6:6], nil)))
	bad("answer-short", r3, "An answer frame of six items.", enc(answer[:6]))
	bad("next-type-of-answer", r1, "A next frame that says it is an answer.", with(next, 0, 3))
	bad("long-type", dc, "The type in two bytes.", append([]byte{0x86, 0x18, 2}, enc(next)[2:]...))
	bad("long-array", dc, "The array's head in two bytes.", append([]byte{0x98, 6}, enc(next)[1:]...))
	bad("indefinite", dc, "An array of indefinite length.", append(append([]byte{0x9f}, enc(next)[1:]...), 0xff))
	bad("trailing", dc, "A byte after the frame.", append(enc(next), 0))
	bad("truncated", dc, "The last byte is missing.", enc(next)[:len(enc(next))-1])
	bad("long-seq", dc, "seq in two bytes.", bytes.Replace(enc(next), append(clone(c.ctx()), 1), append(clone(c.ctx()), 0x18, 1), 1))
	ct := next[5].([]byte)
	bad("long-ciphertext-head", dc, "The ciphertext's length in more bytes than it needs.", append(enc(next)[:len(enc(next))-len(ct)-2], append([]byte{0x59, 0, byte(len(ct))}, ct...)...))
	bad("ciphertext-announced", "TMCP-2.3-2", "A ciphertext that announces 2 GiB.", append(enc(next)[:len(enc(next))-len(ct)-2], 0x5a, 0x7f, 0xff, 0xff, 0xff))
	bad("key-digest-31", r3, "A key digest of 31 bytes.", with(open, 2, c.keyDigest[:31]))
	bad("key-digest-33", r3, "A key digest of 33 bytes.", with(open, 2, append(clone(c.keyDigest), 0)))
	bad("key-digest-text", r3, "A key digest as text.", with(open, 2, b64(c.keyDigest)))
	bad("enc-short", r3, "An encapsulated key one byte short.", with(open, 3, c.enc[1:]))
	bad("enc-empty", r3, "No encapsulated key.", with(open, 3, []byte{}))
	bad("settings-map", r3, "Client settings that are not wrapped in a byte string.", with(open, 4, m{}))
	bad("revision-null", r3, "A revision that is null.", with(open, 5, nil))
	bad("revision-form", r3, "A revision that is no date.", with(open, 5, "latest"))
	bad("revision-long", r3, "A revision with more behind it.", with(open, 5, "2026-07-28\n"))
	bad("revision-other-digits", r3, "A revision in digits that are not ASCII.", with(open, 5, "٢٠٢٦-٠٧-٢٨"))
	bad("client-key-text", r3, "A client key as text.", with(open, 6, "key"))
	bad("open-final-1", r3, "final as a number.", with(open, 7, 1))
	bad("context-15", r3, "A context id of 15 bytes.", with(next, 1, c.ctx()[:15]))
	bad("context-17", r3, "A context id of 17 bytes.", with(next, 1, append(clone(c.ctx()), 0)))
	bad("seq-2-to-48", "TMCP-6.4-2", "A seq beyond its range.", with(next, 2, uint64(1)<<48))
	bad("seq-negative", r3, "A negative seq.", with(next, 2, -1))
	bad("seq-float", r3, "A seq that is a float.", with(next, 2, 1.5))
	bad("n-2-to-32", "TMCP-6.4-3", "An n beyond its range. Catches a nonce that repeats.", with(next, 3, uint64(1)<<32))
	bad("final-null", r3, "final as null.", with(next, 4, nil))
	bad("final-undefined", r3, "final as undefined.", with(next, 4, raw{0xf7}))
	bad("ciphertext-15", r3, "A ciphertext shorter than its tag.", with(next, 5, ct[:15]))
	bad("ciphertext-null", r3, "No ciphertext.", with(next, 5, nil))
	bad("salt-missing", r3, "Frame 0 of an answer without a salt.", with(answer, 5, nil))
	bad("salt-extra", r3, "Frame 1 of an answer with a salt.", with(later, 5, salt))
	bad("salt-15", r3, "A salt of 15 bytes.", with(answer, 5, salt[:15]))
	bad("salt-empty", r3, "An empty salt.", with(answer, 5, []byte{}))

	seq := func(name, reason, note string, in []byte, frames ...[]byte) {
		list, used := []x{}, 0
		for _, f := range frames {
			list = append(list, f)
			used += len(f)
		}
		v := vec{reason: reason, req: "TMCP-7.5-2", note: note, in: obj{"sequence": x(in)}}
		if reason == "" {
			v.out = obj{"frames": list, "rest": x(in[used:])}
		}
		add("frame-sequence", name, v)
	}
	n, l := enc(next), enc(later)
	seq("two", "", "Two frames, one after the other.", append(clone(n), l...), n, l)
	seq("one-and-a-half", "", "A frame, and the beginning of another: more bytes are awaited.", append(clone(n), l[:20]...), n)
	seq("a-byte", "", "The first byte of a frame.", n[:1])
	seq("nothing", "", "No bytes yet.", []byte{})
	seq("text", "malformed-frame", "Bytes that begin no frame are refused at once, not awaited to their end.", []byte("HTTP/1.1 200 OK"))
	seq("huge-array", "malformed-frame", "An array that announces 2^32 items.", []byte{0x9a, 0xff, 0xff, 0xff, 0xff})
	seq("nested", "malformed-frame", "An array in a frame: reading it again with each arriving byte would take quadratic time.", []byte{0x86, 2, 0x9a, 0, 0xff, 0xff, 0xff, 1})
	seq("indefinite", "malformed-frame", "A frame of indefinite length.", []byte{0x9f, 2})
}
