package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/evidence/corim"
)

// A manifest is a CoRIM for people.
type manifest struct {
	Verified  bool      `json:"verified"` // false: nothing here is
	ID        string    `json:"id"`
	Profile   string    `json:"profile,omitzero"`
	Signed    bool      `json:"signed"`
	Signer    string    `json:"signer,omitzero"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Chain     []string  `json:"chain,omitzero"`
	CoMIDs    []comid   `json:"comids"`
	Other     int       `json:"other_tags,omitzero"`
}

type comid struct {
	ID      string   `json:"id"`
	Records []record `json:"records"`
	Other   []string `json:"other_triples,omitzero"`
}

type record struct {
	Triple      string   `json:"triple"`
	Environment string   `json:"environment"`
	Values      []string `json:"values"`
}

func describeCoRIM(c *corim.CoRIM, s *corim.Signature) manifest {
	m := manifest{ID: c.ID.String(), Profile: c.Profile, Signed: s != nil, NotBefore: c.Validity.NotBefore, NotAfter: c.Validity.NotAfter}
	if s != nil {
		m.Signer = s.Signer
		if !s.Validity.NotAfter.IsZero() {
			m.NotBefore, m.NotAfter = s.Validity.NotBefore, s.Validity.NotAfter
		}
		for _, cert := range s.Chain {
			m.Chain = append(m.Chain, cert.Subject.String())
		}
	}
	m.Other = len(c.Tags)
	for _, id := range c.CoMIDs() {
		m.Other--
		t := &id.Triples
		d := comid{ID: id.ID.ID.String()}
		for _, part := range []struct {
			name    string
			records []corim.Record
		}{{"reference", t.Reference}, {"endorsed", t.Endorsed}} {
			for _, r := range part.records {
				rec := record{Triple: part.name, Environment: r.Environment.String()}
				for i := range r.Claims {
					rec.Values = append(rec.Values, describeMeasurement(&r.Claims[i])...)
				}
				d.Records = append(d.Records, rec)
			}
		}
		for name, n := range map[string]int{
			"identity": len(t.Identity), "attest-key": len(t.AttestKey), "dependency": len(t.Dependency), "membership": len(t.Membership),
			"coswid": len(t.CoSWID), "conditional-endorsement-series": len(t.Series), "conditional-endorsement": len(t.Conditional), "unknown": len(t.Extra),
		} {
			if n > 0 {
				d.Other = append(d.Other, fmt.Sprintf("%s: %d", name, n))
			}
		}
		m.CoMIDs = append(m.CoMIDs, d)
	}
	return m
}

func describeMeasurement(m *corim.Measurement) []string {
	key := ""
	if m.Key != nil {
		key = m.Key.Describe() + " "
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, key+fmt.Sprintf(format, args...)) }
	v := &m.Values
	if v.Version != nil {
		add("version %s", v.Version.Version)
	}
	if v.SVN != nil {
		form := "svn"
		if v.SVN.Form == corim.MinSVN {
			form = "svn at least"
		}
		add("%s %d", form, v.SVN.Value)
	}
	for _, d := range v.Digests {
		add("digest %s", d)
	}
	for _, f := range v.Flags {
		add("flag %d %s", f.Code, f.Value.Describe())
	}
	if v.Raw != nil {
		add("raw %x", v.Raw.Value)
		if v.Raw.Mask != nil {
			add("mask %x", v.Raw.Mask)
		}
	}
	for _, r := range v.Registers {
		for _, d := range r.Digests {
			add("register %s %s", r.RegisterID, d)
		}
	}
	if v.Name != "" {
		add("name %s", v.Name)
	}
	if v.Int != nil {
		add("int %s", describeRange(v.Int))
	}
	for _, b := range []struct {
		name string
		v    []byte
	}{{"ueid", v.UEID}, {"uuid", v.UUID}, {"mac", v.MAC}, {"ip", v.IP}} {
		if b.v != nil {
			add("%s %s", b.name, hex.EncodeToString(b.v))
		}
	}
	if len(v.Keys) > 0 {
		add("%d keys", len(v.Keys))
	}
	for _, f := range v.Extra {
		add("%s %s", corim.ValueName(f.Code), f.Value.Describe())
	}
	return out
}

func describeRange(r *corim.IntRange) string {
	lo, hi := "…", "…"
	if r.Min != nil {
		lo = fmt.Sprint(*r.Min)
	}
	if r.Max != nil {
		hi = fmt.Sprint(*r.Max)
	}
	if lo == hi {
		return lo
	}
	return lo + " to " + hi
}

func (m *manifest) print(w io.Writer) {
	fmt.Fprintln(w, "UNVERIFIED: this is what the manifest says")
	fmt.Fprintf(w, "CoRIM %s\n", printable(m.ID))
	if m.Profile != "" {
		fmt.Fprintf(w, "  profile  %s\n", printable(m.Profile))
	}
	if !m.Signed {
		fmt.Fprintln(w, "  not signed")
	} else {
		fmt.Fprintf(w, "  signer   %s\n", printable(m.Signer))
	}
	if !m.NotAfter.IsZero() {
		fmt.Fprintf(w, "  valid    %s to %s\n", m.NotBefore.Format(time.RFC3339), m.NotAfter.Format(time.RFC3339))
	}
	for _, c := range m.Chain {
		fmt.Fprintf(w, "  chain    %s\n", printable(c))
	}
	for _, c := range m.CoMIDs {
		fmt.Fprintf(w, "  CoMID %s\n", printable(c.ID))
		for _, r := range c.Records {
			fmt.Fprintf(w, "    %s values of %s\n", r.Triple, printable(r.Environment))
			for _, v := range r.Values {
				fmt.Fprintf(w, "      %s\n", printable(v))
			}
		}
		if len(c.Other) > 0 {
			fmt.Fprintf(w, "    other triples: %s\n", strings.Join(c.Other, ", "))
		}
	}
	if m.Other > 0 {
		fmt.Fprintf(w, "  %d tags that are no CoMID\n", m.Other)
	}
}
