package ear

import "fmt"

// A Tier is what a claim or an appraisal comes to (draft-ietf-rats-ar4si section
// 3.2).
type Tier int8

// The tiers. None: no statement can be made.
const (
	None            Tier = 0
	Affirming       Tier = 2
	Warning         Tier = 32
	Contraindicated Tier = 96
)

var tierNames = map[Tier]string{None: "none", Affirming: "affirming", Warning: "warning", Contraindicated: "contraindicated"}

// String is the tier's name in JSON.
func (t Tier) String() string {
	if s, ok := tierNames[t]; ok {
		return s
	}
	return fmt.Sprintf("tier(%d)", int8(t))
}

// rank orders tiers by trust, 0 the highest.
func (t Tier) rank() int {
	switch t {
	case Affirming:
		return 0
	case None:
		return 1
	case Warning:
		return 2
	}
	return 3
}

// Better reports whether t expresses more trust than u: affirming, then none,
// warning, contraindicated.
func (t Tier) Better(u Tier) bool { return t.rank() < u.rank() }

// A Claim is one element of a trustworthiness vector. Its tier follows from its
// value: -1 (the verifier failed), 0 (no claim) and 1 (evidence that could not be
// used) are of none; 2 to 31 and -32 to -2 are affirming, 32 to 95 and -96 to -33
// warning, 96 to 127 and -128 to -97 contraindicated. Negative ones are for
// private use.
type Claim int8

// Values of claims that the verifiers of this module use; those above the blank
// line are for every category. The others have their category in their names.
const (
	VerifierMalfunction Claim = -1
	NoClaim             Claim = 0
	UnexpectedEvidence  Claim = 1
	CryptoFailed        Claim = 99

	TrustworthyInstance   Claim = 2
	UntrustworthyInstance Claim = 96
	UnrecognizedInstance  Claim = 97

	ApprovedConfig      Claim = 2
	NoConfigVulns       Claim = 3
	UnsafeConfig        Claim = 32
	UnavailableConfig   Claim = 36 // elements of the configuration that matter are not told
	UnsupportableConfig Claim = 96

	ApprovedRuntime        Claim = 2 // executables
	ApprovedBoot           Claim = 3
	UnsafeRuntime          Claim = 32
	UnrecognizedRuntime    Claim = 33
	ContraindicatedRuntime Claim = 96

	ApprovedFiles        Claim = 2
	UnrecognizedFiles    Claim = 32
	ContraindicatedFiles Claim = 96

	GenuineHardware         Claim = 2
	UnsafeHardware          Claim = 32
	ContraindicatedHardware Claim = 96
	UnrecognizedHardware    Claim = 97

	EncryptedMemory Claim = 2 // runtime-opaque
	IsolatedMemory  Claim = 32
	VisibleMemory   Claim = 96

	HardwareKeysSecrets Claim = 2 // storage-opaque
	SoftwareKeysSecrets Claim = 32
	UnencryptedSecrets  Claim = 96

	TrustedSources         Claim = 2
	UntrustedSources       Claim = 32
	ContraindicatedSources Claim = 96
)

// Tier is the tier of the claim's range.
func (c Claim) Tier() Tier {
	switch {
	case c >= -1 && c <= 1:
		return None
	case c >= -32 && c <= 31:
		return Affirming
	case c >= -96 && c <= 95:
		return Warning
	}
	return Contraindicated
}

// The categories of claims, which index a [Vector].
const (
	InstanceIdentity = iota
	Configuration
	Executables
	FileSystem
	Hardware
	RuntimeOpaque
	StorageOpaque
	SourcedData

	categories
)

var categoryNames = [categories]string{"instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque", "storage-opaque", "sourced-data"}

// A Vector is a trustworthiness vector (draft-ietf-rats-ar4si section 3.1): a
// claim per category. 0: no claim.
type Vector [categories]Claim

// Tier is the worst tier of the claims that are made. Without a claim it is
// None; a claim of -1 or 1 keeps it from being affirming.
func (v Vector) Tier() Tier {
	worst, any := Affirming, false
	for _, c := range v {
		if c == NoClaim {
			continue
		}
		any = true
		if t := c.Tier(); worst.Better(t) {
			worst = t
		}
	}
	if !any {
		return None
	}
	return worst
}

// Name is the category's name in JSON, for an index of a [Vector].
func Name(category int) string { return categoryNames[category] }
