package openidconnect

import (
	"crypto/sha256"
	"encoding/base64"
	"iter"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// samplePages are the pages as people see them, by name.
func samplePages() map[string]pageData {
	const (
		id    = "0b1f6b0e-2a5e-4d0c-9d44-7c1f0f6e8a53"
		login = "/oauth2/login?return_to=%2Freports%3Fyear%3D2026%26team%3Da%2526b"
	)
	return map[string]pageData{
		pageError: {
			Status: http.StatusBadGateway, Text: "The identity provider did not accept the sign-in.",
			Reason: "code_exchange_failed", RequestID: id, Action: login,
		},
		pageDenied:      {Account: "ada@example.com", Reason: "claim_required", RequestID: id, Action: login + "&prompt=select_account"},
		pageUnavailable: {Reason: "discovery_failed", RequestID: id, Action: "/reports?year=2026", Refresh: true, RefreshAfter: 5},
		pageLoop: {
			Detail: "The browser never sent the session cookie back. Is this site open in a browser that blocks cookies?",
			Reason: "login_loop", RequestID: id, Action: login,
		},
		pageSessionEnded: {Reason: "no_credentials", RequestID: id, Action: login},
		pageFramed:       {Reason: "no_credentials", RequestID: id, Action: "/reports?year=2026", NewTab: true},
		pageContinue:     {Action: "/reports?year=2026&team=a%26b", Refresh: true},
		pageSignOut:      {Action: "/oauth2/logout"},
		pageSignedOut:    {Action: "/"},
	}
}

// drawn is what a browser gets of a page.
func drawn(t *testing.T, s *pageSet, method string, data pageData) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := s.write(w, httptest.NewRequest(method, "/", http.NoBody), data); err != nil {
		t.Error(err)
	}
	return w
}

// elements are all elements of a document.
func elements(t *testing.T, text string) iter.Seq[*html.Node] {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(*html.Node) bool) {
		for node := range root.Descendants() {
			if node.Type == html.ElementNode && !yield(node) {
				return
			}
		}
	}
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func textOf(node *html.Node) string {
	var text strings.Builder
	for child := range node.Descendants() {
		if child.Type == html.TextNode {
			text.WriteString(child.Data)
		}
	}
	return text.String()
}

// TestPages compares each built-in page with its file; -update writes them anew.
func TestPages(t *testing.T) {
	t.Parallel()
	samples := samplePages()
	if !maps.EqualFunc(samples, pages, func(pageData, pageDefaults) bool { return true }) {
		t.Error("not every page has a sample")
	}
	for name, data := range samples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data.Page = name
			w := drawn(t, builtinPages(), http.MethodGet, data)
			path := filepath.Join("testdata", "pages", name+".html")
			if *update {
				if err := os.WriteFile(path, w.Body.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := strings.ReplaceAll(readFile(t, path), "\r", ""); w.Body.String() != want {
				t.Error(firstDifference(w.Body.String(), want))
			}
			if size := w.Body.Len(); size > 6<<10 {
				t.Errorf("%d bytes", size)
			}
		})
	}
}

// TestPagesMarkup: a page needs nothing from elsewhere, runs nothing, and is there for everybody.
func TestPagesMarkup(t *testing.T) {
	t.Parallel()
	allowed := strings.Fields("html head meta title style body main svg circle rect path h1 p bdi a dl dt dd")
	for name, data := range samplePages() {
		data.Page = name
		text := drawn(t, builtinPages(), http.MethodGet, data).Body.String()
		count := make(map[string]int)
		for node := range elements(t, text) {
			count[node.Data]++
			if !slices.Contains(allowed, node.Data) {
				t.Errorf("%s: there is a <%s>", name, node.Data)
			}
			for _, a := range node.Attr {
				if a.Key == "style" || a.Key == "src" || strings.HasPrefix(a.Key, "on") || a.Key == "href" && a.Val != data.Action {
					t.Errorf("%s: <%s> has %s=%q", name, node.Data, a.Key, a.Val)
				}
			}
			switch {
			case node.Data == "html" && attribute(node, "lang") == "",
				node.Data == "svg" && attribute(node, "aria-hidden") != "true",
				node.Data == "a" && (attribute(node, "target") == "_blank") != (name == pageFramed),
				node.Data == "a" && (attribute(node, "rel") == "noopener") != (name == pageFramed),
				slices.Contains([]string{"title", "h1"}, node.Data) && textOf(node) != pages[name].title:
				t.Errorf("%s: <%s> is wrong", name, node.Data)
			}
			if refresh := attribute(node, "content"); attribute(node, "http-equiv") == "refresh" {
				count["refresh"]++
				if want := map[string]string{pageUnavailable: "5", pageContinue: "0; url=" + data.Action}[name]; refresh != want {
					t.Errorf("%s: refresh %q, want %q", name, refresh, want)
				}
			}
		}
		for _, once := range []string{"main", "h1", "title", "style", "svg", "a"} {
			if count[once] != 1 {
				t.Errorf("%s: %d times <%s>", name, count[once], once)
			}
		}
		if got := count["refresh"] == 1; got != data.Refresh {
			t.Errorf("%s: refreshes: %t", name, got)
		}
		for _, want := range []string{data.Text, data.Detail, data.Reason, data.RequestID, data.Account, "viewport"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: there is no %q", name, want)
			}
		}
	}
}

// TestS238Pages: whatever gets into a page, a browser runs and loads nothing for it, and no other site shows it.
func TestS238Pages(t *testing.T) {
	t.Parallel()
	s := builtinPages()
	for name, data := range samplePages() {
		data.Page = name
		w := drawn(t, s, http.MethodGet, data)
		var style string
		for node := range elements(t, w.Body.String()) {
			if node.Data == "style" {
				style = textOf(node)
			}
		}
		ancestors := "'none'"
		if name == pageFramed {
			ancestors = "*"
		}
		sum := sha256.Sum256([]byte(style))
		for header, want := range map[string]string{
			"Content-Type":   "text/html; charset=utf-8",
			"Content-Length": strconv.Itoa(w.Body.Len()),
			"Content-Security-Policy": "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
				"'; base-uri 'none'; form-action 'none'; frame-ancestors " + ancestors,
			"X-Content-Type-Options": "nosniff",
			"Referrer-Policy":        "no-referrer",
			"X-Robots-Tag":           "noindex",
			"Cache-Control":          "no-store",
		} {
			if got := w.Header().Values(header); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		if want := max(data.Status, pages[name].status); w.Code != want {
			t.Errorf("%s: status %d, want %d", name, w.Code, want)
		}
		head := drawn(t, s, http.MethodHead, data)
		if head.Body.Len() > 0 || head.Code != w.Code || !maps.EqualFunc(head.Header(), w.Header(), slices.Equal) {
			t.Errorf("%s: HEAD gets %d, %q and %d bytes", name, head.Code, head.Header(), head.Body.Len())
		}
	}
	w := httptest.NewRecorder()
	w.Header().Set("Cache-Control", "private, max-age=1")
	if err := s.write(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), pageData{Page: pageSignedOut}); err != nil {
		t.Error(err)
	}
	if got := w.Header().Values("Cache-Control"); !slices.Equal(got, []string{"private, max-age=1"}) {
		t.Errorf("Cache-Control %q", got)
	}
}

// TestPagesEscape: text stays text wherever it stands.
func TestPagesEscape(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"plain text", `"><script>alert(1)</script>`, `</title></style><script>alert(1)</script>`, `'"<img src=x onerror=alert(1)>`, "{{.Page}}",
		"<!--", "&lt;b&gt;", "Ελένη שלום",
	} {
		for name := range pages {
			page := drawn(t, builtinPages(), http.MethodGet, pageData{
				Page: name, Title: text, Text: text, Detail: text, Reason: text, RequestID: text, Account: text, ActionText: text, Action: "/",
			}).Body.String()
			found := 0
			for node := range elements(t, page) {
				if slices.Contains([]string{"title", "h1", "p", "bdi", "a", "dd"}, node.Data) && textOf(node) == text {
					found++
				}
				if slices.Contains([]string{"script", "img", "b"}, node.Data) {
					t.Errorf("%s: %q became <%s>", name, text, node.Data)
				}
			}
			if found != 8 {
				t.Errorf("%s: %q is there %d times", name, text, found)
			}
		}
	}
}

// TestPagesLinks: a page leads to the paths it was given and nowhere else, least of all by itself.
func TestPagesLinks(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]bool{
		"/":                                  true,
		"/a?b=c&d=%2F#e":                     true,
		"/a;b'c\"d":                          true,
		"/ünï?q=<b>":                         true,
		"https://other.example.com/a?b":      true,
		"http://[::1]:8080/":                 true,
		"":                                   false,
		"a/b":                                false,
		"//evil.example":                     false,
		`/\evil.example`:                     false,
		`\\evil.example`:                     false,
		"/\t/evil.example":                   false,
		"/\n/evil.example":                   false,
		" //evil.example":                    false,
		"\x00/":                              false,
		"javascript:alert(1)":                false,
		" JaVaScript:alert(1)":               false,
		"data:text/html,<script>alert(1)":    false,
		"https:evil.example":                 false,
		"https:///evil.example":              false,
		"https://user:secret@evil.example/":  false,
		"ftp://evil.example/":                false,
		"https://evil.example\r\nSet-Cookie": false,
	} {
		if got := isLink(target); got != want {
			t.Errorf("%q is a link: %t", target, got)
		}
		page := drawn(t, builtinPages(), http.MethodGet, pageData{Page: pageContinue, Action: target, Refresh: true}).Body.String()
		for _, part := range []string{"<a ", `http-equiv="refresh"`, pages[pageContinue].actionText} {
			if got := strings.Contains(page, part); got != want {
				t.Errorf("%q: the page has %q: %t", target, part, got)
			}
		}
	}
}

// TestPagesComplete: a page says what its caller leaves open, and does not load itself in a storm.
func TestPagesComplete(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ data, want pageData }{
		"defaults": {
			pageData{Page: pageSignedOut, Action: "/"},
			pageData{
				Page: pageSignedOut, Status: 200, Title: "You are signed out", Text: "Sign in again to go on using this site.",
				Action: "/", ActionText: "Sign in",
			},
		},
		"all given": {
			pageData{Page: pageDenied, Status: 401, Title: "a", Text: "b", Action: "/c", ActionText: "d", Refresh: true, RefreshAfter: 9},
			pageData{Page: pageDenied, Status: 401, Title: "a", Text: "b", Action: "/c", ActionText: "d", Refresh: true, RefreshAfter: 9},
		},
		"a page that there is not": {
			pageData{Page: "other", Text: "b"}, pageData{Page: pageError, Status: 400, Title: "Something went wrong", Text: "b"},
		},
		"reload at once": {
			pageData{Page: pageUnavailable, Title: "a", Text: "b", Refresh: true},
			pageData{Page: pageUnavailable, Status: 503, Title: "a", Text: "b", Refresh: true, RefreshAfter: 1},
		},
		"continue at once": {
			pageData{Page: pageContinue, Title: "a", Text: "b", Action: "/", ActionText: "c", Refresh: true},
			pageData{Page: pageContinue, Status: 200, Title: "a", Text: "b", Action: "/", ActionText: "c", Refresh: true},
		},
		"continue to nowhere": {
			pageData{Page: pageContinue, Title: "a", Text: "b", ActionText: "c", Refresh: true},
			pageData{Page: pageContinue, Status: 200, Title: "a", Text: "b"},
		},
	} {
		if got := test.data.complete(); got != test.want {
			t.Errorf("%s: got  %+v\nwant %+v", name, got, test.want)
		}
		if got := test.want.complete(); got != test.want {
			t.Errorf("%s: becomes %+v when it is completed again", name, got)
		}
	}
}

// TestPagesContrast: text can be told from what is behind it, by day and by night (WCAG 2.2, 1.4.3 and 1.4.11).
func TestPagesContrast(t *testing.T) {
	t.Parallel()
	day, night, ok := strings.Cut(builtinStyle, "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	for scheme, style := range map[string]string{"light": day, "dark": night} {
		colors := make(map[string][]float64)
		for _, match := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(style, -1) {
			colors[match[1]] = append(colors[match[1]], luminance(t, match[2]))
		}
		if len(colors["tone"]) != 4 {
			t.Errorf("%s: %d tones", scheme, len(colors["tone"]))
		}
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"text", "card", 7}, {"quiet", "card", 4.5}, {"on-link", "link", 4.5}, {"link", "card", 3}, {"tone", "card", 4.5},
		} {
			for _, front := range colors[pair.front] {
				back := colors[pair.back][0]
				if ratio := (max(front, back) + 0.05) / (min(front, back) + 0.05); ratio < pair.least {
					t.Errorf("%s: %s on %s is %.2f:1", scheme, pair.front, pair.back, ratio)
				}
			}
			if len(colors[pair.front]) == 0 {
				t.Errorf("%s: there is no %s", scheme, pair.front)
			}
		}
	}
	for _, size := range regexp.MustCompile(`font(?:-size)?: ([0-9.]+)(rem)?`).FindAllStringSubmatch(builtinStyle, -1) {
		if rem, err := strconv.ParseFloat(size[1], 64); err != nil || rem < 1 || size[2] == "" {
			t.Errorf("%s is too small", size[0])
		}
	}
}

// luminance is the relative luminance of a color (WCAG 2.2).
func luminance(t *testing.T, color string) float64 {
	t.Helper()
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		value, err := strconv.ParseUint(color[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		channel := float64(value) / 255
		if channel <= 0.04045 {
			channel /= 12.92
		} else {
			channel = math.Pow((channel+0.055)/1.055, 2.4)
		}
		sum += weight * channel
	}
	return sum
}
