package document_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

var (
	claimRow   = regexp.MustCompile(`(?m)^\| ([\w, -]+) \| (.*) \|$`)
	claimRange = regexp.MustCompile("`([a-z.]+)(\\d+)` to `[a-z.]+(\\d+)`")
	claimName  = regexp.MustCompile("`([a-z][a-z0-9.-]*[a-z0-9])`")
)

// The names are those of the specification's table.
func TestClaimNames(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "spec", "18-evidence.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "\n## 18.9 ")
	kinds := map[string][]string{"TDX": {"tdx"}, "SGX": {"sgx"}, "Intel, both": {"tdx", "sgx"}, "SEV-SNP": {"sev-snp"}, "Nitro": {"nitro"}, "NVIDIA": {"nvidia-gpu"}, "CCA": {"cca"}}
	want := map[string][]string{}
	for _, row := range claimRow.FindAllStringSubmatch(table, -1) {
		cell := claimRange.ReplaceAllStringFunc(row[2], func(s string) string {
			m := claimRange.FindStringSubmatch(s)
			from, _ := strconv.Atoi(m[2])
			to, _ := strconv.Atoi(m[3])
			if to > 9 { // which of them there are varies
				return ""
			}
			var out string
			for i := from; i <= to; i++ {
				out += "`" + m[1] + strconv.Itoa(i) + "` "
			}
			return out
		})
		for _, name := range claimName.FindAllStringSubmatch(cell, -1) {
			for _, kind := range kinds[row[1]] {
				want[kind] = append(want[kind], name[1])
			}
		}
	}
	if len(want) != 6 {
		t.Fatalf("the table of section 18.9 has %d kinds", len(want))
	}
	for kind, names := range want {
		got := slices.Sorted(slices.Values(document.ClaimNames(kind)))
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("%s: the specification has %v, this package %v", kind, names, got)
		}
	}
	if len(document.ClaimNames("")) != 0 || len(document.ClaimNames("next")) != 0 {
		t.Error("a kind that is not known has claims")
	}
}
