// Package client holds the cases of role client: each hosts an MCP server, good
// or hostile, starts the client under test, and judges by what the client puts
// on the wire, by its exit code, and by whether it reports as a success what it
// should have refused. Call [Cases] for the cases, [Command] for the target,
// and [Survey] before [conformance.Run].
//
// # What a client under test is
//
// A command. It is started once for each case with the server's URL appended to
// its arguments. It lists the server's tools, calls the tool echo with a text,
// prints the text that the tool answered with on its standard output (one line
// of JSON with the member echo, or in any other way that holds the text), and
// exits: with 0 when all went well, with anything else when not.
//
// What it is to do is told by its environment:
//
//	MCP_CONFORMANCE_SCENARIO  the id of the case
//	TMCP_ECHO                 the argument text for the tool echo
//	TMCP_ERA                  modern or legacy: how to open the connection
//	TMCP_TRUST                required, or off: do without the extension
//	TMCP_IDENTITY             the URI that the server must prove to be
//	TMCP_PIN                  thumbprint of the key that may speak for it, or
//	TMCP_CA                   file with the roots (PEM) that its certificate leads to
//	TMCP_CARRIER              envelope, inline or http
//	TMCP_FRESH                1: ask for a key object with a nonce (trust/attest)
//	TMCP_PAD                  1: pad what is sealed
//
// and for the profiles attested, mutual and attested-tls:
//
//	TMCP_PROFILE              attested, mutual or attested-tls: what the server must prove
//	TMCP_SIMULATOR            1: accept simulated TEEs; else they must be refused
//	TMCP_SIMULATOR_ROOT       file with the simulator's Intel root (PEM)
//	TMCP_POLICY               file of rules (JSON) that its evidence must meet
//	TMCP_FRESH_EVIDENCE       1: ask for evidence for a nonce
//	TMCP_VERIFIER             URL of a remote verifier (challenge-response/v1)
//	TMCP_VERIFIER_KEY         file with the public key (PEM) of its results
//	TMCP_CLIENT_KEY           file with the client's own private key (PKCS #8 PEM)
//	TMCP_CLIENT_IDENTITY      the URI that the client is to say it is
//	TMCP_TEE                  sim: the client is to attest itself, by a simulated TEE
//
// With attested-tls nothing is sealed: the URL is https, TMCP_PIN names the key of
// the server's TLS certificate, and TMCP_CARRIER is not set. The mode is the
// exporter-bound one.
//
// The rules are those of package evidence/appraise. They name in claims the
// measurement that is accepted, and at times configuration digests. The evidence
// is of simulated Intel TDX, with its collateral stapled to it.
//
// A client that ignores the trust variables is tested in profile core only, one
// that ignores TMCP_PROFILE not in attested, mutual and attested-tls. One that can't do what
// TMCP_CARRIER, TMCP_FRESH, TMCP_PAD, TMCP_FRESH_EVIDENCE, TMCP_VERIFIER or
// TMCP_CLIENT_KEY ask is not held to it:
// those cases are not applicable. Clients that need flags in place of variables
// are started by a script of a few lines.
package client

import (
	"fmt"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/spec"
)

// Contract is what a client under test must do, for people who write one.
const Contract = `The command is started once for each case, with the server's URL as its last
argument. It lists the tools, calls the tool echo with the text in TMCP_ECHO,
prints the text of the tool's answer, and exits with 0, or with anything else
when something went wrong. Environment:
  MCP_CONFORMANCE_SCENARIO  the id of the case
  TMCP_ECHO      the argument "text" for the tool echo
  TMCP_ERA       modern or legacy: how to open the connection
  TMCP_TRUST     required, or off: do without the extension
  TMCP_IDENTITY  the URI that the server must prove to be
  TMCP_PIN       thumbprint of the key that may speak for it, or else
  TMCP_CA        file with the roots (PEM) that its certificate leads to
  TMCP_CARRIER   envelope, inline or http
  TMCP_FRESH     1: ask for a key object with a nonce
  TMCP_PAD       1: pad what is sealed
and for profiles attested, mutual and attested-tls:
  TMCP_PROFILE   attested, mutual or attested-tls: what the server must prove
  TMCP_SIMULATOR 1: accept simulated TEEs; without it they must be refused
  TMCP_SIMULATOR_ROOT   file with the simulator's Intel root (PEM)
  TMCP_POLICY    file of rules (JSON) that the server's evidence must meet
  TMCP_FRESH_EVIDENCE   1: ask for evidence for a nonce
  TMCP_VERIFIER  URL of a verifier to ask; TMCP_VERIFIER_KEY: its public key
  TMCP_CLIENT_KEY, TMCP_CLIENT_IDENTITY   the client's own key file, and its URI
  TMCP_TEE       sim: attest the client by a simulated TEE
With attested-tls nothing is sealed: the URL is https, TMCP_PIN names the key of
the server's TLS certificate, and the mode is the exporter-bound one.
For profile aicc-0.1, which goes alone, TMCP_PROFILE says so, TMCP_ERA is legacy,
and TMCP_AICC_PUBLIC_KEY is the file with the server's public key (PEM); the file
may be missing, or bad.`

// Short names for what every case mentions.
type (
	T   = conformance.T
	Obj = conformance.Obj
)

var (
	both       = []conformance.Era{conformance.Modern, conformance.Legacy}
	modernOnly = []conformance.Era{conformance.Modern}
	legacyOnly = []conformance.Era{conformance.Legacy}
	httpOnly   = []wire.Transport{wire.TransportHTTP}
)

// Cases returns the cases of the role in report order.
func Cases() []conformance.Case {
	var all []conformance.Case
	for _, part := range [][]conformance.Case{plain(), positives(), leaks(), downgrade(), keyObjects(), certificates(), answers(), transportLevel(), attestedCases(), mutualCases(), tlsCases()} {
		all = append(all, part...)
	}
	return all
}

// identity fills in what all cases of profile identity share. The requirement's
// text comes from the ledger; an unknown id leaves it empty, which Validate
// refuses.
func identity(name, id string, c conformance.Case) conformance.Case {
	return define(conformance.ProfileIdentity, name, id, c)
}

// define is identity for any profile.
func define(profile conformance.Profile, name, id string, c conformance.Case) conformance.Case {
	prefix := "client/" + string(profile) + "/"
	c.ID = prefix + name
	c.Role, c.Profile, c.Transports = conformance.RoleClient, profile, httpOnly
	if c.Eras == nil {
		c.Eras = both
	}
	if c.Twin != "" {
		c.Twin = prefix + c.Twin
	}
	c.Level = conformance.MUST
	if r, err := spec.Requirement(id); err == nil && r != nil {
		if r.Level == "SHOULD" || r.Level == "SHOULD NOT" {
			c.Level = conformance.SHOULD
		}
		c.Requirement = conformance.Requirement{ID: id, Level: c.Level, Text: r.Text, URL: r.URL()}
	}
	c.Fresh = true
	if c.Fix == "" {
		c.Fix = "Read the section of the specification. tmcp-conform client --help says how a client under test is started."
	}
	return c
}

// subject is the client under test.
func subject(t *T) *Subject {
	s, ok := t.Target().(*Subject)
	if !ok {
		t.Untestable("this case needs a client, the target is %s", t.Target())
	}
	return s
}

// positive is a case in which the client must succeed against a scene.
func positive(name, req, title, about string, eras []conformance.Era, set func(*scene), check func(*T, *result)) conformance.Case {
	return positiveOf(conformance.ProfileIdentity, name, req, title, about, eras, set, check)
}

func positiveOf(profile conformance.Profile, name, req, title, about string, eras []conformance.Era, set func(*scene), check func(*T, *result)) conformance.Case {
	c := define(profile, name, req, conformance.Case{Title: title, About: about, Eras: eras})
	c.Run = func(t *T) {
		r := play(t, c.ID, set)
		r.succeeded()
		if check != nil {
			check(t, r)
		}
	}
	return c
}

// A guard is what a refusal protects, seen on the wire.
type guard int

const (
	noSeal    guard = iota // nothing sealed leaves the client after the mutant
	noPlain                // nothing in the clear leaves the client; it may seal again, three times
	noForgery              // what was forged is not reported as a success
)

// negative is a mutation of the scene of its twin.
func negative(name, req, title, twin string, g guard, eras []conformance.Era, set func(*scene)) conformance.Case {
	return negativeOf(conformance.ProfileIdentity, name, req, title, twin, g, eras, set)
}

func negativeOf(profile conformance.Profile, name, req, title, twin string, g guard, eras []conformance.Era, set func(*scene)) conformance.Case {
	about := map[guard]string{
		noSeal:    "The server is that of the twin with this one change. The client must end with an error and send nothing sealed, and nothing in the clear, once it has seen the change.",
		noPlain:   "The server is that of the twin with this one change. The client must end with an error and send nothing in the clear; it seals one message three times at most.",
		noForgery: "The server is that of the twin with this one change in its answer to the sealed call. The client must end with an error and not report the answer as a success.",
	}[g]
	c := define(profile, name, req, conformance.Case{Title: title, Twin: twin, About: about, Eras: eras})
	c.Run = func(t *T) {
		r := play(t, c.ID, set)
		r.refused(g)
	}
	return c
}

func sprint(format string, args ...any) string { return fmt.Sprintf(format, args...) }
