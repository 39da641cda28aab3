package selftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/reference"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// The clients of the self-test: the project's own trust layer, and two mutants
// of it that pass against an honest server.
const (
	strict   = "strict"
	gullible = "falls back to plaintext on any error"
	quiet    = "takes any error for success"
	naive    = "knows nothing of trust"
)

// clients tests the role relay.
func (s *Summary) relay(ctx context.Context, cases []conformance.Case, passed, killed map[string]bool) error {
	for _, role := range []conformance.Role{conformance.RoleRelay} {
		for _, kind := range []string{strict, gullible, quiet, naive} {
			rep, err := runSubject(ctx, cases, role, kind)
			if err != nil {
				return fmt.Errorf("%s client, role %s: %w", kind, role, err)
			}
			if kind == strict {
				s.Runs++
			} else {
				s.Mutants++
			}
			survived := 0
			for _, r := range rep.Results {
				bad := r.Outcome == conformance.Fail || r.Outcome == conformance.Warn
				switch {
				case kind == strict && r.Outcome == conformance.Pass:
					s.Verdicts++
					passed[r.Case.ID] = true
				case kind == strict:
					s.Problems = append(s.Problems, fmt.Sprintf("the reference client: %s: %s (%s)", r.Case.ID, r.Outcome, r.Reason))
				case bad:
					killed[r.Case.ID] = true
				case r.Case.Negative() == (kind != naive): // the others the mutant rightly passes, or can't be judged
					survived++
					s.Problems = append(s.Problems, fmt.Sprintf("a client that %s survived %s (%s %s)", kind, r.Case.ID, r.Outcome, r.Reason))
				}
			}
			if kind != strict && survived == 0 {
				s.Killed++
			}
		}
	}
	return ctx.Err()
}

func runSubject(ctx context.Context, cases []conformance.Case, role conformance.Role, kind string) (*conformance.Report, error) {
	cfg := conformance.Config{Cases: cases, Seed: 1, StepTimeout: 5 * time.Second,
		Select: func(c *conformance.Case) bool { return c.Role == role }}
	var identity, pin string
	if role == conformance.RoleRelay {
		id, err := protocol.GenerateIdentity("https://reference.example/mcp")
		if err != nil {
			return nil, err
		}
		inner := reference.New(reference.WithProgress())
		defer inner.Close()
		if cfg.Upstream, err = transport.Handler(inner, transport.ServerConfig{Identity: id}); err != nil {
			return nil, err
		}
		identity, pin = id.URI(), id.Thumbprint().String()
	}
	cfg.Subject = conformance.FuncSubject(kind+" client", func(ctx context.Context, url string, env []string) conformance.SubjectRun {
		who, key := identity, pin
		for _, e := range env {
			if v, ok := strings.CutPrefix(e, "TMCP_CONFORMANCE_PIN="); ok {
				key = v
			}
			if v, ok := strings.CutPrefix(e, "TMCP_CONFORMANCE_IDENTITY="); ok {
				who = v
			}
		}
		var out []byte
		err := errors.New("no trust")
		if kind != naive {
			out, err = callTool(ctx, url, who, key)
		}
		if err != nil && (kind == gullible || kind == naive) {
			_, _ = callTool(ctx, url, "", "")
		}
		run := conformance.SubjectRun{Stdout: out}
		if err != nil && kind == strict {
			run.Exit, run.Stderr = 1, []byte(err.Error())
		} else if kind != strict {
			run.Stdout = nil
		}
		return run
	})
	return conformance.RunClient(ctx, cfg)
}

// callTool calls the canary tool, sealed to a pinned key, or without a key in
// plaintext. It fails on any answer but a result.
func callTool(ctx context.Context, url, identity, pin string) ([]byte, error) {
	plain := &http.Transport{DisableKeepAlives: true}
	var rt http.RoundTripper = plain
	if pin != "" {
		thumb, err := protocol.ParseThumbprint(pin)
		if err != nil {
			return nil, err
		}
		if rt, err = transport.RoundTripper(plain, transport.ClientConfig{Identity: identity, Anchor: protocol.Pin(thumb)}); err != nil {
			return nil, err
		}
	}
	body := conformance.JSON(conformance.Obj{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": conformance.Obj{
		"name": reference.ToolName, "arguments": conformance.Obj{}, "_meta": conformance.Obj{
			"progressToken": "p", conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: conformance.Obj{}}}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": conformance.ModernVersion, "Mcp-Method": "tools/call", "Mcp-Name": reference.ToolName} {
		req.Header.Set(k, v)
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return out, err
	case !bytes.Contains(out, []byte(`"result"`)):
		return out, fmt.Errorf("HTTP %d: %s", resp.StatusCode, out)
	}
	return out, nil
}
