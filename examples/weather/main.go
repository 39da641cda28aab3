// Command weather is an MCP server that tells recorded weather, to one client,
// whose code it accepts, and who accepts its own.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/gateway/appraisal"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	"github.com/trustedmcp/tmcp/gateway/tee"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/transport"
	"github.com/trustedmcp/tmcp/transport/gosdk"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9002", "HOST:PORT to listen on")
	keyFile := flag.String("key", "weather.key", "file with the server's identity key, from tmcp keygen")
	clientPin := flag.String("client-pin", "", "thumbprint of the key of the client that may call")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *listen, *keyFile, *clientPin); err != nil {
		log.Fatal("weather: ", err)
	}
}

func run(ctx context.Context, listen, keyFile, clientPin string) error {
	key, err := keyfile.Load(keyFile)
	if err != nil {
		return err
	}
	client, err := protocol.ParseThumbprint(clientPin)
	if err != nil {
		return fmt.Errorf("-client-pin: %w", err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	url := "http://" + l.Addr().String() + "/mcp"
	id, err := protocol.NewIdentity(url, key)
	if err != nil {
		return err
	}

	// What this server proves: its code, by the TEE that it runs in.
	attester, _, err := tee.Open(ctx, tee.Sim, tee.Options{Simulated: sim.Options{Image: sha256.Sum256([]byte("weather"))}})
	if err != nil {
		return err
	}
	// What it demands of clients: this key, in a TEE, with code that the policy takes.
	appraiser, err := appraisal.Load(ctx, appraisal.Options{Simulator: true, Now: time.Now()})
	if err != nil {
		return err
	}
	settings, err := protocol.NewSettings(protocol.Offer{Profiles: []protocol.Profile{protocol.ProfileMutual}, ClientKey: protocol.ClientKeyDemanded})
	if err != nil {
		return err
	}
	trust, err := protocol.NewServer(protocol.ServerConfig{
		Identity: id, Settings: settings,
		Attestation: &protocol.Attestation{Attester: attester},
		Clients:     &protocol.ClientPolicy{Anchor: protocol.Pin(client), Profile: protocol.ProfileAttested, Appraiser: appraiser},
	})
	if err != nil {
		return err
	}
	// The one line that makes an MCP server trusted.
	handler, err := gosdk.Handler(newServer(), nil, transport.ServerConfig{Trust: trust})
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("/mcp", handler)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	fmt.Fprintf(os.Stderr, "weather: %s, key %s, attested by a simulated TEE, which proves nothing\n", url, id.Thumbprint())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
