//go:build !linux

package runtime

import "github.com/tetratelabs/wazero/experimental"

// MemoryLimit is how many bytes of addresses a [Memory] reserves by default. On
// this system it reserves none.
const MemoryLimit = 16 << 30

// A Memory gives instances their linear memories. On this system they are of
// Go's heap.
type Memory struct{}

// NewMemory makes a memory. It is safe for concurrent use.
func NewMemory(uint64) *Memory { return &Memory{} }

// Allocate makes the memory of one instance.
func (m *Memory) Allocate(_, most uint64) experimental.LinearMemory { return &heap{most: most} }

// Close does nothing.
func (m *Memory) Close() error { return nil }
