package token

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/internal/jose"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// tcb reads a TCB status that a token tells. Revoked ones and those that nobody
// knows fail; all but UpToDate are for policy to judge.
func (v *verifier) tcb(status, date string, advisories []string) {
	if status == "" {
		v.checks.Add("tcb-status", evidence.NotPerformed, "the token does not tell")
		return
	}
	s := evidence.TCBStatus(status)
	if s.Rank() >= evidence.Unrecognized.Rank() {
		s = evidence.Unrecognized
	}
	v.t.TCB = &evidence.TCB{Status: s, Advisories: slices.Sorted(slices.Values(advisories))}
	if t, err := time.Parse(time.RFC3339, date); err == nil {
		v.t.TCB.Date = t.UTC()
	}
	switch s {
	case evidence.UpToDate:
		v.pass("tcb-status", true, "%s", status)
	case evidence.Revoked, evidence.Unrecognized:
		v.pass("tcb-status", false, "%.80q", status)
	default:
		v.warn("tcb-status", false, "%s", status)
	}
}

// debugs takes the word of any claim that says that debugging is possible.
func (v *verifier) debugs(raw jsontext.Value, names ...string) {
	for _, n := range names {
		if on, ok := flag(raw, strings.Split(n, "/")...); ok {
			v.told = true
			v.t.Debug = v.t.Debug || on
		}
	}
	if s, ok := jsonrpc.Text(jsonrpc.Get(raw, "dbgstat")); ok {
		v.told = true
		v.t.Debug = v.t.Debug || !strings.HasPrefix(s, "disabled")
	}
}

// untold takes silence on debugging for a yes.
func (v *verifier) untold() { v.t.Debug = v.t.Debug || !v.told }

// trustAuthority: claims of Intel Trust Authority. In version 1 those of a TEE
// stand at the top, in version 2 under its name.
func (v *verifier) trustAuthority() {
	t, in := v.t, v.raw
	tee, prefix := text(in, "attester_type"), "tdx"
	if m := jsonrpc.Get(in, "tdx"); m != nil && m.Kind() == '{' {
		in, tee = m, "TDX"
	} else if m := jsonrpc.Get(in, "sgx"); m != nil && m.Kind() == '{' {
		in, tee = m, "SGX"
	}
	switch strings.ToUpper(tee) {
	case "TDX":
		t.TEE = evidence.TDX
	case "SGX":
		t.TEE, prefix = evidence.SGX, "sgx"
	}
	v.pass("tee", t.TEE != "", "attester type %.40q", tee)
	if s := text(v.raw, "verifier_nonce", "val"); s != "" {
		t.Nonces = append(t.Nonces, s)
	}
	if s := text(in, "verifier_nonce", "val"); s != "" {
		t.Nonces = append(t.Nonces, s)
	}
	v.nonces()
	v.tcb(text(in, "attester_tcb_status"), text(in, "attester_tcb_date"), texts(in, "attester_advisory_ids"))
	v.reportData("", text(in, prefix+"_report_data"))
	v.debugs(v.raw, "tdx_is_debuggable", "tdx_td_attributes_debug", "sgx_is_debuggable")
	v.debugs(in, "tdx_is_debuggable", "tdx_td_attributes_debug", "sgx_is_debuggable")
	v.untold()
	var matched []string
	for _, at := range []jsontext.Value{v.raw, in} {
		if m := jsonrpc.Get(at, "policy_ids_matched"); m != nil && m.Kind() == '[' {
			_ = jsonrpc.Elements(m, func(e jsontext.Value) error { // objects with id, version and hash
				if e.Kind() == '{' {
					matched = append(matched, text(e, "id"))
				}
				return nil
			})
		}
		if m := jsonrpc.Get(at, "policy_ids_unmatched"); m != nil && string(m) != "[]" && string(m) != "null" {
			v.pass("policies-unmatched", false, "%.200q", string(m))
		}
	}
	v.policies(matched)
}

// azure: claims of Azure Attestation, about SEV-SNP, TDX and SGX. In confidential
// VMs the claims about the hardware stand under x-ms-isolation-tee, and the
// report data is the digest of x-ms-runtime.
func (v *verifier) azure() {
	t, in := v.t, v.raw
	if m := jsonrpc.Get(in, "x-ms-isolation-tee"); m != nil && m.Kind() == '{' {
		in = m
	}
	switch typ := text(in, "x-ms-attestation-type"); typ {
	case "sevsnpvm":
		t.TEE = evidence.SNP
		v.reportData("", text(in, "x-ms-sevsnpvm-reportdata"))
		v.pass("tee", true, "%s", typ)
	case "tdxvm":
		t.TEE = evidence.TDX
		v.reportData("", text(in, "tdx_report_data"))
		v.pass("tee", true, "%s", typ)
	case "sgx":
		t.TEE = evidence.SGX
		v.reportData("", text(in, "x-ms-sgx-report-data"))
		v.pass("tee", true, "%s", typ)
	default:
		v.pass("tee", false, "x-ms-attestation-type is %.80q: not a TEE that is known here", typ)
	}
	for _, path := range [][]string{{"nonce"}, {"x-ms-runtime", "nonce"}, {"x-ms-runtime", "client-payload", "nonce"}} {
		for _, at := range []jsontext.Value{v.raw, in} {
			if s := text(at, path...); s != "" && !slices.Contains(t.Nonces, s) {
				t.Nonces = append(t.Nonces, s)
			}
		}
	}
	v.nonces()
	for _, at := range []jsontext.Value{v.raw, in} {
		v.debugs(at, "x-ms-sevsnpvm-is-debuggable", "x-ms-sgx-is-debuggable", "is-debuggable", "tdx_td_attributes_debug")
	}
	v.untold()
	v.tcb(text(in, "attester_tcb_status"), text(in, "attester_tcb_date"), texts(in, "attester_advisory_ids"))
	if t.TEE != evidence.SGX {
		status := text(in, "x-ms-compliance-status")
		v.warn("compliance", status == "azure-compliant-cvm", "x-ms-compliance-status is %.80q", status)
	}
}

// google: claims of Google Cloud Attestation for Confidential Space.
func (v *verifier) google() {
	t := v.t
	v.nonces()
	switch model := text(v.raw, "hwmodel"); model {
	case "GCP_INTEL_TDX":
		t.TEE = evidence.TDX
		v.pass("tee", true, "%s", model)
	case "GCP_AMD_SEV_SNP":
		t.TEE = evidence.SNP
		v.pass("tee", true, "%s", model)
	case "GCP_AMD_SEV", "GCP_AMD_SEV_ES":
		v.warn("tee", false, "%s: encrypted, but attested by Google's virtual TPM only", model)
	default:
		v.pass("tee", false, "hwmodel %.40q is no TEE", model)
	}
	secure, _ := flag(v.raw, "secboot")
	v.pass("secure-boot", secure, "secboot is %v", secure)
	name := text(v.raw, "swname")
	v.warn("image", name == "CONFIDENTIAL_SPACE", "swname is %.40q", name)
	if name == "CONFIDENTIAL_SPACE" {
		attrs := texts(v.raw, "submods", "confidential_space", "support_attributes")
		v.warn("image-support", slices.Contains(attrs, "STABLE"), "support attributes %q", attrs)
	}
	// Production images say disabled-since-boot; a token that says nothing is not
	// taken for one.
	t.Debug = text(v.raw, "dbgstat") != "disabled-since-boot"
}

// aicc: claims of AICC's attestation service, with the report data of a TDX quote:
// SHA-256 of the nonce, then SHA-256 of the key in PEM. Where the service puts a
// Merkle root there, the caller compares it, and says NoNonce.
func (v *verifier) aicc() {
	t := v.t
	t.TEE = evidence.TDX
	v.reportData("", text(v.raw, "tdx", "report_data"))
	data := t.ReportData[""]
	if !v.pass("report-data", len(data) == 64, "tdx.report_data has %d bytes; want 64", len(data)) {
		return
	}
	if len(v.e.Nonces) == 0 {
		v.nonces()
	} else {
		ok := !slices.ContainsFunc(v.e.Nonces, func(n []byte) bool { return sha256.Sum256(n) != [32]byte(data[:32]) })
		v.pass("nonce", ok, "whether the report data begins with SHA-256 of the nonce: %v", ok)
	}
	v.debugs(v.raw, "tdx/debug", "tdx/is_debuggable", "tdx/td_attributes_debug")
	var matched []string
	n := 0
	if m := jsonrpc.Get(v.raw, "policies_matched"); m != nil && m.Kind() == '[' {
		_ = jsonrpc.Elements(m, func(e jsontext.Value) error {
			n++
			if s, ok := jsonrpc.Text(e); ok {
				matched = append(matched, s)
			} else if e.Kind() == '{' {
				matched = append(matched, text(e, "id"))
			}
			return nil
		})
	}
	v.pass("policies-matched", n > 0, "%d policies matched", n)
	v.policies(matched)
}

// splitNRAS reads [["JWT", overall], {"GPU-0": jwt, …}].
func splitNRAS(b []byte) (overall []byte, devices map[string][]byte, err error) {
	if err := jose.CheckAny(b); err != nil {
		return nil, nil, err
	}
	if jsontext.Value(b).Kind() != '[' {
		return nil, nil, errors.New(`want [["JWT", token], {device: token}]`)
	}
	devices = map[string][]byte{}
	i := 0
	err = jsonrpc.Elements(b, func(e jsontext.Value) error {
		i++
		switch {
		case i == 1 && e.Kind() == '[':
			parts := texts(jsontext.Value(`{"x":`+string(e)+`}`), "x")
			if len(parts) != 2 || parts[0] != "JWT" {
				return errors.New(`the first element is not ["JWT", token]`)
			}
			overall = []byte(parts[1])
			return nil
		case i == 2 && e.Kind() == '{':
			return jsonrpc.Members(e, func(name string, val jsontext.Value) error {
				s, ok := jsonrpc.Text(val)
				if !ok || len(devices) >= maxDevices {
					return fmt.Errorf("device %.40q is no token, or there are more than %d", name, maxDevices)
				}
				devices[name] = []byte(s)
				return nil
			})
		}
		return errors.New(`want [["JWT", token], {device: token}]`)
	})
	if err == nil && (i != 2 || len(devices) == 0) {
		err = errors.New(`want [["JWT", token], {device: token}] with at least one device`)
	}
	return overall, devices, err
}

// nvidia: the token for all devices together, which holds the SHA-256 of each
// device's token, and those tokens.
func (v *verifier) nvidia() {
	t := v.t
	t.TEE = evidence.NVIDIA
	v.nonces()
	good, ok := flag(v.raw, "x-nvidia-overall-att-result")
	v.pass("overall-result", ok && good, "x-nvidia-overall-att-result is %v", good)
	t.Devices = map[string]map[string]any{}
	digests := map[string]string{}
	if m := jsonrpc.Get(v.raw, "submods"); m != nil && m.Kind() == '{' {
		_ = jsonrpc.Members(m, func(name string, val jsontext.Value) error {
			digests[name] = nrasDigest(val)
			return nil
		})
	}
	same := slices.Equal(slices.Sorted(maps.Keys(digests)), slices.Sorted(maps.Keys(v.detail)))
	v.pass("devices", same, "tokens of %q, digests of %q", slices.Sorted(maps.Keys(v.detail)), slices.Sorted(maps.Keys(digests)))
	overall := texts(v.raw, "eat_nonce")
	for _, name := range slices.Sorted(maps.Keys(v.detail)) {
		v.device(name, digests[name], overall)
	}
}

// nrasDigest reads ["DIGEST", ["SHA-256", hex]]; "" when it is anything else.
func nrasDigest(val jsontext.Value) (digest string) {
	if val.Kind() != '[' {
		return ""
	}
	i := 0
	err := jsonrpc.Elements(val, func(e jsontext.Value) error {
		i++
		s, isText := jsonrpc.Text(e)
		switch {
		case i == 1 && isText && s == "DIGEST":
			return nil
		case i == 2 && e.Kind() == '[':
			if p := texts(jsontext.Value(`{"x":`+string(e)+`}`), "x"); len(p) == 2 && (p[0] == "SHA-256" || p[0] == "SHA256") {
				digest = p[1]
				return nil
			}
		}
		return errors.New("not a digest")
	})
	if err != nil || i != 2 {
		return ""
	}
	return digest
}

// device verifies one device's token, and that it is the one which the overall
// token means.
func (v *verifier) device(name, digest string, nonces []string) {
	token := v.detail[name]
	sum := sha256.Sum256(token)
	label := "device-" + strings.ToLower(name)
	if !v.pass(label+"-digest", digest != "" && digest == hex.EncodeToString(sum[:]), "SHA-256 of the token, and %.80q in the overall token", digest) {
		return
	}
	var inner evidence.Checks
	e := *v.e
	e.Audience = "" // the overall token has it
	d := &verifier{e: &e, v: v.v, checks: &inner, t: &Token{}}
	raw, ok := d.verifyJWT(token)
	if !v.pass(label+"-signature", ok, "%s", failed(inner)) {
		return
	}
	inner = nil
	d.common(raw)
	v.pass(label+"-claims", len(inner.Failed()) == 0, "%s", failed(inner))
	v.pass(label+"-nonce", len(nonces) > 0 && slices.Equal(texts(raw, "eat_nonce"), nonces), "%q; the overall token has %q", texts(raw, "eat_nonce"), nonces)
	res := text(raw, "measres")
	v.pass(label+"-measurements", res == "success" || res == "comparison-successful", "measres is %.40q", res)
	d.debugs(raw)
	d.untold()
	v.t.Debug = v.t.Debug || d.t.Debug
	secure, _ := flag(raw, "secboot")
	v.pass(label+"-secure-boot", secure, "secboot is %v", secure)
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err == nil {
		v.t.Devices[name] = claims
	}
}

func failed(c evidence.Checks) string {
	var s []string
	for _, k := range c.Failed() {
		s = append(s, k.Name+": "+k.Detail)
	}
	if len(s) == 0 {
		return "as expected"
	}
	return strings.Join(s, "; ")
}
