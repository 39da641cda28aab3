package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/catalog"
	"github.com/trustedmcp/tmcp/conformance/client"
	"github.com/trustedmcp/tmcp/spec"
)

func explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain ID", Short: "Explain a case or a requirement", Args: exactArgs(1, "the id of a case or of a requirement"),
		Long: "Prints the sentence of the specification, why it is there, what the cases of it do and\nhow to fix what they find. ID is that of a case, or of a requirement such as TMCP-4.3-1.",
		RunE: func(_ *cobra.Command, args []string) error {
			all := catalog.All()
			var found []*conformance.Case
			for i, c := range all {
				if c.ID == args[0] || c.Requirement.ID == args[0] {
					found = append(found, &all[i])
				}
			}
			r, err := spec.Requirement(args[0])
			if len(found) == 0 && err != nil {
				return usage("%q is neither a case nor a requirement; near to it are %s", args[0], strings.Join(nearest(args[0], all), ", "))
			}
			if len(found) == 0 {
				explainUntried(r)
			}
			for i, c := range found {
				if i > 0 {
					fmt.Println()
				}
				explainCase(c)
			}
			return nil
		},
	}
}

func explainCase(c *conformance.Case) {
	fmt.Printf("%s\n  %s\n\nRequirement %s (%s)\n  %q\n  %s\n", c.ID, c.Title, c.Requirement.ID, c.Level, c.Requirement.Text, c.Requirement.URL)
	fmt.Printf("\nWhy\n  %s\n\nWhat it does\n  %s\n", why(c.Requirement.ID), c.About)
	if c.Negative() {
		fmt.Printf("  It is a mutation of %s, which must be accepted in the same run.\n", c.Twin)
	}
	fmt.Printf("\nHow to fix a failure\n  %s\n", c.Fix)
	if c.Role == conformance.RoleClient {
		fmt.Printf("\nHow a client under test is started\n%s\n", client.Contract)
	}
}

// explainUntried explains a requirement that no case tries.
func explainUntried(r *spec.Req) {
	fmt.Printf("Requirement %s (%s; %s)\n  %q\n  %s\n\nWhy\n  %s\n\nWhat shows it\n", r.ID, r.Level, strings.Join(r.Roles, ", "), r.Text, r.URL(), why(r.ID))
	for _, v := range r.Vectors {
		fmt.Printf("  test vector %s, in spec/vectors\n", v)
	}
	for _, t := range r.Tests {
		fmt.Printf("  a test of the reference, in %s\n", t.File)
	}
	if r.Untestable != "" {
		fmt.Printf("  nothing: %s\n", r.Untestable)
	}
	if len(r.Vectors)+len(r.Tests) == 0 && r.Untestable == "" {
		fmt.Println("  nothing yet")
	}
	fmt.Print("\nHow to fix a failure\n  ")
	switch {
	case len(r.Vectors) > 0:
		fmt.Println("Feed the vector's input to your implementation; its note says what bug it catches.")
	case len(r.Tests) > 0:
		fmt.Println("Read the test: it does to the reference what a peer, or a user, would do to yours.")
	default:
		fmt.Println("Review the code against the sentence.")
	}
}

var (
	whyMark   = regexp.MustCompile(`(?s)\*Why[^*]*\*:?\s*(.*?)(?:\s*\[TMCP-|\n\n|\n\s*[-0-9*]|$)`)
	heading   = regexp.MustCompile(`(?m)^## .*$`)
	reqMarker = regexp.MustCompile(`\[TMCP-[0-9.-]+ [A-Z]+[^\]]*\]`)
)

// why is the reason that the specification gives for a requirement: the one in
// its sentence, else how its section or its chapter begins.
func why(id string) string {
	r, err := spec.Requirement(id)
	if err != nil {
		return "It is MCP's own rule. The trust extension rests on it, or must leave it intact."
	}
	file, _, _ := strings.Cut(r.Section, "#")
	text, err := fs.ReadFile(spec.Files(), file)
	if err != nil {
		return err.Error()
	}
	at := strings.Index(string(text), "["+id+" ")
	if at < 0 {
		return "The specification gives no reason beyond its sentence."
	}
	start := 0
	end := len(text)
	for _, loc := range heading.FindAllIndex(text, -1) {
		if loc[0] <= at {
			start = loc[1]
		} else {
			end = min(end, loc[0])
		}
	}
	section := string(text[start:end])
	before := section[:at-start]
	line := before[strings.LastIndex(before, "\n")+1:]
	if m := whyMark.FindStringSubmatch(line + "[" + id + " "); m != nil {
		return flat(m[1])
	}
	if s := opening(section); s != "" {
		return s
	}
	_, chapter, _ := strings.Cut(string(text), "\n")
	if i := heading.FindStringIndex(chapter); i != nil {
		if s := opening(chapter[:i[0]]); s != "" {
			return s
		}
	}
	title, _, _ := strings.Cut(strings.TrimLeft(string(text), "# 0123456789"), "\n")
	return "It is part of how the specification defines: " + strings.ToLower(strings.TrimSpace(title)) + "."
}

// opening is the first paragraph of prose.
func opening(section string) string {
	for _, para := range strings.Split(section, "\n\n") {
		para = strings.TrimSpace(para)
		if para != "" && !strings.ContainsAny(para[:1], "`|<>#-*0123456789") && !reqMarker.MatchString(para) {
			return flat(para)
		}
	}
	return ""
}

func flat(s string) string {
	return strings.Join(strings.Fields(reqMarker.ReplaceAllString(s, "")), " ")
}

// nearest are the three ids that are most like one that does not exist.
func nearest(id string, all []conformance.Case) []string {
	var ids []string
	for i := range all {
		ids = append(ids, all[i].ID, all[i].Requirement.ID)
	}
	if l, err := spec.Load(); err == nil {
		for i := range l.Requirements {
			ids = append(ids, l.Requirements[i].ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	far := map[string]int{}
	for _, s := range ids {
		far[s] = distance(id, s)
	}
	slices.SortStableFunc(ids, func(a, b string) int { return cmp.Compare(far[a], far[b]) })
	return ids[:min(3, len(ids))]
}

// distance is how many letters must be put in, taken out or changed to make b
// of a (Levenshtein's distance).
func distance(a, b string) int {
	a = a[:min(len(a), 200)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
