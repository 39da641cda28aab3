package aicc_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/interop/aicc"
	"github.com/trustedmcp/tmcp/interop/interoptest"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	ours "github.com/trustedmcp/tmcp/transport/aicc"
)

// Each figure is the median of rounds, of which each lasts slice: in turns, since a
// shared machine is not the same from one second to the next.
const (
	rounds = 5
	slice  = time.Second
)

// BenchmarkAICC measures the published package and ours in one run, over loopback,
// with the same tool (it returns the text that it is given), the same revision of
// MCP and RSA keys of 4096 bits. Legs are named client-server: "theirs" is the
// package, on Python; "ours" is the official Go SDK over profile aicc-0.1; "native"
// is the same over the envelope carrier of org.trustedmcp/trust; "python" and "go"
// have no trust. Python runs a process for each end, Go both ends in one. All
// servers answer in JSON: over event streams the package loses messages of 64 KiB.
//
//	TMCP_INTEROP=1 go test -run '^$' -bench AICC -benchtime 1x ./interop/aicc
func BenchmarkAICC(b *testing.B) {
	interoptest.Need(b)
	f := newFolder(b)
	theirs := theirServer(b, f, "json").URL
	aicc01 := serve(b, plainServer(true), ours.ServerConfig{})
	nativeURL, nativeClient := native(b)
	legs := []struct {
		name string
		run  runner
	}{
		{"theirs-theirs", python(b, f.client, theirs)},
		{"ours-ours", golang(b, aicc01, roundTripper(b, ours.ClientConfig{}))},
		{"native-native", golang(b, nativeURL, nativeClient)},
		{"theirs-ours", python(b, f.client, aicc01)},
		{"ours-theirs", golang(b, theirs, roundTripper(b, ours.ClientConfig{}))},
		{"python-python", python(b, "", theirServer(b, f, "plain-json").URL)},
		{"go-go", golang(b, listen(b, plainServer(true)), loopback(b))},
	}
	for _, size := range []int{1 << 10, 64 << 10} {
		for _, parallel := range []int{1, 16} {
			for _, leg := range legs { // connections, caches
				leg.run(b, size, parallel)
			}
			all := make([][]rates, len(legs))
			for range rounds {
				for i, leg := range legs {
					all[i] = append(all[i], leg.run(b, size, parallel))
				}
			}
			for i, leg := range legs {
				b.Run(fmt.Sprintf("%s/%dKiB/parallel-%d", leg.name, size>>10, parallel), func(b *testing.B) {
					b.ReportMetric(0, "ns/op") // what is measured was measured above
					b.ReportMetric(middle(all[i], func(r rates) float64 { return r.perSecond }), "calls/s")
					b.ReportMetric(middle(all[i], func(r rates) float64 { return float64(r.p50.Microseconds()) / 1000 }), "p50-ms")
					ratios := make([]rates, rounds) // to theirs, in the same round
					for n := range ratios {
						ratios[n].perSecond = all[i][n].perSecond / all[0][n].perSecond
					}
					b.ReportMetric(middle(ratios, func(r rates) float64 { return r.perSecond }), "x-theirs")
				})
			}
		}
	}
}

func middle(all []rates, of func(rates) float64) float64 {
	var v []float64
	for _, r := range all {
		v = append(v, of(r))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// rates are what one measurement gives.
type rates struct {
	perSecond float64
	p50       time.Duration
}

// A runner measures once, in a session that is open.
type runner func(b *testing.B, size, parallel int) rates

// python measures from a client process on the package, or on MCP's SDK alone.
func python(b *testing.B, config, url string) runner {
	c := theirClient(b, config, url)
	return func(b *testing.B, size, parallel int) rates {
		a := do(b, c, aicc.Step{Do: "bench", Size: size, Parallel: parallel, MS: int(slice.Milliseconds()), Timeout: 60})
		if a.Exception != "" || a.Calls == 0 {
			b.Fatalf("%+v\n%s", a, c.Log())
		}
		return rates{float64(a.Calls) / a.Seconds, time.Duration(a.P50 * float64(time.Second))}
	}
}

// golang measures from the official Go SDK over rt.
func golang(b *testing.B, url string, rt http.RoundTripper) runner {
	s := mustSession(b, url, rt, nil)
	return func(b *testing.B, size, parallel int) rates {
		text := strings.Repeat("x", size)
		start := time.Now()
		var mu sync.Mutex
		var spent []time.Duration
		var wg sync.WaitGroup
		for range parallel {
			wg.Go(func() {
				for {
					t0 := time.Now()
					if t0.Sub(start) > slice {
						return
					}
					got, err := echo(b, s, text)
					if err != nil || len(got) != size {
						b.Errorf("echo: %d bytes, %v", len(got), err)
						return
					}
					mu.Lock()
					spent = append(spent, time.Since(t0))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		elapsed := time.Since(start)
		if b.Failed() {
			b.FailNow()
		}
		slices.Sort(spent)
		return rates{float64(len(spent)) / elapsed.Seconds(), spent[len(spent)/2]}
	}
}

func loopback(b testing.TB) http.RoundTripper {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64
	b.Cleanup(base.CloseIdleConnections)
	return base
}

// native is the same server, and a client's transport to it, over the envelope
// carrier of org.trustedmcp/trust in required mode with a pinned identity.
func native(b *testing.B) (url string, rt http.RoundTripper) {
	b.Helper()
	const uri = "https://tools.example/mcp"
	id, err := protocol.GenerateIdentity(uri)
	if err != nil {
		b.Fatal(err)
	}
	h, err := transport.Handler(plainServer(true), transport.ServerConfig{Identity: id, Mode: protocol.ModeRequired})
	if err != nil {
		b.Fatal(err)
	}
	rt, err = transport.RoundTripper(loopback(b), transport.ClientConfig{
		Identity: uri, Anchor: protocol.Pin(id.Thumbprint()), Mode: protocol.ModeRequired, Carrier: protocol.Envelope})
	if err != nil {
		b.Fatal(err)
	}
	return listen(b, h), rt
}
