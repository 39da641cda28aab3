package dcap

import (
	"slices"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
)

// A found is a part of the TCB and its place in Intel's list.
type found struct {
	part  evidence.TCBPart
	since time.Time // when the first newer level was dated; zero if there is none
}

// find makes a part of levels[i]; i is -1 when no level matches.
//
// A level is newer than ours if it stands before it and is dated later: levels
// of one date differ in configuration, not in age.
func find(name string, levels []level, i int) found {
	if i < 0 {
		return found{part: evidence.TCBPart{Name: name, Status: evidence.Unrecognized}}
	}
	l := levels[i]
	f := found{part: evidence.TCBPart{Name: name, Status: l.Status, Date: l.Date, Advisories: sorted(l.Advisories)}}
	if l.Status.Rank() >= evidence.Unrecognized.Rank() {
		f.part.Status = evidence.Unrecognized // a status that we don't know can't be judged
	}
	var newer []time.Time
	for _, n := range levels[:i] {
		if n.Date.After(l.Date) && !slices.ContainsFunc(newer, n.Date.Equal) {
			newer = append(newer, n.Date)
		}
	}
	f.part.Behind = len(newer)
	if len(newer) > 0 {
		f.since = slices.MinFunc(newer, time.Time.Compare)
	}
	return f
}

// converge makes one TCB of its parts, the platform first, as Intel's library
// does (convergeTcbStatusWithQeTcbStatus, convergeTcbStatusWithTdxModuleStatus).
func converge(parts []found) *evidence.TCB {
	t := &evidence.TCB{Status: parts[0].part.Status}
	for _, f := range parts {
		if f.part.Status != evidence.UpToDate && !f.since.IsZero() && (t.OutOfDateSince.IsZero() || f.since.Before(t.OutOfDateSince)) {
			t.OutOfDateSince = f.since
		}
		if !f.part.Date.IsZero() && (t.Date.IsZero() || f.part.Date.Before(t.Date)) {
			t.Date = f.part.Date
		}
		t.Advisories = append(t.Advisories, f.part.Advisories...)
		t.Parts = append(t.Parts, f.part)
	}
	t.Advisories = sorted(t.Advisories)
	for _, f := range parts[1:] {
		t.Status = join(t.Status, f.part.Status)
	}
	if !outOfDate(t.Status) && t.Status != evidence.Revoked {
		t.OutOfDateSince = time.Time{}
	}
	return t
}

// join is the status of a platform together with one component of it.
func join(platform, component evidence.TCBStatus) evidence.TCBStatus {
	switch {
	case platform == evidence.Unrecognized || component == evidence.Unrecognized:
		return evidence.Unrecognized
	case platform == evidence.Revoked || component == evidence.Revoked:
		return evidence.Revoked
	case component != evidence.OutOfDate && component != evidence.OutOfDateConfigurationNeeded:
		return platform
	case platform == evidence.UpToDate || platform == evidence.SWHardeningNeeded:
		return evidence.OutOfDate
	case platform == evidence.ConfigurationNeeded || platform == evidence.ConfigurationAndSWHardeningNeeded:
		return evidence.OutOfDateConfigurationNeeded
	}
	return platform
}

func outOfDate(s evidence.TCBStatus) bool {
	return s == evidence.OutOfDate || s == evidence.OutOfDateConfigurationNeeded
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return slices.Compact(s)
}

// relaunchAdvised tells of a TD that runs on an older TDX module than the
// platform has by now (TEE_TCB_SVN_2, TDX 1.5): launched again, it would be up
// to date. It follows Intel's checkForRelaunch. known is false if the platform's
// module has no identity.
func relaunchAdvised(t *tcbInfo, platform evidence.TCBStatus, tcb *evidence.TCB, module, qe evidence.TCBStatus, svn2 []byte) (advised, known bool) {
	if qe == evidence.OutOfDate || qe == evidence.Revoked || qe == evidence.Unrecognized ||
		platform.Rank() > evidence.ConfigurationAndSWHardeningNeeded.Rank() ||
		!outOfDate(tcb.Status) || module != evidence.OutOfDate {
		return false, true
	}
	latest := t.Levels[0].TCB.TDX
	if svn2[2] < *latest[2].SVN {
		return false, true
	}
	if svn2[1] == 0 {
		return svn2[0] >= *latest[0].SVN, true
	}
	m := t.identity(svn2[1])
	if m == nil {
		return false, false
	}
	return uint16(svn2[0]) >= *m.Levels[0].TCB.ISVSVN, true
}
