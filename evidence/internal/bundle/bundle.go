// Package bundle puts the evidence of one party into a CMW, as all attesters of
// this module do: call [Encode].
package bundle

import (
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/protocol"
)

// Type is the type of a collection of evidence (spec section 18.4).
const Type = "tag:trustedmcp.org,2026:evidence-1"

// Encode returns a CMW of the CPU's evidence: a record when it stands alone, else
// a collection with the labels cpu, cpu-endorsements-0, … and gpu-0, …. It fails
// when that is more than a key object holds.
func Encode(cpu evidence.Item, endorsements, gpus []evidence.Item) ([]byte, error) {
	b, err := encode(cpu, endorsements, gpus)
	if err != nil {
		return nil, err
	}
	// TMCP-18.4-6: Evidence in a key object MUST be at most 120 KiB
	if len(b) > protocol.MaxEvidence {
		return nil, fmt.Errorf("the evidence has %d bytes, with %d endorsements stapled and %d GPUs; a key object holds at most %d: staple less, or attest fewer GPUs", len(b), len(endorsements), len(gpus), protocol.MaxEvidence)
	}
	return b, nil
}

func encode(cpu evidence.Item, endorsements, gpus []evidence.Item) ([]byte, error) {
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
