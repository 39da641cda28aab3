// Command go is the shim of this module's own policy host, for
//
//	tmcp-conform policy -- go run ./conformance/policy/shims/go
//
// A shim of another host in Go would be this file, with another function in
// place of refhost.New.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/trustedmcp/tmcp/conformance/policy"
	"github.com/trustedmcp/tmcp/conformance/policy/refhost"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 32<<20)
	host := refhost.New(policywasm.Auto, nil, nil)
	for in.Scan() {
		request, err := policy.ParseRequest(in.Bytes())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		answer := host(request)
		answer.ID = request.ID
		line, err := answer.Encode()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Printf("%s\n", line)
	}
}
