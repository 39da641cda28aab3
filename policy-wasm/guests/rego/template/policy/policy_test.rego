# Tests that "opa test policy sdk" runs, and tmcp policy test before the others.
# They see a rule by itself; tests/*.json see the policy as hosts do.
package tmcp_test

import data.tmcp

device := {
	"kind": "tdx", "proven": true, "simulated": false, "debug": false,
	"tcb": {"status": "UpToDate"},
	"references": {"known": true, "matched": true, "tags": []},
}

codes(document) := [r.code | some r in result.reasons] if {
	result := tmcp.appraise with input as document
}

test_known_device_is_allowed if {
	tmcp.appraise.decision == "allow" with input as {"devices": [device]}
}

test_debug_is_denied if {
	codes({"devices": [object.union(device, {"debug": true})]}) == ["debug"]
}

test_what_is_missing_is_denied if {
	codes({"devices": [object.remove(device, ["debug"])]}) == ["claim-missing"]
}
