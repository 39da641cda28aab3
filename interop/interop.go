// Package interop installs, starts and stops MCP servers and clients that others
// wrote, so that tests meet the real thing in every language and era.
//
// Call [Target.Install] once for a target of [Servers] or [Clients], then
// [Target.Start] for a server or [Target.RunClient] for a client. Tests use
// package interoptest instead, which turns a missing toolchain into a named skip,
// or into a failure where CI is set.
//
// Everything comes from its own package registry through its ordinary installer,
// at a pinned version, into one folder of a cache. Servers listen on loopback
// only. Every process has a deadline, and ends when its context ends, when
// [Running.Stop] is called, or (where it is ours) when the process that started
// it goes away.
package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A Kind says at which end of MCP a target stands.
type Kind string

const (
	Server Kind = "server"
	Client Kind = "client"
)

// A Transport is one of MCP's two standard transports.
type Transport string

const (
	Stdio Transport = "stdio"
	HTTP  Transport = "http" // Streamable HTTP
)

// An Era is a family of MCP revisions that open a conversation in the same way.
type Era string

const (
	Legacy Era = "legacy" // 2024-11-05 to 2025-11-25: initialize
	Modern Era = "modern" // 2026-07-28: server/discover, stateless
)

// The revisions that the probes and the client programs use for each era.
const (
	LegacyRevision = "2025-11-25"
	ModernRevision = "2026-07-28"
)

// An Endpoint is one way to reach a server, or one way in which a client dials.
// Each was found by running the target, and a test finds it again.
type Endpoint struct {
	Name      string // unique in the target: "stdio", "http", "http-stateful", …
	Transport Transport
	// Eras that a server serves here, or that a client can open with; a client's
	// first is the one it opens with when it isn't told (see ClientOptions.Era).
	Eras []Era
}

// A Target is one implementation of MCP at one version, at one end.
type Target struct {
	Name      string // unique, stable: "python2-server"
	Kind      Kind
	Language  string // "go", "typescript", "python", "rust", "java"
	Package   string // name in its registry
	Version   string // pinned
	Endpoints []Endpoint
	// Common reports that the server offers the common tools of
	// fixtures/README.md: echo {text}, add {a,b}, fail, progress {n}, long {ms},
	// ask; resource test://greeting, prompt greet {name}.
	Common bool
	// Ask lists the endpoint/era pairs on which a server's tool ask reaches the
	// client, written "stdio/legacy".
	Ask []string
	// Oddities are what it does that a newcomer wouldn't expect.
	Oddities []string

	bundle  *bundle
	command func(install, Endpoint, int) invocation
}

// Transports lists the target's transports, without repeats.
func (t *Target) Transports() []Transport {
	var out []Transport
	for _, e := range t.Endpoints {
		if !slices.Contains(out, e.Transport) {
			out = append(out, e.Transport)
		}
	}
	return out
}

// Eras lists the target's eras over all its endpoints, without repeats.
func (t *Target) Eras() []Era {
	var out []Era
	for _, e := range t.Endpoints {
		for _, era := range e.Eras {
			if !slices.Contains(out, era) {
				out = append(out, era)
			}
		}
	}
	return out
}

// Endpoint returns the endpoint of that name.
func (t *Target) Endpoint(name string) (Endpoint, error) {
	for _, e := range t.Endpoints {
		if e.Name == name {
			return e, nil
		}
	}
	return Endpoint{}, fmt.Errorf("interop: %s has no endpoint %q", t.Name, name)
}

// Servers lists all server targets.
func Servers() []*Target { return ofKind(Server) }

// Clients lists all client targets.
func Clients() []*Target { return ofKind(Client) }

func ofKind(k Kind) []*Target {
	var out []*Target
	for _, t := range Targets() {
		if t.Kind == k {
			out = append(out, t)
		}
	}
	return out
}

// Lookup returns the target of that name.
func Lookup(name string) (*Target, error) {
	for _, t := range Targets() {
		if t.Name == name {
			return t, nil
		}
	}
	return nil, fmt.Errorf("interop: no target %q; `go run ./interop/cmd/interop list` lists them", name)
}

// CacheDir is where targets are installed: $TMCP_INTEROP_CACHE, else the folder
// tmcp-interop in the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("TMCP_INTEROP_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("interop: no cache folder: %w; set TMCP_INTEROP_CACHE to a folder", err)
	}
	return filepath.Join(dir, "tmcp-interop"), nil
}

// A PrerequisiteError says that a toolchain, which the project doesn't install
// itself, is missing or too old.
type PrerequisiteError struct {
	Target string // what needs it
	Tool   string // the program that was looked for
	Reason string // "not found in PATH", "is version 3.8, but 3.10 is needed"
	Hint   string // how to get it
}

func (e *PrerequisiteError) Error() string {
	return fmt.Sprintf("interop: %s needs %s, which %s; %s", e.Target, e.Tool, e.Reason, e.Hint)
}

// IsPrerequisite reports whether err says that a toolchain is missing.
func IsPrerequisite(err error) bool {
	var p *PrerequisiteError
	return errors.As(err, &p)
}
