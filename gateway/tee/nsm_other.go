//go:build !linux

package tee

import (
	"errors"

	"github.com/trustedmcp/tmcp/evidence/attester"
)

func openNSM(path string) (attester.Module, error) {
	return nil, errors.New(path + " is a device of Linux; this is another system")
}
