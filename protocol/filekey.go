package protocol

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Names of what is sealed for later (spec chapter "Files"). They differ from those
// of calls throughout, so a key object for files is refused where one for calls
// is wanted, and the other way round.
const (
	// FileKeyProfile is the EAT profile of a file key object's claims-set.
	FileKeyProfile = "tag:trustedmcp.org,2026:file-key-1"
	// FileSenderProfile is the EAT profile of a sender's statement.
	FileSenderProfile = "tag:trustedmcp.org,2026:file-sender-1"

	labelFileKey     = label + "file key"
	labelFileSender  = label + "file sender"
	labelFilePrivate = label + "file private key"
	labelFileSecret  = label + "file secret"

	mediaTypeFileKeyCOSE    = "application/vnd.trustedmcp.file-key+cose"
	mediaTypeFileSenderCOSE = "application/vnd.trustedmcp.file-sender+cose"
)

const (
	// MaxFileValidity is how long a file key object is valid at most.
	MaxFileValidity     = 366 * 24 * time.Hour
	defaultFileValidity = 90 * 24 * time.Hour
	// A sender's statement is as old as its file, which may be opened at any time.
	statementValidity = 100 * 366 * 24 * time.Hour

	maxFileKey = 16 << 10 // bytes
)

var (
	forFiles   = &purpose{mediaTypeFileKeyCOSE, labelFileKey, FileKeyProfile, 0, MaxFileValidity}
	forSenders = &purpose{mediaTypeFileSenderCOSE, labelFileSender, FileSenderProfile, claimSealing, statementValidity}
)

// A FileKey is the private key that opens what is sealed to an identity for
// later. Unlike the keys of calls it is kept, by the recipient, for as long as its
// files are to be opened: whoever gets hold of it reads them all. It has the
// hybrid suite only, because files are what is worth recording until there are
// quantum computers. Immutable.
type FileKey struct {
	identity string
	private  hpke.PrivateKey
}

// GenerateFileKey makes a key that opens what is sealed to identity, the URI by
// which senders know the recipient.
func GenerateFileKey(identity string) (*FileKey, error) {
	if err := checkURI(identity); err != nil {
		return nil, err
	}
	private, err := SuiteHybrid.kem().GenerateKey()
	if err != nil {
		return nil, fail(KeyObjectInvalid, "file key: %v", err)
	}
	return &FileKey{identity, private}, nil
}

// Identity is the URI that the key belongs to.
func (k *FileKey) Identity() string { return k.identity }

// Bytes is the private key as it is kept, secret: the deterministic CBOR array
// of the label "org.trustedmcp/trust v1 file private key", the identity, the suite
// and the private key in its KEM's encoding.
func (k *FileKey) Bytes() ([]byte, error) {
	private, err := k.private.Bytes()
	if err != nil {
		return nil, fail(KeyObjectInvalid, "file key: %v", err)
	}
	b := dcbor.AppendText(dcbor.AppendArray(nil, 4), labelFilePrivate)
	b = dcbor.AppendText(b, k.identity)
	b = dcbor.AppendUint(b, uint64(SuiteHybrid))
	return dcbor.AppendBytes(b, private), nil
}

// ParseFileKey reads what [FileKey.Bytes] writes.
func ParseFileKey(b []byte) (*FileKey, error) {
	if len(b) > maxFileKey {
		return nil, fail(KeyObjectInvalid, "a file key of %d bytes, the limit is %d", len(b), maxFileKey)
	}
	r := dcbor.NewReader(b)
	r.ArrayN(4)
	if name := r.Text(); r.Err() == nil && name != labelFilePrivate {
		return nil, fail(KeyObjectInvalid, "not a file key: it is labelled %.80q", name)
	}
	k := &FileKey{identity: r.Text()}
	suite, private := r.Uint(), r.Bytes()
	if err := r.Done(); err != nil {
		return nil, fail(KeyObjectInvalid, "file key: %v", err)
	}
	if suite != uint64(SuiteHybrid) {
		return nil, fail(UnsupportedSuite, "a file key of suite %d, want %d", suite, SuiteHybrid)
	}
	if err := checkURI(k.identity); err != nil {
		return nil, err
	}
	var err error
	if k.private, err = SuiteHybrid.kem().NewPrivateKey(private); err != nil {
		return nil, fail(KeyObjectInvalid, "file key: %v", err)
	}
	return k, nil
}

// A FileKeyConfig says who signs the key object of a file key.
type FileKeyConfig struct {
	Identity *Identity // required; its URI must be the file key's
	// Validity is how long files may be sealed to the object. Default 90 days, at
	// most 366. What was sealed opens for as long as the file key is kept.
	Validity time.Duration
	// Attestation, if not nil, adds evidence of where the object was made. What it
	// proves of the file key depends on that code: see spec section 24.2.
	Attestation *Attestation
}

// Object makes a key object for files: what senders need. It is no secret; anyone
// may keep it and pass it on. It is refused wherever one for calls is wanted.
func (k *FileKey) Object(cfg FileKeyConfig, now time.Time) ([]byte, error) {
	if cfg.Identity == nil {
		return nil, fail(KeyObjectInvalid, "a key object needs an identity that signs it")
	}
	if cfg.Identity.uri != k.identity {
		return nil, fail(IdentityMismatch, "the file key is of %.200q, and the signer is %.200q; make a file key for that identity", k.identity, cfg.Identity.uri)
	}
	if cfg.Validity == 0 {
		cfg.Validity = defaultFileValidity
	}
	if cfg.Validity < time.Minute || cfg.Validity > MaxFileValidity {
		return nil, fail(KeyObjectInvalid, "validity %v is not between a minute and %v", cfg.Validity, MaxFileValidity)
	}
	c := claims{
		purpose: forFiles, identity: k.identity, role: RoleServer, profile: ProfileIdentity,
		notBefore: now.Truncate(time.Second), issued: now,
		keys: []hpkeKey{{SuiteHybrid, k.private.PublicKey()}},
	}
	c.expires = c.notBefore.Add(cfg.Validity.Truncate(time.Second))
	att, err := newAttestor(cfg.Attestation, RoleServer, k.identity)
	if err != nil {
		return nil, err
	}
	a, err := att.current(now)
	if err != nil {
		return nil, err
	}
	if a != nil {
		c.profile = ProfileAttested
		a.put(&c)
	}
	if err := c.nameIdentity(cfg.Identity); err != nil {
		return nil, err
	}
	return c.sign(cfg.Identity, a.keySigner())
}

// nameIdentity puts a bare identity key into claims.
func (c *claims) nameIdentity(id *Identity) (err error) {
	if len(id.chain) == 0 {
		c.identityKey, err = appendCOSEKey(nil, id.public)
	}
	return err
}

// A FileRecipient is to whom files may be sealed, as its verified key object
// describes it. It can only be had from [VerifyFileKeyObject]. Immutable.
type FileRecipient struct{ p *Peer } // no Peer itself: calls are never sealed to it

// Identity is the recipient's URI.
func (r *FileRecipient) Identity() string { return r.p.Identity() }

// Thumbprint names the identity key; zero for RSA.
func (r *FileRecipient) Thumbprint() Thumbprint { return r.p.thumb }

// Profile is what the recipient proved; see [Peer.Profile].
func (r *FileRecipient) Profile() Profile { return r.p.proven }

// Appraisal is what was found of the recipient's evidence, or nil.
func (r *FileRecipient) Appraisal() *Appraisal { return r.p.appraisal }

// Expires is the first moment at which nothing may be sealed to the key object.
func (r *FileRecipient) Expires() time.Time { return r.p.expires }

// KeyDigest is the digest of the key object; see [KeyDigest].
func (r *FileRecipient) KeyDigest() Digest { return r.p.digest }

// VerifyFileKeyObject accepts a key object for files, or says why not, as
// [VerifyKeyObject] does for one of calls. want.Settings is not looked at.
func VerifyFileKeyObject(object []byte, want Expect) (*FileRecipient, error) {
	want.Settings, want.Role = nil, RoleServer
	p, err := verifyObject(object, want, forFiles)
	if err != nil {
		return nil, err
	}
	return &FileRecipient{p}, nil
}

// FileSecretSize is the size in bytes of a secret of a sealed file.
const FileSecretSize = 32

// A FileSecret is what the two ends of a sealed file share. Each is used for one
// file only.
type FileSecret [FileSecretSize]byte

// NewFileSecret makes a secret that only the recipient's file key can make again,
// from enc and the same info: HPKE (RFC 9180) base mode, suite 1, over info. enc
// has 1120 bytes.
func (r *FileRecipient) NewFileSecret(info []byte) (enc []byte, secret FileSecret, err error) {
	enc, s, err := hpke.NewSender(r.p.key(SuiteHybrid), SuiteHybrid.kdf(), SuiteHybrid.aead(), info)
	if err != nil {
		return nil, secret, fail(CannotSeal, "%v", err)
	}
	b, err := s.Export(labelFileSecret, FileSecretSize)
	if err != nil {
		return nil, secret, fail(CannotSeal, "%v", err)
	}
	return enc, FileSecret(b), nil
}

// FileSecret makes the secret again that [FileRecipient.NewFileSecret] made. Of an
// enc that was made for another key, or with another info, it makes another
// secret.
func (k *FileKey) FileSecret(enc, info []byte) (secret FileSecret, err error) {
	r, err := hpke.NewRecipient(enc, k.private, SuiteHybrid.kdf(), SuiteHybrid.aead(), info)
	if err != nil {
		return secret, fail(OpenFailed, "%v", err)
	}
	b, err := r.Export(labelFileSecret, FileSecretSize)
	if err != nil {
		return secret, fail(OpenFailed, "%v", err)
	}
	return FileSecret(b), nil
}

// Derive derives n bytes from the secret: HKDF-SHA256 (RFC 5869) without a salt.
func (s *FileSecret) Derive(info string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, s[:], nil, info, n)
}

// SignSealing makes a sender's statement: id sealed what sealing is the digest of.
// It is a COSE_Sign like a key object, and never one.
func SignSealing(id *Identity, sealing Digest, now time.Time) ([]byte, error) {
	c := claims{
		purpose: forSenders, identity: id.uri, role: RoleClient, profile: ProfileIdentity,
		notBefore: now.Truncate(time.Second), issued: now, settings: sealing,
	}
	c.expires = c.notBefore.Add(statementValidity)
	if err := c.nameIdentity(id); err != nil {
		return nil, err
	}
	return c.sign(id, nil)
}

// A FileSender is who sealed a file, as a verified statement says.
type FileSender struct {
	Identity   string
	Thumbprint Thumbprint // of the identity key; zero for RSA
	At         time.Time  // when, by the sender's clock
}

// VerifySealing accepts a sender's statement about sealing, or says why not. Of
// want only Identity, Anchor and Now are looked at; certificates must be good at
// Now, not when the file was sealed. The error is an [Error].
func VerifySealing(statement []byte, sealing Digest, want Expect) (*FileSender, error) {
	p, err := verifyObject(statement, Expect{Identity: want.Identity, Anchor: want.Anchor, Now: want.Now, Role: RoleClient}, forSenders)
	if err != nil {
		return nil, err
	}
	if p.c.settings != sealing {
		return nil, fail(SignatureInvalid, "the sender's statement is about another sealing")
	}
	return &FileSender{p.c.identity, p.thumb, p.c.issued}, nil
}
