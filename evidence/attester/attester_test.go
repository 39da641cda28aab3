package attester_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/attester"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/protocol"
)

var reportData = [protocol.ReportDataSize]byte{1, 2, 3, 63: 64}

// A kernel is a fake of configfs-tsm over simulated hardware.
type kernel struct {
	provider string
	floor    string // privlevel_floor; "": none
	evidence func(reportData [64]byte, vmpl string) ([]byte, error)
	aux      func() ([]byte, error)
	mess     int // how many times someone else writes to the report
}

func (k *kernel) client() *faketsm.ReportSubsystem {
	base := faketsm.Report611(0)
	return &faketsm.ReportSubsystem{
		MakeEntry: base.MakeEntry, CheckInAttr: base.CheckInAttr, Random: rand.Reader,
		ReadAttr: func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
			switch attr {
			case "provider":
				return []byte(k.provider + "\n"), nil
			case "privlevel_floor":
				if k.floor == "" {
					return nil, os.ErrNotExist
				}
				return []byte(k.floor + "\n"), nil
			case "outblob":
				if k.mess > 0 {
					k.mess--
					e.WriteGeneration++
				}
				return k.evidence([64]byte(e.InAttrs["inblob"].Value), strings.TrimSpace(string(e.InAttrs["privlevel"].Value)))
			case "auxblob":
				if k.aux == nil {
					return nil, os.ErrNotExist
				}
				return k.aux()
			}
			return nil, os.ErrNotExist
		},
	}
}

func tdxKernel() *kernel {
	return &kernel{provider: "tdx_guest", evidence: func(rd [64]byte, _ string) ([]byte, error) {
		return sim.Default().TDXQuote(rd, sim.TDX{})
	}}
}

func snpKernel() *kernel {
	k := &kernel{provider: "sev_guest"}
	k.evidence = func(rd [64]byte, vmpl string) ([]byte, error) {
		var o sim.SNP
		_, err := fmt.Sscan(vmpl, &o.VMPL)
		if err != nil {
			return nil, err
		}
		return sim.Default().SNPReport(rd, o)
	}
	k.aux = func() ([]byte, error) {
		certs, err := sim.Default().SNPKey(sim.SNP{})
		if err != nil {
			return nil, err
		}
		return append(sim.CertificateTable(certs...), make([]byte, 100)...), nil
	}
	return k
}

func attest(t *testing.T, a protocol.Attester) *cmw.CMW {
	t.Helper()
	b, err := a.Attest(context.Background(), reportData)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cmw.ParseCBOR(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tsm(t *testing.T, k *kernel, o attester.Options) *attester.TSM {
	t.Helper()
	a, err := attester.NewTSM(k.client(), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTSM(t *testing.T) {
	v5 := tdxKernel()
	v5.evidence = func(rd [64]byte, _ string) ([]byte, error) {
		return sim.Default().TDXQuote(rd, sim.TDX{Version: 5, Body15: true})
	}
	bare := snpKernel()
	bare.aux = nil
	empty := snpKernel()
	empty.aux = func() ([]byte, error) { return make([]byte, 24), nil }
	cca := &kernel{provider: "arm_cca_guest", evidence: func(rd [64]byte, _ string) ([]byte, error) { return sim.Default().CCAToken(rd, sim.CCA{}) }}
	for name, tt := range map[string]struct {
		k    *kernel
		want string
		size int // 0: of a quote, or of a report with its table
	}{
		"TDX":                         {tdxKernel(), evidence.TypeTDX, 0},
		"TDX version 5":               {v5, evidence.TypeTDX, 0},
		"SEV-SNP":                     {snpKernel(), evidence.TypeSNP, 0},
		"SEV-SNP without table":       {bare, evidence.TypeSNP, 1184},
		"SEV-SNP with an empty table": {empty, evidence.TypeSNP, 1184},
		"CCA":                         {cca, evidence.TypeCCA, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := attest(t, tsm(t, tt.k, attester.Options{})).Record
			if r == nil || r.MediaType != tt.want || r.Ind != cmw.Evidence || tt.size != 0 && len(r.Value) != tt.size || tt.size == 0 && tt.want != evidence.TypeCCA && len(r.Value) <= 1184 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// TestSNPVerifies: what the attester makes of a report and the host's table is
// what the verifier takes.
func TestSNPVerifies(t *testing.T) {
	k := snpKernel()
	k.floor = "2"
	r := attest(t, tsm(t, k, attester.Options{})).Record
	got := sevsnp.New(sevsnp.Options{}).Verify(r.MediaType, r.Value, &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: sim.Default().Simulator(evidence.SNP), Now: sim.Epoch})
	if !got.Accepted() {
		t.Fatalf("%+v", got.Checks)
	}
	if vmpl := got.Verified().Claims().Values["snp.vmpl"]; vmpl != uint64(2) {
		t.Errorf("VMPL %v; want 2, the lowest that the kernel may ask for", vmpl)
	}
}

func TestTSMRefuses(t *testing.T) {
	change := func(f func(*kernel)) *kernel { k := tdxKernel(); f(k); return k }
	for name, tt := range map[string]struct {
		k    *kernel
		want string
	}{
		"unknown provider": {change(func(k *kernel) { k.provider = "other" }), `provider is "other"`},
		"nothing":          {change(func(k *kernel) { k.evidence = func([64]byte, string) ([]byte, error) { return nil, nil } }), "0 bytes"},
		"too much": {change(func(k *kernel) {
			k.evidence = func(rd [64]byte, _ string) ([]byte, error) {
				return sim.Default().TDXQuote(rd, sim.TDX{Padding: 1 << 16})
			}
		}), "want 1 to 40960"},
		"no quote": {change(func(k *kernel) {
			k.evidence = func([64]byte, string) ([]byte, error) { return make([]byte, 5000), nil }
		}), "no evidence that is known"},
		"another's report data": {change(func(k *kernel) {
			k.evidence = func(rd [64]byte, _ string) ([]byte, error) {
				rd[0]++
				return sim.Default().TDXQuote(rd, sim.TDX{})
			}
		}), "other report data"},
		"SEV-SNP, another's report data": {change(func(k *kernel) {
			*k = *snpKernel()
			k.evidence = func(rd [64]byte, _ string) ([]byte, error) {
				rd[0]++
				return sim.Default().SNPReport(rd, sim.SNP{})
			}
		}), "other report data"},
		"CCA, another's challenge": {change(func(k *kernel) {
			k.provider, k.evidence = "arm_cca_guest", func(rd [64]byte, _ string) ([]byte, error) {
				rd[0]++
				return sim.Default().CCAToken(rd, sim.CCA{})
			}
		}), "other report data"},
		"half a report": {change(func(k *kernel) {
			k.provider, k.evidence = "sev_guest", func([64]byte, string) ([]byte, error) { return make([]byte, 592), nil }
		}), "592 bytes, want 1184"},
		"an error of the hardware": {change(func(k *kernel) {
			k.evidence = func([64]byte, string) ([]byte, error) { return nil, syscall.EIO }
		}), "input/output error"},
		"someone else writes each time": {change(func(k *kernel) { k.mess = 99 }), "3 tries"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tt.k.client()
			a, err := attester.NewTSM(c, attester.Options{})
			if err != nil {
				t.Fatal(err)
			}
			b, err := a.Attest(context.Background(), reportData)
			if err == nil || !strings.Contains(err.Error(), tt.want) || b != nil {
				t.Errorf("got %d bytes and %v; want %q", len(b), err, tt.want)
			}
			if len(c.Entries) != 0 {
				t.Errorf("%d entries are left in configfs", len(c.Entries))
			}
		})
	}
}

func TestTSMTriesAgain(t *testing.T) {
	k := tdxKernel()
	k.mess = 2
	attest(t, tsm(t, k, attester.Options{}))
	if k.mess != 0 {
		t.Error("nobody interfered")
	}
}

// TestTSMGivesUp: what the hardware refuses is not asked for again.
func TestTSMGivesUp(t *testing.T) {
	n := 0
	k := tdxKernel()
	k.evidence = func([64]byte, string) ([]byte, error) { n++; return nil, syscall.EIO }
	if _, err := tsm(t, k, attester.Options{}).Attest(context.Background(), reportData); err == nil || n != 1 {
		t.Errorf("%v after %d tries, want an error after one", err, n)
	}
}

func TestTSMNeedsClient(t *testing.T) {
	if _, err := attester.NewTSM(nil, attester.Options{}); err == nil {
		t.Error("no error")
	}
	if _, err := attester.NewNSM(nil, attester.Options{}); err == nil {
		t.Error("no error")
	}
}

// watched tells when someone waits for its end.
type watched struct {
	context.Context
	once  sync.Once
	asked chan bool
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(func() { close(w.asked) })
	return w.Context.Done()
}

// TestOneAtATime: callers wait for the device, but no longer than their context
// lasts.
func TestOneAtATime(t *testing.T) {
	k := tdxKernel()
	quote := k.evidence
	inside, release := make(chan bool), make(chan bool)
	var n int // a race if two are inside
	k.evidence = func(rd [64]byte, s string) ([]byte, error) {
		n++
		if n == 1 {
			inside <- true
			<-release
		}
		return quote(rd, s)
	}
	a := tsm(t, k, attester.Options{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := a.Attest(context.Background(), reportData); err != nil {
			t.Error(err)
		}
	})
	<-inside
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error)
	waits := &watched{Context: ctx, asked: make(chan bool)}
	go func() {
		_, err := a.Attest(waits, reportData)
		gone <- err
	}()
	<-waits.asked
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) { // while the first is still inside
		t.Errorf("got %v", err)
	}
	wg.Go(func() {
		if _, err := a.Attest(context.Background(), reportData); err != nil {
			t.Error(err)
		}
	})
	close(release)
	wg.Wait()
}

// TestAlong: endorsements and GPUs go along in a collection.
func TestAlong(t *testing.T) {
	w := sim.Default()
	o := attester.Options{
		Staple: func(_ context.Context, i evidence.Item) ([]evidence.Item, error) {
			if i.MediaType != evidence.TypeTDX {
				return nil, fmt.Errorf("asked for endorsements of %s", i.MediaType)
			}
			b, err := w.Collateral(sim.Collateral{})
			return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: b}}, err
		},
		GPUs: func(_ context.Context, rd [64]byte) ([]evidence.Item, error) {
			b, err := w.NVIDIAReport(nvidia.GPUNonce(rd[:], 0), sim.GPU{})
			return []evidence.Item{{MediaType: evidence.TypeNVIDIA, Value: b}}, err
		},
	}
	c := attest(t, tsm(t, tdxKernel(), o))
	if c.Collection == nil || c.Collection.Type != "tag:trustedmcp.org,2026:evidence-1" {
		t.Fatalf("got %+v", c)
	}
	for label, ind := range map[string]cmw.Ind{"cpu": cmw.Evidence, "cpu-endorsements-0": cmw.Endorsements, "gpu-0": cmw.Evidence} {
		if e := c.Get(cmw.TextLabel(label)); e == nil || e.Record == nil || e.Record.Ind != ind {
			t.Errorf("%s: %+v", label, e)
		}
	}

	o.Staple = func(context.Context, evidence.Item) ([]evidence.Item, error) {
		return []evidence.Item{{MediaType: evidence.TypeDCAPCollateral, Value: make([]byte, protocol.MaxEvidence)}}, nil
	}
	if _, err := tsm(t, tdxKernel(), o).Attest(context.Background(), reportData); err == nil || !strings.Contains(err.Error(), "staple less") {
		t.Errorf("too much: got %v", err)
	}
	o.Staple = func(context.Context, evidence.Item) ([]evidence.Item, error) { return nil, errors.New("no network") }
	if _, err := tsm(t, tdxKernel(), o).Attest(context.Background(), reportData); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("no endorsements: got %v", err)
	}
}

// A module is a fake Nitro Security Module.
type module func(request []byte) ([]byte, error)

func (m module) Send(b []byte) ([]byte, error) { return m(b) }

func TestNSM(t *testing.T) {
	doc, err := sim.Default().NitroDocument(reportData, sim.Nitro{})
	if err != nil {
		t.Fatal(err)
	}
	answer := nitro.AttestationResponse(doc)
	a, err := attester.NewNSM(module(func(b []byte) ([]byte, error) {
		if !bytes.Contains(b, reportData[:]) {
			return nil, errors.New("the request has no report data")
		}
		return answer, nil
	}), attester.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := attest(t, a).Record
	if r == nil || r.MediaType != evidence.TypeNitro {
		t.Fatalf("got %+v", r)
	}
	got := nitro.New(nitro.Options{}).Verify(r.MediaType, r.Value, &evidence.Trust{Anchors: &evidence.Anchors{}, Simulator: sim.Default().Simulator(evidence.Nitro), Now: sim.Epoch.Add(time.Second)})
	if !got.Accepted() {
		t.Errorf("%+v", got.Checks)
	}

	other, err := sim.Default().NitroDocument([64]byte{}, sim.Nitro{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		answer []byte
		err    error
		want   string
	}{
		"device fails":          {err: syscall.EMSGSIZE, want: "message too long"},
		"refused":               {answer: []byte("\xa1\x65Error\x6dInputTooLarge"), want: "InputTooLarge"},
		"no CBOR":               {answer: []byte{0xff}, want: "response"},
		"nothing":               {want: "response"},
		"another's report data": {answer: nitro.AttestationResponse(other), want: "other report data"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := attester.NewNSM(module(func([]byte) ([]byte, error) { return tt.answer, tt.err }), attester.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := a.Attest(context.Background(), reportData); err == nil || b != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d bytes and %v; want %q", len(b), err, tt.want)
			}
		})
	}
}
