package main

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"

	"github.com/trustedmcp/tmcp/protocol/aicc"
)

// aiccKeys writes a pair of keys of profile aicc-0.1 to PREFIXPrivateKey.pem and
// PREFIXPublicKey.pem, as that profile's users get them from openssl.
func aiccKeys() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err == nil {
		err = os.WriteFile(os.Args[1]+"PrivateKey.pem", aicc.MarshalPrivateKey(key), 0o600)
	}
	var pub []byte
	if err == nil {
		pub, err = aicc.MarshalPublicKey(&key.PublicKey)
	}
	if err == nil {
		err = os.WriteFile(os.Args[1]+"PublicKey.pem", pub, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
