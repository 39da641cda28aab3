package interop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/internal/sse"
)

// ProbeTimeout bounds one exchange of a probe.
const ProbeTimeout = 20 * time.Second

// An Observation is what a server answered to plain messages of one era.
type Observation struct {
	Revision string   // that initialize agreed on, or the newest that server/discover lists
	Server   string   // its name, as it says
	Tools    []string // of the first page of tools/list
}

// ErrEraRefused says that the server does not speak the era that was probed; the
// error that wraps it quotes its answer.
var ErrEraRefused = errors.New("the server does not speak this era")

// Probe opens a conversation with the server in one era, without any SDK, and
// lists its tools: initialize, notifications/initialized and tools/list, or
// server/discover and tools/list.
func Probe(ctx context.Context, r *Running, era Era) (*Observation, error) {
	var w wire
	if r.URL != "" {
		w = &httpWire{url: r.URL}
	} else {
		s, err := startStdio(ctx, r)
		if err != nil {
			return nil, err
		}
		defer s.close()
		w = s
	}
	var obs *Observation
	var err error
	if era == Modern {
		obs, err = probeModern(ctx, w)
	} else {
		obs, err = probeLegacy(ctx, w)
	}
	if err != nil {
		return nil, fmt.Errorf("interop: probe %s %s, %s: %w", r.Target.Name, r.Endpoint.Name, era, err)
	}
	return obs, nil
}

// A wire carries one request at a time. A notification has id 0 and no answer.
type wire interface {
	send(ctx context.Context, id int, method, params string, header http.Header) (*jsonrpc.Message, error)
}

const probeInfo = `{"name":"tmcp-interop-probe","version":"1"}`

func probeLegacy(ctx context.Context, w wire) (*Observation, error) {
	m, err := w.send(ctx, 1, "initialize",
		`{"protocolVersion":"`+LegacyRevision+`","capabilities":{},"clientInfo":`+probeInfo+`}`, nil)
	if err != nil {
		return nil, err
	}
	if m.Error != nil {
		return nil, fmt.Errorf("initialize: %w: %s", ErrEraRefused, m.Error)
	}
	obs := new(Observation)
	obs.Revision, _ = jsonrpc.Text(jsonrpc.Get(m.Result, "protocolVersion"))
	if obs.Revision == "" {
		return nil, fmt.Errorf("initialize: no protocolVersion in %s", m.Result)
	}
	obs.Server, _ = jsonrpc.Text(jsonrpc.Get(m.Result, "serverInfo", "name"))
	header := http.Header{"Mcp-Protocol-Version": {obs.Revision}}
	if _, err := w.send(ctx, 0, "notifications/initialized", `{}`, header); err != nil {
		return nil, err
	}
	return obs, obs.list(ctx, w, `{}`, header)
}

func probeModern(ctx context.Context, w wire) (*Observation, error) {
	params := `{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + ModernRevision +
		`","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":` + probeInfo + `}}`
	header := func(method string) http.Header {
		return http.Header{"Mcp-Protocol-Version": {ModernRevision}, "Mcp-Method": {method}}
	}
	m, err := w.send(ctx, 1, "server/discover", params, header("server/discover"))
	if err != nil {
		return nil, err
	}
	if m.Error != nil {
		return nil, fmt.Errorf("server/discover: %w: %s", ErrEraRefused, m.Error)
	}
	versions, err := texts(jsonrpc.Get(m.Result, "supportedVersions"), "")
	if err != nil || !slices.Contains(versions, ModernRevision) {
		return nil, fmt.Errorf("server/discover: %w: supportedVersions %q lacks %s", ErrEraRefused, versions, ModernRevision)
	}
	obs := &Observation{Revision: slices.Max(versions)}
	obs.Server, _ = jsonrpc.Text(jsonrpc.Get(m.Result, "_meta", "io.modelcontextprotocol/serverInfo", "name"))
	return obs, obs.list(ctx, w, params, header("tools/list"))
}

func (o *Observation) list(ctx context.Context, w wire, params string, header http.Header) error {
	m, err := w.send(ctx, 2, "tools/list", params, header)
	if err != nil {
		return err
	}
	if m.Error != nil {
		return fmt.Errorf("tools/list: error %s", m.Error)
	}
	if o.Tools, err = texts(jsonrpc.Get(m.Result, "tools"), "name"); err != nil {
		return fmt.Errorf("tools/list: %w in %s", err, m.Result)
	}
	if len(o.Tools) == 0 {
		return errors.New("tools/list: no tools")
	}
	return nil
}

// texts returns the strings of a JSON array, or the member of that name of each
// of its objects.
func texts(array jsontext.Value, member string) ([]string, error) {
	var out []string
	if array == nil {
		return nil, errors.New("the array is missing")
	}
	err := jsonrpc.Elements(array, func(v jsontext.Value) error {
		if member != "" {
			v = jsonrpc.Get(v, member)
		}
		s, ok := jsonrpc.Text(v)
		if !ok {
			return fmt.Errorf("%s is no string", v)
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

func encode(id int, method, params string) []byte {
	if id == 0 {
		return []byte(`{"jsonrpc":"2.0","method":"` + method + `","params":` + params + `}`)
	}
	return []byte(`{"jsonrpc":"2.0","id":` + strconv.Itoa(id) + `,"method":"` + method + `","params":` + params + `}`)
}

// httpWire speaks Streamable HTTP.
type httpWire struct {
	url, session string
}

func (h *httpWire) send(ctx context.Context, id int, method, params string, header http.Header) (*jsonrpc.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(encode(id, method, params)))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if h.session != "" {
		req.Header.Set("Mcp-Session-Id", h.session)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	if s := resp.Header.Get("Mcp-Session-Id"); s != "" {
		h.session = s
	}
	if id == 0 {
		if resp.StatusCode/100 != 2 {
			return nil, fmt.Errorf("%s: status %s", method, resp.Status)
		}
		return nil, nil
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return answerInStream(resp.Body, id, method)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, jsonrpc.DefaultMaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if resp.StatusCode/100 == 4 && (err != nil || m.Error != nil) {
		// SDKs that don't know a method refuse it in ways of their own.
		return nil, fmt.Errorf("%s: %w: status %s, body %.300s", method, ErrEraRefused, resp.Status, body)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: status %s: %w", method, resp.Status, err)
	}
	return m, nil
}

func answerInStream(body io.Reader, id int, method string) (*jsonrpc.Message, error) {
	events := sse.NewReader(body, 0)
	for {
		ev, err := events.Next()
		if err != nil {
			return nil, fmt.Errorf("%s: the stream ended without an answer: %w", method, err)
		}
		if len(ev.Data) == 0 {
			continue
		}
		m, err := jsonrpc.Parse(ev.Data, jsonrpc.Limits{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		if m.IsResponse() && string(m.ID) == strconv.Itoa(id) {
			return m, nil
		}
	}
}

// stdioWire speaks to a process of its own.
type stdioWire struct {
	in     io.WriteCloser
	lines  <-chan []byte
	stderr *tail
	cancel context.CancelFunc
	done   <-chan struct{}
}

func startStdio(ctx context.Context, r *Running) (*stdioWire, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, r.Command[0], r.Command[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	stderr := &tail{max: 16 << 10}
	cmd.Stderr = stderr
	ownGroup(cmd)
	cmd.WaitDelay = stopGrace
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("interop: start %s: %w", r.Target.Name, err)
	}
	lines, done := make(chan []byte), make(chan struct{})
	go func() {
		defer close(done)
		defer cmd.Wait()
		defer close(lines)
		scan := bufio.NewScanner(out)
		scan.Buffer(nil, jsonrpc.DefaultMaxBytes)
		for scan.Scan() {
			select {
			case lines <- bytes.Clone(scan.Bytes()):
			case <-ctx.Done():
				return
			}
		}
	}()
	return &stdioWire{in, lines, stderr, cancel, done}, nil
}

func (s *stdioWire) close() {
	s.in.Close()
	select {
	case <-s.done: // servers end when their input does
	case <-time.After(stopGrace):
	}
	s.cancel()
	<-s.done
}

func (s *stdioWire) send(ctx context.Context, id int, method, params string, _ http.Header) (*jsonrpc.Message, error) {
	if _, err := s.in.Write(append(encode(id, method, params), '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", method, err, s.stderr)
	}
	if id == 0 {
		return nil, nil
	}
	deadline := time.NewTimer(ProbeTimeout)
	defer deadline.Stop()
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				return nil, fmt.Errorf("%s: the server ended\n%s", method, s.stderr)
			}
			m, err := jsonrpc.Parse(line, jsonrpc.Limits{})
			if err != nil {
				return nil, fmt.Errorf("%s: on standard output: %w: %.300q", method, err, line)
			}
			if m.IsResponse() && string(m.ID) == strconv.Itoa(id) {
				return m, nil
			}
		case <-deadline.C:
			return nil, fmt.Errorf("%s: no answer after %v\n%s", method, ProbeTimeout, s.stderr)
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", method, ctx.Err())
		}
	}
}
