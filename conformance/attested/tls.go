package attested

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/trustedmcp/tmcp/conformance"
	"github.com/trustedmcp/tmcp/conformance/wire"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/transport/attestedtls"
)

// attestedTLS fills in what cases of profile attested-tls share. They dial by
// themselves: nothing below TLS is MCP.
func attestedTLS(name, id string, c conformance.Case) conformance.Case {
	c.Eras, c.Transports = modernOnly, httpOnly
	return define(conformance.ProfileAttestedTLS, name, id, c)
}

// onTLS is a server of profile attested-tls as one case knows it.
type onTLS struct {
	t    *T
	url  *url.URL
	addr string
}

func openTLS(t *T) *onTLS {
	u, err := url.Parse(t.Target().String())
	if err != nil || u.Scheme != "https" {
		t.NotApplicable("the target is not an https URL")
	}
	o := &onTLS{t: t, url: u, addr: u.Host}
	if u.Port() == "" {
		o.addr = net.JoinHostPort(u.Hostname(), "443")
	}
	switch t.Remembered("attested TLS") {
	case "yes":
		return o
	case "no":
		t.NotApplicable("the server neither negotiates %s nor shows a certificate with evidence", attestedtls.Protocol)
	}
	c, _, err := o.dial(o.config(attestedtls.Protocol))
	if err != nil {
		t.Failf("no TLS handshake: %v", err)
	}
	defer c.Close()
	state, is := c.ConnectionState(), "no"
	if state.NegotiatedProtocol == attestedtls.Protocol || slices.ContainsFunc(state.PeerCertificates[0].Extensions, func(e pkix.Extension) bool { return x509ev.Known(e.Id) }) {
		is = "yes"
	}
	t.Remember("attested TLS", is)
	return openTLS(t)
}

// config takes any certificate: what stands for trust is looked at by the case.
func (o *onTLS) config(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: o.url.Hostname(), NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// dial makes a TLS connection. The log says how that went.
func (o *onTLS) dial(cfg *tls.Config) (*tls.Conn, int, error) {
	ctx, cancel := context.WithTimeout(o.t.Context(), o.t.StepTimeout())
	defer cancel()
	c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", o.addr)
	if err != nil {
		return nil, o.t.Log().Add(wire.Received, "tls", []byte(err.Error())), err
	}
	conn := c.(*tls.Conn)
	s := conn.ConnectionState()
	_ = conn.SetDeadline(time.Now().Add(o.t.StepTimeout()))
	return conn, o.t.Log().Add(wire.Received, "tls", []byte(tls.VersionName(s.Version)+" "+s.NegotiatedProtocol)), nil
}

// exporter reports whether the server speaks the exporter-bound mode.
func (o *onTLS) exporter() bool {
	c, _, err := o.dial(o.config(attestedtls.Protocol))
	if err != nil {
		o.t.Failf("no TLS handshake: %v", err)
	}
	defer c.Close()
	return c.ConnectionState().NegotiatedProtocol == attestedtls.Protocol
}

func (o *onTLS) peer() *attestedtls.Peer {
	a := o.t.Trust().Appraiser
	if a == nil {
		o.t.Untestable("say what to accept as the server's evidence: --simulator, or --collateral, --corim and --policy")
	}
	return &attestedtls.Peer{Appraiser: a, Identities: []string{o.t.Target().String()},
		Forms: []x509ev.Form{x509ev.CMW, x509ev.DICECMW, x509ev.TaggedQuote}}
}

// ask sends server/discover, and returns the status line of what comes back.
func (o *onTLS) ask(c net.Conn) (string, error) {
	body := conformance.JSON(Obj{"jsonrpc": "2.0", "id": "tls", "method": "server/discover", "params": Obj{"_meta": Obj{
		conformance.MetaVersion: conformance.ModernVersion, conformance.MetaCapabilities: Obj{}, conformance.MetaClientInfo: conformance.ClientInfo}}})
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodPost, o.t.Target().String(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	for k, v := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": conformance.ModernVersion, "Mcp-Method": "server/discover"} {
		req.Header.Set(k, v)
	}
	_ = c.SetDeadline(time.Now().Add(o.t.StepTimeout()))
	if err := req.Write(c); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(c, 64<<10)).ReadString('\n')
	return strings.TrimSpace(line), err
}

// silent judges what comes back over a connection that is not attested.
func (o *onTLS) silent(c *tls.Conn, seq int) {
	line, err := o.ask(c)
	if strings.HasPrefix(line, "HTTP/") {
		o.t.Violate("it was answered: %s", line)
	}
	o.t.Refused("the connection ended: %v", err)
	o.t.Reached(seq)
	o.t.NoEffect("no HTTP answer came")
}

// inTLS are the cases of profile attested-tls.
func inTLS() []conformance.Case {
	return []conformance.Case{
		attestedTLS("handshake", "TMCP-21.1-1", conformance.Case{
			Title: "the server speaks TLS 1.3", About: "Makes a handshake that offers TLS 1.2 and 1.3.",
			Run: func(t *T) {
				o := openTLS(t)
				c, _, err := o.dial(o.config(attestedtls.Protocol))
				if err != nil {
					t.Failf("no TLS handshake: %v", err)
				}
				defer c.Close()
				if v := c.ConnectionState().Version; v != tls.VersionTLS13 {
					t.Violate("the version is %s", tls.VersionName(v))
				}
			},
		}),
		attestedTLS("tls-1.2", "TMCP-21.1-1", conformance.Case{
			Title: "TLS 1.2 is refused", Twin: "handshake", About: "Makes a handshake that offers TLS 1.2 only.",
			Run: func(t *T) {
				o := openTLS(t)
				cfg := o.config(attestedtls.Protocol)
				cfg.MaxVersion = tls.VersionTLS12
				c, seq, err := o.dial(cfg)
				if err == nil {
					c.Close()
					t.Violate("the handshake was made")
				}
				t.Refused("%v", err)
				t.Reached(seq)
				t.NoEffect("there is no connection")
			},
		}),
		attestedTLS("tickets", "TMCP-21.1-2", conformance.Case{
			Title: "the server sends no session ticket", About: "Reads on for a second after a handshake that would take tickets, with a request in the certificate mode (N35).",
			Run: func(t *T) {
				o := openTLS(t)
				kept := &tickets{}
				cfg := o.config(attestedtls.Protocol)
				cfg.ClientSessionCache = kept
				c, _, err := o.dial(cfg)
				if err != nil {
					t.Failf("no TLS handshake: %v", err)
				}
				defer c.Close()
				if c.ConnectionState().NegotiatedProtocol != attestedtls.Protocol {
					_, _ = o.ask(c)
				}
				_ = c.SetDeadline(time.Now().Add(min(time.Second, t.StepTimeout())))
				_, _ = io.CopyN(io.Discard, c, 64<<10)
				if kept.n > 0 {
					t.Violate("%d session tickets came", kept.n)
				}
			},
		}),
		attestedTLS("exporter", "TMCP-21.4-2", conformance.Case{
			Title: "the server attests itself over the connection's exporter, and then answers", About: "Opens an exporter-bound connection, has the evidence appraised, and sends server/discover.",
			Run: func(t *T) {
				o := openTLS(t)
				if !o.exporter() {
					t.NotApplicable("the server does not negotiate %s: it is of the certificate mode", attestedtls.Protocol)
				}
				d, err := attestedtls.NewDialer(attestedtls.Config{Peer: o.peer(), Timeout: t.StepTimeout()})
				if err != nil {
					t.Failf("%v", err)
				}
				defer d.Close()
				c, err := d.DialContext(t.Context(), "tcp", o.addr)
				if err != nil {
					t.Violate("%v", err)
				}
				defer c.Close()
				if line, err := o.ask(c); !strings.HasPrefix(line, "HTTP/1.1 ") {
					t.Failf("server/discover was not answered: %q, %v", line, err)
				}
			},
		}),
		attestedTLS("no-protocol", "TMCP-21.4-1", conformance.Case{
			Title: "a connection without the application protocol is closed", Twin: "exporter", About: "Makes a handshake without ALPN and sends server/discover: to answer it would be to serve whoever does not ask for attestation.",
			Run: func(t *T) {
				o := openTLS(t)
				c, seq, err := o.dial(o.config())
				if err != nil {
					t.Refused("%v", err)
					t.Reached(seq)
					t.NoEffect("there is no connection")
					return
				}
				defer c.Close()
				o.silent(c, seq)
			},
		}),
		attestedTLS("certificate", "TMCP-21.2-1", conformance.Case{
			Title: "the server's certificate holds evidence that is accepted", About: "Makes a handshake in the certificate mode, has the evidence appraised, and sends server/discover.",
			Run: func(t *T) {
				o := openTLS(t)
				if o.exporter() {
					t.NotApplicable("the server is of the exporter-bound mode")
				}
				cfg, err := attestedtls.ClientConfig(o.peer(), nil)
				if err != nil {
					t.Failf("%v", err)
				}
				c, _, err := o.dial(cfg)
				if err != nil {
					t.Violate("%v", err)
				}
				defer c.Close()
				if line, err := o.ask(c); !strings.HasPrefix(line, "HTTP/1.1 ") {
					t.Failf("server/discover was not answered: %q, %v", line, err)
				}
			},
		}),
	}
}

// tickets counts the session tickets that a server sends.
type tickets struct{ n int }

func (*tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (k *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		k.n++
	}
}
