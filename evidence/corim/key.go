package corim

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A Key is a key, a certificate, or a thumbprint or name of one:
// $crypto-key-type-choice, a tagged item. Keys are equal when their bytes are.
type Key Item

func (k Key) item() Item { return Item(k) }

// Equal compares the encodings.
func (k Key) Equal(o Key) bool { return bytes.Equal(k, o) }

// String shows the kind and the value.
func (k Key) String() string {
	tag, content, _ := splitTag(Item(k))
	name := map[uint64]string{
		tagPEMKey: "key", tagPEMCert: "certificate", tagPEMPath: "certificate path", tagKeyPrint: "key thumbprint",
		tagCOSEKey: "COSE key", tagCertPrint: "certificate thumbprint", tagBytes: "key id",
		tagPathPrint: "certificate path thumbprint", tagDERCert: "certificate",
	}[tag]
	var d Digest
	switch {
	case name == "":
		return Item(k).String()
	case decodeDigest(content, &d) == nil:
		return name + " " + d.String()
	case tag == tagBytes:
		var b []byte
		_ = byteString(content, &b) // shows what there is
		if strings.Trim(string(b), "abcdefghijklmnopqrstuvwxyz0123456789-:/.") == "" {
			return name + " " + string(b)
		}
		return fmt.Sprintf("%s %x", name, b)
	}
	sum := sha256.Sum256(content)
	return fmt.Sprintf("%s (SHA-256 of its encoding %x)", name, sum[:8])
}

// KeyID is an identifier with no prescribed construction: tag 560.
func KeyID(b []byte) Key { return Key(BytesItem(b)) }

// KeyThumbprint is the SHA-256 digest of the key's SubjectPublicKeyInfo: tag
// 557.
func KeyThumbprint(pub crypto.PublicKey) (Key, error) {
	id, err := keyID(pub)
	if err != nil {
		return nil, fmt.Errorf("a public key that has no SubjectPublicKeyInfo: %w", err)
	}
	return keyPrint(id), nil
}

func keyPrint(id []byte) Key {
	return append(dcbor.AppendTag(nil, tagKeyPrint), Digest{Alg: SHA256, Value: id}.encode()...)
}

// CertificateThumbprint is the SHA-256 digest of a certificate's DER: tag 559.
func CertificateThumbprint(c *x509.Certificate) Key {
	sum := sha256.Sum256(c.Raw)
	return append(dcbor.AppendTag(nil, tagCertPrint), Digest{Alg: SHA256, Value: sum[:]}.encode()...)
}

// CertificateKey is the certificate itself: tag 562.
func CertificateKey(c *x509.Certificate) Key {
	return dcbor.AppendBytes(dcbor.AppendTag(nil, tagDERCert), c.Raw)
}

// PublicKeyPEM is the key as PEM of its SubjectPublicKeyInfo: tag 554.
func PublicKeyPEM(pub crypto.PublicKey) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("a public key that has no SubjectPublicKeyInfo: %w", err)
	}
	p := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return dcbor.AppendText(dcbor.AppendTag(nil, tagPEMKey), string(p)), nil
}

// Certificates are those that the key consists of, leaf first; nil when it is
// another kind of key.
func (k Key) Certificates() ([]*x509.Certificate, error) {
	tag, content, _ := splitTag(Item(k))
	switch tag {
	case tagDERCert:
		var der []byte
		if err := byteString(content, &der); err != nil {
			return nil, err
		}
		c, err := x509.ParseCertificate(der)
		return []*x509.Certificate{c}, err
	case tagPEMCert, tagPEMPath:
		var s string
		if err := text(content, &s); err != nil {
			return nil, err
		}
		var out []*x509.Certificate
		for rest := []byte(s); len(bytes.TrimSpace(rest)) > 0; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil || b.Type != "CERTIFICATE" || len(out) >= maxChain {
				return nil, errors.New("want PEM of certificates and nothing else")
			}
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
		if len(out) == 0 || tag == tagPEMCert && len(out) > 1 {
			return nil, errors.New("want PEM of one certificate (555) or of a path (556)")
		}
		return out, nil
	}
	return nil, nil
}

func decodeKey(v Item, out *Key) error {
	tag, content, ok := splitTag(v)
	if !ok {
		return errors.New("a key is a tagged item: " + tagsOfKeyText)
	}
	*out = Key(v)
	switch tag {
	case tagPEMKey, tagPEMCert, tagPEMPath:
		var s string
		return text(content, &s)
	case tagKeyPrint, tagCertPrint, tagPathPrint:
		var d Digest
		return decodeDigest(content, &d)
	case tagBytes, tagDERCert:
		var b []byte
		return byteString(content, &b)
	case tagCOSEKey:
		if k := dcbor.NewReader(content).PeekMajor(); k != 5 && k != 4 {
			return errors.New("a COSE_Key is a map, a COSE_KeySet an array")
		}
	}
	return nil // other types are a profile's: they are equal to themselves only
}
