package client

import (
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/protocol"
)

// Survey finds out what a client does: which eras it opens in, and whether it
// takes part in trust. It fails with a [conformance.PrerequisiteError] when the
// client says nothing that the suite understands.
func Survey(ctx context.Context, s *Subject, limit time.Duration, eras []conformance.Era) (*conformance.Survey, error) {
	sv := &conformance.Survey{}
	var last string
	for _, era := range both {
		info := sv.Of(era)
		info.Capabilities = jsontext.Value("{}")
		if len(eras) > 0 && !contains(eras, era) {
			info.Why = "not asked for"
			continue
		}
		plain, err := perform(ctx, s, wire.NewLog(), "survey", era, &scene{noTrust: true}, limit)
		if err != nil {
			return nil, err
		}
		if plain.end.err != nil {
			return nil, &conformance.PrerequisiteError{Reason: sprint("%s: %s", s, plain.end)}
		}
		trust, err := perform(ctx, s, wire.NewLog(), "survey", era, &scene{}, limit)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		i := eraIndex(era)
		if !plain.end.ok() || !strings.Contains(plain.end.stdout, plain.h.out) {
			s.plain[i] = sprint("with TMCP_TRUST=off the client does not get through to an ordinary server: %s", plain.end)
		}
		s.trust[i] = trust.noTrust(era)
		if s.attested[i] = s.trust[i]; s.attested[i] == "" {
			// A client that does not know the demand seals to a server without a TEE.
			weak, err := perform(ctx, s, wire.NewLog(), "survey", era, &scene{profile: "attested", server: "identity"}, limit)
			if err != nil {
				return nil, err
			}
			if weak.noTrust(era) == "" {
				s.attested[i] = "told by TMCP_PROFILE to demand attestation, the client sealed to a server that shows none"
			}
		}
		opened := plain.opening(info) || trust.opening(info)
		info.Spoken = plain.openedIn(era) || trust.openedIn(era)
		info.Version = map[conformance.Era]string{conformance.Modern: conformance.ModernVersion, conformance.Legacy: conformance.LegacyVersion}[era]
		switch {
		case !opened:
			info.Why = sprint("the client asked nothing: %s", plain.end)
		case !info.Spoken:
			info.Why = sprint("told by TMCP_ERA to open in the %s era, the client opened in the other", era)
		}
		if !info.Spoken {
			last = info.Why
		}
		if !plain.openedIn(era) && s.plain[i] == "" {
			s.plain[i] = info.Why
		}
	}
	if !sv.Modern.Spoken && !sv.Legacy.Spoken {
		return nil, &conformance.PrerequisiteError{Reason: sprint("%s speaks no MCP that this suite knows: %s", s, last)}
	}
	return sv, nil
}

func contains(list []conformance.Era, e conformance.Era) bool {
	for _, x := range list {
		if x == e {
			return true
		}
	}
	return false
}

// noTrust says why profile identity can't be tried, or "".
func (r *result) noTrust(era conformance.Era) string {
	asked := ""
	for _, rec := range r.h.all() {
		if rec.sealed {
			if !r.openedIn(era) {
				return sprint("told by TMCP_ERA to open in the %s era, the client opened in the other", era)
			}
			return ""
		}
		if rec.msg != nil && asked == "" {
			asked = rec.msg.Method
		}
	}
	return sprint("the client does not speak %s: it opened with %s and sealed nothing, given the server's identity and key (%s)", protocol.ExtensionID, asked, r.end)
}

// opening learns the client's name, and reports whether it asked anything.
func (r *result) opening(info *conformance.EraInfo) bool {
	for _, rec := range r.h.all() {
		if rec.msg == nil {
			continue
		}
		for _, path := range [][]string{{"clientInfo"}, {"_meta", conformance.MetaClientInfo}} {
			if v := conformance.Member(rec.msg.Params, path...); v != nil && info.ServerInfo == nil {
				info.ServerInfo = v
			}
		}
		return true
	}
	return len(r.h.all()) > 0
}

// openedIn reports whether the client's first request was of that era.
func (r *result) openedIn(era conformance.Era) bool {
	for _, rec := range r.h.all() {
		if rec.msg == nil {
			continue
		}
		legacy := rec.msg.Method == "initialize"
		return legacy == (era == conformance.Legacy)
	}
	return false
}
