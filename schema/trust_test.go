package schema

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var trustShapes = map[string]struct {
	def      string
	validate func([]byte) error
}{
	"settings": {"Settings", ValidateSettings},
	"client":   {"ClientMessage", func(b []byte) error { return ValidateOuter(ClientToServer, b) }},
	"server":   {"ServerMessage", func(b []byte) error { return ValidateOuter(ServerToClient, b) }},
	"error":    {"ErrorData", ValidateErrorData},
}

type trustCase struct {
	Name, Shape string
	Message     map[string]any
	Bad         []string
}

func trustCases(t testing.TB) []trustCase {
	t.Helper()
	var cases []trustCase
	loadYAML(t, "testdata/trust.yaml", &cases)
	return cases
}

func TestTrustMessages(t *testing.T) {
	for _, c := range trustCases(t) {
		s := trustShapes[c.Shape]
		if err := s.validate(marshal(t, c.Message)); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		for _, b := range c.Bad {
			e := parseEdit(t, b)
			doc := clone(t, c.Message).(map[string]any)
			e.apply(t, doc)
			oneCause(t, c.Name+": "+b, s.validate(marshal(t, doc)), e.at)
		}
	}
}

// Each definition must be needed by a valid value and refuse an invalid one.
func TestTrustDefinitionsAreExercised(t *testing.T) {
	all := []string{"AttestParams", "AttestResult", "CallParams", "CallResult", "Capabilities", "ClientMessage", "Digest", "DiscoveryResult", "ErrorData", "Extensions", "Frame", "FrameParams",
		"InlineCallParams", "InlineCallResult", "InlineListParams", "InlineListResult", "KeyObject", "Names", "Nonce", "Offered", "OurMeta", "Result", "ServerMessage", "Settings", "Tool", "TrustError"}
	defs, err := compileDefs(files, "trust/trust.json", all)
	if err != nil {
		t.Fatal(err)
	}
	var good, bad []func() bool
	run := func(def string, doc any) func() bool {
		return func() bool { w := &walk{}; w.check(defs[def], doc); return len(w.out) == 0 }
	}
	for _, c := range trustCases(t) {
		def := trustShapes[c.Shape].def
		good = append(good, run(def, clone(t, c.Message)))
		for _, b := range c.Bad {
			doc := clone(t, c.Message).(map[string]any)
			parseEdit(t, b).apply(t, doc)
			bad = append(bad, run(def, doc))
		}
	}
	for name, n := range defs {
		saved := *n
		*n = node{never: true}
		if !slices.ContainsFunc(good, func(f func() bool) bool { return !f() }) {
			t.Errorf("%s: no valid value uses it", name)
		}
		*n = *anything
		if !slices.ContainsFunc(bad, func(f func() bool) bool { return f() }) {
			t.Errorf("%s: no invalid value fails by it alone", name)
		}
		*n = saved
	}
}

// The reasons and codes of the schema are those of the specification's registry.
func TestReasonsAreThoseOfTheRegistry(t *testing.T) {
	text, err := os.ReadFile("../spec/17-registries.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (29[0-9]{3}) \\| `([a-z-]+)` ").FindAllStringSubmatch(string(text), -1)
	if len(rows) < 40 {
		t.Fatalf("the registry lists only %d reasons: has its form changed?", len(rows))
	}
	for _, r := range rows {
		extra := `,"policy":"` + strings.Repeat("0", 64) + `","codes":["a"],"key":"AQID","tool":{"name":"t","digest":"` + strings.Repeat("A", 43) + `"}`
		data := `{"extension":"org.trustedmcp/trust","reason":"` + r[2] + `"` + extra + `}`
		if err := ValidateErrorData([]byte(data)); err != nil {
			t.Errorf("%s: %v", r[2], err)
		}
		msg := func(code string) []byte {
			return []byte(`{"jsonrpc":"2.0","id":1,"error":{"code":` + code + `,"message":"m","data":` + data + `}}`)
		}
		if err, fromServer := ValidateOuter(ServerToClient, msg(r[1])), r[1] < "29100"; (err == nil) != fromServer {
			t.Errorf("%s %s from a server: %v", r[1], r[2], err)
		}
		if err := ValidateOuter(ServerToClient, msg("29099")); err == nil {
			t.Errorf("%s with code 29099 accepted", r[2])
		}
	}
	if err := ValidateErrorData([]byte(`{"extension":"org.trustedmcp/trust","reason":"no-such"}`)); err == nil {
		t.Error("unknown reason accepted")
	} else if n := strings.Count(err.Error(), " or ") + 1; n != len(rows) {
		t.Errorf("the schema lists %d reasons, the registry %d", n, len(rows))
	}
}

const ledgerEntry = `
  - id: TMCP-4.3-1
    level: MUST
    roles: [client, server]
    profile: identity
    section: 04-negotiation.md#43-the-settings-digest
    text: "A: b."
    cases: [digest-over-values]
    vectors: [settings/1]
    tests: [{file: protocol/settings_test.go, quote: q}]
    code: [{file: protocol/settings.go, quote: q}]
`

func TestLedger(t *testing.T) {
	good := "requirements:" + ledgerEntry
	if err := ValidateLedger([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ old, new, at string }{
		{"TMCP-4.3-1", "TMCP-4-1", "/requirements/0/id"},
		{"level: MUST", "level: SHALL", "/requirements/0/level"},
		{"[client, server]", "[]", "/requirements/0/roles"},
		{"[client, server]", "[client, client]", "/requirements/0/roles"},
		{"[client, server]", "[human]", "/requirements/0/roles/0"},
		{"profile: identity", "profile: ''", "/requirements/0/profile"},
		{"04-negotiation.md#43-the-settings-digest", "chapter 4", "/requirements/0/section"},
		{`text: "A: b."`, "text: 1", "/requirements/0/text"},
		{`    text: "A: b."`, "    txt: x\n    text: y", "/requirements/0/txt"},
		{"[digest-over-values]", "[]", "/requirements/0/cases"},
		{"[settings/1]", "x", "/requirements/0/vectors"},
		{"file: protocol/settings_test.go", "file: /etc/passwd", "/requirements/0/tests/0/file"},
		{"file: protocol/settings.go, quote: q", "file: protocol/settings.go", "/requirements/0/code/0/quote"},
		{"    cases: [digest-over-values]\n    vectors: [settings/1]\n    tests: [{file: protocol/settings_test.go, quote: q}]\n", "", "/requirements/0"},
		{"    code:", "    pending: false\n    code:", "/requirements/0/pending"},
		{"    code:", "    untestable: ''\n    code:", "/requirements/0/untestable"},
		{"requirements:", "extra: 1\nrequirements:", "/extra"},
		{"requirements:", "requirement:", "/requirements"},
	} {
		bad := strings.Replace(good, tc.old, tc.new, 1)
		if bad == good {
			t.Fatalf("%q is not in the ledger", tc.old)
		}
		if tc.at == "/requirements" { // the misspelt member is a second violation
			bad = "{}"
		}
		oneCause(t, tc.old+" → "+tc.new, ValidateLedger([]byte(bad)), tc.at)
	}
	oneCause(t, "same id twice", ValidateLedger([]byte(good+ledgerEntry[1:])), "/requirements")
	for rule, bad := range map[string]string{
		"not-yaml": "requirements: [", "type": "", "too-large": strings.Repeat("#", maxLedger+1),
	} {
		err := ValidateLedger([]byte(bad))
		var e *Error
		if !errors.As(err, &e) || e.Violations[0].Rule != rule && bad != "" {
			t.Errorf("%s: %v", rule, err)
		}
	}
	for _, bad := range []string{"requirements: &a [*a]", "a: &a [1]\nb: *a", "a: 1\na: 2"} {
		if err := ValidateLedger([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestTheLedgerOfTheSpecification(t *testing.T) {
	text, err := os.ReadFile("../spec/ledger.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := ValidateLedger(text); err != nil {
		t.Error(err)
	}
}

func FuzzValidateOuter(f *testing.F) {
	for _, c := range trustCases(f) {
		f.Add(c.Shape == "client", marshal(f, c.Message))
	}
	f.Fuzz(func(t *testing.T, client bool, msg []byte) {
		dir := ServerToClient
		if client {
			dir = ClientToServer
		}
		for _, err := range []error{ValidateOuter(dir, msg), ValidateSettings(msg), ValidateErrorData(msg), ValidateLedger(msg)} {
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatal(fmt.Sprintf("%T", err), err)
			}
		}
	})
}
