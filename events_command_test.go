package openidconnect

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func init() {
	caddy.RegisterModule(new(commandHandler))
}

// commandHandler stands in for github.com/mholt/caddy-events-exec, which docs/events.md shows and no build of ours has: it goes by the same
// name, reads the same Caddyfile and JSON, and runs the command, but waits for it.
type commandHandler struct {
	Command string   `json:"command"`
	Args    []string `json:"args,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*commandHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.exec", New: func() caddy.Module { return new(commandHandler) }}
}

// UnmarshalCaddyfile reads "exec <command> <args...>".
func (h *commandHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume the module's name
	if !d.NextArg() {
		return d.ArgErr()
	}
	h.Command, h.Args = d.Val(), d.RemainingArgs()
	return nil
}

// Handle implements caddyevents.Handler.
func (h *commandHandler) Handle(ctx context.Context, _ caddy.Event) error {
	replacer, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return fmt.Errorf("no replacer in %T", ctx)
	}
	args := slices.Clone(h.Args)
	for i := range args {
		args[i] = replacer.ReplaceAll(args[i], "")
	}
	return exec.CommandContext(ctx, h.Command, args...).Run()
}

// Interface guards
var (
	_ caddyevents.Handler   = (*commandHandler)(nil)
	_ caddyfile.Unmarshaler = (*commandHandler)(nil)
)

// TestEventsRunCommands: the Caddyfile of the page about events runs its command when somebody logs in, with the arguments that it says.
func TestEventsRunCommands(t *testing.T) {
	page := readFile(t, filepath.Join("docs", "events.md"))
	const command = "/usr/local/bin/tell"
	subscriptions := regexp.MustCompile(`(?ms)^\tevents \{\n.*?^\t\}$`).FindString(page)
	if strings.Count(subscriptions, " exec "+command+" ") != 2 {
		t.Fatalf("the page has %q", subscriptions)
	}
	folder := t.TempDir()
	script, told := filepath.Join(folder, "tell"), filepath.Join(folder, "told")
	if err := os.WriteFile(script, []byte("printf '%s\\n' \"$*\" >> '"+told+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "", "username_claim email\nscope openid email")+toUpstream, strings.ReplaceAll(subscriptions, command, "/bin/sh "+script))
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	lines := strings.Split(strings.TrimSpace(readFile(t, told)), "\n")
	want := regexp.MustCompile(`^login ` + regexp.QuoteMeta(p.Issuer()) + ` alice@example\.com [0-9a-f-]{36}$`)
	if len(lines) != 1 || !want.MatchString(lines[0]) {
		t.Errorf("the command was told %q", lines)
	}
}

// TestEventsAreDocumented: the page names every event, and all that comes with it.
func TestEventsAreDocumented(t *testing.T) {
	t.Parallel()
	page := readFile(t, filepath.Join("docs", "events.md"))
	rows := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(openid_connect\\.[a-z_]+)` \\|(.*)$").FindAllStringSubmatch(page, -1) {
		rows[row[1]] = row[2]
	}
	names := make(map[string]string)
	for _, match := range regexp.MustCompile(`(event[A-Z]\w*)\s*= "(openid_connect\.[a-z_]+)"`).FindAllStringSubmatch(readFile(t, "events.go"), -1) {
		names[match[1]] = match[2]
		if rows[match[2]] == "" {
			t.Errorf("the page does not have %s", match[2])
		}
	}
	emits := regexp.MustCompile(`emit\((?:r|nil|o\.issuer)?,? ?(event[A-Z]\w*)[^{\n]*(?:map\[string\]any\{(.*)\})?\)`)
	used := make(map[string]bool)
	for _, file := range must(filepath.Glob("*.go")) {
		for _, match := range emits.FindAllStringSubmatch(readFile(t, file), -1) {
			used[match[1]] = true
			for _, key := range regexp.MustCompile(`"([a-z_]+)":`).FindAllStringSubmatch(match[2], -1) {
				if !strings.Contains(rows[names[match[1]]], "`"+key[1]+"`") {
					t.Errorf("the page does not have %s of %s", key[1], names[match[1]])
				}
			}
		}
	}
	if len(names) != len(rows) || len(names) != len(used) {
		t.Errorf("%d events, %d of them used and %d in the page", len(names), len(used), len(rows))
	}
	for _, key := range regexp.MustCompile(`(?:told\[|map\[string\]any\{)"([a-z_]+)"`).FindAllStringSubmatch(readFile(t, "events.go"), -1) {
		if !strings.Contains(page, "`"+key[1]+"`") {
			t.Errorf("the page does not have %s", key[1])
		}
	}
}
