package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hf/nitrite"

	"github.com/trustedmcp/tmcp/evidence"
)

const sim = evidence.SimulatorOrganization

func failed(r *evidence.Result) string {
	var out []string
	for _, c := range r.Checks.Failed() {
		out = append(out, c.Name)
	}
	return strings.Join(out, " ")
}

// TestHardware: the document of a real enclave holds at its time and shortly
// after, and not before or later.
func TestHardware(t *testing.T) {
	doc, made := hardware(t)
	for _, tt := range []struct {
		name   string
		at     time.Duration
		opts   Options
		failed string
	}{
		{"when it was made", 0, Options{}, ""},
		{"at its greatest age", DefaultMaxAge, Options{}, ""},
		{"too old", DefaultMaxAge + 1, Options{}, "document-age"},
		{"a year later", 365 * 24 * time.Hour, Options{}, "document-age"},
		{"a year later, for the archive", 365 * 24 * time.Hour, Options{MaxAge: 2 * 365 * 24 * time.Hour}, ""},
		{"clocks apart", -MaxSkew, Options{}, ""},
		{"from the future", -MaxSkew - 1, Options{}, "document-age"},
		{"young enough for others", time.Minute, Options{MaxAge: 59 * time.Second}, "document-age"},
	} {
		r := New(tt.opts).Verify(evidence.TypeNitro, doc, aws(t, made.Add(tt.at)))
		if failed(r) != tt.failed || r.Accepted() != (tt.failed == "") || r.Verified() == nil || r.TCB != nil {
			t.Fatalf("%s: failed %q, want %q: %+v", tt.name, failed(r), tt.failed, r.Checks)
		}
		c := r.Verified().Claims()
		pcr0, ok := c.Values["nitro.pcr0"].([]byte)
		if !ok || hex.EncodeToString(pcr0[:6]) != "5cb702954321" || c.Values["nitro.moduleid"] != "i-0827e799ec9232d44-enc019b55a68bd2ed4b" || len(c.ReportData) != 64 || c.Debug || c.Simulated || c.Values["nitro.timestamp"] != uint64(made.UnixMilli()) || c.Values["nitro.nonce"] != nil || string(c.Platform) != c.Values["nitro.moduleid"] || c.Values["nitro.pcr15"] == nil || c.Values["nitro.pcr16"] != nil {
			t.Errorf("%s: claims %+v", tt.name, c)
		}
		if max := New(tt.opts).opts.MaxAge; !c.NotAfter.Equal(made.Add(max)) || !c.NotBefore.Equal(made.Add(-MaxSkew)) {
			t.Errorf("%s: the verdict holds from %v to %v", tt.name, c.NotBefore, c.NotAfter)
		}
	}
	if r := New(Options{}).Verify(evidence.TypeNitro, append([]byte{0xD2}, doc...), aws(t, made)); !r.Accepted() {
		t.Errorf("with its tag: %v", r.Checks.Failed())
	}
}

// TestNitrite: N1. The other library gives the same verdict at the document's
// time. On an error it still returns a result that says that the signature is
// good: who looks at that only accepts documents of any age and under any root.
func TestNitrite(t *testing.T) {
	doc, made := hardware(t)
	theirs, err := nitrite.Verify(doc, nitrite.VerifyOptions{CurrentTime: made})
	if err != nil || !theirs.SignatureOK {
		t.Fatal(err)
	}
	r := New(Options{}).Verify(evidence.TypeNitro, doc, aws(t, made))
	c := r.Verified().Claims()
	for i, p := range theirs.Document.PCRs {
		if !bytes.Equal(c.Values["nitro.pcr"+string("0123456789"[i%10])].([]byte), p) && i < 10 {
			t.Errorf("PCR %d differs", i)
		}
	}
	if theirs.Document.ModuleID != c.Values["nitro.moduleid"] || !bytes.Equal(theirs.Document.UserData, c.ReportData) {
		t.Errorf("%+v, %+v", theirs.Document, c)
	}
	late, err := nitrite.Verify(doc, nitrite.VerifyOptions{CurrentTime: made.AddDate(1, 0, 0)})
	if err == nil || late == nil || !late.SignatureOK {
		t.Errorf("nitrite, a year later: %+v, %v; N1 is mended", late, err)
	}
	forged := newPKI(t, "Amazon", nil)
	mine := forged.document(t, forged.payload())
	other, err := nitrite.Verify(mine, nitrite.VerifyOptions{CurrentTime: may})
	if err == nil || other == nil || !other.SignatureOK {
		t.Errorf("nitrite, another root: %+v, %v; N1 is mended", other, err)
	}
	if r := New(Options{}).Verify(evidence.TypeNitro, mine, aws(t, may)); r.Accepted() || r.Verified() != nil || failed(r) != "certificate-chain" {
		t.Errorf("another root: failed %q", failed(r))
	}
}

// TestEveryByte: no byte of a document can be changed.
func TestEveryByte(t *testing.T) {
	doc, made := hardware(t)
	v, trust := New(Options{}), aws(t, made)
	masks := []byte{0x01, 0x80, 0xFF, 0x20}
	for i := range doc {
		b := slices.Clone(doc)
		b[i] ^= masks[i%len(masks)]
		if r := v.Verify(evidence.TypeNitro, b, trust); r.Accepted() || r.Verified() != nil {
			t.Fatalf("accepted with byte %d xor %#x", i, masks[i%len(masks)])
		}
	}
	// All bits of what stands outside of the payload.
	for _, i := range slices.Concat(seq(0, 12), seq(len(doc)-100, len(doc))) {
		for bit := range 8 {
			b := slices.Clone(doc)
			b[i] ^= 1 << bit
			if r := v.Verify(evidence.TypeNitro, b, trust); r.Accepted() || r.Verified() != nil {
				t.Fatalf("accepted with bit %d of byte %d changed", bit, i)
			}
		}
	}
	for _, b := range [][]byte{nil, doc[:len(doc)-1], append(slices.Clone(doc), 0), append([]byte{0xD2, 0xD2}, doc...), append([]byte{0xD1}, doc...)} {
		if r := v.Verify(evidence.TypeNitro, b, trust); failed(r) != "document-structure" {
			t.Errorf("%d bytes: failed %q", len(b), failed(r))
		}
	}
}

func seq(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

// TestRefusals: from a document that is accepted, one change at a time leads to
// the failure of the check that is there for it.
func TestRefusals(t *testing.T) {
	p := newPKI(t, sim, nil)
	pcrs := func(change func(map[int][]byte)) func(payload) {
		return func(m payload) { change(m["pcrs"].(map[int][]byte)) }
	}
	set := func(name string, v any) func(payload) { return func(m payload) { m[name] = v } }
	long := func(n int) []byte { return bytes.Repeat([]byte{7}, n) }
	for _, tt := range []struct {
		name   string
		change func(m payload)
		opts   Options
		pki    func(i int, c *x509.Certificate)
		doc    func(b []byte) []byte
		trust  func(*evidence.Trust)
		failed string
		detail string
		claims bool
	}{
		{name: "as it is", claims: true},
		{name: "no optional fields", change: func(m payload) { delete(m, "public_key"); delete(m, "user_data"); delete(m, "nonce") }, claims: true},
		{name: "empty user data", change: set("user_data", []byte{}), claims: true},
		{name: "longest user data", change: set("user_data", long(1024)), claims: true},
		{name: "32 pcrs", change: pcrs(func(m map[int][]byte) {
			for i := range 32 {
				m[i] = long(48)
			}
		}), claims: true},
		{name: "pcrs of other digests", change: pcrs(func(m map[int][]byte) { m[0], m[1] = long(32), long(64) }), claims: true},

		{name: "no module id", change: set("module_id", ""), failed: "document-structure", detail: "module_id"},
		{name: "module id null", change: set("module_id", nil), failed: "document-structure", detail: "module_id"},
		{name: "digest", change: set("digest", "SHA256"), failed: "document-structure", detail: "digest"},
		{name: "no timestamp", change: func(m payload) { delete(m, "timestamp") }, failed: "document-structure", detail: "timestamp"},
		{name: "timestamp zero", change: set("timestamp", 0), failed: "document-structure", detail: "timestamp"},
		{name: "timestamp below zero", change: set("timestamp", -1), failed: "document-structure", detail: "imestamp"},
		{name: "timestamp beyond time", change: set("timestamp", uint64(1)<<63), failed: "document-structure", detail: "timestamp"},
		{name: "no pcrs", change: set("pcrs", map[int][]byte{}), failed: "document-structure", detail: "pcrs"},
		{name: "pcrs of a TPM", change: func(m payload) { m["nitrotpm_pcrs"] = m["pcrs"]; delete(m, "pcrs") }, failed: "document-structure", detail: "unknown field"},
		{name: "pcr 32", change: pcrs(func(m map[int][]byte) { m[32] = long(48) }), failed: "document-structure", detail: "pcr 32"},
		{name: "pcr -1", change: pcrs(func(m map[int][]byte) { m[-1] = long(48) }), failed: "document-structure", detail: "negative"},
		{name: "33 pcrs", change: pcrs(func(m map[int][]byte) {
			for i := range 33 {
				m[i] = long(48)
			}
		}), failed: "document-structure", detail: "33 pcrs"},
		{name: "short pcr", change: pcrs(func(m map[int][]byte) { m[4] = long(47) }), failed: "document-structure", detail: "pcr 4"},
		{name: "pcr null", change: pcrs(func(m map[int][]byte) { m[4] = nil }), failed: "document-structure", detail: "pcr 4"},
		{name: "pcr of numbers", change: set("pcrs", map[int]any{0: []int{1, 2}}), failed: "document-structure", detail: "array"},
		{name: "no certificate", change: set("certificate", []byte{}), failed: "document-structure", detail: "certificate"},
		{name: "long certificate", change: set("certificate", long(1025)), failed: "document-structure", detail: "certificate"},
		{name: "no cabundle", change: set("cabundle", []any{}), failed: "document-structure", detail: "cabundle"},
		{name: "nine in the cabundle", change: set("cabundle", [][]byte{{1}, {1}, {1}, {1}, {1}, {1}, {1}, {1}, {1}}), failed: "document-structure", detail: "cabundle"},
		{name: "empty in the cabundle", change: set("cabundle", [][]byte{{}}), failed: "document-structure", detail: "cabundle"},
		{name: "long user data", change: set("user_data", long(1025)), failed: "document-structure", detail: "user_data"},
		{name: "long nonce", change: set("nonce", long(1025)), failed: "document-structure", detail: "nonce"},
		{name: "empty public key", change: set("public_key", []byte{}), failed: "document-structure", detail: "public_key"},
		{name: "user data as text", change: set("user_data", "bind"), failed: "document-structure", detail: "UTF-8"},
		{name: "unknown field", change: set("Nonce", []byte("x")), failed: "document-structure", detail: "unknown field"},

		{name: "junk certificate", change: set("certificate", []byte("junk")), failed: "certificate-chain", detail: "the certificate"},
		{name: "junk in the cabundle", change: func(m payload) { m["cabundle"].([][]byte)[2] = []byte("junk") }, failed: "certificate-chain", detail: "certificate 2"},
		{name: "other root", change: func(m payload) { m["cabundle"].([][]byte)[0] = p.certs[1].Raw }, failed: "certificate-chain", detail: "not one of the anchors"},
		{name: "out of order", change: func(m payload) { b := m["cabundle"].([][]byte); b[1], b[2] = b[2], b[1] }, failed: "certificate-chain", detail: "order"},
		{name: "one missing", change: func(m payload) { m["cabundle"] = slices.Delete(m["cabundle"].([][]byte), 1, 2) }, failed: "certificate-chain", detail: "do not lead"},
		{name: "one too many", change: func(m payload) { m["cabundle"] = append(m["cabundle"].([][]byte), p.certs[1].Raw) }, failed: "certificate-chain", detail: "order"},
		{name: "an intermediate signs", change: func(m payload) { m["certificate"] = p.certs[3].Raw }, failed: "certificate-chain", detail: "not for signing documents"},
		{name: "made before its certificate", change: set("timestamp", uint64(may.Add(-time.Hour-time.Millisecond).UnixMilli())), trust: func(t *evidence.Trust) { t.Now = may.Add(-time.Hour) }, failed: "certificate-chain", detail: "do not lead"},
		{name: "made after its certificate", change: set("timestamp", uint64(may.Add(2*time.Hour+time.Millisecond).UnixMilli())), trust: func(t *evidence.Trust) { t.Now = may.Add(2 * time.Hour) }, failed: "certificate-chain", detail: "do not lead"},
		{name: "an intermediate that is none", pki: func(i int, c *x509.Certificate) { c.IsCA = i < 4 && i != 2; c.MaxPathLen, c.MaxPathLenZero = 0, false }, failed: "certificate-chain", detail: "do not lead"},
		{name: "path too long", pki: func(i int, c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, i == 1 }, failed: "certificate-chain", detail: "do not lead"},
		{name: "critical extension", pki: func(i int, c *x509.Certificate) {
			if i == 4 {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			}
		}, failed: "certificate-chain", detail: "do not lead"},
		{name: "key not for signatures", pki: func(i int, c *x509.Certificate) {
			if i == 4 {
				c.KeyUsage = x509.KeyUsageKeyAgreement
			}
		}, failed: "certificate-chain", detail: "not for signing documents"},

		{name: "an authority's key", pki: func(i int, c *x509.Certificate) {
			if c.MaxPathLen, c.MaxPathLenZero = 0, false; i == 4 {
				c.IsCA = true
			}
		}, failed: "certificate-chain", detail: "not for signing documents"},
		{name: "signed with SHA-256", pki: func(i int, c *x509.Certificate) {
			if i == 4 {
				c.SignatureAlgorithm = x509.ECDSAWithSHA256
			}
		}, failed: "certificate-chain", detail: "P-384"},
		{name: "key on P-256", pki: func(i int, c *x509.Certificate) {
			if i == 4 {
				c.PublicKey = p256(t)
			}
		}, failed: "certificate-chain", detail: "P-384"},

		{name: "signature", doc: func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, failed: "signature"},
		{name: "signature of zeros", doc: func(b []byte) []byte { return append(b[:len(b)-96], make([]byte, 96)...) }, failed: "signature"},
		{name: "other algorithm", doc: func(b []byte) []byte { b[5] = 0x26; return b }, failed: "document-structure", detail: "ES384"},
		{name: "ES512", doc: func(b []byte) []byte { b[5] = 0x23; return b }, failed: "document-structure", detail: "ES384"},
		{name: "unprotected header", doc: func(b []byte) []byte { return slices.Concat(b[:6], []byte{0xA1, 0x01, 0x38, 0x22}, b[7:]) }, failed: "document-structure", detail: "unprotected"},
		{name: "longer head than needed", doc: func(b []byte) []byte { return slices.Concat(b[:1], []byte{0x58, 0x04}, b[2:]) }, failed: "document-structure", detail: "deterministic"},

		{name: "debug", change: pcrs(func(m map[int][]byte) { clear(m[0]); clear(m[1]); clear(m[2]) }), failed: "debug", claims: true},
		{name: "debug allowed", change: pcrs(func(m map[int][]byte) { clear(m[0]); clear(m[1]); clear(m[2]) }), opts: Options{AllowDebug: true}, claims: true},
		{name: "one of the registers of the image is zero", change: pcrs(func(m map[int][]byte) { clear(m[2]) }), failed: "debug", claims: true},
		{name: "no pcr 1", change: pcrs(func(m map[int][]byte) { delete(m, 1) }), failed: "debug", claims: true},
		{name: "old", trust: func(t *evidence.Trust) { t.Now = may.Add(DefaultMaxAge + time.Second) }, failed: "document-age", claims: true},

		{name: "no time", trust: func(t *evidence.Trust) { t.Now = time.Time{} }, failed: "inputs"},
		{name: "no anchors", trust: func(t *evidence.Trust) { t.Anchors = nil }, failed: "inputs"},
		{name: "N20: the simulator's root as a vendor's", trust: func(t *evidence.Trust) { t.Anchors.AWS = p.certs[:1] }, failed: "inputs"},
		{name: "N20: no simulator trusted", trust: func(t *evidence.Trust) { t.Simulator = nil }, failed: "certificate-chain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p
			if tt.pki != nil {
				p = newPKI(t, sim, tt.pki)
			}
			m := p.payload()
			if tt.change != nil {
				tt.change(m)
			}
			doc := p.document(t, m)
			if tt.doc != nil {
				doc = tt.doc(doc)
			}
			tr := p.trust(t)
			if tt.trust != nil {
				tt.trust(tr)
			}
			r := New(tt.opts).Verify(evidence.TypeNitro, doc, tr)
			if failed(r) != tt.failed || r.Accepted() != (tt.failed == "") || (r.Verified() != nil) != tt.claims {
				t.Errorf("failed %q, want %q, claims %v: %+v", failed(r), tt.failed, r.Verified() != nil, r.Checks)
			}
			if f := r.Checks.Failed(); len(f) > 0 && !strings.Contains(f[0].Detail, tt.detail) {
				t.Errorf("%q does not say %q", f[0].Detail, tt.detail)
			}
			if v := r.Verified(); v != nil {
				c := v.Claims()
				data, _ := m["user_data"].([]byte)
				if !c.Simulated || !bytes.Equal(c.ReportData, data) || c.Debug != strings.Contains(tt.name+tt.failed, "debug") {
					t.Errorf("claims %+v", c)
				}
			}
		})
	}
	if r := New(Options{}).Verify(evidence.TypeSNP, nil, p.trust(t)); failed(r) != "inputs" {
		t.Errorf("another media type: failed %q", failed(r))
	}
}

func p256(t *testing.T) *ecdsa.PublicKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &k.PublicKey
}

// TestPayloadEncoding: AWS's encoding need not be deterministic, but no field can
// stand twice.
func TestPayloadEncoding(t *testing.T) {
	p := newPKI(t, sim, nil)
	body, err := cbor.Marshal(map[string]any(p.payload()))
	if err != nil {
		t.Fatal(err)
	}
	indefinite := append(append([]byte{0xBF}, body[1:]...), 0xFF)
	pair, err := cbor.Marshal(map[string]any{"nonce": []byte("twice")})
	if err != nil {
		t.Fatal(err)
	}
	twice := slices.Concat([]byte{0xBF}, body[1:], pair[1:], []byte{0xFF})
	tagged := append([]byte{0xD9, 0xD9, 0xF7}, body...)
	for name, tt := range map[string]struct {
		body   []byte
		failed string
	}{
		"definite":      {body, ""},
		"indefinite":    {indefinite, ""},
		"a field twice": {twice, "document-structure"},
		"trailing byte": {append(slices.Clone(body), 0), "document-structure"},
		"a tag":         {tagged, "document-structure"},
		"deep":          {append(bytes.Repeat([]byte{0x81}, 1000), 0), "document-structure"},
		"too long":      {make([]byte, maxDocument), "document-structure"},
		"empty":         {nil, "document-structure"},
	} {
		if r := New(Options{}).Verify(evidence.TypeNitro, p.sign(t, tt.body), p.trust(t)); failed(r) != tt.failed {
			t.Errorf("%s: failed %q, want %q: %+v", name, failed(r), tt.failed, r.Checks)
		}
	}
}

// TestCache: a chain that was verified once is judged again by the document's
// time and by whom one trusts, and no more is kept than was allowed.
func TestCache(t *testing.T) {
	p := newPKI(t, sim, nil)
	v := New(Options{Cache: 2})
	doc := p.document(t, p.payload())
	for range 2 {
		if r := v.Verify(evidence.TypeNitro, doc, p.trust(t)); !r.Accepted() {
			t.Fatal(r.Checks.Failed())
		}
	}
	if v.chains.Len() != 1 {
		t.Errorf("%d chains are kept, want 1", v.chains.Len())
	}
	for _, at := range []time.Time{may.Add(-time.Hour - time.Second), may.Add(2*time.Hour + time.Second)} {
		m := maps.Clone(p.payload())
		m["timestamp"] = uint64(at.UnixMilli())
		tr := p.trust(t)
		tr.Now = at
		if r := v.Verify(evidence.TypeNitro, p.document(t, m), tr); failed(r) != "certificate-chain" {
			t.Errorf("at %v: failed %q", at, failed(r))
		}
	}
	tr := p.trust(t)
	tr.Simulator = nil
	if r := v.Verify(evidence.TypeNitro, doc, tr); failed(r) != "certificate-chain" || r.Verified() != nil {
		t.Errorf("without the simulator: failed %q", failed(r))
	}
	changed := slices.Clone(doc)
	changed[len(changed)-1] ^= 1
	if r := v.Verify(evidence.TypeNitro, changed, p.trust(t)); failed(r) != "signature" || r.Verified() != nil {
		t.Errorf("the signature changed: failed %q", failed(r))
	}
	for range 3 {
		q := newPKI(t, sim, nil)
		v.Verify(evidence.TypeNitro, q.document(t, q.payload()), q.trust(t))
	}
	bad := newPKI(t, sim, func(i int, c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.MaxPathLenZero = i == 0, 0, false })
	w := New(Options{})
	w.Verify(evidence.TypeNitro, bad.document(t, bad.payload()), bad.trust(t))
	if v.chains.Len() != 2 || w.chains.Len() != 0 {
		t.Errorf("%d chains are kept, want 2; %d that were not verified", v.chains.Len(), w.chains.Len())
	}
}
