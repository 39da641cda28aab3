package rego

import (
	"fmt"
	"strings"
	"testing"
)

// The verb p is of addresses, also where a value formats itself: what it gives
// differs from run to run, and tells a guest where the host's memory lies.
func TestSprintfTellsNoAddress(t *testing.T) {
	big := value{kind: number, text: strings.Repeat("9", 30)}
	for _, format := range []string{"%p", "%#p", "%+08.3p", "%%%p", "x%-p"} {
		out, err := sprintf(nil, []value{{kind: str, text: format}, {kind: array, items: []value{big}}})
		if err == nil {
			t.Errorf("%s gives %q", format, out.text)
		}
	}
	if out, err := sprintf(nil, []value{{kind: str, text: "%dp %%p"}, {kind: array, items: []value{big}}}); err != nil || out.text != big.text+"p %p" {
		t.Errorf("%v, %v", out, err)
	}
}

// Sorting compares each number many times. Reading it each time took ten times
// as long as the fuel for it pays for.
func TestNumbersAreReadOnce(t *testing.T) {
	for name, format := range map[string]string{
		"close to zero": "1e-%d", "equal as float64": "1.0000000000000000000000000000%d", "in arrays": "[1e-%d]",
	} {
		var all []string
		for i := range 600 {
			all = append(all, fmt.Sprintf(format, 400+i*7919%600))
		}
		b := []byte("{" + strings.Join(all, ", ") + "}")
		if n := testing.AllocsPerRun(1, func() {
			if _, err := parseValue(b); err != nil {
				t.Error(err)
			}
		}); n > 40*600 {
			t.Errorf("%s: %v allocations for 600 numbers", name, n)
		}
	}
}
