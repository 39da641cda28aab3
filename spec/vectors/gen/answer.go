package main

import "strings"

func answerIn(c *session, carrier, seq uint64, closed bool, frames ...[]byte) obj {
	list := []x{}
	for _, f := range frames {
		list = append(list, f)
	}
	return obj{"suite": c.suite, "exported": x(c.exported), "carrier": carrier, "seq": seq, "closed": closed, "frames": list}
}

func reply(seq, n uint64, final bool, change ...func(*part)) part {
	p := newPart(place(seq, n, final), content(1, m{}, []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)))
	for _, f := range change {
		f(&p)
	}
	return p
}

func answerVectors() {
	hybrid, plain := newSession(1), newSession(2)
	good := func(name, req, note string, c *session, parts ...part) {
		var frames [][]byte
		delivered, detail := a{}, a{}
		key, base := c.answerKeys(salt)
		next := uint64(0)
		for _, p := range parts {
			frames = append(frames, c.answer(p))
			if p.n < next {
				delivered = append(delivered, nil)
				continue
			}
			next++
			delivered = append(delivered, x(p.content))
			detail = append(detail, obj{"nonce": x(nonceAt(base, p.seq, p.n)), "aad": x(p.answerAAD()), "ciphertext": x(c.answerItems(p)[6].([]byte))})
		}
		add("answer", name, vec{req: req, note: note, in: answerIn(c, parts[0].carrier, parts[0].seq, true, frames...),
			out: obj{"delivered": delivered, "salt": x(salt), "answer_secret": x(c.answerSecret()), "answer_key": x(key), "answer_base_nonce": x(base), "frames": detail}})
	}
	on := func(carrier uint64, items ...any) func(*part) {
		return func(p *part) {
			p.carrier = carrier
			if items != nil {
				p.content = enc(a(items))
			}
		}
	}
	good("single", "TMCP-9.1-2 TMCP-6.3-3", "One final frame.", hybrid, reply(0, 0, true))
	good("three", "TMCP-9.1-1", "Two notifications and a result.", hybrid, reply(0, 0, false), reply(0, 1, false), reply(0, 2, true))
	good("x25519", "TMCP-6.3-3", "The other suite.", plain, reply(0, 0, false), reply(0, 1, true))
	good("warm", "TMCP-9.1-1", "The answer to message 5.", hybrid, reply(5, 0, true))
	good("padded", "TMCP-6.7-1", "Padding.", hybrid, reply(0, 0, true, content(1, m{}, []byte("{}"), make([]byte, 240))))
	good("inline", "TMCP-6.5-1", "Under the inline carrier.", hybrid, reply(0, 0, true, on(2)))
	good("http", "TMCP-6.5-1", "Under the HTTP carrier: a head, and more of the body.", hybrid, reply(0, 0, false, on(3, 5, m{1: 404}, []byte("no"))), reply(0, 1, true, on(3, 6, m{}, []byte("pe"))))
	good("end", "TMCP-7.3-7", "Nothing to say: kind end.", hybrid, reply(0, 0, true, content(4, m{1: 202}, []byte{})))
	good("raw", "TMCP-6.6-4", "A body that is no JSON-RPC message.", hybrid, reply(0, 0, true, content(7, m{1: 500}, []byte("oops"))))
	good("events", "TMCP-6.6-2", "An event stream with ids and a retry.", hybrid, reply(0, 0, false, content(1, m{5: "e1", 6: 0, 7: "message", 9: true}, []byte("{}"))), reply(0, 1, true))
	good("redelivered", "TMCP-9.3-2", "A frame that arrives again after a resumption is ignored.", hybrid, reply(0, 0, false), reply(0, 1, false), reply(0, 0, false), reply(0, 2, true))
	good("redelivered-final", "TMCP-9.3-2", "The final frame arrives again.", hybrid, reply(0, 0, false), reply(0, 1, true), reply(0, 1, true))

	c := hybrid
	bad := func(name, reason, req, note string, closed bool, frames ...[]byte) {
		add("answer", name, vec{reason: reason, req: req, note: note, in: answerIn(c, 1, 0, closed, frames...)})
	}
	const ai, ooo = "answer-invalid", "answer-out-of-order"
	f0, f1, f2 := c.answer(reply(0, 0, false)), c.answer(reply(0, 1, false)), c.answer(reply(0, 2, true))
	bad("truncated", "truncated", "TMCP-9.2-1", "The stream ends before the final frame.", true, f0, f1)
	bad("nothing", "truncated", "TMCP-9.2-1", "The stream ends before any frame.", true)
	bad("swapped", ooo, "TMCP-9.1-4", "Frame 1 before frame 0.", false, f1)
	bad("swapped-later", ooo, "TMCP-9.1-4", "Frame 2 before frame 1.", false, f0, f2)
	bad("first-lost", ooo, "TMCP-9.1-4", "Frame 0 never came.", false, f2)
	bad("after-final", "after-final", "TMCP-9.1-5", "A frame after the final one, by the true server.", false, c.answer(reply(0, 0, true)), f1)
	bad("second-final", "after-final", "TMCP-9.1-5", "A second final frame.", false, c.answer(reply(0, 0, true)), c.answer(reply(0, 1, true)))
	bad("after-final-far", "after-final", "TMCP-9.1-5", "A frame after the final one, with a gap: the answer is over, whatever its number.", false, c.answer(reply(0, 0, true)), f2)
	bad("other-call", "spliced", "TMCP-9.1-6", "The answer to another message of the context.", false, c.answer(reply(1, 0, true)))
	bad("other-context", "spliced", "TMCP-9.1-6", "An answer of another context.", false, newSession(1, second).answer(reply(0, 0, true)))
	bad("spliced-later", "spliced", "TMCP-9.1-6", "A frame of another answer in the middle.", false, f0, c.answer(reply(1, 1, false)))

	final := reply(0, 0, true)
	items := c.answerItems(final)
	ct := items[6].([]byte)
	other := newSession(1, second)
	bad("context-rewritten", ai, "TMCP-9.1-7", "An answer of another context, renamed to this one.", false, with(other.answerItems(final), 1, c.ctx()))
	bad("seq-rewritten", ai, "TMCP-6.5-1", "The answer to another message, renumbered.", false, with(c.answerItems(reply(1, 0, true)), 2, 0))
	bad("n-rewritten", ai, "TMCP-6.5-1", "Frame 2 renumbered as frame 1: an omission that does not show in the numbers.", false, f0, with(c.answerItems(reply(0, 2, true)), 3, 1))
	bad("final-set", ai, "TMCP-6.5-1", "A middle frame made the final one.", false, f0, with(c.answerItems(reply(0, 1, false)), 4, true))
	bad("final-cleared", ai, "TMCP-6.5-1", "The final frame made a middle one.", false, with(items, 4, false))
	bad("salt-flipped", ai, "TMCP-6.3-3", "One bit of the salt.", false, with(items, 5, flip(salt, 0)))
	bad("salt-missing", ai, "TMCP-7.1-3", "No salt in frame 0.", false, with(items, 5, nil))
	bad("salt-in-frame-1", ai, "TMCP-7.1-3", "A salt in frame 1.", false, f0, with(c.answerItems(reply(0, 1, false)), 5, salt))
	bad("salt-15", ai, "TMCP-7.1-3", "A salt of 15 bytes.", false, with(items, 5, salt[:15]))
	old := salt
	salt = seed("another salt")[:16]
	foreign := c.answer(reply(0, 1, true))
	salt = old
	bad("salt-of-another-instance", ai, "TMCP-6.3-2", "Frame 1 of an answer by another instance of the context.", false, f0, foreign)
	bad("ciphertext-first", ai, "TMCP-9.1-7", "One bit of the ciphertext.", false, with(items, 6, flip(ct, 0)))
	bad("ciphertext-tag", ai, "TMCP-9.1-7", "One bit of the tag.", false, with(items, 6, flip(ct, -1)))
	bad("ciphertext-short", ai, "TMCP-9.1-7", "The last byte is missing.", false, with(items, 6, ct[:len(ct)-1]))
	bad("ciphertext-15", ai, "TMCP-7.1-3", "A ciphertext shorter than its tag.", false, with(items, 6, ct[:15]))
	bad("carrier-other", ai, "TMCP-6.5-1", "Sealed for another carrier.", false, c.answer(reply(0, 0, true, on(2))))
	bad("request-reflected", ai, "TMCP-6.2-1", "Reflection: the ciphertext of the request comes back as its answer.", false, with(items, 6, c.sealRequest(newPart())))
	bad("request-frame", ai, "TMCP-7.1-2", "A next frame in the place of an answer.", false, c.next(set(place(0, 0, true))))
	sealed := aeadOf(1, c.requestKey()).Seal(nil, nonceAt(c.requestNonce(), 0, 0), final.content, final.answerAAD())
	bad("request-key", ai, "TMCP-6.3-3", "Sealed with the request's key, by someone who knows it.", false, with(items, 6, sealed))
	key, base := c.answerKeys(salt)
	sealed = aeadOf(1, key).Seal(nil, nonceAt(base, 0, 0), final.content, newPart().requestAAD())
	bad("aad-of-request", ai, "TMCP-6.5-1", "Sealed with a request's associated data.", false, with(items, 6, sealed))
	bad("redelivered-altered", ai, "TMCP-9.3-3", "A frame that arrives again, altered.", false, f0, f1, with(c.answerItems(reply(0, 0, false)), 6, flip(ct, 2)))
	bad("redelivered-after-final-altered", ai, "TMCP-9.3-3", "The same after the final frame.", false, c.answer(final), with(items, 6, flip(ct, 2)))
	bad("trailing", ai, "TMCP-2.3-1", "A byte after the frame.", false, append(c.answer(final), 0))
	bad("empty", ai, "TMCP-7.1-2", "No bytes.", false, []byte{})
	bad("json", ai, "TMCP-7.2-4", "A plain result in the place of a frame.", false, []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	bad("kind-get", ai, "TMCP-6.6-4", "A kind of requests.", false, c.answer(reply(0, 0, true, content(2, m{}, []byte{}))))
	bad("kind-http-in-envelope", ai, "TMCP-6.6-4", "A whole HTTP message under the envelope.", false, c.answer(reply(0, 0, true, content(5, m{}, []byte{}))))
	bad("kind-unknown", ai, "TMCP-6.6-4", "A kind that is not known.", false, c.answer(reply(0, 0, true, content(8, m{}, []byte{}))))
	bad("content-malformed", ai, "TMCP-6.6-4", "A plaintext that is no content.", false, c.answer(reply(0, 0, true, func(p *part) { p.content = []byte(strings.Repeat("x", 20)) })))
	bad("padding-not-zero", ai, "TMCP-6.6-5", "Padding that is not zero.", false, c.answer(reply(0, 0, true, content(1, m{}, []byte("{}"), []byte{1}))))
}
