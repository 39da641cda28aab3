// Package hardware embeds evidence of real machines, for the conformance suite.
// Call [Read]. README.md has where each file is from, and its licence.
package hardware

import "embed"

//go:embed tdx/phala-v4.quote tdx/phala-v4.collateral.json sevsnp/milan-v3-vlek.report sevsnp/milan-v3.vlek.der
var files embed.FS

// Read returns a file by its name in this folder.
func Read(name string) ([]byte, error) { return files.ReadFile(name) }
