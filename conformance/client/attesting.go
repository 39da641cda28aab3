package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/identity/hand"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/evidence/verifiers"
	"github.com/trustedmcp/tmcp/gateway/verifier"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/protocol"
)

// An attesting is the attested half of a key object in the making: the attested
// key and its evidence. Every part can be bent.
type attesting struct {
	profile   string
	key       ed25519.PrivateKey
	freshness []byte // CBOR
	config    []byte // 32 bytes or nil
	world     *sim.World
	tee       sim.Options
	bound     func(*hand.Binding)       // bends what the evidence binds
	data      func([64]byte) [64]byte   // bends the report data
	wrap      func(cmw []byte) []byte   // bends the wrapper
	evidence  []byte                    // in place of all that
	sig       func(sig *hand.Signature) // bends the second signature
	first     bool                      // it stands before the identity's
}

var (
	goodImage = sha256.Sum256([]byte("the suite's honest server"))
	evilImage = sha256.Sum256([]byte("another server"))
)

// newAttesting is the honest server's.
func newAttesting(sc *scene) *attesting {
	a := &attesting{profile: sc.role(), key: newKey(), freshness: hand.MadeAt(time.Now().Unix()), world: sim.Default(), tee: sim.Options{Image: goodImage, Now: time.Now}}
	if sc.attest != nil {
		sc.attest(a)
	}
	return a
}

// put writes the attested claims, unless they stand there already.
func (a *attesting) put(claims map[int64][]byte) {
	set := func(key int64, v []byte) {
		if claims[key] == nil && v != nil {
			claims[key] = v
		}
	}
	claims[hand.ClaimProfile] = text(a.profile)
	set(hand.ClaimAttestedKey, coseKey(a.key.Public().(ed25519.PublicKey)))
	set(hand.ClaimFreshness, a.freshness)
	if a.config != nil {
		set(hand.ClaimConfig, blob(a.config))
	}
	b := hand.Binding{Role: dcbor.NewReader(claims[hand.ClaimRole]).Uint(), Identity: dcbor.NewReader(claims[hand.ClaimSub]).Text(),
		Key: coseKey(a.key.Public().(ed25519.PublicKey)), Config: a.config, Freshness: a.freshness}
	if a.bound != nil {
		a.bound(&b)
	}
	if a.evidence == nil {
		data := b.ReportData()
		if a.data != nil {
			data = a.data(data)
		}
		a.evidence = a.quote(data)
	}
	if a.wrap != nil {
		a.evidence = a.wrap(a.evidence)
	}
	set(hand.ClaimEvidence, a.evidence)
}

// quote is what the TEE says of report data. It fails only where a case asks for
// what no simulated TEE is.
func (a *attesting) quote(data [64]byte) []byte {
	tee, err := a.world.TEE(a.tee)
	if err == nil {
		var b []byte
		if b, err = tee.Attest(context.Background(), data); err == nil {
			return b
		}
	}
	panic(err)
}

func (a *attesting) signature() *hand.Signature {
	s := &hand.Signature{Alg: -8, Kid: "attested", Key: a.key}
	if a.sig != nil {
		a.sig(s)
	}
	return s
}

// role is the profile of the scene's server.
func (sc *scene) role() string {
	switch {
	case sc.server != "":
		return sc.server
	case sc.profile != "":
		return sc.profile
	}
	return "identity"
}

// usual are the settings of the scene's server.
func (sc *scene) usual() string {
	profiles, key := `"identity"`, "none"
	switch sc.role() {
	case "attested":
		profiles = `"attested","identity"`
	case "mutual":
		profiles, key = `"mutual"`, "required"
	}
	return fmt.Sprintf(`{"version":1,"profiles":[%s],"carriers":["envelope","inline","http"],"suites":["mlkem768x25519-sha256-aes256gcm","x25519-sha256-chacha20poly1305"],"mode":"required","clientKey":%q}`, profiles, key)
}

// policy are the rules that the client is given: the honest server's code.
func (sc *scene) policy() appraise.Rules {
	mrtd := sim.Measurements(evidence.TDX, goodImage)["tdx.mrtd"]
	r := appraise.Rules{Name: "conformance", Development: !sc.production, ReferenceValues: "optional", Claims: map[string][]string{"tdx.mrtd": {hex.EncodeToString(mrtd)}}}
	if sc.rules != nil {
		sc.rules(&r)
	}
	return r
}

// selfURI is who the client under test is told to be.
const selfURI = "urn:trustedmcp:client-under-test"

// attestedEnvironment adds to env, and returns the content of variables that
// name a file.
func (h *host) attestedEnvironment(env map[string]string) (files map[string][]byte, err error) {
	sc, files := h.sc, map[string][]byte{}
	if sc.profile != "" {
		env["TMCP_PROFILE"] = sc.profile
		if files["TMCP_POLICY"], err = json.Marshal(sc.policy(), json.Deterministic(true)); err != nil {
			return nil, err
		}
		if !sc.production {
			env["TMCP_SIMULATOR"] = "1"
			files["TMCP_SIMULATOR_ROOT"] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sim.Default().Simulator(evidence.TDX).Anchors().Intel[0].Raw})
		}
	}
	if sc.freshEvidence {
		env["TMCP_FRESH_EVIDENCE"] = "1"
	}
	if sc.remote != nil {
		env["TMCP_VERIFIER"] = sc.remote.url
		if files["TMCP_VERIFIER_KEY"], err = sc.remote.public(); err != nil {
			return nil, err
		}
	}
	if sc.profile == "mutual" || sc.clientKey {
		h.self = newKey()
		der, err := x509.MarshalPKCS8PrivateKey(h.self)
		if err != nil {
			return nil, err
		}
		env["TMCP_CLIENT_IDENTITY"] = selfURI
		files["TMCP_CLIENT_KEY"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if sc.profile == "mutual" {
			env["TMCP_TEE"] = "sim"
		}
	}
	return files, nil
}

// asksEvidence reports whether a request asks for evidence for a nonce.
func asksEvidence(rec *record) bool {
	if rec.msg == nil {
		return false
	}
	for _, path := range [][]string{{"evidence"}, {"_meta", protocol.MetaAttest, "evidence"}} {
		if s, _ := conformance.MemberText(rec.msg.Params, path...); s == "fresh" {
			return true
		}
	}
	return false
}

// evidenceNonce is the nonce that the evidence in the answer to x is made for, or
// nil.
func (h *host) evidenceNonce(x *exchange, nonce []byte) []byte {
	if h.trust.attest == nil || !asksEvidence(x.record) {
		return nil
	}
	if h.sc.nonceEvidence == nil {
		return nonce
	}
	x.mark()
	return h.sc.nonceEvidence(nonce)
}

// A remote is a verifier of the suite that a client asks.
type remote struct {
	bad     func(http.ResponseWriter, *http.Request) // in place of what it does
	gone    bool                                     // nobody listens
	foreign bool                                     // results are signed with another key
	strict  bool                                     // it accepts no simulated TEE
	asked   atomic.Int64

	key    *ecdsa.PrivateKey
	url    string
	server *http.Server
}

func (r *remote) start() error {
	var err error
	if r.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.url = "http://" + l.Addr().String()
	if r.gone {
		r.asked.Add(1) // it can't be seen
		return l.Close()
	}
	h, err := r.verifier()
	if err != nil {
		l.Close()
		return err
	}
	r.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.asked.Add(1)
		if r.bad != nil {
			r.bad(w, q)
			return
		}
		h.ServeHTTP(w, q)
	})}
	go func() { _ = r.server.Serve(l) }()
	return nil
}

func (r *remote) verifier() (http.Handler, error) {
	sc := scene{production: r.strict}
	p, err := appraise.NewRules(sc.policy())
	if err != nil {
		return nil, err
	}
	cfg := appraise.Config{Policy: p, Anchors: vendor.Anchors(), Verifiers: verifiers.For(p.Rules())}
	if !r.strict {
		cfg.Simulator = sim.Default().Simulator(evidence.TDX)
	}
	a, err := appraise.New(cfg)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer = r.key
	if r.foreign {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	issuer, err := verifier.NewIssuer(a, key, "")
	if err != nil {
		return nil, err
	}
	return verifier.NewServer(verifier.ServerConfig{Issuer: issuer})
}

func (r *remote) stop() {
	if r.server != nil {
		_ = r.server.Close()
	}
}

func (r *remote) public() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(r.key.Public())
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}

// records are the parts of a collection of evidence, by label.
func records(cmw []byte) map[string][]byte {
	m := map[string][]byte{}
	r := dcbor.NewReader(cmw)
	for range r.Map() {
		label := r.Text()
		m[label] = r.Skip()
		if r.Err() != nil {
			panic(r.Err())
		}
	}
	return m
}

// collection puts records together again.
func collection(m map[string][]byte) []byte {
	keys := map[string][]byte{}
	for label, v := range m {
		keys[string(text(label))] = v
	}
	b := dcbor.AppendMap(nil, len(keys))
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		b = append(append(b, k...), keys[k]...)
	}
	return b
}

// parts bends the records of the wrapper.
func parts(f func(a *attesting, m map[string][]byte)) func(*attesting) {
	return func(a *attesting) {
		a.wrap = func(cmw []byte) []byte {
			m := records(cmw)
			f(a, m)
			return collection(m)
		}
	}
}

// mark is report data that is easy to find in a quote.
var mark = [64]byte(bytes.Repeat([]byte{0xa5}, 64))
