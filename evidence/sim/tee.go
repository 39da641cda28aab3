package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/bundle"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/protocol"
)

// MaxGPUs is how many GPUs a [TEE] may have. Each adds 9 KiB to the evidence, so
// that 4 fit into a key object beside a CPU with its collateral.
const MaxGPUs = 8

// Options say which TEE [World.TEE] makes. The zero value is a TDX machine that
// runs the zero image.
type Options struct {
	Kind  evidence.Kind // TDX, SGX, SNP, Nitro or CCA; "": TDX
	Image [32]byte      // SHA-256 of the image that it runs; see Measurements
	Name  string        // of the machine: another name is another machine
	GPUs  int           // simulated NVIDIA GPUs beside the CPU, at most MaxGPUs
	Debug bool          // the operator can look inside

	// Now dates what is issued while the TEE runs: collateral (on the day's start,
	// for 30 days) and Nitro's documents. Nil: always Epoch.
	Now func() time.Time
	// Bare leaves out the endorsements that are otherwise stapled to the evidence.
	Bare bool

	// Details, by kind. Image, Name and Debug above override those within.
	TDX        TDX
	SGX        SGX
	Collateral Collateral // what is stapled to evidence of TDX and SGX
	SNP        SNP
	Nitro      Nitro
	CCA        CCA
	GPU        GPU
}

// A TEE is one simulated machine. It signs the measurement that it was made
// with, and no other. Safe for concurrent use.
type TEE struct {
	w *World
	o Options

	snp func() ([]byte, error) // certificate table; signing it takes 10 ms

	mu      sync.Mutex
	stapled map[time.Time]evidence.Item // collateral of the last day
}

var _ protocol.Attester = (*TEE)(nil)

// TEE makes a simulated machine.
func (w *World) TEE(o Options) (*TEE, error) {
	o.Kind = first(o.Kind, evidence.TDX)
	if o.GPUs < 0 || o.GPUs > MaxGPUs {
		return nil, fmt.Errorf("a simulated TEE has 0 to %d GPUs, not %d", MaxGPUs, o.GPUs)
	}
	if o.Now == nil {
		o.Now = func() time.Time { return Epoch }
	}
	o.TDX.Image, o.TDX.Platform.Name, o.TDX.Debug = o.Image, o.Name, o.Debug
	o.SGX.Image, o.SGX.Platform.Name, o.SGX.Debug = o.Image, o.Name, o.Debug
	o.SNP.Image, o.SNP.Name, o.SNP.Debug = o.Image, o.Name, o.Debug
	o.Nitro.Image, o.Nitro.Name, o.Nitro.Debug = o.Image, o.Name, o.Debug
	o.CCA.Image, o.CCA.Name, o.CCA.Debug = o.Image, o.Name, o.Debug
	o.Collateral.SGX = o.Kind == evidence.SGX
	t := &TEE{w: w, o: o}
	t.snp = sync.OnceValues(func() ([]byte, error) {
		certs, err := w.SNPKey(o.SNP)
		if err != nil {
			return nil, err
		}
		return CertificateTable(certs[0]), nil
	})
	// What is wrong with the options shows now, and not when evidence is needed.
	if _, err := t.Attest(context.Background(), [64]byte{}); err != nil {
		return nil, err
	}
	return t, nil
}

// Kind is the kind of the TEE.
func (t *TEE) Kind() evidence.Kind { return t.o.Kind }

// Attest returns evidence as a CMW: a record when there is one piece, else a
// collection with the labels cpu, cpu-endorsements-0 and gpu-0, gpu-1, ….
func (t *TEE) Attest(ctx context.Context, reportData [protocol.ReportDataSize]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	item, endorsements, err := t.evidence(reportData)
	if err != nil {
		return nil, fmt.Errorf("the simulated TEE: %w", err)
	}
	var gpus []evidence.Item
	for i := range t.o.GPUs {
		gpu := t.o.GPU
		gpu.Name = fmt.Sprintf("%s gpu %d", t.o.Name, i)
		report, err := t.w.NVIDIAReport(nvidia.GPUNonce(reportData[:], i), gpu)
		if err != nil {
			return nil, fmt.Errorf("the simulated GPU %d: %w", i, err)
		}
		gpus = append(gpus, evidence.Item{MediaType: evidence.TypeNVIDIA, Value: report})
	}
	return bundle.Encode(item, endorsements, gpus)
}

// evidence is that of the CPU, with what is stapled to it.
func (t *TEE) evidence(reportData [64]byte) (item evidence.Item, endorsements []evidence.Item, err error) {
	switch t.o.Kind {
	case evidence.TDX, evidence.SGX:
		item.MediaType = evidence.TypeTDX
		if t.o.Kind == evidence.TDX {
			item.Value, err = t.w.TDXQuote(reportData, t.o.TDX)
		} else {
			item.MediaType = evidence.TypeSGX
			item.Value, err = t.w.SGXQuote(reportData, t.o.SGX)
		}
		if err != nil || t.o.Bare {
			return item, nil, err
		}
		c, err := t.collateral()
		return item, []evidence.Item{c}, err
	case evidence.SNP:
		item.MediaType = evidence.TypeSNP
		item.Value, err = t.w.SNPReport(reportData, t.o.SNP)
		if err != nil || t.o.Bare {
			return item, nil, err
		}
		table, err := t.snp()
		item.Value = append(item.Value, table...)
		return item, nil, err
	case evidence.Nitro:
		o := t.o.Nitro
		o.Time = first(o.Time, t.o.Now().UTC())
		item.MediaType = evidence.TypeNitro
		item.Value, err = t.w.NitroDocument(reportData, o)
		return item, nil, err
	case evidence.CCA:
		item.MediaType = evidence.TypeCCA
		item.Value, err = t.w.CCAToken(reportData, t.o.CCA)
		return item, nil, err
	default:
		return item, nil, fmt.Errorf("no simulated TEE is of kind %q; want tdx, sgx, sev-snp, nitro or cca", t.o.Kind)
	}
}

func (t *TEE) collateral() (evidence.Item, error) {
	day := first(t.o.Collateral.Issued, t.o.Now().UTC().Truncate(24*time.Hour))
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, ok := t.stapled[day]; ok {
		return i, nil
	}
	o := t.o.Collateral
	o.Issued = day
	b, err := t.w.Collateral(o)
	if err != nil {
		return evidence.Item{}, err
	}
	i := evidence.Item{MediaType: evidence.TypeDCAPCollateral, Value: b}
	t.stapled = map[time.Time]evidence.Item{day: i}
	return i, nil
}
