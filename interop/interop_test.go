package interop_test

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trustedmcp/tmcp/interop"
	"github.com/trustedmcp/tmcp/interop/interoptest"
)

// installed installs all targets, two at a time; those whose toolchain is missing
// are reported by the test that needs them.
func installed(t *testing.T) string {
	t.Helper()
	interoptest.Need(t)
	cache, err := interop.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := interop.InstallAll(t.Context(), cache, interop.Targets()); err != nil && !interop.IsPrerequisite(err) {
		t.Fatal(err)
	}
	return cache
}

// Each server answers at each of its endpoints in exactly the eras that the
// registry says, to messages that no SDK wrote; over HTTP it listens on loopback
// only and is gone after Stop.
func TestServers(t *testing.T) {
	installed(t)
	for _, target := range interop.Servers() {
		for _, e := range target.Endpoints {
			t.Run(target.Name+"/"+e.Name, func(t *testing.T) {
				cache := interoptest.Install(t, target)
				start := time.Now()
				r := interoptest.Start(t, cache, target, e.Name)
				t.Logf("started in %v", time.Since(start).Round(time.Millisecond))
				for _, era := range []interop.Era{interop.Legacy, interop.Modern} {
					obs, err := interop.Probe(t.Context(), r, era)
					if !slices.Contains(e.Eras, era) {
						if !errors.Is(err, interop.ErrEraRefused) {
							t.Errorf("%s: got %+v, %v; the registry says that it isn't spoken here", era, obs, err)
						}
						continue
					}
					if err != nil {
						t.Error(err)
						continue
					}
					if want := map[interop.Era]string{interop.Legacy: interop.LegacyRevision, interop.Modern: interop.ModernRevision}[era]; obs.Revision != want {
						t.Errorf("%s: revision %s, want %s", era, obs.Revision, want)
					}
					for _, tool := range []string{"echo", "add", "fail", "progress", "long", "ask"} {
						if target.Common && !slices.Contains(obs.Tools, tool) {
							t.Errorf("%s: no tool %s among %q", era, tool, obs.Tools)
						}
					}
				}
				if r.URL != "" {
					onlyOnLoopback(t, r)
				}
			})
		}
	}
}

func onlyOnLoopback(t *testing.T, r *interop.Running) {
	t.Helper()
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip := a.(*net.IPNet).IP
		if ip.IsLoopback() || ip.To4() == nil {
			continue
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip.String(), u.Port()), time.Second)
		if err == nil {
			conn.Close()
			t.Errorf("listens at %s too, not on loopback only", ip)
		}
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if conn, err := net.DialTimeout("tcp", u.Host, time.Second); err == nil {
		conn.Close()
		t.Errorf("still accepts connections at %s after Stop", u.Host)
	}
}

// Each client lists the tools of the go-sdk server and gets its own text back,
// over both transports: as its SDK does by itself, and in each era that it can be
// told to open with.
func TestClients(t *testing.T) {
	cache := installed(t)
	server, err := interop.Lookup("go-sdk-server")
	if err != nil {
		t.Fatal(err)
	}
	interoptest.Check(t, server.Install(t.Context(), cache))
	for _, target := range interop.Clients() {
		for _, e := range target.Endpoints {
			for _, era := range append([]interop.Era{""}, e.Eras...) {
				t.Run(fmt.Sprintf("%s/%s/%s", target.Name, e.Name, orDefault(era)), func(t *testing.T) {
					interoptest.Install(t, target)
					r := interoptest.Start(t, cache, server, e.Name)
					said := fmt.Sprintf("text %d with \"quotes\" and ü", rand.Uint32())
					res, err := target.RunClient(t.Context(), cache, r, interop.ClientOptions{Era: era, Echo: said, Ask: "forty-two"})
					if err != nil {
						t.Fatal(err)
					}
					if res.Echo != said {
						t.Errorf("echo: got %q, want %q", res.Echo, said)
					}
					if res.Ask != "answer: forty-two" {
						t.Errorf("ask: got %q", res.Ask)
					}
					if !slices.Contains(res.Tools, "progress") {
						t.Errorf("tools: %q", res.Tools)
					}
					opened := era
					if opened == "" {
						opened = e.Eras[0]
					}
					if got := eraOf(res.ProtocolVersion); got != opened {
						t.Errorf("opened with %q, which is %s; want %s", res.ProtocolVersion, got, opened)
					}
				})
			}
		}
	}
}

// A server's tool ask reaches a client exactly where the registry says.
func TestAsk(t *testing.T) {
	cache := installed(t)
	client, err := interop.Lookup("mcp-go-client")
	if err != nil {
		t.Fatal(err)
	}
	interoptest.Check(t, client.Install(t.Context(), cache))
	for _, target := range interop.Servers() {
		if !target.Common {
			continue
		}
		for _, e := range target.Endpoints {
			for _, era := range e.Eras {
				where := e.Name + "/" + string(era)
				t.Run(target.Name+"/"+where, func(t *testing.T) {
					interoptest.Install(t, target)
					r := interoptest.Start(t, cache, target, e.Name)
					res, err := client.RunClient(t.Context(), cache, r, interop.ClientOptions{Era: era, Ask: "forty-two"})
					if !slices.Contains(target.Ask, where) {
						if err == nil || !strings.Contains(err.Error(), "tools/call ask") {
							t.Errorf("got %+v, %v; the registry says that ask fails here", res, err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if res.Ask != "answer: forty-two" || eraOf(res.ProtocolVersion) != era {
						t.Errorf("got %+v, want the answer in the %s era", res, era)
					}
				})
			}
		}
	}
}

// The fixtures of this module are built with the SDK version that the registry
// names.
func TestGoFixtureVersions(t *testing.T) {
	for _, name := range []string{"go-sdk-client", "mcp-go-client"} {
		target, err := interop.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		cache := interoptest.Install(t, target)
		info, err := buildinfo.ReadFile(target.ClientCommand(cache)[0])
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, dep := range info.Deps {
			if dep.Path == target.Package {
				found = true
				if dep.Version != target.Version {
					t.Errorf("%s: built with %s %s, but the registry says %s", name, dep.Path, dep.Version, target.Version)
				}
			}
		}
		if !found {
			t.Errorf("%s: not built with %s", name, target.Package)
		}
	}
}

// A client that fails says so, and nothing hangs.
func TestClientFailure(t *testing.T) {
	for _, target := range interop.Clients() {
		t.Run(target.Name, func(t *testing.T) {
			cache := interoptest.Install(t, target)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			nobody := &interop.Running{URL: "http://" + l.Addr().String() + "/mcp"}
			l.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			res, err := target.RunClient(ctx, cache, nobody, interop.ClientOptions{})
			if err == nil || ctx.Err() != nil {
				t.Errorf("a server that isn't there: got %+v, %v (%v)", res, err, ctx.Err())
			}
		})
	}
}

func orDefault(era interop.Era) string {
	if era == "" {
		return "default"
	}
	return string(era)
}

func eraOf(revision string) interop.Era {
	if revision >= interop.ModernRevision {
		return interop.Modern
	}
	return interop.Legacy
}
