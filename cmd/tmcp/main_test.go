package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	"github.com/trustedmcp/tmcp/gateway/tee"
)

func TestMain(m *testing.M) {
	runtime.MaybeChild()
	testscript.Main(m, map[string]func(){
		"tmcp": func() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		// echo-server is an MCP server over stdio, echo-client a client of one
		// over HTTP or of a stdio command.
		"echo-server":  echoServer,
		"dying-server": dyingServer,
		"echo-client":  echoClient,
		// ask-verifier has a verifier appraise a simulated TEE.
		"ask-verifier": askVerifier,
		// oci-registry is a registry for policies.
		"oci-registry": ociRegistry,
		// aicc-keys makes keys of profile aicc-0.1.
		"aicc-keys": aiccKeys,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			hardware, err := filepath.Abs("../../evidence/testdata/hardware")
			if err != nil {
				return err
			}
			env.Setenv("HARDWARE", hardware) // evidence of real machines
			dir, err := tdxGuest()
			env.Setenv("TDXGUEST", dir) // more of it
			return err
		},
		Condition: func(cond string) (bool, error) {
			if cond != "tee" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			_, _, err := tee.Open(t.Context(), tee.Auto, tee.Options{})
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"env-file":   envFile,
			"env-port":   envPort,
			"await-line": awaitLine,
			"start":      start,
			"interrupt":  interrupt,
			"hangup":     hangup,
			"flip":       flip,
			"unhex":      unhex,
			"exit":       exitCode,
			"program":    program,
			"module":     module,
			"policy":     rulesFor,
			"expand":     expand,
		},
	})
}

// tdxGuest is where go-tdx-guest keeps quotes.
var tdxGuest = sync.OnceValues(func() (string, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tdx-guest").Output()
	return filepath.Join(strings.TrimSpace(string(dir)), "testing", "testdata"), err
})

// envFile sets a variable to a file's trimmed content: env-file NAME FILE.
func envFile(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// envPort sets a variable to the port of a URL: env-port NAME URL.
func envPort(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(args[1])
	ts.Check(err)
	ts.Setenv(args[0], u.Port())
}

// flip copies a file with one bit changed: flip FILE OFFSET OUT.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	b[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), b, 0o600))
}

// unhex makes bytes of hex: unhex FILE OUT.
func unhex(ts *testscript.TestScript, _ bool, args []string) {
	b, err := hex.DecodeString(strings.Join(strings.Fields(ts.ReadFile(args[0])), ""))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}

// exitCode runs a command that must end with that code: exit CODE CMD ARGS….
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var e *exec.ExitError
	if !errors.As(err, &e) || strconv.Itoa(e.ExitCode()) != args[0] {
		ts.Fatalf("want exit code %s, got %v", args[0], err)
	}
}

// program sets PROGRAM to the file of a command: program NAME.
func program(ts *testscript.TestScript, _ bool, args []string) {
	path, err := exec.LookPath(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], args[0]))
	ts.Check(err)
	ts.Setenv("PROGRAM", path)
}

// rulesFor writes a policy that accepts one simulated program, by what tmcp measure
// printed of it, with one configuration: policy FILE VALUES CONFIG.
func rulesFor(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`tdx\.mrtd=([0-9a-f]{96})`).FindStringSubmatch(ts.ReadFile(args[1]))
	if m == nil {
		ts.Fatalf("%s has no tdx.mrtd", args[1])
	}
	text := fmt.Sprintf(`{"name": "mine", "development": true, "claims": {"tdx.mrtd": [%q]}, "config": [%q]}`, m[1], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// A background is a command that start started.
type background struct {
	cmd   *exec.Cmd
	lines chan string
	all   []string
}

var backgrounds sync.Map // of the script and name

func backgroundOf(ts *testscript.TestScript, name string) *background {
	b, ok := backgrounds.Load(ts.Name() + "/" + name)
	if !ok {
		ts.Fatalf("no command was started as %s", name)
	}
	return b.(*background)
}

// start runs a command in the background: start NAME CMD ARGS….
func start(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.Getenv("PATH")
	bin := ""
	for _, dir := range filepath.SplitList(path) {
		if p := filepath.Join(dir, args[1]); bin == "" && isFile(p) {
			bin = p
		}
	}
	b := &background{cmd: exec.Command(bin, args[2:]...), lines: make(chan string, 1000)}
	b.cmd.Dir = ts.MkAbs(".")
	b.cmd.Env = append(os.Environ(), "PATH="+path)
	r, w, err := os.Pipe()
	ts.Check(err)
	b.cmd.Stderr = w
	ts.Check(b.cmd.Start())
	w.Close()
	go func() {
		defer close(b.lines)
		sc := bufio.NewScanner(r)
		for sc.Scan() {
			b.lines <- sc.Text()
		}
	}()
	backgrounds.Store(ts.Name()+"/"+args[0], b)
	ts.Defer(func() { _ = b.cmd.Process.Kill(); _ = b.cmd.Wait() })
}

func isFile(p string) bool {
	info, err := os.Stat(p)
	return err == nil && !info.IsDir()
}

// awaitLine waits for a line on stderr that matches, and sets a variable to its
// first group: await-line NAME REGEXP VAR.
func awaitLine(ts *testscript.TestScript, _ bool, args []string) {
	b := backgroundOf(ts, args[0])
	re := regexp.MustCompile(args[1])
	timeout := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-b.lines:
			if !ok {
				ts.Fatalf("%s ended without a line like %q:\n%s", args[0], args[1], strings.Join(b.all, "\n"))
			}
			b.all = append(b.all, line)
			if m := re.FindStringSubmatch(line); m != nil {
				ts.Setenv(args[2], m[1])
				return
			}
		case <-timeout:
			ts.Fatalf("%s said nothing like %q in 20s:\n%s", args[0], args[1], strings.Join(b.all, "\n"))
		}
	}
}

// hangup sends SIGHUP: hangup NAME.
func hangup(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(backgroundOf(ts, args[0]).cmd.Process.Signal(syscall.SIGHUP))
}

// interrupt sends SIGINT, and waits for exit code 0: interrupt NAME.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	b := backgroundOf(ts, args[0])
	ts.Check(b.cmd.Process.Signal(os.Interrupt))
	done := make(chan error, 1)
	go func() { done <- b.cmd.Wait() }()
	select {
	case err := <-done:
		ts.Check(err)
	case <-time.After(20 * time.Second):
		ts.Fatalf("%s goes on 20s after SIGINT", args[0])
	}
}
