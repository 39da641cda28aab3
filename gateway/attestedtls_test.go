package gateway_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// Attested TLS in both modes, with each form of evidence, one-sided and mutual.
func TestAttestedTLS(t *testing.T) {
	all := []x509ev.Form{x509ev.CMW, x509ev.DICECMW, x509ev.TaggedQuote}
	bare := func(o *sim.Options) { o.Bare = true } // a CMW record, as TCG's extension wants
	self := identity(t, "urn:client:alice")
	type connecting = gateway.ConnectConfig
	for _, tt := range []struct {
		name   string
		mode   attestedtls.Mode
		form   x509ev.Form
		mutual bool
		image  [32]byte // of the server
		client func(*connecting)
		want   string
	}{
		{name: "exporter", mode: attestedtls.ModeExporter},
		{name: "certificate, cmw", mode: attestedtls.ModeCertificate, form: x509ev.CMW},
		{name: "certificate, dice-cmw", mode: attestedtls.ModeCertificate, form: x509ev.DICECMW},
		{name: "certificate, tagged-quote", mode: attestedtls.ModeCertificate, form: x509ev.TaggedQuote, client: func(c *connecting) { c.TLS.Forms = all }},
		{name: "exporter, mutual", mode: attestedtls.ModeExporter, mutual: true},
		{name: "certificate, mutual", mode: attestedtls.ModeCertificate, mutual: true},

		{name: "tagged-quote by default", mode: attestedtls.ModeCertificate, form: x509ev.TaggedQuote, want: "tagged-quote"},
		{name: "exporter, other code", mode: attestedtls.ModeExporter, image: evil, want: "policy-claim-tdx.mrtd"},
		{name: "certificate, other code", mode: attestedtls.ModeCertificate, image: evil, want: "policy-claim-tdx.mrtd"},
		{name: "exporter, other pin", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.TLS.Pins = []protocol.Thumbprint{self.Thumbprint()} }, want: "does not prove that it is"},
		{name: "certificate, other pin", mode: attestedtls.ModeCertificate, client: func(c *connecting) { c.TLS.Pins = []protocol.Thumbprint{self.Thumbprint()} }, want: "does not prove that it is"},
		{name: "exporter, other name", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.Identity = "https://bank.example/mcp" }, want: "bank.example"},
		{name: "certificate, other name", mode: attestedtls.ModeCertificate, client: func(c *connecting) { c.Identity = "https://bank.example/mcp" }, want: "bank.example"},
		{name: "other mode at the client", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.TLS.Mode = attestedtls.ModeCertificate }, want: "--tls-mode exporter"},
		{name: "other mode at the server", mode: attestedtls.ModeCertificate, client: func(c *connecting) { c.TLS.Mode = attestedtls.ModeExporter }, want: "--tls-mode certificate"},
		{name: "plain http", mode: attestedtls.ModeExporter, client: func(c *connecting) { c.URL = strings.Replace(c.URL, "https", "http", 1) }, want: "not an https URL"},
		{name: "exporter, no client", mode: attestedtls.ModeExporter, mutual: true, client: func(c *connecting) { c.Self, c.Attestation = nil, nil }, want: "reach"},
		{name: "certificate, no client", mode: attestedtls.ModeCertificate, mutual: true, client: func(c *connecting) { c.Self, c.Attestation = nil, nil }, want: "tls"},
		{name: "exporter, client of other code", mode: attestedtls.ModeExporter, mutual: true, client: func(c *connecting) { c.Attestation = machine(t, evil, nil) }, want: "reach"},
		{name: "certificate, client of other code", mode: attestedtls.ModeCertificate, mutual: true, client: func(c *connecting) { c.Attestation = machine(t, evil, nil) }, want: "tls"},
		{name: "exporter, other client", mode: attestedtls.ModeExporter, mutual: true, client: func(c *connecting) { c.Self = identity(t, "urn:client:alice") }, want: "reach"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			upstream, calls, _ := tools(t)
			if tt.image == [32]byte{} {
				tt.image = good
			}
			var change func(*sim.Options)
			if tt.form == x509ev.DICECMW {
				change = bare
			}
			s := gateway.ServeConfig{Upstream: upstream, Attestation: machine(t, tt.image, change), TLS: &gateway.TLS{Mode: tt.mode, Form: tt.form}}
			if tt.mutual {
				s.TLS.Pins, s.TLS.Clients = []protocol.Thumbprint{self.Thumbprint()}, appraiser(t, goodCode)
			}
			to := serve(t, s)
			c := connecting{URL: to.url, Profile: protocol.ProfileAttestedTLS, Appraiser: appraiser(t, goodCode), TLS: &gateway.TLS{Mode: tt.mode}}
			if tt.mutual {
				c.Self, c.Attestation = self, machine(t, good, nil)
			}
			if tt.client != nil {
				tt.client(&c)
			}
			fill(&c, to)
			err := refusedAtStart(t, c)
			switch {
			case err != nil:
			case tt.want == "":
				err = try(t, over(connectTo(t, to, c).url))
			default: // over HTTP, the SDK tells the status and not what stands in the answer
				err = try(t, overStdio(t, to, c))
			}
			check(t, err, calls.Load(), protocol.Reason(tt.want))
			if tt.want == "" {
				return
			}
			// Nor does a client get in that does not know of attestation.
			plain := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer plain.CloseIdleConnections()
			if tt.mode == attestedtls.ModeExporter || tt.mutual {
				if res, err := (&http.Client{Transport: plain}).Get(to.url); err == nil {
					res.Body.Close()
					t.Errorf("a client without attestation is answered %s", res.Status)
				}
			}
		})
	}
}

// refusedAtStart is the error of a Connect that does not even serve.
func refusedAtStart(t *testing.T, c gateway.ConnectConfig) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	return gateway.Connect(ctx, c, "127.0.0.1:0", func(string) { cancel() })
}
