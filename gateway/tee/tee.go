// Package tee finds the TEE of this machine and opens it: call [Open]. It is
// where devices are touched; how evidence is made of them is package
// evidence/attester's.
package tee

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/linuxtsm"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/attester"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/protocol"
)

// Names of what [Open] opens.
const (
	Auto  = "auto"    // the TEE that this machine has; never a simulated one
	TDX   = "tdx"     // Intel TDX
	SNP   = "sev-snp" // AMD SEV-SNP
	CCA   = "cca"     // Arm CCA
	Nitro = "nitro"   // AWS Nitro Enclaves
	Sim   = "sim"     // simulated TDX; sim-tdx, sim-sgx, sim-sev-snp, sim-nitro and sim-cca are others
)

// Names are all names, for the help of commands.
var Names = []string{Auto, TDX, SNP, CCA, Nitro, Sim, "sim-tdx", "sim-sgx", "sim-sev-snp", "sim-nitro", "sim-cca"}

// Where a kernel shows that there is a TEE.
const (
	pathTSM = configfsi.TsmPrefix + "/report"
	pathNSM = "/dev/nsm"
	pathTDX = "/dev/tdx_guest"
	pathSNP = "/dev/sev-guest"
)

// Info says what was opened.
type Info struct {
	Kind      evidence.Kind
	Source    string // the path of the device, or what is simulated; for people
	Simulated bool   // it proves nothing
}

// Options say how a TEE is used. The zero value is ready for use.
type Options struct {
	Attester attester.Options // what is added to the evidence of a real TEE
	// Simulated says more of a simulated TEE; its Kind comes from the name. A nil
	// Now there is the machine's clock.
	Simulated sim.Options
	World     *sim.World // nil: sim.Default()
	// PerSecond and Waiting bound what is asked of the TEE, which serves a whole
	// host: how many pieces of evidence in a second (0: 10), and how many callers may
	// wait for theirs (0: 32).
	PerSecond, Waiting int
}

// A machine is what Open needs of one.
type machine struct {
	stat func(path string) error
	tsm  func() (configfsi.Client, error)
	nsm  func() (attester.Module, error)
}

var thisMachine = machine{
	stat: func(path string) error { _, err := os.Stat(path); return err },
	tsm:  linuxtsm.MakeClient,
	nsm:  func() (attester.Module, error) { return openNSM(pathNSM) },
}

// Open opens the TEE of that name. It asks it for evidence once, so that what is
// wrong shows now and not when a peer waits. The attester holds its device as long
// as the process lives. The error says what was looked for and what to do.
func Open(ctx context.Context, name string, o Options) (protocol.Attester, Info, error) {
	return thisMachine.open(ctx, name, o)
}

func (m *machine) open(ctx context.Context, name string, o Options) (protocol.Attester, Info, error) {
	var a protocol.Attester
	var info Info
	var err error
	switch {
	case !slices.Contains(Names, name):
		err = fmt.Errorf("no TEE is called %q; want %s", name, strings.Join(Names, ", "))
	case name == Sim || strings.HasPrefix(name, "sim-"):
		a, info, err = simulated(strings.TrimPrefix(strings.TrimPrefix(name, Sim), "-"), o)
	default:
		a, info, err = m.real(ctx, name, o)
	}
	if err != nil {
		return nil, Info{}, err
	}
	return newLimit(a, o.PerSecond, o.Waiting), info, nil
}

func simulated(kind string, o Options) (protocol.Attester, Info, error) {
	w := o.World
	if w == nil {
		w = sim.Default()
	}
	s := o.Simulated
	s.Kind = evidence.Kind(kind)
	if kind == "" {
		s.Kind = evidence.TDX
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	t, err := w.TEE(s)
	if err != nil {
		return nil, Info{}, err
	}
	return t, Info{Kind: t.Kind(), Source: "simulation, which proves nothing", Simulated: true}, nil
}

// found is what was found out about one path.
type found struct {
	path, what string
	err        error // nil: it is there
}

func (m *machine) real(ctx context.Context, name string, o Options) (protocol.Attester, Info, error) {
	tsm := found{pathTSM, "Intel TDX, AMD SEV-SNP and Arm CCA", m.stat(pathTSM)}
	nsm := found{pathNSM, "AWS Nitro Enclaves", m.stat(pathNSM)}
	if tsm.err == nil && name != Nitro {
		a, info, err := m.openTSM(ctx, o)
		if err == nil && name != Auto && string(info.Kind) != name {
			err = fmt.Errorf("this machine's TEE is %s, not %s: use --tee %s or --tee %s", info.Kind, name, info.Kind, Auto)
		}
		if err == nil || name != Auto || nsm.err != nil {
			return a, info, err
		}
	}
	if nsm.err == nil && (name == Auto || name == Nitro) {
		module, err := m.nsm()
		if err != nil {
			return nil, Info{}, fmt.Errorf("open %s: %w", pathNSM, err)
		}
		a, err := attester.NewNSM(module, o.Attester)
		if err == nil {
			_, err = a.Attest(ctx, [protocol.ReportDataSize]byte{})
		}
		if err != nil {
			if c, ok := module.(io.Closer); ok {
				_ = c.Close() // the first error is the one to tell
			}
			return nil, Info{}, fmt.Errorf("%s: %w", pathNSM, err)
		}
		return a, Info{Kind: evidence.Nitro, Source: pathNSM}, nil
	}

	looked := []found{tsm, nsm}
	switch name {
	case Nitro:
		looked = []found{nsm}
	case TDX, SNP, CCA:
		looked = []found{tsm}
	}
	for _, old := range []found{{pathTDX, TDX, nil}, {pathSNP, SNP, nil}} {
		if name != Auto && name != old.what {
			continue
		}
		if m.stat(old.path) == nil {
			return nil, Info{}, fmt.Errorf("this machine has %s, but not %s: mount configfs (mount -t configfs none /sys/kernel/config) and load the kernel's module tsm; kernels older than 6.7 don't have it", old.path, pathTSM)
		}
		looked = append(looked, found{old.path, old.what + " on older kernels", fs.ErrNotExist})
	}
	return nil, Info{}, missing(name, looked)
}

// missing is the error for a machine without the TEE that was asked for.
func missing(name string, looked []found) error {
	var b strings.Builder
	if name == Auto {
		b.WriteString("no TEE was found on this machine")
	} else {
		fmt.Fprintf(&b, "no %s was found on this machine", name)
	}
	b.WriteString("; looked for")
	for i, f := range looked {
		if i > 0 {
			b.WriteString(",")
		}
		why := "not there"
		switch {
		case f.err == nil:
			why = "there, but of something else"
		case errors.Is(f.err, fs.ErrPermission):
			why = "not permitted"
		case !errors.Is(f.err, fs.ErrNotExist):
			why = f.err.Error()
		}
		fmt.Fprintf(&b, " %s (%s; %s)", f.path, f.what, why)
	}
	fmt.Fprintf(&b, ". Run inside a confidential VM or enclave; for development use --tee %s, whose evidence proves nothing", Sim)
	return errors.New(b.String())
}

func (m *machine) openTSM(ctx context.Context, o Options) (protocol.Attester, Info, error) {
	client, err := m.tsm()
	if err != nil {
		return nil, Info{}, fmt.Errorf("open %s: %w", pathTSM, err)
	}
	a, err := attester.NewTSM(client, o.Attester)
	if err != nil {
		return nil, Info{}, err
	}
	i, err := a.Item(ctx, [protocol.ReportDataSize]byte{})
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied") {
			err = fmt.Errorf("%w: run as root, or give this user write access to %s", err, pathTSM)
		}
		return nil, Info{}, fmt.Errorf("%s is there, but gives no evidence: %w", pathTSM, err)
	}
	info := Info{Source: pathTSM}
	switch i.MediaType {
	case evidence.TypeTDX:
		info.Kind = evidence.TDX
	case evidence.TypeSNP:
		info.Kind = evidence.SNP
	case evidence.TypeCCA:
		info.Kind = evidence.CCA
	}
	return a, info, nil
}
