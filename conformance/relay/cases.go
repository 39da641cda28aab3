package relay

import (
	"bytes"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/internal/dcbor"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/spec"
)

// Cases returns the cases of role relay in report order.
func Cases() []conformance.Case {
	const prefix = "relay/identity/"
	all := []conformance.Case{define(prefix+"sealed-call", "TMCP-11.2-1", conformance.Case{
		Title: "an honest relay is passed, with everything sealed",
		About: "Lets client and server talk through an honest relay, and looks at every message: nothing of the user outside a seal, at least one sealed message, and success at the end. It is the accepted twin of all attacks.",
		Run:   runTwin,
	})}
	for i := range attacks {
		a := &attacks[i]
		all = append(all, define(prefix+a.name, a.req, conformance.Case{
			Title: a.title + ": the client gives up", Twin: prefix + "sealed-call",
			About: "Runs the client once through the hostile relay. It must end with an error; nothing of the user may have left it unsealed, and nothing forged may have reached its user.",
			Run:   func(t *conformance.T) { runAttack(t, a) },
		}))
	}
	return all
}

func define(id, req string, c conformance.Case) conformance.Case {
	c.ID, c.Role, c.Profile, c.Level = id, conformance.RoleRelay, conformance.ProfileIdentity, conformance.MUST
	c.Eras = []conformance.Era{conformance.Modern}
	c.Fix = "Fail closed, with the reason that the section names."
	if r, err := spec.Requirement(req); err == nil && r != nil {
		c.Requirement = conformance.Requirement{ID: req, Level: c.Level, Text: r.Text, URL: r.URL()}
	}
	return c
}

func runTwin(t *conformance.T) {
	w, run := play(t, &attack{name: "sealed-call"})
	if run.Err != nil {
		t.Failf("the client: %v", run.Err)
	}
	w.noLeak()
	if w.calls == 0 {
		t.Violate("the client sent no sealed message (exit code %d, stderr %q)", run.Exit, conformance.Short(run.Stderr))
	}
	if why := refusal(run); why != "" {
		t.Violate("the client failed against an honest server: %s (stderr %q)", why, conformance.Short(run.Stderr))
	}
}

func (w *world) noLeak() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.leaks) > 0 {
		w.t.Violate("the client sent %s", w.leaks[0])
	}
}

func runAttack(t *conformance.T, a *attack) {
	w, run := play(t, a)
	if run.Err != nil {
		t.Failf("the client: %v", run.Err)
	}
	w.noLeak()
	if w.attacks.Load() == 0 {
		t.Untestable("the client never came to where the attack is made (it sent %d sealed messages, exit code %d, stderr %q)", w.calls, run.Exit, conformance.Short(run.Stderr))
	}
	if a.early && w.calls > 0 {
		t.Violate("the client sealed %d messages to a server that it must not use", w.calls)
	}
	if bytes.Contains(run.Stdout, []byte(w.forged)) {
		t.Violate("what the attacker forged reached the client's user")
	}
	if n := w.calls; n > 12 {
		t.Violate("the client sealed %d times", n)
	}
	why := refusal(run)
	if why == "" {
		t.Violate("the client reported success (stdout %q)", conformance.Short(run.Stdout))
	}
	t.Refused("%s", why)
	t.Reached(w.seq)
	t.NoEffect("nothing left the client unsealed, and nothing forged reached its user")
}

// refusal says how a client told that it failed; empty if it did not.
func refusal(run conformance.SubjectRun) string {
	if run.Exit != 0 {
		return "exit code " + string(conformance.JSON(run.Exit))
	}
	for _, line := range bytes.Split(run.Stdout, []byte("\n")) {
		if i := bytes.IndexByte(line, '{'); i >= 0 {
			m, err := jsonrpc.Parse(bytes.TrimSpace(line[i:]), jsonrpc.Limits{})
			if err != nil || m.Error == nil {
				continue
			}
			if r, ok := conformance.MemberText(m.Error, "data", "reason"); ok {
				return "error " + r
			}
			return "a JSON-RPC error"
		}
	}
	return ""
}

// encodeAnswer writes an answer frame as section 7.1 has it.
func encodeAnswer(f *protocol.Frame) []byte {
	b := dcbor.AppendUint(dcbor.AppendArray(nil, 7), 3)
	b = dcbor.AppendBytes(b, f.Context[:])
	b = dcbor.AppendUint(dcbor.AppendUint(b, f.Seq), f.N)
	b = dcbor.AppendBool(b, f.Final)
	if f.Salt == nil {
		b = dcbor.AppendNull(b)
	} else {
		b = dcbor.AppendBytes(b, f.Salt)
	}
	return dcbor.AppendBytes(b, f.Ciphertext)
}
