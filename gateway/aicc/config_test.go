package aicc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const top = `"bytedance_top_info":"{\"ak\":\"A\",\"sk\":\"S\",\"service\":\"pcc\",\"url\":\"https://ra.example\"}"`

func TestParseClientConfig(t *testing.T) {
	c, err := ParseClientConfig([]byte(`{"$schema":"x","ra_url":"https://ignored.example","ra_type":"tca","ra_service_name":"weather",
		"ra_uid":"u","ra_policy_id":"p","attest_must":true,"attest_interval":90.5,"ra_key_negotiation":true,"ra_need_token":true,
		"ra_attested_pods":[],"ra_policy_ids":[],"log_config":null,"root_key_config":"","pub_key_path":null,` + top + `}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 0 || c.ServiceName != "weather" || c.UID != "u" || c.PolicyID != "p" || !c.AttestMust || c.AttestInterval != 90500*time.Millisecond ||
		c.Gateway == nil || *c.Gateway != (Gateway{URL: "https://ra.example", AccessKey: "A", SecretKey: "S", Service: "pcc"}) {
		t.Errorf("%+v, %+v", c, c.Gateway)
	}
	// Objects in place of texts that hold them, as the package takes both.
	c, err = ParseClientConfig([]byte(`{"ra_pods_info":{"cluster_id":"c","namespace":"n","deployment":"d","pod":"all"},"attest_must":true,"bytedance_top_info":{"ak":"A","sk":"S","service":"pcc","url":"ra.example","http_scheme":"http"}}`))
	if err != nil || c.PodsInfo != (Pod{"c", "n", "d", "all"}) || c.Gateway.Scheme != "http" {
		t.Errorf("%+v, %v", c, err)
	}

	for name, tt := range map[string]struct{ in, want string }{
		"attest_must":   {`{"ra_service_name":"w","ra_policy_id":"p",` + top + `}`, "attest_must is not true"},
		"fallback":      {`{"ra_url":"https://s.example","attest_must":true}`, "the server itself is asked"},
		"local ignored": {`{"ra_type":"local","ra_service_name":"w","ra_policy_id":"p","attest_must":true,` + top + `}`, "the service is asked"},
		"any policy":    {`{"ra_service_name":"w","attest_must":true,` + top + `}`, "ra_policy_id is missing"},
		"file and must": {`{"pub_key_path":"k","attest_must":true}`, "nothing is attested"},
		"file wins":     {`{"pub_key_path":"k","ra_url":"https://s.example"}`, "nothing is attested"},
		"old pods":      {`{"pub_key_path":"k","ra_attested_pods":[{}]}`, "ra_attested_pods means nothing here"},
		"old policies":  {`{"pub_key_path":"k","ra_policy_ids":["x"]}`, "ra_policy_ids means nothing here"},
		"log":           {`{"pub_key_path":"k","log_config":"{}x"}`, "log_config means nothing here"},
		"root key":      {`{"pub_key_path":"k","root_key_config":"{\"a\":\"b\"}"}`, "root_key_config means nothing here"},
		"no token":      {`{"pub_key_path":"k","ra_need_token":false}`, "asks for a token all the same"},
		"sts":           {`{"ra_service_name":"w","ra_policy_id":"p","attest_must":true,"bytedance_top_info":{"url":"x","ak":"A","sk":"S","service":"p","sts_token":"t"}}`, "sts_token means nothing here"},
	} {
		c, err := ParseClientConfig([]byte(tt.in))
		if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], tt.want) {
			t.Errorf("%s: %v, %+v; want %q", name, err, c, tt.want)
		}
	}
	for name, tt := range map[string]struct{ in, want string }{
		"no object":      {`[]`, "not a JSON object"},
		"broken":         {`{`, ""},
		"twice":          {`{"pub_key_path":"a","pub_key_path":"b"}`, ""},
		"nothing":        {`{}`, "neither pub_key_path nor"},
		"unknown":        {`{"pub_key_path":"k","attest_most":true}`, `"attest_most" is unknown`},
		"number":         {`{"pub_key_path":1}`, "pub_key_path: want a text"},
		"truth":          {`{"attest_must":"true","pub_key_path":"k"}`, "attest_must: want true or false"},
		"type":           {`{"ra_type":"x","ra_url":"y"}`, `want "tca" or "local"`},
		"no negotiation": {`{"ra_key_negotiation":false,"pub_key_path":"k"}`, "no key to seal to"},
		"no service":     {`{` + top + `}`, "say what is attested"},
		"never":          {`{"attest_interval":null,"pub_key_path":"k"}`, "must be renewed"},
		"zero":           {`{"attest_interval":0,"pub_key_path":"k"}`, "want 1 to"},
		"negative":       {`{"attest_interval":-3600,"pub_key_path":"k"}`, "want 1 to"},
		"huge":           {`{"attest_interval":1e300,"pub_key_path":"k"}`, "want 1 to"},
		"text":           {`{"attest_interval":"60","pub_key_path":"k"}`, "want 1 to"},
		"pods unknown":   {`{"ra_pods_info":"{\"x\":\"y\"}"}`, `ra_pods_info: the member "x" is unknown`},
		"pods text":      {`{"ra_pods_info":"x"}`, "ra_pods_info"},
		"top no key":     {`{"bytedance_top_info":{"ak":"A","service":"p"}}`, "ak, sk and service are required"},
		"top get":        {`{"bytedance_top_info":{"ak":"A","sk":"S","service":"p","method":"GET"}}`, "only POST"},
		"top rewrite":    {`{"bytedance_top_info":{"ak":"A","sk":"S","service":"p","url_rewrite":"http://x"}}`, "url_rewrite is not supported"},
		"top unknown":    {`{"bytedance_top_info":{"ak":"A","sk":"S","service":"p","x":1}}`, `"x" is unknown`},
		"too large":      {`{"pub_key_path":"` + strings.Repeat("x", maxConfig) + `"}`, ""},
		"too deep":       {`{"ra_attested_pods":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, ""},
	} {
		if c, err := ParseClientConfig([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want %q", name, c, err, tt.want)
		}
	}
}

func TestParseServerConfig(t *testing.T) {
	c, err := ParseServerConfig([]byte(`{"$schema":"x","key_file":"./myPrivateKey.pem"}`))
	if err != nil || c.KeyFile != "./myPrivateKey.pem" || c.RefreshInterval != 0 || len(c.Warnings) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = ParseServerConfig([]byte(`{"key_type":"random","refresh_interval":60}`))
	if err != nil || !c.Random || c.RefreshInterval != time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = ParseServerConfig([]byte(`{"key_file":"k","refresh_interval":null,"client_ra_config":"{\"open\":true,\"ra_service_name\":\"app\",\"ra_policy_id\":\"p\"}",` + top + `}`))
	if err != nil || c.RefreshInterval != -1 || c.ClientRA == nil || c.ClientRA.ServiceName != "app" || c.ClientRA.PolicyID != "p" || c.ClientRA.Gateway == nil || !c.ClientRA.AttestMust {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = ParseServerConfig([]byte(`{"key_file":"k","client_ra_config":"{\"open\":false,\"ra_service_name\":\"app\"}"}`))
	if err != nil || c.ClientRA != nil {
		t.Errorf("%+v, %v", c, err)
	}
	for name, tt := range map[string]struct{ in, want string }{
		"tks beside":  {`{"key_file":"k","tks_ring_id":"r"}`, "tks_ring_id means nothing here"},
		"valid_time":  {`{"key_file":"k","valid_time":1800}`, "valid_time means nothing here"},
		"client url":  {`{"key_file":"k","client_ra_url":"x"}`, "client_ra_url means nothing here"},
		"top":         {`{"key_file":"k",` + top + `}`, "bytedance_top_info means nothing here"},
		"evidence":    {`{"key_file":"k","need_evidence":true}`, "need_evidence means nothing here"},
		"negotiation": {`{"key_file":"k","client_ra_config":{"open":false,"ra_key_negotiation":true}}`, "ra_key_negotiation means nothing here"},
	} {
		c, err := ParseServerConfig([]byte(tt.in))
		if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], tt.want) {
			t.Errorf("%s: %v, %+v; want %q", name, err, c, tt.want)
		}
	}
	for name, tt := range map[string]struct{ in, want string }{
		"tks":           {`{}`, "from a key service"},
		"tks named":     {`{"key_type":"tks","tks_ring_id":"r","tks_key_id":"k"}`, "from a key service"},
		"type":          {`{"key_type":"x"}`, "key_type is"},
		"unknown":       {`{"key_file":"k","x":1}`, `"x" is unknown`},
		"client no top": {`{"key_file":"k","client_ra_config":{"open":true,"ra_service_name":"a"}}`, "bytedance_top_info, which says how"},
		"client who":    {`{"key_file":"k","client_ra_config":{"open":true},` + top + `}`, "say what is attested"},
		"client open":   {`{"key_file":"k","client_ra_config":{"open":"true"}}`, "open: want true or false"},
		"client member": {`{"key_file":"k","client_ra_config":{"opn":true}}`, `"opn" is unknown`},
		"client text":   {`{"key_file":"k","client_ra_config":"x"}`, "client_ra_config"},
		"refresh":       {`{"key_file":"k","refresh_interval":0.2}`, "want 1 to"},
	} {
		if c, err := ParseServerConfig([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, %v; want %q", name, c, err, tt.want)
		}
	}
}

func TestLoadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "client_config.json")
	if _, err := LoadClientConfig(path); err == nil {
		t.Error("a file that is not there was read")
	}
	if err := os.WriteFile(path, []byte(`{"pub_key_path":"k","x":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadClientConfig(path); err == nil || !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("the error does not name the file: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"key_file":"k"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := LoadServerConfig(path); err != nil || c.KeyFile != "k" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte(fmt.Sprintf("%*s", maxConfig+1, "{}")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadServerConfig(path); err == nil {
		t.Error("a huge file was read")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"ra_service_name":"weather","ra_pods_info":"{\"cluster_id\":\"c\"}",` + top + `}`))
	f.Add([]byte(`{"key_file":"k","refresh_interval":60,"client_ra_config":"{\"open\":true,\"ra_service_name\":\"a\"}",` + top + `}`))
	f.Add([]byte(`{"ra_pods_info":"{\"ra_pods_info\":\"{}\"}"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseClientConfig(b); err == nil {
			if c.PublicKeyPath == "" && c.RAURL == "" && c.Gateway == nil || c.AttestInterval < 0 || c.AttestInterval > maxInterval {
				t.Fatalf("%+v", c)
			}
		}
		if c, err := ParseServerConfig(b); err == nil && (c.KeyFile == "") != c.Random {
			t.Fatalf("%+v", c)
		}
	})
}
