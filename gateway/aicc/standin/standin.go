// Package standin is a local stand-in for AICC's attestation service, so that
// confidential mode of profile aicc-0.1 runs on one machine: clients of the
// published package and ours get, for a service by name, its public key with
// simulated TDX evidence and a token about it. [New] makes the handler.
//
// It proves nothing. It vouches for whatever key it was told, its TEEs are
// simulated, and its tokens say so (tdx.simulated), which our verifier refuses
// unless simulated TEEs are asked for. The published package does not look.
//
// A [Fault] makes it answer wrongly in one way, to see what a client does.
package standin

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	evaicc "github.com/trustedmcp/tmcp/evidence/aicc"
	"github.com/trustedmcp/tmcp/evidence/sim"
	gwaicc "github.com/trustedmcp/tmcp/gateway/aicc"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

const (
	maxQuestion = 64 << 10 // bytes
	// DefaultLifetime is of a token.
	DefaultLifetime = 5 * time.Minute
	keyBits         = 3072
)

// A Service is what the stand-in vouches for.
type Service struct {
	// Public returns the key of this moment; nil: the service has none, as clients
	// that are attested have.
	Public func(ctx context.Context) (*rsa.PublicKey, error)
	Image  [32]byte // of its simulated TEEs
	Nodes  int      // 0: one
	Debug  bool     // its TEEs are open to debugging
}

// A Policy says which services match.
type Policy struct {
	Images [][32]byte // nil: any
}

// Config says what the stand-in does.
type Config struct {
	Key      *rsa.PrivateKey    // signs tokens, 2048 bits or more; nil: a new one
	KeyID    string             // kid of tokens; "": none
	Services map[string]Service // by ServiceName, or by deployment of AttestedPods
	Policies map[string]Policy  // by id; nil: one with the id "default" that matches all
	// Gateway has requests refused that it did not sign; nil: any are answered.
	Gateway *gwaicc.Gateway
	// Merkle puts the binding into a tree with others, and a proof into the evidence.
	Merkle bool
	// EmbedKey has tokens carry the key that they are signed with (jwk), as older
	// clients of the service expect.
	EmbedKey bool
	Fault    Fault
	Lifetime time.Duration // of tokens; 0: DefaultLifetime
	World    *sim.World    // nil: sim.Default
	Logger   *slog.Logger
	Now      func() time.Time
}

// A Server is the stand-in, an http.Handler.
type Server struct {
	cfg Config

	mu    sync.Mutex
	fault Fault
	other *rsa.PrivateKey // of an attacker, for faults
}

// New makes a stand-in.
func New(cfg Config) (*Server, error) {
	var err error
	if cfg.Key == nil {
		if cfg.Key, err = rsa.GenerateKey(rand.Reader, keyBits); err != nil {
			return nil, err
		}
	}
	if n := cfg.Key.N.BitLen(); n < 2048 {
		return nil, fmt.Errorf("stand-in: a token key of %d bits; want 2048 or more", n)
	}
	if len(cfg.Services) == 0 {
		return nil, errors.New("stand-in: name at least one service")
	}
	if cfg.Policies == nil {
		cfg.Policies = map[string]Policy{"default": {}}
	}
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = DefaultLifetime
	}
	if cfg.World == nil {
		cfg.World = sim.Default()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg}
	return s, s.SetFault(cfg.Fault)
}

// Public is the key of the tokens: what clients pin.
func (s *Server) Public() *rsa.PublicKey { return &s.cfg.Key.PublicKey }

// A question is what clients send.
type question struct {
	Nonce          string       `json:"Nonce"`
	PolicyID       string       `json:"PolicyID"`
	ServiceName    string       `json:"ServiceName"`
	AttestedPods   []gwaicc.Pod `json:"AttestedPods"`
	KeyNegotiation bool         `json:"KeyNegotiation"`
	Token          bool         `json:"Token"`
}

// A node is what is answered about one.
type node struct {
	Evidence string   `json:"evidence"`
	Token    string   `json:"token"`
	KeyInfo  *keyInfo `json:"key_info,omitzero"`
}

type keyInfo struct {
	PEM string `json:"pub_key_info"`
}

// ServeHTTP answers POST /?Action=GetAttestationBackend.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Header.Get("Origin") != "" {
		refuse(w, http.StatusForbidden, "AccessDenied", "this is not for browsers")
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		refuse(w, http.StatusNotFound, "InvalidActionOrVersion", "want POST /?Action=GetAttestationBackend&Version=2024-12-24")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		refuse(w, http.StatusBadRequest, "InvalidParameter", "the body is too large or broke off")
		return
	}
	if g := s.cfg.Gateway; g != nil {
		if err := g.CheckSignature(r, body, s.cfg.Now()); err != nil {
			refuse(w, http.StatusUnauthorized, "SignatureDoesNotMatch", err.Error())
			return
		}
	}
	if a := r.URL.Query().Get("Action"); a != "GetAttestationBackend" {
		refuse(w, http.StatusNotFound, "InvalidActionOrVersion", fmt.Sprintf("action %.40q is unknown", a))
		return
	}
	nodes, err := s.answer(r.Context(), body)
	if err != nil {
		s.cfg.Logger.Warn("a question was refused", "err", err)
		refuse(w, http.StatusBadRequest, "InvalidParameter", err.Error())
		return
	}
	if s.Fault().respond(w, r) {
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"ResponseMetadata": map[string]any{"Action": "GetAttestationBackend", "Version": "2024-12-24"},
		"Result":           nodes,
	})
}

func reply(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b)
}

func refuse(w http.ResponseWriter, code int, name, message string) {
	reply(w, code, map[string]any{"ResponseMetadata": map[string]any{"Error": map[string]string{"Code": name, "Message": message}}})
}

// answer makes the nodes for a question.
func (s *Server) answer(ctx context.Context, body []byte) (map[string]node, error) {
	if err := jsonrpc.Check(body, jsonrpc.Limits{MaxBytes: maxQuestion, MaxDepth: 8}); err != nil {
		return nil, err
	}
	var q question
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, errors.New("the question is not one of this service")
	}
	if len(q.Nonce) < 8 || len(q.Nonce) > 128 {
		return nil, fmt.Errorf("the nonce has %d bytes; want 8 to 128", len(q.Nonce))
	}
	name := q.ServiceName
	if name == "" && len(q.AttestedPods) == 1 {
		name = q.AttestedPods[0].Deployment
	}
	service, ok := s.cfg.Services[name]
	if !ok {
		return nil, fmt.Errorf("there is no service %.80q", name)
	}
	pem := ""
	if q.KeyNegotiation {
		if service.Public == nil {
			return nil, fmt.Errorf("service %q has no key", name)
		}
		key, err := service.Public(ctx)
		if err != nil {
			s.cfg.Logger.Error("the key of a service can't be had", "service", name, "err", err)
			return nil, fmt.Errorf("the key of service %q can't be had now", name)
		}
		text, err := wire.MarshalPublicKey(key)
		if err != nil {
			return nil, err
		}
		pem = string(text)
	}
	nodes := map[string]node{}
	for i := range max(1, service.Nodes) {
		n, err := s.node(&service, &facts{name: name, nonce: q.Nonce, pem: pem, policy: q.PolicyID, index: i}, s.Fault())
		if err != nil {
			return nil, err
		}
		if !q.KeyNegotiation {
			n.KeyInfo = nil
		}
		nodes[fmt.Sprintf("%s-%d", name, i)] = n
	}
	return nodes, s.Fault().nodes(s, nodes)
}

// facts are what a node's evidence and token are about.
type facts struct {
	name, nonce, pem, policy string
	index                    int
}

func (s *Server) node(service *Service, f *facts, fault Fault) (node, error) {
	fault.facts(f)
	reportData := evaicc.Binding(f.nonce, f.pem)
	var proof *evaicc.Proof
	if s.cfg.Merkle || fault.wantsProof() {
		leaves := make([][64]byte, 5)
		for i := range leaves {
			leaves[i] = evaicc.Leaf(evaicc.Binding(fmt.Sprintf("another workload %d of this node", i), f.pem))
		}
		leaves[3] = evaicc.Leaf(reportData)
		reportData, proof = evaicc.Prove(leaves, 3)
		fault.proof(proof)
	}
	tdx := sim.TDX{Image: service.Image, Debug: service.Debug, Platform: sim.Platform{Name: fmt.Sprintf("%s-%d", f.name, f.index)}}
	quote, err := s.cfg.World.TDXQuote(reportData, tdx)
	if err != nil {
		return node{}, err
	}
	ev := map[string]any{"tdx": map[string]any{"quote": base64.StdEncoding.EncodeToString(quote)}, "simulated": true}
	if proof != nil {
		ev["proof"] = jsontext.Value(proof.Encode())
	}
	text, err := json.Marshal(ev, json.Deterministic(true))
	if err != nil {
		return node{}, err
	}
	mrtd := sim.Measure("tdx.mrtd", service.Image)
	now := s.cfg.Now()
	matched, unmatched := s.policies(service, f.policy)
	claims := map[string]any{
		"iss": evaicc.Issuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.cfg.Lifetime).Unix(),
		"tdx":                map[string]any{"report_data": hex.EncodeToString(reportData[:]), "mr_td": hex.EncodeToString(mrtd[:]), "debug": service.Debug, "simulated": true},
		"policies_matched":   matched,
		"policies_unmatched": unmatched,
	}
	if s.cfg.EmbedKey {
		claims["jwk"] = jwk(&s.cfg.Key.PublicKey)
	}
	tok, err := s.token(claims, fault)
	if err != nil {
		return node{}, err
	}
	return node{Evidence: string(text), Token: tok, KeyInfo: &keyInfo{f.pem}}, nil
}

// policies asks the one policy that the question names, or else all.
func (s *Server) policies(service *Service, id string) (matched, unmatched []string) {
	matched, unmatched = []string{}, []string{}
	for name, p := range s.cfg.Policies {
		switch {
		case id != "" && id != name:
		case p.Images == nil || slices.Contains(p.Images, service.Image):
			matched = append(matched, name)
		default:
			unmatched = append(unmatched, name)
		}
	}
	slices.Sort(matched)
	slices.Sort(unmatched)
	return matched, unmatched
}

// jwk is a public key as a JWK.
func jwk(k *rsa.PublicKey) map[string]string {
	b64 := base64.RawURLEncoding
	return map[string]string{"kty": "RSA", "alg": "RS384", "use": "sig", "n": b64.EncodeToString(k.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(k.E)).Bytes())}
}
