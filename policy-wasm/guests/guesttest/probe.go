package guesttest

// probe is the reference of a third policy, which no author would write: its
// settings are a script that calls the functions of an SDK one by one.
//
//	{"ops": [{"path": [{"get": "devices"}, {"at": 0}], "do": "deny", "code": "x", "text": "…"}, …]}
//
// Each language has it in testdata, to hold against testdata/probe.json what
// starter and grace do not use.
func probe(doc value, r *result) {
	ops := doc.get("settings").get("ops")
	for i := range ops.len() {
		op := ops.at(i)
		v, path := doc, op.get("path")
		for j := range path.len() {
			step := path.at(j)
			if name := step.find("get"); !name.isNull() {
				v = v.get(name.text())
			} else if name := step.find("find"); !name.isNull() {
				v = v.find(name.text())
			} else {
				v = v.at(int(step.get("at").int()))
			}
		}
		code, text, n := op.find("code").textOr(""), op.find("text").textOr(""), op.find("n").intOr(0)
		same := func(ok bool) {
			if ok {
				r.note("same", "", v)
			}
		}
		switch op.get("do").text() {
		case "null":
			same(v.isNull())
		case "len":
			same(int64(v.len()) == n)
		case "bool":
			same(v.bool() == (n == 1))
		case "bool-or":
			same(v.boolOr(true) == (n == 1))
		case "int":
			same(v.int() == n)
		case "int-or":
			same(v.intOr(-7) == n)
		case "text":
			same(v.text() == text)
		case "text-or":
			same(v.textOr("none") == text)
		case "deny":
			r.deny(code, text, v)
		case "note":
			r.note(code, text, v)
		case "affirm":
			r.affirm("runtime-opaque", int8(n))
		case "affirm-all":
			r.affirmAll(int8(n))
		case "oblige-int":
			r.oblige(code, n)
		case "oblige-bool":
			r.oblige(code, n == 1)
		case "oblige-text":
			r.oblige(code, text)
		case "allow":
			r.allow()
		case "abstain":
			r.off = true
		}
	}
}
