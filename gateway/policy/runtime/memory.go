package runtime

import "github.com/tetratelabs/wazero/experimental"

var _ experimental.MemoryAllocator = (*Memory)(nil)

// heap is a linear memory of Go's heap.
type heap struct {
	b    []byte
	most uint64
}

func (h *heap) Reallocate(size uint64) []byte {
	if size > h.most {
		return nil
	}
	if size > uint64(cap(h.b)) {
		room := size
		if len(h.b) > 0 { // it grows, and may again
			room = min(2*size, h.most)
		}
		b := make([]byte, size, room)
		copy(b, h.b)
		h.b = b
	}
	h.b = h.b[:size]
	return h.b
}

func (h *heap) Free() { h.b = nil }
