package aicc

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	evaicc "github.com/trustedmcp/tmcp/evidence/aicc"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/eat"
	"github.com/trustedmcp/tmcp/protocol"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

const (
	clockSkew = time.Minute
	// DefaultGrace is how long past its time an attestation still counts while it
	// can't be renewed.
	DefaultGrace = 5 * time.Minute
	// retryFirst and retryMost are between two attempts to renew.
	retryFirst = 2 * time.Second
	retryMost  = time.Minute
)

// Options are what configuration files of the published package do not say.
type Options struct {
	// TokenKeys are the keys of the attestation service's tokens, see
	// [LoadTokenKeys]. Without them no answer of the service is believed.
	TokenKeys eat.Keys
	// Appraiser, if set, judges the TDX quote in the evidence, which must then be
	// there. Servers that are asked themselves ("ra_type": "local") prove nothing
	// without it.
	Appraiser protocol.Appraiser
	// Unattested uses keys whose attestation failed, and says so in [Info]. Whoever
	// can answer in the service's place can then read everything.
	Unattested bool
	// AllowDebug takes TEEs that are open to debugging, AllowSimulated what a
	// stand-in says of simulated ones. For development only.
	AllowDebug, AllowSimulated bool
	Grace                      time.Duration // 0: DefaultGrace
	Timeout                    time.Duration // of one question; 0: DefaultTimeout
	HTTP                       *http.Client  // nil: one of its own; redirects are never followed
	Logger                     *slog.Logger
	Now                        func() time.Time
}

func (o *Options) defaults() {
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Where a key comes from.
const (
	SourceFile    = "file"
	SourceService = "service" // the attestation service
	SourceLocal   = "local"   // the server itself
)

// Info says what is known of a client's key.
type Info struct {
	Source string
	// Attested: a pinned key of the service, or our own appraiser, vouches for it.
	// False says that the key is what a file or an answer says, and no more.
	Attested   bool
	Simulated  bool   // what was attested is a simulated TEE, and proves nothing
	Failure    string // why the attestation failed, of a key that is used all the same
	Nodes      []string
	Policies   []string  // ids of policies that the service says matched, at every node
	Thumbprint string    // of the key
	Since      time.Time // when it was read or attested
	Until      time.Time // after that it is not used; zero: no end
}

// Label is one line for people.
func (i *Info) Label() string {
	switch {
	case i.Attested && i.Simulated:
		return "key attested by a SIMULATED TEE, which proves nothing"
	case i.Attested && i.Source == SourceService:
		return fmt.Sprintf("key attested by the attestation service, policies %q", i.Policies)
	case i.Attested:
		return "key attested, evidence appraised here"
	case i.Failure != "":
		return "key NOT attested: " + i.Failure
	}
	return "key from a file, NOT attested"
}

// ClientKeys is where a client's copy of the server's public key comes from.
// Safe for concurrent use.
type ClientKeys struct {
	cfg  ClientConfig
	o    Options
	file *watched[*rsa.PublicKey] // with PublicKeyPath
	svc  *service

	noKey bool // what is attested has no key: a server asks about its clients

	mu      sync.Mutex
	current *attested
	running chan struct{} // closed when the attestation under way ends; nil: none is
	retry   time.Duration // pause after the last failure
	notYet  time.Time     // no attempt before
	failure error         // of the last attempt
}

type attested struct {
	key  *rsa.PublicKey
	info Info
	due  time.Time // for renewal
}

// NewClientKeys checks cfg and o. Nothing is read or asked yet.
func NewClientKeys(cfg ClientConfig, o Options) (*ClientKeys, error) {
	o.defaults()
	if cfg.AttestInterval <= 0 {
		cfg.AttestInterval = DefaultInterval
	}
	if cfg.RAType == "" {
		cfg.RAType = RATypeService
	}
	k := &ClientKeys{cfg: cfg, o: o}
	if cfg.PublicKeyPath != "" {
		k.file = watch(cfg.PublicKeyPath, cfg.AttestInterval, &k.o, wire.ParsePublicKey)
		return k, nil
	}
	switch {
	case cfg.AttestMust && o.Unattested:
		return nil, errors.New("attest_must is true, and unattested keys are to be used: choose one")
	case o.Unattested:
	case cfg.RAType == RATypeLocal && o.Appraiser == nil:
		return nil, errors.New("the server itself is asked (ra_type local), and nothing appraises its evidence: name what is accepted, ask the attestation service (ra_type tca with bytedance_top_info), or use its key unattested")
	case cfg.RAType == RATypeService && len(o.TokenKeys) == 0:
		return nil, errors.New("no key of the attestation service's tokens is pinned: one that a token carries itself proves nothing; name the keys, or use the server's key unattested")
	}
	var err error
	k.svc, err = newService(&k.cfg, &k.o)
	return k, err
}

// PublicKey is [ClientKeys.Key] without what is known of the key.
func (k *ClientKeys) PublicKey(ctx context.Context) (*rsa.PublicKey, error) {
	key, _, err := k.Key(ctx)
	return key, err
}

// Attested reports whether the key of this moment is attested.
func (k *ClientKeys) Attested() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current != nil && k.current.info.Attested && k.o.Now().Before(k.current.info.Until)
}

// AttestedKey reports whether key is the key of this moment and attested, and
// whether by a simulated TEE.
func (k *ClientKeys) AttestedKey(key *rsa.PublicKey) (attested, simulated bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.current
	if c == nil || c.key == nil || !c.key.Equal(key) || !c.info.Attested || !k.o.Now().Before(c.info.Until) {
		return false, false
	}
	return true, c.info.Simulated
}

// Key returns the key of this moment. The first call waits for the attestation;
// later ones renew it behind the caller's back once it is due, and wait, or fail,
// only when it is over.
func (k *ClientKeys) Key(ctx context.Context) (*rsa.PublicKey, Info, error) {
	if k.file != nil {
		key, since, err := k.file.get()
		if err != nil {
			return nil, Info{}, wire.Errorf(wire.NoKey, "%v", err)
		}
		return key, Info{Source: SourceFile, Thumbprint: wire.Thumbprint(key), Since: since}, nil
	}
	for {
		k.mu.Lock()
		now, c := k.o.Now(), k.current
		usable := c != nil && now.Before(c.info.Until)
		if usable && now.Before(c.due) {
			k.mu.Unlock()
			return c.key, c.info, nil
		}
		if k.running == nil && now.Before(k.notYet) {
			err := k.failure
			k.mu.Unlock()
			if usable {
				return c.key, c.info, nil
			}
			return nil, Info{}, wire.Errorf(wire.NoKey, "%v", err)
		}
		if k.running == nil {
			k.running = make(chan struct{})
			go k.renew(context.WithoutCancel(ctx))
		}
		running := k.running
		k.mu.Unlock()
		if usable {
			return c.key, c.info, nil
		}
		select {
		case <-running:
		case <-ctx.Done():
			return nil, Info{}, wire.Errorf(wire.NoKey, "the server's key was not attested in time: %v", ctx.Err())
		}
		k.mu.Lock()
		c, err := k.current, k.failure
		k.mu.Unlock()
		if c == nil || err != nil && !k.o.Now().Before(c.info.Until) {
			return nil, Info{}, wire.Errorf(wire.NoKey, "%v", err)
		}
	}
}

// renew attests once, and puts down what came of it.
func (k *ClientKeys) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	defer cancel()
	a, err := k.attest(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() { close(k.running); k.running = nil }()
	now := k.o.Now()
	if k.failure = err; err != nil {
		k.retry = min(max(2*k.retry, retryFirst), retryMost)
		k.notYet = now.Add(k.retry)
		k.o.Logger.Warn("attestation failed", "err", err, "again_in", k.retry)
		return
	}
	k.retry = 0
	a.info.Since, a.due = now, now.Add(k.cfg.AttestInterval)
	a.info.Until = a.due.Add(k.o.Grace)
	k.current = a
	k.o.Logger.Info("attestation", "thumbprint", a.info.Thumbprint, "attested", a.info.Attested, "label", a.info.Label())
}

// attest asks, verifies each node, and returns the one key that they all have.
func (k *ClientKeys) attest(ctx context.Context) (*attested, error) {
	nonce := newNonce()
	nodes, err := k.svc.ask(ctx, nonce, !k.noKey)
	if err != nil {
		return nil, fmt.Errorf("attestation: %s gave no answer to go by: %w", k.svc.url.Host, err)
	}
	a := &attested{info: Info{Source: SourceService}}
	if k.svc.local {
		a.info.Source = SourceLocal
	}
	a.info.Attested = true
	for i := range nodes {
		n := &nodes[i]
		// Which node will answer is not known, so that all of them must have the key.
		if n.PEM != nodes[0].PEM {
			return nil, fmt.Errorf("attestation: the nodes %q and %q have different keys, and which of them will answer is not known", nodes[0].Name, n.Name)
		}
		v, err := k.o.node(ctx, n, nonce, k.cfg.PolicyID, k.svc.local, k.noKey)
		if err == nil {
			a.info.Simulated = a.info.Simulated || v.simulated
			if i == 0 {
				a.info.Policies = v.policies
			}
			a.info.Policies = slices.DeleteFunc(a.info.Policies, func(p string) bool { return !slices.Contains(v.policies, p) })
		} else if err = fmt.Errorf("attestation of node %q: %w", n.Name, err); !k.o.Unattested {
			// TMCP-23.6-5: A client MUST NOT use a key whose attestation failed unless its
			// operator allowed that by name, whatever its configuration file says.
			return nil, err
		} else if a.info.Failure == "" {
			a.info.Failure, a.info.Attested = err.Error(), false
		}
		a.info.Nodes = append(a.info.Nodes, n.Name)
	}
	if k.noKey {
		return a, nil
	}
	if a.key, err = wire.ParsePublicKey([]byte(nodes[0].PEM)); err != nil {
		return nil, fmt.Errorf("attestation: the key of node %q: %w", nodes[0].Name, err)
	}
	a.info.Thumbprint = wire.Thumbprint(a.key)
	return a, nil
}

// A verdict is what was found of a node.
type verdict struct {
	policies  []string
	simulated bool
}

// node verifies what an answer says of one node: the service's token, the quote,
// or both.
func (o *Options) node(ctx context.Context, n *evaicc.Node, nonce, policy string, local, noKey bool) (*verdict, error) {
	if local && o.Appraiser == nil {
		return nil, errors.New("the server was asked itself, and nothing here appraises its evidence")
	}
	v := &verdict{}
	reportData, quote := evaicc.Binding(nonce, n.PEM), []byte(nil)
	if local {
		e, err := evaicc.ParseEvidence(n.Evidence)
		if err != nil {
			return nil, fmt.Errorf("evidence: %w", err)
		}
		quote = e.Quote
	} else {
		r := evaicc.Verify(n, &evaicc.Expect{Keys: o.TokenKeys, Now: o.Now(), Skew: clockSkew, Nonce: nonce, Policy: policy, NoKey: noKey, AllowDebug: o.AllowDebug, AllowSimulated: o.AllowSimulated})
		if err := r.Err(); err != nil {
			return nil, err
		}
		reportData, quote, v.policies = r.ReportData, r.Quote, r.Policies
		v.simulated = r.Simulated
	}
	if o.Appraiser == nil {
		return v, nil
	}
	if quote == nil {
		return nil, errors.New("the evidence has no quote (tdx.quote) to appraise here")
	}
	record, err := cmw.NewRecord(evidence.TypeTDX, quote, cmw.Evidence).Encode()
	if err != nil {
		return nil, err
	}
	a, err := o.Appraiser.Appraise(ctx, protocol.Evidence{CMW: record, ReportData: reportData, Now: o.Now()})
	if err != nil {
		return nil, fmt.Errorf("the quote: %w", err)
	}
	v.simulated = a.Simulated
	return v, nil
}
