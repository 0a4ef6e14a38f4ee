package openidconnect

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// example is a fenced block of a page, or a whole file.
type example struct {
	name     string // file and line
	language string
	text     string
}

var fence = regexp.MustCompile("(?ms)^([ \t]*)(`{3,}|~{3,})[ \t]*([A-Za-z0-9_-]*)[^\n]*\n(.*?)^[ \t]*(`{3,}|~{3,})[ \t]*$")

// examples returns every fence of the pages.
func examples(t *testing.T) []example {
	t.Helper()
	pages := slices.Concat(must(filepath.Glob(filepath.Join("docs", "*.md"))), must(filepath.Glob(filepath.Join("docs", "*", "*.md"))))
	if len(pages) == 0 {
		t.Fatal("no pages")
	}
	var all []example
	for _, page := range append(pages, "README.md", filepath.Join("redis", "README.md")) {
		text := strings.ReplaceAll(readFile(t, page), "\r\n", "\n")
		for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
			indentation := text[at[2]:at[3]]
			line := strings.Count(text[:at[0]], "\n") + 1
			body := text[at[8]:at[9]]
			if indentation != "" {
				body = strings.ReplaceAll("\n"+body, "\n"+indentation, "\n")[1:]
			}
			all = append(all, example{name: fmt.Sprintf("%s:%d", filepath.ToSlash(page), line), language: text[at[6]:at[7]], text: body})
		}
	}
	return all
}

// fileSettings finds the lines with settings whose arguments are files.
var fileSettings = regexp.MustCompile(`(?m)^\s*(jwks|client_private_key|client_assertion_file|error_template|tls_client_certificate|tls_trust_pool file|pem_file)\s.*$`)

// prepare puts what a Caddyfile or JSON names outside of itself in place: environment variables that are not set yet, and files below
// a directory of the test. It returns the text with the names of those files.
func prepare(t *testing.T, text string) string {
	t.Helper()
	certificatePEM, keyPEM := optest.CertificatePEM(t, optest.NewCertificate(t, nil))
	content := func(setting, name string) string {
		name = strings.ToLower(name)
		switch {
		case setting == "jwks":
			return string(optest.KeySet(optest.NewKey(t, "ES256", "1")))
		case setting == "error_template":
			return `<p>{{.Text}}</p><a href="{{.Action}}">{{.ActionText}}</a>`
		case setting == "client_private_key", strings.Contains(name, "client_key"), strings.Contains(name, "private"):
			return privateKeyPEM
		case strings.HasSuffix(name, "key"):
			return string(keyPEM)
		case setting != "" || strings.Contains(name, "cert"):
			return string(certificatePEM)
		default:
			return "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" // a secret, or whatever
		}
	}
	for _, match := range regexp.MustCompile(`\{(?:env\.|\$)([A-Za-z0-9_]+)[^}]*\}`).FindAllStringSubmatch(text, -1) {
		if _, set := os.LookupEnv(match[1]); !set {
			t.Setenv(match[1], content("", match[1]))
		}
	}
	dir := filepath.ToSlash(t.TempDir())
	file := func(setting, name string) string {
		target := dir + name
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, []byte(content(setting, name)), 0o600); err != nil {
			t.Fatal(err)
		}
		return target
	}
	text = regexp.MustCompile(`\{file\.(/[^}]+)\}`).ReplaceAllStringFunc(text, func(placeholder string) string {
		return "{file." + file("", strings.TrimSuffix(strings.TrimPrefix(placeholder, "{file."), "}")) + "}"
	})
	return fileSettings.ReplaceAllStringFunc(text, func(line string) string {
		return regexp.MustCompile(`\s/[^\s{}"]+`).ReplaceAllStringFunc(line, func(name string) string {
			return name[:1] + file(strings.Fields(line)[0], name[1:])
		})
	})
}

// redisStorage finds a storage that this build of Caddy does not have, in a Caddyfile or in JSON. The tests of that module read the same
// pages.
var redisStorage = regexp.MustCompile(`storage redis[^{}\n]*(?:\{\n(?:[^{}]|\{[a-z]+\.[^{}\s]+\})*\})?|` +
	`"storage": \{\s*"module": "redis"(?:[^{}]|\{[a-z]+\.[^{}\s]+\})*\}`)

// withoutRedis puts one in its place that this build has.
func withoutRedis(text string) string {
	return redisStorage.ReplaceAllStringFunc(text, func(found string) string {
		if strings.HasPrefix(found, `"`) {
			return `"storage": "caddy"`
		}
		return "storage caddy"
	})
}

// validate loads a configuration as "caddy validate" does.
func validate(t *testing.T, config []byte) {
	t.Helper()
	var cfg *caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
		t.Fatal(err)
	}
	// an authority of Caddy's own would be made where the developer's is
	cfg.StorageRaw = must(json.Marshal(map[string]string{"module": "file_system", "root": t.TempDir()}))
	if err := caddy.Validate(cfg); err != nil {
		t.Error(err)
	}
}

// TestCaddyfilesInPages: every Caddyfile that we show can be copied as it stands: it adapts, is formatted, and loads without a
// provider in reach.
func TestCaddyfilesInPages(t *testing.T) {
	all := append(examples(t), example{name: "example.Caddyfile", language: "caddyfile", text: readFile(t, "example.Caddyfile")})
	count := 0
	for _, shown := range all {
		if shown.language != "caddyfile" && shown.language != "Caddyfile" {
			continue
		}
		count++
		t.Run(shown.name, func(t *testing.T) {
			if formatted := string(caddyfile.Format([]byte(shown.text))); formatted != shown.text {
				t.Errorf("not formatted: %s", firstDifference(shown.text, formatted))
			}
			text := prepare(t, wholeCaddyfile(t, withoutRedis(shown.text)))
			adapted, err := adaptStrictly(t, string(caddyfile.Format([]byte(text))))
			if err != nil {
				t.Fatal(err)
			}
			if len(handlersIn(t, adapted)) == 0 {
				t.Error("there is no openid_connect in it")
			}
			validate(t, adapted)
		})
	}
	if count < 10 {
		t.Errorf("%d Caddyfiles only", count)
	}
}

// TestGoldensLoad: what the adapter makes of every part of the grammar is a configuration that Caddy loads.
func TestGoldensLoad(t *testing.T) {
	for name, value := range map[string]string{
		"ISSUER": "https://id.example.com", "KEYS": "https://id.example.com/keys", "RESOURCE": "https://api.example.com", "TOKEN_TYPE": "at+jwt",
		"HEADER": "X-Token", "ADDON": "X-Tenant", "ALGORITHM": "ES256",
		"DOMAIN": "example.com",
	} {
		t.Setenv(name, value)
	}
	for _, g := range goldens(t) {
		if g.field != "" {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			certificatePEM, keyPEM := optest.CertificatePEM(t, optest.NewCertificate(t, nil))
			for name, content := range map[string][]byte{"CERT": certificatePEM, "KEY": keyPEM} {
				file := filepath.Join(t.TempDir(), name)
				if err := os.WriteFile(file, content, 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv(name, file)
			}
			adapted, err := adaptStrictly(t, prepare(t, g.input))
			if err != nil {
				t.Fatal(err)
			}
			validate(t, adapted)
		})
	}
}

// wholeCaddyfile completes an example that shows the directive, or some of its settings, and nothing around it.
func wholeCaddyfile(t *testing.T, text string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if _, ok := subdirectives[fields[0]]; ok {
			if !strings.Contains(text, "bearer_only") {
				text += "\nbearer_only\n"
			}
			if !strings.Contains(text, "audience ") && !strings.Contains(text, "client_id ") {
				text += "\naudience api\n"
			}
			text = "openid_connect {\n" + text + "\n}"
			if !strings.Contains(text, "issuer ") {
				text = strings.Replace(text, "{", "https://id.example.com {", 1)
			}
			return ":8080 {\n" + text + "\n}\n"
		}
		if fields[0] == directive || strings.HasPrefix(fields[0], "@") {
			return ":8080 {\n" + text + "\n}\n"
		}
		return text
	}
	t.Fatal("the example is empty")
	return ""
}

// TestJSONInPages: the same for JSON, which is a handler or a whole configuration. A handler below a Caddyfile is the one in that.
func TestJSONInPages(t *testing.T) {
	count, pairs := 0, 0
	all := examples(t)
	for i, shown := range all {
		if shown.language != "json" {
			continue
		}
		count++
		t.Run(shown.name, func(t *testing.T) {
			if !json.Valid([]byte(shown.text)) {
				t.Fatal("not JSON")
			}
			text := withoutRedis(shown.text)
			var members map[string]json.RawMessage
			if err := json.Unmarshal([]byte(text), &members); err != nil {
				t.Fatal(err)
			}
			text = prepare(t, text)
			if members["handler"] == nil {
				validate(t, []byte(text))
				return
			}
			if string(members["handler"]) != `"`+directive+`"` {
				t.Fatalf("a handler of the name %s", members["handler"])
			}
			if _, err := loadHandler(t, text); err != nil {
				t.Error(err)
			}
			if i == 0 || all[i-1].language != "caddyfile" {
				return
			}
			pairs++
			adapted, err := adaptStrictly(t, withoutRedis(all[i-1].text))
			if err != nil {
				t.Fatal(err)
			}
			delete(members, "handler")
			if same := handlersIn(t, adapted)[0]; !sameJSON(t, must(json.Marshal(members)), same) {
				t.Errorf("the Caddyfile before it is\n%s", same)
			}
		})
	}
	if count < 3 || pairs < 3 {
		t.Errorf("%d objects, of which %d beside a Caddyfile, only", count, pairs)
	}
}

// TestFencesHaveLanguages: an example without one would be checked by nobody.
func TestFencesHaveLanguages(t *testing.T) {
	t.Parallel()
	for _, shown := range examples(t) {
		switch shown.language {
		case "caddyfile", "json", "console", "sh", "text", "http", "go", "yaml", "dockerfile", "mermaid", "html", "js":
		default:
			t.Errorf("%s has the language %q", shown.name, shown.language)
		}
		if shown.language != "caddyfile" && strings.Contains(shown.text, "\topenid_connect ") {
			t.Errorf("%s is a Caddyfile that says %q", shown.name, shown.language)
		}
	}
}

// TestLogsAreDocumented: whoever finds a line about the renewal or the end of sessions in the log can look it up, word by word.
func TestLogsAreDocumented(t *testing.T) {
	t.Parallel()
	page := section(t, readFile(t, filepath.Join("docs", "refresh.md")), "## Logs and metrics") +
		section(t, readFile(t, filepath.Join("docs", "logout.md")), "## Logs and metrics")
	line := regexp.MustCompile(`(?:logger\.(?:Debug|Info|Warn|Error)|warnOfStorage)\("([^"]+)"`)
	count := 0
	for _, name := range []string{
		"coordination.go", "outage.go", "records.go", "refresh.go", "renewals.go", "renewed.go", "settle.go", "stored_sessions.go", "unpublished.go",
		"admin_revoke.go", "backchannel.go", "frontchannel.go", "logout.go", "revoked.go", "rp_logout.go",
	} {
		for _, match := range line.FindAllStringSubmatch(readFile(t, name), -1) {
			count++
			if !strings.Contains(page, "`"+match[1]+"`") {
				t.Errorf("nobody learns what %s means by %q", name, match[1])
			}
		}
	}
	if count < 22 {
		t.Errorf("%d lines only", count)
	}
}

// section is what stands below a heading, up to the next of its level.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("there is no %q", heading)
	}
	level, _, _ := strings.Cut(heading, " ")
	rest, _, _ = strings.Cut(rest, "\n"+level+" ")
	return rest
}

// TestLinksInPages: links between pages lead to something, headings included.
func TestLinksInPages(t *testing.T) {
	t.Parallel()
	pages := slices.Concat(
		must(filepath.Glob("*.md")), must(filepath.Glob(filepath.Join("*", "*.md"))), must(filepath.Glob(filepath.Join("docs", "*", "*.md"))),
	)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings := make(map[string][]string)
	for _, page := range pages {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(readFile(t, page), ""), -1) {
			if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(match[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), filepath.FromSlash(file))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if headings[target] == nil && anchor != "" {
				headings[target] = anchors(t, target)
			}
			if anchor != "" && !slices.Contains(headings[target], anchor) {
				t.Errorf("%s: %s has no heading for #%s", page, target, anchor)
			}
		}
	}
}

// anchors are the identifiers that headings get where the pages are shown.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(fence.ReplaceAllString(readFile(t, page), ""), -1) {
		text := regexp.MustCompile(`[^\p{L}\p{N}\- _]`).ReplaceAllString(strings.ToLower(match[1]), "")
		all = append(all, strings.ReplaceAll(text, " ", "-"))
	}
	return all
}
