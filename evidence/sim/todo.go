package sim

import (
	"crypto/x509"
	"errors"

	"github.com/trustedmcp/tmcp/evidence"
)

type amdPKI struct{ ark, ask, asvk *authority }
type nvidiaPKI struct{ root *authority }

var Products = []string{}
var errTODO = errors.New("not yet")

func (w *World) makeAMD(string) (*amdPKI, error)     { return nil, errTODO }
func (w *World) makeAWS() (*authority, error)        { return &authority{cert: &x509.Certificate{}}, errTODO }
func (w *World) makeNVIDIA() (*nvidiaPKI, error)     { return nil, errTODO }
func (w *World) ccaKeys() ([]evidence.CCAKey, error) { return nil, errTODO }

type SNP struct {
	Image [32]byte
	Name  string
	Debug bool
}
type Nitro SNP
type CCA SNP
type GPU SNP

func (w *World) NVIDIAReport([32]byte, GPU) ([]byte, error) { return nil, errTODO }
