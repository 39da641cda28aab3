package aicc_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/aicc"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
	wire "github.com/trustedmcp/tmcp/protocol/aicc"
	transport "github.com/trustedmcp/tmcp/transport/aicc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// own is this project's client behind a plain MCP client of a few lines.
func own(plainInitialize bool) conformance.Subject {
	return conformance.FuncSubject("tmcp", func(ctx context.Context, url string, env []string) conformance.SubjectRun {
		vars := map[string]string{}
		for _, e := range env {
			k, v, _ := strings.Cut(e, "=")
			vars[k] = v
		}
		out, err := talk(ctx, url, vars, plainInitialize)
		if err != nil {
			return conformance.SubjectRun{Exit: 1, Stderr: []byte(err.Error()), Stdout: out}
		}
		return conformance.SubjectRun{Stdout: out}
	})
}

func talk(ctx context.Context, url string, vars map[string]string, plainInitialize bool) ([]byte, error) {
	base := &http.Transport{DisableCompression: true}
	defer base.CloseIdleConnections()
	rt, err := transport.RoundTripper(base, transport.ClientConfig{PlainInitialize: plainInitialize, Key: func(context.Context) (*rsa.PublicKey, error) {
		text, err := os.ReadFile(vars["TMCP_AICC_PUBLIC_KEY"])
		if err != nil {
			return nil, err
		}
		return wire.ParsePublicKey(text)
	}})
	if err != nil {
		return nil, err
	}
	var last []byte
	for i, m := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo","arguments":{"text":` + string(jsonrpc.Quote(vars["TMCP_ECHO"])) + `},"_meta":{"progressToken":"p"}}}`,
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(m))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		resp, err := (&http.Client{Transport: rt}).Do(req)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		switch {
		case err != nil:
			return body, err
		case resp.StatusCode/100 != 2:
			return body, fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		if i == 1 {
			continue
		}
		if last, err = answer(resp.Header.Get("Content-Type"), body); err != nil {
			return last, err
		}
	}
	return last, nil
}

// answer is the one response in an answer.
func answer(contentType string, body []byte) ([]byte, error) {
	items := [][]byte{body}
	if strings.HasPrefix(contentType, "text/event-stream") {
		items = nil
		for r := sse.NewReader(bytes.NewReader(body), 16<<20); ; {
			ev, err := r.Next()
			if err != nil {
				break
			}
			items = append(items, bytes.Clone(ev.Data))
		}
	}
	for _, b := range items {
		m, err := jsonrpc.Parse(b, jsonrpc.Limits{})
		switch {
		case err != nil:
			return b, err
		case m.Error != nil:
			return b, fmt.Errorf("%s", m.Error)
		case m.Result != nil:
			return m.Result, nil
		}
	}
	return nil, fmt.Errorf("no answer")
}

// TestOwnClient: the project's client passes, however it opens, but for what the
// profile leaves open, which it is told of.
func TestOwnClient(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain initialize %v", plain), func(t *testing.T) {
			rep, err := conformance.RunClient(t.Context(), conformance.Config{Subject: own(plain), Survey: aicc.Survey(), Cases: aicc.Cases(), Seed: 2,
				Select: func(c *conformance.Case) bool { return c.Role == conformance.RoleClient }})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rep.Results {
				want := conformance.Pass
				if aicc.IsWeakness(r.Case) {
					want = conformance.Warn
				}
				if r.Outcome != want {
					t.Errorf("%s: %s (%s)", r.Case.ID, r.Outcome, r.Reason)
				}
			}
		})
	}
}
