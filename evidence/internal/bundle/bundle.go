// Package bundle puts the evidence of one party into a CMW, as all attesters of
// this module do: call [Encode].
package bundle

import (
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
)

// Type is the type of a collection of evidence (spec section 18.4).
const Type = "tag:trustedmcp.org,2026:evidence-1"

// Encode returns a CMW of the CPU's evidence: a record when it stands alone, else
// a collection with the labels cpu, cpu-endorsements-0, … and gpu-0, ….
func Encode(cpu evidence.Item, endorsements, gpus []evidence.Item) ([]byte, error) {
	record := func(i evidence.Item, ind cmw.Ind) *cmw.CMW { return cmw.NewRecord(i.MediaType, i.Value, ind) }
	if len(endorsements) == 0 && len(gpus) == 0 {
		return record(cpu, cmw.Evidence).Encode()
	}
	entries := []cmw.Entry{{Label: cmw.TextLabel("cpu"), CMW: record(cpu, cmw.Evidence)}}
	add := func(items []evidence.Item, label string, ind cmw.Ind) {
		for n, i := range items {
			entries = append(entries, cmw.Entry{Label: cmw.TextLabel(fmt.Sprintf("%s-%d", label, n)), CMW: record(i, ind)})
		}
	}
	add(endorsements, "cpu-endorsements", cmw.Endorsements)
	add(gpus, "gpu", cmw.Evidence)
	return cmw.NewCollection(Type, entries...).Encode()
}
