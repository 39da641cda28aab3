package demo

import (
	"fmt"
	"io"
	"strings"

	"github.com/trustedmcp/tmcp/internal/hostile"
)

// explain says what each attack is.
var explain = map[hostile.Attack]string{
	hostile.None:         "no attack: the relay passes everything on, and reads what it can",
	hostile.Strip:        "the relay removes the extension from what the server announces",
	hostile.SwapKey:      "the relay shows a key of its own in the server's place",
	hostile.Replay:       "the relay delivers the call a second time",
	hostile.Reorder:      "the relay swaps the first two messages of the answer",
	hostile.Truncate:     "the relay ends the answer early",
	hostile.RewriteSuite: "the relay announces only the weaker suite (plain: an older revision)",
}

// Print tells one outcome at length.
func Print(w io.Writer, o *Outcome) {
	kind := "plain MCP"
	if o.Sealed {
		kind = "sealed MCP"
	}
	fmt.Fprintf(w, "%s, attack %s: %s\n", kind, o.Attack, explain[o.Attack])
	fmt.Fprintf(w, "  server      %s\n", o.Identity)
	for _, d := range o.Deeds {
		fmt.Fprintf(w, "  relay       %s\n", d)
	}
	read := "ciphertext only"
	if o.Read {
		read = "arguments and result in the clear"
	}
	fmt.Fprintf(w, "  relay read  %s (%d bytes passed)\n", read, o.Tapped)
	fmt.Fprintf(w, "  tool ran    %s\n", times(o.Ran))
	fmt.Fprintf(w, "  outcome     %s\n", o.What)
	if o.Attack == hostile.None && !o.Succeeded {
		fmt.Fprintf(w, "  => sealed end to end\n")
	} else if o.Succeeded {
		fmt.Fprintf(w, "  => THE ATTACK SUCCEEDED\n")
	} else {
		fmt.Fprintf(w, "  => the attack failed\n")
	}
}

// Table tells many outcomes, plain beside sealed.
func Table(w io.Writer, plain, sealed []*Outcome) {
	fmt.Fprintf(w, "%-14s  %-10s  %s\n", "ATTACK", "AGAINST", "WHAT HAPPENED")
	for i := range plain {
		for _, o := range []*Outcome{plain[i], sealed[i]} {
			name, against, mark := "", "sealed MCP", "held      "
			if o == plain[i] {
				name, against = string(o.Attack), "plain MCP"
			}
			if o.Succeeded {
				mark = "BROKEN    "
			}
			fmt.Fprintf(w, "%-14s  %-10s  %s%s\n", name, against, mark, o.What)
		}
	}
}

// Rule is a line between parts.
func Rule(w io.Writer, title string) {
	fmt.Fprintf(w, "\n%s\n%s\n", title, strings.Repeat("-", len(title)))
}

var explainAttested = map[hostile.Attack]string{
	Relay:             "the attacker shows the genuine machine's evidence, with a key of its own",
	Divert:            "the attacker runs the same code, in a genuine TEE, under another name",
	Reflect:           "the attacker shows the client's own evidence",
	Stale:             "the attacker has an attested key of three hours ago",
	Debug:             "the server's TEE is in debug mode: its operator reads the memory",
	Revoked:           "the machine's attestation key was extracted, and is revoked",
	OutOfDate:         "the machine lacks the firmware that closes a hole",
	LeakedAttestation: "the attacker has an attestation key of the TEE's vendor, and makes any evidence",
	LeakedIdentity:    "the attacker has the server's identity key, and other code",
}

// sentence cuts an SDK's error to what the protocol said.
func sentence(s string) string {
	if i := strings.Index(s, "trust: "); i >= 0 {
		s = s[i+len("trust: "):]
	}
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// PrintAttested tells one outcome at length.
func PrintAttested(w io.Writer, o *AttestedOutcome) {
	fmt.Fprintf(w, "attack %s: %s\n", o.Attack, explainAttested[o.Attack])
	if o.Lax {
		fmt.Fprintf(w, "  against     %s\n", Lax[o.Attack])
	} else {
		fmt.Fprintf(w, "  against     a client of profile attested (TEEs are simulated)\n")
	}
	fmt.Fprintf(w, "  genuine     %s\n", o.Genuine)
	fmt.Fprintf(w, "  attacker    %s\n", o.What)
	if o.Succeeded {
		fmt.Fprintln(w, "  => THE ATTACK SUCCEEDED")
	} else {
		fmt.Fprintln(w, "  => the attack failed")
	}
}

// TableAttested tells many, each against the client that lacks a check and
// against the one that lacks none.
func TableAttested(w io.Writer, all []*AttestedOutcome) {
	fmt.Fprintf(w, "%-23s %s\n", "ATTACK", "AGAINST, AND WHAT HAPPENED")
	for _, o := range all {
		name, against, mark := string(o.Attack), Lax[o.Attack], "BROKEN"
		if !o.Lax {
			name, against = "", "profile attested"
		}
		if !o.Succeeded {
			mark = "held, " + string(o.Reason)
		}
		fmt.Fprintf(w, "%-23s %-57s %s\n", name, against, mark)
	}
}
