package openidconnect

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// TestAccessLogRecipe: with what docs/monitoring.md says, the access log of a login and a logout has no code, no state, no nonce and no
// ID token, and the request ID of our own lines. Without it, they are there.
func TestAccessLogRecipe(t *testing.T) {
	page := section(t, readFile(t, filepath.Join("docs", "monitoring.md")), "## The access log")
	recipe := regexp.MustCompile(`(?ms)^\tlog \{\n.*?^\t\}\n\tlog_append [^\n]+\n`).FindString(page)
	if !strings.Contains(recipe, "format filter") {
		t.Fatalf("the page says\n%s", recipe)
	}
	recipe = regexp.MustCompile(`output file \S+`).ReplaceAllString(recipe, "output openid_connect_test")
	for _, test := range []struct {
		name, settings string
		hides          bool
	}{
		{"without", "log {\noutput openid_connect_test\n}\n", false},
		{"as the page says", recipe, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := optest.New(t, optest.WithEndSession())
			c := startCaddy(t, test.settings+"openid_connect {\n"+loginSettingsAt(p, "")+"\n}\nreverse_proxy $UPSTREAM\n")
			takeLogs()
			v := newCaddyVisitor(t, c, p)
			v.signIn("/orders")
			v.Navigate(v.url("/oauth2/logout"))
			logs := takeLogs()

			request := p.AuthorizeRequests()[0]
			secrets := append(p.Issued(), request.Get("state"), request.Get("nonce"))
			seen, ids := 0, make(map[any]bool)
			for _, line := range logLines(t, logs, "handled request") {
				text := string(must(json.Marshal(line)))
				for _, secret := range secrets {
					if len(secret) > 20 && strings.Contains(text, secret) {
						seen++
						if test.hides {
							t.Errorf("%.20s… is in %s", secret, text)
						}
					}
				}
				ids[line["request_id"]] = true
			}
			switch {
			case !test.hides && seen < 5:
				t.Errorf("%d secrets were to be seen without it", seen)
			case test.hides && len(ids) < 4:
				t.Errorf("%d requests in the access log", len(ids))
			}
			for _, message := range []string{"login", "logout"} {
				lines := logLines(t, logs, message)
				if len(lines) != 1 || lines[0]["level"] != "info" {
					t.Fatalf("%s: %v", message, lines)
				}
				if test.hides && !ids[lines[0]["request_id"]] {
					t.Errorf("the access log does not have the request of the %s", message)
				}
			}
		})
	}
}
