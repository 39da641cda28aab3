package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// A replica is one process of a service: a tmcp serve with keys and evidence of its
// own, and its tools, which note what they ran.
type replica struct {
	end    *end
	tools  *httptest.Server
	quotes *counted
	late   time.Duration

	mu  sync.Mutex
	ran map[string]int // by the text of the call
}

// ServeHTTP answers calls with their text: at once, or, where that begins with
// "hold", so late that a renewal of keys lies between.
func (r *replica) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	m, err := jsonrpc.Parse(body, jsonrpc.Limits{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	raw := jsonrpc.Get(m.Params, "arguments", "text")
	text, _ := jsonrpc.Text(raw)
	r.mu.Lock()
	r.ran[text]++
	r.mu.Unlock()
	if strings.HasPrefix(text, "hold") {
		late := time.NewTimer(r.late)
		defer late.Stop()
		select {
		case <-late.C:
		case <-req.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(jsonrpc.Response(m.ID, fmt.Appendf(nil, `{"resultType":"complete","content":[{"type":"text","text":%s}]}`, raw)))
}

// A service is two replicas of one identity, each with keys of its own, behind a
// balancer.
type service struct {
	t    *testing.T
	life time.Duration // of keys; renewed at half of it
	key  string        // file of the identity key, which the replicas share
	next *http.Transport
	gone []*replica // processes that were

	mu sync.RWMutex
	up [2]*replica
}

func newService(t *testing.T, life time.Duration) *service {
	t.Helper()
	s := &service{t: t, life: life, key: filepath.Join(t.TempDir(), "server.key"), next: &http.Transport{MaxIdleConnsPerHost: 64}}
	key, err := keyfile.Generate("")
	if err == nil {
		err = keyfile.Save(s.key, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.up {
		s.up[i] = s.start()
	}
	t.Cleanup(s.next.CloseIdleConnections)
	return s
}

// serviceURL is what clients dial, and the identity of both replicas.
const serviceURL = "http://service.example" + gateway.Path

func (s *service) start() *replica {
	r := &replica{ran: map[string]int{}, late: min(s.life/2+200*time.Millisecond, 4*time.Second)}
	r.tools = httptest.NewServer(r)
	s.t.Cleanup(r.tools.Close)
	a := machine(s.t, good, nil)
	r.quotes = &counted{Attester: a.Attester}
	a.Attester, a.Interval = r.quotes, s.life/4 // so all keys have evidence of their own
	r.end = serve(s.t, gateway.ServeConfig{Upstream: r.tools.URL, Identity: serviceURL, IdentityKey: s.key, Attestation: a, Validity: s.life})
	return r
}

// restart takes a replica out, lets the calls that it has end, and puts another
// process in its place. ready is waited for before that gets calls, as balancers wait
// until it has been healthy for a while: a message is sealed three times at most
// (TMCP-8.5-4), and a move to another replica takes two of them, for unknown-context
// and unknown-key. Two moves in the time of one call would lose it.
func (s *service) restart(i int, ready func()) {
	s.mu.Lock()
	old := s.up[i]
	s.up[i] = nil
	s.gone = append(s.gone, old)
	s.mu.Unlock()
	old.end.stop()
	old.end.wait(s.t)
	fresh := s.start()
	ready()
	s.mu.Lock()
	s.up[i] = fresh
	s.mu.Unlock()
}

// processes are all that ever were.
func (s *service) processes() []*replica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := append([]*replica(nil), s.gone...)
	for _, r := range s.up {
		if r != nil {
			all = append(all, r)
		}
	}
	return all
}

// rollovers is how often a running process renewed its keys and evidence.
func (s *service) rollovers() (n int64) {
	for _, r := range s.processes() {
		n += max(0, r.quotes.n.Load()-1)
	}
	return n
}

// balanced is the balancer as one client sees it. What comes of one client goes to
// one replica, while that is up: a call that is sealed to the keys of one replica
// opens at no other. What can't be delivered goes to the other replica, as it is.
type balanced struct {
	*service
	client int
}

func (b balanced) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	for try := range 2 {
		b.mu.RLock()
		r := b.up[(b.client+try)%2]
		if r == nil {
			r = b.up[(b.client+try+1)%2]
		}
		b.mu.RUnlock()
		out := req.Clone(req.Context())
		out.URL.Host, out.Host = r.end.addr, ""
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		var resp *http.Response
		if resp, err = b.next.RoundTrip(out); err == nil {
			return resp, nil
		}
	}
	return nil, fmt.Errorf("no replica takes it: %w", err)
}

// client calls the service by way of the balancer.
func (s *service) client(i int) *http.Client {
	rt, err := transport.RoundTripper(balanced{s, i}, transport.ClientConfig{Anchor: protocol.Pin(s.up[0].end.pin),
		Profile: protocol.ProfileAttested, Appraiser: appraiser(s.t, goodCode)})
	if err != nil {
		s.t.Fatal(err)
	}
	return &http.Client{Transport: rt}
}

// life is how long keys live: two seconds, and more where their verification, with
// evidence, takes so long that clients would hardly get to use them.
func life(t *testing.T) time.Duration {
	c := newService(t, time.Minute).client(0)
	begin := time.Now()
	if err := callText(t.Context(), c, "probe"); err != nil {
		t.Fatal(err)
	}
	return (2*time.Second + 10*time.Since(begin)).Truncate(time.Second)
}

const clients = 4

// A callLog says which calls are under way, and how many each client has ended.
type callLog struct {
	mu    sync.Mutex
	open  map[int]bool
	ended [clients]int
}

func (l *callLog) begin(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[n] = true
}

func (l *callLog) end(n, client int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, n)
	l.ended[client]++
}

// moved waits until each client has ended a call that it began after now, and all
// have ended that were begun before.
func moved(ctx context.Context, l *callLog) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2 {
		l.mu.Lock()
		open, ended := maps.Clone(l.open), l.ended
		l.mu.Unlock()
		for over := false; !over && ctx.Err() == nil; {
			<-tick.C
			l.mu.Lock()
			over = true
			for n := range open {
				over = over && !l.open[n]
			}
			for i := range ended {
				over = over && l.ended[i] > ended[i]
			}
			l.mu.Unlock()
		}
	}
}

// 10,000 calls of four attested clients, over 20 renewals of keys and evidence and
// three restarts of replicas: each has its own result, and ran once.
func TestRollover(t *testing.T) {
	const calls, renewals, workers, restarts = 10_000, 20, 8, 3
	s := newService(t, life(t))
	var local [clients]*http.Client
	for i := range local {
		local[i] = s.client(i)
	}
	tickets := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var results atomic.Int64
	log := callLog{open: map[int]bool{}}
	var wg sync.WaitGroup
	for w := range clients * workers {
		wg.Go(func() {
			for n := range tickets {
				text := fmt.Sprintf("call %d", n)
				if n%250 == 0 { // one that is under way when keys are renewed
					text = fmt.Sprintf("hold %d", n)
				}
				log.begin(n)
				err := callText(ctx, local[w%clients], text)
				log.end(n, w%clients)
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("call %d, after %d renewals: %v", n, s.rollovers(), err)
					}
					cancel()
					continue
				}
				results.Add(1)
			}
		})
	}
	restart := make(chan int, restarts)
	var restarting sync.WaitGroup
	restarting.Go(func() {
		for i := range restart {
			s.restart(i%2, func() { moved(ctx, &log) })
		}
	})

	begin := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; n < calls && ctx.Err() == nil; n++ {
		if every := calls / (restarts + 1); n > 0 && n%every == 0 && n/every <= restarts {
			restart <- n / every
		}
		// As many calls for each renewal, and those one at a time that bring the next
		// about.
		for wait := 20; n > calls*19/20*int(1+s.rollovers())/(renewals+1) && wait > 0 && s.rollovers() < renewals; wait-- {
			<-tick.C
		}
		select {
		case tickets <- n:
		case <-ctx.Done():
		}
	}
	close(tickets)
	close(restart)
	wg.Wait()
	cancel() // no call comes that a restart could wait for
	restarting.Wait()

	if got := results.Load(); got != calls {
		t.Errorf("%d calls had %d results", calls, got)
	}
	seen := map[string]int{}
	all := s.processes()
	for i, r := range all {
		r.mu.Lock()
		for text, n := range r.ran {
			if seen[text] += n; n > 1 {
				t.Errorf("process %d ran %q %d times", i, text, n)
			} else if seen[text] > 1 {
				t.Errorf("two processes ran %q", text)
			}
		}
		r.mu.Unlock()
	}
	if len(seen) != calls {
		t.Errorf("%d calls were run, want %d", len(seen), calls)
	}
	if got := s.rollovers(); got < renewals {
		t.Errorf("keys and evidence were renewed %d times, want %d", got, renewals)
	}
	if len(all) != 2+restarts {
		t.Errorf("%d processes served, want %d", len(all), 2+restarts)
	}
	t.Logf("%d results in %v, over %d renewals and %d restarts; keys lived %v", results.Load(), time.Since(begin).Round(time.Millisecond), s.rollovers(), restarts, s.life)
}

// callText calls the tool once, without an SDK that might try again by itself.
func callText(ctx context.Context, c *http.Client, text string) error {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":%q},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, text)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, serviceURL, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"echo"}}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer, fmt.Appendf(nil, `"text":%q`, text)) {
		return fmt.Errorf("%s: %.300s", resp.Status, answer)
	}
	return nil
}
