package protocol

import (
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// A Request is a message that a server opened. Its Content was sealed by the
// holder of the context, for this server, with these settings, under this
// carrier. Answer it with [Request.Seal].
type Request struct {
	Content        Content
	Outer          Outer
	ClientSettings *Settings
	Client         *Peer  // who sent it, where the client showed a key object; else nil
	Revision       string // of the inner message, committed to by the context
	Context        ContextID
	Seq            uint64
	Final          bool      // false: more chunks follow (HTTP carrier), see OpenNext
	Expires        time.Time // when the key that this was sealed to expires

	server *Server
	ctx    *serverContext
	nextIn uint64 // number of the next chunk
	out    *answerState
}

// answerState is shared by copies of a Request, and locked: two frames of one
// number would be two plaintexts under one nonce.
type answerState struct {
	mu    sync.Mutex
	n     uint64
	final bool
}

// newRequest puts a request and the state of its answer into one allocation.
func newRequest(r Request) *Request {
	both := &struct {
		request Request
		answer  answerState
	}{request: r}
	both.request.out = &both.answer
	return &both.request
}

// Open opens the first frame of a request (spec chapters "Sealing" and
// "Contexts"). outer is what the caller saw outside the seal. Errors are
// *[Error] with a reason that a server may send; nothing was run by then.
func (s *Server) Open(frame []byte, outer Outer, now time.Time) (*Request, error) {
	// TMCP-4.8-6: A server MUST answer a frame that came by a carrier which its own settings do
	// not list with `carrier-refused`.
	if !s.cfg.Settings.allows(outer.Carrier) {
		return nil, fail(CarrierRefused, "%v is not among this server's carriers %v", outer.Carrier, s.cfg.Settings.offer.Carriers)
	}
	if outer.Tool != nil && outer.Carrier != Inline {
		return nil, fail(OuterMismatch, "a tool stands outside under the inline carrier only")
	}
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	sc.frame = Frame{}
	f := &sc.frame
	if err := f.parse(frame); err != nil {
		return nil, err
	}
	var r *Request
	var err error
	switch f.Type {
	case frameOpen:
		r, err = s.openFirst(f, sc, outer, now)
	case frameNext:
		r, err = s.openNext(f, sc, outer, now)
	default:
		err = fail(MalformedFrame, "an answer frame where a request is expected")
	}
	if err != nil {
		return nil, err
	}
	if !r.Final && outer.Carrier != HTTP {
		return nil, fail(MalformedFrame, "only the http carrier has requests of more than one frame")
	}
	return r, nil
}

// openFirst opens an open frame: it starts a context.
func (s *Server) openFirst(f *Frame, sc *scratch, outer Outer, now time.Time) (*Request, error) {
	// TMCP-4.8-4: A server MUST answer an open frame with a suite that it does not know or did not
	// offer with `unsupported-suite`.
	if !f.Suite.valid() || !slices.Contains(s.cfg.Settings.offer.Suites, f.Suite) {
		return nil, fail(UnsupportedSuite, "suite %d; this server has %v", uint8(f.Suite), s.cfg.Settings.offer.Suites)
	}
	key := s.keyFor(f.KeyDigest, now)
	if key == nil {
		return nil, s.unknownKey(now, "sealed to a key object that is not, or no longer, this replica's")
	}
	settings, err := s.clients.get(f.ClientSettings)
	if err != nil {
		return nil, err
	}
	if err := s.checkSettings(settings, f, outer.Carrier); err != nil {
		return nil, err
	}
	client, clientDigest, err := s.clientOf(f, settings, now)
	if err != nil {
		return nil, err
	}
	// TMCP-6.2-2: A server MUST build `info` with the digest of the settings that it advertises.
	// TMCP-6.2-1: A sender and a receiver MUST each build `info` from their own values, and never
	// from values that only the other supplied, except those that the frame carries for that
	// purpose.
	info := sealInfo(RoleClient, f.Suite, f.KeyDigest, s.cfg.Settings.Digest(), settings.Digest(), clientDigest, f.Revision)
	rec, err := hpke.NewRecipient(f.Enc, key.private[f.Suite], f.Suite.kdf(), f.Suite.aead(), info)
	if err != nil {
		return nil, openFailed() // TMCP-10.1-5: as any other cause
	}
	keys, err := newContextKeys(f.Suite, rec.Export)
	if err != nil {
		return nil, fail(OpenFailed, "%v", err)
	}
	// TMCP-8.4-2: A server MUST answer an open frame whose ctx-id it remembers with `replayed`.
	if key.seen(keys.id) {
		return nil, fail(Replayed, "this open frame was received before")
	}
	ctx, err := newServerContext(keys, settings, strings.Clone(f.Revision), client)
	if err != nil {
		return nil, fail(OpenFailed, "%v", err)
	}
	r := newRequest(Request{Outer: outer, ClientSettings: settings, Revision: ctx.revision, Context: keys.id, server: s, ctx: ctx, Expires: key.expires, Client: client})
	if err := r.open(f, sc); err != nil {
		return nil, err
	}
	if err := r.checkPossession(f); err != nil {
		return nil, err
	}
	if err := s.checkFull(key, now); err != nil {
		return nil, err
	}
	if of := r.Content.Meta.RetryOf; of != nil {
		if err := s.settleRetry(*of, now); err != nil {
			return nil, err
		}
	}
	ctx.window.markOpened(0)
	// TMCP-8.4-4: A server MUST mark an encapsulation as opened and hand its message on in one
	// step, so that two copies that arrive at the same time do not both run.
	if !key.add(keys.id, ctx, settings.weight()+client.weight()) { // lost a race against the same frame
		return nil, fail(Replayed, "this open frame was received before")
	}
	return r, nil
}

func (s *Server) keyFor(d Digest, now time.Time) *serverKey {
	for _, k := range s.alive(now) {
		if k.known(d) {
			return k
		}
	}
	return nil
}

// checkSettings refuses an open frame that the two sides' settings do not lead
// to: then something on the path rewrote one of them, or the client ignores
// its own preference.
func (s *Server) checkSettings(client *Settings, f *Frame, c Carrier) error {
	want, err := chooseSuite(client, s.cfg.Settings)
	if err != nil {
		return fail(NegotiationMismatch, "%v", err)
	}
	// TMCP-4.8-3: A server MUST answer an open frame whose suite is not the one that section 4.7
	// yields for the two settings objects with `negotiation-mismatch`.
	if f.Suite != want {
		return fail(NegotiationMismatch, "sealed with %v, but the client's own settings prefer %v", f.Suite, want)
	}
	// TMCP-4.8-7: A server MUST answer an open frame that came by a carrier which the client
	// settings in it do not list with `negotiation-mismatch`.
	if !client.allows(c) {
		return fail(NegotiationMismatch, "carrier %v is not among those in the client's settings", c)
	}
	// TMCP-10.2-2: A server MUST answer a sealed message from a client whose profile its local
	// policy does not allow with `profile-refused`.
	if !slices.ContainsFunc(client.offer.Profiles, func(p Profile) bool { return slices.Contains(s.cfg.Settings.offer.Profiles, p) }) {
		return fail(ProfileRefused, "no common profile: client %v, server %v", client.offer.Profiles, s.cfg.Settings.offer.Profiles)
	}
	return nil
}

// openNext opens the first frame of a later message of a known context.
func (s *Server) openNext(f *Frame, sc *scratch, outer Outer, now time.Time) (*Request, error) {
	ctx, key := s.find(f.Context, now)
	// TMCP-8.2-3: A server MUST answer a next frame of a context that it does not have with
	// `unknown-context`.
	if ctx == nil {
		return nil, fail(UnknownContext, "this replica does not have the context; seal afresh")
	}
	// TMCP-9.1-9: A server MUST answer request frames out of order, or after the final one, with
	// `out-of-order`.
	if f.N != 0 {
		return nil, fail(OutOfOrder, "chunk %d where a message must begin", f.N)
	}
	// TMCP-8.7-7: A server MUST answer a next frame of a context whose client key object has
	// expired with `unknown-context`.
	if ctx.client != nil && !now.Before(ctx.client.expires) {
		return nil, fail(UnknownContext, "the client's key object expired; seal afresh with a new one")
	}
	ctx.mu.Lock()
	fresh := ctx.window.fresh(f.Seq)
	ctx.mu.Unlock()
	if !fresh {
		// TMCP-8.3-1: A server MUST accept each seq of a context for one request only, and answer
		// a second one with `replayed`.
		return nil, fail(Replayed, "message %d of this context was received before, or is more than %d behind", f.Seq, windowSize)
	}
	r := newRequest(Request{Outer: outer, ClientSettings: ctx.settings, Revision: ctx.revision, Context: f.Context, Seq: f.Seq, server: s, ctx: ctx, Expires: key.expires, Client: ctx.client})
	if err := r.open(f, sc); err != nil {
		return nil, err
	}
	if r.Content.Meta.possession != nil {
		return nil, badContent(fail(MalformedContent, "a proof of possession in a next frame"))
	}
	if r.Content.Meta.RetryOf != nil {
		// TMCP-8.5-7: a server answers one there with `malformed-content`.
		return nil, badContent(fail(MalformedContent, "retry-of in a next frame; a retry is sealed afresh"))
	}
	// TMCP-8.3-3: A server MUST NOT mark a seq as used before a frame of it has opened.
	// Only what opened moves the window, and only once.
	ctx.mu.Lock()
	fresh = ctx.window.markOpened(f.Seq)
	ctx.mu.Unlock()
	if !fresh {
		return nil, fail(Replayed, "message %d of this context was received before", f.Seq)
	}
	return r, nil
}

// openFailed tells nothing about the cause.
func openFailed() error {
	// TMCP-6.5-2: A server MUST answer a frame that does not open with `open-failed`, whatever the
	// cause.
	// TMCP-10.1-5: A trust error MUST NOT hold … anything by which two causes of `open-failed` can
	// be told apart.
	return fail(OpenFailed, "the seal does not open: the message, what stands outside it, or the negotiation was altered")
}

// badContent tells the peer, in the clear, nothing of what was sealed; err is
// for this side's log.
func badContent(err error) error {
	return &Error{Reason: MalformedContent, Detail: "the content opened, and is malformed or does not belong here", cause: err}
}

// settleRetry makes sure that a message which was sealed more than once runs at
// most once here. All its later seals name the first one: who comes first, the
// first seal or a retry, uses its name up, and the others are refused. It is
// called once for each open frame that names one.
func (s *Server) settleRetry(of RetryOf, now time.Time) error {
	// TMCP-8.5-9: A server MUST answer a `retry-of` whose exp lies 60 seconds or more in the past
	// with `replayed`: what it knew of the first seal went with the key.
	if !now.Before(of.Expires.Add(grace)) {
		return fail(Replayed, "a retry of a message that was sealed to a key object which expired at %s: whether that ran is not known any more", stamp(of.Expires))
	}
	if ctx, _ := s.find(of.Context, now); ctx != nil {
		ctx.mu.Lock()
		defer ctx.mu.Unlock()
		// TMCP-8.5-8: A server MUST answer a `retry-of` whose seq lies a whole window or more
		// beyond those it has seen of that context with `replayed`, so that a stranger cannot move
		// the window.
		if of.Seq >= ctx.window.open+windowSize { // not next: retries would walk it on
			return fail(Replayed, "retry of message %d, far beyond those of its context", of.Seq)
		}
		// TMCP-8.5-2: A server that knows the ctx-id and seq of a `retry-of` as used, by the first
		// seal or by another retry of it, MUST answer with `replayed`.
		if !ctx.window.mark(of.Seq) {
			return fail(Replayed, "this message already arrived in another seal, as message %d of its context or a retry of that", of.Seq)
		}
		return nil
	}
	// An open frame may have been sealed to any key that still opens. A next
	// frame of a context that is not here can't open here, but other retries
	// of it can.
	id := of.Context
	if of.Seq != 0 {
		b := binary.BigEndian.AppendUint64(id[:], of.Seq)
		sum := sha256.Sum256(b)
		id = ContextID(sum[:len(id)])
	}
	unused := true
	for _, k := range s.alive(now) {
		// TMCP-8.5-3: A server that does not know them as used MUST mark them as used before it
		// hands the message on, so that a delayed original or another retry cannot run afterwards.
		unused = k.add(id, nil, 1) && unused
	}
	if !unused {
		return fail(Replayed, "this message already arrived in another seal")
	}
	return nil
}

// open decrypts f as the next part of r, and takes its content.
func (r *Request) open(f *Frame, sc *scratch) error {
	pair, err := r.server.ciphers(r.ctx)
	if err != nil {
		return fail(OpenFailed, "%v", err)
	}
	// TMCP-6.5-1: A receiver MUST build the associated data from the frame's place and from what
	// it saw itself of the carrier, the tool and the labels.
	sc.aad = appendRequestAAD(sc.aad[:0], &r.Outer, f.Seq, f.N, f.Final)
	sc.place(&r.ctx.keys.requestNonce, f.Seq, f.N)
	plain, err := pair.request.Open(nil, sc.nonce[:], f.Ciphertext, sc.aad)
	if err != nil {
		return openFailed()
	}
	// TMCP-6.5-3: A receiver MUST NOT act on any part of a frame's plaintext before the AEAD has
	// verified the whole frame.
	c, err := parseContent(plain)
	if err != nil {
		return badContent(err)
	}
	if f.N == 0 {
		// TMCP-4.8-5: A server MUST answer a frame whose inner message has another revision than
		// its context with `negotiation-mismatch`.
		if c.Revision() != r.ctx.revision {
			return fail(NegotiationMismatch, "the inner message is of another revision than its context")
		}
		if err := requestKind(c.Kind, r.Outer.Carrier); err != nil {
			return badContent(err)
		}
		if r.Outer.Carrier == Inline && c.callsTool() != (r.Outer.Tool != nil) {
			return fail(OuterMismatch, "a tool stands outside of exactly the sealed tools/call")
		}
	} else if c.Kind != KindData {
		return badContent(fail(MalformedContent, "content kind %d in a further chunk", c.Kind))
	}
	r.Content, r.Final, r.nextIn = c, f.Final, f.N+1
	return nil
}

func requestKind(k Kind, c Carrier) error {
	ok := k == KindMessage || k == KindGet || k == KindDelete
	switch c {
	case HTTP:
		ok = k == KindHTTP
	case Inline:
		ok = k == KindMessage
	}
	if !ok {
		// TMCP-6.6-3: A server MUST answer a content that opened but is malformed, or of a kind
		// that does not belong there, with `malformed-content`.
		return fail(MalformedContent, "content kind %d in a request under carrier %v", k, c)
	}
	return nil
}

// answerKind checks the kind of answer frame n.
func answerKind(k Kind, c Carrier, n uint64) error {
	ok := k == KindMessage || k == KindEnd || k == KindRaw
	if c == HTTP {
		ok = k == KindHTTP && n == 0 || k == KindData && n > 0 || k == KindEnd
	}
	if !ok {
		return fail(MalformedContent, "content kind %d in frame %d of an answer under carrier %v", k, n, c)
	}
	return nil
}

// OpenNext opens the next chunk of a request whose Final is false (HTTP
// carrier), and replaces Content and Final. Chunks come in order.
func (r *Request) OpenNext(frame []byte) error {
	if r.Final {
		return fail(OutOfOrder, "a chunk after the final one")
	}
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	sc.frame = Frame{}
	f := &sc.frame
	if err := f.parse(frame); err != nil {
		return err
	}
	if f.Type != frameNext || f.Context != r.Context || f.Seq != r.Seq || f.N != r.nextIn {
		return fail(OutOfOrder, "chunk %d of message %d expected, found frame type %d with chunk %d of message %d", r.nextIn, r.Seq, f.Type, f.N, f.Seq)
	}
	return r.open(f, sc)
}

// Seal makes the next frame of the answer to r and appends it to dst. Frames
// are numbered in the order of calls; after a final one it fails. Calls at the
// same time are safe, and their order is chance.
func (r *Request) Seal(dst []byte, c Content, final bool) ([]byte, error) {
	// TMCP-9.1-2: Exactly one frame of an answer, the last, MUST have final set.
	r.out.mu.Lock()
	defer r.out.mu.Unlock()
	if r.out.final {
		return nil, fail(AfterFinal, "the answer is complete")
	}
	// TMCP-6.4-3: A sender MUST end an exchange with an error rather than let n pass 2^32-1.
	if r.out.n > maxN {
		return nil, fail(TooLarge, "an answer has at most 2^32 frames")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := answerKind(c.Kind, r.Outer.Carrier, r.out.n); err != nil {
		return nil, err
	}
	pair, err := r.server.ciphers(r.ctx)
	if err != nil {
		return nil, fail(OpenFailed, "%v", err)
	}
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	// TMCP-9.1-1: The frames of an answer MUST be numbered n = 0, 1, 2 and so on without a gap.
	n := r.out.n
	sc.aad = appendAnswerAAD(sc.aad[:0], r.Outer.Carrier, r.Seq, n, final)
	sc.place(&r.ctx.answerNonce, r.Seq, n)
	dst = slices.Grow(dst, 80+sealedSize(&c, r.server.cfg.Pad))
	dst = append(dst, 0x87, frameAnswer)
	dst = dcbor.AppendBytes(dst, r.Context[:])
	dst = dcbor.AppendUint(dcbor.AppendUint(dst, r.Seq), n)
	dst = dcbor.AppendBool(dst, final)
	if n == 0 {
		dst = dcbor.AppendBytes(dst, r.ctx.salt[:])
	} else {
		dst = dcbor.AppendNull(dst)
	}
	dst = sealContent(dst, &c, r.server.cfg.Pad, pair.answer, sc)
	r.out.n++
	r.out.final = final
	return dst, nil
}
