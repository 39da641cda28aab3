package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// EraInfo is what the target said when it was opened in one era.
type EraInfo struct {
	Spoken       bool
	Why          string         // why the era is not spoken
	Version      string         // the revision spoken
	Capabilities jsontext.Value // as declared, {} if none
	ServerInfo   jsontext.Value
	Result       jsontext.Value // of server/discover or initialize
}

// Has reports whether the capability at path is declared.
func (e *EraInfo) Has(path ...string) bool {
	return jsonrpc.Get(orEmpty(e.Capabilities), path...) != nil
}

// sealedOnly reports whether the target announces that it takes nothing but
// sealed messages.
func (e *EraInfo) sealedOnly() bool {
	mode, _ := MemberText(Member(e.Capabilities, "extensions", "org.trustedmcp/trust"), "mode")
	return mode == "required"
}

// Survey is what the target said of itself before the first case.
type Survey struct {
	Modern, Legacy EraInfo
	Startup        time.Duration // from opening to the first answer
}

// Of returns what is known of an era.
func (s *Survey) Of(e Era) *EraInfo {
	if e == Modern {
		return &s.Modern
	}
	return &s.Legacy
}

// A PrerequisiteError says why there was nothing to test.
type PrerequisiteError struct{ Reason string }

func (e *PrerequisiteError) Error() string { return e.Reason }

// takeSurvey opens the target once in each era. It fails with a
// [*PrerequisiteError] when neither is spoken.
func (r *run) takeSurvey(ctx context.Context) error {
	r.survey = &Survey{}
	var firstErr error
	for _, era := range []Era{Legacy, Modern} {
		info := r.survey.Of(era)
		info.Capabilities = jsontext.Value("{}")
		if len(r.cfg.Eras) > 0 && !contains(r.cfg.Eras, era) {
			info.Why = "not asked for"
			continue
		}
		err := r.surveyEra(ctx, era, info)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var down *wire.UnreachableError
		if errors.As(err, &down) {
			return &PrerequisiteError{err.Error()}
		}
		if err != nil {
			info.Why = err.Error()
			if firstErr == nil {
				firstErr = err
			}
		}
	}
	if !r.survey.Legacy.Spoken && !r.survey.Modern.Spoken {
		return &PrerequisiteError{fmt.Sprintf("%s speaks no MCP that this suite knows: initialize: %s; server/discover: %s",
			r.cfg.Target, r.survey.Legacy.Why, r.survey.Modern.Why)}
	}
	return nil
}

func (r *run) surveyEra(ctx context.Context, era Era, info *EraInfo) error {
	wait := r.cfg.StepTimeout
	if r.survey.Startup == 0 {
		wait = r.cfg.StartTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	log := wire.NewLog()
	link, err := r.cfg.Target.Open(ctx, log)
	if err != nil {
		return err
	}
	began := time.Now()
	t := &T{ctx: ctx, run: r, c: &Case{ID: "survey", Level: MUST}, era: era, log: log}
	s := t.RawSession(link)
	defer func() {
		// A process is not started twice without need: cases go on with this one.
		if info.Spoken && link.Alive() && r.cfg.Target.Transport() == wire.TransportStdio && (era == Modern || info.Result != nil) {
			r.open[era] = s
		} else {
			link.Close()
		}
	}()
	if r.survey.Startup == 0 && r.cfg.Starting != nil {
		stop := r.tellStart(began, wait)
		defer stop()
	}
	call := Call{Method: "server/discover"}
	if era == Legacy {
		call = Call{Method: "initialize", Params: Obj{
			"protocolVersion": LegacyVersion, "capabilities": Obj{}, "clientInfo": ClientInfo}}
	}
	rep, err := s.tryFor(call, wait)
	if err != nil {
		return err
	}
	if r.survey.Startup == 0 {
		r.survey.Startup = time.Since(began)
	}
	switch {
	case rep.Answer == nil:
		return fmt.Errorf("%s was not answered with a JSON-RPC response%s", call.Method, s.Hint(rep))
	case gated(rep.Answer):
		info.Version, info.Spoken = ModernVersion, true // it speaks the era, and breaks TMCP-4.4-1
		return nil
	case rep.Answer.Error != nil:
		return fmt.Errorf("%s was answered with the error %s", call.Method, Short(rep.Answer.Error))
	}
	info.Result = rep.Answer.Result
	info.Capabilities = orEmpty(jsonrpc.Get(orEmpty(info.Result), "capabilities"))
	if era == Legacy {
		s.adopt(rep)
		info.Version = s.Version
		info.ServerInfo = jsonrpc.Get(orEmpty(info.Result), "serverInfo")
		info.Spoken = true
		if link.Alive() && r.cfg.Target.Transport() == wire.TransportStdio {
			_, _ = s.Try(Call{Method: "notifications/initialized", Note: true})
		}
		s.end()
		return nil
	}
	info.Version = ModernVersion
	info.ServerInfo = jsonrpc.Get(orEmpty(info.Result), "_meta", MetaServerInfo)
	if versions, ok := Strings(jsonrpc.Get(orEmpty(info.Result), "supportedVersions")); ok && len(versions) > 0 && !contains(versions, ModernVersion) {
		return fmt.Errorf("server/discover lists the versions %q, not %s", versions, ModernVersion)
	}
	info.Spoken = true
	return nil
}

// tellStart tells [Config.Starting] every few seconds how long the first answer
// has been waited for, until stop is called.
func (r *run) tellStart(began time.Time, limit time.Duration) (stop func()) {
	tick := time.NewTicker(5 * time.Second)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-tick.C:
				r.cfg.Starting(time.Since(began), limit)
			case <-done:
				return
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		<-ended
	}
}

// gated reports whether m refuses to answer for lack of trust.
func gated(m *wire.Message) bool {
	ext, _ := MemberText(m.Error, "data", "extension")
	return ext == "org.trustedmcp/trust"
}

// Strings returns the strings of a JSON array of strings.
func Strings(v jsontext.Value) ([]string, bool) {
	items, ok := Items(v)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(items))
	for _, it := range items {
		s, ok := jsonrpc.Text(it)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// UnaskedSurvey stands for a target that nothing is asked of before its cases,
// since they make the connections to it themselves.
func UnaskedSurvey() *Survey {
	return &Survey{Modern: EraInfo{Spoken: true, Version: ModernVersion}, Legacy: EraInfo{Why: "what is tried lies below MCP, and is the same in both eras"}}
}
