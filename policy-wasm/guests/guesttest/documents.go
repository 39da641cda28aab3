package guesttest

import (
	"fmt"

	"github.com/trustedmcp/tmcp/policy-wasm/document"
)

// Document returns a document that the policies allow, by the name of the sample
// that it is like.
func Document(name string) ([]byte, error) {
	up := &document.TCB{Status: "UpToDate", Advisories: []string{}, Parts: []document.Part{}}
	known := &document.References{Known: true, Matched: true, Tags: []string{"release-1"}}
	tee := func(kind string) document.Device {
		return document.Device{Kind: kind, Proven: true, Checks: []document.Check{{Name: "signature", Outcome: "pass"}}, TCB: up, References: known, Claims: map[string]any{}}
	}
	d := &document.Document{Question: "appraise", Time: 1795200000, Peer: document.Peer{Profile: "none"}, Devices: []document.Device{}}
	switch name {
	case "tdx", "sgx", "sev-snp":
		d.Devices = append(d.Devices, tee(name))
	case "nitro":
		d.Devices = append(d.Devices, tee(name))
		d.Devices[0].TCB = nil
	case "gpu":
		d.Devices = append(d.Devices, tee("tdx"), tee("nvidia-gpu"))
		d.Devices[1].TCB, d.Devices[1].References = nil, nil
	case "call-attested", "call-identity", "call-unknown":
		method, tool := "tools/call", "get_weather"
		d.Question = "authorize"
		d.Peer.Profile = map[string]string{"call-attested": "attested", "call-identity": "identity", "call-unknown": "none"}[name]
		d.Call = &document.Call{Kind: "request", Method: &method, Name: &tool, Carrier: "inline"}
	default:
		return nil, fmt.Errorf("no document is named %q", name)
	}
	return d.JSON()
}
