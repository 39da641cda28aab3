package selftest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestSuiteIsSound(t *testing.T) {
	began := time.Now()
	sum, err := Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range sum.Problems {
		t.Error(p)
	}
	t.Logf("%d reference runs, %d passes, %d of %d mutants killed, %s", sum.Runs, sum.Verdicts, sum.Killed, sum.Mutants, time.Since(began))
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
