// Package examples runs the examples as a reader would.
package examples

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/protocol"
)

// programs are the examples, built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "examples")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./weather", "./host", "./model").CombinedOutput()
	if err != nil {
		return dir, &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// start starts a program, and returns the first group of the line that it says.
func start(t *testing.T, say string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s after Ctrl-C: %v", name, err)
		}
	})
	re := regexp.MustCompile(say)
	in := bufio.NewScanner(errs)
	for in.Scan() {
		if m := re.FindStringSubmatch(in.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, errs) }()
			return m[1]
		}
	}
	t.Fatalf("%s said nothing like %q", name, say)
	return ""
}

// key makes a key, and returns its thumbprint.
func key(t *testing.T, file string) string {
	t.Helper()
	k, err := keyfile.Generate("")
	if err == nil {
		err = keyfile.Save(file, k)
	}
	if err != nil {
		t.Fatal(err)
	}
	thumb, err := protocol.PublicKeyThumbprint(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return thumb.String()
}

func run(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, "host"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestHostAndWeather(t *testing.T) {
	dir := t.TempDir()
	weatherKey, hostKey, strangerKey := filepath.Join(dir, "weather.key"), filepath.Join(dir, "host.key"), filepath.Join(dir, "stranger.key")
	weather, host := key(t, weatherKey), key(t, hostKey)
	stranger := key(t, strangerKey)
	model := start(t, `model: (http://\S+)`, "model", "-listen", "127.0.0.1:0")
	url := start(t, `weather: (http://\S+?), key `+regexp.QuoteMeta(weather), "weather", "-listen", "127.0.0.1:0", "-key", weatherKey, "-client-pin", host)

	for question, want := range map[string]string{
		"Do I need an umbrella in Malmö?": `"sky":"rain"`,
		"How is it in 札幌?":                "heavy snow",
		"How is it on Atlantis?":          "nothing is recorded for",
	} {
		out, errs, err := run(t, "-key", hostKey, "-pin", weather, "-server", url, "-model", model, question)
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s\n%v %s%s", question, err, out, errs)
		}
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"a stranger":     {[]string{"-key", strangerKey, "-pin", weather, "-server", url, "-model", model, "x"}, "client-key-refused"},
		"another server": {[]string{"-key", hostKey, "-pin", stranger, "-server", url, "-model", model, "x"}, "identity-mismatch"},
		"no server":      {[]string{"-key", hostKey, "-pin", weather, "-server", "http://127.0.0.1:9/mcp", "-model", model, "x"}, "connection refused"},
		"no model":       {[]string{"-key", hostKey, "-pin", weather, "-server", url, "-model", "http://127.0.0.1:9/v1", "x"}, "the model:"},
		"no pin":         {[]string{"-key", hostKey, "-server", url, "-model", model, "x"}, "-pin"},
		"no question":    {[]string{"-key", hostKey, "-pin", weather, "-server", url, "-model", model}, "ask one question"},
	} {
		if out, errs, err := run(t, tt.args...); err == nil || !strings.Contains(errs, tt.want) || out != "" {
			t.Errorf("%s: %v %s%s", name, err, out, errs)
		}
	}
}
