package sim

import (
	"fmt"
	"math/big"
	"testing"
)

// TestPrimes: what the table has are primes, and the first ones; of the latter
// one is searched for again, since each takes a fifth of a second.
func TestPrimes(t *testing.T) {
	n := 0
	for _, w := range []*World{Default(), Other()} {
		for _, product := range Products {
			for _, cn := range []string{"ARK-", "SEV-", "SEV-VLEK-"} {
				for _, f := range []string{"rsa p amd ", "rsa q amd "} {
					start := w.bytes(f+cn+product, primeSize)
					start[0] |= 0xc0
					start[primeSize-1] |= 1
					have, ok := primes[hint(start)]
					if n++; ok && n > 1 {
						p := new(big.Int).SetBytes(start)
						if !p.Add(p, big.NewInt(int64(have))).ProbablyPrime(0) {
							t.Errorf("%#08x: %d leads to no prime", hint(start), have)
						}
						continue
					}
					want, err := nextPrime(new(big.Int).SetBytes(start))
					if err != nil {
						t.Fatal(err)
					}
					if !ok || int64(have) != want {
						t.Errorf("primes.go lacks this line:\n\t%s", fmt.Sprintf("%#08x: %d,", hint(start), want))
					}
				}
			}
		}
	}
	if n != len(primes) {
		t.Errorf("%d primes in the table, want %d", len(primes), n)
	}
}
