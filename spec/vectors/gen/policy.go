package main

import (
	"maps"
	"strings"

	"github.com/go-json-experiment/json"
)

// allowing is a result that allows.
const allowing = `{"decision":"allow","vector":{"configuration":2,"executables":2,"file-system":0,"hardware":2,"instance-identity":2,"runtime-opaque":2,"sourced-data":0,"storage-opaque":0}}`

// policyVectors are those of chapter 20.
func policyVectors() {
	metadataVectors()
	documentVectors()
	resultVectors()
	fuelVectors()
	composeVectors()
	digestVectors()
}

// policyMeta is the metadata of a policy, changed.
func policyMeta(change m) m {
	out := m{1: 1, 2: "vector", 3: "1.0.0", 4: "", 5: "Apache-2.0", 6: a{"appraise"}, 7: "json", 8: a{}, 9: 0, 10: 0, 11: false}
	maps.Copy(out, change)
	return out
}

func metadataVectors() {
	good := func(name, note string, change m) {
		v := policyMeta(change)
		add("policy-metadata", name, vec{req: "TMCP-20.4-1", note: note, in: obj{"metadata": x(enc(v))},
			out: obj{"name": v[2], "version": v[3], "author": v[4], "licence": v[5], "entries": v[6], "encoding": v[7], "inputs": v[8], "fuel": v[9], "pages": v[10], "development": v[11]}})
	}
	good("least", "As little as there may be.", nil)
	good("whole", "Every member says something.", m{2: "grace", 3: "1.2.3-rc.1", 4: "Ümit <u@example.org>", 6: a{"appraise", "authorize"}, 7: "cbor", 8: a{"/devices", "/call/arguments/city", ""}, 9: 1 << 40, 10: 64, 11: true})
	good("authorize", "A policy that only authorizes; the order of entries is its own.", m{6: a{"authorize"}})
	good("entries-reordered", "The other order of entries.", m{6: a{"authorize", "appraise"}})
	good("texts-long", "Texts of 128 bytes, the most there may be.", m{2: strings.Repeat("n", 128), 4: strings.Repeat("ä", 64), 8: a{strings.Repeat("/", 128)}})
	good("fuel-most", "The largest number.", m{9: uint64(1<<64 - 1)})

	bad := func(name, note string, b []byte) {
		add("policy-metadata", name, vec{reason: "policy.metadata", req: "TMCP-20.4-1", note: note, in: obj{"metadata": x(b)}})
	}
	change := func(name, note string, c m) { bad(name, note, enc(policyMeta(c))) }
	without := func(k int) []byte {
		v := policyMeta(nil)
		delete(v, k)
		return enc(v)
	}
	for k, what := range []string{1: "ABI", 2: "name", 3: "version", 4: "author", 5: "licence", 6: "entries", 7: "encoding", 8: "inputs", 9: "fuel", 10: "pages", 11: "development"} {
		if k > 0 {
			bad("no-"+strings.ToLower(what), "The "+what+" is missing; nothing has a default.", without(k))
		}
	}
	change("member-more", "A twelfth member, which may be a restriction of a later version.", m{12: true})
	change("name-empty", "A policy without a name.", m{2: ""})
	change("version-empty", "A policy without a version.", m{3: ""})
	change("name-long", "A name of 129 bytes.", m{2: strings.Repeat("n", 129)})
	change("author-long", "129 bytes in 65 characters: bytes count.", m{4: strings.Repeat("ä", 64) + "a"})
	change("name-bytes", "A name in a byte string.", m{2: []byte("vector")})
	change("entries-none", "No entry point.", m{6: a{}})
	change("entries-twice", "An entry point twice.", m{6: a{"appraise", "appraise"}})
	change("entries-unknown", "An entry point that there is not.", m{6: a{"decide"}})
	change("entries-text", "Entries that are no array.", m{6: "appraise"})
	change("encoding-unknown", "An encoding that there is not.", m{7: "xml"})
	change("encoding-case", "Names are case-sensitive.", m{7: "JSON"})
	change("inputs-twice", "An input twice.", m{8: a{"/a", "/a"}})
	change("inputs-long", "An input of 129 bytes.", m{8: a{strings.Repeat("/", 129)}})
	many := a{}
	for i := range 257 {
		many = append(many, "/"+itoa(i))
	}
	change("inputs-many", "257 inputs.", m{8: many})
	change("fuel-negative", "Fuel below zero.", m{9: -1})
	change("fuel-double", "Fuel that is no integer.", m{9: 1.5})
	change("development-integer", "1 is not true.", m{11: 1})
	good1 := enc(policyMeta(nil))
	bad("trailing", "A byte behind the map.", append(clone(good1), 0))
	bad("truncated", "The last byte is missing.", good1[:len(good1)-1])
	bad("empty", "Nothing at all.", []byte{})
	bad("array", "An array in place of the map.", enc(a{1, "vector"}))
	bad("indefinite", "A map of indefinite length: not deterministic.", cat(0xbf, good1[1:], 0xff))
	bad("long-head", "The number of members in two bytes: not deterministic.", cat(0xb8, 11, good1[1:]))
	bad("unsorted", "Fuel behind pages: not deterministic.", cat(good1[:len(good1)-6], 10, 0, 9, 0, 11, 0xf4))
	add("policy-metadata", "abi-2", vec{reason: "policy.abi", req: "TMCP-20.4-2", note: "Made for another version of the ABI, and else as it must be.", in: obj{"metadata": x(enc(policyMeta(m{1: 2})))}})
}

func documentVectors() {
	good := func(name, note, text, canonical string) {
		add("policy-document", name, vec{req: "TMCP-20.5-2", note: note, in: obj{"document": text}, out: obj{"json": canonical, "cbor": x(enc(fromJSON(canonical)))}})
	}
	good("order", "Names are sorted; white space is left out.", " {\"b\" : 1,\n\"a\":[ true , false,null ]}", `{"a":[true,false,null],"b":1}`)
	good("escapes", "Text has one spelling: the shortest.", `{"\u0061":"\u0041\/\u00e4\u000a\u001f\ud83d\ude00\u2028"}`, "{\"a\":\"A/ä\\n\\u001f😀\u2028\"}")
	good("utf-16", "Names are sorted by UTF-16 code units, where a surrogate comes before U+FB33. In CBOR they are sorted by their bytes.", `{"\ufb33":1,"\ud83d\ude00":2,"\u20ac":3,"\r":4,"1":5}`, "{\"\\r\":4,\"1\":5,\"€\":3,\"😀\":2,\"\ufb33\":1}")
	good("cbor-order", "In CBOR the shorter name comes first, in JSON the lesser one.", `{"aa":1,"b":2}`, `{"aa":1,"b":2}`)
	good("largest", "The largest and the smallest number.", `{"n":[9007199254740991,-9007199254740991,0,-1]}`, `{"n":[9007199254740991,-9007199254740991,0,-1]}`)
	good("empty-names", "An empty name, and a name of a space.", `{" ":2,"":1}`, `{"":1," ":2}`)
	good("deep", "32 levels.", strings.Repeat("[", 32)+strings.Repeat("]", 32), strings.Repeat("[", 32)+strings.Repeat("]", 32))

	bad := func(name, note, text string) {
		add("policy-document", name, vec{reason: "policy.input", req: "TMCP-20.5-1", note: note, in: obj{"document": text}})
	}
	bad("double", "0.5 is no integer.", `{"n":0.5}`)
	bad("fraction", "1.0 is spelled with a fraction: readers disagree on whether it is an integer.", `{"n":1.0}`)
	bad("exponent", "1e3, with an exponent.", `{"n":1e3}`)
	bad("minus-zero", "-0 is a double in some languages, and 0 in others.", `{"n":-0}`)
	bad("too-large", "2^53: its neighbour has the same double.", `{"n":9007199254740992}`)
	bad("too-small", "-2^53.", `{"n":-9007199254740992}`)
	bad("int64", "An integer of 64 bits: JavaScript reads another one.", `{"n":9223372036854775807}`)
	bad("leading-zero", "01.", `{"n":01}`)
	bad("plus", "+1.", `{"n":+1}`)
	bad("nan", "NaN is no JSON.", `{"n":NaN}`)
	bad("hex-number", "0x10 is no JSON.", `{"n":0x10}`)
	bad("twice", "A name twice: some readers take the first, others the last.", `{"debug":true,"debug":false}`)
	bad("twice-escaped", "The same in two spellings.", `{"debug":true,"d\u0065bug":false}`)
	bad("twice-deep", "The same further in.", `{"a":[{"b":1,"b":1}]}`)
	bad("too-deep", "33 levels.", strings.Repeat("[", 33)+strings.Repeat("]", 33))
	bad("surrogate", "Half of a surrogate pair.", `{"s":"\ud83d"}`)
	bad("control", "A line feed that is not escaped.", "{\"s\":\"\n\"}")
	bad("trailing", "Two documents.", `{}{}`)
	bad("trailing-comma", "A comma behind the last member.", `{"a":1,}`)
	bad("comment", "A comment.", `{"a":1/* one */}`)
	bad("bom", "A byte order mark.", "\ufeff{}")
	bad("empty", "Nothing at all.", "")
	bad("truncated", "The end is missing.", `{"a":1`)
	bad("single-quotes", "Names in single quotes.", `{'a':1}`)
}

func resultVectors() {
	one := func(name, reason, req, note, encoding, question, result string, known []string, out any) {
		if known == nil {
			known = []string{}
		}
		in := obj{"encoding": encoding, "question": question, "result": result, "obligations": known}
		add("policy-result", name, vec{reason: reason, req: req, note: note, in: in, out: out})
	}
	good := func(name, req, note, question, result string, known ...string) {
		var out any
		if err := json.Unmarshal([]byte(result), &out); err != nil {
			panic(err)
		}
		whole := obj{"reasons": a{}, "vector": nil, "obligations": a{}}
		maps.Copy(whole, out.(map[string]any))
		one(name, "", req, note, "json", question, result, known, whole)
		one(name+"-cbor", "", req, note+" In CBOR.", "cbor", question, string(must(x(enc(fromJSON(result))).MarshalText())), known, whole)
	}
	const is, authorize = "appraise", "authorize"
	with := func(members string) string {
		return strings.Replace(allowing, `{"decision"`, `{`+members+`,"decision"`, 1)
	}
	instead := func(old, new string) string {
		if !strings.Contains(allowing, old) {
			panic(old)
		}
		return strings.Replace(allowing, old, new, 1)
	}
	good("allow", "TMCP-20.6-5", "Allows, with a whole vector.", is, allowing)
	good("deny", "TMCP-20.6-5", "Denies, and says why.", is, `{"decision":"deny","reasons":[{"claim":"/devices/0/tcb/status","code":"tcb","text":"the firmware is not up to date"},{"code":"debug"}]}`)
	good("abstain", "TMCP-20.6-5", "Leaves the decision to others.", is, `{"decision":"abstain"}`)
	good("deny-vector", "TMCP-20.6-5", "A denial may have any vector.", is, `{"decision":"deny","vector":{"hardware":97}}`)
	good("authorize", "TMCP-20.6-5", "Who authorizes gives no vector.", authorize, `{"decision":"allow"}`)
	good("obligation", "TMCP-20.6-4", "Under an obligation that the host knows.", is, with(`"obligations":[{"id":"valid-for","value":3600}]`), "audit", "valid-for")
	good("obligation-of-denial", "TMCP-20.6-4", "What a denial asks for does not matter.", is, `{"decision":"deny","obligations":[{"id":"reboot","value":{"now":[true]}}]}`)
	good("warning", "TMCP-20.6-3", "Warnings and negative numbers are no contraindication.", is, strings.NewReplacer(`"hardware":2`, `"hardware":95`, `"executables":2`, `"executables":-96`, `"configuration":2`, `"configuration":-1`).Replace(allowing))
	good("bounds", "TMCP-20.6-5", "As many and as long as they may be.", is, `{"decision":"deny","obligations":[`+repeat(16, `{"id":"`+strings.Repeat("a", 64)+`","value":null}`)+`],"reasons":[`+
		repeat(32, `{"code":"`+strings.Repeat("0", 64)+`","text":"`+strings.Repeat("ä", 128)+`"}`)+`]}`)
	one("reordered", "", "TMCP-20.6-5", "Members in another order, with white space.", "json", is, " {\"reasons\" : [\t],\n\"decision\":\"deny\"}", nil, obj{"decision": "deny", "reasons": a{}, "vector": nil, "obligations": a{}})

	bad := func(name, reason, req, note, question, result string) {
		one(name, reason, req, note, "json", question, result, nil, nil)
	}
	output := func(name, note, result string) { bad(name, "policy.output", "TMCP-20.6-1", note, is, result) }
	output("null", "null is no result.", `null`)
	output("array", "A result in an array.", `[`+allowing+`]`)
	output("no-decision", "No decision: nothing is allowed by default.", `{"reasons":[]}`)
	output("decision-unknown", "A decision that there is not.", instead(`"allow"`, `"permit"`))
	output("decision-case", "Decisions are case-sensitive.", instead(`"allow"`, `"Allow"`))
	output("decision-true", "true is not allow.", instead(`"allow"`, `true`))
	output("member-case", "Decision is not decision.", instead(`"decision"`, `"Decision"`))
	output("member-unknown", "A member that is not known.", with(`"override":true`))
	output("twice", "Denies and allows: the last would win in some readers.", `{"decision":"deny",`+allowing[1:])
	output("trailing", "Two results.", allowing+allowing)
	output("truncated", "The end is missing.", allowing[:len(allowing)-1])
	output("text", "Not JSON.", "allow")
	output("code-missing", "A reason without a code.", `{"decision":"deny","reasons":[{"text":"x"}]}`)
	output("code-empty", "An empty code.", `{"decision":"deny","reasons":[{"code":""}]}`)
	output("code-upper", "Codes are in lower case.", `{"decision":"deny","reasons":[{"code":"TCB"}]}`)
	output("code-line-feed", "A code that would forge a line of a log.", `{"decision":"deny","reasons":[{"code":"a\nb"}]}`)
	output("code-long", "A code of 65 characters.", `{"decision":"deny","reasons":[{"code":"`+strings.Repeat("a", 65)+`"}]}`)
	output("reason-unknown", "A member of a reason that is not known.", `{"decision":"deny","reasons":[{"code":"a","level":1}]}`)
	output("reason-text-long", "257 bytes in 129 characters: bytes count.", `{"decision":"deny","reasons":[{"code":"a","text":"`+strings.Repeat("ä", 128)+`a"}]}`)
	output("reasons-many", "33 reasons.", `{"decision":"deny","reasons":[`+repeat(33, `{"code":"a"}`)+`]}`)
	output("reasons-object", "Reasons that are no array.", `{"decision":"deny","reasons":{"code":"a"}}`)
	output("vector-large", "A claim beyond 127.", instead(`"hardware":2`, `"hardware":128`))
	output("vector-fraction", "A claim that is no integer.", instead(`"hardware":2`, `"hardware":2.0`))
	output("vector-text", "A claim in text.", instead(`"hardware":2`, `"hardware":"2"`))
	output("vector-unknown", "A claim that there is not.", instead(`"hardware"`, `"firmware"`))
	output("obligation-id", "An obligation without an id.", `{"decision":"deny","obligations":[{"value":1}]}`)
	output("obligation-value", "An obligation without a value.", `{"decision":"deny","obligations":[{"id":"a"}]}`)
	output("obligation-large", "A value of 1025 bytes.", `{"decision":"deny","obligations":[{"id":"a","value":"`+strings.Repeat("x", 1023)+`"}]}`)
	output("obligations-many", "17 obligations.", `{"decision":"deny","obligations":[`+repeat(17, `{"id":"a","value":1}`)+`]}`)
	output("deep", "9 levels.", `{"decision":"deny","obligations":[{"id":"a","value":[[[[[[]]]]]]}]}`)
	bad("vector-of-authorize", "policy.output", "TMCP-20.6-1", "A vector, where nothing was appraised.", authorize, allowing)
	one("cbor-indefinite", "policy.output", "TMCP-20.6-1", "A map of indefinite length: not deterministic.", "cbor", authorize, "bf686465636973696f6e65616c6c6f77ff", nil, nil)
	one("cbor-bytes", "policy.output", "TMCP-20.6-1", "The decision in a byte string.", "cbor", authorize, "a1686465636973696f6e45616c6c6f77", nil, nil)
	one("cbor-json", "policy.output", "TMCP-20.6-1", "JSON from a policy that says CBOR.", "cbor", authorize, string(must(x(`{"decision":"allow"}`).MarshalText())), nil, nil)

	against := func(name, note, result string) {
		bad(name, "policy.contradiction", "TMCP-20.6-3", note, is, result)
	}
	against("allow-bare", "Allows, and says nothing of the claims.", `{"decision":"allow"}`)
	against("allow-seven", "Allows with seven claims of eight.", instead(`"hardware":2,`, ``))
	against("allow-96", "Allows what it calls contraindicated.", instead(`"hardware":2`, `"hardware":96`))
	against("allow-127", "The same, at the end of the range.", instead(`"hardware":2`, `"hardware":127`))
	against("allow-97-negative", "The same in negative numbers.", instead(`"hardware":2`, `"hardware":-97`))
	against("allow-128-negative", "The end of that range.", instead(`"hardware":2`, `"hardware":-128`))
	one("obligation-unknown", "policy.obligation", "TMCP-20.6-4", "Allows on a condition that the host does not know, beside one that it knows.", "json", is,
		with(`"obligations":[{"id":"valid-for","value":60},{"id":"reboot","value":true}]`), []string{"audit", "valid-for"}, nil)
}

// repeat is n copies with commas between them.
func repeat(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }

func composeVectors() {
	full := func(hardware, executables int) obj {
		v := obj{}
		if err := json.Unmarshal([]byte(allowing), &v); err != nil {
			panic(err)
		}
		v = v["vector"].(map[string]any)
		v["hardware"], v["executables"] = hardware, executables
		return v
	}
	allow := func(hardware, executables int, obligations ...any) obj {
		return obj{"decision": "allow", "vector": full(hardware, executables), "obligations": append(a{}, obligations...)}
	}
	deny, abstain := obj{"decision": "deny", "reasons": a{obj{"code": "tcb"}}}, obj{"decision": "abstain"}
	fails := obj{"failure": "policy.trap"}
	plain := allow(2, 2)
	for _, v := range []struct {
		name, note, rule string
		results          []obj
		decision         string
		decided          []int
		asked            int
		vector           any
	}{
		{"overrides-one", "One policy that allows.", "deny-overrides", []obj{plain}, "allow", []int{0}, 1, full(2, 2)},
		{"overrides-allow", "Nobody denies, and one allows.", "deny-overrides", []obj{abstain, plain, abstain}, "allow", []int{1}, 3, full(2, 2)},
		{"overrides-deny", "One denial is enough; all are asked.", "deny-overrides", []obj{plain, deny, plain, deny}, "deny", []int{1, 3}, 4, nil},
		{"overrides-failure", "A policy that fails denies.", "deny-overrides", []obj{plain, fails}, "deny", []int{1}, 2, nil},
		{"overrides-abstain", "Nobody allows.", "deny-overrides", []obj{abstain, abstain}, "deny", []int{0, 1}, 2, nil},
		{"first-allow", "The first that does not abstain.", "first-match", []obj{abstain, plain, deny}, "allow", []int{1}, 2, full(2, 2)},
		{"first-deny", "The same with a denial; nobody after it is asked.", "first-match", []obj{abstain, deny, plain}, "deny", []int{1}, 2, nil},
		{"first-failure", "To fail is not to abstain.", "first-match", []obj{fails, plain}, "deny", []int{0}, 1, nil},
		{"first-abstain", "All abstain: there is nothing that allows.", "first-match", []obj{abstain, abstain}, "deny", []int{}, 2, nil},
		{"all-allow", "All allow.", "all-allow", []obj{plain, plain}, "allow", []int{0, 1}, 2, full(2, 2)},
		{"all-abstain", "To abstain is not to allow.", "all-allow", []obj{plain, abstain}, "deny", []int{1}, 2, nil},
		{"all-deny", "A denial weighs more than an abstention.", "all-allow", []obj{plain, abstain, deny}, "deny", []int{2}, 3, nil},
		{"all-failure", "A policy that fails denies here too.", "all-allow", []obj{fails, plain}, "deny", []int{0}, 2, nil},
		{"vector-worst", "Of each claim the worst tier: warning before none before affirming is wrong, since none affirms less.", "deny-overrides", []obj{allow(2, 33), allow(32, 2)}, "allow", []int{0, 1}, 2, full(32, 33)},
		{"vector-tie", "Of one tier the first value.", "all-allow", []obj{allow(3, -33), allow(2, 95)}, "allow", []int{0, 1}, 2, full(3, -33)},
		{"vector-of-allowing", "Who abstains has no part in the vector.", "deny-overrides", []obj{plain, {"decision": "abstain", "vector": full(96, 96)}}, "allow", []int{0}, 2, full(2, 2)},
	} {
		add("policy-compose", v.name, vec{req: "TMCP-20.9-1 TMCP-20.9-2 TMCP-20.9-3 TMCP-20.9-4", note: v.note, in: obj{"rule": v.rule, "results": v.results},
			out: obj{"decision": v.decision, "decided": v.decided, "asked": v.asked, "vector": v.vector, "obligations": a{}}})
	}
	id := func(id string, value any) obj { return obj{"id": id, "value": value} }
	add("policy-compose", "obligations", vec{req: "TMCP-20.9-3", note: "Obligations of those that allowed add up, in their order; those of who abstains do not count.",
		in:  obj{"rule": "deny-overrides", "results": a{allow(2, 2, id("valid-for", 60)), obj{"decision": "abstain", "obligations": a{id("audit", true)}}, allow(2, 2, id("valid-for", 30), id("audit", true))}},
		out: obj{"decision": "allow", "decided": []int{0, 2}, "asked": 3, "vector": full(2, 2), "obligations": a{id("valid-for", 60), id("valid-for", 30), id("audit", true)}}})
}

func digestVectors() {
	one, two := seed("policy one"), seed("policy two")
	digest := func(name, note, rule string, pairs ...any) {
		entries, policies, settings := a{}, a{}, false
		for i := 0; i < len(pairs); i += 2 {
			module := pairs[i].([]byte)
			text, _ := pairs[i+1].(string)
			var value any
			policy := obj{"digest": x(module), "settings": nil}
			if text != "" {
				value, policy["settings"] = fromJSON(text), text
			}
			settings = settings || value != nil
			entries, policies = append(entries, a{module, value}), append(policies, policy)
		}
		input := enc(a{L + "policy", rule, entries})
		out := obj{"digest_input": x(input), "digest": x(sha(input))}
		if len(entries) == 1 && !settings {
			out = obj{"digest_input": nil, "digest": x(pairs[0].([]byte))}
		}
		add("policy-digest", name, vec{req: "TMCP-20.9-5", note: note, in: obj{"rule": rule, "policies": policies}, out: out})
	}
	const dflt = "deny-overrides"
	digest("one", "One module without settings: its own digest.", dflt, one, nil)
	digest("settings", "One module with settings.", dflt, one, `{"days":30}`)
	digest("settings-respaced", "The same settings in another spelling: the same digest.", dflt, one, " { \"d\\u0061ys\" : 30 } ")
	digest("settings-other", "Other settings.", dflt, one, `{"days":31}`)
	digest("settings-null", "Settings that are null are no settings.", dflt, one, "null")
	digest("settings-empty", "Empty settings are settings.", dflt, one, "{}")
	digest("two", "Two modules.", dflt, one, nil, two, nil)
	digest("two-reordered", "The other order.", dflt, two, nil, one, nil)
	digest("two-first-match", "Another rule.", "first-match", one, nil, two, nil)
	digest("two-all-allow", "The third rule.", "all-allow", one, nil, two, nil)
	digest("two-settings", "Settings of the second.", dflt, one, nil, two, `{"days":30}`)
	digest("two-settings-first", "The same settings of the first.", dflt, one, `{"days":30}`, two, nil)
	digest("same-twice", "One module twice, with different settings.", dflt, one, `{"days":30}`, one, `{"days":31}`)
}
