package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const maxFiles = 64

// CollateralFromFiles assembles collateral from files by name: bundles, and the
// pieces as Intel serves them, which it tells apart by what is in them:
//
//   - TCB info and QE identity: JSON objects with tcbInfo or enclaveIdentity, and
//     signature
//   - issuer chains: PEM certificates
//   - CRLs: DER, PEM or hexadecimal digits
//
// It verifies nothing. It returns one Collateral for each bundle, and for each
// TCB info with each PCK CA's CRL. An error names the file that is no
// collateral, or what is lacking.
func CollateralFromFiles(files map[string][]byte) ([]*Collateral, error) {
	if len(files) > maxFiles {
		return nil, fmt.Errorf("%d collateral files; at most %d are read", len(files), maxFiles)
	}
	var p pieces
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := p.add(files[name]); err != nil {
			return nil, fmt.Errorf("collateral file %s: %w", name, err)
		}
	}
	return p.assemble()
}

// pieces are what files hold, each in order of the files' names.
type pieces struct {
	bundles  []*Collateral
	infos    []signedText
	infoIDs  []string
	qe       map[string]signedText // by id, the newest
	signing  []issuerChain
	pckChain map[string][]byte // PEM, by the CA's name
	crls     map[string]*crl   // by the issuer's name, the newest
	separate bool
}

type signedText struct {
	text, sig []byte
	parsed    *qeIdentity
}

type issuerChain struct {
	pem  []byte
	leaf *x509.Certificate
}

func (p *pieces) add(file []byte) error {
	if len(file) > maxBundle {
		return fmt.Errorf("%d bytes; at most %d are read", len(file), maxBundle)
	}
	b := bytes.TrimSpace(file)
	switch {
	case bytes.HasPrefix(b, []byte("{")):
		return p.addJSON(b)
	case bytes.HasPrefix(b, []byte("-----BEGIN CERTIFICATE-----")):
		return p.addChain(b)
	}
	der := file
	if block, _ := pem.Decode(b); block != nil && block.Type == "X509 CRL" {
		der = block.Bytes
	} else if h, err := hex.DecodeString(string(b)); err == nil && len(h) > 0 {
		der = h
	}
	l, err := parseCRL(der)
	if err != nil {
		return fmt.Errorf("neither a JSON object, nor PEM certificates, nor a CRL: %w", err)
	}
	if p.crls == nil {
		p.crls = map[string]*crl{}
	}
	cn := l.list.Issuer.CommonName
	if old := p.crls[cn]; old == nil || old.valid.from.Before(l.valid.from) {
		p.crls[cn] = l
	}
	p.separate = true
	return nil
}

func (p *pieces) addJSON(b []byte) error {
	var j struct {
		TCBInfo    jsontext.Value `json:"tcbInfo"`
		QEIdentity jsontext.Value `json:"enclaveIdentity"`
		Signature  hexBytes       `json:"signature"`
		Bundle     jsontext.Value `json:"tcb_info"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	switch {
	case j.Bundle != nil:
		c, err := ParseCollateral(b)
		p.bundles = append(p.bundles, c)
		return err
	case j.TCBInfo != nil:
		t, err := parseTCBInfo(j.TCBInfo)
		if err != nil {
			return err
		}
		p.infos = append(p.infos, signedText{text: j.TCBInfo, sig: j.Signature})
		p.infoIDs = append(p.infoIDs, t.ID)
	case j.QEIdentity != nil:
		q, err := parseQEIdentity(j.QEIdentity)
		if err != nil {
			return err
		}
		if p.qe == nil {
			p.qe = map[string]signedText{}
		}
		if old := p.qe[q.ID]; old.parsed == nil || old.parsed.IssueDate.Before(q.IssueDate) {
			p.qe[q.ID] = signedText{j.QEIdentity, j.Signature, q}
		}
	default:
		return errors.New("a JSON object with none of tcbInfo, enclaveIdentity and tcb_info")
	}
	p.separate = true
	return nil
}

func (p *pieces) addChain(b []byte) error {
	text := append(normalPEM(b), '\n')
	ders, err := splitPEM(text)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return err
	}
	switch cn := leaf.Subject.CommonName; cn {
	case cnTCBSigning:
		if !slices.ContainsFunc(p.signing, func(c issuerChain) bool { return bytes.Equal(c.pem, text) }) {
			p.signing = append(p.signing, issuerChain{text, leaf})
		}
		p.separate = true
	case cnPlatformCA, cnProcessorCA:
		if p.pckChain == nil {
			p.pckChain = map[string][]byte{}
		}
		p.pckChain[cn] = text
	}
	return nil // other chains are of no use here
}

// chain returns the signing chain whose key made the signature, or else the
// first one: then verification says what is wrong.
func (p *pieces) chain(s signedText) []byte {
	for _, c := range p.signing {
		if verifyRaw(p256(c.leaf), s.text, s.sig) {
			return c.pem
		}
	}
	return p.signing[0].pem
}

func (p *pieces) assemble() ([]*Collateral, error) {
	if !p.separate && len(p.bundles) > 0 {
		return p.bundles, nil
	}
	root := p.crls[cnRootCA]
	var lack []string
	for _, m := range []struct {
		there bool
		what  string
	}{
		{len(p.infos) > 0, "TCB info"},
		{len(p.qe) > 0, "QE identity"},
		{len(p.signing) > 0, `certificate chain of "` + cnTCBSigning + `"`},
		{root != nil, `CRL of "` + cnRootCA + `"`},
		{p.crls[cnPlatformCA] != nil || p.crls[cnProcessorCA] != nil, `CRL of "` + cnPlatformCA + `" or "` + cnProcessorCA + `"`},
	} {
		if !m.there {
			lack = append(lack, m.what)
		}
	}
	if len(lack) > 0 {
		return nil, errors.New("the collateral files lack: " + strings.Join(lack, "; "))
	}
	out := p.bundles
	for i, info := range p.infos {
		id := "QE"
		if p.infoIDs[i] == "TDX" {
			id = "TD_QE"
		}
		qe, ok := p.qe[id]
		if !ok {
			return nil, fmt.Errorf("the collateral files lack the QE identity %s, which goes with TCB info %s", id, p.infoIDs[i])
		}
		for _, ca := range []string{cnPlatformCA, cnProcessorCA} {
			if l := p.crls[ca]; l != nil {
				out = append(out, &Collateral{
					TCBInfo: info.text, TCBInfoSignature: info.sig, TCBInfoChain: p.chain(info),
					QEIdentity: qe.text, QEIdentitySignature: qe.sig, QEIdentityChain: p.chain(qe),
					RootCRL: root.list.Raw, PCKCRL: l.list.Raw, PCKCRLChain: p.pckChain[ca],
				})
			}
		}
	}
	return out, nil
}
