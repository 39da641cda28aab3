package main

import "bytes"

func contentVectors() {
	good := func(name, req, note string, kind int, meta m, body string, padding ...[]byte) {
		items, out := a{kind, meta, []byte(body)}, obj{"kind": kind, "body": x(body), "meta": x(enc(meta))}
		if padding != nil {
			items = append(items, padding[0])
		}
		add("content", name, vec{req: req, note: note, in: obj{"content": x(enc(items))}, out: out})
	}
	const req = "TMCP-6.6-1"
	for kind, name := range map[int]string{1: "message", 2: "get", 3: "delete", 4: "end", 5: "http", 6: "data", 7: "raw"} {
		good("kind-"+name, req, "A content of kind "+name+".", kind, m{}, map[bool]string{true: ping}[kind == 1 || kind > 4])
	}
	good("status", req, "A status.", 1, m{1: 404}, "{}")
	good("fields", "TMCP-6.6-6 TMCP-6.6-7", "Two fields of one name, and an empty value.", 1, m{2: a{a{"authorization", []byte("Bearer t")}, a{"x-a", []byte{}}, a{"x-a", []byte("é")}}}, "{}")
	good("http-head", req, "A request of the HTTP carrier.", 5, m{3: "/mcp?a=b", 4: "POST"}, "{}")
	good("event", req, "An SSE event.", 1, m{5: "42", 6: 3000, 7: "message"}, "{}")
	good("retry-zero", req, "An SSE retry of 0 ms is not an absent one.", 1, m{6: 0}, "{}")
	good("retry-of", "TMCP-8.5-1", "This message was sealed before.", 1, m{8: a{seed("ctx")[:16], 5, t0 + 600}}, "{}")
	good("event-stream", req, "The inner answer is an event stream.", 1, m{9: true}, "{}")
	good("all", req, "Every key of meta.", 1, m{1: 200, 2: a{a{"x-a", []byte("1")}}, 3: "/", 4: "GET", 5: "1", 6: 1, 7: "n", 8: a{make([]byte, 16), 1 << 47, t0 + 600}, 9: true}, "{}")
	good("padding", "TMCP-6.7-1", "Padding.", 1, m{}, "{}", make([]byte, 20))
	good("body-not-utf8", "TMCP-6.6-1", "Bytes are untouched, even those that are no text.", 1, m{}, "\xff\x00\xfe")

	bad := func(name, req, note string, content []byte) {
		add("content", name, vec{reason: "malformed-content", req: req, note: note, in: obj{"content": x(content)}})
	}
	of := func(v ...any) []byte { return enc(a(v)) }
	meta := func(v any) []byte { return of(1, v, []byte("{}")) }
	fields := func(name any, value any) []byte { return meta(m{2: a{a{name, value}}}) }
	const r3, r7, dc = "TMCP-6.6-3", "TMCP-6.6-7", "TMCP-2.3-1"
	bad("empty", r3, "No bytes.", []byte{})
	bad("map", r3, "A map.", enc(m{1: m{}}))
	bad("two-items", r3, "No body.", of(1, m{}))
	bad("five-items", r3, "An item too many.", of(1, m{}, []byte{}, []byte{}, nil))
	bad("kind-0", r3, "Kind 0.", of(0, m{}, []byte{}))
	bad("kind-8", r3, "A kind that is not known.", of(8, m{}, []byte{}))
	bad("kind-257", r3, "Kind 257. Catches truncation to a byte.", of(257, m{}, []byte{}))
	bad("kind-negative", r3, "Kind -1.", of(-1, m{}, []byte{}))
	bad("kind-text", r3, "The kind as text.", of("message", m{}, []byte{}))
	bad("meta-null", r3, "No meta.", of(1, nil, []byte{}))
	bad("meta-array", r3, "meta as an array.", of(1, a{}, []byte{}))
	bad("body-text", r3, "The body as text.", of(1, m{}, ping))
	bad("padding-text", r3, "Padding as text.", of(1, m{}, []byte{}, ""))
	bad("padding-first-byte", "TMCP-6.6-5", "Padding whose first byte is not zero.", of(1, m{}, []byte{}, []byte{1, 0, 0}))
	bad("padding-last-byte", "TMCP-6.6-5", "Padding whose last byte is not zero.", of(1, m{}, []byte{}, []byte{0, 0, 1}))
	bad("trailing", dc, "A byte after the content.", append(of(1, m{}, []byte{}), 0))
	bad("long-kind", dc, "The kind in two bytes.", append([]byte{0x83, 0x18, 1}, of(1, m{}, []byte{})[2:]...))
	bad("long-array", dc, "The array's head in two bytes.", append([]byte{0x98, 3}, of(1, m{}, []byte{})[1:]...))
	bad("indefinite", dc, "An array of indefinite length.", append(append([]byte{0x9f}, of(1, m{}, []byte{})[1:]...), 0xff))
	bad("body-indefinite", dc, "A body in pieces.", append(of(1, m{}, []byte{})[:3], 0x5f, 0x41, 0, 0xff))
	bad("body-too-long", "TMCP-2.3-2", "A body that announces more bytes than there are.", append(of(1, m{}, []byte{})[:3], 0x5a, 0x7f, 0xff, 0xff, 0xff))
	bad("meta-double", dc, "A key twice: two readers see two values.", meta(raw{0xa2, 1, 0x18, 200, 1, 0x18, 201}))
	bad("meta-unsorted", dc, "Keys out of order.", meta(raw{0xa2, 9, 0xf5, 1, 0x18, 200}))
	bad("meta-key-text", r3, "A key that is text.", meta(m{"status": 200}))
	bad("meta-key-negative", r3, "A key that is negative.", meta(m{-1: 200}))
	bad("meta-key-long", dc, "A key in two bytes.", meta(raw{0xa1, 0x18, 1, 0x18, 200}))
	bad("meta-unknown-double-deep", dc, "A key twice in a value that is not known.", meta(raw{0xa1, 0x18, 99, 0xa2, 1, 1, 1, 1}))
	bad("meta-unknown-bomb", "TMCP-2.3-2", "A value that is not known nests 100 levels.", meta(raw(append(append([]byte{0xa1, 0x18, 99}, bytes.Repeat([]byte{0x81}, 100)...), 0))))
	bad("status-99", r3, "A status that is none.", meta(m{1: 99}))
	bad("status-600", r3, "Another.", meta(m{1: 600}))
	bad("status-text", r3, "A status as text.", meta(m{1: "200"}))
	bad("fields-map", r3, "Fields as a map, which would lose their order.", meta(m{2: m{"a": []byte("1")}}))
	bad("field-triple", r3, "A field of three items.", meta(m{2: a{a{"a", []byte("1"), nil}}}))
	bad("field-value-text", r3, "A field value as text.", fields("a", "1"))
	bad("field-name-upper", r7, "A field name in upper case: a filter by name misses it.", fields("Authorization", []byte("1")))
	bad("field-name-empty", r7, "An empty field name.", fields("", []byte("1")))
	bad("field-name-space", r7, "A field name with a space.", fields("a b", []byte("1")))
	bad("field-name-colon", r7, "A pseudo-header.", fields(":path", []byte("/admin")))
	bad("field-value-cr", r7, "A value with CR.", fields("a", []byte("1\rb")))
	bad("field-value-lf", r7, "A value with LF.", fields("a", []byte("1\nb")))
	bad("field-value-nul", r7, "A value with NUL.", fields("a", []byte("1\x00")))
	bad("target-bytes", r3, "A target as bytes.", meta(m{3: []byte("/")}))
	bad("target-not-utf8", dc, "A target that is not UTF-8.", meta(raw{0xa1, 3, 0x62, '/', 0xff}))
	bad("retry-of-seq", "TMCP-6.4-2", "A seq beyond its range.", meta(m{8: a{make([]byte, 16), uint64(1) << 48, t0 + 600}}))
	bad("retry-of-short", r3, "A context id of 15 bytes.", meta(m{8: a{make([]byte, 15), 0, t0 + 600}}))
	bad("retry-of-pair", r3, "retry-of without the exp of the first seal's key object.", meta(m{8: a{make([]byte, 16), 0}}))
	bad("event-stream-false", r3, "false is written by absence: one value, one encoding.", meta(m{9: false}))
}
