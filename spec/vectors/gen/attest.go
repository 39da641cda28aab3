package main

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha512"
)

// reportDataVectors are bindings and what a TEE is to bind for them. All differ
// in one member, or in how the same bytes are split between members.
func reportDataVectors() {
	key := coseKey(ed25519.NewKeyFromSeed(seed("attested key")).Public())
	ec := coseKey(ecKey(elliptic.P256(), "attested key").Public())
	config := seed("configuration")
	for _, v := range []struct {
		name, note string
		role       int
		identity   string
		key        m
		config     []byte
		kind       int
		value      any
	}{
		{"server", "A server, at a time.", 1, "https://mcp.example.com/mcp", key, nil, 1, 1795262400},
		{"client", "The same of a client: evidence must not be reflected.", 2, "https://mcp.example.com/mcp", key, nil, 1, 1795262400},
		{"identity", "Another identity.", 1, "https://mcp.example.com/mc", key, nil, 1, 1795262400},
		{"key", "Another key, ECDSA P-256.", 1, "https://mcp.example.com/mcp", ec, nil, 1, 1795262400},
		{"config", "With a configuration digest.", 1, "https://mcp.example.com/mcp", key, config, 1, 1795262400},
		{"time", "A second later.", 1, "https://mcp.example.com/mcp", key, nil, 1, 1795262401},
		{"nonce", "For a nonce.", 1, "https://mcp.example.com/mcp", key, nil, 2, []byte("a nonce of 16 b.")},
		{"epoch", "In an epoch of the same bytes.", 1, "https://mcp.example.com/mcp", key, nil, 3, []byte("a nonce of 16 b.")},
		{"epoch-short", "An epoch of one byte.", 1, "https://mcp.example.com/mcp", key, nil, 3, []byte("e")},
		{"spiffe", "A name of SPIFFE.", 2, "spiffe://example.org/agent", key, config, 3, []byte("epoch 7")},
	} {
		var cfg, cfgText any
		if v.config != nil {
			cfg, cfgText = v.config, x(v.config)
		}
		e := enc(a{L + "report data", v.role, v.identity, v.key, cfg, a{v.kind, v.value}})
		sum := sha512.Sum512(e)
		fresh := obj{"kind": v.kind}
		if b, ok := v.value.([]byte); ok {
			fresh["value"] = x(b)
		} else {
			fresh["at"] = v.value
		}
		add("report-data", v.name, vec{req: "TMCP-18.2-1", note: v.note,
			in:  obj{"role": v.role, "identity": v.identity, "key": x(enc(v.key)), "config": cfgText, "freshness": fresh},
			out: obj{"encoded": x(e), "report_data": x(sum[:])}})
	}
}

// possessionVectors are proofs of possession by clients.
func possessionVectors() {
	key := ed25519.NewKeyFromSeed(seed("attested key"))
	ctx, server, client := seed("context")[:16], seed("server key digest"), seed("client key digest")
	p := func(ctx, server, client []byte) []byte { return enc(a{L + "possession", ctx, server, client}) }
	sig := ed25519.Sign(key, p(ctx, server, client))
	one := func(name, reason, note string, ctx, server, client, sig []byte) {
		var out any
		if reason == "" {
			out = obj{"signed": x(p(ctx, server, client))}
		}
		add("possession", name, vec{reason: reason, req: "TMCP-8.7-6", note: note, in: obj{"key": x(enc(coseKey(key.Public()))), "context": x(ctx), "server_key_digest": x(server),
			"client_key_digest": x(client), "possession": x(sig)}, out: out})
	}
	one("valid", "", "A proof of possession by an Ed25519 key.", ctx, server, client, sig)
	one("other-context", "signature-invalid", "A proof that was made for another context.", seed("another context")[:16], server, client, sig)
	one("other-server", "signature-invalid", "A proof that was made for another server.", ctx, seed("another server"), client, sig)
	one("other-object", "signature-invalid", "A proof beside another key object of the same key.", ctx, server, seed("another object"), sig)
	one("exchanged", "signature-invalid", "Server and client exchanged.", ctx, client, server, sig)
	one("flipped", "signature-invalid", "One bit of the signature.", ctx, server, client, flip(sig, 63))
	one("empty", "signature-invalid", "No signature.", ctx, server, client, []byte{})
	one("other-label", "signature-invalid", "A signature of the same key over a key object's digest.", ctx, server, client, ed25519.Sign(key, enc(a{L + "key digest", ctx, server, client})))
}
