package report

// Rules of the text output: one line per finding, what is wrong before how it
// was found; nothing of what passed but its number; what could not be tried by
// reason, not by case; every failure with its era and the command that replays
// it alone; the verdict on the last line.

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// width is that of the narrowest terminal that people use.
const width = 80

// wrap breaks text between words into lines of at most [width], the first one
// behind head, the others indented as far. A longer word stays whole.
func wrap(head, text string) string {
	var b strings.Builder
	indent := strings.Repeat(" ", len(head))
	for i, para := range strings.Split(text, "\n") {
		if i > 0 {
			head = indent
		}
		b.WriteString(head)
		at := len(head)
		for j, word := range strings.Fields(para) {
			n := utf8.RuneCountInString(word)
			switch {
			case j == 0:
			case at+1+n > width:
				b.WriteString("\n" + indent)
				at = len(indent)
			default:
				b.WriteByte(' ')
				at++
			}
			b.WriteString(word)
			at += n
		}
		b.WriteByte('\n')
	}
	return b.String()
}

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
			fmt.Fprint(w, wrap("  ", fmt.Sprintf("%s: not spoken (%s)", e, i.Why)))
		}
	}
	fmt.Fprintln(w)
	for _, o := range []string{"harness-error", "fail", "warn", "untestable", "not-applicable", "pass"} {
		switch {
		case verbose || o == "harness-error" || o == "fail" || o == "warn":
			d.each(w, o)
		case o != "pass":
			d.grouped(w, o)
		}
	}
	s := d.Summary
	fmt.Fprint(w, "\n"+wrap("", fmt.Sprintf("%d cases: %d pass, %d fail, %d warn, %d not applicable, %d untestable, %d harness errors (seed %d)", len(d.Results), s["pass"], s["fail"], s["warn"], s["not-applicable"], s["untestable"], s["harness-error"], d.Seed)))
}

// each prints the results of one outcome one by one.
func (d *Document) each(w io.Writer, outcome string) {
	for _, r := range d.Results {
		if r.Outcome != outcome {
			continue
		}
		head := label(outcome)
		if r.Expected {
			head += " (expected)"
		}
		id := r.Case
		if r.Era != "" {
			id += " (" + r.Era + ")"
		}
		fmt.Fprintf(w, "%s  %s\n", head, id)
		if r.Title != "" {
			fmt.Fprint(w, wrap("      ", fmt.Sprintf("%s  [%s, %s]", r.Title, r.Level, r.Requirement)))
		}
		if r.Reason != "" {
			fmt.Fprint(w, wrap("      ", r.Reason))
		}
		if r.Replay != "" && outcome != "untestable" {
			fmt.Fprintf(w, "      replay: %s\n", r.Replay)
		}
	}
}

// grouped prints how many results of one outcome have the same reason.
func (d *Document) grouped(w io.Writer, outcome string) {
	count := map[string]int{}
	var order []string
	for _, r := range d.Results {
		if r.Outcome != outcome {
			continue
		}
		if count[r.Reason] == 0 {
			order = append(order, r.Reason)
		}
		count[r.Reason]++
	}
	for _, why := range order {
		fmt.Fprint(w, wrap(label(outcome)+"  ", fmt.Sprintf("%d × %s", count[why], why)))
	}
}

func label(outcome string) string {
	return strings.ToUpper(strings.ReplaceAll(outcome, "-", " "))
}
