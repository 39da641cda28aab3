package transport

// LabelResults returns a message, or a batch of them, with each result's label
// ([protocol.MetaStatus] in _meta) set to status, a JSON value. A label that the
// peer put there itself is replaced. It is for transports of other profiles, which
// label what they hand on as [RoundTripper] does. Errors are about the message's
// form: one that two readers may read differently must not be handed on.
func LabelResults(message, status []byte) ([]byte, error) { return labelResults(message, status) }
