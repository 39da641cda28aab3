package protocol

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/veraison/go-cose"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// ReportDataSize is the size in bytes of what a TEE binds into its evidence.
const ReportDataSize = sha512.Size

// An Attester makes evidence (RFC 9334): it has the TEE that it runs in bind 64
// bytes. Package evidence has those of real and simulated TEEs. Safe for
// concurrent use.
type Attester interface {
	// Attest returns a CMW (RFC 9999) in CBOR, of at most MaxEvidence bytes: the
	// evidence, with endorsements beside it if it likes, or an attestation result
	// that a verifier made of it (passport). It bounds its own time.
	Attest(ctx context.Context, reportData [ReportDataSize]byte) (cmw []byte, err error)
}

// An Appraiser says whether evidence may be trusted: it verifies it, compares it
// with reference values and asks a policy. Safe for concurrent use.
type Appraiser interface {
	// Appraise fails unless the evidence binds e.ReportData, is genuine and is
	// acceptable. The error tells people which check failed, and why.
	Appraise(ctx context.Context, e Evidence) (*Appraisal, error)
}

// MaxEvidence is the largest evidence in a key object, in bytes.
const MaxEvidence = 120 << 10

// Evidence is what an [Appraiser] is given.
type Evidence struct {
	CMW        []byte               // RFC 9999, CBOR
	ReportData [ReportDataSize]byte // what the evidence must bind; see [Binding]
	Binding    Binding              // what ReportData was made of
	Now        time.Time
}

// An Appraisal is what an [Appraiser] found acceptable.
type Appraisal struct {
	Result    []byte    // the attestation result: an EAR as JWT or CWT, or its claims-set in CBOR; may be nil
	Policy    Digest    // of the policy that decided
	Expires   time.Time // when it must be made anew; zero: as long as the key object
	Simulated bool      // the TEE is a simulation, and proves nothing
	Summary   string    // one line for people
	// Attributes are what was proven of the peer's TEEs, for decisions about its
	// calls: the devices of a policy's document in JSON (spec section 20.5). Nil when
	// the appraiser told no more than its result.
	Attributes []byte
}

// How evidence is shown to be recent (RFC 9334 section 10).
type FreshnessKind uint8

const (
	FreshAt    FreshnessKind = 1 // made at a time, by the attester's clock
	FreshNonce FreshnessKind = 2 // made for a verifier's nonce
	FreshEpoch FreshnessKind = 3 // made in an epoch that both sides know
)

// A Freshness says when evidence was made: [kind, value] in CBOR.
type Freshness struct {
	Kind  FreshnessKind
	At    time.Time // FreshAt, to the second
	Value []byte    // FreshNonce: 8 to 64 bytes; FreshEpoch: 1 to 64 bytes
}

func (f *Freshness) check() error {
	switch {
	case f.Kind == FreshAt && f.Value == nil && f.At.Unix() >= 0:
	case f.Kind == FreshNonce && len(f.Value) >= MinNonce && len(f.Value) <= MaxNonce:
	case f.Kind == FreshEpoch && len(f.Value) >= 1 && len(f.Value) <= MaxNonce:
	default:
		return fail(KeyObjectInvalid, "freshness of kind %d: want a time, a nonce of %d to %d bytes, or an epoch of 1 to %d", f.Kind, MinNonce, MaxNonce, MaxNonce)
	}
	return nil
}

func (f *Freshness) append(b []byte) []byte {
	b = dcbor.AppendUint(dcbor.AppendArray(b, 2), uint64(f.Kind))
	if f.Kind == FreshAt {
		return dcbor.AppendUint(b, uint64(max(f.At.Unix(), 0)))
	}
	return dcbor.AppendBytes(b, f.Value)
}

func (f *Freshness) read(r *dcbor.Reader) {
	r.ArrayN(2)
	if f.Kind = FreshnessKind(min(r.Uint(), 255)); f.Kind == FreshAt {
		f.At = seconds(r)
	} else {
		f.Value = bytes.Clone(r.Bytes())
	}
}

// A Binding is what evidence is made over: all that a verifier must be sure
// of about the attested key.
type Binding struct {
	Role      Role
	Identity  string
	Key       []byte // COSE_Key of the attested key, deterministic CBOR
	Config    []byte // digest of the configuration, 32 bytes, or nil
	Freshness Freshness
}

// NewBinding binds an attested public key, Ed25519 or ECDSA.
func NewBinding(role Role, identity string, key crypto.PublicKey, config []byte, f Freshness) (*Binding, error) {
	b, err := appendCOSEKey(nil, key)
	if err != nil {
		return nil, err
	}
	if config != nil && len(config) != len(Digest{}) {
		return nil, fail(KeyObjectInvalid, "a configuration digest of %d bytes, want %d", len(config), len(Digest{}))
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return &Binding{role, identity, b, config, f}, nil
}

// ReportData is what the TEE binds: SHA-512 over the deterministic CBOR array
// [label "report data", role, identity, attested key as COSE_Key, configuration
// digest or null, [freshness kind, value]] (spec section 18.2). Every member is
// length-framed, so no two bindings have the same bytes.
func (b *Binding) ReportData() [ReportDataSize]byte {
	// TMCP-18.2-1: Report data MUST be computed over the role, the identity, the attested key,
	// the configuration digest and the freshness, as above.
	e := dcbor.AppendArray(nil, 6)
	e = dcbor.AppendText(e, labelReportData)
	e = dcbor.AppendUint(e, uint64(b.Role))
	e = dcbor.AppendText(e, b.Identity)
	e = append(e, b.Key...)
	if b.Config == nil {
		e = dcbor.AppendNull(e)
	} else {
		e = dcbor.AppendBytes(e, b.Config)
	}
	return sha512.Sum512(b.Freshness.append(e))
}

// An Attestation says how a party attests itself.
type Attestation struct {
	Attester Attester // required
	// Config is the digest of what is configured after measurement: environment,
	// flags, files. 32 bytes, or nil.
	Config []byte
	// Interval is how old evidence may become before it is made anew, with a new
	// attested key. Default an hour.
	Interval time.Duration
	// Epoch, if not nil, tells the current epoch id (1 to 64 bytes), which then
	// stands in evidence in place of the time. Evidence is renewed when it changes.
	Epoch func() []byte
}

const (
	defaultInterval = time.Hour
	// maxLate is left of the usual patience for key objects that are made with
	// evidence which is late.
	maxLate = 15 * time.Minute
	// attestPause is how long a failed attester is left alone.
	attestPause = 5 * time.Second
)

// attestor keeps an attested key and its evidence.
type attestor struct {
	cfg      Attestation
	role     Role
	identity string

	mu     sync.Mutex
	cur    *attested
	failed error
	retry  time.Time
	quotes tokenBucket
}

// attested is a key made in the TEE, with evidence of that.
type attested struct {
	signer   keySigner
	public   ed25519.PublicKey
	binding  *Binding
	evidence []byte
	made     time.Time
}

func newAttestor(cfg *Attestation, role Role, identity string) (*attestor, error) {
	if cfg == nil {
		return nil, nil
	}
	if cfg.Attester == nil {
		return nil, fail(KeyObjectInvalid, "an attestation needs an attester")
	}
	if cfg.Config != nil && len(cfg.Config) != len(Digest{}) {
		return nil, fail(KeyObjectInvalid, "a configuration digest of %d bytes, want %d", len(cfg.Config), len(Digest{}))
	}
	a := &attestor{cfg: *cfg, role: role, identity: identity, quotes: tokenBucket{rate: quoteRate, burst: quoteBurst}}
	if a.cfg.Interval <= 0 {
		a.cfg.Interval = defaultInterval
	}
	return a, nil
}

// current returns the attested key with evidence that is young enough.
func (a *attestor) current(now time.Time) (*attested, error) {
	if a == nil {
		return nil, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := Freshness{Kind: FreshAt, At: now.Truncate(time.Second)}
	if a.cfg.Epoch != nil {
		fresh = Freshness{Kind: FreshEpoch, Value: slices.Clone(a.cfg.Epoch())}
	}
	// TMCP-18.3-1: A holder SHOULD make new evidence, with a new attested key, once an hour.
	if c := a.cur; c != nil && now.Sub(c.made) < a.cfg.Interval && !now.Before(c.made) &&
		(a.cfg.Epoch == nil || bytes.Equal(c.binding.Freshness.Value, fresh.Value)) {
		return c, nil
	}
	if a.failed != nil && now.Before(a.retry) {
		return a.late(now, a.failed)
	}
	c, err := a.make(fresh, now)
	if err != nil {
		a.failed, a.retry = err, now.Add(attestPause)
		return a.late(now, err)
	}
	a.cur, a.failed = c, nil
	return c, nil
}

// late is the evidence that should have been renewed, while verifiers with the
// usual patience still take it: a TEE, or whoever appraises for a passport, may be
// away for a while.
func (a *attestor) late(now time.Time, err error) (*attested, error) {
	if c := a.cur; c != nil && a.cfg.Epoch == nil && !now.Before(c.made) && now.Sub(c.made) < 2*a.cfg.Interval-maxLate {
		return c, nil
	}
	return nil, err
}

// make makes a key and evidence for it.
func (a *attestor) make(fresh Freshness, now time.Time) (*attested, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fail(CannotAttest, "%v", err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmEdDSA, private)
	if err != nil {
		return nil, fail(CannotAttest, "%v", err)
	}
	c := &attested{signer: keySigner{cose.AlgorithmEdDSA, signer}, public: public, made: now}
	return c, a.quote(c, fresh)
}

// quote has the TEE bind c's key, and puts the evidence into c.
func (a *attestor) quote(c *attested, fresh Freshness) error {
	var err error
	if c.binding, err = NewBinding(a.role, a.identity, c.public, a.cfg.Config, fresh); err != nil {
		return err
	}
	evidence, err := a.cfg.Attester.Attest(context.Background(), c.binding.ReportData())
	if err != nil {
		return &Error{Reason: CannotAttest, Detail: "the TEE gives no evidence: " + err.Error(), cause: err}
	}
	r := dcbor.NewReader(evidence)
	r.Skip()
	if err := r.Done(); err != nil || len(evidence) > MaxEvidence {
		return fail(CannotAttest, "the attester gave %d bytes that are no deterministic CBOR item of at most %d: %v", len(evidence), MaxEvidence, err)
	}
	c.evidence = evidence
	return nil
}

// forNonce makes evidence for a peer's nonce, with the current attested key.
func (a *attestor) forNonce(nonce []byte, now time.Time) (*attested, error) {
	cur, err := a.current(now)
	if err != nil {
		return nil, err
	}
	// TMCP-18.3-4: A server MUST bound the rate at which it makes evidence for nonces, and answer
	// above that with `busy`.
	if !a.quotes.take(now) {
		return nil, fail(Busy, "more than %d quotes for nonces in a second; ask for a key object without new evidence, or try again", quoteRate)
	}
	c := *cur
	return &c, a.quote(&c, Freshness{Kind: FreshNonce, Value: slices.Clone(nonce)})
}

// put writes the attested key into claims.
func (a *attested) put(c *claims) {
	if a == nil {
		return
	}
	c.attestedKey, c.evidence = a.binding.Key, a.evidence
	c.config, c.freshness = a.binding.Config, &a.binding.Freshness
}

func (a *attested) keySigner() *keySigner {
	if a == nil {
		return nil
	}
	return &a.signer
}

// appraise judges the evidence of claims whose signatures are good, and returns
// what was found and until when it holds.
func appraise(c *claims, want *Expect) (*Appraisal, time.Time, error) {
	expires := c.expires
	f := c.freshness
	switch f.Kind {
	case FreshAt:
		// TMCP-18.3-2: A verifier MUST refuse evidence of kind 1 that is older than its policy
		// allows, or made more than 60 seconds ahead of its clock, with `evidence-stale`.
		maxAge := want.MaxEvidenceAge
		if maxAge <= 0 {
			maxAge = defaultMaxAge
		}
		if f.At.After(want.Now.Add(clockSkew)) {
			return nil, expires, fail(EvidenceStale, "evidence made at %s, now is %s", stamp(f.At), stamp(want.Now))
		}
		over := f.At.Add(maxAge)
		if !want.Now.Before(over) {
			return nil, expires, fail(EvidenceStale, "evidence made at %s is older than %v; the holder must renew it", stamp(f.At), maxAge)
		}
		if over.Before(expires) {
			expires = over
		}
	case FreshNonce:
		// TMCP-18.3-3: A verifier MUST refuse evidence of kind 2 for a nonce that is not the one
		// it sent for this key object, with `evidence-stale`.
		if want.Nonce == nil || !bytes.Equal(f.Value, want.Nonce) {
			return nil, expires, fail(EvidenceStale, "the evidence was made for another verifier's nonce")
		}
	case FreshEpoch:
		// TMCP-18.3-5: A verifier MUST refuse evidence of kind 3 of an epoch that its policy does
		// not name, with `evidence-stale`.
		if !slices.ContainsFunc(want.Epochs, func(e []byte) bool { return bytes.Equal(e, f.Value) }) {
			return nil, expires, fail(EvidenceStale, "the evidence is of epoch %x, which is not one of the %d accepted", f.Value, len(want.Epochs))
		}
	}
	if want.FreshEvidence && f.Kind != FreshNonce {
		return nil, expires, fail(EvidenceStale, "evidence for the nonce that was sent is demanded")
	}
	b := Binding{Role: c.role, Identity: c.identity, Key: c.attestedKey, Config: c.config, Freshness: *f}
	ctx := want.Context
	if ctx == nil {
		ctx = context.Background()
	}
	a, err := want.Appraiser.Appraise(ctx, Evidence{CMW: c.evidence, ReportData: b.ReportData(), Binding: b, Now: want.Now})
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return nil, expires, e
		}
		return nil, expires, &Error{Reason: EvidenceRefused, Detail: err.Error(), cause: err}
	}
	if a == nil {
		return nil, expires, fail(EvidenceRefused, "the appraiser gave no result")
	}
	if !a.Expires.IsZero() && a.Expires.Before(expires) {
		expires = a.Expires
	}
	if !want.Now.Before(expires) {
		return nil, expires, fail(EvidenceStale, "the attestation result is over since %s", stamp(expires))
	}
	return a, expires, nil
}

// defaultMaxAge is how old evidence may be: twice the interval at which holders
// renew it.
const defaultMaxAge = 2 * defaultInterval
