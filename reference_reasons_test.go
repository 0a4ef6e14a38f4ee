package openidconnect

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"
)

var troubleshooting = filepath.Join("docs", "troubleshooting.md")

// levels are the names of the levels in the log as the pages write them.
var levels = map[zapcore.Level]string{
	zapcore.DebugLevel: "Debug", zapcore.InfoLevel: "Info", zapcore.WarnLevel: "Warn", zapcore.ErrorLevel: "Error",
}

// TestReasonReference: the table of reasons is that of the code; -update writes it anew.
func TestReasonReference(t *testing.T) {
	t.Parallel()
	h, err := loadHandler(t, `{"handler":"openid_connect","issuer":"https://id.example.com","client_id":"my-app"}`)
	if err != nil {
		t.Fatal(err)
	}
	told := func(reason Reason, warns bool) string {
		core, logs := zapobserver.New(zapcore.DebugLevel)
		rt := &runtime{logger: zap.New(core), now: time.Now, login: h.runtime.login}
		refused := refuse(reason)
		refused.warns = warns
		rt.logRefusal(httptest.NewRequest(http.MethodGet, "/", nil), new(requestState), refused, "id")
		if logs.Len() != 1 {
			t.Fatalf("%s: %d lines in the log", reason, logs.Len())
		}
		return levels[logs.All()[0].Level]
	}
	// what the page says above the table
	if plain, warns := told(reasonCodeExchangeFailed, false), told(reasonCodeExchangeFailed, true); plain != "Debug" || warns != "Warn" {
		t.Errorf("a login that fails is at %s, for the operator at %s", plain, warns)
	}
	var table strings.Builder
	table.WriteString("\n| reason | status | log | what the client reads | hint in the log |\n|---|---|---|---|---|\n")
	for _, reason := range reasons(t) {
		a := answers[reason]
		fmt.Fprintf(&table, "| [`%s`](#%s) | %d | %s | %s | %s |\n", reason, reason, a.status, told(reason, false), a.text, a.hint)
	}
	checkGenerated(t, troubleshooting, "reference", map[string]string{"reasons": table.String()})
}

// TestReasonsAreExplained: whoever finds a code in the log finds its heading, and below it what has caused it, how to see that, and what to do.
func TestReasonsAreExplained(t *testing.T) {
	t.Parallel()
	text := section(t, readFile(t, troubleshooting), "## Reason by reason")
	heading := regexp.MustCompile("(?m)^### `([a-z_]+)`\n")
	at := heading.FindAllStringSubmatchIndex(text, -1)
	explained := make(map[Reason]bool)
	for i, match := range at {
		reason := Reason(text[match[2]:match[3]])
		if explained[reason] {
			t.Errorf("%s is explained twice", reason)
		}
		explained[reason] = true
		if _, ok := answers[reason]; !ok {
			t.Errorf("%s is explained, which there is not", reason)
		}
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		for _, part := range []string{"- Cause: ", "- See it: ", "- Fix: "} {
			if strings.Count(text[match[1]:end], "\n"+part) != 1 {
				t.Errorf("%s does not have one %q", reason, part)
			}
		}
	}
	if all := strings.Count(text, "\n### "); all != len(at) {
		t.Errorf("%d of %d headings are reasons", len(at), all)
	}
	for _, reason := range slices.SortedFunc(slices.Values(reasons(t)), cmp.Compare[Reason]) {
		if !explained[reason] {
			t.Errorf("nobody explains %s", reason)
		}
	}
}
