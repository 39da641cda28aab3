package protocol

import (
	"crypto/hpke"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A ServerConfig says who a server is and what it offers.
type ServerConfig struct {
	Identity *Identity // required
	Settings *Settings // default: NewSettings(Offer{})

	// Validity is how long a key object is valid; a new one, with new HPKE keys,
	// replaces it at half that time. Default 10 minutes, at most an hour.
	Validity time.Duration

	// MaxContexts bounds the contexts, and with them the replay cache, of one
	// HPKE key; a key that reaches it is replaced early, while it still opens, up
	// to 6 keys at a time. Default 1 << 18, at some 400 bytes each: 630 MB at most.
	MaxContexts int

	// Pad pads answers to buckets, so that their length tells less.
	Pad bool

	// Attestation makes the server one of profile attested. Nil: identity.
	Attestation *Attestation
	// Clients says which clients' key objects are good. Required unless the
	// settings' ClientKey is none. With a Profile of attested or more there, and
	// with Attestation, the server is of profile mutual.
	Clients *ClientPolicy
	// Demands is the digest of the policy that clients are appraised by, 32
	// bytes, or nil. It stands in key objects.
	Demands []byte
}

// A ClientPolicy says which clients' key objects a server takes. See [Expect].
type ClientPolicy struct {
	Anchor         Anchor    // who may speak for which client; required
	Profile        Profile   // the least that is accepted; default identity
	Appraiser      Appraiser // for evidence; required for a Profile beyond identity
	MaxEvidenceAge time.Duration
	Epochs         func() [][]byte
	// Allow, if not nil, says which of the identities that Anchor trusts may call.
	Allow func(identity string) bool
}

const (
	// TMCP-5.6-2: A holder SHOULD make key objects valid for ten minutes and renew them at half
	// that time, with new HPKE keys.
	defaultValidity    = 10 * time.Minute
	defaultMaxContexts = 1 << 18
	// grace is how long a key still opens after its object expired: what was
	// sealed in its last second may still be on the way.
	// TMCP-5.6-3: A server MUST go on answering with the old HPKE keys until 60 seconds after the
	// `exp` of the last key object that names them.
	grace = 60 * time.Second
	// maxLiveKeys bounds keys that were retired early and are still within
	// their validity. At the bound the server refuses new contexts.
	maxLiveKeys = 6
	// maxNonceObjects bounds the nonce-bound key objects remembered per key.
	maxNonceObjects = 1 << 16
	hotContexts     = 1024
	shardCount      = 64
)

// A Server opens what clients seal to it. It holds the HPKE keys, renews them,
// and forgets them with all their contexts. Make one with [NewServer]; it is
// safe for concurrent use. It has no clock: every method takes the time.
type Server struct {
	cfg ServerConfig
	hot *hotSet

	mu       sync.Mutex   // serialises renewal
	current  atomic.Value // *serverKey
	live     atomic.Value // []*serverKey, current included, newest first
	toolSet  atomic.Pointer[Digest]
	clients  settingsCache
	attests  tokenBucket
	attestor *attestor
	known    clientPeers
}

// serverKey is one generation of HPKE keys, with everything that depends on it.
// When it goes, its contexts and its replay cache go with it, at once.
type serverKey struct {
	private  map[Suite]hpke.PrivateKey
	attested *attested // nil without a TEE
	claims   claims
	object   []byte
	digest   Digest
	expires  time.Time

	mu     sync.Mutex
	nonces map[Digest]struct{} // digests of nonce-bound objects for these keys
	order  []Digest            // of nonces, oldest first, a ring once full
	oldest int

	// TMCP-8.2-1: A server MUST hang contexts and replay state on the HPKE key that they were
	// opened with, and drop them all with it.
	// TMCP-8.4-1: A server MUST remember the ctx-id of every open frame that it has opened, until
	// the key it was sealed to is dropped.
	count  atomic.Int64 // contexts, by weight, and used-up ids
	shards [shardCount]contextShard
}

type contextShard struct {
	mu       sync.RWMutex
	contexts map[ContextID]*serverContext // nil: used up, see Server.settleRetry
}

// serverContext is the soft state of one context. Lost, it costs the client one
// HPKE operation.
type serverContext struct {
	keys        contextKeys
	answerKey   [keyLen]byte
	answerNonce [nonceLen]byte
	// TMCP-6.3-2: A server MUST use one salt for all answers of a context instance.
	salt [saltLen]byte
	hot  atomic.Pointer[aeadPair]

	settings *Settings
	revision string
	client   *Peer // nil: the client showed no key object

	mu     sync.Mutex
	window window
}

// NewServer makes a server and its first HPKE keys lazily.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Identity == nil {
		return nil, fail(KeyObjectInvalid, "a server needs an identity; see NewIdentity")
	}
	if cfg.Settings == nil {
		s, err := NewSettings(Offer{})
		if err != nil {
			return nil, err
		}
		cfg.Settings = s
	}
	// TMCP-4.2-4: The member `suites` MUST be present, and a server's MUST list `mlkem768x25519-sha256-aes256gcm`.
	// TMCP-6.1-1: An implementation MUST support suite 1.
	if !slices.Contains(cfg.Settings.offer.Suites, SuiteHybrid) {
		return nil, fail(NoOverlap, "a server's settings must list the mandatory suite %v", SuiteHybrid)
	}
	if cfg.Validity == 0 {
		cfg.Validity = defaultValidity
	}
	// TMCP-5.6-1: A holder MUST NOT issue a key object that is valid for longer than one hour.
	if cfg.Validity < 2*time.Second || cfg.Validity > maxValidity {
		return nil, fail(KeyObjectInvalid, "validity %v is not between 2s and %v", cfg.Validity, maxValidity)
	}
	if cfg.MaxContexts <= 0 {
		cfg.MaxContexts = defaultMaxContexts
	}
	if want := cfg.Settings.offer.ClientKey; (want == ClientKeyAccepted || want == ClientKeyDemanded) != (cfg.Clients != nil) {
		return nil, fail(KeyObjectInvalid, "settings.clientKey is %q, and a policy on clients is needed for exactly accepted and required", want)
	}
	if p := cfg.Clients; p != nil {
		if p.Anchor == nil {
			return nil, fail(KeyObjectInvalid, "the policy on clients names no anchor: who may speak for them?")
		}
		if p.Profile.strength() > 1 && p.Appraiser == nil {
			return nil, fail(KeyObjectInvalid, "the policy on clients demands profile %s and has no appraiser", p.Profile)
		}
	}
	if cfg.Demands != nil && len(cfg.Demands) != len(Digest{}) {
		return nil, fail(KeyObjectInvalid, "a policy digest of %d bytes, want %d", len(cfg.Demands), len(Digest{}))
	}
	att, err := newAttestor(cfg.Attestation, RoleServer, cfg.Identity.uri)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, hot: newHotSet(hotContexts), attestor: att,
		attests: tokenBucket{rate: attestRate, burst: attestBurst}}, nil
}

// Settings are what the server announces.
func (s *Server) Settings() *Settings { return s.cfg.Settings }

// Identity is who the server is.
func (s *Server) Identity() *Identity { return s.cfg.Identity }

// PinToolSet puts the digest of the server's tools into key objects from now
// on; see [ToolSetDigest]. Only for sets that do not depend on the caller.
func (s *Server) PinToolSet(d Digest) {
	if old := s.toolSet.Swap(&d); old != nil && *old == d {
		return // each change costs a key
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Store((*serverKey)(nil)) // the next use makes a key object that tells it
}

// KeyObject returns the key object to hand out at a time, and the moment at
// which it expires. It may be cached until then. Do not change the bytes.
func (s *Server) KeyObject(now time.Time) (object []byte, expires time.Time, err error) {
	k, err := s.currentKey(now)
	if err != nil {
		return nil, time.Time{}, err
	}
	return k.object, k.expires, nil
}

const (
	// attestRate is how many nonces a second are answered in the long run: each
	// costs a signature. In the life of a key they fit into maxNonceObjects.
	attestRate  = 64
	attestBurst = 256
	// quoteRate and quoteBurst are the same for new evidence, of which a machine
	// makes some 25 a second for all who run on it.
	quoteRate  = 2
	quoteBurst = 8
)

// A tokenBucket bounds a rate: it holds up to burst tokens, and gains rate of
// them a second.
type tokenBucket struct {
	rate, burst float64
	mu          sync.Mutex
	spent       float64 // tokens that are missing
	at          time.Time
}

func (b *tokenBucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.at); d > 0 {
		b.spent = max(0, b.spent-d.Seconds()*b.rate)
		b.at = now
	}
	if b.spent+1 > b.burst {
		return false
	}
	b.spent++
	return true
}

// Attest returns a key object that carries the peer's nonce (8 to 64 bytes),
// over the current HPKE keys. It must not be cached.
func (s *Server) Attest(nonce []byte, now time.Time) ([]byte, error) {
	// TMCP-4.6-3: A server MUST refuse a nonce shorter than 8 or longer than 64 bytes, with
	// `malformed-content`.
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return nil, fail(MalformedContent, "a nonce of %d bytes; %d to %d are allowed", len(nonce), MinNonce, MaxNonce)
	}
	k, err := s.currentKey(now)
	if err != nil {
		return nil, err
	}
	// TMCP-4.6-6: A server SHOULD bound the rate at which it answers `trust/attest`, and answer
	// above that with `busy`.
	if !s.attests.take(now) {
		return nil, fail(Busy, "more than %d key objects for nonces in a second; use the one of server/discover, or try again", attestRate)
	}
	// TMCP-5.6-6: A key object for a nonce MUST name the same HPKE keys and the same `exp` as the
	// current one without a nonce.
	c := k.claims
	return s.attest(k, c, k.attested, nonce, now)
}

// AttestEvidence is [Server.Attest] with new evidence, made for the nonce. It
// costs a quote, and is answered at a low rate. A server without a TEE does what
// Attest does.
func (s *Server) AttestEvidence(nonce []byte, now time.Time) ([]byte, error) {
	if s.attestor == nil {
		return s.Attest(nonce, now)
	}
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return nil, fail(MalformedContent, "a nonce of %d bytes; %d to %d are allowed", len(nonce), MinNonce, MaxNonce)
	}
	k, err := s.currentKey(now)
	if err != nil {
		return nil, err
	}
	a, err := s.attestor.forNonce(nonce, now)
	if err != nil {
		return nil, err
	}
	c := k.claims
	a.put(&c)
	return s.attest(k, c, a, nonce, now)
}

func (s *Server) attest(k *serverKey, c claims, a *attested, nonce []byte, now time.Time) ([]byte, error) {
	// TMCP-4.6-2: The key object in the answer MUST carry the nonce of the request in claim 10.
	c.nonce = slices.Clone(nonce)
	c.issued = now
	object, err := c.sign(s.cfg.Identity, a.keySigner())
	if err != nil {
		return nil, err
	}
	k.remember(KeyDigest(object))
	return object, nil
}

func (k *serverKey) remember(d Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.order) < maxNonceObjects {
		k.order = append(k.order, d)
	} else {
		delete(k.nonces, k.order[k.oldest])
		k.order[k.oldest] = d
		k.oldest = (k.oldest + 1) % maxNonceObjects
	}
	k.nonces[d] = struct{}{}
}

func (k *serverKey) known(d Digest) bool {
	if k.digest == d {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.nonces[d]
	return ok
}

// currentKey returns the newest key, after renewing it if it is past half of
// its validity.
func (s *Server) currentKey(now time.Time) (*serverKey, error) {
	if k, _ := s.current.Load().(*serverKey); k != nil && s.young(k, now) {
		return k, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, _ := s.current.Load().(*serverKey); k != nil && s.young(k, now) {
		return k, nil
	}
	k, err := s.newKey(now)
	if err != nil {
		// What is there goes on until it expires: a TEE may be busy for a while.
		if k, _ := s.current.Load().(*serverKey); k != nil && now.Before(k.claims.expires) && !now.Before(k.claims.notBefore) {
			return k, nil
		}
		return nil, err
	}
	alive := s.alive(now)
	if all, _ := s.live.Load().([]*serverKey); len(all) != len(alive) {
		s.hot.clear() // it would keep contexts of dropped keys in memory
	}
	s.live.Store(append([]*serverKey{k}, alive...))
	s.current.Store(k)
	return k, nil
}

func (s *Server) young(k *serverKey, now time.Time) bool {
	return now.Before(k.claims.notBefore.Add(s.cfg.Validity/2)) && !now.Before(k.claims.notBefore)
}

// alive returns the keys that still open messages.
func (s *Server) alive(now time.Time) []*serverKey {
	all, _ := s.live.Load().([]*serverKey)
	var out []*serverKey
	for _, k := range all {
		if now.Before(k.expires.Add(grace)) {
			out = append(out, k)
		}
	}
	return out
}

// Expire forgets the keys whose time is over, with their contexts and replay
// caches. Calls to other methods open nothing with such keys in any case;
// calling Expire now and then only frees memory and erases keys on an idle
// server.
func (s *Server) Expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alive := s.alive(now)
	if all, _ := s.live.Load().([]*serverKey); len(all) != len(alive) {
		s.hot.clear() // it would keep contexts of dropped keys in memory
	}
	// TMCP-5.6-4: A holder MUST erase HPKE private keys after that, together with all contexts and
	// replay state that hang on them.
	s.live.Store(alive)
	if k, _ := s.current.Load().(*serverKey); k != nil && !slices.Contains(alive, k) {
		s.current.Store((*serverKey)(nil))
	}
}

func (s *Server) newKey(now time.Time) (*serverKey, error) {
	k := &serverKey{private: map[Suite]hpke.PrivateKey{}, nonces: map[Digest]struct{}{}}
	for i := range k.shards {
		k.shards[i].contexts = map[ContextID]*serverContext{}
	}
	k.claims = claims{
		identity: s.cfg.Identity.uri, role: RoleServer, profile: ProfileIdentity,
		notBefore: now.Truncate(time.Second), issued: now, settings: s.cfg.Settings.Digest(), demands: s.cfg.Demands,
	}
	var err error
	if k.attested, err = s.attestor.current(now); err != nil {
		return nil, err
	}
	if k.attested != nil {
		k.claims.profile = ProfileAttested
		if c := s.cfg.Clients; c != nil && c.Profile.strength() > 1 && s.cfg.Settings.offer.ClientKey == ClientKeyDemanded {
			k.claims.profile = ProfileMutual
		}
		k.attested.put(&k.claims)
	}
	k.claims.expires = k.claims.notBefore.Add(s.cfg.Validity)
	k.expires = k.claims.expires
	if d := s.toolSet.Load(); d != nil {
		k.claims.toolSet = slices.Clone(d[:])
	}
	if len(s.cfg.Identity.chain) == 0 {
		b, err := appendCOSEKey(nil, s.cfg.Identity.public)
		if err != nil {
			return nil, err
		}
		k.claims.identityKey = b
	}
	for _, suite := range []Suite{SuiteHybrid, SuiteX25519} { // ascending, as in the object
		if !slices.Contains(s.cfg.Settings.offer.Suites, suite) {
			continue
		}
		priv, err := suite.kem().GenerateKey()
		if err != nil {
			return nil, fail(KeyObjectInvalid, "generating a key for %v: %v", suite, err)
		}
		k.private[suite] = priv
		k.claims.keys = append(k.claims.keys, hpkeKey{suite, priv.PublicKey()})
	}
	if k.object, err = k.claims.sign(s.cfg.Identity, k.attested.keySigner()); err != nil {
		return nil, err
	}
	k.digest = KeyDigest(k.object)
	return k, nil
}

func (k *serverKey) shard(id ContextID) *contextShard { return &k.shards[id[0]%shardCount] }

// find returns the context of that id, and the key that it hangs on.
func (s *Server) find(id ContextID, now time.Time) (*serverContext, *serverKey) {
	all, _ := s.live.Load().([]*serverKey)
	for _, k := range all {
		if !now.Before(k.expires.Add(grace)) {
			continue
		}
		sh := k.shard(id)
		sh.mu.RLock()
		c := sh.contexts[id]
		sh.mu.RUnlock()
		if c != nil {
			return c, k
		}
	}
	return nil, nil
}

// add records a context (or a used-up id, when c is nil) and reports whether the
// id was new. weight is what it counts for towards MaxContexts.
func (k *serverKey) add(id ContextID, c *serverContext, weight int64) bool {
	sh := k.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, seen := sh.contexts[id]; seen {
		return false
	}
	sh.contexts[id] = c
	k.count.Add(weight)
	return true
}

func (k *serverKey) seen(id ContextID) bool {
	sh := k.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	_, seen := sh.contexts[id]
	return seen
}

// checkFull refuses one context too many, and retires the key, so that the
// replay cache never forgets while its key still opens.
func (s *Server) checkFull(k *serverKey, now time.Time) error {
	// TMCP-8.2-2: A server MUST bound the number of contexts that hang on one key, and retire the
	// key early when the bound is reached.
	if k.count.Load() < int64(s.cfg.MaxContexts) {
		return nil
	}
	s.mu.Lock()
	cur, _ := s.current.Load().(*serverKey)
	retire := cur == k && len(s.alive(now)) < maxLiveKeys
	if retire {
		s.current.Store((*serverKey)(nil)) // the next use makes a new one
	}
	s.mu.Unlock()
	if cur == k && !retire {
		return fail(Busy, "all %d keys of this server have served as many contexts as they may; try again in a minute", maxLiveKeys)
	}
	// TMCP-8.4-3: A server MUST NOT open another open frame under a key for which it cannot
	// remember it, and answers with `unknown-key` and a newer key, or `busy`.
	return s.unknownKey(now, "this key has served as many contexts as it may")
}

// unknownKey is the error that carries the key object of this replica.
func (s *Server) unknownKey(now time.Time, why string) error {
	object, _, err := s.KeyObject(now)
	if err != nil {
		return err
	}
	// TMCP-8.6-1: A server MUST put its current key object into an `unknown-key` error.
	return &Error{Reason: UnknownKey, Detail: why, KeyObject: object}
}

func newServerContext(keys contextKeys, settings *Settings, revision string, client *Peer) (*serverContext, error) {
	c := &serverContext{keys: keys, settings: settings, revision: revision, client: client}
	// TMCP-6.3-1: A server MUST choose a fresh random salt each time it derives a context from an
	// encapsulation.
	rand.Read(c.salt[:])
	var err error
	c.answerKey, c.answerNonce, err = keys.answerKeys(c.salt[:])
	return c, err
}

// ciphers returns the expanded keys of c, expanding them if c is not hot.
func (s *Server) ciphers(c *serverContext) (*aeadPair, error) {
	if p := c.hot.Load(); p != nil {
		return p, nil
	}
	var p aeadPair
	var err error
	if p.request, err = newAEAD(c.keys.suite, c.keys.requestKey[:]); err != nil {
		return nil, err
	}
	if p.answer, err = newAEAD(c.keys.suite, c.answerKey[:]); err != nil {
		return nil, err
	}
	s.hot.put(&c.hot, &p)
	return &p, nil
}

// settingsCache interns client settings, so that contexts share them.
type settingsCache struct {
	mu sync.Mutex
	m  map[string]*Settings
}

const maxInterned = 1024

func (sc *settingsCache) get(b []byte) (*Settings, error) {
	sc.mu.Lock()
	s := sc.m[string(b)]
	sc.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := settingsFromCBOR(b)
	if err != nil {
		return nil, err
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.m == nil || len(sc.m) >= maxInterned {
		sc.m = map[string]*Settings{}
	}
	sc.m[string(b)] = s
	return s, nil
}
