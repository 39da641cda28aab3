package sim

import (
	"crypto/x509"
	"errors"

	"github.com/trustedmcp/tmcp/evidence"
)

type nvidiaPKI struct{ root *authority }

var errTODO = errors.New("not yet")

func (w *World) makeAWS() (*authority, error)        { return &authority{cert: &x509.Certificate{}}, errTODO }
func (w *World) makeNVIDIA() (*nvidiaPKI, error)     { return nil, errTODO }
func (w *World) ccaKeys() ([]evidence.CCAKey, error) { return nil, errTODO }

type nameImage struct {
	Image [32]byte
	Name  string
	Debug bool
}
type Nitro nameImage
type CCA nameImage
type GPU nameImage

func (w *World) NVIDIAReport([32]byte, GPU) ([]byte, error) { return nil, errTODO }
