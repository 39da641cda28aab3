package verifier

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// t0 is when everything is verified that does not say otherwise.
var t0 = sim.Epoch.Add(12 * time.Hour)

type (
	obj = map[string]any
	m   = map[any]any
	arr = []any
)

// must stops where the suite itself is at fault; the engine tells.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var coder = must(cbor.CoreDetEncOptions().EncMode())

// enc is deterministic CBOR.
func enc(v any) []byte { return must(coder.Marshal(v)) }

// seed is 32 bytes that a name stands for.
func seed(name string) []byte {
	h := sha256.Sum256([]byte("tmcp-conform verifier: " + name))
	return h[:]
}

func edKey(name string) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed(name)) }

// wantData is the report data that evidence outside key objects must bind.
var wantData = sha512.Sum512([]byte("tmcp-conform verifier: report data"))

var otherData = sha512.Sum512([]byte("tmcp-conform verifier: other report data"))

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func pemsOf(certs []*x509.Certificate) (out []string) {
	for _, c := range certs {
		out = append(out, pemOf(c))
	}
	return out
}

func pemKey(pub crypto.PublicKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(pub))}))
}

// anchors writes anchors for a request.
func anchors(a *evidence.Anchors) *Anchors {
	out := &Anchors{Intel: pemsOf(a.Intel), AWS: pemsOf(a.AWS), NVIDIA: pemsOf(a.NVIDIA)}
	for _, c := range a.AMD {
		out.AMD = append(out.AMD, AMDChain{c.Product, pemOf(c.ARK), pemsOf(c.ASK)})
	}
	for _, k := range a.CCA {
		out.CCA = append(out.CCA, CCAKey{k.ImplementationID, k.InstanceID, pemKey(k.Key)})
	}
	return out
}

// policy is a policy for development that accepts what leads to a simulator's
// root and is up to date; change replaces members.
func policy(change obj) jsontext.Value {
	p := obj{"name": "conformance", "development": true, "reference_values": "optional", "tcb": obj{"unknown": true}}
	maps.Copy(p, change)
	return must(json.Marshal(p, json.Deterministic(true)))
}

// tcb is a policy's part about firmware.
func tcb(change obj) obj {
	p := obj{"unknown": true}
	maps.Copy(p, change)
	return obj{"tcb": p}
}

// A scene is evidence in the making. Its zero changes give evidence that must
// be accepted.
type scene struct {
	kind  evidence.Kind
	tdx   sim.TDX
	sgx   sim.SGX
	snp   sim.SNP
	nitro sim.Nitro
	cca   sim.CCA
	gpu   sim.GPU

	col   sim.Collateral
	bare  bool       // without collateral, or without the key's certificate
	signs *sim.World // who signs the evidence
	endorses,
	anchored *sim.World // who signs endorsements, and who is trusted

	data       [64]byte
	patch      func([]byte) []byte // of the evidence
	patchItem  func([]byte) []byte // of the endorsement
	more       []Item              // endorsements
	req        Request
	finish     func(*Request)
	collection func(cpu []byte) []byte // a CMW in place of the item alone
}

var mediaTypes = map[evidence.Kind]string{evidence.TDX: evidence.TypeTDX, evidence.SGX: evidence.TypeSGX, evidence.SNP: evidence.TypeSNP,
	evidence.Nitro: evidence.TypeNitro, evidence.CCA: evidence.TypeCCA, evidence.NVIDIA: evidence.TypeNVIDIA}

// of makes a request about evidence.
func of(kind evidence.Kind, change ...func(*scene)) func() Request {
	return func() Request {
		w := sim.Default()
		s := &scene{kind: kind, signs: w, endorses: w, anchored: w, data: wantData}
		s.nitro.Time = t0
		s.req = Request{Op: OpEvidence, Time: t0.Unix(), Type: mediaTypes[kind], ReportData: wantData[:], Policy: policy(nil), Anchors: &Anchors{}}
		for _, f := range change {
			if f != nil {
				f(s)
			}
		}
		if s.req.Simulator == nil && s.anchored != nil {
			kinds := []evidence.Kind{kind}
			if s.collection != nil {
				kinds = append(kinds, evidence.NVIDIA)
			}
			s.req.Simulator = anchors(s.anchored.Simulator(kinds...).Anchors())
		}
		value, endorsement := s.evidence()
		if s.patch != nil {
			value = s.patch(value)
		}
		if endorsement != nil {
			if s.patchItem != nil {
				endorsement.Value = s.patchItem(endorsement.Value)
			}
			s.req.Endorsements = append(s.req.Endorsements, *endorsement)
		}
		s.req.Endorsements = append(s.req.Endorsements, s.more...)
		s.req.Value = value
		if s.collection != nil {
			s.req.Value, s.req.Type = s.collection(value), ""
		}
		if s.finish != nil {
			s.finish(&s.req)
		}
		return s.req
	}
}

// evidence makes the evidence, and an endorsement for it.
func (s *scene) evidence() ([]byte, *Item) {
	switch s.kind {
	case evidence.TDX, evidence.SGX:
		s.col.SGX = s.kind == evidence.SGX
		var quote []byte
		if s.col.SGX {
			quote = must(s.signs.SGXQuote(s.data, s.sgx))
		} else {
			quote = must(s.signs.TDXQuote(s.data, s.tdx))
		}
		if s.bare {
			return quote, nil
		}
		return quote, &Item{evidence.TypeDCAPCollateral, must(s.endorses.Collateral(s.col))}
	case evidence.SNP:
		report := must(s.signs.SNPReport(s.data, s.snp))
		if s.bare {
			return report, nil
		}
		return append(report, sim.CertificateTable(must(s.endorses.SNPKey(s.snp))[0])...), nil
	case evidence.Nitro:
		return must(s.signs.NitroDocument(s.data, s.nitro)), nil
	case evidence.CCA:
		return must(s.signs.CCAToken(s.data, s.cca)), nil
	case evidence.NVIDIA:
		return must(s.signs.NVIDIAReport([32]byte(s.data[:32]), s.gpu)), nil
	}
	panic(fmt.Sprintf("no evidence of %s", s.kind))
}

// record and collection are CMWs.
func record(mediaType string, value []byte, ind int) arr { return arr{mediaType, value, ind} }

const collectionType = "tag:trustedmcp.org,2026:evidence-1"

// withGPU puts a GPU beside the CPU. nonce is what it is asked for.
func withGPU(nonce func() [32]byte, more m) func([]byte) []byte {
	return func(cpu []byte) []byte {
		c := m{"__cmwc_t": collectionType, "cpu": record(evidence.TypeTDX, cpu, 4),
			"gpu-0": record(evidence.TypeNVIDIA, must(sim.Default().NVIDIAReport(nonce(), sim.GPU{})), 4)}
		maps.Copy(c, more)
		return enc(c)
	}
}

func gpuNonce(data [64]byte, i int) func() [32]byte {
	return func() [32]byte { return nvidia.GPUNonce(data[:], i) }
}

// replace replaces what must be there.
func replace(old, with []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		if !bytes.Contains(b, old) {
			panic(fmt.Sprintf("%x… is not in what is to be changed", old[:min(8, len(old))]))
		}
		return bytes.Replace(bytes.Clone(b), old, with, 1)
	}
}

// flip flips one bit; a negative offset counts from the end.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		if at < 0 {
			at += len(b)
		}
		b[at] ^= 1
		return b
	}
}

func appended(more ...byte) func([]byte) []byte {
	return func(b []byte) []byte { return append(bytes.Clone(b), more...) }
}

func pemOfDER(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// raw is CBOR that is written as it is.
func raw(b []byte) cbor.RawMessage { return cbor.RawMessage(b) }

func hexOf(b []byte) string { return hex.EncodeToString(b) }
