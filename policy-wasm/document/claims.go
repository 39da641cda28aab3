package document

import "strings"

const intel = " intel.fmspc intel.pceid intel.pcesvn intel.ppid intel.tcbsvn intel.qe.mrsigner intel.qe.isvprodid intel.qe.isvsvn intel.tcb-evaluation-number"

var claimNames = map[string]string{
	"tdx": "tdx.mrtd tdx.rtmr0 tdx.rtmr1 tdx.rtmr2 tdx.rtmr3 tdx.mrseam tdx.mrsignerseam tdx.mrconfigid tdx.mrowner tdx.mrownerconfig" +
		" tdx.mrservicetd tdx.tdattributes tdx.seamattributes tdx.xfam tdx.teetcbsvn tdx.teetcbsvn2" + intel,
	"sgx": "sgx.mrenclave sgx.mrsigner sgx.isvprodid sgx.isvsvn sgx.attributes sgx.miscselect sgx.cpusvn sgx.configid sgx.configsvn" +
		" sgx.isvextprodid sgx.isvfamilyid" + intel,
	"sev-snp": "snp.measurement snp.hostdata snp.policy snp.familyid snp.imageid snp.vmpl snp.guestsvn snp.platforminfo snp.chipid" +
		" snp.currenttcb snp.reportedtcb snp.committedtcb snp.launchtcb snp.idkeydigest snp.authorkeydigest snp.reportid snp.reportidma" +
		" snp.version snp.signingkey snp.product snp.cspid",
	"nitro":      "nitro.moduleid nitro.digest nitro.userdata nitro.nonce nitro.publickey nitro.timestamp",
	"nvidia-gpu": "nvidia.arch nvidia.driver nvidia.vbios nvidia.deviceid nvidia.fwid",
	"cca": "cca.implid cca.instanceid cca.rim cca.rem0 cca.rem1 cca.rem2 cca.rem3 cca.rpv cca.lifecycle cca.config cca.platformprofile" +
		" cca.realmprofile cca.hashalg",
}

// ClaimNames are the claims that stand in each proven device of that kind, null
// where evidence does not tell them: those of spec section 18.9 but for numbered
// ones that vary (nitro.pcr0, nvidia.measurement.1, cca.sw.BL.version). So a
// policy tells "not told" from "left out".
func ClaimNames(kind string) []string { return strings.Fields(claimNames[kind]) }
