package measure

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/fxamacker/cbor/v2"

	"github.com/trustedmcp/tmcp/evidence"
)

const (
	eifHeader   = 548 // bytes: magic, version, flags, memory, CPUs, count, 32 offsets, 32 sizes, CRC
	eifSection  = 12  // bytes: type, flags, size
	eifSections = 32
	// maxEIF bounds an image file; enclaves have less memory.
	maxEIF = 64 << 30
	// maxEIFSignature bounds its section with certificate and signature.
	maxEIFSignature = 32 << 10
)

const (
	eifKernel    = 1
	eifCmdline   = 2
	eifRamdisk   = 3
	eifSignature = 4
	eifMetadata  = 5
)

// EIF measures a Nitro Enclaves image file (version 2 to 4), as nitro-cli does:
// PCR0 over kernel, command line and all ramdisks, PCR1 over kernel, command
// line and the first ramdisk, PCR2 over the others, and PCR8 over the signing
// certificate, if there is one. Each is SHA-384(48 zeros || SHA-384(sections)).
// The file's CRC must be right.
func EIF(r io.Reader) (*Reference, error) {
	head := make([]byte, eifHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("EIF header: %w", errShort)
	}
	if string(head[:4]) != ".eif" {
		return nil, errors.New("not an EIF: want the magic \".eif\"")
	}
	if v := binary.BigEndian.Uint16(head[4:]); v < 2 || v > 4 {
		return nil, fmt.Errorf("EIF version %d, want 2 to 4", v)
	}
	count := int(binary.BigEndian.Uint16(head[26:]))
	if count == 0 || count > eifSections {
		return nil, fmt.Errorf("EIF of %d sections, want 1 to %d", count, eifSections)
	}
	crc := crc32.NewIEEE()
	crc.Write(head[:eifHeader-4])
	pcr0, pcr1, pcr2 := sha512.New384(), sha512.New384(), sha512.New384()
	ref := &Reference{Kind: evidence.Nitro, Values: map[string]any{}}
	seen := map[uint16]int{}
	at := uint64(eifHeader)
	for i := range count {
		sec := make([]byte, eifSection)
		if _, err := io.ReadFull(r, sec); err != nil {
			return nil, fmt.Errorf("EIF section %d: %w", i, errShort)
		}
		kind, size := binary.BigEndian.Uint16(sec), binary.BigEndian.Uint64(sec[4:])
		if off, sz := binary.BigEndian.Uint64(head[28+8*i:]), binary.BigEndian.Uint64(head[284+8*i:]); off != at || sz != size {
			return nil, fmt.Errorf("EIF section %d: the header says %d bytes at %d, found %d at %d", i, sz, off, size, at)
		}
		if at += eifSection + size; size > maxEIF || at > maxEIF {
			return nil, fmt.Errorf("EIF section %d: more than %d bytes", i, uint64(maxEIF))
		}
		crc.Write(sec)
		into := []io.Writer{crc}
		var signature bytes.Buffer
		switch kind {
		case eifKernel, eifCmdline:
			if seen[kind] > 0 {
				return nil, fmt.Errorf("EIF section %d: a second kernel or command line", i)
			}
			into = append(into, pcr0, pcr1)
		case eifRamdisk:
			if into = append(into, pcr0); seen[kind] == 0 {
				into = append(into, pcr1)
			} else {
				into = append(into, pcr2)
			}
		case eifSignature:
			if seen[kind] > 0 || size > maxEIFSignature {
				return nil, fmt.Errorf("EIF section %d: want one signature of at most %d bytes", i, maxEIFSignature)
			}
			into = append(into, &signature)
		case eifMetadata:
		default:
			return nil, fmt.Errorf("EIF section %d: unknown type %d", i, kind)
		}
		seen[kind]++
		if _, err := io.CopyN(io.MultiWriter(into...), r, int64(size)); err != nil {
			return nil, fmt.Errorf("EIF section %d: %w", i, errShort)
		}
		if kind == eifSignature {
			der, err := eifCertificate(signature.Bytes())
			if err != nil {
				return nil, fmt.Errorf("EIF section %d: %w", i, err)
			}
			sum := sha512.New384()
			sum.Write(der)
			ref.Values["nitro.pcr8"] = extend(sum)
		}
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n != 0 || err != io.EOF {
		return nil, errors.New("EIF: bytes after the last section")
	}
	if seen[eifKernel] == 0 || seen[eifCmdline] == 0 || seen[eifRamdisk] == 0 {
		return nil, errors.New("EIF: want a kernel, a command line and a ramdisk")
	}
	if got, want := crc.Sum32(), binary.BigEndian.Uint32(head[eifHeader-4:]); got != want {
		return nil, fmt.Errorf("EIF: CRC-32 %08x, the header says %08x: the file is damaged", got, want)
	}
	ref.Values["nitro.pcr0"], ref.Values["nitro.pcr1"], ref.Values["nitro.pcr2"] = extend(pcr0), extend(pcr1), extend(pcr2)
	if seen[eifSignature] == 0 {
		ref.Notes = append(ref.Notes, "the image is not signed: PCR8 will be zeros")
	}
	return ref, nil
}

// extend is a PCR that was extended once.
func extend(h hash.Hash) []byte {
	pcr := sha512.New384()
	pcr.Write(make([]byte, sha512.Size384))
	pcr.Write(h.Sum(nil))
	return pcr.Sum(nil)
}

// eifCertificate reads the signing certificate off a signature section: an
// array with one map, whose byte strings are written as arrays of numbers.
func eifCertificate(b []byte) ([]byte, error) {
	var sigs []struct {
		Certificate []byte `cbor:"signing_certificate"`
		Signature   []byte `cbor:"signature"`
	}
	dec, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 4, MaxArrayElements: maxEIFSignature}.DecMode()
	if err != nil {
		return nil, err
	}
	if err := dec.Unmarshal(b, &sigs); err != nil || len(sigs) == 0 {
		return nil, fmt.Errorf("signature section: %d signatures: %w", len(sigs), err)
	}
	block, _ := pem.Decode(sigs[0].Certificate)
	if block == nil {
		return nil, errors.New("signature section: the certificate is no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signature section: %w", err)
	}
	return c.Raw, nil
}
