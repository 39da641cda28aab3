package report

import "fmt"

// Compare lists what differs between two documents, verdict by verdict, in the
// order of the second. It is empty when both say the same.
func Compare(a, b *Document) []string {
	key := func(r Result) string { return r.Case + "@" + r.Era }
	old := map[string]Result{}
	for _, r := range a.Results {
		old[key(r)] = r
	}
	var out []string
	for _, r := range b.Results {
		was, ok := old[key(r)]
		delete(old, key(r))
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("+ %s: %s", key(r), verdict(r)))
		case was.Outcome != r.Outcome:
			out = append(out, fmt.Sprintf("! %s: %s, was %s", key(r), verdict(r), verdict(was)))
		}
	}
	for _, r := range a.Results {
		if _, gone := old[key(r)]; gone {
			out = append(out, fmt.Sprintf("- %s: was %s", key(r), verdict(r)))
		}
	}
	return out
}

func verdict(r Result) string {
	if r.Reason == "" {
		return r.Outcome
	}
	return r.Outcome + " (" + r.Reason + ")"
}
