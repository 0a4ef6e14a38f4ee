package openidconnect

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// writeTemplate makes a file of an operator's template.
func writeTemplate(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pages.html")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestLoadPagesErrors: a template that could fail in front of visitors is not loaded, and the error says what is wrong with it.
func TestLoadPagesErrors(t *testing.T) {
	t.Parallel()
	const good = `<a href="{{.Action}}">{{.Title}}</a>`
	if _, err := loadPages(writeTemplate(t, good)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"an action without its end":       {good + "\n{{if .Action}}", "pages.html:2: unexpected EOF"},
		"a function that there is not":    {good + "{{nonsense}}", `pages.html:1: function "nonsense" not defined`},
		"a field that there is not":       {good + "\n{{.Titel}}", "pages.html:2:2: executing \"pages.html\" at <.Titel>: can't evaluate field Titel"},
		"a field of one page only":        {good + `{{if eq .Page "loop"}}{{.Detial}}{{end}}`, `drawing the page "loop": `},
		"a field for one value only":      {good + "{{if .Account}}{{.Acount}}{{end}}", "can't evaluate field Acount"},
		"text that is missing at times":   {good + "{{slice .RequestID 0 8}}", "error calling slice"},
		"a link that is missing at times": {good + "{{slice .Action 1}}", "error calling slice"},
		"an attribute without its end":    {good + `<a href="{{.Action}}>`, "ends in a non-text context"},
		"an attribute opened at times":    {good + `<p {{if .Account}}title="{{end}}>`, "branches end in different contexts"},
		"a template that is not there":    {good + `{{template "head"}}`, `"head"`},
		"definitions only":                {`{{define "content"}}` + good + `{{end}}`, `drawing the page "continue": it is empty`},
		"nothing":                         {"", `drawing the page "continue": it is empty`},
		"nothing for a page":              {"{{if ne .Page \"loop\"}}" + good + "{{end}}\n", `drawing the page "loop": it is empty`},
		"no way on":                       {"<h1>{{.Title}}</h1>", `drawing the page "continue": it does not lead to .Action, so logins would end there`},
		"another encoding":                {good + "M\xfcller", "pages.html: not UTF-8 text"},
		"too large":                       {good + strings.Repeat(" ", maxTemplate), "pages.html: larger than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := writeTemplate(t, test.text)
			if _, err := loadPages(file); err == nil {
				t.Error("loaded")
			} else if got := err.Error(); !strings.HasPrefix(got, file+": ") || !strings.Contains(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	if _, err := loadPages(filepath.Join(t.TempDir(), "missing.html")); err == nil || !strings.Contains(err.Error(), "missing.html") {
		t.Errorf("of a missing file: %v", err)
	}
	if _, err := loadPages(t.TempDir()); err == nil || !strings.HasSuffix(err.Error(), ": not a regular file") {
		t.Errorf("of a directory: %v", err)
	}
	if _, err := loadPages(writeTemplate(t, good+strings.Repeat(" ", maxTemplate-len(good)))); err != nil {
		t.Errorf("of the largest that may be: %v", err)
	}
}

// TestTemplatePages: an operator's template draws every page, under a policy that still runs nothing and sends nothing elsewhere.
func TestTemplatePages(t *testing.T) {
	t.Parallel()
	s, err := loadPages(writeTemplate(t, `<!DOCTYPE html><style>h1 { color: red }</style><img src="/logo.svg"><h1 id="{{.Page}}">{{.Title}}</h1>`+
		`<p>{{.Status}} {{.Account}}</p><a href="{{.Action}}"{{if .NewTab}} target="_blank"{{end}}>{{.ActionText}}</a>`))
	if err != nil {
		t.Fatal(err)
	}
	for name := range pages {
		data := pageData{Page: name, Account: "<script>", Action: "/a?b=c&d='\""}
		w := drawn(t, s, http.MethodGet, data)
		for _, want := range []string{`<h1 id="` + name + `">` + pages[name].title + "</h1>", " &lt;script&gt;<", `href="/a?b=c&amp;d=%27%22"`} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: there is no %s in %s", name, want, w.Body)
			}
		}
		ancestors := "'none'"
		if name == pageFramed {
			ancestors = "*"
		}
		want := "default-src 'none'; style-src 'unsafe-inline' 'self'; img-src 'self' data:; font-src 'self'; base-uri 'none'; " +
			"form-action 'none'; frame-ancestors " + ancestors
		if got := w.Header().Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: Content-Security-Policy %q", name, got)
		}
		if w.Code != pages[name].status || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %q", name, w.Code, w.Header())
		}
	}
}

// TestTemplatePagesFail: what a template cannot draw is drawn by us, and its error is told.
func TestTemplatePagesFail(t *testing.T) {
	t.Parallel()
	s, err := loadPages(writeTemplate(t, `<a href="{{.Action}}">{{if eq .Text "fail"}}{{slice .Text 9}}{{end}}mine</a>`))
	if err != nil {
		t.Fatal(err)
	}
	if body := drawn(t, s, http.MethodGet, pageData{Page: pageDenied}).Body.String(); !strings.Contains(body, "mine") {
		t.Error(body)
	}
	data := pageData{Page: pageDenied, Text: "fail", Action: "/a"}
	var failures []error
	for _, s.failed = range []func(error){nil, func(err error) { failures = append(failures, err) }} {
		w, want := drawn(t, s, http.MethodGet, data), drawn(t, builtinPages(), http.MethodGet, data)
		if w.Code != want.Code || w.Body.String() != want.Body.String() || !maps.EqualFunc(w.Header(), want.Header(), slices.Equal) {
			t.Errorf("%d %q\n%s", w.Code, w.Header(), w.Body)
		}
	}
	if len(failures) != 1 || !strings.HasPrefix(failures[0].Error(), `drawing the page "denied": `) {
		t.Errorf("failures %v", failures)
	}
	// what is wrong with a page of ours leaves the answer to the caller
	s.fallback = nil
	w := httptest.NewRecorder()
	if err := s.write(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), data); err == nil || len(w.Header()) > 0 || w.Body.Len() > 0 {
		t.Errorf("%v, %q\n%s", err, w.Header(), w.Body)
	}
}

// TestTemplateInDocs: the template that we show loads, draws all there is to see, and the page names everything that it may use.
func TestTemplateInDocs(t *testing.T) {
	t.Parallel()
	text := readFile(t, "docs/pages.md")
	shown := 0
	for _, example := range examples(t) {
		if example.language != "html" || !strings.HasPrefix(example.name, "docs/pages.md:") {
			continue
		}
		shown++
		s, err := loadPages(writeTemplate(t, example.text))
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range samplePages() {
			data.Page = name
			body := drawn(t, s, http.MethodGet, data).Body.String()
			for _, want := range []string{pages[name].title, data.Text, data.Detail, data.Account, data.Reason, data.RequestID} {
				if !strings.Contains(body, want) {
					t.Errorf("%s: there is no %q in %s", name, want, body)
				}
			}
			if strings.Contains(body, "<a ") != (data.Action != "") || strings.Contains(body, `"refresh"`) != data.Refresh ||
				strings.Contains(body, "_blank") != data.NewTab {
				t.Errorf("%s: %s", name, body)
			}
		}
	}
	if shown != 1 {
		t.Errorf("there are %d examples", shown)
	}

	cells := func(heading string) []string {
		var names []string
		for _, match := range regexp.MustCompile("(?m)^\\| `([^`]+)` ").FindAllStringSubmatch(section(t, text, heading), -1) {
			names = append(names, match[1])
		}
		return slices.Sorted(slices.Values(names))
	}
	if got, want := cells("## The pages"), slices.Sorted(maps.Keys(pages)); !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
	var fields []string
	for field := range reflect.TypeFor[pageData]().Fields() {
		fields = append(fields, "."+field.Name)
	}
	if got, want := cells("## Your own pages"), slices.Sorted(slices.Values(fields)); !slices.Equal(got, want) {
		t.Errorf("fields %q, want %q", got, want)
	}
}
