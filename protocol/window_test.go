package protocol

import (
	"testing"

	"pgregory.net/rapid"
)

// The window does what a set of all numbers would, within its size, and never
// accepts a number twice.
func TestWindowIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen := map[uint64]bool{}
		next := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			var seq uint64
			switch rapid.IntRange(0, 4).Draw(t, "where") {
			case 0:
				seq = next
			case 1:
				seq = next + rapid.Uint64Range(0, 2*windowSize).Draw(t, "ahead")
			case 2:
				seq = rapid.Uint64Range(0, 2*maxSeq).Draw(t, "anywhere")
			default:
				seq = next - min(next, rapid.Uint64Range(0, windowSize+2).Draw(t, "behind"))
			}
			want := seq <= maxSeq && !seen[seq] && (seq >= next || next-seq <= windowSize)
			if got := w.mark(seq); got != want {
				t.Fatalf("mark(%d) is %v, want %v; next is %d", seq, got, want, next)
			}
			if want {
				seen[seq] = true
				next = max(next, seq+1)
			}
			if w.fresh(seq) {
				t.Fatalf("%d is fresh after mark", seq)
			}
		}
	})
}
