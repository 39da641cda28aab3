# Calls the builtin that the settings name, and answers with what it gives:
# testdata/builtins.wasm is made of this by "opa build -t wasm".
package tmcp

f := input.settings.f

a := input.settings.args

# Documents have seconds: nanoseconds are beyond 2^53.
t := a[0] * 1000000000 if is_number(a[0])

t := [a[0][0] * 1000000000, a[0][1]] if is_array(a[0])

out := base64url.encode_no_pad(a[0]) if f == "base64url.encode_no_pad"

out := crypto.hmac.equal(a[0], a[1]) if f == "crypto.hmac.equal"

out := crypto.hmac.sha256(a[0], a[1]) if f == "crypto.hmac.sha256"

out := crypto.sha256(a[0]) if f == "crypto.sha256"

out := hex.decode(a[0]) if f == "hex.decode"

out := hex.encode(a[0]) if f == "hex.encode"

out := indexof_n(a[0], a[1]) if f == "indexof_n"

out := semver.compare(a[0], a[1]) if f == "semver.compare"

out := semver.is_valid(a[0]) if f == "semver.is_valid"

out := sprintf(a[0], a[1]) if f == "sprintf"

out := sprintf("%v", [{x | some x in a[0]}]) if f == "sprintf of a set"

out := sprintf("%v", [{x: [x] | some x in a[0]}]) if f == "sprintf of an object"

out := strings.any_prefix_match(a[0], a[1]) if f == "strings.any_prefix_match"

out := strings.any_prefix_match({x | some x in a[0]}, a[1]) if f == "strings.any_prefix_match of a set"

out := strings.any_suffix_match(a[0], a[1]) if f == "strings.any_suffix_match"

out := strings.count(a[0], a[1]) if f == "strings.count"

out := time.add_date(t, a[1], a[2], a[3]) if f == "time.add_date"

out := time.clock(t) if f == "time.clock"

out := time.date(t) if f == "time.date"

out := time.now_ns() if f == "time.now_ns"

out := time.parse_rfc3339_ns(a[0]) if f == "time.parse_rfc3339_ns"

out := time.weekday(t) if f == "time.weekday"

out := trace(a[0]) if f == "trace"

out := data.limits[a[0]] if f == "data"

# METADATA
# entrypoint: true
authorize := {"decision": "deny", "reasons": [{"code": "out", "text": json.marshal(out)}]} if {
	out != null
} else := {"decision": "deny", "reasons": [{"code": "undefined"}]} if {
	f != "nothing"
}
