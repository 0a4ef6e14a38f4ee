package openidconnect

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// TestCommandsAreDocumented: the page has every command with every flag, in its table and in the line that says how it is called, and no other.
func TestCommandsAreDocumented(t *testing.T) {
	t.Parallel()
	page := readFile(t, filepath.Join("docs", "command-line.md"))
	root := new(cobra.Command)
	caddycmd.Commands()["openid-connect"].CobraFunc(root)
	if len(root.Commands()) < 3 {
		t.Fatalf("%d commands only", len(root.Commands()))
	}
	var names []string
	for _, command := range root.Commands() {
		names = append(names, command.Name())
		t.Run(command.Name(), func(t *testing.T) { checkCommandPage(t, page, command) })
	}
	for _, heading := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		if !slices.Contains(names, heading[1]) {
			t.Errorf("the page has %s, which there is not", heading[1])
		}
	}
}

func checkCommandPage(t *testing.T, page string, command *cobra.Command) {
	t.Helper()
	text := section(t, page, "## "+command.Name())
	_, usage, ok := strings.Cut(text, "\ncaddy openid-connect "+command.Name())
	usage, _, _ = strings.Cut(usage, "\n")
	if !ok {
		t.Error("how it is called is not in the page")
	}
	var flags []string
	command.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		flags = append(flags, f.Name)
		row := regexp.MustCompile("(?m)^\\| `--" + regexp.QuoteMeta(f.Name) + "[ `].*$").FindString(text)
		switch {
		case row == "":
			t.Errorf("--%s is not in the table", f.Name)
		case f.Shorthand != "" && !strings.Contains(row, "`-"+f.Shorthand+"`"):
			t.Errorf("the table does not have -%s for --%s", f.Shorthand, f.Name)
		case f.DefValue != "" && f.DefValue != "false" && !strings.Contains(row, "`"+f.DefValue+"`"):
			t.Errorf("--%s is %s by default: %s", f.Name, f.DefValue, row)
		}
		if !strings.Contains(usage, "--"+f.Name) {
			t.Errorf("--%s is not in %q", f.Name, usage)
		}
	})
	for _, match := range regexp.MustCompile("(?:^|[\\s`\\[])--([a-z][a-z-]*)").FindAllStringSubmatch(text, -1) {
		if !slices.Contains(flags, match[1]) {
			t.Errorf("the page has --%s, which there is not", match[1])
		}
	}
}
