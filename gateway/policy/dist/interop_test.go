package dist_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
)

// distribution is the registry that most others were made of. It has no API for
// referrers, so that the tag in its place is used.
const distribution = "github.com/distribution/distribution/v3/cmd/registry@v3.1.0"

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

func TestDistribution(t *testing.T) {
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(cache, "distribution-3.1.0")
	program := filepath.Join(bin, "registry")
	if _, err := os.Stat(program); err != nil {
		ctx, cancel := context.WithTimeout(t.Context(), interop.InstallTimeout)
		defer cancel()
		// The go command writes the program in one step, so that two at a time do no harm.
		install := exec.CommandContext(ctx, "go", "install", distribution)
		install.Env = append(os.Environ(), "GOBIN="+bin, "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("go install %s: %v\n%s", distribution, err, out)
		}
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: \"127.0.0.1:0\"}\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	host := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(host)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				host <- m[1]
			}
		}
	}()
	defer func() {
		cancel()
		<-done
		_ = cmd.Wait() // it was killed
	}()
	at, ok := <-host
	if !ok {
		t.Fatal("the registry ended, or says not where it listens")
	}
	roundTrip(t, at)
}
