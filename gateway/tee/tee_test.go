package tee

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/attester"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/nitro"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// fake is a machine on which those paths exist.
func fake(client configfsi.Client, nsm attester.Module, paths ...string) machine {
	return machine{
		stat: func(p string) error {
			for _, have := range paths {
				if p == have {
					return nil
				}
			}
			return fs.ErrNotExist
		},
		tsm: func() (configfsi.Client, error) { return client, nil },
		nsm: func() (attester.Module, error) {
			if nsm == nil {
				return nil, fs.ErrPermission
			}
			return nsm, nil
		},
	}
}

func tdx(provider string) configfsi.Client {
	base := faketsm.Report611(0)
	return &faketsm.ReportSubsystem{
		MakeEntry: base.MakeEntry, CheckInAttr: base.CheckInAttr, Random: rand.Reader,
		ReadAttr: func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
			switch attr {
			case "provider":
				return []byte(provider), nil
			case "outblob":
				if provider == "sev_guest" {
					return sim.Default().SNPReport([64]byte(e.InAttrs["inblob"].Value), sim.SNP{})
				}
				return sim.Default().TDXQuote([64]byte(e.InAttrs["inblob"].Value), sim.TDX{})
			}
			return nil, os.ErrNotExist
		},
	}
}

type nsm struct{ closed bool }

func (*nsm) Send(b []byte) ([]byte, error) {
	// The request's user_data follows its key and the head of 64 bytes.
	_, rest, ok := strings.Cut(string(b), "user_data\x58\x40")
	if !ok {
		return nil, errors.New("no user data")
	}
	doc, err := sim.Default().NitroDocument([64]byte([]byte(rest)), sim.Nitro{})
	return nitro.AttestationResponse(doc), err
}

func (n *nsm) Close() error { n.closed = true; return nil }

func TestOpen(t *testing.T) {
	for name, tt := range map[string]struct {
		m    machine
		name string
		kind evidence.Kind
		want []string // in the error
	}{
		"TDX by itself":         {fake(tdx("tdx_guest"), nil, pathTSM), Auto, evidence.TDX, nil},
		"TDX by name":           {fake(tdx("tdx_guest"), nil, pathTSM), TDX, evidence.TDX, nil},
		"SEV-SNP by itself":     {fake(tdx("sev_guest"), nil, pathTSM), Auto, evidence.SNP, nil},
		"Nitro by itself":       {fake(nil, &nsm{}, pathNSM), Auto, evidence.Nitro, nil},
		"Nitro by name":         {fake(nil, &nsm{}, pathNSM), Nitro, evidence.Nitro, nil},
		"configfs of something": {fake(tdx("other"), &nsm{}, pathTSM, pathNSM), Auto, evidence.Nitro, nil},
		"another than named":    {fake(tdx("sev_guest"), nil, pathTSM), TDX, "", []string{"this machine's TEE is sev-snp", "--tee sev-snp"}},
		"an unknown name":       {fake(nil, nil), "tdz", "", []string{`"tdz"`, "sev-snp"}},
		"an old kernel":         {fake(nil, nil, pathTDX), Auto, "", []string{"/dev/tdx_guest", "configfs", "6.7"}},
		"nothing":               {fake(nil, nil), Auto, "", []string{"no TEE was found", pathTSM, pathNSM, pathTDX, pathSNP, "not there", "--tee sim"}},
		"no Nitro":              {fake(tdx("tdx_guest"), nil, pathTSM), Nitro, "", []string{"no nitro was found", pathNSM, "--tee sim"}},
		"no TDX":                {fake(nil, &nsm{}, pathNSM), TDX, "", []string{"no tdx was found", pathTSM, pathTDX}},
		"not permitted":         {fake(nil, nil, pathNSM), Nitro, "", []string{pathNSM, "permission"}},
		"an unknown provider":   {fake(tdx("other"), nil, pathTSM), Auto, "", []string{"gives no evidence", `"other"`}},
	} {
		t.Run(name, func(t *testing.T) {
			a, info, err := tt.m.open(context.Background(), tt.name, Options{})
			if tt.want != nil {
				if err == nil || a != nil {
					t.Fatalf("got %v, %v", info, err)
				}
				for _, w := range tt.want {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q is not in: %v", w, err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if info.Kind != tt.kind || info.Simulated {
				t.Errorf("got %+v", info)
			}
			b, err := a.Attest(context.Background(), [64]byte{9})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cmw.ParseCBOR(b); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestThisMachine: on a machine without TEE, the error tells what to do.
func TestThisMachine(t *testing.T) {
	for _, p := range []string{pathTSM, pathNSM, pathTDX, pathSNP} {
		if _, err := os.Stat(p); err == nil {
			t.Skipf("this machine has %s", p)
		}
	}
	a, _, err := Open(context.Background(), Auto, Options{})
	if err == nil || a != nil || !strings.Contains(err.Error(), "--tee sim") {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	if _, err := openNSM("/nonexistent"); err == nil {
		t.Error("opened a device that is not there")
	}
}

// TestSimulated: only those who name a simulation get one.
func TestSimulated(t *testing.T) {
	now := time.Date(2027, 5, 6, 7, 8, 9, 0, time.UTC)
	for name, kind := range map[string]evidence.Kind{Sim: evidence.TDX, "sim-tdx": evidence.TDX, "sim-sgx": evidence.SGX, "sim-sev-snp": evidence.SNP, "sim-nitro": evidence.Nitro, "sim-cca": evidence.CCA} {
		a, info, err := thisMachine.open(context.Background(), name, Options{Simulated: sim.Options{Now: func() time.Time { return now }}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if info.Kind != kind || !info.Simulated {
			t.Errorf("%s: got %+v", name, info)
		}
		if _, err := a.Attest(context.Background(), [64]byte{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := thisMachine.open(context.Background(), Sim, Options{Simulated: sim.Options{GPUs: 99}}); err == nil {
		t.Error("99 GPUs: no error")
	}
	m := fake(nil, nil)
	if a, _, err := m.open(context.Background(), Auto, Options{}); err == nil {
		t.Errorf("a machine without a TEE got %v", a)
	}
}

type slow struct{ inside, release chan bool }

func (s slow) Attest(context.Context, [64]byte) ([]byte, error) {
	s.inside <- true
	<-s.release
	return nil, nil
}

func TestLimit(t *testing.T) {
	s := slow{make(chan bool, 9), make(chan bool)}
	l := newLimit(s, 4, 2)
	now := time.Unix(1000, 0)
	var mu sync.Mutex
	var waited []time.Duration
	l.now = func() time.Time { return now }
	l.wait = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		waited = append(waited, d)
		return ctx.Err()
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := l.Attest(context.Background(), [64]byte{}); err != nil {
				t.Error(err)
			}
		})
		<-s.inside
	}
	if _, err := l.Attest(context.Background(), [64]byte{}); err == nil || !strings.Contains(err.Error(), "2 callers") {
		t.Errorf("a third caller: %v", err)
	}
	close(s.release)
	wg.Wait()
	if len(waited) != 1 || waited[0] != time.Second/4 {
		t.Errorf("waited %v; want a quarter of a second once", waited)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Attest(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	now = now.Add(time.Hour)
	waited = nil
	if _, err := l.Attest(context.Background(), [64]byte{}); err != nil || len(waited) != 0 {
		t.Errorf("after an hour: %v, waited %v", err, waited)
	}
	if err := wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := wait(context.Background(), time.Nanosecond); err != nil {
		t.Error(err)
	}
}
