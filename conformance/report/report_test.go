package report_test

import (
	"bytes"
	"encoding/xml"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/report"
	"github.com/trustedmcp/tmcp/conformance/wire"
)

// run makes a report on a reference with a fault. Its listener gets another
// port each time, which the document names as the target alone.
func run(t *testing.T, profile conformance.Profile, fault reference.Fault, seed uint64) *report.Document {
	t.Helper()
	inner := reference.New(reference.WithFault(fault))
	defer inner.Close()
	h, err := reference.NewSecond("http://127.0.0.1/mcp", reference.New(), fault, false)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(inner)
	if profile == conformance.ProfileIdentity {
		srv.Config.Handler = h
	}
	defer srv.Close()
	defer srv.CloseClientConnections()
	obs := &conformance.Observations{}
	target, err := wire.HTTP(srv.URL, nil, obs.Observe)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := conformance.Run(t.Context(), conformance.Config{Target: target, Observed: obs, Cases: catalog.All(), Seed: seed, StepTimeout: 3 * time.Second, CanaryTool: reference.ToolName,
		Select: func(c *conformance.Case) bool { return c.Role == conformance.RoleServer && c.Profile == profile }})
	if err != nil {
		t.Fatal(err)
	}
	rep.Target = "the target"
	return report.NewDocument(rep, report.Options{Role: conformance.RoleServer, Replay: func(r *conformance.Result) string { return "tmcp-conform server --case " + r.Case.ID }})
}

// volatile is what two runs may differ in: times, and what the wire carries of
// ports, keys and session ids.
var volatile = regexp.MustCompile(`"millis": [0-9.e-]+`)

// TestSameSeedSameReport makes two reports with one seed.
func TestSameSeedSameReport(t *testing.T) {
	for _, tt := range []struct {
		profile conformance.Profile
		fault   reference.Fault
	}{{conformance.ProfileCore, ""}, {conformance.ProfileCore, "any-tool"}, {conformance.ProfileIdentity, ""}, {conformance.ProfileIdentity, "padding-unchecked"}} {
		var texts [2]string
		for i := range texts {
			doc := run(t, tt.profile, tt.fault, 7)
			for j := range doc.Results {
				doc.Results[j].Transcript = nil // holds ports, keys and ciphertexts, which are fresh each time
				if tt.profile == conformance.ProfileIdentity && strings.Contains(doc.Results[j].Reason, `"frame":"`) {
					doc.Results[j].Reason = strings.Split(doc.Results[j].Reason, `"frame":"`)[0]
				}
			}
			b, err := doc.JSON()
			if err != nil {
				t.Fatal(err)
			}
			texts[i] = volatile.ReplaceAllString(string(b), "")
		}
		if texts[0] != texts[1] {
			a, b := strings.Split(texts[0], "\n"), strings.Split(texts[1], "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s %q: line %d\n%s\n%s", tt.profile, tt.fault, i+1, a[i], b[i])
					break
				}
			}
		}
		if tt.fault != "" && !strings.Contains(texts[0], `"outcome": "fail"`) {
			t.Errorf("%s %q: nothing failed", tt.profile, tt.fault)
		}
	}
}

// TestJUnitIsReadable reads a JUnit report as build servers do: counts are
// those of the elements, and each failure says what and how to replay it.
func TestJUnitIsReadable(t *testing.T) {
	doc := run(t, conformance.ProfileCore, "any-tool", 1)
	b, err := doc.JUnit()
	if err != nil {
		t.Fatal(err)
	}
	type note struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	var got struct {
		XMLName  xml.Name `xml:"testsuites"`
		Tests    int      `xml:"tests,attr"`
		Failures int      `xml:"failures,attr"`
		Errors   int      `xml:"errors,attr"`
		Skipped  int      `xml:"skipped,attr"`
		Suites   []struct {
			Name  string `xml:"name,attr"`
			Cases []struct {
				Name    string  `xml:"name,attr"`
				Class   string  `xml:"classname,attr"`
				Time    float64 `xml:"time,attr"`
				Failure *note   `xml:"failure"`
				Error   *note   `xml:"error"`
				Skipped *note   `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = true
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	failures, skipped, names := 0, 0, map[string]bool{}
	for _, s := range got.Suites {
		for _, c := range s.Cases {
			if c.Name == "" || c.Class == "" || names[c.Name] {
				t.Errorf("the case %q of %q has no name, no class, or stands twice", c.Name, c.Class)
			}
			names[c.Name] = true
			if c.Failure != nil {
				failures++
				if c.Failure.Message == "" || !strings.Contains(c.Failure.Text, "tmcp-conform server --case") {
					t.Errorf("%s: a failure without reason or replay: %+v", c.Name, c.Failure)
				}
			}
			if c.Skipped != nil {
				skipped++
				if c.Skipped.Message == "" {
					t.Errorf("%s is skipped without a reason", c.Name)
				}
			}
		}
	}
	if got.Tests != len(names) || got.Failures != failures || got.Skipped != skipped || got.Errors != 0 || failures == 0 {
		t.Errorf("says %d tests, %d failures, %d skipped; holds %d, %d, %d", got.Tests, got.Failures, got.Skipped, len(names), failures, skipped)
	}
}

// TestConsoleFits80Columns reads the report for people as a narrow terminal
// shows it. Commands to copy, and single long words, may be longer.
func TestConsoleFits80Columns(t *testing.T) {
	doc := run(t, conformance.ProfileCore, "any-tool", 1)
	var b bytes.Buffer
	doc.Console(&b, true)
	if !strings.Contains(b.String(), "FAIL  server/core/modern/unknown-tool (modern)\n") {
		t.Error("the failure is not in it")
	}
	for _, line := range strings.Split(b.String(), "\n") {
		if utf8.RuneCountInString(line) > 80 && !strings.Contains(line, "replay: ") && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
}

// TestConsoleGroupsByReason prints what could not be tried once for each
// reason, and case by case when asked to.
func TestConsoleGroupsByReason(t *testing.T) {
	d := &report.Document{Results: []report.Result{
		{Case: "a", Era: "modern", Outcome: "untestable", Reason: "no tool"},
		{Case: "b", Era: "modern", Outcome: "untestable", Reason: "no answer"},
		{Case: "c", Era: "legacy", Outcome: "untestable", Reason: "no tool"},
		{Case: "d", Era: "legacy", Outcome: "not-applicable", Reason: "no trust"},
		{Case: "e", Era: "legacy", Outcome: "fail", Expected: true, Reason: "wrong"},
	}}
	var brief, full bytes.Buffer
	d.Console(&brief, false)
	d.Console(&full, true)
	for text, want := range map[*bytes.Buffer][]string{
		&brief: {"FAIL (expected)  e (legacy)\n", "UNTESTABLE  2 × no tool\nUNTESTABLE  1 × no answer\nNOT APPLICABLE  1 × no trust\n"},
		&full:  {"UNTESTABLE  a (modern)\n      no tool\n", "UNTESTABLE  c (legacy)\n", "NOT APPLICABLE  d (legacy)\n"},
	} {
		for _, s := range want {
			if !strings.Contains(text.String(), s) {
				t.Errorf("no %q in\n%s", s, text)
			}
		}
	}
}
