package aicc

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
)

// Bounds of what configuration files say.
const (
	maxConfig   = 256 << 10 // bytes
	maxInterval = 30 * 24 * time.Hour

	// DefaultInterval is that of the published package, for refresh_interval and
	// attest_interval.
	DefaultInterval = time.Hour
)

// cloud is where the package asks about clients when nothing else is said.
const cloud = "open.volcengineapi.com"

// Values of "ra_type".
const (
	RATypeService = "tca"   // the attestation service is asked
	RATypeLocal   = "local" // the server itself is asked
)

// A ClientConfig is the published package's client_config.json. Times are in
// seconds there.
type ClientConfig struct {
	PublicKeyPath  string        // pub_key_path; a key from there is not attested
	RAURL          string        // ra_url
	RAType         string        // ra_type: RATypeService (default) or RATypeLocal
	ServiceName    string        // ra_service_name
	PodsInfo       Pod           // ra_pods_info; what is attested without ServiceName
	UID            string        // ra_uid
	PolicyID       string        // ra_policy_id
	AttestMust     bool          // attest_must; what it is false for needs Options.Unattested too
	AttestInterval time.Duration // attest_interval; 0: DefaultInterval
	Gateway        *Gateway      // bytedance_top_info; nil without

	// Warnings are about members that mean nothing here, or that the package and this
	// program understand differently.
	Warnings []string
}

// A ServerConfig is the published package's server_config.json.
type ServerConfig struct {
	KeyFile         string        // key_file; it may hold up to four keys, newest first
	Random          bool          // key_type "random": a new key at each RefreshInterval
	RefreshInterval time.Duration // refresh_interval; 0: DefaultInterval; -1: never
	// ClientRA has the clients' service attested before anything is opened; nil when
	// client_ra_config is absent or not open.
	ClientRA *ClientConfig

	Warnings []string // as in ClientConfig
}

// A Pod names a node to attest that was not deployed as a service.
type Pod struct {
	ClusterID  string `json:"cluster_id"`
	Namespace  string `json:"namespace"`
	Deployment string `json:"deployment"`
	Pod        string `json:"pod,omitzero"` // "random" or "all"
}

// A Gateway is how the attestation service is reached: bytedance_top_info.
type Gateway struct {
	URL       string // url; "": ra_url
	Scheme    string // http_scheme, where the URL has none; "": https
	AccessKey string // ak
	SecretKey string // sk; signs requests
	Service   string // service
	Region    string // region; "": cn-beijing
	Action    string // action; "": GetAttestationBackend
	Version   string // version; "": 2024-12-24
}

// LoadClientConfig reads a client_config.json.
func LoadClientConfig(path string) (*ClientConfig, error) {
	return load(path, ParseClientConfig)
}

// LoadServerConfig reads a server_config.json.
func LoadServerConfig(path string) (*ServerConfig, error) {
	return load(path, ParseServerConfig)
}

func load[T any](path string, parse func([]byte) (*T, error)) (*T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	c, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseClientConfig reads the text of a client_config.json. Members that the
// package does not know are refused, as it does.
func ParseClientConfig(b []byte) (*ClientConfig, error) {
	c := &ClientConfig{RAType: RATypeService}
	r, err := newReader(b, &c.Warnings)
	if err != nil {
		return nil, err
	}
	r.members(map[string]func(jsontext.Value){
		"$schema":         nil,
		"pub_key_path":    r.text(&c.PublicKeyPath),
		"ra_url":          r.text(&c.RAURL),
		"ra_type":         r.text(&c.RAType),
		"ra_service_name": r.text(&c.ServiceName),
		"ra_pods_info":    r.pod(&c.PodsInfo),
		"ra_uid":          r.text(&c.UID),
		"ra_policy_id":    r.text(&c.PolicyID),
		"ra_key_negotiation": r.flag(func(on bool) {
			if !on {
				r.fail("ra_key_negotiation is false: then the answer has no key to seal to; leave it out, or give pub_key_path")
			}
		}),
		"ra_need_token": r.flag(func(on bool) {
			if !on {
				r.warn("ra_need_token is false: the package asks for a token all the same, and so does this program")
			}
		}),
		"attest_must":        r.flag(func(on bool) { c.AttestMust = on }),
		"attest_interval":    r.seconds(&c.AttestInterval, false),
		"bytedance_top_info": r.gateway(&c.Gateway),
		"ra_attested_pods":   r.idle("the package does not read it; use ra_pods_info"),
		"ra_policy_ids":      r.idle("the package does not read it; use ra_policy_id"),
		"root_key_config":    r.idle("messages of MCP are not signed with these keys"),
		"log_config":         r.idle("this program logs to its standard error"),
	})
	if r.err == nil {
		r.err = c.check()
	}
	return c, r.err
}

// check refuses what can't be honoured, and warns of what the package would do
// differently.
func (c *ClientConfig) check() error {
	warn := func(format string, args ...any) { c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...)) }
	if c.RAType != RATypeService && c.RAType != RATypeLocal {
		return fmt.Errorf("ra_type is %.40q; want %q or %q", c.RAType, RATypeService, RATypeLocal)
	}
	if c.PublicKeyPath != "" {
		if c.RAURL != "" || c.Gateway != nil {
			warn("pub_key_path is given beside an attestation service: as in the package, the file's key is used and nothing is attested")
		} else if c.AttestMust {
			warn("attest_must is true, and pub_key_path is given: as in the package, the file's key is used and nothing is attested")
		}
		return nil
	}
	if c.RAURL == "" && (c.Gateway == nil || c.Gateway.URL == "") {
		return errors.New("there is neither pub_key_path nor an attestation service (ra_url, or url within bytedance_top_info)")
	}
	switch {
	case c.Gateway != nil && c.RAType == RATypeLocal:
		warn("ra_type is local, but bytedance_top_info is given: as in the package, the service is asked")
		c.RAType = RATypeService
	case c.Gateway == nil && c.RAType == RATypeService:
		// The package goes by bytedance_top_info alone.
		warn("bytedance_top_info is missing: as in the package, the server itself is asked (ra_type local)")
		c.RAType = RATypeLocal
	}
	if c.RAType == RATypeService && c.ServiceName == "" && c.PodsInfo == (Pod{}) {
		return errors.New("say what is attested: ra_service_name or ra_pods_info")
	}
	if c.RAType == RATypeService && c.PolicyID == "" {
		warn("ra_policy_id is missing: tokens do not name the service that they are about, so that any TEE which meets any policy of the attestation service will do")
	}
	if !c.AttestMust {
		warn("attest_must is not true: the package may use a key whose attestation failed; this program does not")
	}
	return nil
}

// ParseServerConfig reads the text of a server_config.json. Members that the
// package does not know are refused, as it does.
func ParseServerConfig(b []byte) (*ServerConfig, error) {
	c := &ServerConfig{}
	r, err := newReader(b, &c.Warnings)
	if err != nil {
		return nil, err
	}
	keyType, top := "tks", (*Gateway)(nil)
	var clientRA jsontext.Value
	members := map[string]func(jsontext.Value){
		"$schema":            nil,
		"key_file":           r.text(&c.KeyFile),
		"key_type":           r.text(&keyType),
		"refresh_interval":   r.seconds(&c.RefreshInterval, true),
		"client_ra_config":   func(v jsontext.Value) { clientRA = r.object(v) },
		"bytedance_top_info": r.gateway(&top),
		"valid_time":         r.idle("the package does not act on it"),
		"client_ra_url":      r.idle("the package does not read it; use client_ra_config"),
		"root_key_config":    r.idle("messages of MCP are not signed with these keys"),
		"log_config":         r.idle("this program logs to its standard error"),
	}
	// What is about the key service only. Beside a key file the package does not
	// look at it.
	var ofTKS []string
	for _, name := range []string{"tks_app_id", "tks_ring_id", "tks_key_id", "tks_policy_id", "tks_url", "tks_service_name", "service_id", "pcc_login_url", "pcc_app_id", "pcc_password", "bytedance_pcc_info", "need_evidence", "attest_gpu"} {
		members[name] = func(v jsontext.Value) {
			if !empty(v) {
				ofTKS = append(ofTKS, name)
			}
		}
	}
	r.members(members)
	if r.err != nil {
		return nil, r.err
	}
	switch {
	case c.KeyFile != "":
	case keyType == "random":
		c.Random = true
	case keyType == "tks":
		return nil, errors.New("the key comes from a key service (key_type \"tks\", which is the default, without key_file): this program can't fetch it; export the key to a file and give key_file, or say key_type \"random\"")
	default:
		return nil, fmt.Errorf("key_type is %.40q; want \"random\", or give key_file", keyType)
	}
	slices.Sort(ofTKS)
	for _, name := range ofTKS {
		r.warn("%s means nothing here: the key does not come from a key service", name)
	}
	if clientRA != nil {
		c.ClientRA, err = parseClientRA(clientRA, top, &c.Warnings)
		if err != nil {
			return nil, fmt.Errorf("client_ra_config: %w", err)
		}
	}
	if top != nil && c.ClientRA == nil {
		r.warn("bytedance_top_info means nothing here: no client is attested, and the key does not come from a key service")
	}
	return c, nil
}

// parseClientRA reads what a server asks about its clients; nil when that is not
// switched on.
func parseClientRA(b []byte, top *Gateway, warnings *[]string) (*ClientConfig, error) {
	c := &ClientConfig{RAURL: cloud, RAType: RATypeService, AttestMust: true, Gateway: top}
	r, err := newReader(b, warnings)
	if err != nil {
		return nil, err
	}
	open := false
	r.members(map[string]func(jsontext.Value){
		"open":               r.flag(func(on bool) { open = on }),
		"ra_url":             r.text(&c.RAURL),
		"ra_service_name":    r.text(&c.ServiceName),
		"ra_pods_info":       r.pod(&c.PodsInfo),
		"ra_policy_id":       r.text(&c.PolicyID),
		"ra_uid":             r.text(&c.UID),
		"ra_key_negotiation": r.idle("what is attested of clients has no key"),
	})
	switch {
	case r.err != nil:
		return nil, r.err
	case !open:
		return nil, nil
	case top == nil:
		return nil, errors.New("it is open, and bytedance_top_info, which says how the service is reached, is missing")
	case c.ServiceName == "" && c.PodsInfo == (Pod{}):
		return nil, errors.New("say what is attested: ra_service_name or ra_pods_info")
	}
	return c, nil
}

// empty reports whether a value says nothing: null, "", false, [] or {}.
func empty(v jsontext.Value) bool {
	return slices.Contains([]string{"null", `""`, "false", "[]", "{}"}, strings.Join(strings.Fields(string(v)), ""))
}

// A reader reads the members of an object, and keeps the first error.
type reader struct {
	b        []byte
	warnings *[]string
	at       string // the member that is read
	err      error
}

func newReader(b []byte, warnings *[]string) (*reader, error) {
	err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: maxConfig, MaxDepth: 16})
	if err == nil && jsontext.Value(b).Kind() != '{' {
		err = errors.New("not a JSON object")
	}
	return &reader{b: b, warnings: warnings}, err
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) warn(format string, args ...any) {
	*r.warnings = append(*r.warnings, fmt.Sprintf(format, args...))
}

func (r *reader) members(known map[string]func(jsontext.Value)) {
	err := jsonrpc.Members(r.b, func(name string, v jsontext.Value) error {
		read, ok := known[name]
		if !ok {
			r.fail("the member %.80q is unknown", name)
		} else if read != nil {
			r.at = name
			if read(v); r.err != nil {
				r.err = fmt.Errorf("%s: %w", name, r.err)
			}
		}
		return r.err
	})
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) text(to *string) func(jsontext.Value) {
	return func(v jsontext.Value) {
		if v.Kind() == 'n' {
			*to = ""
			return
		}
		s, ok := jsonrpc.Text(v)
		if !ok {
			r.fail("want a text")
		}
		*to = s
	}
}

func (r *reader) flag(set func(bool)) func(jsontext.Value) {
	return func(v jsontext.Value) {
		switch v.Kind() {
		case 't':
			set(true)
		case 'f':
			set(false)
		default:
			r.fail("want true or false")
		}
	}
}

// idle reads what has no effect, and says so unless it is empty.
func (r *reader) idle(why string) func(jsontext.Value) {
	return func(v jsontext.Value) {
		if !empty(v) {
			r.warn("%s means nothing here: %s", r.at, why)
		}
	}
}

// seconds reads a number of seconds. null is never, where that is allowed.
func (r *reader) seconds(to *time.Duration, never bool) func(jsontext.Value) {
	return func(v jsontext.Value) {
		if v.Kind() == 'n' {
			if *to = -1; !never {
				r.fail("null would be never: an attestation must be renewed; leave it out for once an hour")
			}
			return
		}
		s, err := strconv.ParseFloat(string(v), 64)
		if v.Kind() != '0' || err != nil || math.IsNaN(s) || s < 1 || s > maxInterval.Seconds() {
			r.fail("%.40s: want 1 to %.0f seconds", string(v), maxInterval.Seconds())
			return
		}
		*to = time.Duration(s * float64(time.Second))
	}
}

// object reads an object, or a text that holds one, as the package does. nil
// when there is none.
func (r *reader) object(v jsontext.Value) jsontext.Value {
	if empty(v) {
		return nil
	}
	if s, ok := jsonrpc.Text(v); ok {
		v = jsontext.Value(s)
	}
	if _, err := newReader(v, r.warnings); err != nil {
		r.fail("%w", err)
		return nil
	}
	return v
}

// within reads the members of an object, or of a text that holds one.
func (r *reader) within(v jsontext.Value, known func(in *reader) map[string]func(jsontext.Value)) {
	b := r.object(v)
	if b == nil {
		return
	}
	in := &reader{b: b, warnings: r.warnings}
	in.members(known(in))
	if in.err != nil {
		r.fail("%w", in.err)
	}
}

func (r *reader) pod(to *Pod) func(jsontext.Value) {
	return func(v jsontext.Value) {
		r.within(v, func(in *reader) map[string]func(jsontext.Value) {
			return map[string]func(jsontext.Value){
				"cluster_id": in.text(&to.ClusterID), "namespace": in.text(&to.Namespace), "deployment": in.text(&to.Deployment), "pod": in.text(&to.Pod),
			}
		})
	}
}

func (r *reader) gateway(to **Gateway) func(jsontext.Value) {
	return func(v jsontext.Value) {
		if empty(v) {
			return
		}
		g := &Gateway{}
		method, rewrite := "POST", ""
		r.within(v, func(in *reader) map[string]func(jsontext.Value) {
			idle := in.idle("the package does not use it for attestation")
			return map[string]func(jsontext.Value){
				"url": in.text(&g.URL), "http_scheme": in.text(&g.Scheme), "ak": in.text(&g.AccessKey), "sk": in.text(&g.SecretKey),
				"service": in.text(&g.Service), "region": in.text(&g.Region), "action": in.text(&g.Action), "version": in.text(&g.Version),
				"method": in.text(&method), "url_rewrite": in.text(&rewrite),
				"use_tls": idle, "sts_token": idle, "target_uid": idle, "target_resource": idle, "top_url": idle,
			}
		})
		switch {
		case g.AccessKey == "" || g.SecretKey == "" || g.Service == "":
			r.fail("ak, sk and service are required")
		case !strings.EqualFold(method, "POST"):
			r.fail("method is %.20q; only POST is known here", method)
		case rewrite != "":
			r.fail("url_rewrite is not supported: give the service's own address as url")
		}
		*to = g
	}
}
