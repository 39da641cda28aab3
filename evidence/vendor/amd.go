package vendor

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/trustedmcp/tmcp/evidence"
)

// amdBundles are what AMD's key distribution service serves as cert_chain, per
// product line: the intermediate for VCEKs, that for VLEKs, and the root, which
// is the same in both. The copies are those of go-sev-guest; a test pins each by
// its SHA-256.
//
// The library's own default roots lack the intermediates for VLEKs, with which
// every report of a machine at AWS is signed. And one of its bundles ends with
// CRLF, which its own parser refuses.
var amdBundles = []struct {
	product    string
	vcek, vlek *[]byte
}{
	{"Milan", &trust.AskArkMilanVcekBytes, &trust.AskArkMilanVlekBytes},
	{"Genoa", &trust.AskArkGenoaVcekBytes, &trust.AskArkGenoaVlekBytes},
	{"Turin", &trust.AskArkTurinVcekBytes, &trust.AskArkTurinVlekBytes},
}

// amdChains returns AMD's hierarchy for each product line. A bundle that is not
// as expected is left out: then nothing of that line is trusted.
func amdChains() []evidence.AMDChain {
	var chains []evidence.AMDChain
	for _, b := range amdBundles {
		vcek, vlek := certificates(*b.vcek), certificates(*b.vlek)
		if len(vcek) != 2 || len(vlek) != 2 || !vcek[1].Equal(vlek[1]) {
			continue
		}
		chains = append(chains, evidence.AMDChain{Product: b.product, ARK: vcek[1], ASK: []*x509.Certificate{vcek[0], vlek[0]}})
	}
	return chains
}

// certificates parses PEM, or returns nil if anything in it is not a
// certificate.
func certificates(text []byte) (certs []*x509.Certificate) {
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil || b.Type != "CERTIFICATE" {
			return nil
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil
		}
		certs = append(certs, c)
	}
	return certs
}
