package standin

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"

	evaicc "github.com/trustedmcp/tmcp/evidence/aicc"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
)

// A Fault is one thing that the stand-in does wrong. Each is something that a
// client has to notice.
type Fault string

// The faults.
const (
	NoFault       Fault = ""
	WrongNonce    Fault = "wrong-nonce"     // an answer to another question
	WrongKey      Fault = "wrong-key"       // the answer shows another key than the one that is bound
	ProofLeaf     Fault = "proof-leaf"      // the Merkle proof is for another leaf
	ProofPath     Fault = "proof-path"      // its path leads elsewhere
	ProofSize     Fault = "proof-size"      // its path does not fit the tree's size
	ProofPlain    Fault = "proof-plain"     // it says that its hashes have no prefixes
	ProofHash     Fault = "proof-hash"      // it names SHA-256
	ProofEmpty    Fault = "proof-empty"     // it is empty
	Expired       Fault = "expired"         // the token is over
	NoExpiry      Fault = "no-expiry"       // the token never ends
	OtherIssuer   Fault = "other-issuer"    // the token's iss is another
	BadSignature  Fault = "bad-signature"   // the signature is of something else
	NoSignature   Fault = "no-signature"    // there is none
	AlgNone       Fault = "alg-none"        // the token says alg none
	AlgHS384      Fault = "alg-hs384"       // it is a MAC under the public key (DER)
	AlgRS256      Fault = "alg-rs256"       // it is signed with another algorithm
	OtherSigner   Fault = "other-signer"    // it is signed with an attacker's key
	OwnKeyHeader  Fault = "own-key-header"  // … which its header carries (jwk)
	OwnKeyURL     Fault = "own-key-url"     // … which its header leads to (jku)
	OwnKeyClaim   Fault = "own-key-claim"   // … which its payload carries (jwk)
	ForeignKey    Fault = "foreign-key"     // well signed, it carries an attacker's key
	NoPolicies    Fault = "no-policies"     // no policy matched
	OtherPolicies Fault = "other-policies"  // another policy than the one asked for matched
	NoToken       Fault = "no-token"        // there is no token
	NodesDiffer   Fault = "nodes-differ"    // a second node has another key
	SecondBad     Fault = "second-node-bad" // a second node has the key, and no token
	Huge          Fault = "huge"            // the answer is 100 MiB long
	Redirect      Fault = "redirect"        // the answer leads elsewhere
	ServerError   Fault = "server-error"    // HTTP status 500
	NotJSON       Fault = "not-json"        // the answer is no JSON
)

// Faults lists them, without NoFault.
func Faults() []Fault {
	return []Fault{WrongNonce, WrongKey, ProofLeaf, ProofPath, ProofSize, ProofPlain, ProofHash, ProofEmpty, Expired, NoExpiry, OtherIssuer,
		BadSignature, NoSignature, AlgNone, AlgHS384, AlgRS256, OtherSigner, OwnKeyHeader, OwnKeyURL, OwnKeyClaim, ForeignKey,
		NoPolicies, OtherPolicies, NoToken, NodesDiffer, SecondBad, Huge, Redirect, ServerError, NotJSON}
}

// SetFault has the stand-in make this fault from now on.
func (s *Server) SetFault(f Fault) error {
	if f != NoFault && !slices.Contains(Faults(), f) {
		return fmt.Errorf("stand-in: fault %.40q is unknown; want one of %v", string(f), Faults())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.other == nil && f != NoFault {
		var err error
		if s.other, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return err
		}
	}
	s.fault = f
	return nil
}

// Fault is the one that is set.
func (s *Server) Fault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// Attacker is the key of whoever makes the faults; nil without any.
func (s *Server) Attacker() *rsa.PrivateKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.other
}

func (f Fault) wantsProof() bool {
	return slices.Contains([]Fault{ProofLeaf, ProofPath, ProofSize, ProofPlain, ProofHash, ProofEmpty}, f)
}

func (f Fault) facts(x *facts) {
	if f == WrongNonce {
		x.nonce = "0123456789abcdef"
	}
}

func (f Fault) proof(p *evaicc.Proof) {
	switch f {
	case ProofLeaf:
		p.Path[0][0] ^= 1
	case ProofPath:
		p.Path[1][0] ^= 1
	case ProofSize:
		p.Size += 8
	}
}

// nodes edits the answer as a whole.
func (f Fault) nodes(s *Server, nodes map[string]node) error {
	first := slices.Sorted(func(yield func(string) bool) {
		for name := range nodes {
			if !yield(name) {
				return
			}
		}
	})[0]
	n := nodes[first]
	attackers := func() (string, error) {
		b, err := wire.MarshalPublicKey(&s.Attacker().PublicKey)
		return string(b), err
	}
	var err error
	switch f {
	case WrongKey:
		if n.KeyInfo != nil {
			pem, e := attackers()
			n.KeyInfo, err = &keyInfo{pem}, e
		}
	case NoToken:
		n.Token = ""
	case ProofPlain:
		n.Evidence, err = edit(n.Evidence, func(p map[string]any) { p["metadata"].(map[string]any)["security"] = false })
	case ProofHash:
		n.Evidence, err = edit(n.Evidence, func(p map[string]any) { p["metadata"].(map[string]any)["algorithm"] = "sha256" })
	case ProofEmpty:
		n.Evidence, err = edit(n.Evidence, func(p map[string]any) { clear(p) })
	case NodesDiffer:
		pem, e := attackers()
		nodes[first+"-other"], err = node{n.Evidence, n.Token, &keyInfo{pem}}, e
	case SecondBad:
		nodes[first+"-other"] = node{n.Evidence, "", n.KeyInfo}
	}
	nodes[first] = n
	return err
}

// edit changes the proof within evidence.
func edit(evidence string, f func(proof map[string]any)) (string, error) {
	var m map[string]any
	if err := json.Unmarshal([]byte(evidence), &m); err != nil {
		return "", err
	}
	f(m["proof"].(map[string]any))
	b, err := json.Marshal(m, json.Deterministic(true))
	return string(b), err
}

// respond answers in place of the service.
func (f Fault) respond(w http.ResponseWriter, r *http.Request) bool {
	switch f {
	case Huge:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"Result":{"`))
		chunk := make([]byte, 1<<16)
		for i := range chunk {
			chunk[i] = 'a'
		}
		for range 100 << 20 / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
	case Redirect:
		http.Redirect(w, r, "/?Action=GetAttestationBackend&Version=2024-12-24&again=1", http.StatusTemporaryRedirect)
	case ServerError:
		refuse(w, http.StatusInternalServerError, "InternalError", "made to fail")
	case NotJSON:
		_, _ = w.Write([]byte("<html>"))
	default:
		return false
	}
	return true
}

// token signs claims, or does what the fault says.
func (s *Server) token(claims map[string]any, f Fault) (string, error) {
	header := map[string]any{"alg": "RS384", "typ": "JWT"}
	if s.cfg.KeyID != "" {
		header["kid"] = s.cfg.KeyID
	}
	key, hash := s.cfg.Key, crypto.SHA384
	switch f {
	case Expired:
		for _, name := range []string{"iat", "nbf", "exp"} {
			claims[name] = claims[name].(int64) - 24*60*60
		}
	case NoExpiry:
		delete(claims, "exp")
	case OtherIssuer:
		claims["iss"] = "Another-Service"
	case NoPolicies:
		claims["policies_matched"] = []string{}
	case OtherPolicies:
		claims["policies_matched"] = []string{"another policy"}
	case AlgNone:
		header["alg"] = "none"
	case AlgHS384:
		header["alg"] = "HS384"
	case AlgRS256:
		header["alg"], hash = "RS256", crypto.SHA256
	case OtherSigner:
		key = s.Attacker()
	case OwnKeyHeader:
		key, header["jwk"] = s.Attacker(), jwk(&s.Attacker().PublicKey)
	case OwnKeyURL:
		key, header["jku"] = s.Attacker(), "https://attacker.example/jwks.json"
	case OwnKeyClaim:
		key, claims["jwk"] = s.Attacker(), jwk(&s.Attacker().PublicKey)
	case ForeignKey:
		claims["jwk"] = jwk(&s.Attacker().PublicKey)
	}
	b64 := base64.RawURLEncoding
	head, err := json.Marshal(header, json.Deterministic(true))
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims, json.Deterministic(true))
	if err != nil {
		return "", err
	}
	signed := b64.EncodeToString(head) + "." + b64.EncodeToString(payload)
	h := hash.New()
	h.Write([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil))
	if err != nil {
		return "", err
	}
	switch f {
	case BadSignature:
		sig[len(sig)-1] ^= 1
	case NoSignature, AlgNone:
		sig = nil
	case AlgHS384:
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return "", err
		}
		m := hmac.New(sha512.New384, der)
		m.Write([]byte(signed))
		sig = m.Sum(nil)
	}
	return signed + "." + b64.EncodeToString(sig), nil
}
