package sim

import (
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// ccaImplementation is the implementation id of simulated CCA platforms, 32
// bytes: it begins with evidence.SimulatorOrganization.
func (w *World) ccaImplementation() []byte {
	return append([]byte(evidence.SimulatorOrganization), w.bytes("cca implementation", 32)...)[:32]
}

// iak is the attestation key of simulated CCA platforms, of all instances.
func (w *World) iak() (*signer, error) { return w.key(elliptic.P384(), "cca iak") }

func (w *World) ccaKeys() ([]evidence.CCAKey, error) {
	k, err := w.iak()
	if err != nil {
		return nil, err
	}
	return []evidence.CCAKey{{ImplementationID: w.ccaImplementation(), Key: k.Public()}}, nil
}

// CCA says what a realm of Arm CCA is like. The zero value runs the zero image on
// a secured platform.
type CCA struct {
	Name      string // of the platform: instance id and realm key are derived from it
	Image     [32]byte
	RIM       [32]byte     // zero: of Image
	REMs      *[4][32]byte // nil: of Image
	RPV       [64]byte     // personalization value
	Lifecycle uint16       // zero: 0x3003, secured
	Debug     bool         // lifecycle 0x4000: the platform's firmware can be debugged
	Config    []byte       // of the platform; nil: 4 bytes

	// Unbound has the platform token vouch for another realm key than the one
	// that signs.
	Unbound bool
}

// CCAToken makes a token (draft-ffm-rats-cca-token): CBOR tag 399 of the
// platform's token and the realm's, each a COSE_Sign1 in ES384. The realm's
// challenge is the report data.
func (w *World) CCAToken(reportData [64]byte, o CCA) ([]byte, error) {
	if len(o.Config) > 4096 {
		return nil, fmt.Errorf("%d bytes of platform configuration; want at most 4096", len(o.Config))
	}
	if o.Config == nil {
		o.Config = []byte{0xcf, 0xcf, 0xcf, 0xcf}
	}
	lifecycle := first(o.Lifecycle, 0x3003)
	if o.Debug {
		lifecycle = 0x4000
	}
	short := func(register string) (out [32]byte) {
		m := Measure(register, o.Image)
		return [32]byte(m[:32])
	}
	rim := first(o.RIM, short("cca.rim"))
	var rems [4][32]byte
	for i := range rems {
		rems[i] = short(fmt.Sprintf("cca.rem%d", i))
	}
	rems = or(o.REMs, rems)

	rak, err := w.key(elliptic.P384(), "cca rak "+o.Name)
	if err != nil {
		return nil, err
	}
	point, err := rak.point()
	if err != nil {
		return nil, err
	}
	// COSE_Key {1: 2 (EC2), -1: 2 (P-384), -2: x, -3: y}
	k := dcbor.AppendMap(nil, 4)
	k = dcbor.AppendInt(dcbor.AppendInt(k, 1), 2)
	k = dcbor.AppendInt(dcbor.AppendInt(k, -1), 2)
	k = dcbor.AppendBytes(dcbor.AppendInt(k, -2), point[:48])
	k = dcbor.AppendBytes(dcbor.AppendInt(k, -3), point[48:])

	r := dcbor.AppendMap(nil, 8)
	r = dcbor.AppendBytes(dcbor.AppendUint(r, 10), reportData[:])
	r = dcbor.AppendText(dcbor.AppendUint(r, 265), "tag:arm.com,2023:realm#1.0.0")
	r = dcbor.AppendBytes(dcbor.AppendUint(r, 44235), o.RPV[:])
	r = dcbor.AppendText(dcbor.AppendUint(r, 44236), "sha-256")
	r = dcbor.AppendBytes(dcbor.AppendUint(r, 44237), k)
	r = dcbor.AppendBytes(dcbor.AppendUint(r, 44238), rim[:])
	r = dcbor.AppendArray(dcbor.AppendUint(r, 44239), len(rems))
	for _, m := range rems {
		r = dcbor.AppendBytes(r, m[:])
	}
	r = dcbor.AppendText(dcbor.AppendUint(r, 44240), "sha-256")
	realm, err := sign1(rak, r)
	if err != nil {
		return nil, err
	}

	binder := sha256.Sum256(k)
	if o.Unbound {
		binder[0] ^= 1
	}
	p := dcbor.AppendMap(nil, 9)
	p = dcbor.AppendBytes(dcbor.AppendUint(p, 10), binder[:])
	p = dcbor.AppendBytes(dcbor.AppendUint(p, 256), append([]byte{1}, w.bytes("cca instance "+o.Name, 32)...))
	p = dcbor.AppendText(dcbor.AppendUint(p, 265), "tag:arm.com,2023:cca_platform#1.0.0")
	p = dcbor.AppendUint(dcbor.AppendUint(p, 2395), uint64(lifecycle))
	p = dcbor.AppendBytes(dcbor.AppendUint(p, 2396), w.ccaImplementation())
	components := []string{"BL", "RMM"}
	p = dcbor.AppendArray(dcbor.AppendUint(p, 2399), len(components))
	for _, name := range components {
		m, signer := measure("cca.sw."+name, nil), measure("cca.sw.signer", nil)
		p = dcbor.AppendMap(p, 5)
		p = dcbor.AppendText(dcbor.AppendUint(p, 1), name)
		p = dcbor.AppendBytes(dcbor.AppendUint(p, 2), m[:32])
		p = dcbor.AppendText(dcbor.AppendUint(p, 4), "1.0.0")
		p = dcbor.AppendBytes(dcbor.AppendUint(p, 5), signer[:32])
		p = dcbor.AppendText(dcbor.AppendUint(p, 6), "sha-256")
	}
	p = dcbor.AppendText(dcbor.AppendUint(p, 2400), "https://simulator.test/cca")
	p = dcbor.AppendBytes(dcbor.AppendUint(p, 2401), o.Config)
	p = dcbor.AppendText(dcbor.AppendUint(p, 2402), "sha-256")
	iak, err := w.iak()
	if err != nil {
		return nil, err
	}
	platform, err := sign1(iak, p)
	if err != nil {
		return nil, err
	}

	const tagSign1 = 18
	b := dcbor.AppendMap(dcbor.AppendTag(nil, 399), 2)
	b = dcbor.AppendBytes(dcbor.AppendUint(b, 44234), append(dcbor.AppendTag(nil, tagSign1), platform...))
	return dcbor.AppendBytes(dcbor.AppendUint(b, 44241), append(dcbor.AppendTag(nil, tagSign1), realm...)), nil
}
