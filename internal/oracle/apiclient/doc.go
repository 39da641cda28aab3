// Package apiclient holds our verifier against Veraison's own client of the
// challenge-response API. It is a module of its own, since that client needs an
// older version of a library than the tests of the main module. Run go test in
// this folder.
package apiclient
