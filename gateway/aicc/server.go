package aicc

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

const (
	// MaxKeys is how many private keys a server has at once: package transport/aicc
	// looks at no more.
	MaxKeys = 4
	// DefaultKeep is how long a server keeps a key that was replaced. Clients of the
	// published package look for a new one once an hour.
	DefaultKeep = 2 * time.Hour
	keyBits     = 4096
)

// ServerOptions are what a server_config.json does not say.
type ServerOptions struct {
	Options // of ServerConfig.ClientRA, mostly
	// Keep is how long a key that was replaced still opens; 0: DefaultKeep. At most
	// MaxKeys are kept, whatever it says.
	Keep time.Duration
	// Generate makes keys where the configuration says random; nil: RSA of 4096
	// bits.
	Generate func() (*rsa.PrivateKey, error)
}

// ServerKeys is where a server's private keys come from. Safe for concurrent use.
type ServerKeys struct {
	cfg  ServerConfig
	o    ServerOptions
	file *watched[[]*rsa.PrivateKey] // nil: random keys
	gate *ClientKeys                 // what must be attested of clients; nil: nothing

	mu     sync.Mutex
	keys   []heldKey // newest first
	due    time.Time // for a random key
	making bool
	refuse error // the last reason to have no keys, for the log
}

type heldKey struct {
	key      *rsa.PrivateKey
	replaced time.Time // zero: it is the newest
}

// NewServerKeys reads or makes the first key.
func NewServerKeys(cfg ServerConfig, o ServerOptions) (*ServerKeys, error) {
	o.defaults()
	if o.Keep <= 0 {
		o.Keep = DefaultKeep
	}
	if o.Generate == nil {
		o.Generate = func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, keyBits) }
	}
	if cfg.RefreshInterval == 0 {
		cfg.RefreshInterval = DefaultInterval
	}
	s := &ServerKeys{cfg: cfg, o: o}
	if cfg.ClientRA != nil && !o.Unattested {
		ra := *cfg.ClientRA
		if ra.AttestInterval = cfg.RefreshInterval; ra.AttestInterval < 0 {
			ra.AttestInterval = DefaultInterval
		}
		var err error
		if s.gate, err = NewClientKeys(ra, o.Options); err != nil {
			return nil, fmt.Errorf("client_ra_config: %w", err)
		}
		s.gate.noKey = true
	} else if cfg.ClientRA != nil {
		o.Logger.Warn("clients are NOT attested, although client_ra_config asks for it")
	}
	switch {
	case cfg.KeyFile != "" && cfg.Random:
		return nil, errors.New("a key file and random keys: choose one")
	case cfg.KeyFile != "":
		s.file = watch(cfg.KeyFile, cfg.RefreshInterval, &s.o.Options, privateKeys)
		if _, _, err := s.file.get(); err != nil {
			return nil, err
		}
		// Files of the published package's users are often readable by all, so this is
		// not refused.
		if info, err := os.Stat(cfg.KeyFile); err == nil && info.Mode().Perm()&0o077 != 0 {
			o.Logger.Warn("others can read the private key; run chmod 600 on it", "file", cfg.KeyFile, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
		}
	case cfg.Random:
		key, err := o.Generate()
		if err != nil {
			return nil, err
		}
		s.add([]*rsa.PrivateKey{key})
		if cfg.RefreshInterval > 0 && cfg.RefreshInterval*(MaxKeys-1) < DefaultInterval {
			o.Logger.Warn("keys change so often that clients which look for a new one once an hour lose calls", "refresh_interval", cfg.RefreshInterval, "keys_kept", MaxKeys)
		}
	default:
		return nil, errors.New("there is no key: give a key file, or have random ones made")
	}
	return s, nil
}

// Keys returns the private keys that open, newest first. It returns none while
// clients are to be attested, and are not.
func (s *ServerKeys) Keys() []*rsa.PrivateKey {
	if s.gate != nil {
		if _, _, err := s.gate.Key(context.Background()); err != nil {
			s.mu.Lock()
			if s.refuse == nil {
				s.o.Logger.Error("nothing is opened: the clients are not attested", "err", err)
			}
			s.refuse = err
			s.mu.Unlock()
			return nil
		}
	}
	keys := s.all()
	s.mu.Lock()
	s.refuse = nil
	s.mu.Unlock()
	return keys
}

// Public is the newest key: what clients are to seal to.
func (s *ServerKeys) Public() *rsa.PublicKey {
	if keys := s.all(); len(keys) > 0 {
		return &keys[0].PublicKey
	}
	return nil
}

func (s *ServerKeys) all() []*rsa.PrivateKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	var given []*rsa.PrivateKey
	if s.file != nil {
		given, _, _ = s.file.get() // what it held before, while it can't be read
	}
	if given != nil {
		s.add(given)
	} else if s.cfg.Random && s.cfg.RefreshInterval > 0 && !s.making && !now.Before(s.due) {
		s.making = true
		go s.generate()
	}
	s.keys = slices.DeleteFunc(s.keys, func(k heldKey) bool { return !k.replaced.IsZero() && now.Sub(k.replaced) >= s.o.Keep })
	out := make([]*rsa.PrivateKey, len(s.keys))
	for i, k := range s.keys {
		out[i] = k.key
	}
	return out
}

// add puts keys in front of those that there are. Callers hold the mutex, or are
// the only ones.
func (s *ServerKeys) add(given []*rsa.PrivateKey) {
	now := s.o.Now()
	s.due = now.Add(s.cfg.RefreshInterval)
	if slices.EqualFunc(s.keys[:min(len(given), len(s.keys))], given, func(h heldKey, k *rsa.PrivateKey) bool { return h.key == k && h.replaced.IsZero() }) &&
		(len(s.keys) == len(given) || !s.keys[len(given)].replaced.IsZero()) {
		return
	}
	var next []heldKey
	for _, k := range given {
		next = append(next, heldKey{key: k})
	}
	for _, h := range s.keys {
		if slices.ContainsFunc(given, func(k *rsa.PrivateKey) bool { return k.Equal(h.key) }) {
			continue
		}
		if h.replaced.IsZero() {
			h.replaced = now
		}
		next = append(next, h)
	}
	s.keys = next[:min(len(next), MaxKeys)]
	s.o.Logger.Info("private keys", "newest", wire.Thumbprint(&given[0].PublicKey), "keys", len(s.keys))
}

// privateKeys reads the private keys of a file, newest first. The published
// package reads the first; the others are for a server that restarts while
// clients still have the key before.
func privateKeys(b []byte) (keys []*rsa.PrivateKey, err error) {
	for len(keys) < MaxKeys {
		block, rest := pem.Decode(b)
		if block == nil && len(keys) > 0 {
			return keys, nil
		}
		k, err := wire.ParsePrivateKey(b[:len(b)-len(rest)])
		if err != nil {
			return nil, err
		}
		keys, b = append(keys, k), rest
	}
	if block, _ := pem.Decode(b); block != nil {
		return nil, fmt.Errorf("more than %d private keys", MaxKeys)
	}
	return keys, nil
}

// generate makes the next random key: it takes seconds.
func (s *ServerKeys) generate() {
	key, err := s.o.Generate()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.making = false
	if err != nil {
		s.due = s.o.Now().Add(retryMost)
		s.o.Logger.Error("no new key could be made; the one before is used", "err", err)
		return
	}
	s.add([]*rsa.PrivateKey{key})
}
