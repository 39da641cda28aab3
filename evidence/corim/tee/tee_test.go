package tee

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/evidence/corim/acs"
	"github.com/trustedmcp/tmcp/evidence/internal/seal"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func h(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// claims of each kind, all that its verifier gives.
func claims(k evidence.Kind) map[string]any {
	v := map[string]any{}
	intel := func() {
		maps.Copy(v, map[string]any{
			"intel.fmspc": h(0xb0, 6), "intel.pceid": h(0, 2), "intel.pcesvn": uint64(13), "intel.ppid": h(9, 16), "intel.tcbsvn": h(3, 16),
			"intel.qe.mrsigner": h(0x8c, 32), "intel.qe.isvprodid": uint64(2), "intel.qe.isvsvn": uint64(6), "intel.tcb-evaluation-number": uint64(17),
		})
	}
	switch k {
	case evidence.TDX:
		intel()
		for i, n := range []string{"mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrseam", "mrsignerseam", "mrconfigid", "mrowner", "mrownerconfig", "mrservicetd"} {
			v["tdx."+n] = h(byte(i+1), 48)
		}
		for _, n := range []string{"tdattributes", "seamattributes", "xfam"} {
			v["tdx."+n] = h(0x10, 8)
		}
		v["tdx.teetcbsvn"], v["tdx.teetcbsvn2"] = h(5, 16), h(5, 16)
	case evidence.SGX:
		intel()
		maps.Copy(v, map[string]any{
			"sgx.mrenclave": h(1, 32), "sgx.mrsigner": h(2, 32), "sgx.isvprodid": uint64(7), "sgx.isvsvn": uint64(3), "sgx.attributes": h(5, 16), "sgx.miscselect": uint64(1),
			"sgx.cpusvn": h(6, 16), "sgx.configid": h(0, 64), "sgx.configsvn": uint64(0), "sgx.isvextprodid": h(0, 16), "sgx.isvfamilyid": h(0, 16),
		})
	case evidence.SNP:
		maps.Copy(v, map[string]any{
			"snp.measurement": h(1, 48), "snp.hostdata": h(2, 32), "snp.policy": uint64(0x30000), "snp.familyid": h(0, 16), "snp.imageid": h(0, 16), "snp.vmpl": uint64(1), "snp.guestsvn": uint64(4),
			"snp.platforminfo": uint64(3), "snp.chipid": h(7, 64), "snp.currenttcb": h(1, 8), "snp.reportedtcb": h(1, 8), "snp.committedtcb": h(1, 8), "snp.launchtcb": h(1, 8),
			"snp.idkeydigest": h(0, 48), "snp.authorkeydigest": h(8, 48), "snp.reportid": h(3, 32), "snp.reportidma": h(0xff, 32), "snp.version": uint64(3), "snp.signingkey": "vcek", "snp.product": "Genoa",
		})
	case evidence.Nitro:
		for i := range 16 {
			v[fmt.Sprint("nitro.pcr", i)] = h(byte(i), 48)
		}
		v["nitro.moduleid"], v["nitro.digest"], v["nitro.timestamp"] = "i-1-enc1", "SHA384", uint64(1)
	case evidence.NVIDIA:
		maps.Copy(v, map[string]any{"nvidia.arch": "HOPPER", "nvidia.measurement.1": h(1, 48), "nvidia.measurement.9": h(2, 48), "nvidia.measurement.35": h(3, 4), "nvidia.driver": "570.1", "nvidia.vbios": "96.00", "nvidia.deviceid": h(5, 16), "nvidia.fwid": h(6, 48)})
	case evidence.CCA:
		maps.Copy(v, map[string]any{
			"cca.implid": h(1, 32), "cca.instanceid": h(1, 33), "cca.rim": h(2, 32), "cca.rem0": h(3, 32), "cca.rem1": h(4, 32), "cca.rem2": h(5, 32), "cca.rem3": h(6, 32), "cca.rpv": h(7, 64),
			"cca.lifecycle": uint64(0x3003), "cca.config": h(8, 4), "cca.platformprofile": "p", "cca.realmprofile": "r", "cca.hashalg": "sha-256",
			"cca.sw.BL.measurement": h(9, 32), "cca.sw.BL.signer": h(10, 32), "cca.sw.BL.version": "1.0", "cca.sw.RMM.measurement": h(11, 32), "cca.sw.RMM.signer": h(10, 32),
		})
	}
	return v
}

func prove(k evidence.Kind, values map[string]any, edit ...func(*evidence.Claims)) *evidence.Verified {
	c := &evidence.Claims{Values: values, ReportData: h(0xda, 64)}
	for _, e := range edit {
		e(c)
	}
	return evidence.NewResult(seal.Mine(), k, nil, nil, c).Verified()
}

func tuples(t *testing.T, v *evidence.Verified) []acs.ECT {
	t.Helper()
	es, err := Evidence(v)
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// store has the manifest, signed and verified as in production.
func store(t *testing.T, c *corim.CoRIM) *acs.Store {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := corim.Sign(c, &corim.Signer{Name: "builder", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	v, err := corim.Verify(b, &corim.Trust{Keys: []crypto.PublicKey{key.Public()}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	s, err := acs.NewStore(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A manifest made of a TEE's claims matches that TEE, and each claim of it counts:
// evidence with another value is contradicted, and the explanation names it.
func TestManifestsMatchTheirEvidence(t *testing.T) {
	for _, tt := range []struct {
		kind   evidence.Kind
		name   string // of the tuple
		claims []string
		says   map[string]string // how the explanation names a claim, where not by its name
	}{
		{evidence.TDX, "tdx", append(Defaults(evidence.TDX), "tdx.tdattributes", "tdx.xfam", "tdx.mrconfigid", "tdx.mrowner", "tdx.mrownerconfig", "tdx.mrservicetd"),
			nil},
		{evidence.TDX, "tdx.module", []string{"tdx.mrseam", "tdx.mrsignerseam", "tdx.seamattributes"}, nil},
		{evidence.TDX, "intel.qe", []string{"intel.qe.mrsigner", "intel.qe.isvprodid", "intel.qe.isvsvn"}, nil},
		{evidence.SGX, "sgx", []string{"sgx.mrenclave"}, nil},
		{evidence.SGX, "sgx", []string{"sgx.mrsigner", "sgx.isvprodid", "sgx.isvsvn", "sgx.attributes", "sgx.miscselect", "sgx.configid", "sgx.isvextprodid", "sgx.isvfamilyid"},
			nil},
		{evidence.SNP, "snp", []string{"snp.measurement", "snp.hostdata", "snp.policy", "snp.familyid", "snp.imageid", "snp.vmpl", "snp.guestsvn", "snp.platforminfo", "snp.authorkeydigest", "snp.version"},
			nil},
		{evidence.Nitro, "nitro", append(Defaults(evidence.Nitro), "nitro.pcr8"), nil},
		{evidence.NVIDIA, "nvidia", []string{"nvidia.measurement.1", "nvidia.measurement.9", "nvidia.measurement.35", "nvidia.driver", "nvidia.vbios", "nvidia.fwid"},
			nil},
		{evidence.CCA, "cca", []string{"cca.rem0", "cca.rem1", "cca.rem2", "cca.rem3", "cca.rpv"}, nil},
		{evidence.CCA, "cca.platform", []string{"cca.implid", "cca.sw.BL.measurement", "cca.sw.BL.signer", "cca.sw.BL.version", "cca.sw.RMM.measurement", "cca.lifecycle", "cca.config"},
			map[string]string{"cca.implid": "no manifest has reference values", "cca.sw.BL.measurement": "cca.sw: want", "cca.sw.BL.signer": "cca.sw: want", "cca.sw.BL.version": "cca.sw: want", "cca.sw.RMM.measurement": "cca.sw: want"}},
	} {
		t.Run(string(tt.kind)+" "+tt.name, func(t *testing.T) {
			all := claims(tt.kind)
			set := map[string]any{}
			for _, n := range tt.claims {
				set[n] = all[n]
			}
			if tt.name == "cca" {
				set["cca.rim"] = all["cca.rim"]
			}
			if tt.kind == evidence.NVIDIA {
				set["nvidia.arch"] = all["nvidia.arch"]
			}
			c, err := Manifest("test", tt.kind, set)
			if err != nil {
				t.Fatal(err)
			}
			s := store(t, c)
			look := func(values map[string]any) *acs.Subject {
				r, err := s.Appraise(tuples(t, prove(tt.kind, values)), acs.Options{Now: now})
				if err != nil {
					t.Fatal(err)
				}
				return r.Subject(tt.name)
			}
			if sub := look(all); sub == nil || sub.Outcome != acs.Corroborated {
				t.Fatalf("%+v", sub)
			}
			for _, n := range tt.claims {
				other := maps.Clone(all)
				switch x := all[n].(type) {
				case []byte:
					b := bytes.Clone(x)
					b[len(b)-1] ^= 1
					other[n] = b
				case uint64:
					other[n] = x - 1
				case string:
					other[n] = x + "x"
				default:
					t.Fatalf("%s is a %T", n, x)
				}
				says := tt.says[n]
				if says == "" {
					says = n + ": want "
				}
				sub := look(other)
				if sub.Outcome == acs.Corroborated || !strings.Contains(sub.Explain(), says) {
					t.Errorf("%s changed: %s: %s", n, sub.Outcome, sub.Explain())
				}
				delete(other, n)
				es, err := Evidence(prove(tt.kind, other))
				if err != nil {
					t.Fatal(err)
				}
				r, err := s.Appraise(es, acs.Options{Now: now})
				if err != nil {
					t.Fatal(err)
				}
				if sub := r.Subject(tt.name); sub != nil && sub.Outcome == acs.Corroborated {
					t.Errorf("%s missing: %s", n, sub.Outcome)
				}
			}
		})
	}
}

// SVNs of a manifest are minimums, numbers that identify are not.
func TestMinimums(t *testing.T) {
	all := claims(evidence.SGX)
	c, err := Manifest("m", evidence.SGX, map[string]any{"sgx.mrsigner": all["sgx.mrsigner"], "sgx.isvprodid": uint64(7), "sgx.isvsvn": uint64(2)})
	if err != nil {
		t.Fatal(err)
	}
	s := store(t, c)
	for _, tt := range []struct {
		svn, prod uint64
		want      acs.Outcome
	}{{2, 7, acs.Corroborated}, {9, 7, acs.Corroborated}, {1, 7, acs.Contradicted}, {9, 8, acs.Contradicted}} {
		all["sgx.isvsvn"], all["sgx.isvprodid"] = tt.svn, tt.prod
		r, err := s.Appraise(tuples(t, prove(evidence.SGX, all)), acs.Options{Now: now})
		if err != nil || r.Subject("sgx").Outcome != tt.want {
			t.Errorf("%+v: %v, %v", tt, r.Subject("sgx").Outcome, err)
		}
	}
}

// Manifests that others write with the Intel profile's code points match, too.
func TestIntelCodePoints(t *testing.T) {
	ge := func(n uint64) corim.Item {
		return append(corim.Item{0xd9, 0xea, 0x6a, 0x82, 0x02}, corim.UintItem(n)...)
	}
	dig := func(alg byte, v []byte) corim.Item {
		return append([]byte{0x82, alg, 0x58, byte(len(v))}, v...)
	}
	ref := func(class string, f ...corim.Field) *corim.CoRIM {
		oid, err := corim.OIDItem(class)
		if err != nil {
			t.Fatal(err)
		}
		return &corim.CoRIM{ID: corim.ID{Text: "intel"}, Profile: corim.ProfileIntel, Tags: []corim.Tag{{CoMID: &corim.CoMID{ID: corim.TagID{ID: corim.ID{Text: "m"}}, Triples: corim.Triples{
			Reference: []corim.Record{{Environment: corim.Environment{Class: &corim.Class{ID: oid}}, Claims: []corim.Measurement{{Values: corim.Values{Extra: f}}}}},
		}}}}}
	}
	for _, tt := range []struct {
		name string
		kind evidence.Kind
		of   string
		c    *corim.CoRIM
		want acs.Outcome
	}{
		{"module", evidence.TDX, "tdx.module", ref(oidModule, corim.Field{Code: -83, Value: dig(7, h(6, 48))}, corim.Field{Code: -73, Value: ge(5)}), acs.Corroborated},
		{"module too old", evidence.TDX, "tdx.module", ref(oidModule, corim.Field{Code: -73, Value: ge(6)}), acs.Contradicted},
		{"enclave", evidence.SGX, "sgx", ref(oidEnclave, corim.Field{Code: -84, Value: dig(1, h(2, 32))}, corim.Field{Code: -73, Value: ge(3)}, corim.Field{Code: -85, Value: corim.UintItem(7)}), acs.Corroborated},
		{"another enclave", evidence.SGX, "sgx", ref(oidEnclave, corim.Field{Code: -84, Value: dig(1, h(3, 32))}), acs.Contradicted},
	} {
		r, err := store(t, tt.c).Appraise(tuples(t, prove(tt.kind, claims(tt.kind))), acs.Options{Now: now})
		if err != nil || r.Subject(tt.of).Outcome != tt.want {
			t.Errorf("%s: %v, %v", tt.name, r.Subject(tt.of).Explain(), err)
		}
	}
}

func TestEvidence(t *testing.T) {
	for _, k := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.NVIDIA, evidence.CCA} {
		es := tuples(t, prove(k, claims(k), func(c *evidence.Claims) { c.Debug = true }))
		if es[0].Elements[0].Key != nil || !slices.ContainsFunc(es[0].Elements[0].Values.Flags, func(f corim.Field) bool {
			return f.Code == corim.FlagDebug && bytes.Equal(f.Value, []byte{0xf5})
		}) {
			t.Errorf("%s: the debug flag is not the workload's first element", k)
		}
		for _, e := range es {
			if len(e.Authority) != 1 || !e.Authority[0].Equal(corim.KeyID([]byte(k))) || e.Profile == "" {
				t.Errorf("%s: %+v", k, e)
			}
			// Each tuple has an encoding that the codec reads.
			for _, m := range e.Elements {
				if _, err := corim.DecodeValues(m.Values.Encode()); err != nil {
					t.Errorf("%s %v: %v", e.Name, m.Key, err)
				}
			}
		}
	}
	es := tuples(t, prove(evidence.SNP, claims(evidence.SNP), func(c *evidence.Claims) { c.Simulated = true }))
	if !es[0].Authority[0].Equal(corim.KeyID([]byte("sev-snp/simulated"))) {
		t.Errorf("simulated evidence has the authority %v", es[0].Authority)
	}
	vlek := claims(evidence.SNP)
	vlek["snp.signingkey"], vlek["snp.cspid"] = "vlek", "CSP"
	if e := tuples(t, prove(evidence.SNP, vlek))[0].Environment; !strings.Contains(e.String(), oidCSP) || !bytes.Equal(e.Instance, corim.BytesItem([]byte("CSP"))) {
		t.Errorf("VLEK: %s", e)
	}
	masked := claims(evidence.SNP)
	masked["snp.chipid"] = h(0, 64)
	if e := tuples(t, prove(evidence.SNP, masked))[0].Environment; e.Instance != nil {
		t.Errorf("a masked chip id is an instance: %s", e)
	}
	for k, n := range map[evidence.Kind]string{evidence.NVIDIA: "nvidia.measurement.9", evidence.CCA: "cca.config"} {
		v := claims(k)
		v[n] = []byte{}
		tuples(t, prove(k, v)) // nothing is measured there: no reason to refuse the rest
	}
	if _, err := Evidence(nil); err == nil {
		t.Error("evidence of nothing")
	}
	for name, v := range map[string]map[string]any{
		"short hash":    {"tdx.mrtd": h(1, 47)},
		"wrong type":    {"tdx.mrtd": "text"},
		"empty":         {"tdx.xfam": []byte{}},
		"short pcr":     {"nitro.pcr0": h(1, 5)},
		"bad index":     {"nvidia.measurement.x": h(1, 48)},
		"big miscselct": {"sgx.miscselect": uint64(1 << 40)},
	} {
		k := map[byte]evidence.Kind{'t': evidence.TDX, 'n': evidence.Nitro, 's': evidence.SGX}
		for n := range v {
			kind := k[n[0]]
			if strings.HasPrefix(n, "nvidia") {
				kind = evidence.NVIDIA
			}
			if _, err := Evidence(prove(kind, v)); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
	}
}

func TestReferenceRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		kind evidence.Kind
		v    map[string]any
		says string
	}{
		"no claims":         {evidence.TDX, nil, "no reference value"},
		"unknown claim":     {evidence.TDX, map[string]any{"tdx.mrtd": h(1, 48), "tdx.mrtt": h(1, 48)}, "tdx.mrtt is no reference value"},
		"another kind's":    {evidence.SNP, map[string]any{"tdx.mrtd": h(1, 48)}, "tdx.mrtd"},
		"short":             {evidence.SNP, map[string]any{"snp.measurement": h(1, 32)}, "32 bytes, want 48"},
		"of text":           {evidence.SNP, map[string]any{"snp.measurement": "01"}, "of type string"},
		"a TCB as number":   {evidence.SNP, map[string]any{"snp.reportedtcb": h(1, 8)}, "use policy"},
		"TCB components":    {evidence.TDX, map[string]any{"tdx.teetcbsvn": h(1, 16)}, "policy"},
		"two profiles":      {evidence.CCA, map[string]any{"cca.rim": h(1, 32), "cca.implid": h(1, 32), "cca.lifecycle": uint64(1)}, "two manifests"},
		"unknown kind":      {"tpm", map[string]any{"x": h(1, 32)}, "no profile"},
		"only the instance": {evidence.SNP, map[string]any{"snp.chipid": h(1, 64)}, "no reference value"},
	} {
		if _, err := Manifest("m", tt.kind, tt.v); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
	if _, err := Manifest("m", evidence.TDX); err == nil {
		t.Error("a manifest of nothing")
	}
}

// A reference value is for all instances.
func TestNoInstance(t *testing.T) {
	all := claims(evidence.SNP)
	rs, profile, err := Reference(evidence.SNP, map[string]any{"snp.measurement": all["snp.measurement"], "snp.chipid": all["snp.chipid"]})
	if err != nil || profile != corim.ProfileAMD || len(rs) != 1 || rs[0].Environment.Instance != nil || len(rs[0].Claims) != 1 {
		t.Errorf("%+v, %q, %v", rs, profile, err)
	}
}

// What runs now becomes what may run.
func TestSelect(t *testing.T) {
	for _, k := range []evidence.Kind{evidence.TDX, evidence.SGX, evidence.SNP, evidence.Nitro, evidence.CCA} {
		v := prove(k, claims(k))
		set, err := Select(v, Defaults(k)...)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Manifest("now", k, set)
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
		r, err := store(t, c).Appraise(tuples(t, v), acs.Options{Now: now})
		if err != nil || r.Subjects[0].Outcome != acs.Corroborated {
			t.Errorf("%s: %+v, %v", k, r.Subjects[0].Explain(), err)
		}
	}
	if _, err := Select(prove(evidence.TDX, claims(evidence.TDX)), "tdx.nothing"); err == nil {
		t.Error("selected what there is not")
	}
}

// A VCEK's report and a VLEK's are of different classes.
func TestSelectVLEK(t *testing.T) {
	v := claims(evidence.SNP)
	v["snp.signingkey"], v["snp.cspid"] = "vlek", "CSP"
	set, err := Select(prove(evidence.SNP, v), "snp.measurement")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Manifest("vlek", evidence.SNP, set)
	if err != nil {
		t.Fatal(err)
	}
	s := store(t, c)
	for values, want := range map[string]acs.Outcome{"vlek": acs.Corroborated, "vcek": acs.Unknown} {
		x := maps.Clone(v)
		x["snp.signingkey"] = values
		r, err := s.Appraise(tuples(t, prove(evidence.SNP, x)), acs.Options{Now: now})
		if err != nil || r.Subjects[0].Outcome != want {
			t.Errorf("%s: %v, %v", values, r.Subjects[0].Outcome, err)
		}
	}
}
