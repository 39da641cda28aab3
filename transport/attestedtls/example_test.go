package attestedtls_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/appraise"
	"github.com/trustedmcp/tmcp/evidence/dcap"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// A server in a simulated TEE, and a client that accepts simulated TEEs: one line
// around the listener, one for the client's transport.
func Example() {
	const identity = "https://localhost/mcp"
	tee, err := sim.Default().TEE(sim.Options{Now: time.Now})
	if err != nil {
		fmt.Println(err)
		return
	}
	appraiser, err := appraise.New(appraise.Config{
		Verifiers: []evidence.Verifier{dcap.New(dcap.Options{})}, Anchors: vendor.Anchors(),
		Simulator: sim.Default().Simulator(evidence.TDX), Policy: appraise.Simulated(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	l, err := attestedtls.NewListener(tcp, attestedtls.Config{Own: &attestedtls.Own{Attester: tee, Identity: identity}})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello from a TEE")
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() { _ = server.Close(); <-done }()

	dialer, err := attestedtls.NewDialer(attestedtls.Config{Peer: &attestedtls.Peer{
		Appraiser: appraiser, Identities: []string{identity},
		Accept: func(r *attestedtls.Result) error { fmt.Println(r.Identity, r.Caveats); return nil },
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dialer.Close()
	transport := dialer.Transport()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	// Output:
	// https://localhost/mcp [simulated identity-unproven]
	// hello from a TEE
}
