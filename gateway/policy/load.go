package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/policy/dist"
	"github.com/trustedmcp/tmcp/gateway/policy/runtime"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
	"github.com/trustedmcp/tmcp/policy-wasm/policies"
	"github.com/trustedmcp/tmcp/policy-wasm/rego"
	"github.com/trustedmcp/tmcp/policy-wasm/signed"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
)

// Options say which policies to load.
type Options struct {
	// Names are names of policies that ship with this module, files (a module, a
	// bundle, or rules in JSON), or references into registries.
	Names []string
	// Settings are files with settings in JSON: FILE where there is one module, else
	// NAME=FILE with the name that is in the module's metadata.
	Settings []string
	Rule     string   // deny-overrides (default), first-match or all-allow
	Signers  []string // files with public keys (PEM) that may sign modules; what comes from registries must be signed

	// Loader loads modules; its zero value is good, and compiles in this process.
	Loader runtime.Loader
	Stdin  io.Reader // for the file "-"
	Clock  func() time.Time
	Audit  func(*transport.Call, protocol.Digest, *policywasm.Verdict)

	trust *signed.Trust // of Signers
}

// Loaded is what was found. Of modules Policy is made, with the rules in it if
// there are any; rules alone are Rules.
type Loaded struct {
	Policy *Policy
	Rules  *appraise.RulesPolicy
	// References are manifests of reference values (CoRIM) from bundles.
	References [][]byte
}

// Appraises is what decides appraisals; nil where nothing does.
func (l *Loaded) Appraises() appraise.Policy {
	switch {
	case l.Policy == nil:
		return l.Rules
	case l.Policy.Answers(policywasm.Appraise):
		return l.Policy
	}
	return nil
}

// Authorizes is what decides about calls; nil where nothing does.
func (l *Loaded) Authorizes() transport.Authorizer {
	if l.Policy == nil {
		return nil
	}
	return l.Policy.Authorize()
}

// Close frees the modules. No question may be under way.
func (l *Loaded) Close(ctx context.Context) error {
	if l.Policy == nil {
		return nil
	}
	return l.Policy.Close(ctx)
}

// signers are those who may sign modules; nil where nobody is named.
func (o *Options) signers() (*signed.Trust, error) {
	if len(o.Signers) == 0 {
		return nil, nil
	}
	keys, err := dist.ReadKeys(o.Signers, o.Stdin)
	if err != nil {
		return nil, err
	}
	return &signed.Trust{Keys: keys}, nil
}

// Names of policies that ship with this module, which are the default; see package
// policies for all.
const (
	Strict    = "strict"
	Simulated = "simulated"
)

// RulesOf are the rules in a policy; nil where there are none.
func RulesOf(p appraise.Policy) *appraise.RulesPolicy {
	switch p := p.(type) {
	case *appraise.RulesPolicy:
		return p
	case *Policy:
		return p.cfg.Rules
	case *Live:
		return p.Rules()
	}
	return nil
}

// magic is what a core WebAssembly module begins with.
var magic = []byte("\x00asm\x01\x00\x00\x00")

// Load finds and compiles policies. Errors name the policy.
func Load(ctx context.Context, o Options) (_ *Loaded, err error) {
	cfg := Config{Clock: o.Clock, Audit: o.Audit}
	if cfg.Rule, err = parseRule(o.Rule); err != nil {
		return nil, err
	}
	if o.trust, err = o.signers(); err != nil {
		return nil, err
	}
	out := &Loaded{}
	defer func() {
		if err != nil {
			for _, m := range cfg.Members {
				_ = m.Evaluator.Close(ctx)
			}
		}
	}()
	for _, name := range o.Names {
		if err := o.load(ctx, name, &cfg, out); err != nil {
			return nil, named(name, err)
		}
	}
	if err := o.settings(&cfg); err != nil {
		return nil, err
	}
	if len(cfg.Members) == 0 {
		if out.Rules == nil {
			return nil, errors.New("no policy is named")
		}
		return out, nil
	}
	cfg.Rules = out.Rules
	if out.Policy, err = New(cfg); err != nil {
		return nil, err
	}
	return out, nil
}

// named says of which policy an error is, once.
func named(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(name, "/\\."):
		return fmt.Errorf("policy %s: %w; those that ship with this program are %s", name, err, strings.Join(policies.Names(), ", "))
	case strings.HasPrefix(err.Error(), name+": "):
		return fmt.Errorf("policy %w", err)
	}
	return fmt.Errorf("policy %s: %w", name, err)
}

func parseRule(s string) (policywasm.Rule, error) {
	for _, r := range []policywasm.Rule{policywasm.DenyOverrides, policywasm.FirstMatch, policywasm.AllAllow} {
		if s == r.String() || s == "" && r == policywasm.DenyOverrides {
			return r, nil
		}
	}
	return 0, fmt.Errorf("rule %.40q: want deny-overrides, first-match or all-allow", s)
}

// Caps are those that policies are loaded with.
func Caps() policywasm.Caps {
	c := policywasm.Defaults()
	c.Obligations = Obligations()
	return c
}

func (o *Options) load(ctx context.Context, name string, cfg *Config, out *Loaded) error {
	if module, ok := policies.Module(name); ok {
		return o.add(ctx, cfg, module, nil, true)
	}
	from := dist.Options{Stdin: o.Stdin, Trust: o.trust}
	if dist.IsRef(name) {
		from.Registry.Credentials, _ = dist.DockerCredentials() // without, it is asked for none
	} else {
		b, err := dist.ReadFile(name, o.Stdin, signed.DefaultLimits().Bundle)
		if err != nil {
			return err
		}
		if rules := bytes.TrimLeft(b, " \t\r\n"); len(rules) > 0 && rules[0] == '{' {
			return o.rules(b, out)
		}
		if rego.Is(b) && !bytes.HasPrefix(b, magic) { // a bundle of OPA's
			if o.trust.Pinned() {
				return errors.New("a bundle of OPA's can't be signed as it is, and signers are named: make a module of it with tmcp policy build, and sign that")
			}
			return o.add(ctx, cfg, b, nil, false)
		}
		from.Stdin = bytes.NewReader(b) // it can't be read twice
	}
	found, err := dist.Load(ctx, name, from)
	if err != nil {
		return err
	}
	if found.Rule != nil && len(found.Modules) > 1 {
		if *found.Rule != cfg.Rule && (o.Rule != "" || len(o.Names) > 1) {
			return fmt.Errorf("the bundle's policies decide by the rule %s, and %s is asked for: name the bundle alone, and no other rule", found.Rule, cfg.Rule)
		}
		cfg.Rule = *found.Rule
	}
	for _, m := range found.Modules {
		if err := o.add(ctx, cfg, m.Bytes, m.Settings, found.Verified != nil); err != nil {
			return err
		}
	}
	out.References = append(out.References, found.References...)
	return nil
}

func (o *Options) rules(b []byte, out *Loaded) (err error) {
	switch {
	case out.Rules != nil:
		return errors.New("a second file of rules; put them into one")
	case o.trust.Pinned():
		return errors.New("rules can't be signed, and signers are named: give a module")
	}
	out.Rules, err = appraise.ParseRules(b)
	return err
}

// add loads a module. Those that ship with this program or are signed by whom the
// operator named are trusted as far as compiling goes.
func (o *Options) add(ctx context.Context, cfg *Config, module []byte, settings jsontext.Value, trusted bool) error {
	p, err := o.Loader.Load(ctx, module, trusted, Caps())
	if err != nil {
		return err
	}
	cfg.Members = append(cfg.Members, Member{Evaluator: p, Settings: settings})
	return nil
}

// settings gives each module its settings.
func (o *Options) settings(cfg *Config) error {
	for _, arg := range o.Settings {
		name, file, named := strings.Cut(arg, "=")
		if !named {
			if file = arg; len(cfg.Members) != 1 {
				return fmt.Errorf("settings %.200q: there are %d modules; say NAME=FILE with the name of one", arg, len(cfg.Members))
			}
			name = cfg.Members[0].Evaluator.Metadata().Name
		}
		is := func(m Member) bool { return m.Evaluator.Metadata().Name == name }
		i := slices.IndexFunc(cfg.Members, is)
		switch {
		case i < 0:
			return fmt.Errorf("settings %.200q: no module has the name %q", arg, name)
		case slices.ContainsFunc(cfg.Members[i+1:], is): // modules name themselves
			return fmt.Errorf("settings %.200q: 2 modules have the name %q, and either could be meant; put them into a bundle with their settings", arg, name)
		}
		if cfg.Members[i].Settings != nil {
			return fmt.Errorf("settings %.200q: policy %q has some already, perhaps from its bundle", arg, name)
		}
		b, err := evidencefile.Read(file, o.Stdin)
		if err != nil {
			return err
		}
		if _, err := jsontext.AppendFormat(nil, b); err != nil { // how large and deep it is, is checked with the rest
			return fmt.Errorf("settings of policy %q: %s: %w", name, file, err)
		}
		cfg.Members[i].Settings = b
	}
	return nil
}

// A FlagSet takes the flags of a command; that of pflag is one.
type FlagSet interface {
	StringVar(p *string, name, value, usage string)
	StringArrayVar(p *[]string, name string, value []string, usage string)
}

// AddFlags declares --policy and those that go with it. what says what the policies
// are for.
func (o *Options) AddFlags(fl FlagSet, what string) {
	fl.StringArrayVar(&o.Names, "policy", nil, what+": a policy that ships with this program (tmcp policy list), a file (a WebAssembly module, a bundle, or rules in JSON), or oci://REGISTRY/NAME@DIGEST; may be repeated")
	fl.StringArrayVar(&o.Settings, "policy-settings", nil, "[NAME=]FILE: settings in JSON for the policy of that name; may be repeated")
	fl.StringVar(&o.Rule, "policy-rule", policywasm.DenyOverrides.String(), "how several policies decide: deny-overrides, first-match or all-allow")
	fl.StringArrayVar(&o.Signers, "policy-signer", nil, "file with a public key (PEM) that may sign policies; may be repeated")
}

// Given reports whether something is named.
func (o *Options) Given() bool { return len(o.Names) > 0 }

// Simulates reports whether the policy for simulated TEEs is named.
func (o *Options) Simulates() bool { return slices.Contains(o.Names, Simulated) }

// Check refuses flags that go with policies where there is none.
func (o *Options) Check() error {
	if !o.Given() && len(o.Settings)+len(o.Signers) > 0 {
		return errors.New("--policy-settings and --policy-signer go with --policy")
	}
	_, err := parseRule(o.Rule)
	return err
}
