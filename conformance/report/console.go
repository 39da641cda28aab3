package report

// Rules of the text output: one line per finding, what is wrong before how it
// was found; nothing of what passed but its number; every failure with the
// command that replays it alone; the verdict on the last line.

import (
	"fmt"
	"io"
	"strings"
)

// Console prints the document for people. verbose also lists what passed.
func (d *Document) Console(w io.Writer, verbose bool) {
	fmt.Fprintf(w, "%s  (%s, %s)\n", d.Target, d.Role, d.Transport)
	for _, e := range []string{"modern", "legacy"} {
		i, ok := d.Eras[e]
		switch {
		case !ok:
		case i.Spoken:
			fmt.Fprintf(w, "  %s: %s\n", e, i.Version)
		default:
			fmt.Fprintf(w, "  %s: not spoken (%s)\n", e, i.Why)
		}
	}
	fmt.Fprintln(w)
	for _, o := range []string{"harness-error", "fail", "warn", "untestable", "not-applicable", "pass"} {
		quiet := o == "not-applicable" || o == "pass"
		reasons := map[string]int{}
		var order []string
		for _, r := range d.Results {
			if r.Outcome != o {
				continue
			}
			if quiet && !verbose {
				if o == "not-applicable" {
					if reasons[r.Reason] == 0 {
						order = append(order, r.Reason)
					}
					reasons[r.Reason]++
				}
				continue
			}
			label := strings.ToUpper(o)
			if r.Expected {
				label += " (expected)"
			}
			fmt.Fprintf(w, "%s  %s\n", label, r.Case)
			if len(r.Title) > 0 {
				fmt.Fprintf(w, "      %s  [%s, %s]\n", r.Title, r.Level, r.Requirement)
			}
			if r.Reason != "" {
				fmt.Fprintf(w, "      %s\n", strings.ReplaceAll(r.Reason, "\n", "\n      "))
			}
			if r.Replay != "" && o != "untestable" {
				fmt.Fprintf(w, "      replay: %s\n", r.Replay)
			}
		}
		for _, why := range order {
			fmt.Fprintf(w, "NOT APPLICABLE  %d × %s\n", reasons[why], why)
		}
	}
	s := d.Summary
	fmt.Fprintf(w, "\n%d cases: %d pass, %d fail, %d warn, %d not applicable, %d untestable, %d harness errors (seed %d)\n",
		len(d.Results), s["pass"], s["fail"], s["warn"], s["not-applicable"], s["untestable"], s["harness-error"], d.Seed)
}
