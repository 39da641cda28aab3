package x509ev

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// hardware reads a certificate that a real enclave made.
func hardware(t testing.TB, name string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../testdata/hardware/ratls", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// An attester whose evidence is the report data itself, in a form of choice.
type attester func(rd [64]byte) ([]byte, error)

func (a attester) Attest(_ context.Context, rd [protocol.ReportDataSize]byte) ([]byte, error) {
	return a(rd)
}

// fakeQuote has a quote's header and report data, and nothing else.
func fakeQuote(version uint16, tee uint32, rd []byte) []byte {
	q := binary.LittleEndian.AppendUint16(nil, version)
	q = binary.LittleEndian.AppendUint16(q, 2)
	q = binary.LittleEndian.AppendUint32(q, tee)
	return append(append(q, make([]byte, 40)...), rd...)
}

func record(typ string, make func(rd []byte) []byte) attester {
	return func(rd [64]byte) ([]byte, error) { return cmw.NewRecord(typ, make(rd[:]), cmw.Evidence).Encode() }
}

var (
	tdx = record(evidence.TypeTDX, func(rd []byte) []byte { return fakeQuote(4, 0x81, rd) })
	snp = record(evidence.TypeSNP, bytes.Clone)
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// certify makes a self-signed certificate with these extensions, read back.
func certify(t testing.TB, key crypto.Signer, ext ...pkix.Extension) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(time.Hour), ExtraExtensions: ext}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func subject(key crypto.Signer) Subject {
	return Subject{Role: protocol.RoleServer, Identity: "https://example.com/mcp", Key: key.Public(), NotBefore: start}
}

// reportDataOf reads report data where SGX and TDX quotes have it.
func reportDataOf(item evidence.Item) []byte {
	if item.MediaType == evidence.TypeSGX {
		return item.Value[48+320:][:64]
	}
	return item.Value[48+520:][:64]
}

// TestHardware: certificates that Gramine and Intel's SDK made on real
// machines bind what they must. Quote signatures are not checked here.
func TestHardware(t *testing.T) {
	for _, tt := range []struct {
		file  string
		forms []Form
	}{
		{"gramine-cert.pem", []Form{Gramine, TaggedQuote}},
		{"intel-sgxsdk-cert.pem", []Form{TaggedQuote}}, // the quote under Intel's own identifier is the same
	} {
		t.Run(tt.file, func(t *testing.T) {
			cert := hardware(t, tt.file)
			x, err := Extract(cert)
			if err != nil {
				t.Fatal(err)
			}
			if len(x.Statements) != len(tt.forms) || x.Endorsements != nil {
				t.Fatalf("got %d statements, endorsements %v", len(x.Statements), x.Endorsements)
			}
			for i, s := range x.Statements {
				if s.Form != tt.forms[i] || s.Bound() || s.Nonce != nil || len(s.Items) != 1 || s.Items[0].MediaType != evidence.TypeSGX {
					t.Errorf("statement %d: form %s, items %d", i, s.Form, len(s.Items))
				}
				e, err := s.Evidence(protocol.RoleServer, "https://example.com/mcp", start)
				if err != nil {
					t.Fatal(err)
				}
				// TMCP-21.2-2: The report data of a tagged quote MUST be the SHA-256 digest of the
				// claims-buffer, followed by zeros.
				if got := reportDataOf(s.Items[0]); !bytes.Equal(got, e.ReportData[:]) {
					t.Errorf("%s: the quote binds %x, want %x", s.Form, got, e.ReportData)
				}
				if _, err := cmw.Parse(e.CMW); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestGramineForm: Gramine's older form is over the public key alone, and its
// identifier is known in both spellings.
func TestGramineForm(t *testing.T) {
	cert := hardware(t, "gramine-cert.pem")
	x, err := Extract(cert)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := x.Statements[0].Evidence(protocol.RoleServer, "", start)
	if d := sha256.Sum256(cert.RawSubjectPublicKeyInfo); !bytes.Equal(e.ReportData[:32], d[:]) {
		t.Errorf("report data %x", e.ReportData)
	}
	key := newKey(t)
	quote := fakeQuote(3, 0, nil)
	for _, id := range []asn1.ObjectIdentifier{OIDGramine, OIDGramineWritten} {
		x, err := Extract(certify(t, key, pkix.Extension{Id: id, Value: quote}))
		if err != nil || x.Statements[0].Form != Gramine {
			t.Errorf("%v: %v", id, err)
		}
	}
	_, err = Extract(certify(t, key, pkix.Extension{Id: OIDGramine, Value: quote}, pkix.Extension{Id: OIDGramineWritten, Value: quote}))
	wantError(t, err, "twice")
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want an error with %q", err, part)
	}
}

// TestAttest: what Attest writes, Extract reads, with the report data that was
// bound.
func TestAttest(t *testing.T) {
	collection := attester(func(rd [64]byte) ([]byte, error) {
		return cmw.NewCollection("tag:trustedmcp.org,2026:evidence-1",
			cmw.Entry{Label: cmw.TextLabel("cpu"), CMW: cmw.NewRecord(evidence.TypeTDX, fakeQuote(5, 0x81, rd[:]), cmw.Evidence)},
			cmw.Entry{Label: cmw.TextLabel("cpu-endorsements-0"), CMW: cmw.NewRecord(evidence.TypeDCAPCollateral, []byte("{}"), cmw.Endorsements)},
		).Encode()
	})
	for _, tt := range []struct {
		name string
		form Form
		a    attester
		oid  asn1.ObjectIdentifier
		typ  string
	}{
		{"tagged", TaggedQuote, tdx, OIDDICE, evidence.TypeTDX},
		{"tagged, of a collection", TaggedQuote, collection, OIDDICE, evidence.TypeTDX},
		{"cmw", CMW, snp, OIDCMW, evidence.TypeSNP},
		{"cmw collection", CMW, collection, OIDCMW, evidence.TypeTDX},
		{"dice", DICECMW, snp, OIDDICE, evidence.TypeSNP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := newKey(t)
			var bound [64]byte
			spy := attester(func(rd [64]byte) ([]byte, error) { bound = rd; return tt.a(rd) })
			ext, err := Attest(t.Context(), spy, tt.form, subject(key))
			if err != nil {
				t.Fatal(err)
			}
			if !ext.Id.Equal(tt.oid) || ext.Critical || !Known(ext.Id) {
				t.Errorf("extension %v, critical %v", ext.Id, ext.Critical)
			}
			x, err := Extract(certify(t, key, ext))
			if err != nil {
				t.Fatal(err)
			}
			s := x.Statements[0]
			if len(x.Statements) != 1 || s.Form != tt.form || len(s.Items) != 1 || s.Items[0].MediaType != tt.typ {
				t.Errorf("got %+v", s)
			}
			e, err := s.Evidence(protocol.RoleServer, "https://example.com/mcp", start)
			if err != nil || e.ReportData != bound {
				t.Errorf("report data %x, bound was %x (%v)", e.ReportData, bound, err)
			}
			// The CMW forms bind role, identity and time too; quotes alone don't.
			//
			// TMCP-21.2-4: The report data of a CMW in a certificate MUST be that of section 18.2 for the
			// certificate's key
			for name, other := range map[string]func() (protocol.Evidence, error){
				"role": func() (protocol.Evidence, error) {
					return s.Evidence(protocol.RoleClient, "https://example.com/mcp", start)
				},
				"identity": func() (protocol.Evidence, error) {
					return s.Evidence(protocol.RoleServer, "https://example.org/mcp", start)
				},
			} {
				if o, err := other(); err != nil || (o.ReportData == bound) == s.Bound() {
					t.Errorf("another %s: same report data = %v, bound = %v (%v)", name, o.ReportData == bound, s.Bound(), err)
				}
			}
		})
	}
	// … and the time, which is the certificate's notBefore.
	key := newKey(t)
	ext, err := Attest(t.Context(), snp, CMW, subject(key))
	if err != nil {
		t.Fatal(err)
	}
	cert := certify(t, key, ext)
	moved := *cert
	moved.NotBefore = cert.NotBefore.Add(time.Second)
	for c, same := range map[*x509.Certificate]bool{cert: true, &moved: false} {
		x, err := Extract(c)
		if err != nil {
			t.Fatal(err)
		}
		e, err := x.Statements[0].Evidence(protocol.RoleServer, "https://example.com/mcp", start)
		if err != nil || bytes.Equal(e.ReportData[:], x.Statements[0].Items[0].Value) != same {
			t.Errorf("notBefore %v: same report data = %v, %v", c.NotBefore, !same, err)
		}
	}
	for name, tt := range map[string]struct {
		form Form
		a    attester
		part string
	}{
		"tagged SNP":        {TaggedQuote, snp, "use form cmw"},
		"collection in TCG": {DICECMW, collection, "use form cmw"},
		"Gramine":           {Gramine, tdx, "can't be written"},
		"no CMW":            {CMW, func([64]byte) ([]byte, error) { return []byte{0}, nil }, "CMW"},
		"failed":            {CMW, func([64]byte) ([]byte, error) { return nil, errors.New("no device") }, "no device"},
	} {
		_, err := Attest(t.Context(), tt.a, tt.form, subject(newKey(t)))
		t.Run(name, func(t *testing.T) { wantError(t, err, tt.part) })
	}
}

// TestNonce: a nonce stands in the claims-buffer, in deterministic order.
func TestNonce(t *testing.T) {
	key := newKey(t)
	s := subject(key)
	s.Nonce = []byte("0123456789abcdef")
	ext, err := Attest(t.Context(), tdx, TaggedQuote, s)
	if err != nil {
		t.Fatal(err)
	}
	x, err := Extract(certify(t, key, ext))
	if err != nil || !bytes.Equal(x.Statements[0].Nonce, s.Nonce) {
		t.Fatalf("%v", err)
	}
	if r := dcbor.NewReader(ext.Value); len(r.Skip()) == 0 || r.Done() != nil {
		t.Errorf("not deterministic: %v", r.Done())
	}
	_, err = Attest(t.Context(), snp, CMW, s)
	wantError(t, err, "nonce")
}

// tagged writes an extension of Intel's tags by hand.
func tagged(tag uint64, items ...[]byte) pkix.Extension {
	b := dcbor.AppendArray(dcbor.AppendTag(nil, tag), len(items))
	for _, it := range items {
		b = append(b, it...)
	}
	return pkix.Extension{Id: OIDDICE, Value: b}
}

func bstr(b []byte) []byte { return dcbor.AppendBytes(nil, b) }

// TestRefused: each certificate here is wrong in one way.
func TestRefused(t *testing.T) {
	key, other := newKey(t), newKey(t)
	spki, _ := spkiOf(key.Public())
	otherSPKI, _ := spkiOf(other.Public())
	good := appendClaims(nil, spki, nil)
	quote := fakeQuote(4, 0x81, nil)
	entry := func(alg uint64, digest []byte) []byte {
		return dcbor.AppendBytes(dcbor.AppendUint(dcbor.AppendArray(nil, 2), alg), digest)
	}
	claims := func(pairs ...[]byte) []byte {
		b := dcbor.AppendMap(nil, len(pairs)/2)
		return append(b, slices.Concat(pairs...)...)
	}
	d := sha256.Sum256(spki)
	pub := dcbor.AppendText(nil, claimPubKey)
	record, err := cmw.NewRecord(evidence.TypeSNP, []byte("x"), cmw.Evidence).Encode()
	if err != nil {
		t.Fatal(err)
	}
	rv, _ := cmw.NewRecord("application/rim+cbor", []byte("x"), cmw.ReferenceValues).Encode()
	rvExt, _ := cmw.EncodeExtension(rv)
	long := append([]byte{0x04, 0x84, 0, 2, 0, 0}, make([]byte, 2<<16)...)

	for name, tt := range map[string]struct {
		ext  []pkix.Extension
		part string
	}{
		"none": {nil, "no evidence"},
		// TMCP-21.2-3: A verifier MUST refuse a tagged quote whose `pubkey-hash` is not the digest of
		// the certificate's SubjectPublicKeyInfo.
		"another key":           {[]pkix.Extension{tagged(60000, bstr(quote), bstr(appendClaims(nil, otherSPKI, nil)))}, "another key"},
		"digest cut":            {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(pub, bstr(entry(1, d[:31])))))}, "another key"},
		"algorithm 2":           {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(pub, bstr(entry(2, d[:16])))))}, "algorithm 2"},
		"SHA-256 as SHA-512":    {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(pub, bstr(entry(8, d[:])))))}, "another key"},
		"no pubkey-hash":        {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(dcbor.AppendText(nil, "nonce"), bstr(d[:]))))}, "nothing binds"},
		"pubkey-hash not bytes": {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(pub, entry(1, d[:]))))}, "not a byte string"},
		"pubkey-hash twice":     {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(pub, bstr(entry(1, d[:])), pub, bstr(entry(1, d[:])))))}, "duplicate"},
		"nonce as text":         {[]pkix.Extension{tagged(60000, bstr(quote), bstr(claims(dcbor.AppendText(nil, "nonce"), dcbor.AppendText(nil, "x"), pub, bstr(entry(1, d[:])))))}, "not a byte string"},
		"claims trailing":       {[]pkix.Extension{tagged(60000, bstr(quote), bstr(append(slices.Clone(good), 0)))}, "extraneous"},
		"claims not a map":      {[]pkix.Extension{tagged(60000, bstr(quote), bstr([]byte{0x80}))}, "map"},
		"claims indefinite":     {[]pkix.Extension{tagged(60000, bstr(quote), bstr(append(append([]byte{0xbf}, good[1:]...), 0xff)))}, "indefinite"},
		"claims too long":       {[]pkix.Extension{tagged(60000, bstr(quote), bstr(make([]byte, maxClaims+1)))}, "at most"},
		"one item":              {[]pkix.Extension{tagged(60000, bstr(quote))}, "want 2"},
		"three items":           {[]pkix.Extension{tagged(60000, bstr(quote), bstr(good), bstr(nil))}, "want 2"},
		"quote as array":        {[]pkix.Extension{tagged(60000, []byte{0x81, 3}, bstr(good))}, "not a byte string"},
		"quote short":           {[]pkix.Extension{tagged(60000, bstr(quote[:47]), bstr(good))}, "header"},
		"quote of version 6":    {[]pkix.Extension{tagged(60000, bstr(fakeQuote(6, 0x81, nil)), bstr(good))}, "version 6"},
		"quote of another TEE":  {[]pkix.Extension{tagged(60000, bstr(fakeQuote(4, 0x82, nil)), bstr(good))}, "0x82"},
		// TMCP-21.2-6: A verifier MUST refuse reports in CBOR tags 60001 and 60002, which nobody
		// outside the platform can verify.
		"report 60001": {[]pkix.Extension{tagged(60001, bstr(quote), bstr(good))}, "only the platform"},
		"report 60002": {[]pkix.Extension{tagged(60002, bstr(quote), bstr(good))}, "only the platform"},
		"another tag":  {[]pkix.Extension{tagged(60003, bstr(quote), bstr(good))}, "cmw"},
		"tag trailing": {[]pkix.Extension{{Id: OIDDICE, Value: append(tagged(60000, bstr(quote), bstr(good)).Value, 0)}}, "cmw"},
		"DICE empty":   {[]pkix.Extension{{Id: OIDDICE}}, "cmw"},
		"DICE bad DER": {[]pkix.Extension{{Id: OIDDICE, Value: []byte{4, 9, 0}}}, "DER"},
		// TMCP-21.2-7: A CMW in extension 2.23.133.5.4.9 MUST NOT be a collection.
		"DICE collection":           {[]pkix.Extension{{Id: OIDDICE, Value: append([]byte{0xa1, 0x61, 'a'}, record...)}}, "collection"},
		"CMW without DER":           {[]pkix.Extension{{Id: OIDCMW, Value: record}}, "extension"},
		"CMW no evidence":           {[]pkix.Extension{{Id: OIDCMW, Value: rvExt}}, "without evidence"},
		"CMW too long":              {[]pkix.Extension{{Id: OIDCMW, Value: long}}, "at most"},
		"Gramine no quote":          {[]pkix.Extension{{Id: OIDGramine, Value: []byte("hello")}}, "header"},
		"Intel alone":               {[]pkix.Extension{{Id: OIDIntelSGX, Value: quote}}, "not defined"},
		"Intel differs":             {[]pkix.Extension{tagged(60000, bstr(quote), bstr(good)), {Id: OIDIntelSGX, Value: quote[1:]}}, "not defined"},
		"PCK extension":             {[]pkix.Extension{{Id: OIDIntelSGX, Value: []byte{0x30, 0}}}, "no evidence"},
		"second unread":             {[]pkix.Extension{tagged(60000, bstr(quote), bstr(good)), {Id: OIDCMW, Value: record}}, "extension"},
		"endorsements":              {[]pkix.Extension{tagged(60000, bstr(quote), bstr(good)), {Id: OIDDICEEndorsed, Value: record}}, "tag"},
		"endorsements, another tag": {[]pkix.Extension{tagged(60000, bstr(quote), bstr(good)), {Id: OIDDICEEndorsed, Value: append([]byte{0xd9, 0xea, 0x61}, manifest(9).Value[3:]...)}}, "tag 60001"},
		"endorsements 7":            {[]pkix.Extension{tagged(60000, bstr(quote), bstr(good)), manifest(7)}, "8 or 9"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Extract(certify(t, key, tt.ext...))
			wantError(t, err, tt.part)
		})
	}
	_, err = Extract(nil)
	wantError(t, err, "no certificate")
	// TMCP-21.2-5: A verifier MUST refuse a certificate in which an extension that holds evidence
	// occurs twice.
	cert := certify(t, key, tagged(60000, bstr(quote), bstr(good)))
	twice := *cert
	twice.Extensions = append(slices.Clone(cert.Extensions), cert.Extensions...)
	_, err = Extract(&twice)
	wantError(t, err, "twice")
}

func manifest(n int) pkix.Extension {
	b := dcbor.AppendArray(dcbor.AppendTag(nil, tagQuote), n)
	b = dcbor.AppendUint(b, 1)
	for range n - 1 {
		b = dcbor.AppendBytes(b, []byte("x"))
	}
	return pkix.Extension{Id: OIDDICEEndorsed, Value: b}
}

// TestAccepted: what the standards leave open is taken.
func TestAccepted(t *testing.T) {
	key := newKey(t)
	spki, _ := spkiOf(key.Public())
	good := appendClaims(nil, spki, nil)
	quote := fakeQuote(4, 0x81, nil)
	dice := tagged(60000, bstr(quote), bstr(good))
	record, _ := cmw.NewRecord(evidence.TypeSNP, []byte("x"), cmw.Evidence).Encode()
	wrapped, _ := asn1.Marshal(record)
	cmwJSON, _ := cmw.NewRecord(evidence.TypeSNP, []byte("x"), cmw.Evidence).EncodeJSON()
	jsonExt, err := cmw.EncodeExtension(cmwJSON)
	if err != nil {
		t.Fatal(err)
	}
	// pubkey-hash before nonce, as the document of the format has it, and a claim
	// that nobody knows.
	unsorted := append([]byte{0xa3}, good[1:]...)
	unsorted = dcbor.AppendBytes(dcbor.AppendText(unsorted, claimNonce), []byte("n"))
	unsorted = dcbor.AppendUint(dcbor.AppendText(unsorted, "zz"), 1)

	for name, tt := range map[string]struct {
		ext   []pkix.Extension
		forms []Form
	}{
		"unsorted claims":    {[]pkix.Extension{tagged(60000, bstr(quote), bstr(unsorted))}, []Form{TaggedQuote}},
		"endorsements":       {[]pkix.Extension{dice, manifest(9)}, []Form{TaggedQuote}},
		"both":               {[]pkix.Extension{dice, {Id: OIDCMW, Value: wrapped}}, []Form{TaggedQuote, CMW}},
		"critical":           {[]pkix.Extension{{Id: OIDCMW, Critical: true, Value: wrapped}}, []Form{CMW}},
		"DICE, OCTET STRING": {[]pkix.Extension{{Id: OIDDICE, Value: wrapped}}, []Form{DICECMW}},
		"DICE, JSON":         {[]pkix.Extension{{Id: OIDDICE, Value: cmwJSON}}, []Form{DICECMW}},
		"JSON":               {[]pkix.Extension{{Id: OIDCMW, Value: jsonExt}}, []Form{CMW}},
		"Intel the same":     {[]pkix.Extension{dice, {Id: OIDIntelSGX, Value: quote}}, []Form{TaggedQuote}},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := Extract(certify(t, key, tt.ext...))
			if err != nil {
				t.Fatal(err)
			}
			var forms []Form
			for _, s := range x.Statements {
				forms = append(forms, s.Form)
				if s.Bound() && !bytes.Equal(s.CMW, record) {
					t.Errorf("CMW %x, want %x", s.CMW, record)
				}
			}
			if !slices.Equal(forms, tt.forms) {
				t.Errorf("forms %v, want %v", forms, tt.forms)
			}
		})
	}
}

// TestKeyWithoutBinding: an RSA key has no COSE_Key in this protocol, so the CMW
// forms can't bind it.
func TestKeyWithoutBinding(t *testing.T) {
	s := Statement{Form: CMW, cert: &x509.Certificate{PublicKey: "none", NotBefore: start}}
	if _, err := s.Evidence(protocol.RoleServer, "https://example.com", start); err == nil {
		t.Error("bound")
	}
}

// FuzzExtract: no extension makes Extract panic, and what it takes holds
// together.
func FuzzExtract(f *testing.F) {
	for _, name := range []string{"gramine-cert.pem", "intel-sgxsdk-cert.pem"} {
		for _, ext := range hardware(f, name).Extensions {
			if k := slices.Index(fuzzOIDs, classify(ext.Id)); k >= 0 {
				f.Add(uint8(k), ext.Value)
			}
		}
	}
	f.Add(uint8(3), manifest(8).Value)
	record, _ := cmw.NewRecord(evidence.TypeSNP, []byte("x"), cmw.Evidence).Encode()
	f.Add(uint8(1), record)
	wrapped, _ := cmw.EncodeExtension(record)
	f.Add(uint8(0), wrapped)
	ids := []asn1.ObjectIdentifier{OIDCMW, OIDDICE, OIDGramine, OIDDICEEndorsed, OIDIntelSGX}
	cert := hardware(f, "gramine-cert.pem")
	f.Fuzz(func(t *testing.T, kind uint8, value []byte) {
		c := *cert
		c.Extensions = []pkix.Extension{{Id: ids[int(kind)%len(ids)], Value: value}}
		x, err := Extract(&c)
		if err != nil {
			return
		}
		for _, s := range x.Statements {
			if len(s.Items) == 0 {
				t.Error("a statement without evidence")
			}
			if _, err := cmw.Parse(s.CMW); err != nil {
				t.Error(err)
			}
			if _, err := s.Evidence(protocol.RoleServer, "https://example.com/mcp", start); err != nil {
				t.Error(err)
			}
		}
	})
}

var fuzzOIDs = []string{"cmw", "dice", "gramine", "endorsements", "intel"}

func BenchmarkExtract(b *testing.B) {
	cert := hardware(b, "gramine-cert.pem")
	for b.Loop() {
		if _, err := Extract(cert); err != nil {
			b.Fatal(err)
		}
	}
}
