// Package verifier holds the cases of role verifier: key objects, evidence,
// manifests and attestation results, each with what a verifier must make of it.
// Call [Cases]; run them with [conformance.Run] against a [Subject].
//
// The verifier under test is behind a shim: a program that reads a request from
// each line of its stdin and writes an answer to each. README.md describes both,
// and the folder shims has one in Go, in Python and in TypeScript.
//
// What is verified is made when the suite runs, by simulated TEEs and from fixed
// seeds; a few pieces come from real machines. [Export] writes all of it as files.
package verifier
