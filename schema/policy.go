package schema

import "sync"

var policyDefs = sync.OnceValues(func() (map[string]*node, error) {
	return compileDefs(files, "trust/policy.json", []string{"Document", "Result"})
})

// ValidatePolicyDocument checks the JSON of a document that policies judge
// (section 20.5); its CBOR is the rule policy-document of [ValidateCBOR]. An
// invalid one gives an [*Error].
func ValidatePolicyDocument(data []byte) error {
	return validate(policyDefs, "Document", "policy document", data)
}

// ValidatePolicyResult checks the JSON that a policy returns (section 20.6);
// its CBOR is the rule policy-result of [ValidateCBOR]. An invalid one gives an
// [*Error].
func ValidatePolicyResult(data []byte) error {
	return validate(policyDefs, "Result", "policy result", data)
}
