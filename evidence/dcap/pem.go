package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

const maxChain = 4 // certificates; all chains of DCAP have two or three

const pemBegin, pemEnd = "-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----"

// splitPEM returns the DER of the certificates in text. The text must be as RFC
// 7468 has it written: blocks of lines of 64 characters that end in LF, one
// after the other, so that no two texts carry the same chain. Only what follows
// the last block may be a newline and one NUL, as quoting libraries write it.
func splitPEM(text []byte) (ders [][]byte, err error) {
	for {
		body, ok := bytes.CutPrefix(text, []byte(pemBegin))
		n := bytes.Index(body, []byte(pemEnd))
		if !ok || n < 0 {
			return nil, errors.New("the certificate chain is not a sequence of PEM certificates")
		}
		der, ok := unfold(body[:n])
		if !ok {
			return nil, errors.New("the certificate chain's PEM is not as usually written: want base64 in lines of 64 characters that end in LF")
		}
		if ders = append(ders, der); len(ders) > maxChain {
			return nil, fmt.Errorf("the certificate chain has more than %d certificates", maxChain)
		}
		text = body[n+len(pemEnd):]
		switch string(text) {
		case "", "\n", "\x00", "\n\x00":
			return ders, nil
		}
		if text[0] != '\n' {
			return nil, errors.New("the certificate chain's PEM has something else between or after its blocks")
		}
		text = text[1:]
	}
}

// unfold decodes the lines of a PEM block.
func unfold(lines []byte) (der []byte, ok bool) {
	if len(lines) > 64<<10 {
		return nil, false
	}
	b64 := make([]byte, 0, len(lines))
	for len(lines) > 65 {
		if lines[64] != '\n' {
			return nil, false
		}
		b64 = append(b64, lines[:64]...)
		lines = lines[65:]
	}
	if b64 = append(b64, lines...); len(lines) > 64 || bytes.ContainsAny(b64, "\r\n") {
		return nil, false
	}
	n, err := base64.StdEncoding.Strict().Decode(b64, b64)
	return b64[:n], err == nil
}

// normalPEM makes text of collateral, which nobody signs, fit for [splitPEM]:
// tools write CRLF, and empty lines at the end.
func normalPEM(text []byte) []byte {
	return bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
}

// issued checks that child is a certificate of issuer: names, basic constraints,
// key usage, signature, and ECDSA with P-256 and SHA-256 throughout.
func issued(child, issuer *x509.Certificate) error {
	switch {
	case !bytes.Equal(child.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("%q was issued by %q, not by %q", child.Subject.CommonName, child.Issuer.CommonName, issuer.Subject.CommonName)
	case child.SignatureAlgorithm != x509.ECDSAWithSHA256 || p256(child) == nil || p256(issuer) == nil:
		return fmt.Errorf("%q is not ECDSA with P-256 and SHA-256", child.Subject.CommonName)
	case len(child.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("%q has an unknown critical extension %v", child.Subject.CommonName, child.UnhandledCriticalExtensions[0])
	}
	if err := child.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("%q is not signed by %q: %v", child.Subject.CommonName, issuer.Subject.CommonName, err)
	}
	return nil
}

// p256 returns the certificate's key, or nil if it is of another kind.
func p256(c *x509.Certificate) *ecdsa.PublicKey {
	if k, ok := c.PublicKey.(*ecdsa.PublicKey); ok && k.Curve == elliptic.P256() {
		return k
	}
	return nil
}

// verifyRaw verifies a signature r ‖ s (32 bytes each, big endian) over data. It
// refuses r and s outside 1..n-1.
func verifyRaw(key *ecdsa.PublicKey, data, sig []byte) bool {
	if key == nil || len(sig) != sigSize {
		return false
	}
	digest := sha256.Sum256(data)
	// SEQUENCE { INTEGER r, INTEGER s }; VerifyASN1 checks their range.
	der := make([]byte, 2, 72)
	for _, n := range [2][]byte{sig[:32], sig[32:]} {
		n = bytes.TrimLeft(n, "\x00")
		if len(n) == 0 {
			return false
		}
		if n[0]&0x80 != 0 {
			der = append(der, 2, byte(len(n)+1), 0)
		} else {
			der = append(der, 2, byte(len(n)))
		}
		der = append(der, n...)
	}
	der[0], der[1] = 0x30, byte(len(der)-2)
	return ecdsa.VerifyASN1(key, digest[:], der)
}

// A window is from when to when something holds: from <= t < to.
type window struct{ from, to time.Time }

func (w window) check(what string, now time.Time) error {
	if now.Before(w.from) {
		return fmt.Errorf("%s holds from %s, which is after %s", what, stamp(w.from), stamp(now))
	}
	if !now.Before(w.to) {
		return fmt.Errorf("%s held until %s, which is not after %s", what, stamp(w.to), stamp(now))
	}
	return nil
}

// meet narrows w to where o holds too.
func (w *window) meet(o window) {
	if w.from.IsZero() || o.from.After(w.from) {
		w.from = o.from
	}
	if w.to.IsZero() || o.to.Before(w.to) {
		w.to = o.to
	}
}

// certWindow is the validity of a certificate. X.509 counts the last second in
// (RFC 5280, section 4.1.2.5).
func certWindow(c *x509.Certificate) window {
	return window{c.NotBefore, c.NotAfter.Add(time.Second)}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
