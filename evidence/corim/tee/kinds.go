package tee

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/trustedmcp/tmcp/evidence/corim"
	"github.com/trustedmcp/tmcp/internal/dcbor"
)

// Class ids of the Intel profile's examples, and AMD's.
const (
	oidQE       = "2.16.840.1.113741.1.2.3.4.1"
	oidModule   = "2.16.840.1.113741.1.2.3.4.3"
	oidPlatform = "2.16.840.1.113741.1.2.3.4.4"
	oidEnclave  = "2.16.840.1.113741.1.2.3.5.1"
	oidChip     = "1.3.6.1.4.1.3704.3.1"
	oidCSP      = "1.3.6.1.4.1.3704.3.2"
)

const intel = "Intel Corporation"

func class(oid, vendor, model string) *corim.Class {
	c := &corim.Class{Vendor: vendor, Model: model}
	if oid != "" {
		c.ID, _ = corim.OIDItem(oid) // constants: a test encodes each
	}
	return c
}

// Measurement keys of the Intel profile are its code points without the sign.
func (b *builder) tdx() []*environment {
	td := b.env("tdx", corim.ProfileIntel, corim.Environment{Class: class("", intel, "TDX TD")})
	td.registers("tdx.rtmr", 4, 48)
	td.measured(uintKey(83), -83, "tdx.mrtd", 48)
	td.raw(uintKey(82), -82, "tdx.tdattributes", 8)
	td.raw(text("tdx.xfam"), 0, "tdx.xfam", 8)
	for _, n := range []string{"tdx.mrconfigid", "tdx.mrowner", "tdx.mrownerconfig", "tdx.mrservicetd"} {
		td.raw(text(n), 0, n, 48)
	}
	mod := b.env("tdx.module", corim.ProfileIntel, corim.Environment{Class: class(oidModule, "", "")})
	mod.measured(uintKey(83), -83, "tdx.mrseam", 48)
	mod.measured(uintKey(84), -84, "tdx.mrsignerseam", 48)
	mod.raw(uintKey(82), -82, "tdx.seamattributes", 8)
	mod.components("tdx.teetcbsvn")
	return []*environment{td, mod}
}

// components are the SVNs of a TCB's parts, tcb-comp-svn, with those of the TDX
// module as its product id and SVN.
func (e *environment) components(claim string) {
	v, ok := take[[]byte](e.b, claim)
	if !ok || !e.b.sized(claim, v, 16) {
		return
	}
	if e.b.reference {
		e.b.fail("%s can't be a reference value: ask for the TCB status by policy", claim)
		return
	}
	list := dcbor.AppendArray(nil, len(v))
	for _, n := range v {
		list = dcbor.AppendUint(list, uint64(n))
	}
	e.code(-125, list)
	if claim == "tdx.teetcbsvn" {
		e.code(-73, corim.UintItem(uint64(v[0])))
		e.code(-85, corim.UintItem(uint64(v[1])))
	}
}

func (b *builder) sgx() []*environment {
	e := b.env("sgx", corim.ProfileIntel, corim.Environment{Class: class(oidEnclave, "", "")})
	e.measured(uintKey(83), -83, "sgx.mrenclave", 32)
	e.measured(uintKey(84), -84, "sgx.mrsigner", 32)
	e.number(uintKey(85), -85, "sgx.isvprodid")
	e.svn(uintKey(73), -73, "sgx.isvsvn")
	e.raw(uintKey(82), -82, "sgx.attributes", 16)
	e.bits(uintKey(81), -81, "sgx.miscselect", 4)
	e.raw(text("sgx.configid"), 0, "sgx.configid", 64)
	e.svn(text("sgx.configsvn"), 0, "sgx.configsvn")
	e.raw(text("sgx.isvextprodid"), 0, "sgx.isvextprodid", 16)
	e.raw(text("sgx.isvfamilyid"), 0, "sgx.isvfamilyid", 16)
	e.raw(text("sgx.cpusvn"), 0, "sgx.cpusvn", 16)
	return []*environment{e}
}

// intel is the platform that signed, and its quoting enclave.
func (b *builder) intel() []*environment {
	fmspc, ok := take[[]byte](b, "intel.fmspc")
	p := b.env("intel.platform", corim.ProfileIntel, corim.Environment{Class: class(oidPlatform, intel, fmt.Sprintf("%X", fmspc))})
	if ok {
		if ppid, ok := take[[]byte](b, "intel.ppid"); ok && len(ppid) > 0 {
			p.env.Instance = corim.BytesItem(ppid)
		}
		if v, ok := take[[]byte](b, "intel.pceid"); ok {
			p.add(uintKey(80), "intel.pceid", corim.Values{Name: fmt.Sprintf("%X", v)})
			p.code(-80, corim.TextItem(fmt.Sprintf("%X", v)))
		}
		p.svn(text("intel.pcesvn"), 0, "intel.pcesvn")
		p.svn(text("intel.tcb-evaluation-number"), -86, "intel.tcb-evaluation-number")
		p.components("intel.tcbsvn")
	}
	qe := b.env("intel.qe", corim.ProfileIntel, corim.Environment{Class: class(oidQE, intel, "SGX QE TCB")})
	qe.measured(uintKey(84), -84, "intel.qe.mrsigner", 32)
	qe.number(uintKey(85), -85, "intel.qe.isvprodid")
	qe.svn(uintKey(73), -73, "intel.qe.isvsvn")
	return []*environment{p, qe}
}

func (b *builder) snp() []*environment {
	e := b.env("snp", corim.ProfileAMD, corim.Environment{Class: class(oidChip, "", "")})
	if key, _ := take[string](b, "snp.signingkey"); key == "vlek" {
		e.env.Class = class(oidCSP, "", "")
		if id, _ := take[string](b, "snp.cspid"); id != "" {
			e.env.Instance = corim.BytesItem([]byte(id))
		}
	} else if id, _ := take[[]byte](b, "snp.chipid"); !zero(id) {
		e.env.Instance = corim.BytesItem(id)
		if !b.reference {
			e.add(uintKey(3328), "snp.chipid", corim.Values{Raw: &corim.RawValue{Value: id}})
		}
	}
	if n, ok := take[uint64](b, "snp.version"); ok {
		e.add(uintKey(0), "snp.version", corim.Values{Version: &corim.Version{Version: strconv.FormatUint(n, 10), Scheme: corim.UintItem(corim.SchemeDecimal)}})
	}
	e.svn(uintKey(1), 0, "snp.guestsvn")
	e.bits(uintKey(2), 0, "snp.policy", 8)
	e.raw(uintKey(3), 0, "snp.familyid", 16)
	e.raw(uintKey(4), 0, "snp.imageid", 16)
	e.number(uintKey(5), 0, "snp.vmpl")
	e.bits(uintKey(7), 0, "snp.platforminfo", 8)
	if len(b.reportData) > 0 {
		e.add(uintKey(640), "report data", corim.Values{Raw: &corim.RawValue{Value: b.reportData}})
	}
	e.measured(uintKey(641), 0, "snp.measurement", 48)
	if v, ok := take[[]byte](b, "snp.hostdata"); ok && b.sized("snp.hostdata", v, 32) {
		host := corim.Values{Raw: &corim.RawValue{Value: v}}
		if !b.reference {
			host.Digests = []corim.Digest{{Alg: corim.SHA384, Value: v}} // as AMD's draft has it
		}
		e.add(uintKey(642), "snp.hostdata", host)
	}
	// All zero: the report has none.
	if !b.isZero("snp.idkeydigest") {
		e.measured(uintKey(643), 0, "snp.idkeydigest", 48)
	}
	if !b.isZero("snp.authorkeydigest") {
		e.measured(uintKey(644), 0, "snp.authorkeydigest", 48)
	}
	e.raw(uintKey(645), 0, "snp.reportid", 32)
	if !b.isZero("snp.reportidma") {
		e.raw(uintKey(646), 0, "snp.reportidma", 32)
	}
	e.tcb(6, "snp.currenttcb")
	e.tcb(647, "snp.reportedtcb")
	e.tcb(3329, "snp.committedtcb")
	e.tcb(3968, "snp.launchtcb")
	return []*environment{e}
}

// tcb is a TCB version as one number, as AMD's profile has it. Its order says
// nothing of the parts, so it is no reference value here.
func (e *environment) tcb(key uint64, claim string) {
	v, ok := take[[]byte](e.b, claim)
	if !ok || !e.b.sized(claim, v, 8) {
		return
	}
	if e.b.reference {
		e.b.fail("%s can't be a reference value: as one number its parts have no order; use policy", claim)
		return
	}
	e.addSVN(uintKey(key), claim, binary.LittleEndian.Uint64(v))
}

func (b *builder) nitro() []*environment {
	e := b.env("nitro", corim.ProfileOurs, corim.Environment{Class: class("", "Amazon Web Services", "Nitro Enclave")})
	e.registers("nitro.pcr", 32, 0)
	if !b.reference {
		e.named(text("nitro.moduleid"), "nitro.moduleid")
	}
	return []*environment{e}
}

func (b *builder) nvidia() []*environment {
	arch, _ := take[string](b, "nvidia.arch")
	if arch == "" {
		arch = "GPU"
	}
	e := b.env("nvidia", corim.ProfileOurs, corim.Environment{Class: class("", "NVIDIA Corporation", arch)})
	if id, _ := take[[]byte](b, "nvidia.deviceid"); len(id) > 0 {
		e.env.Instance = corim.BytesItem(id)
	}
	const prefix = "nvidia.measurement."
	for _, name := range slices.Sorted(maps.Keys(b.values)) {
		index, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(index, 10, 16)
		if err != nil || index != strconv.FormatUint(n, 10) {
			b.fail("the claim %s does not end in the index of a measurement", name)
			continue
		}
		if v, ok := b.values[name].([]byte); ok && len(v) == 0 && !b.reference {
			continue // measured to nothing
		} else if ok && algorithm(v) != 0 {
			e.measured(uintKey(n), 0, name, 0)
		} else {
			e.raw(uintKey(n), 0, name, 0)
		}
	}
	for _, name := range []string{"nvidia.driver", "nvidia.vbios"} {
		if s, ok := take[string](b, name); ok && s != "" {
			e.add(text(name), name, corim.Values{Version: &corim.Version{Version: s}})
		}
	}
	if v, ok := b.values["nvidia.fwid"].([]byte); ok && len(v) > 0 {
		e.raw(text("nvidia.fwid"), 0, "nvidia.fwid", 0)
	}
	return []*environment{e}
}

func (b *builder) cca() []*environment {
	take[string](b, "cca.hashalg") // the digests' length says the same
	rim, ok := take[[]byte](b, "cca.rim")
	realm := b.env("cca", corim.ProfileCCARealm, corim.Environment{Class: &corim.Class{ID: corim.BytesItem(rim)}})
	if ok {
		realm.measured(text("cca.rim"), 0, "cca.rim", 0)
		for i := range 4 {
			n := fmt.Sprint("cca.rem", i)
			realm.measured(text(n), 0, n, 0)
		}
		realm.raw(text("cca.rpv"), 0, "cca.rpv", 64)
	}
	impl, ok := take[[]byte](b, "cca.implid")
	p := b.env("cca.platform", corim.ProfileCCAPlatform, corim.Environment{Class: &corim.Class{ID: corim.BytesItem(impl)}})
	if !ok {
		return []*environment{realm}
	}
	if id, _ := take[[]byte](b, "cca.instanceid"); len(id) >= 7 && len(id) <= 33 {
		p.env.Instance = corim.UEIDItem(id)
	}
	const prefix, suffix = "cca.sw.", ".measurement"
	for _, name := range slices.Sorted(maps.Keys(b.values)) {
		if !strings.HasPrefix(name, prefix) || !strings.HasSuffix(name, suffix) || len(name) < len(prefix)+len(suffix) {
			continue
		}
		part := name[len(prefix) : len(name)-len(suffix)]
		v, ok := take[[]byte](b, name)
		if !ok || !b.sized(name, v, 0) {
			continue
		}
		c := corim.Values{Digests: []corim.Digest{digestOf(v)}, Name: part}
		if s, ok := take[[]byte](b, prefix+part+".signer"); ok && len(s) > 0 {
			c.Keys = []corim.Key{corim.KeyID(s)}
		}
		if s, ok := take[string](b, prefix+part+".version"); ok && s != "" {
			c.Version = &corim.Version{Version: s}
		}
		p.add(text("cca.software-component"), "cca.sw", c)
	}
	if v, ok := b.values["cca.config"].([]byte); !ok || len(v) > 0 {
		p.raw(text("cca.platform-config"), 0, "cca.config", 0)
	}
	p.number(text("cca.lifecycle"), 0, "cca.lifecycle")
	return []*environment{realm, p}
}
