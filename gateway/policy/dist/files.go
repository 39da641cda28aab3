package dist

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/trustedmcp/tmcp/policy-wasm/signed"
	"github.com/trustedmcp/tmcp/protocol"
)

const maxPEM = 1 << 20 // bytes of a file with keys

// ReadFile reads a file of at most limit bytes, or stdin for "-".
func ReadFile(name string, stdin io.Reader, limit int) ([]byte, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else if name = "stdin"; in == nil {
		return nil, errors.New("there is no stdin to read")
	}
	b, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s: empty", name)
	}
	return b, nil
}

// ReadSignatures reads files of signatures.
func ReadSignatures(names []string, stdin io.Reader) ([][]byte, error) {
	var all [][]byte
	for _, name := range names {
		b, err := ReadFile(name, stdin, signed.MaxSignatures*signed.MaxSignature)
		if err != nil {
			return nil, err
		}
		sigs, err := signed.Split(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, sigs...)
	}
	return all, nil
}

// ReadKeys reads files with public keys, or certificates for the keys in them,
// in PEM: what [signed.Trust] pins as Keys.
func ReadKeys(names []string, stdin io.Reader) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for _, name := range names {
		before := len(keys)
		err := eachPEM(name, stdin, func(b *pem.Block) error {
			var key crypto.PublicKey
			var err error
			switch b.Type {
			case "PUBLIC KEY":
				key, err = x509.ParsePKIXPublicKey(b.Bytes)
			case "CERTIFICATE":
				var c *x509.Certificate
				if c, err = x509.ParseCertificate(b.Bytes); err == nil {
					key = c.PublicKey
				}
			default:
				err = fmt.Errorf("PEM block %.40q: want PUBLIC KEY or CERTIFICATE", b.Type)
			}
			if err == nil {
				_, err = protocol.PublicKeyThumbprint(key)
			}
			keys = append(keys, key)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(keys) == before {
			return nil, fmt.Errorf("%s: no public key in PEM; tmcp keygen --public writes one", name)
		}
	}
	return keys, nil
}

// ReadRoots reads files with certificates in PEM: what [signed.Trust] pins as
// Roots.
func ReadRoots(names []string, stdin io.Reader) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for _, name := range names {
		before := len(roots)
		err := eachPEM(name, stdin, func(b *pem.Block) error {
			if b.Type != "CERTIFICATE" {
				return fmt.Errorf("PEM block %.40q: want CERTIFICATE", b.Type)
			}
			c, err := x509.ParseCertificate(b.Bytes)
			if err == nil && !c.IsCA {
				err = fmt.Errorf("%q is no CA", c.Subject)
			}
			roots = append(roots, c)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(roots) == before {
			return nil, fmt.Errorf("%s: no certificate in PEM", name)
		}
	}
	return roots, nil
}

func eachPEM(name string, stdin io.Reader, f func(*pem.Block) error) error {
	b, err := ReadFile(name, stdin, maxPEM)
	if err != nil {
		return err
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if err := f(block); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// printable makes what a stranger wrote harmless on a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
	const limit = 800
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}
