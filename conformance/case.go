package conformance

import (
	"fmt"
	"strings"

	"github.com/trustedmcp/tmcp/conformance/wire"
)

// Role is the part that the implementation under test plays.
type Role string

// The roles that the suite knows.
const (
	RoleServer   Role = "server"
	RoleClient   Role = "client"
	RoleRelay    Role = "relay"
	RoleVerifier Role = "verifier" // of key objects and evidence, behind a shim
	RolePolicy   Role = "policy"   // host of policies, behind a shim
)

// Profile is a set of requirements that is tested together.
type Profile string

// The profiles that the suite has cases for.
const (
	ProfileCore     Profile = "core"     // MCP itself, where the trust extension depends on it
	ProfileIdentity Profile = "identity" // sealed calls to an identity, without a TEE
	ProfileAttested Profile = "attested" // … to an identity that runs in a TEE
	ProfileMutual   Profile = "mutual"   // the server demands the same of its clients

	ProfileAttestedTLS Profile = "attested-tls" // evidence in TLS, without seals
	ProfilePolicy      Profile = "policy"       // policies as WebAssembly
	ProfileAICC        Profile = "aicc-0.1"     // interoperation with AICC Trusted MCP
)

// Level is the strength of a requirement, in BCP 14 terms.
type Level string

// Levels. A broken MUST fails, a broken SHOULD warns.
const (
	MUST   Level = "MUST"
	SHOULD Level = "SHOULD"
)

// Era is one of the two ways in which MCP opens.
type Era string

// The two eras.
const (
	Legacy Era = "legacy" // initialize: revisions 2024-11-05 to 2025-11-25
	Modern Era = "modern" // stateless: revision 2026-07-28
)

// Revisions that the suite speaks.
const (
	ModernVersion = "2026-07-28"
	LegacyVersion = "2025-11-25"
)

// LegacyVersions are the revisions that open with initialize, newest first.
var LegacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

// A Requirement is one sentence of a specification.
type Requirement struct {
	ID    string // MCP-<revision>-<topic>-<n>, or TMCP-<section>-<ordinal>
	Level Level
	Text  string // quoted
	URL   string // where it stands
}

// A Case tries one requirement in one way.
type Case struct {
	ID          string // server/core/modern/unknown-method
	Requirement Requirement
	Role        Role
	Profile     Profile
	Level       Level // of the requirement, unless the case tries a weaker part of it
	Eras        []Era
	Transports  []wire.Transport // empty: all
	Title       string           // what is tried, in one line
	About       string           // what the case sends and looks at
	Fix         string           // what to change when it fails

	// Twin is the id of the accepted case that this one is a mutation of. A
	// case with a twin is negative, and the engine asks four things of it: the
	// twin passed in this run, the mutant was refused, the guarded step was
	// reached, and the guarded effect did not happen.
	Twin string
	// Last cases run after all others: they judge the run as a whole.
	Last bool
	// Fresh cases get a link of their own, which is closed after them.
	Fresh bool

	Run func(*T)
}

// Negative reports whether c must see a refusal.
func (c *Case) Negative() bool { return c.Twin != "" }

// Outcome is the verdict on one case.
type Outcome string

// Outcomes. There is no "skipped": what was not tried says why.
const (
	Pass          Outcome = "pass"
	Fail          Outcome = "fail"
	Warn          Outcome = "warn"           // a SHOULD is not kept
	NotApplicable Outcome = "not-applicable" // the target declares that it does not do this
	Untestable    Outcome = "untestable"     // it could not be tried; the reason says why
	HarnessError  Outcome = "harness-error"  // the suite is at fault
)

// Outcomes lists all outcomes in the order in which they are reported.
var Outcomes = []Outcome{Pass, Fail, Warn, NotApplicable, Untestable, HarnessError}

// Validate reports the first mistake in a catalog: a case without an id, a
// requirement, or a runner; a name used twice; a twin that does not exist or
// does not run where its mutant runs.
func Validate(cases []Case) error {
	byID := map[string]*Case{}
	reqs := map[string]Requirement{}
	for i := range cases {
		c := &cases[i]
		switch {
		case c.ID == "" || c.Title == "" || c.About == "" || c.Fix == "" || c.Run == nil:
			return fmt.Errorf("case %q lacks an id, title, description, fix or runner", c.ID)
		case strings.ContainsAny(c.ID, " \t\n,@"):
			return fmt.Errorf("case %q: an id is one word, which people type", c.ID)
		case c.Requirement.ID == "" || c.Requirement.Text == "" || c.Requirement.URL == "":
			return fmt.Errorf("case %s names no requirement", c.ID)
		case len(c.Eras) == 0 || c.Role == "" || c.Profile == "" || c.Level == "":
			return fmt.Errorf("case %s lacks era, role, profile or level", c.ID)
		case byID[c.ID] != nil:
			return fmt.Errorf("case %s is defined twice", c.ID)
		}
		if r, ok := reqs[c.Requirement.ID]; ok && r != c.Requirement {
			return fmt.Errorf("requirement %s has two texts", r.ID)
		}
		reqs[c.Requirement.ID] = c.Requirement
		byID[c.ID] = c
	}
	for i := range cases {
		c := &cases[i]
		if !c.Negative() {
			continue
		}
		twin := byID[c.Twin]
		if twin == nil {
			return fmt.Errorf("case %s names the twin %q, which does not exist", c.ID, c.Twin)
		}
		if twin.Negative() {
			return fmt.Errorf("case %s names the twin %s, which is itself negative", c.ID, c.Twin)
		}
		for _, e := range c.Eras {
			if !contains(twin.Eras, e) {
				return fmt.Errorf("case %s runs in the %s era, its twin %s does not", c.ID, e, c.Twin)
			}
		}
	}
	return nil
}

func contains[E comparable](s []E, v E) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}
