package protocol

// SealWarmRetry seals what Client.Seal would not: a next frame with retry-of.
func SealWarmRetry(c *Client, content Content, of RetryOf, outer Outer) []byte {
	var ctx *clientContext
	for _, ctx = range c.contexts {
	}
	content.Meta.RetryOf = &of
	call := &Call{client: c, ctx: ctx, outer: outer, seq: ctx.seq.Add(1)}
	frame, err := call.sealPart(nil, &content, 0, true)
	if err != nil {
		panic(err)
	}
	return frame
}
