package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TMCP-18.8-4: An implementation MUST label what comes from a simulated TEE as simulated,
// wherever it shows a result.
func TestSimulatedIsSaid(t *testing.T) {
	dir := t.TempDir()
	file, key := filepath.Join(dir, "evidence.cbor"), filepath.Join(dir, "key.pub")
	if code, _, e := command("keygen", "--alg", "p256", "--out", filepath.Join(dir, "key"), "--public", key); code != 0 {
		t.Fatal(e)
	}
	pin := strings.Repeat("A", 43)
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"attest --tee sim --report-data 01 --out " + file, 0, "SIMULATED"},
		{"evidence verify " + file + " --simulator --report-data 01", 0, "SIMULATED"},
		{"evidence verify " + file + " --simulator --report-data 01 --json", 0, `"simulated": true`},
		{"evidence verify " + file + " --simulator --report-data 02", 1, "SIMULATED"},
		{"connect --stdio --profile attested --simulator --pin " + pin + " http://127.0.0.1:1/mcp", 0, "SIMULATED"},
		{"connect --stdio --profile attested --tee sim --pin " + pin + " http://127.0.0.1:1/mcp", 0, "SIMULATED"},
		{"connect --stdio --profile attested --policy simulated --pin " + pin + " http://127.0.0.1:1/mcp", 0, "SIMULATED"},
		{"connect --stdio --profile attested-tls --simulator --pin " + pin + " https://127.0.0.1:1/mcp", 0, "SIMULATED"},
		// It says so before it asks for the passport, for which nobody is there.
		{"serve --profile attested --tee sim --passport-from http://127.0.0.1:1 --verifier-key " + key + " --listen 127.0.0.1:0 --upstream http://127.0.0.1:1/", 3, "SIMULATED"},
		{"demo --attack debug", 0, "simulated"},
	} {
		code, o, e := command(strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(o+e, tt.want) {
			t.Errorf("tmcp %s: exit code %d, want %d, and %s:\n%s%s", tt.args, code, tt.code, tt.want, o, e)
		}
	}
}
