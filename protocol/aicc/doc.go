// Package aicc speaks the wire format of AICC Trusted MCP, version 0.1, as the
// Python package bytedance_jeddak_trusted_mcp deploys it: profile aicc-0.1 of
// the specification (chapter 23). It is bytes in, bytes out: package
// transport/aicc carries it over HTTP.
//
// A client that has the server's RSA public key seals each request with [Seal]:
// a fresh AES-256 key encrypts the message, RSA-OAEP wraps that key. The server
// opens it with [Open], and both use the [ResponseKey] for the answer: one
// envelope for a JSON body, one for each message of an event stream
// ([NewLineSealer], [NewLineOpener]). That both know the format is said in MCP's
// initialize ([Offer], [Offered]).
//
// What it does not protect is inherent in the format: there is no forward
// secrecy, it is not post-quantum, HTTP fields, methods and statuses are outside
// of it, who the client is stays unknown, and of an event stream whole messages
// can be left out or put in another order unseen. [Caveats] names these.
package aicc

// Names on the wire.
const (
	Profile = "aicc-0.1" // how this format is called in policies, flags and reports
	Name    = "AICC"     // capabilities.experimental.trustProtocol.name
	Version = "0.1"      // capabilities.experimental.trustProtocol.version

	// Header marks an HTTP request or answer whose body is sealed. Its value is
	// "1"; the deployed package takes any that is not empty.
	Header = "X-Trusted-Mcp"

	// Names of key files where none is given.
	PrivateKeyFile = "myPrivateKey.pem"
	PublicKeyFile  = "myPublicKey.pem"
)

// Caveats are short names of what the format leaves open however it is
// implemented, for labels and reports.
func Caveats() []string {
	return []string{"no-forward-secrecy", "not-post-quantum", "http-fields-in-the-clear", "client-unknown", "stream-gaps-unseen"}
}
