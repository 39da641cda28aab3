package x509ev

import (
	"context"
	"crypto"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// A Subject is what a certificate is to be attested for.
type Subject struct {
	Role     protocol.Role
	Identity string // the URI that peers dial; not bound by form TaggedQuote
	Key      crypto.PublicKey
	// NotBefore must become the certificate's: the CMW forms bind it, to the
	// second, as the time at which the evidence was made.
	NotBefore time.Time
	// Nonce of a verifier, with form TaggedQuote only; optional.
	Nonce []byte
}

// Attest has the attester bind a certificate's key, and returns the extension,
// not critical, for the certificate's template. Form Gramine is not written.
func Attest(ctx context.Context, a protocol.Attester, form Form, s Subject) (pkix.Extension, error) {
	var none pkix.Extension
	switch form {
	case CMW, DICECMW:
		if s.Nonce != nil {
			return none, fmt.Errorf("form %s has no place for a nonce", form)
		}
		b, err := binding(s.Role, s.Identity, s.Key, s.NotBefore)
		if err != nil {
			return none, err
		}
		w, err := a.Attest(ctx, b.ReportData())
		if err != nil {
			return none, err
		}
		return wrap(form, w)
	case TaggedQuote:
		return attestTagged(ctx, a, s)
	}
	return none, fmt.Errorf("form %q can't be written; %s, %s and %s can", form, CMW, DICECMW, TaggedQuote)
}

// wrap puts a CMW into an extension.
func wrap(form Form, w []byte) (pkix.Extension, error) {
	var none pkix.Extension
	c, err := cmw.Parse(w)
	if err != nil {
		return none, fmt.Errorf("the attester's CMW: %w", err)
	}
	if form == DICECMW {
		if c.Collection != nil {
			return none, fmt.Errorf("the attester made a CMW collection, which TCG's extension does not allow: use form %s", CMW)
		}
		return pkix.Extension{Id: OIDDICE, Value: w}, nil
	}
	der, err := cmw.EncodeExtension(w)
	if err != nil {
		return none, err
	}
	return pkix.Extension{Id: OIDCMW, Value: der}, nil
}

func attestTagged(ctx context.Context, a protocol.Attester, s Subject) (pkix.Extension, error) {
	var none pkix.Extension
	spki, err := spkiOf(s.Key)
	if err != nil {
		return none, err
	}
	claims := appendClaims(nil, spki, s.Nonce)
	w, err := a.Attest(ctx, padded(claims))
	if err != nil {
		return none, err
	}
	quote, err := soleQuote(w)
	if err != nil {
		return none, err
	}
	b := dcbor.AppendTag(nil, tagQuote)
	b = dcbor.AppendArray(b, 2)
	b = dcbor.AppendBytes(b, quote)
	return pkix.Extension{Id: OIDDICE, Value: dcbor.AppendBytes(b, claims)}, nil
}

// soleQuote finds the one quote of a CMW. Endorsements beside it are left out;
// more evidence can't be.
func soleQuote(w []byte) ([]byte, error) {
	c, err := cmw.Parse(w)
	if err != nil {
		return nil, fmt.Errorf("the attester's CMW: %w", err)
	}
	found, err := items(c)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || found[0].MediaType != evidence.TypeTDX && found[0].MediaType != evidence.TypeSGX {
		return nil, errors.New("CBOR tag 60000 holds one quote of TDX or SGX; for what this attester makes use form " + string(CMW))
	}
	return found[0].Value, nil
}
