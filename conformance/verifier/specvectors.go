package verifier

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/trustedmcp/tmcp/conformance"
	spec "github.com/trustedmcp/tmcp/spec/vectors"
)

// specVectors are the key objects of the specification's test vectors.
func specVectors() []vector {
	var out []vector
	for _, v := range spec.Group("key-object") {
		req := binding(v.Requirements)
		if req == "" {
			continue // it is a client's matter only
		}
		var in struct {
			Object   spec.Hex   `json:"key_object"`
			Identity string     `json:"identity"`
			Now      int64      `json:"now"`
			Pins     []string   `json:"pins"`
			Role     int        `json:"role"`
			Settings string     `json:"settings"`
			Roots    []spec.Hex `json:"roots"`
			Nonce    spec.Hex   `json:"nonce"`
		}
		var res struct {
			Digest  string `json:"key_digest"`
			Profile string `json:"profile"`
			Expires int64  `json:"expires"`
			ToolSet string `json:"tool_set"`
		}
		name := strings.TrimPrefix(v.ID, "key-object/")
		x := vector{name: "key-object-" + name, req: req, title: "key object: " + strings.TrimSuffix(v.Note, "."), reason: v.Reason, make: func() Request {
			var out any
			if v.Valid {
				out = &res
			}
			if err := v.Decode(&in, out); err != nil {
				panic(err)
			}
			r := Request{Op: OpKeyObject, Time: in.Now, Value: in.Object, Identity: in.Identity, Role: in.Role, Settings: in.Settings, Nonce: in.Nonce}
			for _, p := range in.Pins {
				b := must(hex.DecodeString(p))
				r.Pins = append(r.Pins, base64.RawURLEncoding.EncodeToString(b))
			}
			for _, der := range in.Roots {
				r.IDRoots = append(r.IDRoots, pemOfDER(der))
			}
			return r
		}}
		if v.Valid {
			x.look = func(t *conformance.T, a *asked) {
				if got, ok := conformance.MemberText(a.Claims, "key_digest"); ok && got != res.Digest {
					t.Violate("the key digest is %s, want %s", got, res.Digest)
				}
			}
		} else {
			x.twin, x.hole = "key-object-"+positive(name), v.Reason
		}
		out = append(out, x)
	}
	return out
}

// positive is the accepted key object that another differs from.
func positive(name string) string {
	switch {
	case strings.HasPrefix(name, "x509-"):
		return "x509"
	case strings.Contains(name, "attested"):
		return "attested"
	}
	return "plain"
}

// binding is the first of some requirements that binds verifiers, or "".
func binding(ids []string) string {
	for _, id := range ids {
		if slices.Contains(conformance.RolesOf(id), "verifier") {
			return id
		}
	}
	return ""
}
