package openidconnect

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "openid-connect",
		Usage: "<command>",
		Short: "Helps to set up logins and bearer tokens, and to find out what is wrong with them",
		Long: `
Commands for the openid_connect handler. None of them changes anything, and none
needs a Caddy that runs.

Each ends with the exit code 0 if all is well, 1 if it could not be carried out
(a wrong argument, no such file, no answer), and 2 if the answer is no: the
provider cannot be used, the token is refused, an attribute has no counterpart.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.AddCommand(inspectCommand(), explainCommand(), convertAPISIXCommand(), secretCommand())
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		},
	})
}

// exitNo ends a command that has found out what it was asked, when that is a no.
const exitNo = 2

// endWithNo ends a command with [exitNo] and without another word. Caddy's type for an error with an exit code is not exported; this is the way
// to make one.
func endWithNo(cmd *cobra.Command) error {
	cmd.SilenceErrors = true
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return exitNo, nil })(cmd, nil)
}

// maxCommandInput bounds what commands read.
const maxCommandInput = 16 << 20

// readInput reads a file, or the standard input if its name is "-".
func readInput(cmd *cobra.Command, name string) ([]byte, error) {
	input := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		input = file
	}
	text, err := io.ReadAll(io.LimitReader(input, maxCommandInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", inputName(name), err)
	case len(text) > maxCommandInput:
		return nil, fmt.Errorf("%s is larger than %d MiB", inputName(name), maxCommandInput>>20)
	default:
		return text, nil
	}
}

// inputName is what people call a file that they have named.
func inputName(name string) string {
	if name == "-" {
		return "the standard input"
	}
	return name
}

// printJSON is what --json prints.
func printJSON(cmd *cobra.Command, answer any) error {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		return err
	}
	_, err := io.WriteString(cmd.OutOrStdout(), escapeUnprintable(text.String()))
	return err
}

// escapeUnprintable writes what is not printable in JSON as an escape, which means the same and does nothing to a terminal.
func escapeUnprintable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// onTerminal keeps what others have written from doing anything to a terminal but standing on it.
func onTerminal(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, text)
}

const secretBytes = 32

func secretCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "secret [--json]",
		Short: "Makes a secret for the session block",
		Long: `
Prints 32 random bytes as text, for "secret" in the session block. Only those who
run several instances without a common storage need one: by default Caddy makes
its keys, keeps them in its storage and renews them.

To change a secret without logging anybody out, put the new one before the old one.`,
		Example: `  caddy openid-connect secret
  echo "OIDC_SESSION_SECRET=$(caddy openid-connect secret)" >> /etc/caddy/environment`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret := make([]byte, secretBytes)
			rand.Read(secret) // it never fails: the program would end
			text := base64.RawURLEncoding.EncodeToString(secret)
			if asJSON {
				return printJSON(cmd, map[string]string{"secret": text})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

// exactlyOneArgument says what is missing, or that there is too much.
func exactlyOneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 1 && args[0] != "":
			return nil
		case len(args) <= 1:
			return fmt.Errorf("%s is missing; see %s --help", what, cmd.CommandPath())
		default:
			return errors.New("there is one argument too many: " + what + " is all that is wanted")
		}
	}
}
