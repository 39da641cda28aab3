package document

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
)

// Documents of evidence that real machines made, but for "simulated"; that
// reference values match is made up. Package gateway/policy makes them.
//
//go:embed samples/*.json
var samples embed.FS

// Samples are the names for [Sample].
func Samples() []string {
	entries, _ := fs.ReadDir(samples, "samples") // embedded
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".json"))
	}
	slices.Sort(names)
	return names
}

// Sample is an example of a document, in JSON, to try policies with.
func Sample(name string) ([]byte, bool) {
	b, err := samples.ReadFile("samples/" + name + ".json")
	return b, err == nil
}
