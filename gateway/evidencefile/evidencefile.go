// Package evidencefile reads evidence and collateral from files, and tells by
// their bytes what they are. [Load] is for evidence, [Collateral] for what
// vendors say about platforms.
//
// Detecting a format decides only which verifier looks at the bytes; nothing is
// believed here.
package evidencefile

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/cmw"
	"github.com/trustedmcp/tmcp/evidence/nvidia"
	"github.com/trustedmcp/tmcp/evidence/x509ev"
)

// MaxFile is the largest file that is read, in bytes.
const MaxFile = 16 << 20

// A Piece is evidence as it was found: exactly one of CMW, Item and Certificate
// is set.
type Piece struct {
	File   string
	Format string // for people, as "TDX quote"

	CMW         []byte // CBOR
	Item        *evidence.Item
	Certificate *x509.Certificate
	Statements  []x509ev.Statement // of Certificate
}

// ErrUnknown: a file is nothing that is known.
var ErrUnknown = errors.New("unknown format: want a DCAP quote, an SEV-SNP report, a Nitro document, a CCA token, a GPU's report with its chain, a CMW, or a certificate with evidence; as bytes, hex or base64")

// Read reads a file, or stdin for "-".
func Read(name string, stdin io.Reader) ([]byte, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else {
		name = "stdin"
	}
	b, err := io.ReadAll(io.LimitReader(in, MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, MaxFile)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s: empty", name)
	}
	return b, nil
}

// Load reads evidence from files. A GPU's report and its certificate chain may
// be two files, in any order; the chain may also stand among collateral, in files
// or directories.
func Load(names []string, stdin io.Reader, collateral ...string) ([]Piece, error) {
	var pieces []Piece
	var report, chain []byte
	var reportName, chainName string
	for _, name := range names {
		b, err := Read(name, stdin)
		if err != nil {
			return nil, err
		}
		p, err := Detect(b)
		switch {
		case errors.Is(err, errReport) && report == nil:
			report, reportName = plain(b), name
		case (errors.Is(err, x509ev.ErrNoEvidence) || errors.Is(err, errCertificates)) && chain == nil && len(names) > 1:
			chain, chainName = b, name
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		default:
			p.File = name
			pieces = append(pieces, *p)
		}
	}
	if report != nil && chain == nil {
		var err error
		if chain, chainName, err = findChain(collateral); err != nil {
			return nil, err
		}
	}
	switch {
	case report == nil && chain != nil:
		return nil, fmt.Errorf("%s: %w", chainName, x509ev.ErrNoEvidence)
	case report != nil && chain == nil:
		return nil, fmt.Errorf("%s: %w: give the file with the GPU's certificate chain beside it", reportName, errReport)
	case report != nil:
		v, err := nvidia.Encode(report, chain)
		if err != nil {
			return nil, fmt.Errorf("%s with %s: %w", reportName, chainName, err)
		}
		pieces = append(pieces, Piece{File: reportName, Format: "NVIDIA GPU report", Item: &evidence.Item{MediaType: evidence.TypeNVIDIA, Value: v}})
	}
	return pieces, nil
}

// findChain looks for a chain of certificates without evidence in it. It does not
// read stdin, which others have read.
func findChain(collateral []string) (chain []byte, name string, err error) {
	files, err := expand(slices.DeleteFunc(slices.Clone(collateral), func(s string) bool { return s == "-" }))
	if err != nil {
		return nil, "", err
	}
	for _, f := range files {
		b, err := Read(f, nil)
		if err != nil {
			return nil, "", err
		}
		if _, err := Detect(b); errors.Is(err, x509ev.ErrNoEvidence) || errors.Is(err, errCertificates) {
			return b, f, nil
		}
	}
	return nil, "", nil
}

var (
	errReport       = errors.New("a GPU's SPDM report without its certificate chain")
	errCertificates = errors.New("a chain of certificates, and no evidence")
)

// Detect tells what b holds. Text is decoded first, twice at most.
func Detect(b []byte) (*Piece, error) {
	for range 3 {
		if p, err := detectBytes(b); !errors.Is(err, ErrUnknown) {
			return p, err
		}
		next, p, err := detectText(b)
		if p != nil || err != nil {
			return p, err
		}
		b = next
	}
	return nil, ErrUnknown
}

// plain undoes hex or base64.
func plain(b []byte) []byte {
	if next, _, err := detectText(b); err == nil && next != nil {
		return next
	}
	return b
}

func item(format, mediaType string, b []byte) (*Piece, error) {
	return &Piece{Format: format, Item: &evidence.Item{MediaType: mediaType, Value: b}}, nil
}

func detectBytes(b []byte) (*Piece, error) {
	if len(b) < 16 {
		return nil, ErrUnknown
	}
	switch version, key, tee := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:]); {
	case version >= 3 && version <= 5 && (key == 2 || key == 3) && tee == 0x81:
		return item(fmt.Sprintf("TDX quote, version %d", version), evidence.TypeTDX, b)
	case version >= 3 && version <= 5 && (key == 2 || key == 3) && tee < 0x10000:
		return item(fmt.Sprintf("SGX quote, version %d", version), evidence.TypeSGX, b)
	}
	if v := binary.LittleEndian.Uint32(b); len(b) >= 1184 && v >= 2 && v <= 5 && binary.LittleEndian.Uint32(b[0x34:]) == 1 {
		return item(fmt.Sprintf("SEV-SNP report, version %d", v), evidence.TypeSNP, b)
	}
	switch {
	case b[0] == 0x11 && b[1] == 0xe0: // SPDM 1.1 GET_MEASUREMENTS
		return nil, errReport
	case bytes.HasPrefix(b, []byte{0xd9, 0x01, 0x8f}), bytes.HasPrefix(b, []byte{0xd9, 0x03, 0x8b}):
		return item("Arm CCA token", evidence.TypeCCA, b)
	case bytes.HasPrefix(bytes.TrimPrefix(b, []byte{0xd2}), []byte{0x84, 0x44, 0xa1, 0x01, 0x38}):
		return item("Nitro attestation document", evidence.TypeNitro, b)
	case b[0] == 0x82 && b[1]>>5 == 2: // an array of two byte strings
		return item("NVIDIA GPU report", evidence.TypeNVIDIA, b)
	case b[0] == 0x30:
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, ErrUnknown
		}
		return certificate(c)
	}
	switch cmw.Demux(b) {
	case cmw.CBORRecord, cmw.CBORTag, cmw.CBORCollection:
		if _, err := cmw.Parse(b); err != nil {
			return nil, fmt.Errorf("a CMW in CBOR that breaks its rules: %w", err)
		}
		return &Piece{Format: "CMW", CMW: b}, nil
	}
	return nil, ErrUnknown
}

// detectText tells what a text is, or returns what it encodes.
func detectText(b []byte) ([]byte, *Piece, error) {
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return nil, nil, ErrUnknown
	}
	text := bytes.TrimSpace(b)
	if len(text) == 0 {
		return nil, nil, ErrUnknown
	}
	switch {
	case bytes.HasPrefix(text, []byte("-----BEGIN ")):
		p, err := detectPEM(text)
		return nil, p, err
	case bytes.HasPrefix(text, []byte(`[["JWT"`)): // as NVIDIA's service answers
		p, err := item("attestation result of NVIDIA", TypeJWT, text)
		return nil, p, err
	case text[0] == '{' || text[0] == '[':
		c, err := cmw.ParseJSON(text)
		if err != nil {
			return nil, nil, fmt.Errorf("JSON that is no CMW: %w", err)
		}
		enc, err := c.Encode()
		if err != nil {
			return nil, nil, err
		}
		return nil, &Piece{Format: "CMW in JSON", CMW: enc}, nil
	case bytes.HasPrefix(text, []byte("eyJ")) && bytes.Count(text, []byte(".")) == 2:
		p, err := item("attestation result, a JWT", TypeJWT, text)
		return nil, p, err
	}
	compact := strings.Join(strings.Fields(string(text)), "")
	if d, err := hex.DecodeString(strings.TrimPrefix(compact, "0x")); err == nil {
		return d, nil, nil
	}
	compact = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(compact), "=")
	if d, err := base64.RawStdEncoding.DecodeString(compact); err == nil {
		return d, nil, nil
	}
	return nil, nil, ErrUnknown
}

// TypeJWT is the media type of an EAT in a JWT (RFC 9782), such as an EAR. Tokens
// do not tell by their first bytes whose they are: all have this type here.
const TypeJWT = "application/eat+jwt"

func detectPEM(text []byte) (*Piece, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, ErrUnknown
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("a certificate that can't be read: %w", err)
	}
	p, err := certificate(c)
	if errors.Is(err, x509ev.ErrNoEvidence) && len(bytes.TrimSpace(rest)) > 0 {
		return nil, errCertificates
	}
	return p, err
}

func certificate(c *x509.Certificate) (*Piece, error) {
	x, err := x509ev.Extract(c)
	if err != nil {
		return nil, err
	}
	return &Piece{Format: "certificate with evidence (" + string(x.Statements[0].Form) + ")", Certificate: c, Statements: x.Statements}, nil
}

// Evidence returns the records of p that are, or may be, evidence.
func (p *Piece) Evidence() ([]evidence.Item, error) {
	switch {
	case p.Item != nil:
		return []evidence.Item{*p.Item}, nil
	case p.Certificate != nil:
		var items []evidence.Item
		for _, s := range p.Statements {
			items = append(items, s.Items...)
		}
		return items, nil
	}
	c, err := cmw.Parse(p.CMW)
	if err != nil {
		return nil, err
	}
	var items []evidence.Item
	err = c.Walk(func(_ cmw.Path, r *cmw.Record) error {
		if r.Ind == 0 || r.Ind&cmw.Evidence != 0 {
			t := r.MediaType
			if t == "" {
				t = r.Type()
			}
			items = append(items, evidence.Item{MediaType: t, Value: r.Value})
		}
		return nil
	})
	return items, err
}
