package signed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/trustedmcp/tmcp/internal/jsonrpc"
	policywasm "github.com/trustedmcp/tmcp/policy-wasm"
)

// Format is that of the bundles that this package writes.
const Format = "trustedmcp-policy-bundle-1"

// ManifestPath is the first member of a bundle.
const ManifestPath = "manifest.json"

// Folders of a bundle, with the only ending that names in them have.
const (
	FolderPolicies   = "policies"   // .wasm
	FolderReferences = "references" // .corim: reference values
	FolderSignatures = "signatures" // .cose: of the manifest, by digest
	FolderTests      = "tests"      // .json
)

var endings = map[string]string{FolderPolicies: ".wasm", FolderReferences: ".corim", FolderSignatures: ".cose", FolderTests: ".json"}

// name is what a member is called in its folder: no upper case, so that two
// names are two names in every file system.
var memberName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Limits bound what a bundle may hold. Start from [DefaultLimits].
type Limits struct {
	Bundle   int // bytes of the file
	Manifest int // bytes of manifest.json
	File     int // bytes of a file, and never more than [MaxModule] of a module
	Files    int // files beside the manifest
}

// DefaultLimits fit sets of policies with all of their tests.
func DefaultLimits() Limits {
	return Limits{Bundle: 64 << 20, Manifest: 1 << 20, File: MaxModule, Files: 1024}
}

const (
	maxSettings   = 256 << 10 // bytes
	manifestDepth = 40        // settings have 32
)

// A BundleManifest is manifest.json: canonical JSON (RFC 8785) with all of these
// members and no others. It names all files but the signatures, which are over
// it.
type BundleManifest struct {
	Format   string          `json:"format"`   // [Format]
	Name     string          `json:"name"`     // 1 to 128 bytes
	Version  string          `json:"version"`  // 1 to 128 bytes
	Rule     string          `json:"rule"`     // deny-overrides, first-match or all-allow
	Policies []BundlePolicy  `json:"policies"` // in the order in which they are asked; 1 to 64
	Files    map[string]File `json:"files"`    // by path
}

// A BundlePolicy is a module with what the operator's side tells it.
type BundlePolicy struct {
	Module   string         `json:"module"`   // a path in policies/
	Settings jsontext.Value `json:"settings"` // null for none
}

// A File is what the manifest says of a member.
type File struct {
	SHA256 string `json:"sha256"` // 64 lower-case hex digits
	Size   int    `json:"size"`   // bytes
}

// Sum is the digest in bytes; zeros where it is none.
func (f File) Sum() (sum [32]byte) {
	if b, err := hex.DecodeString(f.SHA256); err == nil && len(b) == len(sum) {
		copy(sum[:], b)
	}
	return sum
}

// ParseRule is the inverse of [policywasm.Rule.String].
func ParseRule(s string) (policywasm.Rule, error) {
	for _, r := range []policywasm.Rule{policywasm.DenyOverrides, policywasm.FirstMatch, policywasm.AllAllow} {
		if r.String() == s {
			return r, nil
		}
	}
	return 0, fmt.Errorf("the rule %.40q is not known; there are deny-overrides, first-match and all-allow", s)
}

// ParseManifest reads manifest.json.
func ParseManifest(b []byte, l Limits) (*BundleManifest, error) {
	m, err := parseManifest(b, l)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, ManifestPath, err)
	}
	return m, nil
}

func parseManifest(b []byte, l Limits) (*BundleManifest, error) {
	if err := jsonrpc.Check(b, jsonrpc.Limits{MaxBytes: l.Manifest, MaxDepth: manifestDepth}); err != nil {
		return nil, err
	}
	m := &BundleManifest{}
	if err := json.Unmarshal(b, m, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	if err := m.check(l); err != nil {
		return nil, err
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("it is not the one encoding of its content: want canonical JSON with all members")
	}
	return m, nil
}

func (m *BundleManifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	v := jsontext.Value(b)
	return v, v.Canonicalize()
}

func (m *BundleManifest) check(l Limits) error {
	if m.Format != Format {
		return fmt.Errorf("the format is %.40q; want %q", m.Format, Format)
	}
	if err := m.statement().check(); err != nil {
		return err
	}
	if _, err := ParseRule(m.Rule); err != nil {
		return err
	}
	if n := len(m.Policies); n < 1 || n > policywasm.MaxPolicies {
		return fmt.Errorf("%d policies; want 1 to %d", n, policywasm.MaxPolicies)
	}
	if len(m.Files) > l.Files {
		return fmt.Errorf("%d files; %d are allowed", len(m.Files), l.Files)
	}
	used := map[string]bool{}
	for i, p := range m.Policies {
		if _, ok := m.Files[p.Module]; !ok || path.Dir(p.Module) != FolderPolicies {
			return fmt.Errorf("policy %d: there is no module %.100q in %s/", i+1, p.Module, FolderPolicies)
		}
		used[p.Module] = true
		if _, err := policywasm.NewInput(p.Settings, maxSettings); err != nil {
			return fmt.Errorf("policy %d: settings: %w", i+1, err)
		}
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		f := m.Files[name]
		if err := checkPath(name); err != nil {
			return err
		}
		switch sum := f.Sum(); {
		case path.Dir(name) == FolderSignatures:
			return fmt.Errorf("%s: signatures are over the manifest, and can't stand in it", name)
		case path.Dir(name) == FolderPolicies && !used[name]:
			return fmt.Errorf("%s: no policy is made of this module", name)
		case hex.EncodeToString(sum[:]) != f.SHA256:
			return fmt.Errorf("%s: %.80q is no SHA-256 in lower-case hex", name, f.SHA256)
		case f.Size < 1 || f.Size > l.File || path.Dir(name) == FolderPolicies && f.Size > MaxModule:
			return fmt.Errorf("%s: %d bytes; 1 to %d are allowed", name, f.Size, min(l.File, MaxModule))
		}
		if total += f.Size; total > l.Bundle {
			return fmt.Errorf("files of more than %d bytes together", l.Bundle)
		}
	}
	return nil
}

func (m *BundleManifest) statement() *Statement {
	return &Statement{Kind: Manifest, Name: m.Name, Version: m.Version}
}

// checkPath: one folder and one name. There is nothing to escape with.
func checkPath(p string) error {
	folder, name, _ := strings.Cut(p, "/")
	end, ok := endings[folder]
	if !ok || !memberName.MatchString(name) || !strings.HasSuffix(name, end) || name == end {
		return fmt.Errorf("%.120q is no name in a bundle: want policies/NAME.wasm, references/NAME.corim, signatures/NAME.cose or tests/NAME.json, in lower case", p)
	}
	return nil
}

// A Bundle is policies with their rule, settings, tests and reference values in
// one file. It must not be changed.
type Bundle struct {
	manifest   BundleManifest
	encoded    []byte
	files      map[string][]byte
	signatures [][]byte
}

// NewBundle makes a bundle. Of m it fills in format and files.
func NewBundle(m BundleManifest, files map[string][]byte, l Limits) (*Bundle, error) {
	m.Format, m.Files = Format, map[string]File{}
	m.Policies = slices.Clone(m.Policies)
	for i, p := range m.Policies {
		if len(p.Settings) == 0 {
			m.Policies[i].Settings = jsontext.Value("null")
		}
	}
	for name, content := range files {
		sum := sha256.Sum256(content)
		m.Files[name] = File{hex.EncodeToString(sum[:]), len(content)}
	}
	if err := m.check(l); err != nil { // names an author's mistake better than the encoding does
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	b, err := m.encode()
	if err != nil {
		return nil, err
	}
	return Assemble(b, func(name string, _ File) ([]byte, error) { return files[name], nil }, nil, l)
}

// Assemble makes a bundle of its manifest, of files as get finds them, and of
// signatures, which are not verified. The files are those that the manifest
// says, or it is an error.
func Assemble(manifest []byte, get func(path string, f File) ([]byte, error), signatures [][]byte, l Limits) (*Bundle, error) {
	m, err := ParseManifest(manifest, l)
	if err != nil {
		return nil, err
	}
	b := &Bundle{manifest: *m, encoded: bytes.Clone(manifest), files: map[string][]byte{}}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		f := m.Files[name]
		content, err := get(name, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(content) != f.Size || sha256.Sum256(content) != f.Sum() {
			return nil, fmt.Errorf("%w: %s is not the file that the manifest names", ErrMalformed, name)
		}
		b.files[name] = content
	}
	return b.WithSignatures(signatures...)
}

// OpenBundle reads a bundle, and verifies nothing: call [Bundle.Verify]. A
// bundle has one encoding: what is accepted is what [Bundle.Bytes] writes.
func OpenBundle(b []byte, l Limits) (*Bundle, error) {
	if len(b) > l.Bundle {
		return nil, fmt.Errorf("%w: a bundle of %d bytes; %d are allowed", ErrMalformed, len(b), l.Bundle)
	}
	all, err := splitTar(bytes.Clone(b), 1+l.Files+MaxSignatures)
	if err != nil {
		return nil, fmt.Errorf("%w: tar: %w", ErrMalformed, err)
	}
	if len(all) == 0 || all[0].path != ManifestPath {
		return nil, fmt.Errorf("%w: want %s first", ErrMalformed, ManifestPath)
	}
	files := map[string][]byte{}
	var signatures [][]byte
	for _, m := range all[1:] {
		if err := checkPath(m.path); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if path.Dir(m.path) != FolderSignatures {
			files[m.path] = m.content
			continue
		}
		if m.path != signaturePath(m.content) {
			return nil, fmt.Errorf("%w: %s is named by another digest than its own", ErrMalformed, m.path)
		}
		signatures = append(signatures, m.content)
	}
	bundle, err := Assemble(all[0].content, func(name string, _ File) ([]byte, error) {
		content, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("%w: the file is missing", ErrMalformed)
		}
		return content, nil
	}, signatures, l)
	if err != nil {
		return nil, err
	}
	if len(files) != len(bundle.files) {
		return nil, fmt.Errorf("%w: a file that the manifest does not name", ErrMalformed)
	}
	return bundle, nil
}

func signaturePath(sig []byte) string {
	sum := sha256.Sum256(sig)
	return FolderSignatures + "/" + hex.EncodeToString(sum[:16]) + ".cose"
}

// IsBundle reports whether b begins as a bundle does.
func IsBundle(b []byte) bool { return bytes.HasPrefix(b, []byte(ManifestPath+"\x00")) }

// Bytes is the bundle's file.
func (b *Bundle) Bytes() []byte {
	all := []member{{ManifestPath, b.encoded}}
	for name, content := range b.files {
		all = append(all, member{name, content})
	}
	for _, s := range b.signatures {
		all = append(all, member{signaturePath(s), s})
	}
	slices.SortFunc(all, func(x, y member) int { return strings.Compare(x.path, y.path) })
	return appendTar(nil, all)
}

// WithSignatures is the bundle with these signatures beside those that it has.
func (b *Bundle) WithSignatures(more ...[]byte) (*Bundle, error) {
	c := *b
	c.signatures = slices.Clone(b.signatures)
	for _, s := range more {
		if len(s) > MaxSignature {
			return nil, fmt.Errorf("%w: a signature of %d bytes; %d are allowed", ErrMalformed, len(s), MaxSignature)
		}
		if !slices.ContainsFunc(c.signatures, func(have []byte) bool { return bytes.Equal(have, s) }) {
			c.signatures = append(c.signatures, bytes.Clone(s))
		}
	}
	slices.SortFunc(c.signatures, func(x, y []byte) int { return strings.Compare(signaturePath(x), signaturePath(y)) })
	if len(c.signatures) > MaxSignatures {
		return nil, fmt.Errorf("%w: %d signatures; %d are allowed", ErrMalformed, len(c.signatures), MaxSignatures)
	}
	return &c, nil
}

// Manifest is what the bundle says of itself.
func (b *Bundle) Manifest() BundleManifest { return b.manifest }

// ManifestBytes is manifest.json.
func (b *Bundle) ManifestBytes() []byte { return b.encoded }

// Signatures are those in the bundle, unverified.
func (b *Bundle) Signatures() [][]byte { return b.signatures }

// File is the content of a member; nil when there is none of that path.
func (b *Bundle) File(path string) []byte { return b.files[path] }

// Folder are the paths in a folder, sorted.
func (b *Bundle) Folder(folder string) []string {
	var out []string
	for name := range b.files {
		if path.Dir(name) == folder {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Digest is the SHA-256 of manifest.json, which is what is signed.
func (b *Bundle) Digest() [32]byte { return sha256.Sum256(b.encoded) }

// Statement is what there is to sign of a bundle.
func (b *Bundle) Statement() *Statement {
	s := b.manifest.statement()
	s.Digest = b.Digest()
	return s
}

// Verify is [Verify] of the manifest, with the signatures given and those in the
// bundle. The manifest's digests cover all else.
func (b *Bundle) Verify(t *Trust, more ...[]byte) (*Verified, error) {
	v, err := Verify(Manifest, b.Digest(), slices.Concat(more, b.signatures), t)
	if err != nil {
		return nil, err
	}
	return v, v.Bundle(&b.manifest)
}

// Bundle checks that a manifest whose digest was verified has the name and
// version that were signed.
func (v *Verified) Bundle(m *BundleManifest) error {
	if v.statement.Kind != Manifest || v.statement.Name != m.Name || v.statement.Version != m.Version {
		return fmt.Errorf("%w: it states %q version %q, and the manifest %q version %q", ErrOther, v.statement.Name, v.statement.Version, m.Name, m.Version)
	}
	return nil
}
