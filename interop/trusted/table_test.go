package trusted_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/interop/trusted"
)

// Every server of others behind serve keeps all of profile identity; what profile
// core finds in it as it is, is explained; and the committed tables say just this.
func TestTable(t *testing.T) {
	cache := interoptest.Install(t, interop.Servers()...)
	all, err := trusted.MeasureAll(t.Context(), cache, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if !m.Green() {
			t.Errorf("%s at %s is not green behind serve: %v", m.Target.Name, m.Endpoint.Name, m.Identity)
			for _, f := range m.Findings {
				t.Log(f)
			}
		}
	}
	for _, why := range trusted.Unexplained(all) {
		t.Error(why)
	}
	const again = "run: go run ./interop/cmd/table"
	committed, err := os.ReadFile("../../docs/interop.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := trusted.Document(all); !bytes.Equal(got, committed) {
		t.Errorf("docs/interop.md differs from what is measured; %s\n%s", again, firstDifference(string(committed), string(got)))
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want, ok := trusted.InReadme(readme, trusted.ShortTable(all)); !ok || !bytes.Equal(want, readme) {
		t.Errorf("the table in README.md differs from what is measured; %s\n%s", again, firstDifference(string(readme), string(want)))
	}
}

func firstDifference(committed, measured string) string {
	a, b := strings.Split(committed, "\n"), strings.Split(measured, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "committed: " + a[i] + "\nmeasured:  " + b[i]
		}
	}
	return "one is longer than the other"
}
