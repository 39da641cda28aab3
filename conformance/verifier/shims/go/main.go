// Command go is the shim of this module's own verifier, for
//
//	tmcp-conform verifier -- go run ./conformance/verifier/shims/go
//
// A shim of another verifier in Go would be this file, with another function in
// place of refverifier.New.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/trustedmcp/tmcp/conformance/verifier"
	"github.com/trustedmcp/tmcp/conformance/verifier/refverifier"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	verify := refverifier.New(nil)
	for in.Scan() {
		var answer *verifier.Answer
		request, err := verifier.ParseRequest(in.Bytes())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if answer = verify(request); answer == nil {
			os.Exit(89)
		}
		answer.ID = request.ID
		line, err := answer.Encode()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		fmt.Printf("%s\n", line)
	}
}
