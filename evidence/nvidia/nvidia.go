// Package nvidia verifies the attestation reports of NVIDIA GPUs (Hopper,
// Blackwell) and NVSwitches (LS10): SPDM measurements, signed by a key whose
// chain leads to NVIDIA's device identity root. Give a [Verifier] to package
// appraise, or call its Verify with evidence that [Encode] made. [GPUNonce]
// binds a GPU to the CPU that uses it.
//
// Not done: NVIDIA's reference manifests (RIM) are XML with XML signatures, and
// are not read. Give the golden measurements as CoRIM reference values. Without
// them a verified report says which device signed, and not whether its firmware
// and mode are the right ones.
package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/seal"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// TypeRIM is the media type of NVIDIA's reference manifests (SWID tags), which
// are recognised among endorsements and not read.
const TypeRIM = "application/swid+xml"

const maxEvidence = maxReport + maxChain + 16

// Encode makes evidence of type evidence.TypeNVIDIA from a report (SPDM request
// and response) and its certificate chain in PEM, leaf first, as NVML gives
// them. It writes the PEM anew, since the verifier takes one spelling only.
func Encode(report, chain []byte) ([]byte, error) {
	var text []byte
	for rest := bytes.TrimRight(chain, "\x00 \r\n"); len(rest) > 0; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil || b.Type != "CERTIFICATE" {
			return nil, errors.New("NVIDIA chain: not PEM certificates throughout")
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: b.Type, Bytes: b.Bytes})...)
		rest = bytes.TrimSpace(rest)
	}
	if _, err := parseChain(text); err != nil {
		return nil, err
	}
	if _, err := ParseReport(report); err != nil {
		return nil, err
	}
	b := dcbor.AppendArray(make([]byte, 0, len(report)+len(text)+16), 2)
	return dcbor.AppendBytes(dcbor.AppendBytes(b, report), text), nil
}

// A Verifier verifies evidence of type evidence.TypeNVIDIA: a CBOR array
// [report bstr, chain bstr]. The zero value is ready for use. It keeps the
// chains that it verified, and is safe for concurrent use.
type Verifier struct{ chains chains }

var _ evidence.Verifier = (*Verifier)(nil)

// MediaTypes returns evidence.TypeNVIDIA.
func (*Verifier) MediaTypes() []string { return []string{evidence.TypeNVIDIA} }

// Verify makes the checks report-format, device-chain, report-signature,
// architecture, fwid, certificate-revocation, reference-manifest and debug. The
// first three must pass for there to be claims. OCSP responses among the
// endorsements are used; a report has no TCB status.
func (v *Verifier) Verify(mediaType string, value []byte, t *evidence.Trust) *evidence.Result {
	var checks evidence.Checks
	claims := v.verify(&checks, mediaType, value, t)
	return evidence.NewResult(seal.Mine(), evidence.NVIDIA, checks, nil, claims)
}

func (v *Verifier) verify(checks *evidence.Checks, mediaType string, value []byte, t *evidence.Trust) *evidence.Claims {
	report, certs, err := decode(mediaType, value)
	if err != nil {
		checks.Add("report-format", evidence.Fail, err.Error())
		return nil
	}
	checks.Add("report-format", evidence.Pass, fmt.Sprintf("SPDM 1.1, %d measurements", len(report.Measurements)))

	chain, simulated, err := v.anchor(certs, t)
	if err != nil {
		checks.Add("device-chain", evidence.Fail, err.Error())
		return nil
	}
	root := chain[len(chain)-1]
	checks.Add("device-chain", evidence.Pass, fmt.Sprintf("%d certificates up to %q", len(chain), root.Subject.CommonName))

	if err := report.verify(chain[0]); err != nil {
		checks.Add("report-signature", evidence.Fail, err.Error())
		return nil
	}
	checks.Add("report-signature", evidence.Pass, "ECDSA P-384 over request and response")

	c := &evidence.Claims{ReportData: report.Nonce, Simulated: simulated, Platform: deviceID(chain), Values: report.values()}
	bound := func(from, to time.Time) {
		if from.After(c.NotBefore) {
			c.NotBefore = from
		}
		if c.NotAfter.IsZero() || to.Before(c.NotAfter) {
			c.NotAfter = to
		}
	}
	for _, cert := range chain {
		bound(cert.NotBefore, cert.NotAfter)
	}
	if c.Platform != nil {
		c.Values["nvidia.deviceid"] = c.Platform
	}

	chip, arch, err := architecture(chain)
	switch {
	case err != nil:
		checks.Add("architecture", evidence.Fail, err.Error())
	case report.chip() != "" && report.chip() != chip:
		checks.Add("architecture", evidence.Fail, fmt.Sprintf("the report says %s, the device's certificate %s", report.chip(), chip))
	case arch == archSwitch:
		checks.Add("architecture", evidence.Warn, "LS10: an NVSwitch, not a GPU")
	default:
		checks.Add("architecture", evidence.Pass, arch)
	}
	if err == nil {
		c.Values["nvidia.arch"], c.Values["nvidia.chip"] = arch, chip
	}

	fwid, err := certificateFWID(chain[0])
	stated, states := report.Opaque[fieldFWID]
	switch {
	case err != nil:
		checks.Add("fwid", evidence.Fail, err.Error())
	case states && (fwid == nil || !bytes.Equal(fwid, stated)):
		checks.Add("fwid", evidence.Fail, fmt.Sprintf("the report says that firmware %x signed it, the certificate has %x", stated, fwid))
	case states:
		checks.Add("fwid", evidence.Pass, "report and certificate name the same firmware")
	default:
		checks.Add("fwid", evidence.NotPerformed, "the report names no firmware to compare with the certificate")
	}
	if fwid != nil {
		c.Values["nvidia.fwid"] = fwid
	}

	revocation(checks, chain, t, bound)
	manifests := 0
	for _, e := range t.Endorsements {
		if e.MediaType == TypeRIM {
			manifests++
		}
	}
	checks.Add("reference-manifest", evidence.NotPerformed, fmt.Sprintf("%d RIM given: XML signatures are not verified here; match the measurements with CoRIM reference values", manifests))
	checks.Add("debug", evidence.NotPerformed, "a report has no debug flag: DevTools mode shows only in the measurements")
	return c
}

// decode reads the CBOR array [report, chain].
func decode(mediaType string, value []byte) (*Report, []*x509.Certificate, error) {
	if mediaType != evidence.TypeNVIDIA {
		return nil, nil, fmt.Errorf("media type %q, want %q", mediaType, evidence.TypeNVIDIA)
	}
	if len(value) > maxEvidence {
		return nil, nil, fmt.Errorf("NVIDIA evidence: %d bytes, at most %d are read", len(value), maxEvidence)
	}
	r := dcbor.NewReader(value)
	r.ArrayN(2)
	raw, text := r.Bytes(), r.Bytes()
	if err := r.Done(); err != nil {
		return nil, nil, fmt.Errorf("NVIDIA evidence: want [report bstr, chain bstr]: %w", err)
	}
	report, err := ParseReport(raw)
	if err != nil {
		return nil, nil, err
	}
	certs, err := parseChain(text)
	return report, certs, err
}

// anchor verifies a chain to a root of NVIDIA, or else of a simulator.
func (v *Verifier) anchor(certs []*x509.Certificate, t *evidence.Trust) (chain []*x509.Certificate, simulated bool, err error) {
	if t == nil || t.Now.IsZero() {
		return nil, false, errors.New("no time to verify at: set Trust.Now")
	}
	if err := t.Anchors.Check(); err != nil {
		return nil, false, err
	}
	trusted := [][]*x509.Certificate{t.Anchors.NVIDIA, t.Simulator.Anchors().NVIDIA}
	for i, roots := range trusted {
		if chain = v.chains.get(certs, roots, t.Now); chain != nil {
			return chain, i == 1, nil
		}
	}
	for i, roots := range trusted {
		var failed error
		if chain, failed = verifyChain(certs, roots, t.Now); failed == nil {
			v.chains.put(certs, chain)
			return chain, i == 1, nil
		}
		if err == nil {
			err = failed
		}
	}
	return nil, false, fmt.Errorf("the chain of %q leads to no trusted root: %w", certs[0].Subject.CommonName, err)
}

// verify checks the report's signature: ECDSA P-384 with SHA-384 over request
// and response up to the signature, r and s as 48 bytes each.
func (r *Report) verify(leaf *x509.Certificate) error {
	key, err := attestationKey(leaf)
	if err != nil {
		return err
	}
	digest := sha512.Sum384(r.signed)
	x, s := new(big.Int).SetBytes(r.Signature[:signatureLen/2]), new(big.Int).SetBytes(r.Signature[signatureLen/2:])
	if !ecdsa.Verify(key, digest[:], x, s) {
		return errors.New("the signature is not of the attestation key over this report")
	}
	return nil
}

// chip returns what the report says that the device is, or "": before Blackwell
// reports don't say.
func (r *Report) chip() string { return r.text(fieldChip) }

// values returns the claims that the report makes.
func (r *Report) values() map[string]any {
	v := make(map[string]any, len(r.Measurements)+8)
	for _, m := range r.Measurements {
		v["nvidia.measurement."+strconv.Itoa(int(m.Index))] = m.Value
	}
	for name, s := range map[string]string{
		"nvidia.driver":     r.text(fieldDriver),
		"nvidia.vbios":      r.vbios(),
		"nvidia.project":    r.text(fieldProject),
		"nvidia.projectsku": r.text(fieldProjectSKU),
		"nvidia.chipsku":    r.text(fieldChipSKU),
		"nvidia.board":      hex.EncodeToString(r.Opaque[fieldBoard]),
	} {
		if s != "" {
			v[name] = s
		}
	}
	for name, field := range map[string]uint16{"nvidia.nvdec0": fieldNVDEC0, "nvidia.protectedpcie": fieldProtectedPCIe} {
		if b := r.Opaque[field]; len(b) == 1 && (b[0] == 0xaa || b[0] == 0x55) {
			v[name] = b[0] == 0xaa
		}
	}
	if n, ok := little(r.Opaque[fieldFeature]); ok {
		v["nvidia.feature"] = n
	}
	return v
}
