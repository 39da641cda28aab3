package verifier

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

func revokedPCK() []*big.Int {
	_, serial, err := sim.Default().PCK(sim.Platform{})
	if err != nil {
		panic(err)
	}
	return []*big.Int{serial}
}

// intelVectors try section 18.7.
func intelVectors() []vector {
	tdx := func(change func(*scene)) func() Request { return of(evidence.TDX, change) }
	inText := func(old, with string) func(*scene) {
		return func(s *scene) { s.patchItem = replace([]byte(old), []byte(with)) }
	}
	out := []vector{
		{name: "collateral-forged", req: "TMCP-18.7-1", title: "TCB info signed with a key that is not certified", twin: "tdx", hole: "tcb-info-signature", make: tdx(func(s *scene) { s.col.Forged = true })},
		{name: "tcb-info-rewritten", req: "TMCP-18.7-1", title: "TCB info with the status of a level rewritten", twin: "tdx", hole: "tcb-info-signature", make: tdx(func(s *scene) {
			s.col.Platform.Status = evidence.OutOfDate
			s.patchItem = func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `\"OutOfDate\"`, `\"UpToDate\"`, 1))
			}
		})},
		{name: "tcb-info-respaced", req: "TMCP-18.7-1", title: "TCB info with a space added: other bytes of the same value", twin: "tdx", hole: "tcb-info-signature", make: tdx(inText(`"tcb_info":"{`, `"tcb_info":"{ `))},
		{name: "qe-identity-respaced", req: "TMCP-18.7-1", title: "the QE identity with a space added", twin: "tdx", hole: "qe-identity-signature", make: tdx(inText(`"qe_identity":"{`, `"qe_identity":"{ `))},
		{name: "collateral-of-other-root", req: "TMCP-18.4-4", title: "collateral under a root that is not trusted", twin: "tdx", hole: "collateral-chain", make: tdx(func(s *scene) { s.endorses = sim.Other() })},
		{name: "collateral-last-second", req: "TMCP-18.7-2", title: "collateral one second before its next update", make: tdx(func(s *scene) { s.col.NextUpdate = t0.Add(time.Second) })},
		{name: "collateral-first-second", req: "TMCP-18.7-2", title: "collateral in the second in which it was issued", make: tdx(func(s *scene) { s.col.Issued = t0 })},
		{name: "collateral-over", req: "TMCP-18.7-2", title: "collateral at its next update", twin: "collateral-last-second", hole: "collateral-validity", make: tdx(func(s *scene) {
			s.col.NextUpdate, s.col.CRLNextUpdate = t0, t0.Add(24*time.Hour)
		})},
		{name: "collateral-early", req: "TMCP-18.7-2", title: "collateral one second before it was issued", twin: "collateral-first-second", hole: "collateral-validity", make: tdx(func(s *scene) { s.col.Issued = t0.Add(time.Second) })},
		{name: "evaluation-number", req: "TMCP-18.7-3", title: "collateral with the least evaluation number that the policy names", make: tdx(func(s *scene) {
			s.col.EvaluationNumber, s.req.Policy = 18, policy(tcb(obj{"min_evaluation_number": 18}))
		})},
		{name: "evaluation-number-low", req: "TMCP-18.7-3", title: "collateral with a lower evaluation number than the policy names", twin: "evaluation-number", hole: "evaluation", make: tdx(func(s *scene) {
			s.col.EvaluationNumber, s.req.Policy = 17, policy(tcb(obj{"min_evaluation_number": 18}))
		})},
		{name: "other-fmspc", req: "TMCP-18.7-4", title: "TCB info of another FMSPC", twin: "tdx", hole: "tcb-info-match", make: tdx(func(s *scene) { s.col.FMSPC = [6]byte{1, 2, 3, 4, 5, 6} })},
		{name: "other-pceid", req: "TMCP-18.7-4", title: "TCB info of another PCE-ID", twin: "tdx", hole: "tcb-info-match", make: tdx(func(s *scene) { s.col.PCEID = [2]byte{1, 0} })},
		{name: "sgx-collateral-for-td", req: "TMCP-18.7-4", title: "TCB info of SGX for a TD", twin: "tdx", hole: "tcb-info-match", make: tdx(func(s *scene) {
			s.bare = true
			s.more = []Item{{evidence.TypeDCAPCollateral, must(sim.Default().Collateral(sim.Collateral{SGX: true}))}}
		})},
		{name: "no-level", req: "TMCP-18.7-6", title: "a platform that no level of the list fits", twin: "tdx", hole: "tcb", make: tdx(func(s *scene) { s.col.Platform.Missing = true })},
		{name: "no-level-qe", req: "TMCP-18.7-6", title: "a quoting enclave that no level fits", twin: "tdx", hole: "tcb", make: tdx(func(s *scene) { s.col.QE.Missing = true })},
		{name: "no-level-module", req: "TMCP-18.7-6", title: "a TDX module that no level fits", twin: "tdx", hole: "tcb", make: tdx(func(s *scene) { s.col.Module.Missing = true })},
		{name: "other-qe", req: "TMCP-18.7-7", title: "a quoting enclave of another signer", twin: "tdx", hole: "qe-identity-match", make: tdx(func(s *scene) { s.tdx.QE.MRSIGNER = [32]byte(seed("another signer")) })},
		{name: "other-qe-out-of-date", req: "TMCP-18.7-7", title: "a quoting enclave of another signer, where the policy takes firmware that is out of date", twin: "status-out-of-date", hole: "qe-identity-match", make: tdx(func(s *scene) {
			s.col.Platform.Status = evidence.OutOfDate
			s.tdx.QE.MRSIGNER = [32]byte(seed("another signer"))
			s.req.Policy = policy(tcb(obj{"accept": []string{"OutOfDate"}}))
		})},
		{name: "qe-debug", req: "TMCP-18.7-7", title: "a quoting enclave that can be debugged", twin: "tdx", hole: "qe-identity-match", make: tdx(func(s *scene) { s.tdx.QE.Debug = true })},
		{name: "qe-other-key", req: "TMCP-18.6-1", title: "a quoting enclave that vouches for another attestation key than the one that signed", twin: "tdx", hole: "signature", make: tdx(func(s *scene) { s.tdx.QE.OtherKey = true })},
		{name: "pck-revoked", req: "TMCP-18.6-7", title: "a platform whose PCK certificate is revoked", twin: "tdx", hole: "revocation", make: tdx(func(s *scene) { s.col.Revoked = revokedPCK() })},
		{name: "ca-revoked", req: "TMCP-18.6-7", title: "a platform whose PCK CA is revoked", twin: "tdx", hole: "revocation", make: tdx(func(s *scene) { s.col.RevokedPlatformCA = true })},
		{name: "tcb-signing-revoked", req: "TMCP-18.6-7", title: "collateral whose signer is revoked", twin: "tdx", hole: "revocation", make: tdx(func(s *scene) { s.col.RevokedTCBSigning = true })},
		{name: "crl-over", req: "TMCP-18.6-7", title: "revocation lists that are over", twin: "tdx", hole: "crl-validity", make: tdx(func(s *scene) { s.col.CRLNextUpdate = t0 })},
		{name: "crl-of-other-ca", req: "TMCP-18.6-7", title: "the revocation list of another CA", twin: "tdx", hole: "crl-validity", make: tdx(func(s *scene) { s.col.Processor = true })},
		{name: "revoked-elsewhere", req: "TMCP-18.6-7", title: "a platform that a second list revokes, which the first does not know of", twin: "tdx", hole: "revocation", make: tdx(func(s *scene) {
			s.more = []Item{{evidence.TypeDCAPCollateral, must(sim.Default().Collateral(sim.Collateral{Revoked: revokedPCK()}))}}
		})},
	}
	const (
		ok, hardening, conf, confHardening = evidence.UpToDate, evidence.SWHardeningNeeded, evidence.ConfigurationNeeded, evidence.ConfigurationAndSWHardeningNeeded
		late, lateConf, revoked            = evidence.OutOfDate, evidence.OutOfDateConfigurationNeeded, evidence.Revoked
	)
	all := []evidence.TCBStatus{ok, hardening, conf, confHardening, late, lateConf}
	for _, st := range []struct {
		name                 string
		platform, module, qe evidence.TCBStatus
		want                 evidence.TCBStatus
	}{
		{"hardening", hardening, ok, ok, hardening},
		{"configuration", conf, ok, ok, conf},
		{"configuration-and-hardening", confHardening, ok, ok, confHardening},
		{"out-of-date", late, ok, ok, late},
		{"out-of-date-configuration", lateConf, ok, ok, lateConf},
		{"qe-late", ok, ok, late, late},
		{"module-late", ok, late, ok, late},
		{"hardening-qe-late", hardening, ok, late, late},
		{"configuration-qe-late", conf, ok, late, lateConf},
		{"configuration-and-hardening-module-late", confHardening, late, ok, lateConf},
		{"late-qe-late", late, ok, late, late},
		{"out-of-date-configuration-module-late", lateConf, late, ok, lateConf},
		{"revoked", revoked, ok, ok, revoked},
		{"qe-revoked", ok, ok, revoked, revoked},
		{"module-revoked", hardening, revoked, ok, revoked},
	} {
		with := func(accept []evidence.TCBStatus) func() Request {
			return tdx(func(s *scene) {
				s.col.Platform.Status, s.col.Module.Status, s.col.QE.Status = st.platform, st.module, st.qe
				s.req.Policy = policy(tcb(obj{"accept": accept}))
			})
		}
		what := fmt.Sprintf("platform %s, module %s, QE %s: %s", st.platform, st.module, st.qe, st.want)
		var others []evidence.TCBStatus
		for _, s := range all {
			if s != st.want {
				others = append(others, s)
			}
		}
		if st.want == revoked {
			out = append(out, vector{name: "status-" + st.name, req: "TMCP-18.7-5", title: what + ", where the policy accepts all else", twin: "tdx", hole: "tcb", make: with(others)})
			continue
		}
		out = append(out,
			vector{name: "status-" + st.name, req: "TMCP-18.7-5", title: what + ", which alone the policy accepts", make: with([]evidence.TCBStatus{st.want}), look: tellsStatus(st.want)},
			vector{name: "not-status-" + st.name, req: "TMCP-18.7-5", title: what + ", where the policy accepts all else", twin: "status-" + st.name, hole: "tcb", make: with(others)})
	}
	return out
}

// tellsStatus wants the TCB status, where one is told, to be the right one.
func tellsStatus(want evidence.TCBStatus) func(*conformance.T, *asked) {
	return func(t *conformance.T, a *asked) {
		if got, ok := conformance.MemberText(a.Claims, "tcb"); ok && got != string(want) {
			t.Violate("the TCB status is told as %s, want %s", got, want)
		}
	}
}
