// Package aicc gets and keeps the keys of profile aicc-0.1 (specification chapter
// 23): a client's copy of the server's public key, from a file or attested by
// AICC's attestation service, and a server's private keys, from a file or made
// at random. Call [LoadClientConfig] or [LoadServerConfig] on the JSON files of
// the published package, or fill the structs, and give them to [NewClientKeys] or
// [NewServerKeys].
//
// Keys are replaced while they are in use: a file that changed is read at the
// next call, an attestation is renewed in the background before it is over, and
// a server keeps the keys that it had, so that calls sealed to them still open.
//
// A key whose attestation failed is not used, whatever attest_must says in the
// file. [Options.Unattested] is the one way around, and [Info] says so.
package aicc
