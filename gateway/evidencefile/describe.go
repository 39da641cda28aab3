package evidencefile

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cca"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// A Description is what a piece says, unverified: for people who look into a
// file, never for a decision.
type Description struct {
	Format  string        `json:"format"`
	Label   string        `json:"label,omitzero"` // in its collection
	Type    string        `json:"media_type,omitzero"`
	Size    int           `json:"size"` // bytes
	Fields  []Field       `json:"fields,omitzero"`
	Records []Description `json:"records,omitzero"`
	Problem string        `json:"problem,omitzero"` // why no more is told
}

// A Field is a value with its name, that of the claim where there is one.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"` // hex, decimal or text
}

// Describe takes a piece apart.
func Describe(p *Piece) Description {
	switch {
	case p.Item != nil:
		return describeItem(p.Format, *p.Item)
	case p.Certificate != nil:
		return describeCertificate(p)
	}
	d := Description{Format: p.Format, Size: len(p.CMW)}
	c, err := cmw.Parse(p.CMW)
	if err != nil {
		d.Problem = err.Error()
		return d
	}
	if c.Collection != nil && c.Collection.Type != "" {
		d.add("__cmwc_t", c.Collection.Type)
	}
	_ = c.Walk(func(at cmw.Path, r *cmw.Record) error { // f never fails
		t := r.MediaType
		if t == "" {
			t = r.Type()
		}
		rec := Description{Format: indName(r.Ind), Type: t, Size: len(r.Value)}
		if r.Ind == 0 || r.Ind&cmw.Evidence != 0 {
			inner := describeItem(indName(r.Ind), evidence.Item{MediaType: t, Value: r.Value})
			rec.Fields, rec.Problem = inner.Fields, inner.Problem
		}
		rec.Label = at.String()
		d.Records = append(d.Records, rec)
		return nil
	})
	return d
}

func indName(i cmw.Ind) string {
	switch i {
	case cmw.Evidence:
		return "evidence"
	case cmw.Endorsements:
		return "endorsement"
	case cmw.AttestationResults:
		return "attestation result"
	case cmw.ReferenceValues:
		return "reference values"
	case 0:
		return "record"
	}
	return fmt.Sprintf("record of kind %d", i)
}

func (d *Description) add(name string, v any) {
	s := ""
	switch v := v.(type) {
	case []byte:
		s = hex.EncodeToString(v)
	case string:
		s = v
	case time.Time:
		s = v.UTC().Format(time.RFC3339)
	default:
		s = fmt.Sprint(v)
	}
	d.Fields = append(d.Fields, Field{name, s})
}

func describeItem(format string, it evidence.Item) Description {
	d := Description{Format: format, Type: it.MediaType, Size: len(it.Value)}
	var err error
	switch it.MediaType {
	case evidence.TypeTDX, evidence.TypeSGX:
		err = d.quote(it.Value)
	case evidence.TypeSNP:
		d.snp(it.Value)
	case evidence.TypeNitro:
		err = d.nitro(it.Value)
	case evidence.TypeCCA:
		err = d.cca(it.Value)
	case evidence.TypeNVIDIA:
		err = d.nvidia(it.Value)
	case TypeJWT:
		err = d.jwt(it.Value)
	default:
		if len(it.Value) <= 64 {
			d.add("value", it.Value)
		}
	}
	if err != nil {
		d.Problem = err.Error()
	}
	return d
}

// A span is a member of a structure.
type span struct {
	name     string
	from, to int
}

func (d *Description) spans(b []byte, spans []span) {
	for _, s := range spans {
		if s.to <= len(b) {
			d.add(s.name, b[s.from:s.to])
		}
	}
}

func (d *Description) quote(b []byte) error {
	q, err := dcap.ParseQuote(b)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	if body := q.Body; q.TDX {
		d.spans(body, []span{
			{"tdx.teetcbsvn", 0, 16}, {"tdx.mrseam", 16, 64}, {"tdx.mrsignerseam", 64, 112}, {"tdx.seamattributes", 112, 120},
			{"tdx.tdattributes", 120, 128}, {"tdx.xfam", 128, 136}, {"tdx.mrtd", 136, 184}, {"tdx.mrconfigid", 184, 232},
			{"tdx.mrowner", 232, 280}, {"tdx.mrownerconfig", 280, 328}, {"tdx.rtmr0", 328, 376}, {"tdx.rtmr1", 376, 424},
			{"tdx.rtmr2", 424, 472}, {"tdx.rtmr3", 472, 520}, {"report data", 520, 584}, {"tdx.teetcbsvn2", 584, 600}, {"tdx.mrservicetd", 600, 648},
		})
		d.add("debug", body[120]&1 != 0)
	} else {
		d.spans(body, []span{
			{"sgx.cpusvn", 0, 16}, {"sgx.attributes", 48, 64}, {"sgx.mrenclave", 64, 96}, {"sgx.mrsigner", 128, 160}, {"sgx.configid", 192, 256},
		})
		d.add("sgx.isvprodid", le.Uint16(body[256:]))
		d.add("sgx.isvsvn", le.Uint16(body[258:]))
		d.add("report data", body[320:384])
		d.add("debug", body[48]&2 != 0)
	}
	pck, err := q.PCK()
	if err != nil {
		return err
	}
	d.add("intel.fmspc", pck.FMSPC[:])
	d.add("intel.tcbsvn", pck.SVN[:])
	d.add("intel.pcesvn", pck.PCESVN)
	d.add("PCK issuer", pck.CA)
	return nil
}

func (d *Description) snp(b []byte) {
	if len(b) < 1184 {
		d.Problem = fmt.Sprintf("%d bytes, want 1184", len(b))
		return
	}
	le := binary.LittleEndian
	version := le.Uint32(b)
	d.add("snp.version", version)
	product := ""
	if version >= 3 {
		product = sevsnp.Product(b[0x188], b[0x189])
		d.add("snp.product", product)
	}
	key := "vcek"
	if b[0x48]>>2&7 == 1 {
		key = "vlek"
	}
	d.add("snp.signingkey", key)
	d.add("snp.guestsvn", le.Uint32(b[4:]))
	policy := le.Uint64(b[8:])
	d.add("snp.policy", fmt.Sprintf("%#x", policy))
	d.add("debug", policy>>19&1 != 0)
	d.spans(b, []span{{"snp.familyid", 0x10, 0x20}, {"snp.imageid", 0x20, 0x30}})
	d.add("snp.vmpl", le.Uint32(b[0x30:]))
	for _, t := range []struct {
		name string
		at   int
	}{{"snp.currenttcb", 0x38}, {"snp.reportedtcb", 0x180}, {"snp.committedtcb", 0x1e0}, {"snp.launchtcb", 0x1f0}} {
		d.add(t.name, sevsnp.DecodeTCB(product, [8]byte(b[t.at:])).String())
	}
	d.add("snp.platforminfo", fmt.Sprintf("%#x", le.Uint64(b[0x40:])))
	d.spans(b, []span{
		{"report data", 0x50, 0x90}, {"snp.measurement", 0x90, 0xc0}, {"snp.hostdata", 0xc0, 0xe0}, {"snp.idkeydigest", 0xe0, 0x110},
		{"snp.authorkeydigest", 0x110, 0x140}, {"snp.reportid", 0x140, 0x160}, {"snp.chipid", 0x1a0, 0x1e0},
	})
	if n := len(b) - 1184; n > 0 {
		d.add("certificate table", fmt.Sprintf("%d bytes", n))
	}
}

// looseMode reads what is only shown.
var looseMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64}.DecMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}()

func (d *Description) nitro(b []byte) error {
	var sign1 []cbor.RawMessage
	var payload []byte
	if err := looseMode.Unmarshal(bytes.TrimPrefix(b, []byte{0xd2}), &sign1); err != nil || len(sign1) != 4 {
		return fmt.Errorf("no COSE_Sign1: %v", err)
	}
	if err := looseMode.Unmarshal(sign1[2], &payload); err != nil {
		return err
	}
	var doc struct {
		Module    string            `cbor:"module_id"`
		Timestamp uint64            `cbor:"timestamp"`
		Digest    string            `cbor:"digest"`
		PCRs      map[uint64][]byte `cbor:"pcrs"`
		PublicKey []byte            `cbor:"public_key"`
		UserData  []byte            `cbor:"user_data"`
		Nonce     []byte            `cbor:"nonce"`
	}
	if err := looseMode.Unmarshal(payload, &doc); err != nil {
		return err
	}
	d.add("nitro.moduleid", doc.Module)
	d.add("nitro.timestamp", time.UnixMilli(int64(min(doc.Timestamp, 1<<52))))
	zero := 0
	for i := range uint64(32) {
		pcr, ok := doc.PCRs[i]
		if !ok {
			continue
		}
		if len(bytes.Trim(pcr, "\x00")) == 0 {
			zero++
			continue
		}
		d.add("nitro.pcr"+strconv.FormatUint(i, 10), pcr)
	}
	if zero > 0 {
		d.add("PCRs of zeros", zero)
	}
	_, pcr0 := doc.PCRs[0]
	d.add("debug", pcr0 && len(bytes.Trim(doc.PCRs[0], "\x00")) == 0)
	for _, f := range []struct {
		name string
		v    []byte
	}{{"report data", doc.UserData}, {"nitro.nonce", doc.Nonce}, {"nitro.publickey", doc.PublicKey}} {
		if len(f.v) > 0 {
			d.add(f.name, f.v)
		}
	}
	return nil
}

func (d *Description) cca(b []byte) error {
	t, err := cca.ParseToken(b)
	if err != nil {
		return err
	}
	d.add("cca.platformprofile", t.Platform.Profile)
	d.add("cca.implid", t.Platform.ImplementationID)
	d.add("cca.instanceid", t.Platform.InstanceID)
	if t.Platform.Lifecycle != nil {
		d.add("cca.lifecycle", fmt.Sprintf("%#04x", *t.Platform.Lifecycle))
	}
	for i, c := range t.Platform.Components {
		name := c.Type
		if name == "" {
			name = strconv.Itoa(i)
		}
		d.add("cca.sw."+name+".measurement", c.Measurement)
		d.add("cca.sw."+name+".version", c.Version)
	}
	d.add("report data", t.Realm.Challenge)
	d.add("cca.rpv", t.Realm.Personalization)
	d.add("cca.rim", t.Realm.Initial)
	for i, m := range t.Realm.Extensible {
		d.add(fmt.Sprintf("cca.rem%d", i), m)
	}
	return nil
}

func (d *Description) nvidia(b []byte) error {
	r := dcbor.NewReader(b)
	r.ArrayN(2)
	raw, chain := r.Bytes(), r.Bytes()
	if err := r.Done(); err != nil {
		return err
	}
	rep, err := nvidia.ParseReport(raw)
	if err != nil {
		return err
	}
	d.add("nonce", rep.Nonce)
	zero := 0
	for _, m := range rep.Measurements {
		if len(bytes.Trim(m.Value, "\x00")) == 0 {
			zero++
			continue
		}
		d.add(fmt.Sprintf("nvidia.measurement.%d", m.Index), m.Value)
	}
	if zero > 0 {
		d.add("measurements of zeros", zero)
	}
	d.add("chain", fmt.Sprintf("%d certificates", bytes.Count(chain, []byte("BEGIN CERTIFICATE"))))
	return nil
}

// jwt shows the claims of a token; those of NVIDIA's array are shown as they are.
func (d *Description) jwt(b []byte) error {
	parts := bytes.Split(b, []byte("."))
	if len(parts) != 3 {
		return nil
	}
	for i, name := range []string{"header ", ""} {
		text, err := base64.RawURLEncoding.DecodeString(string(parts[i]))
		if err != nil {
			return err
		}
		if err := jsonrpc.Check(text, jsonrpc.Limits{}); err != nil {
			return err
		}
		if err := jsonrpc.Members(text, func(member string, val jsontext.Value) error {
			s := string(val)
			if t, ok := jsonrpc.Text(val); ok {
				s = t
			}
			d.add(name+member, s)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func describeCertificate(p *Piece) Description {
	c := p.Certificate
	d := Description{Format: p.Format, Type: "application/pkix-cert", Size: len(c.Raw)}
	d.add("subject", c.Subject.String())
	d.add("issuer", c.Issuer.String())
	d.add("not before", c.NotBefore)
	d.add("not after", c.NotAfter)
	d.add("key", c.PublicKeyAlgorithm.String())
	if c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		d.add("signature", "of an unknown algorithm")
	}
	for _, s := range p.Statements {
		for _, it := range s.Items {
			rec := describeItem(string(s.Form), it)
			if len(s.Nonce) > 0 {
				rec.add("nonce", s.Nonce)
			}
			d.Records = append(d.Records, rec)
		}
	}
	return d
}
