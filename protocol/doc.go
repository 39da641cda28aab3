// Package protocol is the core of Trusted MCP: it negotiates trust between an
// MCP client and server, names and verifies keys, and seals messages end to
// end. It is pure: bytes in, bytes out, with the time as an argument; package
// transport puts it on the wire.
//
// A client makes two calls. [VerifyKeyObject] turns what the server sent (in
// server/discover, initialize or trust/attest) into a [Peer], or says why not;
// [NewClient] seals to that peer:
//
//	peer, err := protocol.VerifyKeyObject(object, protocol.Expect{
//		Identity: "https://api.example.com/mcp",
//		Anchor:   protocol.Pin(thumbprint),
//		Settings: announced,
//		Now:      time.Now(),
//	})
//	client, err := protocol.NewClient(peer, mine)
//	call, frame, err := client.Seal(content, protocol.Outer{Carrier: protocol.Envelope}, time.Now())
//	// send frame; for each answer frame:
//	content, final, err := call.Open(answer)
//	// when the answer is over:
//	err = call.Close() // fails if the final frame is missing
//
// A server makes two calls: [NewServer] once, and [Server.Open] for each
// message; [Request.Seal] makes the frames of the answer.
//
// What the package guarantees, and what it does not, is the subject of the
// specification in spec/. In short: what a [Request] or an opened answer holds
// was sealed by the other end of a negotiation that both ends agree on,
// arrived unaltered, in order and once. A peer's [Error] on the wire is not
// authenticated; it is a reason to seal afresh, never to send plaintext.
package protocol
