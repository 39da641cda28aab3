# What policies in Rego are written with: reading that fails closed, and results.
#
# In Rego what is missing is undefined, and a rule that is undefined does not
# deny. So say which members must be there, with need, before you read them.
package tmcp.sdk

# need(of, at, name, types) is [] when the object "of", which stands at the JSON
# pointer "at", has a member of that name and of one of the types (array,
# boolean, null, number, object, string); else it is one fault.
need(of, at, name, types) := [wrong_type(at)] if not is_object(of)

else := [missing(place(at, name))] if not name in object.keys(of)

else := [wrong_type(place(at, name))] if not type_name(of[name]) in types

else := []

# find is need for a member that may be missing, of an object that may be null.
find(of, at, name, types) := [] if is_null(of)

else := [] if {
	is_object(of)
	not name in object.keys(of)
}

else := need(of, at, name, types)

missing(at) := reason("claim-missing", "a member that the policy reads is missing", at)

wrong_type(at) := reason("claim-type", "a member that the policy reads has another type", at)

# get is a member, or null where there is none.
get(of, name) := value if value := of[name]

else := null

# place is the pointer of a member.
place(at, name) := concat("/", [at, replace(replace(name, "~", "~0"), "/", "~1")])

# entry is the pointer of an element.
entry(at, i) := concat("/", [at, format_int(i, 10)])

reason(code, text, claim) := {"code": code, "text": text, "claim": fit(claim)}

# fit cuts a pointer of more than 256 bytes before the first token that does not
# fit.
fit(at) := at if bytes(at) <= 256

else := [short |
	tokens := split(at, "/")
	some i in numbers.range(count(tokens) - 1, 1)
	short := concat("/", array.slice(tokens, 0, i))
	bytes(short) <= 256
][0]

bytes(text) := floor((count(trim_right(base64.encode(text), "=")) * 3) / 4)

# all is the elements of several arrays.
all(arrays) := [x | some a in arrays; some x in a]

# affirm_all is a vector with this value for all claims: 2 affirms, 32 warns.
affirm_all(n) := {
	"configuration": n, "executables": n, "file-system": n, "hardware": n,
	"instance-identity": n, "runtime-opaque": n, "sourced-data": n, "storage-opaque": n,
}

# conclude is a result: a fault denies, whatever else there is; any denial
# denies; else the policy allows. "more" has what belongs to an allowing result:
# its vector and obligations. Notes are reasons that do not deny.
conclude(faults, denials, notes, more) := {"decision": "deny", "reasons": [faults[0]]} if count(faults) > 0

else := {"decision": "deny", "reasons": array.slice(array.concat(denials, notes), 0, 32)} if count(denials) > 0

else := object.union({"decision": "allow", "reasons": array.slice(notes, 0, 32)}, more)
