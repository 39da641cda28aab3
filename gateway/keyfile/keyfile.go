// Package keyfile keeps identity keys and certificate chains in PEM files.
// [Generate] and [Save] make one, [Load] reads it back, and [LoadIdentity] is
// what a server needs of them.
package keyfile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/trustedmcp/tmcp/protocol"
)

// Algorithms that Generate knows; the first is the default.
var Algorithms = []string{"ed25519", "p256", "p384"}

// Generate makes a private key.
func Generate(alg string) (crypto.Signer, error) {
	switch alg {
	case "", "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("algorithm %q is not one of %v", alg, Algorithms)
}

// Save writes key to a new file that only its owner can read. It never
// overwrites.
func Save(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return saveOwn(path, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// saveOwn writes a new file that only its owner can read.
func saveOwn(path string, block *pem.Block) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; choose another --out, or remove it first", path)
	}
	if err != nil {
		return err
	}
	if err := pem.Encode(f, block); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// SavePublic writes a public key to a new file, as PEM. It never overwrites.
func SavePublic(path string, key crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; choose another --public, or remove it first", path)
	}
	if err != nil {
		return err
	}
	if err := pem.Encode(f, &pem.Block{Type: "PUBLIC KEY", Bytes: der}); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

const maxKeyFile = 64 << 10 // bytes

// Load reads a private key in PKCS #8 PEM. A file that others can read is
// refused: whoever read it can speak for the identity.
func Load(path string) (crypto.Signer, error) {
	b, err := readOwn(path, "tmcp keygen --out "+path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no PKCS #8 PEM block \"PRIVATE KEY\"; make one with tmcp keygen", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T can't sign", path, parsed)
	}
	return key, nil
}

// readOwn reads a file that only its owner can read. fix is how to make one.
func readOwn(path, fix string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; make one with: %s", err, fix)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what is read, not of what the name means a moment before
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 on it", path, info.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// LoadChain reads certificates in PEM, leaf first.
func LoadChain(path string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s holds no PEM block \"CERTIFICATE\"", path)
	}
	return chain, nil
}

// LoadIdentity makes the identity of uri from a key file and, unless empty, a
// chain file. Without a key file the key is new, and lost with the process.
func LoadIdentity(uri, keyPath, chainPath string) (id *protocol.Identity, ephemeral bool, err error) {
	var key crypto.Signer
	if keyPath == "" {
		if chainPath != "" {
			return nil, false, errors.New("a certificate chain needs its private key: give --identity-key")
		}
		if key, err = Generate(""); err != nil {
			return nil, false, err
		}
	} else if key, err = Load(keyPath); err != nil {
		return nil, false, err
	}
	var chain []*x509.Certificate
	if chainPath != "" {
		if chain, err = LoadChain(chainPath); err != nil {
			return nil, false, err
		}
	}
	id, err = protocol.NewIdentity(uri, key, chain...)
	return id, keyPath == "", err
}
