package openidconnect

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // for the built-in pages
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// The pages there are.
const (
	pageError        = "error"
	pageDenied       = "denied"
	pageUnavailable  = "unavailable"
	pageLoop         = "loop"
	pageSessionEnded = "session_ended"
	pageSignOut      = "sign_out"
	pageFramed       = "framed"
	pageContinue     = "continue"
	pageSignedOut    = "signed_out"
)

// pageDefaults is what a page shows unless it is told otherwise.
type pageDefaults struct {
	status     int
	title      string
	text       string
	actionText string
}

var pages = map[string]pageDefaults{
	pageError: {
		http.StatusBadRequest, "Something went wrong",
		"Your request could not be answered.", "Try again",
	},
	pageDenied: {
		http.StatusForbidden, "You do not have access",
		"Access is denied by a rule of this site.", "Use another account",
	},
	pageUnavailable: {
		http.StatusServiceUnavailable, "Sign-in is not available",
		"The identity provider cannot be reached at the moment.", "Try again",
	},
	pageLoop: {
		http.StatusBadRequest, "Sign-in keeps starting over",
		"You have signed in several times within a minute, and each time this site did not recognize you afterwards.", "Try again",
	},
	pageSessionEnded: {
		http.StatusUnauthorized, "Your session has ended",
		"What you just sent has not been passed on. Sign in, then send it again.", "Sign in",
	},
	pageFramed: {
		http.StatusUnauthorized, "Sign in outside of this frame",
		"This page is shown inside another one, and signing in does not work there.", "Open in a new tab",
	},
	pageContinue: {
		http.StatusOK, "One moment",
		"You are on your way to the page that you asked for.", "Continue",
	},
	pageSignOut: {
		http.StatusOK, "Sign out?",
		"Another page has sent you here. You are still signed in.", "Sign out",
	},
	pageSignedOut: {
		http.StatusOK, "You are signed out",
		"Sign in again to go on using this site.", "Sign in",
	},
}

// pageData is what a page can show. The exported fields are those of an operator's template too; docs/pages.md describes them.
type pageData struct {
	Page       string // one of the constants above
	Status     int    // filled from Page when 0
	Title      string // filled from Page when empty
	Text       string // one or two plain sentences; filled from Page when empty
	Detail     string // a further paragraph: the diagnosis of a loop
	Reason     string // code of a refusal
	RequestID  string
	Account    string // who is signed in
	Action     string // where the one link leads: a path, or an http(s) URL; anything else is dropped, and there is no link
	ActionText string // filled from Page when empty

	NewTab       bool // the link opens a new tab
	Refresh      bool // the page loads itself again, or loads Action if it is pageContinue
	RefreshAfter int  // after so many seconds
}

// complete fills what is left to the page, and drops what would lead astray.
func (d pageData) complete() pageData {
	defaults, ok := pages[d.Page]
	if !ok {
		d.Page, defaults = pageError, pages[pageError]
	}
	d.Status = cmp.Or(d.Status, defaults.status)
	d.Title = cmp.Or(d.Title, defaults.title)
	d.Text = cmp.Or(d.Text, defaults.text)
	if !isLink(d.Action) {
		d.Action = ""
	}
	if d.ActionText = cmp.Or(d.ActionText, defaults.actionText); d.Action == "" {
		d.ActionText = ""
	}
	if d.Page == pageContinue {
		d.Refresh = d.Refresh && d.Action != ""
	} else {
		d.RefreshAfter = max(d.RefreshAfter, 1) // at once would be a storm
	}
	if !d.Refresh {
		d.RefreshAfter = 0
	}
	return d
}

// isLink reports whether a link may lead to target. Who gives it has judged it already: this is here because html/template lets paths
// to other hosts pass.
func isLink(target string) bool {
	if strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return false // browsers drop some of these, which makes another URL of it
	}
	if strings.HasPrefix(target, "/") {
		return !strings.HasPrefix(target, "//") && !strings.HasPrefix(target, `/\`)
	}
	u, err := url.Parse(target)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

var (
	//go:embed pages/page.html
	builtinPage string
	//go:embed pages/page.css
	builtinStyle string
)

// maxTemplate is the size (bytes) that an operator's template may have.
const maxTemplate = 1 << 20

// pageSet draws the pages.
type pageSet struct {
	template *template.Template
	sources  string      // what the Content-Security-Policy allows to be loaded
	fallback *pageSet    // draws what the template fails to; nil for the built-in pages
	failed   func(error) // is told when it does; may be nil
}

// builtinPages is the set for whoever has no template of their own.
var builtinPages = sync.OnceValue(newBuiltinPages)

func newBuiltinPages() *pageSet {
	// a hash stands for exact text, which is what the browser makes of line ends as well
	style := strings.NewReplacer("\r", "", "\n", "", "\t", "").Replace(builtinStyle)
	sum := sha256.Sum256([]byte(style))
	text := strings.ReplaceAll(strings.Replace(builtinPage, "{{style}}", style, 1), "\r", "")
	return &pageSet{
		template: template.Must(template.New("page.html").Parse(text)),
		sources:  "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
	}
}

// loadPages makes a set of an operator's template. It draws every page once, with much and with little to show, so that mistakes show
// here and not in front of visitors.
func loadPages(file string) (*pageSet, error) {
	text, err := readTemplate(file)
	if err != nil {
		return nil, err
	}
	parsed, err := template.New(filepath.Base(file)).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	set := &pageSet{
		template: parsed,
		sources:  "style-src 'unsafe-inline' 'self'; img-src 'self' data:; font-src 'self'",
		fallback: builtinPages(),
	}
	const action = "/sample/action"
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, data := range []pageData{
			{Page: name},
			{Page: name, Action: action, Refresh: true},
			{
				Page: name, Detail: "A diagnosis.", Reason: "reason", RequestID: "00000000-0000-0000-0000-000000000000",
				Account: "ada@example.com", Action: action, NewTab: true, Refresh: true, RefreshAfter: 5,
			},
		} {
			body, err := set.render(data.complete())
			switch {
			case err != nil:
				return nil, fmt.Errorf("%s: drawing the page %q: %w", file, name, err)
			case len(bytes.TrimSpace(body)) == 0:
				return nil, fmt.Errorf("%s: drawing the page %q: it is empty", file, name)
			case name == pageContinue && data.Action != "" && !bytes.Contains(body, []byte(action)):
				return nil, fmt.Errorf("%s: drawing the page %q: it does not lead to .Action, so logins would end there", file, name)
			}
		}
	}
	return set, nil
}

func readTemplate(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", file)
	}
	reader, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer reader.Close()
	text, err := io.ReadAll(io.LimitReader(reader, maxTemplate+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxTemplate:
		return "", fmt.Errorf("%s: larger than %d bytes", file, maxTemplate)
	case !utf8.Valid(text):
		return "", fmt.Errorf("%s: not UTF-8 text", file)
	}
	return string(text), nil
}

func (s *pageSet) render(data pageData) ([]byte, error) {
	var body bytes.Buffer
	err := s.template.Execute(&body, data)
	return body.Bytes(), err
}

// write answers r with a page: a built-in one where an operator's template fails, because no answer would be a worse one. With an
// error, nothing has been written.
func (s *pageSet) write(w http.ResponseWriter, r *http.Request, data pageData) error {
	data = data.complete()
	body, err := s.render(data)
	if err != nil {
		err = fmt.Errorf("drawing the page %q: %w", data.Page, err)
		if s.fallback == nil {
			return err
		}
		if s.failed != nil {
			s.failed(err)
		}
		return s.fallback.write(w, r, data)
	}

	ancestors := "'none'"
	if data.Page == pageFramed {
		ancestors = "*" // it is meant to be read there
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Content-Security-Policy",
		"default-src 'none'; "+s.sources+"; base-uri 'none'; form-action 'none'; frame-ancestors "+ancestors)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Robots-Tag", "noindex")
	if header.Get("Cache-Control") == "" {
		header.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(data.Status)
	if r.Method != http.MethodHead {
		w.Write(body) //nolint:errcheck // the client has gone; there is nobody to tell
	}
	return nil
}
