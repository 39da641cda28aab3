package aicc

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
)

const (
	minKeyBits = 2048
	maxKeyBits = 8192
	// maxPEM bounds a key file, in bytes.
	maxPEM = 64 << 10
)

// ParsePrivateKey reads the first PEM block of a file that holds an RSA private
// key: PKCS #1 ("RSA PRIVATE KEY", as the deployed package writes) or PKCS #8
// ("PRIVATE KEY"), not encrypted, of 2048 to 8192 bits.
func ParsePrivateKey(text []byte) (*rsa.PrivateKey, error) {
	b, err := block(text)
	if err != nil {
		return nil, err
	}
	var key any
	switch b.Type {
	case "RSA PRIVATE KEY":
		if b.Headers["DEK-Info"] != "" {
			return nil, Errorf(WeakKey, "the private key is encrypted; decrypt it first")
		}
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return nil, Errorf(WeakKey, "the file holds a public key (PEM %q) where the private key is needed", b.Type)
	default:
		return nil, Errorf(WeakKey, "PEM %.40q is no private key: want RSA PRIVATE KEY or PRIVATE KEY, unencrypted", b.Type)
	}
	if err != nil {
		return nil, Errorf(WeakKey, "the private key can't be read: %v", err)
	}
	priv, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, Errorf(WeakKey, "the private key is not an RSA key")
	}
	if err := checkKey(&priv.PublicKey); err != nil {
		return nil, err
	}
	return priv, nil
}

// ParsePublicKey reads the first PEM block of a file that holds an RSA public
// key: SubjectPublicKeyInfo ("PUBLIC KEY", as the deployed package writes) or PKCS
// #1 ("RSA PUBLIC KEY"), of 2048 to 8192 bits.
func ParsePublicKey(text []byte) (*rsa.PublicKey, error) {
	b, err := block(text)
	if err != nil {
		return nil, err
	}
	var key any
	switch b.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(b.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(b.Bytes)
	case "PRIVATE KEY", "RSA PRIVATE KEY":
		return nil, Errorf(WeakKey, "the file holds a private key (PEM %q), which belongs to the server alone; give the client the public key", b.Type)
	default:
		return nil, Errorf(WeakKey, "PEM %.40q is no public key: want PUBLIC KEY or RSA PUBLIC KEY", b.Type)
	}
	if err != nil {
		return nil, Errorf(WeakKey, "the public key can't be read: %v", err)
	}
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, Errorf(WeakKey, "the public key is not an RSA key")
	}
	if err := checkKey(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

func block(text []byte) (*pem.Block, error) {
	if len(text) > maxPEM {
		return nil, Errorf(TooLarge, "a key file of %d bytes, the limit is %d", len(text), maxPEM)
	}
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, Errorf(WeakKey, "the file holds no PEM block")
	}
	return b, nil
}

func checkKey(pub *rsa.PublicKey) error {
	if pub == nil || pub.N == nil {
		return Errorf(NoKey, "there is no public key")
	}
	if n := pub.N.BitLen(); n < minKeyBits || n > maxKeyBits || n%8 != 0 {
		return Errorf(WeakKey, "an RSA key of %d bits: want %d to %d, a multiple of 8", n, minKeyBits, maxKeyBits)
	}
	// A huge or tiny exponent makes sealing slow or pointless.
	if pub.E < 3 || pub.E%2 == 0 {
		return Errorf(WeakKey, "an RSA key with the public exponent %d", pub.E)
	}
	return nil
}

// MarshalPublicKey writes the key as the PEM that the deployed package reads
// (SubjectPublicKeyInfo).
func MarshalPublicKey(pub *rsa.PublicKey) ([]byte, error) {
	if err := checkKey(pub); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, Errorf(WeakKey, "%v", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// MarshalPrivateKey writes the key as the PEM that the deployed package reads
// and writes (PKCS #1).
func MarshalPrivateKey(priv *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(priv)})
}

// Thumbprint names a public key for people and logs: the SHA-256 of its
// SubjectPublicKeyInfo, in hexadecimal.
func Thumbprint(pub *rsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	d := sha256.Sum256(der)
	return hex.EncodeToString(d[:])
}
