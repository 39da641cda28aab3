package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trustedmcp/tmcp/evidence/x509ev"
	"github.com/trustedmcp/tmcp/gateway/keyfile"
	files "github.com/trustedmcp/tmcp/gateway/sealfile"
	"github.com/trustedmcp/tmcp/gateway/tee"
	"github.com/trustedmcp/tmcp/protocol"
	"github.com/trustedmcp/tmcp/protocol/sealfile"
)

// suffix is what tmcp seal adds to a file's name, and tmcp open takes off.
const suffix = ".sealed"

func keyobjectCommand() *cobra.Command {
	var key, idKey, cert, out, teeName string
	var valid time.Duration
	var force bool
	cmd := &cobra.Command{
		Use:   "keyobject --key FILE --identity-key FILE",
		Short: "Sign the key object of a file key, for those who seal to it",
		Long: `Make the key object of a file key (tmcp keygen --hpke), signed by the identity
key: what senders give to tmcp seal --to. It is no secret: publish it anywhere.
Make a new one before it expires; files sealed to an old one open with the same
file key as before. It is never accepted for calls, as those of tmcp serve are not
accepted for files.

With --tee it carries evidence of the machine that made it. That shows which code
signed, not that the file key, which came from a file, never was elsewhere.`,
		Example: `  tmcp keygen --hpke --identity https://files.example.com/mcp --out files.key
  tmcp keyobject --key files.key --identity-key server.key --out files.keyobject`,
		Args: func(cmd *cobra.Command, args []string) error {
			if key == "" || idKey == "" {
				return usagef("name the file key with --key FILE (tmcp keygen --hpke) and the key that signs with --identity-key FILE (tmcp keygen)")
			}
			if valid < time.Minute || valid > protocol.MaxFileValidity {
				return usagef("--valid %v: want 1m to %v", valid, protocol.MaxFileValidity)
			}
			if teeName != "" && !slices.Contains(tee.Names, teeName) {
				return usagef("--tee %q: want one of %v", teeName, tee.Names)
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := keyfile.LoadFileKey(key)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			id, _, err := keyfile.LoadIdentity(k.Identity(), idKey, cert)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			cfg := protocol.FileKeyConfig{Identity: id, Validity: valid}
			if teeName != "" {
				f := trustFlags{profile: string(protocol.ProfileAttested), tee: teeName, tlsForm: string(x509ev.CMW)}
				if cfg.Attestation, err = f.attestation(cmd, nil); err != nil {
					return err
				}
			}
			now := time.Now()
			object, err := k.Object(cfg, now)
			if err != nil {
				return err
			}
			err = output(cmd, out, 0o644, force, func(w io.Writer) error {
				_, err := w.Write(object)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "tmcp keyobject: of %s, good before %s; seal with: tmcp seal --to FILE --identity %s --pin %s …\n",
				k.Identity(), now.Add(valid).UTC().Format(time.RFC3339), k.Identity(), id.Thumbprint())
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "file with the file key")
	f.StringVar(&idKey, "identity-key", "", "file with the identity key that signs")
	f.StringVar(&cert, "certificate", "", "file with that key's certificate chain, leaf first")
	f.DurationVar(&valid, "valid", 90*24*time.Hour, "how long files may be sealed to it")
	f.StringVar(&teeName, "tee", "", "add evidence of the TEE that this runs in: "+strings.Join(tee.Names, ", "))
	f.StringVarP(&out, "out", "o", "-", "file to write, or - for stdout")
	f.BoolVar(&force, "force", false, "replace the file")
	return cmd
}

func sealCommand() *cobra.Command {
	var to, identity, ca, out, name, mediaType string
	var signKey, signName, signCert string
	var pins []string
	var systemCA, noName, force bool
	var trust trustFlags
	cmd := &cobra.Command{
		Use:   "seal --to FILE|URL --identity URI --pin THUMBPRINT [FILE]",
		Short: "Seal a file or stream to a server's file key",
		Long: `Seal FILE, or stdin, to a recipient who opens it later with tmcp open. Any size, in
constant memory. The recipient is named by a key object that tmcp keyobject made,
and must prove to be --identity with a key that is pinned (--pin) or certified
(--ca, --system-ca); with --profile attested, which code made it too.

Nobody but the holder of the file key reads the result, and no part of it can be
changed, dropped, moved or added without notice. It does not say who sealed it,
unless --sign-key does. Its length shows, and whose key object was used. Whoever
gets hold of the file key later reads it: there is no forward secrecy.`,
		Example: `  tmcp seal --to files.keyobject --identity https://files.example.com/mcp --pin THUMBPRINT report.pdf
  tar c data | tmcp seal --to https://files.example.com/files.keyobject --identity https://files.example.com/mcp --system-ca --out data.tar.sealed -`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("tmcp seal takes one file, found %d", len(args))
			case to == "":
				return usagef("say to whom: --to FILE or URL of a key object, which tmcp keyobject makes")
			case identity == "":
				return usagef("say who the recipient must prove to be: --identity URI")
			case len(pins) == 0 && ca == "" && !systemCA:
				return usagef("say who may speak for %s: --pin THUMBPRINT (tmcp keyobject prints it), --ca FILE or --system-ca", identity)
			case signKey == "" && (signCert != "" || cmd.Flags().Changed("sign-identity")):
				return usagef("--sign-identity and --sign-certificate go with --sign-key")
			case to == "-" && input(args) == "-":
				return usagef("the key object and the content can't both come from stdin")
			}
			if _, _, err := mime.ParseMediaType(mediaType); mediaType != "" && err != nil {
				return usagef("--media-type %q: %v", mediaType, err)
			}
			if p := protocol.Profile(trust.profile); p != protocol.ProfileIdentity && p != protocol.ProfileAttested {
				return usagef("--profile %q: want identity or attested", trust.profile)
			}
			other := ""
			if trust.is(protocol.ProfileIdentity) {
				other = "say --profile attested to judge the recipient's evidence"
			}
			return trust.check(cmd, "tmcp seal shows no evidence of its own", other)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			want := protocol.Expect{Identity: identity, Now: now, Context: cmd.Context(),
				Profile: protocol.Profile(trust.profile), MaxEvidenceAge: trust.maxAge}
			var err error
			if want.Anchor, err = anchor(pins, ca, systemCA); err != nil {
				return err
			}
			attested := trust.is(protocol.ProfileAttested)
			_, done, err := trust.load(cmd, attested, "say --profile attested", logger(cmd.ErrOrStderr(), false))
			if err != nil {
				return err
			}
			defer done()
			if attested {
				if want.Appraiser, _, err = trust.appraiser(cmd); err != nil {
					return err
				}
			}
			recipient, err := recipientOf(cmd, to, want)
			if err != nil {
				return err
			}
			o := sealfile.Options{Now: now, Name: name, MediaType: mediaType}
			if signKey != "" {
				if o.Sender, _, err = keyfile.LoadIdentity(signName, signKey, signCert); err != nil {
					return &exitError{exitUsage, err}
				}
			}
			in, size, err := openInput(cmd, input(args))
			if err != nil {
				return err
			}
			defer in.Close()
			if o.Size, o.Sized = max(size, 0), size >= 0; name == "" && !noName && input(args) != "-" {
				o.Name = filepath.Base(input(args))
			}
			if o.MediaType == "" {
				o.MediaType = mime.TypeByExtension(filepath.Ext(o.Name))
			}
			if out == "" {
				if out = "-"; input(args) != "-" {
					out = input(args) + suffix
				}
			}
			var n int64
			err = output(cmd, out, 0o644, force, func(w io.Writer) error {
				s, err := sealfile.NewWriter(w, recipient, o)
				if err != nil {
					return err
				}
				if n, err = files.Copy(cmd.Context(), s, in); err != nil {
					return err
				}
				return s.Close()
			})
			if err != nil {
				return err
			}
			proof := ""
			if a := recipient.Appraisal(); a != nil && a.Simulated {
				proof = " (SIMULATED: it proves nothing)"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "tmcp seal: %d bytes for %s, profile %s%s\n", n, recipient.Identity(), recipient.Profile(), proof)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "FILE or URL with the recipient's key object, - for stdin")
	f.StringVar(&identity, "identity", "", "URI that the recipient must prove to be")
	f.StringArrayVar(&pins, "pin", nil, "thumbprint of a key that may speak for the recipient; may be repeated")
	f.StringVar(&ca, "ca", "", "file with certificates (PEM) that the recipient's must lead to")
	f.BoolVar(&systemCA, "system-ca", false, "accept certificates that lead to this machine's roots")
	f.StringVarP(&out, "out", "o", "", "file to write, - for stdout (default: FILE"+suffix+"; stdout for stdin)")
	f.BoolVar(&force, "force", false, "replace the file")
	f.StringVar(&name, "name", "", "name that is sealed with the content (default: that of FILE)")
	f.BoolVar(&noName, "no-name", false, "seal no name")
	f.StringVar(&mediaType, "media-type", "", "media type that is sealed with the content (default: by the name)")
	f.StringVar(&signKey, "sign-key", "", "file with the sender's identity key, to say who sealed it; the recipient alone learns that")
	f.StringVar(&signName, "sign-identity", "urn:trustedmcp:sender", "URI by which the sender is known")
	f.StringVar(&signCert, "sign-certificate", "", "file with that key's certificate chain, leaf first")
	trust.add(cmd, "recipient")
	return cmd
}

// recipientOf gets a key object and verifies it.
func recipientOf(cmd *cobra.Command, to string, want protocol.Expect) (*protocol.FileRecipient, error) {
	object, err := files.KeyObject(cmd.Context(), to, cmd.InOrStdin())
	switch {
	case errors.Is(err, files.ErrUnreachable):
		return nil, &exitError{exitUnreachable, fmt.Errorf("--to: %w", err)}
	case err != nil:
		return nil, fileError(fmt.Errorf("--to: %w", err))
	}
	r, err := protocol.VerifyFileKeyObject(object, want)
	if err != nil {
		return nil, fmt.Errorf("the key object of %s is refused: %w", to, err)
	}
	return r, nil
}

func openCommand() *cobra.Command {
	var keys, pins []string
	var sender, ca, out string
	var systemCA, force bool
	cmd := &cobra.Command{
		Use:   "open --key FILE [FILE" + suffix + "]",
		Short: "Open a file that was sealed to a file key",
		Long: `Open FILE, or stdin, with the file key that it was sealed to. The output gets its
name once all of it is proven genuine and whole; after a failure there is none. On
stdout genuine content is written as it comes, and only exit code 0 says that it
is all: have what reads it wait for that.

Whoever has the key object can seal: what comes out is not said to be anyone's,
unless --sender demands that, and --sender-pin, --sender-ca or --sender-system-ca
says who speaks for it.`,
		Example: `  tmcp open --key files.key report.pdf.sealed
  tmcp open --key files.key --sender urn:example:alice --sender-pin THUMBPRINT --out report.pdf report.pdf.sealed`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("tmcp open takes one file, found %d", len(args))
			case len(keys) == 0:
				return usagef("name the file key with --key FILE; tmcp keygen --hpke made it")
			case sender == "" && (len(pins) > 0 || ca != "" || systemCA):
				return usagef("say who the sender must be: --sender URI")
			case sender != "" && len(pins) == 0 && ca == "" && !systemCA:
				return usagef("say who may speak for %s: --sender-pin THUMBPRINT, --sender-ca FILE or --sender-system-ca", sender)
			case out == "" && input(args) != "-" && (!strings.HasSuffix(args[0], suffix) || filepath.Base(args[0]) == suffix):
				return usagef("%s does not end in %s: name the output with --out FILE", args[0], suffix)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var with []*protocol.FileKey
			for _, name := range keys {
				k, err := keyfile.LoadFileKey(name)
				if err != nil {
					return &exitError{exitUsage, err}
				}
				with = append(with, k)
			}
			trusted, err := anchor(pins, ca, systemCA)
			if err != nil {
				return err
			}
			in, _, err := openInput(cmd, input(args))
			if err != nil {
				return err
			}
			defer in.Close()
			r, err := sealfile.NewReader(in, with...)
			if err != nil {
				return err
			}
			from := "it does not say by whom"
			switch {
			case sender != "":
				s, err := r.Sender(protocol.Expect{Identity: sender, Anchor: trusted, Now: time.Now()})
				if err != nil {
					return fmt.Errorf("the sender is refused: %w", err)
				}
				from = fmt.Sprintf("sealed by %s at %s", s.Identity, s.At.UTC().Format(time.RFC3339))
			case r.Signed():
				from = "it names a sender, who is not verified: say --sender"
			}
			if out == "" {
				if out = "-"; input(args) != "-" {
					out = strings.TrimSuffix(args[0], suffix)
				}
			}
			var n int64
			err = output(cmd, out, 0o600, force, func(w io.Writer) error {
				n, err = files.Copy(cmd.Context(), w, r)
				return err
			})
			if err != nil && out == "-" && n > 0 && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("%w; the %d bytes on stdout are not the whole: discard them", err, n)
			}
			if err != nil {
				return err
			}
			m := r.Metadata()
			fmt.Fprintf(cmd.ErrOrStderr(), "tmcp open: %d bytes, name %q, media type %q; %s\n", n, m.Name, m.MediaType, from)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&keys, "key", nil, "file with a file key; may be repeated")
	f.StringVar(&sender, "sender", "", "URI that the sender must prove to be")
	f.StringArrayVar(&pins, "sender-pin", nil, "thumbprint of a key that may speak for the sender; may be repeated")
	f.StringVar(&ca, "sender-ca", "", "file with certificates (PEM) that the sender's must lead to, today")
	f.BoolVar(&systemCA, "sender-system-ca", false, "accept certificates that lead to this machine's roots")
	f.StringVarP(&out, "out", "o", "", "file to write, - for stdout (default: FILE without "+suffix+"; stdout for stdin)")
	f.BoolVar(&force, "force", false, "replace the file")
	return cmd
}

// input is the file that a command was given: stdin by default.
func input(args []string) string {
	if len(args) == 0 {
		return "-"
	}
	return args[0]
}

// openInput opens what is read. size is -1 where it is not known before.
func openInput(cmd *cobra.Command, name string) (in io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fileError(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = usagef("%s is a directory; pack it first, as with: tar c %s | tmcp seal … -", name, name)
	case !info.Mode().IsRegular():
		return f, -1, nil
	default:
		return f, info.Size(), nil
	}
	_ = f.Close()
	return nil, 0, err
}

// output has write fill a file, which appears once that succeeded, or stdout.
func output(cmd *cobra.Command, name string, mode os.FileMode, force bool, write func(io.Writer) error) error {
	if name == "-" {
		w := cmd.OutOrStdout()
		if isTerminal(w) && cmd.Name() != "open" {
			return usagef("the result is no text for a terminal: say --out FILE, or send stdout elsewhere")
		}
		return write(w)
	}
	o, err := files.Create(name, mode, force)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	defer o.Discard()
	if err := write(o); err != nil {
		return err
	}
	return o.Commit()
}
