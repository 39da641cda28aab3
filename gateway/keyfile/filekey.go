package keyfile

import (
	"encoding/pem"
	"fmt"

	"github.com/trustedmcp/tmcp/protocol"
)

// pemFileKey is the type of PEM block that a file key is kept in: no PKCS #8,
// since that has no form for hybrid keys.
const pemFileKey = "TMCP FILE KEY"

// SaveFileKey writes a file key to a new file that only its owner can read. It
// never overwrites.
func SaveFileKey(path string, key *protocol.FileKey) error {
	b, err := key.Bytes()
	if err != nil {
		return err
	}
	return saveOwn(path, &pem.Block{Type: pemFileKey, Bytes: b})
}

// LoadFileKey reads what SaveFileKey writes. A file that others can read is
// refused: whoever read it can open what was sealed to it.
func LoadFileKey(path string) (*protocol.FileKey, error) {
	b, err := readOwn(path, "tmcp keygen --hpke --identity URI --out "+path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemFileKey {
		return nil, fmt.Errorf("%s holds no PEM block %q; make one with tmcp keygen --hpke", path, pemFileKey)
	}
	key, err := protocol.ParseFileKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
