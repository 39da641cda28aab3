package runtime

import (
	"sync"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// MemoryLimit is how many bytes of addresses a [Memory] reserves by default:
// room for 256 instances at the default cap of 64 MiB. Reserved is not used.
const MemoryLimit = 16 << 30

// clearBelow is the size up to which memory is cleared in place, and stays with
// the process; above, it is given back to the system, which gives zeroes.
const clearBelow = 128 << 10

// A Memory gives instances their linear memories, as Caps.Memory of policywasm:
// mappings that reserve all that an instance may ever have, and take from the
// system what it touches. Growing copies nothing, and a new instance costs no
// garbage. What is used again was zeroed before.
//
// When the limit is reached, or the system refuses, instances get memory of Go's
// heap: none is ever refused for it, so that a policy's answer does not depend on
// how many others run. How much memory there is at one time is bounded by
// Concurrent, Pool and Scan.Pages of each policy's caps.
type Memory struct {
	mu       sync.Mutex
	idle     map[uint64][][]byte // by size
	reserved uint64
	limit    uint64
	closed   bool
}

// NewMemory makes a memory that reserves up to limit bytes of addresses; 0 means
// [MemoryLimit]. It is safe for concurrent use.
func NewMemory(limit uint64) *Memory {
	if limit == 0 {
		limit = MemoryLimit
	}
	return &Memory{idle: map[uint64][][]byte{}, limit: limit}
}

// Allocate makes the memory of one instance, as [experimental.MemoryAllocator]
// wants it.
func (m *Memory) Allocate(_, most uint64) experimental.LinearMemory {
	if b := m.take(most); b != nil {
		return &mapped{m: m, b: b}
	}
	return &heap{most: most}
}

func (m *Memory) take(size uint64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if free := m.idle[size]; len(free) > 0 {
		b := free[len(free)-1]
		m.idle[size] = free[:len(free)-1]
		return b
	}
	if size == 0 || m.closed || m.limit-m.reserved < size {
		return nil
	}
	b, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	m.reserved += size
	return b
}

// give takes back a mapping of which the first used bytes were within reach.
func (m *Memory) give(b []byte, used uint64) {
	if used <= clearBelow {
		clear(b[:used])
	} else if syscall.Madvise(b[:used], syscall.MADV_DONTNEED) != nil {
		m.unmap(b)
		return
	}
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.idle[uint64(len(b))] = append(m.idle[uint64(len(b))], b)
	}
	m.mu.Unlock()
	if closed {
		m.unmap(b)
	}
}

func (m *Memory) unmap(b []byte) {
	if syscall.Munmap(b) == nil {
		m.mu.Lock()
		m.reserved -= uint64(len(b))
		m.mu.Unlock()
	}
}

// Close gives back what no instance uses; what is in use goes back when its
// instance ends.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	idle := m.idle
	m.idle = nil
	m.mu.Unlock()
	for _, bs := range idle {
		for _, b := range bs {
			m.unmap(b)
		}
	}
	return nil
}

// mapped is the memory of one instance.
type mapped struct {
	m    *Memory
	b    []byte
	used uint64 // the most that the instance had
}

func (l *mapped) Reallocate(size uint64) []byte {
	if size > uint64(len(l.b)) {
		return nil
	}
	l.used = max(l.used, size)
	return l.b[:size:size]
}

func (l *mapped) Free() {
	if l.b != nil {
		l.m.give(l.b, l.used)
		l.b = nil
	}
}
