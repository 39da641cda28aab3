package refverifier

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// A Mutant is a verifier with one flaw, and the cases that must notice it.
type Mutant struct {
	Flaw  *Flaw
	Kills []string // ids
	// Whole says that it is so flawed that killing it proves little of a case: it
	// takes everything, or nothing.
	Whole bool
}

// holes say by hole what a verifier with it overlooks, of "check: detail". What
// follows from the fault that is overlooked is overlooked with it.
var holes = map[string]string{
	"age":                   `evidence made at`,
	"binding":               `\bbinding(/[a-z0-9-]+)?: the evidence binds`,
	"chain":                 `^(pck-chain|root-crl|tcb-info|qe-identity|endorsement-chain|certificate-chain|device-chain|platform-signature|policy-tcb)\b`,
	"cmw":                   `^cmw: `,
	"collateral":            `^collateral: |^policy-tcb: nothing`,
	"collateral-chain":      `^(root-crl|pck-crl|tcb-info|qe-identity): |^policy-tcb: nothing`,
	"collateral-validity":   `^(root-crl|pck-crl|tcb-info-validity|qe-identity-validity): `,
	"corim-form":            `malformed CoRIM`,
	"corim-profile":         `profile is not accepted`,
	"corim-signature":       `CoRIM's signature does not verify`,
	"corim-signer":          `signer is not authorized`,
	"corim-unsigned":        `CoRIM is not signed`,
	"corim-validity":        `CoRIM (has expired|is not valid yet)`,
	"crl-validity":          `^(root|pck)-crl: `,
	"debug":                 `^(policy-)?debug: `,
	"debug-and-revocation":  `^(policy-)?debug: |^revocation: `,
	"debug-in-key-object":   `evidence-refused: debug: `,
	"epoch":                 `is of epoch`,
	"evaluation":            `evaluation`,
	"form":                  `^trust: key-object-invalid`,
	"format":                `^format(/[a-z0-9-]+)?: `,
	"fwid":                  `^fwid: `,
	"grace":                 `policy allows \d+ days`,
	"key-signature":         `attested signature`,
	"match":                 `^(contradicted|no-reference-values): `,
	"migration":             `^policy-migration`,
	"nonce":                 `another verifier's nonce`,
	"pin":                   `^trust: identity-mismatch`,
	"platform-info":         `^platform-info: `,
	"policy-check":          `^policy-check-`,
	"policy-claim":          `^policy-claim-`,
	"policy-config":         `^policy-config: `,
	"policy-gpu":            `^policy-gpu: `,
	"policy-platform":       `^policy-platform`,
	"policy-tee":            `^policy-tee: `,
	"production":            `^genuine: |policy-development`,
	"profile":               `profile`,
	"qe-identity-match":     `^qe-identity-match: `,
	"qe-identity-signature": `^qe-identity: `,
	"realm":                 `^realm-binding: `,
	"reference":             `^policy-reference-values: `,
	"revocation":            `^revocation: `,
	"role":                  `role-mismatch`,
	"second-cpu":            `a second CPU`,
	"signature":             `(^|: )([a-z]+-)?signature: |^qe-report-data: `,
	"simulator-as-anchor":   `is a simulator's`,
	"structure":             `structure: |token-format: |certificate-table: |endorsement-key: `,
	"tcb":                   `^(policy-)?tcb|tcb.accept`,
	"tcb-endorsement":       `^tcb-endorsed: `,
	"tcb-info-match":        `^tcb-info-match: |^qe-identity-match: |^policy-tcb: nothing`,
	"tcb-info-signature":    `^tcb-info: |^qe-identity: |^policy-tcb: nothing`,
	"time":                  `^time: `,
	"token-expiry":          `^expiry: |the token (expired|was issued|is not valid before)`,
	"token-issuer":          `^issuer: `,
	"token-nonce":           `^nonce: |none of the token's nonces`,
	"token-signature":       `signature does not verify|not for the pinned key|no pinned key|does not choose the key|is not allowed|is not supported`,
	"token-status":          `^status: `,
	"trailing":              `^quote-tail: |bytes after the value|^certificate-table: `,
	"unframed":              `unframed`,
	"validity":              `^pck-validity: |^endorsement-validity: |certificate has expired`,
	"wrapper":               `^wrapper: `,

	"identity-mismatch":        `^trust: identity-mismatch`,
	"key-object-expired":       `^trust: key-object-expired`,
	"key-object-invalid":       `^trust: key-object-invalid`,
	"key-object-not-yet-valid": `^trust: key-object-not-yet-valid`,
	"nonce-mismatch":           `^trust: nonce-mismatch`,
	"role-mismatch":            `^trust: role-mismatch`,
	"settings-mismatch":        `^trust: settings-mismatch`,
	"signature-invalid":        `^trust: signature-invalid`,
}

// Mutants are all. Those of holes that have no rule above come without a flaw,
// and survive: the table is then to be completed.
func Mutants() []Mutant {
	var out []Mutant
	cases := verifier.Holes()
	for _, hole := range slices.Sorted(maps.Keys(cases)) {
		if hole == "bomb" {
			continue
		}
		f := &Flaw{Name: "overlooks " + hole}
		if rule, ok := holes[hole]; ok {
			f.Blind = regexp.MustCompile(rule)
		}
		out = append(out, Mutant{Flaw: f, Kills: cases[hole]})
	}
	attested := func(names ...string) (ids []string) {
		for _, n := range names {
			ids = append(ids, "verifier/attested/"+n)
		}
		return ids
	}
	var positive, negative []string
	for _, c := range verifier.Cases() {
		if c.Negative() {
			negative = append(negative, c.ID)
		} else {
			positive = append(positive, c.ID)
		}
	}
	write := func(name string, f func(*verifier.Request, *verifier.Answer) *verifier.Answer, kills ...string) Mutant {
		return Mutant{Flaw: &Flaw{Name: name, Write: f}, Kills: attested(kills...)}
	}
	claim := func(old, with string) func(*verifier.Request, *verifier.Answer) *verifier.Answer {
		rule := regexp.MustCompile(old)
		return func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			a.Claims = rule.ReplaceAll(bytes.Clone(a.Claims), []byte(with))
			return a
		}
	}
	whole := func(name string, kills []string, f func(*verifier.Request, *verifier.Answer) *verifier.Answer) Mutant {
		return Mutant{Flaw: &Flaw{Name: name, Write: f}, Kills: kills, Whole: true}
	}
	out = append(out,
		whole("takes everything", negative, func(*verifier.Request, *verifier.Answer) *verifier.Answer {
			return &verifier.Answer{Outcome: verifier.Accept}
		}),
		whole("refuses everything", positive, func(r *verifier.Request, a *verifier.Answer) *verifier.Answer {
			if r.Op == verifier.OpHello {
				return a
			}
			return &verifier.Answer{Outcome: verifier.Reject, Reason: "no"}
		}),
		whole("tells claims of what it refuses", negative, func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			if a.Outcome == verifier.Reject {
				a.Claims = []byte(`{"values":{}, "read":true}`)
			}
			return a
		}),
		whole("ends without an answer", positive, func(r *verifier.Request, a *verifier.Answer) *verifier.Answer {
			if r.Op == verifier.OpHello {
				return a
			}
			return nil
		}),

		write("is slow on what is malformed", func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			if a.Outcome == verifier.Reject {
				a.Micros = 60_000
			}
			return a
		}, names(cases["bomb"])...),
		write("tells other reasons", func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			if a.Outcome == verifier.Reject {
				a.Reason = "busy"
			}
			return a
		}, "stale", "unbound", "diverted", "no-evidence", "epoch-unknown", "identity-of-another"),
		write("does not name the policy", claim(`"policy":"[0-9a-f]+"`, `"policy":"strict"`), "policy-named"),
		write("affirms what is simulated", claim(`"status":"[a-z]+"`, `"status":"affirming"`), "status"),
		write("does not label what is simulated", claim(`"simulated":true`, `"simulated":false`), "tdx", "snp", "sgx", "nitro", "cca"),
		write("calls everything simulated", claim(`"simulated":false`, `"simulated":true`), "genuine"),
		write("has results last for a day", claim(`"expires":\d+`, `"expires":4000000000`), "expires", "expires-certificate", "expires-manifest"),
		write("tells another TCB status", claim(`"tcb":"[A-Za-z]+"`, `"tcb":"UpToDate"`), "status-out-of-date", "status-configuration-qe-late", "status-module-late"),
		write("tells no reason", func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			a.Reason, a.Checks = "", nil
			return a
		}, "explained", "all-checks", "checks"),
		write("stops at the first check that fails", func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			if i := slices.IndexFunc(a.Checks, func(c evidence.Check) bool { return c.Outcome == evidence.Fail }); i >= 0 {
				a.Checks = a.Checks[:i+1]
			}
			return a
		}, "all-checks"),
		write("tells checks as passed that it did not make", func(_ *verifier.Request, a *verifier.Answer) *verifier.Answer {
			for i := range a.Checks {
				if a.Checks[i].Outcome == evidence.NotPerformed {
					a.Checks[i].Outcome = evidence.Pass
				}
			}
			return a
		}, "checks-not-made"),
		Mutant{Flaw: &Flaw{Name: "has a clock of its own", Read: func(r *verifier.Request) {
			if r.Op == verifier.OpEvidence {
				r.Time = sim.Epoch.Add(12 * time.Hour).Unix()
			}
		}}, Kills: attested("time-given", "genuine", "grace")},
		Mutant{Flaw: &Flaw{Name: "joins the members of report data", Blind: regexp.MustCompile(`^unframed$`)}, Kills: attested("report-data-server", "report-data-config", "report-data-nonce", "report-data-epoch", "report-data-spiffe")},
		Mutant{Flaw: &Flaw{Name: "leaves the configuration out of report data", Read: func(r *verifier.Request) {
			if r.Op == verifier.OpReportData {
				r.Config = nil
			}
		}}, Kills: attested("report-data-config", "report-data-spiffe")},
		Mutant{Flaw: &Flaw{Name: "leaves the role out of report data", Read: func(r *verifier.Request) {
			if r.Op == verifier.OpReportData {
				r.Role = 1
			}
		}}, Kills: attested("report-data-client")},
		Mutant{Flaw: &Flaw{Name: "takes whoever signs for the authority that a condition demands", Manifest: eachTriples(func(t *corim.Triples) {
			for _, c := range t.Conditional {
				for _, r := range c.Conditions {
					for i := range r.Claims {
						r.Claims[i].AuthorizedBy = nil
					}
				}
			}
		})}, Kills: attested("endorsed-authority")},
		Mutant{Flaw: &Flaw{Name: "endorses when one of the conditions is met", Manifest: eachTriples(func(t *corim.Triples) {
			for i := range t.Conditional {
				t.Conditional[i].Conditions = t.Conditional[i].Conditions[:1]
			}
		})}, Kills: attested("endorsed")},
		Mutant{Flaw: &Flaw{Name: "takes every entry of a series that matches", Manifest: eachTriples(func(t *corim.Triples) {
			var each []corim.SeriesTriple
			for _, s := range t.Series {
				for _, r := range s.Series {
					one := s
					one.Series = []corim.SeriesRecord{r}
					each = append(each, one)
				}
			}
			t.Series = each
		})}, Kills: attested("series", "series-turned")},
		Mutant{Flaw: &Flaw{Name: "takes the last entry of a series that matches", Manifest: eachTriples(func(t *corim.Triples) {
			for _, s := range t.Series {
				slices.Reverse(s.Series)
			}
		})}, Kills: attested("series", "series-turned")},
		Mutant{Flaw: &Flaw{Name: "has each masked comparison clear what it compares", Manifest: eachTriples(func(t *corim.Triples) {
			// What the second and later comparisons find is not what was measured.
			for _, r := range t.Reference[min(1, len(t.Reference)):] {
				for _, c := range r.Claims {
					if c.Values.Raw != nil && c.Values.Raw.Mask != nil {
						c.Values.Raw.Value = bytes.Repeat([]byte{0xee}, len(c.Values.Raw.Mask))
					}
				}
			}
		})}, Kills: attested("match-masks")},
	)
	return out
}

// names are cases without what all ids begin with.
func names(ids []string) (out []string) {
	for _, id := range ids {
		out = append(out, strings.TrimPrefix(id, "verifier/attested/"))
	}
	return out
}

func eachTriples(f func(*corim.Triples)) func(*corim.CoRIM) {
	return func(c *corim.CoRIM) {
		for _, m := range c.CoMIDs() {
			f(&m.Triples)
		}
	}
}
