package sim

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

func (w *World) makeAWS() (*authority, error) {
	key, err := w.key(elliptic.P384(), "aws root")
	if err != nil {
		return nil, err
	}
	t := w.authorityTemplate("aws.nitro-enclaves", "aws root", 3)
	t.SignatureAlgorithm = x509.ECDSAWithSHA384
	return issue(nil, t, key)
}

// Nitro says what an enclave of AWS Nitro is like. The zero value runs the zero
// image.
type Nitro struct {
	Name  string // of the instance: module id and keys are derived from it
	Image [32]byte
	PCRs  map[int][48]byte // 0 to 31, in place of those of Image
	Debug bool             // PCR0 to PCR2 are zeros, as AWS has them for enclaves with a console

	Time time.Time // of the document, whose certificate is valid for 3 hours around it; zero: Epoch
	// NotBefore and NotAfter of the certificate, where they are to be others.
	NotBefore, NotAfter time.Time

	Nonce, PublicKey []byte // nil: null
	NoUserData       bool
}

// NitroDocument makes an attestation document: a COSE_Sign1 over a CBOR map of
// indefinite length, as AWS writes it. user_data is the report data.
func (w *World) NitroDocument(reportData [64]byte, o Nitro) ([]byte, error) {
	root, err := w.aws()
	if err != nil {
		return nil, err
	}
	at := first(o.Time, Epoch)
	instance := "i-" + hex.EncodeToString(w.bytes("nitro instance "+o.Name, 9))[:17]
	module := instance + "-enc" + hex.EncodeToString(w.bytes("nitro enclave "+o.Name, 8))
	chain := []*authority{root}
	for i, cn := range []string{"0a1b2c3d4e5f6071.us-east-1.aws.nitro-enclaves", "0a1b2c3d4e5f6072.zonal.us-east-1.aws.nitro-enclaves", instance + ".us-east-1.aws.nitro-enclaves", module + ".us-east-1.aws"} {
		label := "nitro " + cn
		key, err := w.key(elliptic.P384(), label)
		if err != nil {
			return nil, err
		}
		t := w.authorityTemplate(cn, label, 2-i)
		if i == 3 {
			t = w.template(cn, label+at.String())
			t.NotBefore, t.NotAfter = first(o.NotBefore, at.Add(-time.Minute)), first(o.NotAfter, at.Add(3*time.Hour-time.Minute))
		}
		t.SignatureAlgorithm = x509.ECDSAWithSHA384
		a, err := issue(chain[i], t, key)
		if err != nil {
			return nil, err
		}
		chain = append(chain, a)
	}
	leaf := chain[len(chain)-1]

	pcrs := map[int][48]byte{}
	for i := range 16 {
		pcrs[i] = [48]byte{}
		if i < nitroPCRs && !o.Debug {
			pcrs[i] = Measure(fmt.Sprintf("nitro.pcr%d", i), o.Image)
		}
	}
	pcrs[4] = measure("nitro.pcr4", []byte(instance))
	for i, v := range o.PCRs {
		if i < 0 || i > 31 {
			return nil, fmt.Errorf("Nitro has no PCR %d; want 0 to 31", i)
		}
		pcrs[i] = v
	}

	p := []byte{0xbf} // a map of indefinite length
	p = dcbor.AppendText(dcbor.AppendText(p, "module_id"), module)
	p = dcbor.AppendText(dcbor.AppendText(p, "digest"), "SHA384")
	p = dcbor.AppendUint(dcbor.AppendText(p, "timestamp"), uint64(max(at.UnixMilli(), 0)))
	p = dcbor.AppendMap(dcbor.AppendText(p, "pcrs"), len(pcrs))
	for i := range 32 {
		if v, ok := pcrs[i]; ok {
			p = dcbor.AppendBytes(dcbor.AppendUint(p, uint64(i)), v[:])
		}
	}
	p = dcbor.AppendBytes(dcbor.AppendText(p, "certificate"), leaf.cert.Raw)
	p = dcbor.AppendArray(dcbor.AppendText(p, "cabundle"), len(chain)-1)
	for _, c := range chain[:len(chain)-1] {
		p = dcbor.AppendBytes(p, c.cert.Raw)
	}
	optional := func(name string, v []byte) {
		p = dcbor.AppendText(p, name)
		if v == nil {
			p = dcbor.AppendNull(p)
		} else {
			p = dcbor.AppendBytes(p, v)
		}
	}
	optional("public_key", o.PublicKey)
	if o.NoUserData {
		optional("user_data", nil)
	} else {
		optional("user_data", reportData[:])
	}
	optional("nonce", o.Nonce)
	return sign1(leaf.key.(*signer), append(p, 0xff))
}
