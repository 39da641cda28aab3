package evidencefile

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ocsp"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/dcap"
)

const maxFiles = 64 // of collateral

// Collateral reads endorsements from files and from the files of directories:
// bundles of Intel's collateral and their pieces as Intel serves them, AMD's
// certificates and CRLs, OCSP responses.
func Collateral(names []string, stdin io.Reader) ([]evidence.Item, error) {
	files, err := expand(names)
	if err != nil {
		return nil, err
	}
	var items []evidence.Item
	intel := map[string][]byte{}
	pieces := false // of Intel's, other than chains and CRLs
	for _, name := range files {
		b, err := Read(name, stdin)
		if err != nil {
			return nil, err
		}
		switch it, kind := classify(b); kind {
		case kindIntel:
			intel[name], pieces = b, true
		case kindIntelPart:
			intel[name] = b
		case kindItem:
			items = append(items, it...)
		default:
			return nil, fmt.Errorf("%s: no collateral: want a bundle of Intel's collateral or its pieces, certificates, CRLs or OCSP responses", name)
		}
	}
	if len(intel) == 0 {
		return items, nil
	}
	if !pieces {
		return nil, errors.New("certificates and CRLs of Intel are given without TCB info and QE identity")
	}
	sets, err := dcap.CollateralFromFiles(intel)
	if err != nil {
		return nil, err
	}
	for _, c := range sets {
		it, err := c.Item()
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// expand puts a directory's files in place of the directory.
func expand(names []string) ([]string, error) {
	var files []string
	for _, name := range names {
		info, err := os.Stat(name)
		if name == "-" || err == nil && !info.IsDir() {
			files = append(files, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, err
		}
		n := len(files)
		for _, e := range entries {
			if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") && !strings.EqualFold(e.Name(), "README.md") {
				files = append(files, filepath.Join(name, e.Name()))
			}
		}
		if n == len(files) {
			return nil, fmt.Errorf("%s: a directory without files", name)
		}
	}
	if len(files) > maxFiles {
		return nil, fmt.Errorf("%d files of collateral; at most %d are read", len(files), maxFiles)
	}
	return files, nil
}

type kind int

const (
	kindUnknown kind = iota
	kindIntel
	kindIntelPart
	kindItem
)

func classify(b []byte) ([]evidence.Item, kind) {
	text := bytes.TrimSpace(b)
	if bytes.HasPrefix(text, []byte("{")) {
		return nil, kindIntel
	}
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) && bytes.HasPrefix(text, []byte("30")) {
		b = plain(b) // a PCCS gives CRLs in hex
	}
	var items []evidence.Item
	if bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		intel := false
		var certs []byte
		for rest := text; len(bytes.TrimSpace(rest)) > 0; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				return nil, kindUnknown
			}
			switch block.Type {
			case "CERTIFICATE":
				c, err := x509.ParseCertificate(block.Bytes)
				if err != nil {
					return nil, kindUnknown
				}
				intel = intel || isIntel(c.Issuer.CommonName)
				certs = append(certs, pem.EncodeToMemory(block)...)
			case "X509 CRL":
				l, err := x509.ParseRevocationList(block.Bytes)
				if err != nil {
					return nil, kindUnknown
				}
				intel = intel || isIntel(l.Issuer.CommonName)
				items = append(items, evidence.Item{MediaType: evidence.TypeCRL, Value: block.Bytes})
			default:
				return nil, kindUnknown
			}
		}
		if intel {
			return nil, kindIntelPart
		}
		if certs != nil {
			items = append(items, evidence.Item{MediaType: evidence.TypeCertificates, Value: certs})
		}
		return items, kindItem
	}
	if l, err := x509.ParseRevocationList(b); err == nil {
		if isIntel(l.Issuer.CommonName) {
			return nil, kindIntelPart
		}
		return []evidence.Item{{MediaType: evidence.TypeCRL, Value: b}}, kindItem
	}
	if c, err := x509.ParseCertificate(b); err == nil {
		if isIntel(c.Issuer.CommonName) {
			return nil, kindIntelPart
		}
		return []evidence.Item{{MediaType: evidence.TypeCertificates, Value: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b})}}, kindItem
	}
	if _, err := ocsp.ParseResponse(b, nil); err == nil || errors.As(err, new(ocsp.ResponseError)) {
		return []evidence.Item{{MediaType: evidence.TypeOCSP, Value: b}}, kindItem
	}
	return nil, kindUnknown
}

// isIntel tells Intel's hierarchy by the names of its CAs, simulated ones too.
func isIntel(cn string) bool {
	return slices.Contains([]string{"Intel SGX Root CA", "Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA", "Intel SGX TCB Signing"}, cn)
}
