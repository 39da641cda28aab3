package main

import (
	"testing"

	policy "github.com/trustedmcp/tmcp/policy-wasm/guests/go/sdk"
)

// The tests in tests/ ask the module; those here ask the functions.

func TestAppraise(t *testing.T) {
	device := func(debug bool) policy.Object {
		return policy.Object{
			"devices": policy.List{policy.Object{
				"kind": "tdx", "proven": true, "simulated": false, "debug": debug,
				"tcb":        policy.Object{"status": "UpToDate"},
				"references": policy.Object{"matched": true},
			}},
		}
	}
	for name, c := range map[string]struct {
		doc  policy.Object
		want string
	}{
		"all is well":   {device(false), "allow"},
		"debug":         {device(true), "deny debug"},
		"nothing there": {policy.Object{"devices": policy.List{}}, "deny no-tee"},
		"incomplete":    {policy.Object{}, "deny claim-missing"},
	} {
		if got := policy.Try(appraise, c.doc); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestAuthorize(t *testing.T) {
	for _, c := range []struct{ profile, tool, want string }{
		{"attested", "pay", "allow"},
		{"identity", "pay", "deny not-attested"},
		{"none", "search", "allow"},
		{"attested", "launch", "deny tool-not-listed"},
	} {
		doc := policy.Object{
			"peer":     policy.Object{"profile": c.profile},
			"call":     policy.Object{"method": "tools/call", "name": c.tool},
			"settings": policy.Object{"tools": policy.Object{"pay": "attested", "search": "anyone"}},
		}
		if got := policy.Try(authorize, doc); got != c.want {
			t.Errorf("%s calls %s: got %q, want %q", c.profile, c.tool, got, c.want)
		}
	}
}
