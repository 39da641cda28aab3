package sim_test

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/sevsnp"
	"github.com/trustedmcp/tmcp/evidence/sim"
	"github.com/trustedmcp/tmcp/evidence/vendor"
)

// A simulated machine attests itself; who trusts the simulator accepts that, and
// who trusts vendors only does not.
func Example() {
	w := sim.Default()
	tee, err := w.TEE(sim.Options{Kind: evidence.SNP, Image: sha256.Sum256([]byte("my image"))})
	if err != nil {
		panic(err)
	}
	b, err := tee.Attest(context.Background(), [64]byte{1})
	if err != nil {
		panic(err)
	}
	c, err := cmw.ParseCBOR(b)
	if err != nil {
		panic(err)
	}
	trust := &evidence.Trust{Anchors: vendor.Anchors(), Simulator: w.Simulator(evidence.SNP), Now: sim.Epoch}
	r := sevsnp.New(sevsnp.Options{}).Verify(c.Record.MediaType, c.Record.Value, trust)
	fmt.Println(r.Accepted(), r.Verified().Claims().Simulated)

	trust.Simulator = nil
	r = sevsnp.New(sevsnp.Options{}).Verify(c.Record.MediaType, c.Record.Value, trust)
	fmt.Println(r.Accepted())
	// Output:
	// true true
	// false
}
