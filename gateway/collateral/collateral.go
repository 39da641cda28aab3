// Package collateral fetches what verifiers need beside evidence: Intel's TCB
// information, QE identities and revocation lists, AMD's VCEK certificates, and
// OCSP responses for NVIDIA GPUs. Make a [Fetcher] with [New] and give
// [Fetcher.For] the evidence.
//
// It is the only part of this module that goes to a vendor's network, and
// nothing that it returns is trusted: verifiers check every signature to their
// pinned anchors. What is checked here, form and dates, is checked so that a
// captive portal's page or a cut-off answer never enters the cache.
package collateral

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

// Base URLs of the vendors' services.
const (
	IntelPCS     = "https://api.trustedservices.intel.com"
	IntelRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	AMDKDS       = "https://kdsintf.amd.com"
)

var (
	// ErrOffline: what is needed is not in the cache, and the network is not allowed.
	ErrOffline = errors.New("collateral: not in the cache, and offline")
	// ErrNotFound: the service doesn't know the platform.
	ErrNotFound = errors.New("collateral: the service has no such item")
	// ErrUnreachable: no useful answer came within the time allowed.
	ErrUnreachable = errors.New("collateral: the service can't be reached")
	// ErrBusy: the service asks to come back later than the time allowed.
	ErrBusy = errors.New("collateral: the service limits its rate")
	// ErrMalformed: an answer is not what its URL promises.
	ErrMalformed = errors.New("collateral: malformed answer")
	// ErrUnknown: evidence doesn't tell what it needs.
	ErrUnknown = errors.New("collateral: the evidence does not say what it needs")
)

// Config says where collateral comes from. The zero value asks the vendors and
// caches nothing.
type Config struct {
	PCS     string // base URL of Intel's PCS or of a PCCS; default IntelPCS
	RootCRL string // URL of the root CA's CRL; default Intel's, or a PCCS's own
	KDS     string // base URL of AMD's KDS or a mirror; default AMDKDS
	// OCSP overrides the responder that NVIDIA's certificates name.
	OCSP string

	Cache   string // directory, made when missing; "" caches nothing
	Offline bool   // use the cache only, whatever its age
	// MaxAge is how long lists with a date of renewal are used without asking
	// again, within that date. Default a day: a vendor may renew early.
	MaxAge time.Duration
	// MaxWait bounds the time spent waiting for a busy service, in total for one
	// Fetcher. Default two minutes.
	MaxWait time.Duration
	Product string // AMD product line, for reports that don't tell: Milan, Genoa, Turin

	// Waiting, if not nil, is told of each wait before it.
	Waiting func(url string, d time.Duration)

	Client *http.Client // nil: proxies from the environment, timeouts, no cookies
	Now    func() time.Time
}

// A Fetcher fetches collateral. Safe for concurrent use.
type Fetcher struct {
	cfg    Config
	client *http.Client
	cache  *cache
	sleep  func(context.Context, time.Duration) error

	mu      sync.Mutex
	waited  time.Duration
	lastKDS time.Time
	sources []Source
}

// A Source says where a piece of collateral came from.
type Source struct {
	URL       string
	FromCache bool
	Fetched   time.Time
	Renewal   time.Time // when the vendor renews it at the latest; zero: never
}

// New checks cfg and opens the cache.
func New(cfg Config) (*Fetcher, error) {
	own := cfg.PCS != "" && strings.TrimSuffix(cfg.PCS, "/") != IntelPCS
	for _, u := range []struct {
		name string
		val  *string
		def  string
	}{{"PCS", &cfg.PCS, IntelPCS}, {"KDS", &cfg.KDS, AMDKDS}, {"root CRL", &cfg.RootCRL, ""}, {"OCSP", &cfg.OCSP, ""}} {
		if *u.val == "" {
			*u.val = u.def
		}
		if *u.val == "" {
			continue
		}
		p, err := url.Parse(*u.val)
		if err != nil || p.Host == "" || p.Scheme != "https" && p.Scheme != "http" || p.RawQuery != "" {
			return nil, fmt.Errorf("collateral: %s %q is not an http or https URL without a query", u.name, *u.val)
		}
		*u.val = strings.TrimSuffix(*u.val, "/")
	}
	if cfg.RootCRL == "" {
		cfg.RootCRL = IntelRootCRL
		if own {
			cfg.RootCRL = cfg.PCS + "/sgx/certification/v4/rootcacrl"
		}
	}
	switch cfg.Product {
	case "", "Milan", "Genoa", "Turin":
	default:
		return nil, fmt.Errorf("collateral: product %q: want Milan, Genoa (also for Bergamo and Siena) or Turin", cfg.Product)
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = 24 * time.Hour
	}
	if cfg.MaxWait <= 0 {
		cfg.MaxWait = 2 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Fetcher{cfg: cfg, client: cfg.Client, sleep: sleep}
	if f.client == nil {
		f.client = newClient()
	}
	if cfg.Cache != "" {
		c, err := openCache(cfg.Cache)
		if err != nil {
			return nil, err
		}
		f.cache = c
	}
	if cfg.Offline && f.cache == nil {
		return nil, errors.New("collateral: offline needs a cache directory")
	}
	return f, nil
}

// For fetches what item's verification needs, as endorsements.
func (f *Fetcher) For(ctx context.Context, item evidence.Item) ([]evidence.Item, error) {
	switch item.MediaType {
	case evidence.TypeTDX, evidence.TypeSGX:
		p, err := ParseQuote(item.Value)
		if err != nil {
			return nil, err
		}
		b, err := f.Intel(ctx, p)
		if err != nil {
			return nil, err
		}
		return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: b}}, nil
	case evidence.TypeSNP:
		p, err := ParseReport(item.Value, f.cfg.Product)
		if err != nil {
			return nil, err
		}
		return f.AMD(ctx, p)
	case evidence.TypeNVIDIA:
		return f.NVIDIA(ctx, item.Value)
	case evidence.TypeNitro, evidence.TypeCCA:
		return nil, fmt.Errorf("%w: %s carries or pins all that its verification needs", ErrUnknown, item.MediaType)
	}
	return nil, fmt.Errorf("%w: no vendor's service is known for %s", ErrUnknown, item.MediaType)
}

// Sources are those of all that was fetched, in order.
func (f *Fetcher) Sources() []Source {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Source(nil), f.sources...)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
