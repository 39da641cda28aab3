package dcap

import (
	"github.com/trustedmcp/tmcp/evidence"
)

// claims returns the quote's claims, or nil unless all that they are read from
// leads to an anchor: PCK chain, QE report, the QE being Intel's, the
// attestation key, the quote.
func (r *run) claims() *evidence.Claims {
	if !r.anchored || !r.passed(qeReportSignature, qeReportData, quoteSignature, qeIdentitySigned, qeIdentityMatch) {
		return nil
	}
	qe, p := enclaveReport(r.q.qeReport), r.chain.pck
	v := map[string]any{
		"intel.fmspc": p.FMSPC[:], "intel.pceid": p.PCEID[:], "intel.pcesvn": uint64(p.PCESVN), "intel.tcbsvn": p.SVN[:],
		"intel.qe.mrsigner": qe.mrSigner(), "intel.qe.isvprodid": uint64(qe.isvProdID()), "intel.qe.isvsvn": uint64(qe.isvSVN()),
	}
	if p.PPID != nil {
		v["intel.ppid"] = p.PPID
	}
	if p.SMT != nil {
		v["intel.smt"] = *p.SMT
	}
	if r.f.infoErr == nil {
		v["intel.tcb-evaluation-number"] = r.f.evaluationNumber()
	}
	c := &evidence.Claims{
		Simulated: r.simulated, Platform: r.chain.platform(), Values: v,
		NotBefore: r.valid.from, NotAfter: r.valid.to,
	}
	if !r.q.TDX {
		e := enclaveReport(r.q.Body)
		c.ReportData, c.Debug = e.reportData(), e.debug()
		v["sgx.mrenclave"], v["sgx.mrsigner"] = e.mrEnclave(), e.mrSigner()
		v["sgx.isvprodid"], v["sgx.isvsvn"] = uint64(e.isvProdID()), uint64(e.isvSVN())
		v["sgx.attributes"], v["sgx.cpusvn"] = e.attributes(), e.cpuSVN()
		v["sgx.miscselect"] = uint64(e.miscSelect()[0]) | uint64(e.miscSelect()[1])<<8 | uint64(e.miscSelect()[2])<<16 | uint64(e.miscSelect()[3])<<24
		v["sgx.configid"], v["sgx.configsvn"] = e.configID(), uint64(e.configSVN())
		v["sgx.isvextprodid"], v["sgx.isvfamilyid"] = e.isvExtProdID(), e.isvFamilyID()
		return c
	}
	td := tdReport(r.q.Body)
	c.ReportData, c.Debug = td.reportData(), td.debug()
	v["tdx.mrtd"] = td.mrTD()
	v["tdx.rtmr0"], v["tdx.rtmr1"], v["tdx.rtmr2"], v["tdx.rtmr3"] = td.rtmr(0), td.rtmr(1), td.rtmr(2), td.rtmr(3)
	v["tdx.mrseam"], v["tdx.mrsignerseam"], v["tdx.seamattributes"] = td.mrSEAM(), td.mrSignerSEAM(), td.seamAttributes()
	v["tdx.mrconfigid"], v["tdx.mrowner"], v["tdx.mrownerconfig"] = td.mrConfigID(), td.mrOwner(), td.mrOwnerConfig()
	v["tdx.tdattributes"], v["tdx.xfam"], v["tdx.teetcbsvn"] = td.tdAttributes(), td.xfam(), td.teeTCBSVN()
	if s := td.teeTCBSVN2(); s != nil {
		v["tdx.teetcbsvn2"], v["tdx.mrservicetd"] = s, td.mrServiceTD()
	}
	if r.events != nil {
		v["tdx.events"] = r.events
	}
	return c
}
