package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/client/refclient"
	"github.com/trustedmcp/tmcp/conformance/policy"
	"github.com/trustedmcp/tmcp/conformance/policy/refhost"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/conformance/shim"
	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/conformance/verifier/refverifier"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/protocol"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tmcp-conform": func() { os.Exit(Main()) },
		"reference":    func() { referenceServer(os.Args[1:]) },
		"refclient":    func() { os.Exit(refclient.Process(os.Args[1:])) },
		"aiccclient":   func() { os.Exit(aiccClient(os.Args[1:])) },
		"shim":         func() { verifierShim(os.Args[1:]) },
		"policy-shim":  func() { policyShim(os.Args[1:]) },
		"interrupted":  func() { os.Exit(interrupted(os.Args[1:])) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			srv := &http.Server{Handler: reference.New()}
			go func() { _ = srv.Serve(l) }()
			e.Defer(func() { _ = srv.Close() })
			e.Setenv("URL", "http://"+l.Addr().String())
			if err := aiccServers(e); err != nil {
				return err
			}
			return mutualServer(e)
		},
	})
}

// mutualServer starts a server in a simulated TEE that lets suite.key in.
func mutualServer(e *testscript.Env) error {
	key, err := keyfile.Generate("")
	if err != nil {
		return err
	}
	if err := keyfile.Save(e.WorkDir+"/suite.key", key); err != nil {
		return err
	}
	pin, err := protocol.PublicKeyThumbprint(key.Public())
	if err != nil {
		return err
	}
	judge, err := appraisal.Load(context.Background(), appraisal.Options{Simulator: true, Now: time.Now()})
	if err != nil {
		return err
	}
	inner := reference.New()
	h, err := reference.NewAttested("http://127.0.0.1/mcp", inner, "", false, &reference.Attested{World: sim.Default(), TEE: sim.Options{Now: time.Now}, Clients: judge, ClientPin: pin})
	if err != nil {
		return err
	}
	srv := httptest.NewServer(h)
	e.Defer(func() { srv.Close(); inner.Close() })
	e.Setenv("MUTUAL", srv.URL+"/mcp")
	return nil
}

// verifierShim is the shim of the reference verifier, or of the mutant that its
// argument names.
func verifierShim(args []string) {
	var flaw *refverifier.Flaw
	if len(args) > 0 {
		flaw = &refverifier.Flaw{}
		for _, m := range refverifier.Mutants() {
			if m.Flaw.Name == args[0] {
				flaw = m.Flaw
			}
		}
		if args[0] == "has CMWs only" {
			flaw.Write = func(r *verifier.Request, a *verifier.Answer) *verifier.Answer {
				if r.Op != verifier.OpCMW {
					return nil
				}
				return a
			}
		}
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for verify := refverifier.New(flaw); in.Scan(); {
		r, err := verifier.ParseRequest(in.Bytes())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		a := verify(r)
		if a == nil {
			os.Exit(verifier.ExitNotImplemented)
		}
		a.ID = r.ID
		line, err := a.Encode()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Printf("%s\n", line)
	}
}

// policyShim is the shim of a policy host with the flaw of that name.
func policyShim(args []string) {
	var flaw *refhost.Flaw
	if len(args) > 0 {
		flaw = &refhost.Flaw{}
		for _, m := range refhost.Mutants(nil, nil) {
			if m.Flaw.Name == args[0] {
				flaw = m.Flaw
			}
		}
		switch args[0] {
		case "has no digests":
			flaw.Answer = func(r *policy.Request, a *policy.Answer) bool {
				a.NotImplemented = r.Op == policy.OpDigest
				return true
			}
		case "ends at digests":
			flaw.Answer = func(r *policy.Request, _ *policy.Answer) bool { return r.Op != policy.OpDigest }
		}
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 32<<20)
	for host := refhost.New(policywasm.Interpreter, flaw, nil); in.Scan(); {
		r, err := policy.ParseRequest(in.Bytes())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		a := host(r)
		if a == nil {
			os.Exit(shim.ExitNotImplemented)
		}
		a.ID = r.ID
		line, err := a.Encode()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Printf("%s\n", line)
	}
}

// referenceServer is a stdio server with the fault that its argument names,
// or one that misbehaves as a process.
func referenceServer(args []string) {
	fault := ""
	if len(args) > 0 {
		fault = args[0]
	}
	switch fault {
	case "dies":
		fmt.Fprintln(os.Stderr, "no configuration found")
		os.Exit(7)
	case "dies-later": // after the survey's questions
		sc := bufio.NewScanner(os.Stdin)
		for n := 0; sc.Scan(); n++ {
			if strings.Contains(sc.Text(), "tools/list") {
				os.Exit(9)
			}
			answer(sc.Text())
		}
	case "hangs-later": // at the first listing of tools
		for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
			if strings.Contains(sc.Text(), "tools/list") {
				_ = os.WriteFile(os.Getenv("WORK")+"/asked", nil, 0o600)
				continue
			}
			answer(sc.Text())
		}
	case "hangs":
		for sc := bufio.NewScanner(os.Stdin); sc.Scan(); {
		}
	case "floods":
		w := bufio.NewWriter(os.Stdout)
		for {
			if _, err := w.WriteString(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}` + "\n"); err != nil {
				return
			}
		}
	case "endless-line":
		block := []byte(strings.Repeat("x", 1<<20))
		for {
			if _, err := os.Stdout.Write(block); err != nil {
				return
			}
		}
	default:
		reference.New(reference.WithFault(reference.Fault(fault))).Serve(os.Stdin, os.Stdout)
	}
}

func answer(line string) {
	in, out := strings.NewReader(line+"\n"), os.Stdout
	reference.New(reference.Only(conformance.Modern)).Serve(in, out)
}

// interrupted runs tmcp-conform with args, sends it an interrupt once its
// server has been asked something, and returns its exit code.
func interrupted(args []string) int {
	cmd := exec.Command("tmcp-conform", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	marker := os.Getenv("WORK") + "/asked"
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(marker); err == nil {
			break
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// TestVersion builds the version from what the Go command records.
func TestVersion(t *testing.T) {
	setting := func(k, v string) debug.BuildSetting { return debug.BuildSetting{Key: k, Value: v} }
	for _, tt := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, "(devel)"},
		{&debug.BuildInfo{}, "(devel)"},
		{&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{&debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "false")}}, "(devel) (revision abc)"},
		{&debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "true")}}, "v1.2.3 (revision abc, modified)"},
	} {
		if got := version(tt.info, tt.info != nil); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
