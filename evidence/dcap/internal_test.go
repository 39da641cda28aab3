package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

// TestJoin is Intel's table, for one component of each status.
func TestJoin(t *testing.T) {
	const (
		up, sw, conf, both, out, outConf, rev, un = evidence.UpToDate, evidence.SWHardeningNeeded, evidence.ConfigurationNeeded, evidence.ConfigurationAndSWHardeningNeeded, evidence.OutOfDate, evidence.OutOfDateConfigurationNeeded, evidence.Revoked, evidence.Unrecognized
	)
	platforms := []evidence.TCBStatus{up, sw, conf, both, out, outConf, rev, un}
	for component, want := range map[evidence.TCBStatus][]evidence.TCBStatus{
		up:      {up, sw, conf, both, out, outConf, rev, un},
		sw:      {up, sw, conf, both, out, outConf, rev, un},
		conf:    {up, sw, conf, both, out, outConf, rev, un},
		both:    {up, sw, conf, both, out, outConf, rev, un},
		out:     {out, out, outConf, outConf, out, outConf, rev, un},
		outConf: {out, out, outConf, outConf, out, outConf, rev, un},
		rev:     {rev, rev, rev, rev, rev, rev, rev, un},
		un:      {un, un, un, un, un, un, un, un},
	} {
		for i, p := range platforms {
			if got := join(p, component); got != want[i] {
				t.Errorf("platform %s with %s: %s; want %s", p, component, got, want[i])
			}
		}
	}
}

// TestConverge: the oldest date, all advisories, how far behind.
func TestConverge(t *testing.T) {
	day := func(s string) time.Time { v, _ := time.Parse(time.DateOnly, s); return v }
	levels := func(dates ...string) (l []level) {
		for i, d := range dates {
			s := evidence.OutOfDate
			if i == 0 {
				s = evidence.UpToDate
			}
			l = append(l, level{Date: day(d), Status: s, Advisories: []string{"INTEL-SA-2", "INTEL-SA-1"}})
		}
		return l
	}
	// Two levels of one date are one step.
	platform := find("platform", levels("2026-02-11", "2026-02-11", "2025-08-13", "2025-08-13", "2024-03-13"), 4)
	if platform.part.Behind != 2 || !platform.since.Equal(day("2025-08-13")) {
		t.Errorf("%+v", platform)
	}
	qe := find("qe", levels("2024-11-13", "2023-01-01"), 0)
	tcb := converge([]found{platform, qe})
	if tcb.Status != evidence.OutOfDate || !tcb.Date.Equal(day("2024-03-13")) || !tcb.OutOfDateSince.Equal(day("2025-08-13")) || !slices.Equal(tcb.Advisories, []string{"INTEL-SA-1", "INTEL-SA-2"}) || len(tcb.Parts) != 2 {
		t.Errorf("%+v", tcb)
	}
	// A component that is older than the platform makes the date.
	tcb = converge([]found{qe, find("tdx-module", levels("2022-01-01"), 0)})
	if tcb.Status != evidence.UpToDate || !tcb.Date.Equal(day("2022-01-01")) || !tcb.OutOfDateSince.IsZero() {
		t.Errorf("%+v", tcb)
	}
}

func testInfo(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../testdata/hardware/tdx/phala-v4.collateral.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCollateral(b)
	if err != nil {
		t.Fatal(err)
	}
	return c.TCBInfo
}

// TestTCBInfoRefuses: even what is signed is read strictly, since two readings
// of one text are two verdicts.
func TestTCBInfoRefuses(t *testing.T) {
	good := string(testInfo(t))
	if _, err := parseTCBInfo([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string][2]string{
		"version 2":        {`"version":3`, `"version":2`},
		"id":               {`"id":"TDX"`, `"id":"TDY"`},
		"type":             {`"tcbType":0`, `"tcbType":1`},
		"twice":            {`"version":3`, `"version":3,"version":3`},
		"other case":       {`"tcbLevels":[{"tcb":{"sgx`, `"TcbLevels":[{"tcb":{"sgx`},
		"no fmspc":         {`"fmspc"`, `"fmspx"`},
		"no date":          {`"issueDate"`, `"issueDatf"`},
		"svn too large":    {`"svn":`, `"svn":99`},
		"no svn":           {`"svn"`, `"swn"`},
		"negative":         {`"pcesvn":`, `"pcesvn":-`},
		"no pcesvn":        {`"pcesvn"`, `"pcesvm"`},
		"no module":        {`"tdxModule"`, `"tdxModulf"`},
		"one component":    {`"tdxtcbcomponents":[`, `"tdxtcbcomponents":[{"svn":1},`},
		"no module signer": {`"mrsigner":"00`, `"mrsigner":"`},
		"module twice":     {`"id":"TDX_03"`, `"id":"tdx_01"`},
	} {
		bad := strings.Replace(good, r[0], r[1], 1)
		if bad == good {
			t.Fatalf("%s: no %s", name, r[0])
		}
		if _, err := parseTCBInfo([]byte(bad)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := parseTCBInfo([]byte(strings.Replace(good, "{", `{"new":[1],`, 1))); err != nil {
		t.Errorf("a member that Intel adds: %v", err)
	}
}

func testPCK(t testing.TB) (chain []byte, ext []byte) {
	t.Helper()
	b, err := os.ReadFile("../testdata/hardware/tdx/phala-v4.quote")
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParseQuote(b)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(q.PCKChain)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Extensions {
		if e.Id.Equal(oidSGX) {
			return q.PCKChain, e.Value
		}
	}
	t.Fatal("no extension")
	return nil, nil
}

// TestExtension reads a real one, and refuses it with one thing wrong. No bit of it
// makes the parser panic.
func TestExtension(t *testing.T) {
	_, ext := testPCK(t)
	p, err := sgxExtension(ext)
	if err != nil {
		t.Fatal(err)
	}
	if p.FMSPC != [6]byte{0xb0, 0xc0, 0x6f} || p.PCESVN != 11 || p.SVN != [16]byte{3, 3, 2, 2, 4, 1, 0, 5} || p.SGXType != 1 || len(p.PPID) != 16 || p.SMT == nil || !*p.SMT || len(p.PlatformInstance) != 16 {
		t.Errorf("%+v", p)
	}
	for name, b := range map[string][]byte{
		"trailing":        append(bytes.Clone(ext), 0),
		"cut":             ext[:len(ext)-1],
		"empty":           {0x30, 0},
		"one SVN missing": bytes.Replace(ext, []byte{0x0d, 1, 2, 5, 2}, []byte{0x0d, 1, 2, 31, 2}, 1),
		"SVN of 256":      bytes.Replace(ext, []byte{0x0d, 1, 2, 5, 2, 1, 4}, []byte{0x0d, 1, 2, 5, 2, 1, 0xff}, 1),
		"ppid size":       bytes.Replace(ext, []byte{1, 1, 4, 16}, []byte{1, 1, 4, 15}, 1),
	} {
		if _, err := sgxExtension(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	for i := range ext {
		b := bytes.Clone(ext)
		b[i] ^= 0x80
		sgxExtension(b) // for panics
	}
}

// TestPEM: no two texts carry the same chain.
func TestPEM(t *testing.T) {
	chain, _ := testPCK(t)
	if ders, err := splitPEM(chain); err != nil || len(ders) != 3 {
		t.Fatal(len(ders), err)
	}
	end := bytes.Index(chain, []byte("-----END"))
	for name, b := range map[string][]byte{
		"empty":             nil,
		"text before":       append([]byte("x\n"), chain...),
		"empty line before": append([]byte("\n"), chain...),
		"CRLF":              bytes.ReplaceAll(chain, []byte("\n"), []byte("\r\n")),
		"empty line":        bytes.Replace(chain, []byte("-----\n-----"), []byte("-----\n\n-----"), 1),
		"line break":        slices.Insert(bytes.Clone(chain), 40, '\n'),
		"last line break":   slices.Insert(bytes.Clone(chain), end, '\n'),
		"header":            bytes.Replace(chain, []byte("-----\n"), []byte("-----\na: b\n\n"), 1),
		"other type":        bytes.ReplaceAll(chain, []byte("CERTIFICATE"), []byte("CERTIFICATF")),
		"two NUL":           append(bytes.Clone(chain), 0, 0),
		"text after":        append(bytes.TrimRight(bytes.Clone(chain), "\x00"), 'x'),
		"five":              bytes.Repeat(bytes.TrimRight(bytes.Clone(chain), "\x00"), 2),
	} {
		if _, err := splitPEM(b); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// TestCache: the least recently used goes, and none is kept without room.
func TestCache(t *testing.T) {
	c := cache[int]{size: 2}
	k := func(i byte) [32]byte { return [32]byte{i} }
	c.put(k(1), 1)
	c.put(k(2), 2)
	c.get(k(1))
	c.put(k(3), 3)
	_, one := c.get(k(1))
	_, two := c.get(k(2))
	_, three := c.get(k(3))
	if !one || two || !three || c.order.Len() != 2 || len(c.entries) != 2 {
		t.Error(one, two, three, c.order.Len())
	}
	none := cache[int]{size: -1}
	none.put(k(1), 1)
	if _, ok := none.get(k(1)); ok {
		t.Error("kept without room")
	}
}

func FuzzParseQuote(f *testing.F) {
	for _, n := range []string{"tdx/phala-v4.quote", "tdx/phala-v5-nomatch.quote", "sgx/phala-v3.quote"} {
		b, err := os.ReadFile("../testdata/hardware/" + n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	v := New(Options{})
	tr := &evidence.Trust{Anchors: &evidence.Anchors{}, Now: time.Unix(1<<30, 0)}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseQuote(b)
		if err != nil {
			return
		}
		q.PCK()
		for _, m := range v.MediaTypes() {
			if v.Verify(m, b, tr).Verified() != nil {
				t.Error("claims without anchors")
			}
		}
	})
}

func FuzzCollateral(f *testing.F) {
	for _, n := range []string{"tdx/phala-v4.collateral.json", "sgx/phala-v3.collateral.json", "tdx/collateral-2026-03/td_qe_identity.json", "tdx/collateral-2026-03/tcb_info_90c06f000000.json", "tdx/collateral-2026-03/root_ca_crl.der", "tdx/collateral-2026-03/tcb_signing_chain.pem"} {
		b, err := os.ReadFile("../testdata/hardware/" + n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		CollateralFromFiles(map[string][]byte{"a": b})
		parseCRL(b)
		parseTCBInfo(b)
		parseQEIdentity(b)
		c, err := ParseCollateral(b)
		if err != nil {
			return
		}
		c.Scope()
		if f := learn(c, func([]byte) *x509.Certificate { return nil }); f.infoErr == nil || f.qeErr == nil || f.rootCRLErr == nil {
			t.Error("verified without a root")
		}
		out, err := c.Bundle()
		if err != nil {
			return // JSON has no bytes that are not UTF-8
		}
		if d, err := ParseCollateral(out); err != nil || !bytes.Equal(c.TCBInfo, d.TCBInfo) {
			t.Errorf("not the same after writing: %v", err)
		}
	})
}

func FuzzSGXExtension(f *testing.F) {
	_, ext := testPCK(f)
	f.Add(ext)
	f.Fuzz(func(t *testing.T, b []byte) { sgxExtension(b) })
}
