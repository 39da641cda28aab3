package protocol

import (
	"crypto/cipher"
	"crypto/hpke"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A Client seals messages to one verified [Peer]. Make one per key object with
// [NewClient]; when the peer's key object is renewed, make another. Safe for
// concurrent use.
//
// The first messages each carry their own encapsulated key; once an answer has
// shown that the server holds the context, later messages use that context and
// cost two AEAD operations.
type Client struct {
	peer     *Peer
	settings *Settings
	suite    Suite
	pad      bool
	holder   *ClientHolder // nil: no key object of its own

	mu       sync.Mutex
	contexts map[string]*clientContext // confirmed, by revision of the inner messages
	shown    Digest                    // the key object of ours that the server has seen
}

// maxClientContexts bounds the revisions that a client keeps a context for.
const maxClientContexts = 8

// clientContext is the client's half of a context.
type clientContext struct {
	keys     contextKeys
	revision string
	request  cipher.AEAD
	seq      atomic.Uint64 // the last one used
	mine     *clientObject // the key object that was shown, or nil

	mu          sync.Mutex
	salt        [saltLen]byte
	answer      cipher.AEAD // for salt; nil before the first answer
	answerNonce [nonceLen]byte
}

// A ClientOption changes a Client.
type ClientOption func(*Client)

// PadRequests pads requests to buckets, so that their length tells less.
func PadRequests() ClientOption { return func(c *Client) { c.pad = true } }

// NewClient prepares to seal to peer. settings are this side's own; the suite is
// the one of them that is most preferred and that the peer has too.
func NewClient(peer *Peer, settings *Settings, opts ...ClientOption) (*Client, error) {
	if peer == nil || settings == nil {
		return nil, fail(KeyObjectInvalid, "a client needs a verified peer and its own settings")
	}
	suite, err := chooseSuite(settings, peer.sets)
	if err != nil {
		return nil, err
	}
	if peer.key(suite) == nil {
		return nil, fail(KeyObjectInvalid, "the key object has no key for %v, which its settings list", suite)
	}
	if !slices.ContainsFunc(settings.offer.Profiles, func(p Profile) bool { return slices.Contains(peer.sets.offer.Profiles, p) }) {
		// TMCP-4.7-3: A client that finds no common suite, carrier or profile MUST end with
		// `no-overlap` and send nothing of the user.
		return nil, fail(NoOverlap, "no common profile: client %v, server %v", settings.offer.Profiles, peer.sets.offer.Profiles)
	}
	c := &Client{peer: peer, settings: settings, suite: suite, contexts: map[string]*clientContext{}}
	for _, o := range opts {
		o(c)
	}
	return c, nil
}

// Peer is whom the client seals to.
func (c *Client) Peer() *Peer { return c.peer }

// Settings are this side's own.
func (c *Client) Settings() *Settings { return c.settings }

// Suite is the suite in use.
func (c *Client) Suite() Suite { return c.suite }

// Seal seals a message that is not split, and returns its only frame and the
// [Call] that opens the answer. It fails with [KeyObjectExpired] when the
// peer's key object is over, and with [NoOverlap] when the two sides' settings
// do not both have the carrier.
func (c *Client) Seal(content Content, outer Outer, now time.Time) (*Call, []byte, error) {
	return c.seal(content, outer, true, now)
}

// SealFirst is [Client.Seal] for a message that [Call.SealNext] continues
// unless final (HTTP carrier).
func (c *Client) SealFirst(content Content, outer Outer, final bool, now time.Time) (*Call, []byte, error) {
	return c.seal(content, outer, final, now)
}

// SealAgain seals afresh, with an encapsulated key of its own, the message that
// was sealed as old and may not have arrived. The server runs it only if the
// earlier seal was not and can no longer be opened there. Use it after
// [UnknownContext], and on another Client after [UnknownKey].
func (c *Client) SealAgain(old *Call, content Content, outer Outer, now time.Time) (*Call, []byte, error) {
	c.forget(old.ctx)
	c.mu.Lock()
	c.shown = Digest{} // by value: this may be another replica
	c.mu.Unlock()
	// Always the first seal: a chain of names could be broken by delivering its
	// ends and holding back its middle.
	// TMCP-8.5-1: A client that gets `unknown-context` MUST seal the message afresh, cold, with
	// `retry-of` set to the ctx-id and seq under which it was sealed first, and the exp of the key
	// object that it was sealed to then.
	content.Meta.RetryOf = old.retryOf
	if old.retryOf == nil {
		content.Meta.RetryOf = &RetryOf{old.ctx.keys.id, old.seq, old.client.peer.c.expires}
	}
	return c.seal(content, outer, true, now)
}

func (c *Client) seal(content Content, outer Outer, final bool, now time.Time) (*Call, []byte, error) {
	// TMCP-8.1-3: A client MUST leave a context when the key object it was made with has expired,
	// and seal cold to a current one.
	if !now.Before(c.peer.expires) {
		return nil, nil, fail(KeyObjectExpired, "valid before %s, now is %s", stamp(c.peer.expires), stamp(now))
	}
	// TMCP-4.7-2: A client MUST choose a carrier that both settings objects list.
	if !c.settings.allows(outer.Carrier) || !c.peer.sets.allows(outer.Carrier) {
		return nil, nil, fail(NoOverlap, "carrier %v: client has %v, server %v", outer.Carrier, c.settings.offer.Carriers, c.peer.sets.offer.Carriers)
	}
	if err := requestKind(content.Kind, outer.Carrier); err != nil {
		return nil, nil, fail(CannotSeal, "content kind %d under carrier %v", content.Kind, outer.Carrier)
	}
	if (outer.Tool != nil) != (outer.Carrier == Inline && content.callsTool()) {
		return nil, nil, fail(CannotSeal, "a tool stands outside of exactly a tools/call under the inline carrier")
	}
	if err := content.check(); err != nil {
		return nil, nil, fail(CannotSeal, "%v", err)
	}
	revision := content.Revision()
	c.mu.Lock()
	// TMCP-8.1-4: A client MUST use a context only for inner messages of the revision that it was
	// made for.
	ctx := c.contexts[revision]
	c.mu.Unlock()
	// TMCP-8.5-7: A client MUST NOT put `retry-of` into a next frame
	if ctx != nil && ctx.mine != nil && !now.Before(ctx.mine.claims.expires) {
		// TMCP-8.7-8: A client MUST leave a context when the key object of its own that it showed
		// has expired.
		c.forget(ctx)
		ctx = nil
	}
	if ctx != nil && content.Meta.RetryOf == nil {
		// TMCP-8.1-2: A client MUST number the requests of a context from 0, by steps of one, in
		// the order in which it seals them.
		// TMCP-6.4-2: A client MUST use each seq of a context for one request only, and no seq
		// above 2^48-1.
		seq := ctx.seq.Add(1)
		if seq <= maxSeq {
			call := &Call{client: c, ctx: ctx, outer: outer, seq: seq}
			frame, err := call.sealPart(make([]byte, 0, 64+sealedSize(&content, c.pad)), &content, 0, final)
			return call, frame, err
		}
		c.forget(ctx)
	}
	return c.sealCold(content, outer, revision, final, now)
}

func (c *Client) sealCold(content Content, outer Outer, revision string, final bool, now time.Time) (*Call, []byte, error) {
	// TMCP-6.2-1: A sender and a receiver MUST each build `info` from their own values, and never
	// from values that only the other supplied, except those that the frame carries for that
	// purpose.
	mine, shown, err := c.present(now)
	if err != nil {
		return nil, nil, err
	}
	var mineDigest []byte
	if mine != nil {
		mineDigest = mine.digest[:]
	}
	info := sealInfo(RoleClient, c.suite, c.peer.digest, c.peer.sets.digest, c.settings.digest, mineDigest, revision)
	enc, sender, err := hpke.NewSender(c.peer.key(c.suite), c.suite.kdf(), c.suite.aead(), info)
	if err != nil {
		return nil, nil, fail(CannotSeal, "HPKE: %v", err)
	}
	keys, err := newContextKeys(c.suite, sender.Export)
	if err != nil {
		return nil, nil, fail(CannotSeal, "HPKE: %v", err)
	}
	ctx := &clientContext{keys: keys, revision: revision, mine: mine}
	if ctx.request, err = newAEAD(c.suite, keys.requestKey[:]); err != nil {
		return nil, nil, fail(CannotSeal, "%v", err)
	}
	call := &Call{client: c, ctx: ctx, outer: outer, retryOf: content.Meta.RetryOf}
	if mine != nil {
		// TMCP-8.7-9: A client that shows a key object MUST put a proof of possession of its key
		// into the first message of the context.
		if content.Meta.possession, err = mine.prove(keys.id, c.peer.digest); err != nil {
			return nil, nil, err
		}
	}
	b := make([]byte, 0, 128+len(enc)+len(c.settings.cbor)+len(shown)+sealedSize(&content, c.pad))
	b = append(b, 0x89, frameOpen, byte(c.suite))
	b = dcbor.AppendBytes(b, c.peer.digest[:])
	b = dcbor.AppendBytes(b, enc)
	b = dcbor.AppendBytes(b, c.settings.cbor)
	b = dcbor.AppendText(b, revision)
	if shown == nil {
		b = dcbor.AppendNull(b)
	} else {
		b = dcbor.AppendBytes(b, shown)
	}
	b = dcbor.AppendBool(b, final)
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	sc.aad = appendRequestAAD(sc.aad[:0], &outer, 0, 0, final)
	sc.place(&keys.requestNonce, 0, 0)
	call.nextOut, call.sent = 1, final
	return call, sealContent(b, &content, c.pad, ctx.request, sc), nil
}

// present returns the key object of ours to show, and how: by value, or by
// digest once the server has answered to it. Both are nil when there is none to
// show.
func (c *Client) present(now time.Time) (mine *clientObject, shown []byte, err error) {
	// TMCP-8.7-1: A client MUST set the client key of its open frames to null where the server's
	// `clientKey` is `none`.
	if want := c.peer.sets.offer.ClientKey; c.holder == nil || want != ClientKeyAccepted && want != ClientKeyDemanded {
		return nil, nil, nil
	}
	if mine, err = c.holder.current(now); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shown == mine.digest {
		return mine, mine.digest[:], nil
	}
	return mine, mine.object, nil
}

// confirm makes ctx the one for later messages of its revision, after an
// authenticated answer in it.
func (c *Client) confirm(ctx *clientContext) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.mine != nil {
		c.shown = ctx.mine.digest
	}
	if c.contexts[ctx.revision] == nil {
		if len(c.contexts) >= maxClientContexts {
			clear(c.contexts)
		}
		c.contexts[ctx.revision] = ctx
	}
}

func (c *Client) forget(ctx *clientContext) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.contexts[ctx.revision] == ctx {
		delete(c.contexts, ctx.revision)
	}
}

// A Call is one sealed message on its way, and its answer. It is not safe for
// concurrent use.
type Call struct {
	client  *Client
	ctx     *clientContext
	outer   Outer
	seq     uint64
	nextOut uint64
	sent    bool
	retryOf *RetryOf // the first seal of the message, when this is not it

	next   uint64 // number of the next answer frame
	final  bool
	salt   [saltLen]byte
	failed error
}

// Context and Seq say where the message stands.
func (c *Call) Context() ContextID { return c.ctx.keys.id }

// Seq is the message's number in its context; 0 for the one that made it.
func (c *Call) Seq() uint64 { return c.seq }

func (c *Call) sealPart(dst []byte, content *Content, n uint64, final bool) ([]byte, error) {
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	sc.aad = appendRequestAAD(sc.aad[:0], &c.outer, c.seq, n, final)
	sc.place(&c.ctx.keys.requestNonce, c.seq, n)
	dst = append(dst, 0x86, frameNext)
	dst = dcbor.AppendBytes(dst, c.ctx.keys.id[:])
	dst = dcbor.AppendUint(dcbor.AppendUint(dst, c.seq), n)
	dst = dcbor.AppendBool(dst, final)
	dst = sealContent(dst, content, c.client.pad, c.ctx.request, sc)
	c.nextOut, c.sent = n+1, final
	return dst, nil
}

// SealNext seals the next chunk of the message (HTTP carrier; kind
// [KindData]) and appends its frame to dst.
func (c *Call) SealNext(dst []byte, content Content, final bool) ([]byte, error) {
	// TMCP-9.1-8: The frames of a request MUST be numbered likewise, with exactly one final frame.
	if c.sent || c.outer.Carrier != HTTP || content.Kind != KindData {
		return nil, fail(CannotSeal, "nothing can follow what was sealed")
	}
	if err := content.check(); err != nil {
		return nil, fail(CannotSeal, "%v", err)
	}
	if c.nextOut > maxN {
		return nil, fail(TooLarge, "a message has at most 2^32 chunks")
	}
	return c.sealPart(slices.Grow(dst, 64+sealedSize(&content, c.client.pad)), &content, c.nextOut, final)
}

// ErrRedelivered is returned by [Call.Open] for a frame that was accepted
// before. It is no attack when a legacy event stream was resumed: ignore the
// frame then, and treat it as an error otherwise.
var ErrRedelivered error = fail(AnswerOutOfOrder, "an answer frame that was accepted before")

// Open opens the next frame of the answer. Frames come in order, of this call
// and no other, and nothing comes after the final one; anything else is an
// error, after which the call opens nothing more. When final is true the answer
// is complete.
func (c *Call) Open(frame []byte) (content Content, final bool, err error) {
	if c.failed != nil {
		return Content{}, false, c.failed
	}
	content, final, err = c.open(frame)
	if err != nil && err != ErrRedelivered {
		c.failed = err
	}
	return content, final, err
}

func (c *Call) open(frame []byte) (Content, bool, error) {
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	sc.frame = Frame{}
	f := &sc.frame
	if err := f.parse(frame); err != nil {
		return Content{}, false, fail(AnswerInvalid, "%v", err)
	}
	switch {
	// TMCP-7.1-2: A client MUST end with `answer-invalid` on bytes that are not an answer frame.
	case f.Type != frameAnswer:
		return Content{}, false, fail(AnswerInvalid, "a frame of type %d where an answer is expected", f.Type)
	// TMCP-9.1-6: A client MUST end with `spliced` on a frame whose ctx-id and seq are those of
	// another request.
	// TMCP-7.2-5: A client MUST match answers to requests by ctx-id and seq, never by the outer
	// JSON-RPC id alone.
	case f.Context != c.ctx.keys.id || f.Seq != c.seq:
		return Content{}, false, fail(Spliced, "a frame of another call")
	// TMCP-9.1-5: A client MUST end with `after-final` on a frame of an answer after its final
	// one, except one redelivered by section 9.3.
	case c.final && f.N >= c.next:
		return Content{}, false, fail(AfterFinal, "a frame after the final one")
	// TMCP-9.1-4: A client MUST end with `answer-out-of-order` on a frame whose n is above the
	// next expected one.
	// TMCP-9.1-3: A client MUST deliver the messages of an answer in the order of n.
	case f.N > c.next:
		return Content{}, false, fail(AnswerOutOfOrder, "frame %d arrived, %d is next: frames were lost or reordered", f.N, c.next)
	}
	salt := c.salt[:]
	if f.N == 0 {
		salt = f.Salt
	}
	aead, base, err := c.ctx.answers(c.client.suite, salt)
	if err != nil {
		return Content{}, false, fail(AnswerInvalid, "%v", err)
	}
	sc.aad = appendAnswerAAD(sc.aad[:0], c.outer.Carrier, f.Seq, f.N, f.Final)
	sc.place(&base, f.Seq, f.N)
	plain, err := aead.Open(nil, sc.nonce[:], f.Ciphertext, sc.aad)
	if err != nil {
		// TMCP-9.1-7: A client MUST end with `answer-invalid` on a frame that does not open.
		// TMCP-9.3-3: A client MUST end with `answer-invalid` on a frame whose n was delivered
		// before and that does not open.
		return Content{}, false, fail(AnswerInvalid, "the answer does not open: it was altered, or is not the peer's")
	}
	// TMCP-9.3-2: A client MUST ignore a frame whose n was delivered before and that opens again.
	if f.N < c.next { // authentic, and accepted before
		return Content{}, false, ErrRedelivered
	}
	content, err := parseContent(plain)
	if err != nil {
		return Content{}, false, fail(AnswerInvalid, "%v", err)
	}
	// TMCP-6.6-4: A client MUST end with `answer-invalid` on an answer content that is malformed
	// or of a kind that does not belong there.
	if err := answerKind(content.Kind, c.outer.Carrier, f.N); err != nil {
		return Content{}, false, fail(AnswerInvalid, "%v", err)
	}
	if f.N == 0 {
		copy(c.salt[:], f.Salt)
		// TMCP-8.1-1: A client MUST NOT send a next frame in a context in which no answer has been
		// authenticated, except further frames of the request that opened it.
		c.client.confirm(c.ctx)
	}
	c.next, c.final = f.N+1, f.Final
	return content, f.Final, nil
}

// answers returns the AEAD and base nonce for answers under salt. A server has
// one salt per instance of the context, so the last one is kept.
func (ctx *clientContext) answers(suite Suite, salt []byte) (cipher.AEAD, [nonceLen]byte, error) {
	ctx.mu.Lock()
	defer ctx.mu.Unlock()
	if ctx.answer != nil && string(ctx.salt[:]) == string(salt) {
		return ctx.answer, ctx.answerNonce, nil
	}
	// TMCP-6.3-3: A client MUST take the answer keys of each answer from the salt in that answer's
	// frame 0.
	key, nonce, err := ctx.keys.answerKeys(salt)
	if err != nil {
		return nil, nonce, err
	}
	aead, err := newAEAD(suite, key[:])
	if err != nil {
		return nil, nonce, err
	}
	copy(ctx.salt[:], salt)
	ctx.answer, ctx.answerNonce = aead, nonce
	return aead, nonce, nil
}

// Close says that no more frames will come. It fails with [Truncated] unless
// the final frame was opened: then the answer must not be taken as complete.
func (c *Call) Close() error {
	if c.failed != nil {
		return c.failed
	}
	if !c.final {
		// TMCP-9.2-1: A client MUST end with `truncated` when the stream that carries an answer
		// ends before the final frame.
		c.failed = fail(Truncated, "the answer ended after %d frames, before its final one", c.next)
		return c.failed
	}
	return nil
}
