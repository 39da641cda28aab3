package main

import (
	"slices"
	"strings"
)

// jsonVectors are the digests of values that travel as JSON: settings, tools,
// tool sets.
func jsonVectors() {
	good := func(name, req, note, js string) {
		add("settings-digest", name, vec{req: req, note: note, in: obj{"settings": js},
			out: obj{"cbor": x(enc(fromJSON(js))), "digest_input": x(enc(a{L + "settings", fromJSON(js)})), "digest": x(settingsDigest(js))}})
	}
	edit := func(old, new string) string {
		if !strings.Contains(serverSettings, old) {
			panic(old)
		}
		return strings.Replace(serverSettings, old, new, 1)
	}
	good("default", "TMCP-4.3-1", "The settings that an implementation announces by default.", serverSettings)
	good("respaced", "TMCP-4.3-1 TMCP-2.4-1", "White space between members. Same digest as default; a digest over JSON text differs, and every re-serialising proxy breaks the call.", strings.ReplaceAll(strings.ReplaceAll(serverSettings, ",", " ,\n\t"), ":", " : "))
	good("reordered", "TMCP-4.3-1 TMCP-2.4-1", "Members in another order. Same digest as default.", `{"mode":"required","suites":["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"],"carriers":["envelope","inline","http"],"profiles":["identity"],"version":1}`)
	good("escaped", "TMCP-4.3-1 TMCP-2.4-1", "A string and a name written with escapes. Same digest as default.", edit(`"mode":"required"`, `"m\u006fde":"\u0072equired"`))
	good("version-1.0", "TMCP-2.4-1", "The number 1 written as 1.0: one value, one digest. Catches mapping by spelling.", edit(`"version":1`, `"version":1.0`))
	good("version-1e0", "TMCP-2.4-1", "The number 1 written as 1e0.", edit(`"version":1`, `"version":1e0`))
	good("list-reordered", "TMCP-4.3-1", "Another order of suites is another value: order is preference. Another digest than default.", clientSettings2)
	good("unknown-member", "TMCP-4.2-6 TMCP-4.3-1", "A member that is not known counts for the digest.", edit(`"mode"`, `"zeta":{"b":[1,2.5,-7,null,true],"aa":"é"},"mode"`))
	good("unknown-suite", "TMCP-4.2-6", "A suite that is not known is ignored and counts for the digest.", edit(`"suites":[`, `"suites":["mlkem1024p384-sha384-aes256gcm",`))
	good("unknown-carrier", "TMCP-4.2-6", "A carrier that is not known is ignored and counts.", edit(`"carriers":[`, `"carriers":["pigeon",`))
	good("client-key", "TMCP-4.2-6", "Settings of a server that accepts client keys.", edit(`"mode":"required"`, `"mode":"required","clientKey":"accepted"`))
	good("preferred", "TMCP-4.2-5", "The other mode.", edit(`"required"`, `"preferred"`))
	good("float", "TMCP-2.4-1", "Numbers that need half, single and double precision. Catches a fixed float width.", edit(`"mode"`, `"f":[1.5,0.1,100000.5,5.960464477539063e-8,1e300,-0.0],"mode"`))
	good("integers-at-the-edge", "TMCP-2.4-1", "2^53 is the largest integer that maps to a CBOR integer; the next double is a float.", edit(`"mode"`, `"i":[9007199254740992,-9007199254740992,9007199254740994],"mode"`))
	good("key-order", "TMCP-2.4-1", "Names sort by the bytes of their encoding: shorter ones first. Catches alphabetical order.", edit(`"mode"`, `"b":1,"aa":2,"mode"`))
	good("non-ascii", "TMCP-2.4-1", "Names and text beyond ASCII, one written as a surrogate pair.", edit(`"mode"`, `"ü":"\ud83d\ude00","mode"`))

	bad := func(name, reason, req, note, js string) {
		add("settings-digest", name, vec{reason: reason, req: req, note: note, in: obj{"settings": js}})
	}
	const nm = "negotiation-mismatch"
	for _, member := range []string{"version", "profiles", "carriers", "suites", "mode"} {
		o := fromJSON(serverSettings).(map[string]any)
		delete(o, member)
		bad("missing-"+member, nm, "TMCP-4.2-7", "The required member "+member+" is missing. A default would let a relay choose it.", toJSON(o))
		o = fromJSON(serverSettings).(map[string]any)
		o[member] = map[string]any{}
		reason := nm
		if member == "version" {
			reason = "unsupported-version"
		}
		bad("wrong-type-"+member, reason, "TMCP-4.2-7", "The member "+member+" is an object.", toJSON(o))
	}
	bad("version-2", "unsupported-version", "TMCP-4.2-1", "A version that nobody speaks yet.", edit(`"version":1`, `"version":2`))
	bad("version-1.5", "unsupported-version", "TMCP-4.2-1", "Catches truncation to an integer.", edit(`"version":1`, `"version":1.5`))
	bad("version-text", "unsupported-version", "TMCP-4.2-1", "The version as a string.", edit(`"version":1`, `"version":"1"`))
	bad("mode-off", nm, "TMCP-4.2-5", "Mode off is never announced.", edit(`"required"`, `"off"`))
	bad("mode-case", nm, "TMCP-4.2-5", "Values are case-sensitive.", edit(`"required"`, `"Required"`))
	bad("suites-number", nm, "TMCP-4.2-7", "A list entry that is no string.", edit(`"suites":[`, `"suites":[1,`))
	bad("client-key-unknown", nm, "TMCP-4.2-7", "A clientKey that is not known could be a demand.", edit(`"mode":"required"`, `"mode":"required","clientKey":"maybe"`))
	bad("duplicate-member", nm, "TMCP-2.3-4", "Two readers take two different values of mode.", edit(`"mode":"required"`, `"mode":"preferred","mode":"required"`))
	bad("duplicate-unknown-deep", nm, "TMCP-2.3-4", "A name twice, deep in a member that is not known: the digest would be ambiguous.", edit(`"mode"`, `"z":[{"a":1,"a":2}],"mode"`))
	bad("member-case", nm, "TMCP-2.3-5", "Mode is not mode. Catches encoding/json.", edit(`"mode":`, `"Mode":`))
	bad("trailing", nm, "TMCP-2.3-4", "Data follow the object.", serverSettings+"{}")
	bad("lone-surrogate", nm, "TMCP-2.3-4", "Half of a surrogate pair is no text.", edit(`"mode"`, `"z":"\ud83d","mode"`))
	bad("number-out-of-range", nm, "TMCP-2.4-2", "1e400 is no double; two readers would digest two values.", edit(`"mode"`, `"z":1e400,"mode"`))
	bad("too-deep", nm, "TMCP-2.3-6", "65 levels in a member that is not known.", edit(`"mode"`, `"z":`+nested(65)+`,"mode"`))
	bad("too-large", nm, "TMCP-2.3-6", "Settings beyond 16 KiB.", edit(`"mode"`, `"z":"`+strings.Repeat("z", 16<<10)+`","mode"`))
	bad("array", nm, "TMCP-4.2-7", "Not an object.", "["+serverSettings+"]")
	bad("empty", nm, "TMCP-4.2-7", "No value at all.", "")

	toolVectors()
}

const tool = `{"name":"transfer","description":"Moves money.","inputSchema":{"type":"object","properties":{"to":{"type":"string"},"amount":{"type":"number","minimum":0.01}},"required":["to","amount"]}}`

func toolDigest(id, js string) []byte {
	t := fromJSON(js).(map[string]any)
	delete(t, "_meta")
	return sha(enc(a{L + "tool", id, t}))
}

func toolVectors() {
	good := func(name, req, note, id, js string) {
		add("tool-digest", name, vec{req: req, note: note, in: obj{"identity": id, "definition": js}, out: obj{"digest": x(toolDigest(id, js))}})
	}
	good("plain", "TMCP-7.4-4", "A definition as it stands in tools/list.", identity, tool)
	good("with-meta", "TMCP-7.4-4", "_meta does not count: same digest as plain. Gateways add to it.", identity, tool[:len(tool)-1]+`,"_meta":{"gateway":"x"}}`)
	good("meta-deeper", "TMCP-7.4-4", "A property called _meta, deeper in, counts. Catches removal at every depth.", identity, strings.Replace(tool, `"to":{`, `"_meta":{`, 1))
	good("respaced", "TMCP-2.4-1", "White space does not count: same digest as plain.", identity, strings.ReplaceAll(tool, ",", " , "))
	good("reordered", "TMCP-2.4-1", "Members in another order: same digest as plain.", identity, `{"inputSchema":{"required":["to","amount"],"properties":{"amount":{"minimum":1e-2,"type":"number"},"to":{"type":"string"}},"type":"object"},"description":"Moves money.","name":"transfer"}`)
	good("other-identity", "TMCP-7.4-4", "The same tool of another server has another digest (shadowing).", "https://evil.example/mcp", tool)
	good("renamed", "TMCP-7.4-4", "A renamed tool has another digest.", identity, strings.Replace(tool, "transfer", "transfer2", 1))
	good("description-changed", "TMCP-7.4-4 TMCP-7.4-6", "A rug pull: the description changed.", identity, strings.Replace(tool, "Moves", "Steals", 1))
	good("schema-changed", "TMCP-7.4-4 TMCP-7.4-6", "A rug pull in the schema.", identity, strings.Replace(tool, "0.01", "0.02", 1))
	good("empty", "TMCP-7.4-4", "A definition without members.", identity, `{}`)
	// Re-split: identity and definition are separate items, so text can't move from one to the other.
	good("resplit", "TMCP-7.4-4", "Identity and name split at another place: another digest. Catches concatenation without lengths.", identity+"transfer", strings.Replace(tool, "transfer", "", 1))
	bad := func(name, req, note, js string) {
		add("tool-digest", name, vec{reason: "malformed-content", req: req, note: note, in: obj{"identity": identity, "definition": js}})
	}
	bad("duplicate-member", "TMCP-2.3-4", "Which description was approved?", strings.Replace(tool, `"name"`, `"description":"a","name"`, 1))
	bad("duplicate-deep", "TMCP-2.3-4", "A name twice, deeper in.", strings.Replace(tool, `"to":`, `"to":{},"to":`, 1))
	bad("not-an-object", "TMCP-2.3-4", "A definition that is an array.", `[]`)
	bad("number-out-of-range", "TMCP-2.4-2", "1e999 is no double.", strings.Replace(tool, "0.01", "1e999", 1))
	bad("trailing", "TMCP-2.3-4", "Data follow the definition.", tool+"{}")
	bad("too-deep", "TMCP-2.3-6", "70 levels.", `{"name":`+nested(70)+`}`)

	type named struct{ name, digest string }
	set := func(name, note, id string, tools ...named) {
		list, sorted := a{}, slices.Clone(tools)
		slices.SortFunc(sorted, func(p, q named) int { return strings.Compare(p.name, q.name) })
		for _, t := range sorted {
			list = append(list, a{t.name, seed(t.digest)})
		}
		in := a{}
		for _, t := range tools {
			in = append(in, obj{"name": t.name, "digest": x(seed(t.digest))})
		}
		add("tool-set-digest", name, vec{req: "TMCP-5.7-1", note: note, in: obj{"identity": id, "tools": in}, out: obj{"digest": x(sha(enc(a{L + "tools", id, list})))}})
	}
	set("two", "Two tools.", identity, named{"alpha", "t1"}, named{"beta", "t2"})
	set("order", "The listing's order does not count: same digest as two.", identity, named{"beta", "t2"}, named{"alpha", "t1"})
	set("swapped", "Two names exchanged over the same definitions: another digest. Catches pinning by content alone.", identity, named{"beta", "t1"}, named{"alpha", "t2"})
	set("one-less", "A tool was removed.", identity, named{"alpha", "t1"})
	set("none", "No tools.", identity)
	set("other-identity", "The same set of another server.", "https://evil.example/mcp", named{"alpha", "t1"}, named{"beta", "t2"})
	set("short-names-not-first", "Names sort by their own bytes: aa before b. Catches sorting by encoding, where shorter ones come first.", identity, named{"b", "t1"}, named{"aa", "t2"})
}
