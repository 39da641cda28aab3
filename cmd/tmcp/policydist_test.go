package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

// ociRegistry is a registry of another project, on this machine. With an argument
// it knows no referrers.
func ociRegistry() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", l.Addr())
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(len(os.Args) < 2))
	fmt.Fprintln(os.Stderr, http.Serve(l, h))
	os.Exit(1)
}
