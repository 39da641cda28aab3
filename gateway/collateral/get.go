package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	maxBody     = 4 << 20 // bytes; the largest known item, a PCK CRL, has some 200 KiB
	maxAttempts = 5
	timeout     = 30 * time.Second // of one attempt
	backoff     = 2 * time.Second  // before the second attempt; doubles
	// kdsPause is between two requests for VCEKs: KDS answers about one in that
	// time to one address.
	kdsPause = 10 * time.Second
)

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  timeout,
			MaxResponseHeaderBytes: 64 << 10, // issuer chains travel in headers
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           4,
			IdleConnTimeout:        time.Minute,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("more than 3 redirects")
			}
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return errors.New("redirected from https to " + req.URL.Scheme)
			}
			return nil
		},
	}
}

// A kind says what an answer must be.
type kind struct {
	accept string   // media type
	strict bool     // no other media type will do
	header []string // names under which the issuer chain may come
	// check looks at the content, and tells when the vendor renews it.
	check func(entry) (renewal time.Time, err error)
	fixed bool // never renewed before that date
	slow  bool // at most one request in kdsPause
}

// An entry is an answer, as it is cached.
type entry struct {
	Body   []byte
	Issuer string // PEM, from the issuer chain header
}

func (f *Fetcher) get(ctx context.Context, url string, k kind) (entry, error) {
	return f.through(ctx, url, k, func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	})
}

// through returns what stands at url: from the cache while it is young, else
// from the network, else from the cache while the vendor's date allows.
func (f *Fetcher) through(ctx context.Context, url string, k kind, request func() (*http.Request, error)) (entry, error) {
	now := f.cfg.Now()
	cached, fetched, hit := f.cache.get(url)
	var renewal time.Time
	if hit {
		var err error
		if renewal, err = k.check(cached); err != nil {
			hit = false // of another version of this program, or damaged
		}
	}
	use := func() (entry, error) {
		f.note(Source{url, true, fetched, renewal})
		return cached, nil
	}
	current := now.Before(renewal)
	if hit && (f.cfg.Offline || current && (k.fixed || now.Sub(fetched) < f.cfg.MaxAge)) {
		return use()
	}
	if f.cfg.Offline {
		return entry{}, fmt.Errorf("%w: %s", ErrOffline, url)
	}
	e, until, err := f.fetch(ctx, url, k, request)
	if err != nil {
		if hit && current && (errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBusy)) {
			return use()
		}
		return entry{}, err
	}
	f.cache.put(url, e, now)
	f.note(Source{url, false, now, until})
	return e, nil
}

func (f *Fetcher) note(s Source) {
	f.mu.Lock()
	f.sources = append(f.sources, s)
	f.mu.Unlock()
}

// fetch asks the network, and again when that may help.
func (f *Fetcher) fetch(ctx context.Context, url string, k kind, request func() (*http.Request, error)) (entry, time.Time, error) {
	pause := backoff
	for attempt := 1; ; attempt++ {
		if k.slow {
			if err := f.spaceOut(ctx, url); errors.Is(err, ErrBusy) {
				return entry{}, time.Time{}, fmt.Errorf("%w: %s: one request in %v; allow a longer wait", ErrBusy, url, kdsPause)
			} else if err != nil {
				return entry{}, time.Time{}, err
			}
		}
		req, err := request()
		if err != nil {
			return entry{}, time.Time{}, fmt.Errorf("collateral: %w", err)
		}
		e, retryAfter, err := f.do(req, k)
		if err == nil {
			renewal, err := k.check(e)
			if err != nil {
				return entry{}, time.Time{}, fmt.Errorf("%w: %s: %v", ErrMalformed, url, err)
			}
			return e, renewal, nil
		}
		if ctx.Err() != nil {
			return entry{}, time.Time{}, ctx.Err()
		}
		if !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrBusy) || attempt == maxAttempts {
			return entry{}, time.Time{}, err
		}
		wait := max(pause, retryAfter)
		pause *= 2
		switch waited := f.wait(ctx, url, wait); {
		case errors.Is(waited, ErrBusy) && errors.Is(err, ErrBusy):
			return entry{}, time.Time{}, fmt.Errorf("%w; try again in %v, or allow a longer wait", err, wait.Round(time.Second))
		case errors.Is(waited, ErrBusy):
			return entry{}, time.Time{}, err
		case waited != nil:
			return entry{}, time.Time{}, waited
		}
	}
}

// wait sleeps within what MaxWait leaves.
func (f *Fetcher) wait(ctx context.Context, url string, d time.Duration) error {
	f.mu.Lock()
	over := f.waited+d > f.cfg.MaxWait
	if !over {
		f.waited += d
	}
	f.mu.Unlock()
	if over {
		return ErrBusy
	}
	if f.cfg.Waiting != nil {
		f.cfg.Waiting(url, d)
	}
	return f.sleep(ctx, d)
}

// spaceOut keeps requests for VCEKs apart.
func (f *Fetcher) spaceOut(ctx context.Context, url string) error {
	f.mu.Lock()
	now := f.cfg.Now()
	next := f.lastKDS.Add(kdsPause)
	if next.Before(now) {
		next = now
	}
	f.lastKDS = next
	f.mu.Unlock()
	if d := next.Sub(now); d > 0 {
		return f.wait(ctx, url, d)
	}
	return nil
}

// do makes one request.
func (f *Fetcher) do(req *http.Request, k kind) (e entry, retryAfter time.Duration, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	url := req.URL.String()
	req.Header.Set("Accept", k.accept)
	req.Header.Set("User-Agent", "tmcp")
	res, err := f.client.Do(req.WithContext(ctx))
	if err != nil {
		return e, 0, fmt.Errorf("%w: %v", ErrUnreachable, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusOK:
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone, res.StatusCode == http.StatusBadRequest:
		return e, 0, fmt.Errorf("%w: %s answered %s", ErrNotFound, url, res.Status)
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable:
		return e, f.retryAfter(res.Header.Get("Retry-After")), fmt.Errorf("%w: %s answered %s", ErrBusy, url, res.Status)
	case res.StatusCode >= 500:
		return e, 0, fmt.Errorf("%w: %s answered %s", ErrUnreachable, url, res.Status)
	default:
		return e, 0, fmt.Errorf("%w: %s answered %s", ErrMalformed, url, res.Status)
	}
	mt, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if mt == "text/html" || k.strict && mt != k.accept {
		return e, 0, fmt.Errorf("%w: %s answered with content type %.60q, want %s; is there a captive portal or a proxy's page in the way?", ErrMalformed, url, mt, k.accept)
	}
	if e.Body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1)); err != nil {
		return e, 0, fmt.Errorf("%w: %s broke off: %v", ErrUnreachable, url, err)
	}
	if len(e.Body) > maxBody {
		return e, 0, fmt.Errorf("%w: %s answered with more than %d bytes", ErrMalformed, url, maxBody)
	}
	for _, h := range k.header {
		if v := res.Header.Get(h); v != "" {
			if e.Issuer, err = unescapePEM(v); err != nil {
				return e, 0, fmt.Errorf("%w: %s: header %s: %v", ErrMalformed, url, h, err)
			}
		}
	}
	if len(k.header) > 0 && e.Issuer == "" {
		return e, 0, fmt.Errorf("%w: %s: header %s is missing", ErrMalformed, url, k.header[0])
	}
	return e, 0, nil
}

// retryAfter reads RFC 9110 section 10.2.3: seconds or a date.
func (f *Fetcher) retryAfter(v string) time.Duration {
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(f.cfg.Now()))
	}
	return 0
}
