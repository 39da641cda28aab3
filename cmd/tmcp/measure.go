package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence"
	"github.com/trustedmcp/tmcp/evidence/corim/tee"
	"github.com/trustedmcp/tmcp/gateway/evidencefile"
	"github.com/trustedmcp/tmcp/gateway/measure"
)

func measureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "measure",
		Short: "Compute reference values from a build",
		Long: `Compute what the evidence of a build will say, from the build itself, and write it
as a manifest (CoRIM), signed with --key, or print it.

What can't be computed here can be given with --value NAME=VALUE, from the tool
that can: MRTD and RTMRs of a TDX guest from its firmware, for one.`,
		Example: `  tmcp measure eif app.eif --out app.corim --key release.key --signer "Example Corp"
  tmcp measure sgx app.sig
  tmcp measure snp --firmware OVMF.fd --vcpus 4 --vcpu-type EPYC-v4 --kernel vmlinuz --initrd initrd.img --append "console=ttyS0"
  tmcp measure sim --tee tdx ./server`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(measureEIFCommand(), measureSGXCommand(), measureSNPCommand(), measureTDXCommand(), measureSimCommand(), measureEvidenceCommand())
	return cmd
}

// measureFlags are those of all commands that measure.
type measureFlags struct {
	manifestFlags
	vals   []string
	asJSON bool
}

func (f *measureFlags) add(cmd *cobra.Command) {
	f.manifestFlags.add(cmd, true)
	cmd.Flags().StringArrayVar(&f.vals, "value", nil, "a further value by its claim's name, NAME=VALUE; may be repeated")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON, which tmcp corim create reads")
}

func (f *measureFlags) check() error {
	if f.out == "" && f.key != "" {
		return usagef("--key signs a manifest: say where to write it, with --out FILE")
	}
	if f.out == "-" && f.asJSON {
		return usagef("--json and --out - both write to stdout")
	}
	return f.manifestFlags.check()
}

// finish prints ref, or writes its manifest.
func (f *measureFlags) finish(cmd *cobra.Command, ref *measure.Reference) error {
	if err := merge(ref, f.vals); err != nil {
		return err
	}
	for _, n := range ref.Notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", n)
	}
	if f.out != "" {
		c, err := f.manifest(ref.Kind, []map[string]any{ref.Values})
		if err != nil {
			return err
		}
		if err := f.write(cmd, c); err != nil {
			return err
		}
		if f.out == "-" {
			return nil
		}
	}
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), toValues(ref))
	}
	for _, name := range ref.Names() {
		fmt.Fprintf(cmd.OutOrStdout(), "%s=%s\n", name, measure.Format(ref.Values[name]))
	}
	return nil
}

// oneFile is Args for one file beside the flags.
func (f *measureFlags) oneFile(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s takes %s, found %d arguments", cmd.CommandPath(), what, len(args))
		}
		return f.check()
	}
}

// openFile opens a file that may be larger than memory; - is stdin.
func openFile(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError(err)
	}
	return f, nil
}

func measureEIFCommand() *cobra.Command {
	var f measureFlags
	cmd := &cobra.Command{
		Use:   "eif FILE",
		Short: "Measure a Nitro Enclaves image file: PCR0, 1, 2 and 8",
		Long: `Measure an enclave image file as nitro-cli does: PCR0 over the whole image, PCR1
over kernel and boot ramdisk, PCR2 over the application, PCR8 over the certificate
that signed it.`,
		Example: `  tmcp measure eif app.eif
  tmcp measure eif app.eif --out app.corim --key release.key --signer "Example Corp"`,
		Args: f.oneFile("the image file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := openFile(cmd, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			ref, err := measure.EIF(in)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return f.finish(cmd, ref)
		},
	}
	f.add(cmd)
	return cmd
}

func measureSGXCommand() *cobra.Command {
	var f measureFlags
	var keepSigner bool
	cmd := &cobra.Command{
		Use:   "sgx FILE",
		Short: "Read MRENCLAVE and MRSIGNER off an SGX enclave's signature",
		Long: `Read what identifies an enclave off its signature structure (SIGSTRUCT): the .sig
file of Gramine and Occlum, or a dump of sgx_sign. The structure's signature is
verified.

MRENCLAVE is this very build. With --signer-only the values are MRSIGNER, ISVPRODID
and the least ISVSVN instead: any build of that signer and product that is no older.`,
		Example: "  tmcp measure sgx app.sig",
		Args:    f.oneFile("the signature file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := evidencefile.Read(args[0], cmd.InOrStdin())
			if err != nil {
				return fileError(err)
			}
			ref, err := measure.SIGSTRUCT(b)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if keepSigner {
				delete(ref.Values, "sgx.mrenclave")
			}
			return f.finish(cmd, ref)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&keepSigner, "signer-only", false, "leave MRENCLAVE out")
	return cmd
}

func measureSNPCommand() *cobra.Command {
	var f measureFlags
	var in measure.SNPLaunch
	var firmware, kernel, initrd, cmdline, vmm string
	cmd := &cobra.Command{
		Use:   "snp --firmware FILE --vcpus N",
		Short: "Compute the launch measurement of an SEV-SNP guest",
		Long: `Compute the launch measurement of an SEV-SNP guest that boots with OVMF: over the
firmware, the state that its virtual CPUs start with and, for direct boot, the
digests of kernel, initrd and command line. The result is that of sev-snp-measure.

It holds for a guest that was started exactly so: with that number of CPUs, that
CPU model of QEMU, and those SEV features.`,
		Example: `  tmcp measure snp --firmware OVMF.amdsev.fd --vcpus 4 --vcpu-type EPYC-v4 \
    --kernel vmlinuz --initrd initrd.img --append "console=ttyS0"
  tmcp measure snp --firmware ovmf_img.fd --vcpus 2 --vmm ec2`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := noArgs(cmd, args); err != nil {
				return err
			}
			if firmware == "" || in.VCPUs == 0 {
				return usagef("give --firmware FILE and --vcpus N")
			}
			if kernel == "" && (initrd != "" || cmdline != "") {
				return usagef("--initrd and --append go with --kernel")
			}
			return f.check()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := readFirmware(cmd, firmware)
			if err != nil {
				return err
			}
			in.Firmware, in.VMM = b, measure.VMM(vmm)
			if kernel != "" {
				in.Boot = &measure.BootHashes{Initrd: sha256.Sum256(nil), Cmdline: measure.CmdlineHash(cmdline)}
				for _, file := range []struct {
					name string
					sum  *[32]byte
				}{{kernel, &in.Boot.Kernel}, {initrd, &in.Boot.Initrd}} {
					if file.name == "" {
						continue
					}
					if *file.sum, err = hashFile(cmd, file.name); err != nil {
						return err
					}
				}
			}
			ref, err := measure.SNP(in)
			if err != nil {
				return err
			}
			return f.finish(cmd, ref)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&firmware, "firmware", "", "OVMF image")
	fl.IntVar(&in.VCPUs, "vcpus", 0, "number of virtual CPUs")
	fl.StringVar(&in.VCPUType, "vcpu-type", "EPYC-v4", "CPU model that QEMU was told: EPYC-v4, EPYC-Milan, EPYC-Genoa, EPYC-Turin, …")
	fl.StringVar(&vmm, "vmm", "qemu", "hypervisor: qemu, ec2 or gce")
	fl.Uint64Var(&in.Features, "sev-features", 1, "SEV_FEATURES of the virtual CPUs; bit 0 is SEV-SNP")
	fl.StringVar(&kernel, "kernel", "", "kernel of a direct boot")
	fl.StringVar(&initrd, "initrd", "", "its initial ramdisk")
	fl.StringVar(&cmdline, "append", "", "its command line")
	return cmd
}

// readFirmware reads at most what firmware can have.
func readFirmware(cmd *cobra.Command, name string) ([]byte, error) {
	in, err := openFile(cmd, name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	const most = 64 << 20
	var b bytes.Buffer
	if n, err := io.Copy(&b, io.LimitReader(in, most+1)); err != nil || n > most {
		return nil, fmt.Errorf("%s: larger than %d bytes, or unreadable: %v", name, most, err)
	}
	return b.Bytes(), nil
}

func hashFile(cmd *cobra.Command, name string) (sum [32]byte, err error) {
	in, err := openFile(cmd, name)
	if err != nil {
		return sum, err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return sum, err
	}
	return [32]byte(h.Sum(nil)), nil
}

func measureTDXCommand() *cobra.Command {
	var f measureFlags
	cmd := &cobra.Command{
		Use:   "tdx EVENT-LOG",
		Short: "Replay the event log of a TDX guest into its RTMRs",
		Long: `Replay an event log (CCEL), as in /sys/firmware/acpi/tables/data/CCEL of a guest,
into the RTMRs that it led to. These are what that guest booted, so take the log
from a machine that you rely on.

MRTD is over the firmware as it was launched, and is not computed here: give it with
--value tdx.mrtd=…, from the tool of the firmware's maker, or take all values from a
machine that you rely on with tmcp measure evidence.`,
		Example: "  tmcp measure tdx CCEL --value tdx.mrtd=91eb2b44…",
		Args:    f.oneFile("the event log"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := evidencefile.Read(args[0], cmd.InOrStdin())
			if err != nil {
				return fileError(err)
			}
			ref, err := measure.EventLog(b)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return f.finish(cmd, ref)
		},
	}
	f.add(cmd)
	return cmd
}

func measureSimCommand() *cobra.Command {
	var f measureFlags
	var kind string
	cmd := &cobra.Command{
		Use:     "sim --tee KIND IMAGE",
		Short:   "Measure an image as a simulated TEE does",
		Long:    "Compute what a simulated TEE measures of an image: any file, such as the program\nthat tmcp serve --tee sim runs as.",
		Example: "  tmcp measure sim --tee tdx $(which tmcp) --out tmcp.corim",
		Args:    f.oneFile("the image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := openFile(cmd, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			ref, err := measure.Simulated(evidence.Kind(kind), in)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("--tee: %w", err)}
			}
			return f.finish(cmd, ref)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&kind, "tee", "tdx", "kind of TEE: tdx, sgx, sev-snp, nitro or cca")
	return cmd
}

func measureEvidenceCommand() *cobra.Command {
	var f measureFlags
	var flags appraisalFlags
	var names []string
	cmd := &cobra.Command{
		Use:   "evidence FILE…",
		Short: "Take reference values from evidence of a machine that you rely on",
		Long: `Verify evidence and take the values that identify its software. Do so with a machine
that you set up yourself: what it runs becomes what you accept.

` + formats,
		Example: "  tmcp measure evidence quote.bin --collateral collateral.json --out golden.corim --key release.key --signer me",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return someFiles(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a, now, err := flags.load(cmd)
			if err != nil {
				return err
			}
			pieces, err := evidencefile.Load(args, cmd.InOrStdin())
			if err != nil {
				return fileError(err)
			}
			todo, err := (&bindingFlags{role: "server"}).verifications(pieces, now)
			if err != nil {
				return err
			}
			if len(todo) != 1 {
				return usagef("give one piece of evidence, found %d", len(todo))
			}
			r := a.Evaluate(todo[0].in)
			if err := r.Err(); err != nil {
				return fmt.Errorf("the evidence is refused: %w", err)
			}
			d := r.Devices[0]
			ref := &measure.Reference{Kind: d.Kind, Values: map[string]any{}}
			if len(names) == 0 {
				names = tee.Defaults(d.Kind)
			}
			if len(names) == 0 {
				return usagef("say which claims of %s to take: --claim NAME", d.Kind)
			}
			for _, name := range names {
				v, ok := d.Claims.Values[name]
				if !ok {
					return usagef("--claim %s: the evidence has no such claim", name)
				}
				ref.Values[name] = v
			}
			// These choose the environment that the others are of.
			for _, name := range []string{"snp.signingkey", "nvidia.arch", "cca.hashalg"} {
				if v, ok := d.Claims.Values[name]; ok {
					ref.Values[name] = v
				}
			}
			if rest := len(r.Devices) - 1; rest > 0 {
				ref.Notes = append(ref.Notes, fmt.Sprintf("of %d pieces of evidence the first is taken", rest+1))
			}
			if r.Simulated {
				ref.Notes = append(ref.Notes, "the TEE is simulated")
			}
			return f.finish(cmd, ref)
		},
	}
	f.add(cmd)
	flags.add(cmd)
	flags.addTime(cmd)
	cmd.Flags().StringSliceVar(&names, "claim", nil, "claims to take (default: those that identify the software, as "+strings.Join(tee.Defaults(evidence.TDX), ",")+")")
	return cmd
}
