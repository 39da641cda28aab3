package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// aiccVectors are of chapter 23: answers under a known AES key, and what report
// data bind.
func aiccVectors() {
	key, nonce := seed("aicc key"), seed("aicc nonce")[:12]
	text := `{"jsonrpc":"2.0","id":1,"result":{"text":"ключ 鍵 🔑"}}`
	b := must(aes.NewCipher(key))
	g := must(cipher.NewGCM(b))
	sealed := g.Seal(nil, nonce, []byte(text), nil)
	b64 := base64.StdEncoding.EncodeToString
	cut := len(sealed) - 16
	envelope := func(nonce, mac, ciphertext string) string {
		return `{"nonce":"` + nonce + `","mac":"` + mac + `","ciphertext":"` + ciphertext + `"}`
	}
	n, m, c := b64(nonce), b64(sealed[cut:]), b64(sealed[:cut])
	good := envelope(n, m, c)
	answer := func(name, reason, note, body string) {
		v := vec{req: "TMCP-23.4-5", reason: reason, note: note, in: obj{"key": x(key), "envelope": body}}
		if reason == "" {
			v.out = obj{"nonce": x(nonce), "mac": x(sealed[cut:]), "ciphertext": x(sealed[:cut]), "text": text}
		}
		add("aicc-answer", name, v)
	}
	const malformed, failed = "malformed-envelope", "open-failed"
	answer("good", "", "As the published package writes it.", good)
	answer("other-order", "", "Members in another order, with white space.", "{ \"ciphertext\":\""+c+"\",\n\"mac\" : \""+m+"\", \"nonce\":\""+n+"\" }")
	answer("mac-altered", failed, "One bit of the tag is another.", envelope(n, b64(append([]byte{sealed[cut] ^ 1}, sealed[cut+1:]...)), c))
	answer("other-nonce", failed, "Another nonce.", envelope(b64(seed("other")[:12]), m, c))
	answer("empty-ciphertext", failed, "The ciphertext is empty, and the tag that of the message.", envelope(n, m, ""))
	answer("nonce-11-bytes", malformed, "The nonce has 11 bytes.", envelope(b64(nonce[:11]), m, c))
	answer("mac-15-bytes", malformed, "The tag has 15 bytes.", envelope(n, b64(sealed[cut:][:15]), c))
	answer("no-mac", malformed, "A member is missing.", strings.Replace(good, `"mac":"`+m+`",`, "", 1))
	answer("extra", malformed, "A member that the format does not have.", good[:len(good)-1]+`,"aad":""}`)
	answer("twice", malformed, "A member stands twice.", good[:len(good)-1]+`,"mac":"`+m+`"}`)
	answer("key", malformed, "An answer with the member of requests.", good[:len(good)-1]+`,"key":"AAAA"}`)
	answer("unpadded", malformed, "Base64 without its padding.", envelope(n, strings.TrimRight(m, "="), c))
	answer("break", malformed, "A line break within base64.", envelope(n, m, c[:8]+`\n`+c[8:]))
	answer("trailing", malformed, "Something follows.", good+"{}")
	answer("array", malformed, "Within an array.", "["+good+"]")

	const pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
	h512 := func(parts ...[]byte) []byte {
		h := sha512.New()
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	for _, v := range []struct{ name, note, nonce, pem string }{
		{"key", "A nonce and a key.", "0123456789abcdef", pem},
		{"no-key", "No key was asked for: zeros stand for it.", "0123456789abcdef", ""},
		{"pem-without-newline", "Another text of the same key is another binding.", "0123456789abcdef", strings.TrimSpace(pem)},
	} {
		n, k := sha256.Sum256([]byte(v.nonce)), [32]byte{}
		if v.pem != "" {
			k = sha256.Sum256([]byte(v.pem))
		}
		binding := append(n[:], k[:]...)
		leaf := h512([]byte{0}, []byte(hex.EncodeToString(binding)))
		left, right := h512([]byte{0}, []byte("left")), h512([]byte{0}, []byte("right"))
		root := h512([]byte{1}, h512([]byte{1}, left, leaf), right) // the second of three leaves
		add("aicc-binding", v.name, vec{req: "TMCP-23.6-4", note: v.note, in: obj{"nonce": v.nonce, "pem": v.pem, "left": x(left), "right": x(right)},
			out: obj{"report_data": x(binding), "leaf": x(leaf), "root": x(root)}})
	}
}
