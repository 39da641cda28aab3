// Package measure computes reference values: what the evidence of a build will
// say, from the build itself. [EIF] measures a Nitro enclave's image file,
// [SIGSTRUCT] reads an SGX enclave's signature, [SNP] the launch of an SEV-SNP
// guest, [EventLog] the RTMRs of a TDX guest that booted, [Simulated] an image for
// simulated TEEs, and [Parse] takes values that other tools computed.
//
// The values have the names of the claims that verifiers make (spec chapter
// "Evidence"), and go into a CoRIM by package corim.
package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/eventlog"
	"github.com/trustedmcp/tmcp/evidence/sim"
)

// A Reference is a set of reference values for one kind of TEE.
type Reference struct {
	Kind   evidence.Kind
	Values map[string]any // by claim name: []byte, uint64 or string
	Notes  []string       // for people: what was found beside the values
}

// Names returns the names of the values, sorted.
func (r *Reference) Names() []string { return slices.Sorted(maps.Keys(r.Values)) }

// Merge adds the values of o. Two values of one name, or two kinds, are an
// error.
func (r *Reference) Merge(o *Reference) error {
	if r.Kind == "" {
		r.Kind = o.Kind
	}
	if o.Kind != r.Kind {
		return fmt.Errorf("measurements of %s and of %s: make one CoRIM for each", r.Kind, o.Kind)
	}
	if r.Values == nil {
		r.Values = map[string]any{}
	}
	for name, v := range o.Values {
		if _, ok := r.Values[name]; ok {
			return fmt.Errorf("%s is given twice", name)
		}
		r.Values[name] = v
	}
	r.Notes = append(r.Notes, o.Notes...)
	return nil
}

// form is how a claim is written: a number of bytes, or one of those below.
type form int

const (
	number form = -1 - iota
	text
	anyBytes
)

// forms of the claims that can be reference values.
var forms = map[string]form{
	"tdx.mrtd": 48, "tdx.rtmr0": 48, "tdx.rtmr1": 48, "tdx.rtmr2": 48, "tdx.rtmr3": 48, "tdx.mrseam": 48, "tdx.mrsignerseam": 48,
	"tdx.mrconfigid": 48, "tdx.mrowner": 48, "tdx.mrownerconfig": 48, "tdx.mrservicetd": 48, "tdx.tdattributes": 8,
	"tdx.seamattributes": 8, "tdx.xfam": 8,
	"sgx.mrenclave": 32, "sgx.mrsigner": 32, "sgx.isvprodid": number, "sgx.isvsvn": number, "sgx.attributes": 16,
	"sgx.miscselect": number, "sgx.configid": 64, "sgx.configsvn": number, "sgx.isvextprodid": 16, "sgx.isvfamilyid": 16,
	"snp.measurement": 48, "snp.hostdata": 32, "snp.policy": number, "snp.familyid": 16, "snp.imageid": 16, "snp.vmpl": number,
	"snp.guestsvn": number, "snp.idkeydigest": 48, "snp.authorkeydigest": 48, "snp.chipid": 64,
	"cca.implid": 32, "cca.rim": anyBytes, "cca.rem0": anyBytes, "cca.rem1": anyBytes, "cca.rem2": anyBytes, "cca.rem3": anyBytes,
	"cca.rpv": 64, "cca.config": anyBytes,
	"nvidia.driver": text, "nvidia.vbios": text, "nvidia.arch": text, "nvidia.fwid": anyBytes,
	// These choose the environment of the others.
	"snp.signingkey": text, "cca.hashalg": text,
}

// kinds of TEE by the first part of a claim's name.
var kinds = map[string]evidence.Kind{
	"tdx": evidence.TDX, "sgx": evidence.SGX, "snp": evidence.SNP, "nitro": evidence.Nitro, "nvidia": evidence.NVIDIA, "cca": evidence.CCA,
}

func formOf(name string) (form, bool) {
	if f, ok := forms[name]; ok {
		return f, true
	}
	if i, ok := strings.CutPrefix(name, "nitro.pcr"); ok {
		n, err := strconv.ParseUint(i, 10, 8)
		return 48, err == nil && n < 32 && i == strconv.FormatUint(n, 10)
	}
	if i, ok := strings.CutPrefix(name, "nvidia.measurement."); ok {
		n, err := strconv.ParseUint(i, 10, 8)
		return anyBytes, err == nil && n > 0 && i == strconv.FormatUint(n, 10)
	}
	return 0, false
}

// maxBytes bounds a value without a fixed size.
const maxBytes = 1024

// Parse reads NAME=VALUE: hex for bytes, decimal for numbers, or text.
func Parse(arg string) (*Reference, error) {
	name, val, ok := strings.Cut(arg, "=")
	if !ok {
		return nil, fmt.Errorf("%.80q: want NAME=VALUE, as in nitro.pcr0=4129bd…", arg)
	}
	f, ok := formOf(name)
	if !ok {
		return nil, fmt.Errorf("%.80q is no claim that can be a reference value; as an example, these are: tdx.mrtd, snp.measurement, sgx.mrenclave, nitro.pcr0", name)
	}
	prefix, _, _ := strings.Cut(name, ".")
	ref := &Reference{Kind: kinds[prefix]}
	var v any
	switch f {
	case number:
		n, err := strconv.ParseUint(val, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("%s=%.80q: want a number", name, val)
		}
		v = n
	case text:
		if val == "" || len(val) > maxBytes {
			return nil, fmt.Errorf("%s: want a text of 1 to %d bytes", name, maxBytes)
		}
		v = val
	default:
		b, err := hex.DecodeString(val)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s=%.20s…: want hex: %v", name, val, err)
		case f > 0 && len(b) != int(f):
			return nil, fmt.Errorf("%s: %d bytes, want %d", name, len(b), f)
		case len(b) == 0 || len(b) > maxBytes:
			return nil, fmt.Errorf("%s: %d bytes, want 1 to %d", name, len(b), maxBytes)
		}
		v = b
	}
	ref.Values = map[string]any{name: v}
	return ref, nil
}

// Format writes a value as [Parse] reads it.
func Format(v any) string {
	switch v := v.(type) {
	case []byte:
		return hex.EncodeToString(v)
	case uint64:
		return strconv.FormatUint(v, 10)
	case string:
		return v
	}
	return fmt.Sprint(v)
}

var errShort = errors.New("the file breaks off")

// Simulated are the measurements of an image that a simulated TEE runs (package
// sim): they depend on the image's SHA-256 only.
func Simulated(kind evidence.Kind, image io.Reader) (*Reference, error) {
	h := sha256.New()
	if _, err := io.Copy(h, image); err != nil {
		return nil, err
	}
	ref := &Reference{Kind: kind, Values: map[string]any{}}
	for name, v := range sim.Measurements(kind, [32]byte(h.Sum(nil))) {
		ref.Values[name] = v
	}
	if len(ref.Values) == 0 {
		return nil, fmt.Errorf("TEE %q: want tdx, sgx, sev-snp, nitro or cca", kind)
	}
	return ref, nil
}

// EventLog replays the event log of a TDX guest (CCEL) into RTMRs. They are what
// that guest booted, no more: rely on them only if you do on the machine that
// the log is from. MRTD, which the log does not cover, is not computed.
func EventLog(log []byte) (*Reference, error) {
	l, err := eventlog.Parse(log)
	if err != nil {
		return nil, err
	}
	ref := &Reference{Kind: evidence.TDX, Values: map[string]any{}}
	for i, v := range l.Replay() {
		if i >= 1 && i <= 4 { // as UEFI counts: 0 is MRTD
			ref.Values[fmt.Sprintf("tdx.rtmr%d", i-1)] = v
		}
	}
	if len(ref.Values) == 0 {
		return nil, errors.New("the event log extends no RTMR")
	}
	ref.Notes = append(ref.Notes, "RTMRs are of the machine that the log is from; tdx.mrtd is not among them")
	return ref, nil
}
