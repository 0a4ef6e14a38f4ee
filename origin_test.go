package openidconnect

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestIsNavigation(t *testing.T) {
	t.Parallel()
	const html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
	for _, test := range []struct {
		name    string
		method  string
		headers []string
		want    bool
	}{
		{"a page", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none", html}, true},
		{"a page, by a link from elsewhere", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: cross-site"}, true},
		{"a page, without a destination", "GET", []string{"Sec-Fetch-Mode: navigate"}, true},
		{"a page, of an older browser", "GET", []string{html}, true},
		{"a page, in capitals", "GET", []string{"Accept: Text/HTML"}, true},
		{"a page, in the second line", "GET", []string{"Accept: application/json", html}, true},
		{"a page's headers", "HEAD", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, true},
		{"a page's headers, of an older browser", "HEAD", []string{html}, true},
		{"a form", "POST", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", html}, false},
		{"a form, of an older browser", "POST", []string{html}, false},
		{"a preflight", "OPTIONS", []string{"Access-Control-Request-Method: GET", html}, false},
		{"a frame", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", html}, false},
		{"an embedded object", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: object", html}, false},
		{"fetch", "GET", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"}, false},
		{"fetch that asks for HTML", "GET", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", html}, false},
		{"fetch, with one of its headers only", "GET", []string{"Sec-Fetch-Site: same-origin", html}, false},
		{"fetch, with another of its headers only", "GET", []string{"Sec-Fetch-Dest: empty", html}, false},
		{"an image", "GET", []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, false},
		{"a script", "GET", []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script", html}, false},
		{"prefetch", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch"}, false},
		{"prerender", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch;prerender"}, false},
		{"prefetch, of an older browser", "GET", []string{html, "Sec-Purpose: Prefetch"}, false},
		{"a WebSocket", "GET", []string{"Sec-Fetch-Mode: websocket", "Upgrade: websocket"}, false},
		{"a WebSocket, of an older browser", "GET", []string{html, "Upgrade: websocket"}, false},
		{"a WebSocket that says it is a page", "GET", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Upgrade: websocket"}, false},
		{"XMLHttpRequest", "GET", []string{html, "X-Requested-With: XMLHttpRequest"}, false},
		{"another X-Requested-With", "GET", []string{html, "X-Requested-With: com.example.app"}, true},
		{"curl", "GET", []string{"Accept: */*"}, false},
		{"an API client", "GET", []string{"Accept: application/json"}, false},
		{"nothing at all", "GET", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(test.method, "/", nil)
			for _, header := range test.headers {
				name, value, _ := strings.Cut(header, ": ")
				r.Header.Add(name, value)
			}
			if got := isNavigation(r); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestIsPreflight(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method, requested string
		want              bool
	}{
		{"OPTIONS", "PUT", true},
		{"OPTIONS", "", false},
		{"GET", "PUT", false},
		{"POST", "PUT", false},
	} {
		r := httptest.NewRequest(test.method, "/", nil)
		if test.requested != "" {
			r.Header.Set("Access-Control-Request-Method", test.requested)
		}
		if got := isPreflight(r); got != test.want {
			t.Errorf("%+v: got %t", test, got)
		}
	}
}

// target reads the target of a request line as net/http does.
func target(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestAmbiguousPath: /admin lies beside what is open under /public/, and these are the ways to call one by the name of the other.
func TestAmbiguousPath(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		// what somebody behind us could take for /admin
		`/public/../admin`:                             true,
		`/public/%2e%2e/admin`:                         true,
		`/public/.%2E/admin`:                           true,
		`/public/%252e%252e/admin`:                     true,
		`/public/%25252e%25252e/admin`:                 true,
		`/public/%%32e%%32e/admin`:                     true,
		`/public/%2%65%2%65/admin`:                     true,
		`/public/..%2fadmin`:                           true,
		`/public/..%252fadmin`:                         true,
		`/public%2f..%2fadmin`:                         true,
		`/public/..;/admin`:                            true,
		`/public/..;x=y/admin`:                         true,
		`/public/..%3b/admin`:                          true,
		`/public/;../admin`:                            true,
		`/public/..\admin`:                             true,
		`/public\..\admin`:                             true,
		`/public/..%5cadmin`:                           true,
		`/public/..%5Cadmin`:                           true,
		`/public/..%255cadmin`:                         true,
		`/./admin`:                                     true,
		`/public/.`:                                    true,
		`/public/..`:                                   true,
		`/public/..%00/admin`:                          true,
		`/public/..%09/admin`:                          true,
		`/public/..%0d%0a/admin`:                       true,
		`/public/..%7f/admin`:                          true,
		`/public/..%20/admin`:                          true,
		`/public/%20../admin`:                          true,
		`/public/..%c2%a0/admin`:                       true,
		`/public/..%3fadmin`:                           true,
		`/public/..%23admin`:                           true,
		`/public/%c0%ae%c0%ae/admin`:                   true, // overlong dots
		`/public/..%c0%afadmin`:                        true, // and an overlong slash
		`/public/%ff`:                                  true,
		`/public/%u002e%u002e/admin`:                   true,
		`/public/%25u002e%25u002e/a`:                   true,
		`/public/%EF%BC%8E%EF%BC%8E/a`:                 true, // full-width dots
		`/public/..%E2%88%95admin`:                     true, // a division slash
		`/public/..%C2%85/admin`:                       true,
		`http://h/public/../admin`:                     true,
		`http://h/public/%2e%2e/admin`:                 true,
		`/public/a%2fb`:                                true, // an encoded separator is one to some
		`/public/%2525252525252e%2525252525252e/admin`: true, // in more layers than anybody needs
		`/public/%25252525252541`:                      true,

		// what is /admin to us as well, so that the matcher of the exception judges it
		`/admin`:             false,
		`/admin?x=/public/`:  false,
		`/admin?x=/../`:      false,
		`/admin?x=%2e%2e%2f`: false,
		`/admin#/public`:     false,
		`/admin%23/public`:   false,
		`//admin`:            false,
		`/%61dmin`:           false,
		`/ADMIN`:             false,

		// what nobody reads in two ways
		`/`:                           false,
		`/public/`:                    false,
		`/public/a.b/c..d`:            false,
		`/public/..a/.b/...`:          false,
		`/public/.well-known/x`:       false,
		`/public/a;v=1/b`:             false,
		`/public/report;v=1.2`:        false,
		`/public/a%20b+c`:             false,
		`/public/%E5%BC%B5/J%C3%BCrg`: false,
		`/public/100%25`:              false,
		`/public/100%2541`:            false,
		`/public/50%zz`:               false,
		`/public/a:b@c,d!e$f&g'(h)*=`: false,
		`/public//a`:                  false,
		`*`:                           false,
	} {
		if strings.Contains(text, "%zz") || strings.Contains(text, "%%") || strings.Contains(text, "%2%6") || strings.Contains(text, "%u") {
			// net/http refuses it, but a rewrite may leave such a path behind
			if got := ambiguousPath(&url.URL{Path: text}); got != want {
				t.Errorf("%s after a rewrite: got %t", text, got)
			}
			continue
		}
		u := target(t, text)
		if got := ambiguousPath(u); got != want {
			t.Errorf("%s: got %t", text, got)
		}
		rewritten := &url.URL{Path: u.Path} // without the spelling that it came in
		if ambiguous := ambiguousPath(rewritten); ambiguous && !want {
			t.Errorf("%s after a rewrite: got %t", text, ambiguous)
		}
	}
}

// TestAmbiguousPathOfRewrite: when a rewrite has changed the path, the spelling that came with the old one does not count.
func TestAmbiguousPathOfRewrite(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path, rawPath string
		want          bool
	}{
		{"/public/x", "", false},
		{"/public/../x", "", true},
		{"/public/x", "/public/%2e%2e/x", false}, // not a spelling of this path
		{"/public/../x", "/public/x", true},
		{"/public/a/b", "/public/a%2Fb", true},
		{"/public/%2e%2e/x", "", true}, // a percent sign in the path itself
		{`/public/..\x`, "", true},
		{"", "", false},
	} {
		if got := ambiguousPath(&url.URL{Path: test.path, RawPath: test.rawPath}); got != test.want {
			t.Errorf("%+v: got %t", test, got)
		}
	}
}

func TestIsHost(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"example.com": true, "example.com:8443": true, "localhost": true, "127.0.0.1:80": true, "[::1]:8080": true, "[::1]": true,
		"EXAMPLE.com": true, "a_b.example.com": true, "xn--mnchen-3ya.de": true, "example.com.": true,
		"": false, ":80": false, "a b": false, "example.com/path": false, "user@example.com": false, "example.com#x": false, "example.com?x": false,
		"example.com:port": false, "a\r\nb": false, "a\"b": false, "münchen.de": false, "%65xample.com": false, "a,b": false, `a\b`: false,
		"::1": false, "[::1": false, "<script>": false,
	} {
		if got := isHost(text); got != want {
			t.Errorf("%q: got %t", text, got)
		}
	}
}

// The origin is as browsers have it, and the redirect URI as it was registered, however a client or a proxy writes the host.
func TestS012OneOriginForAllSpellings(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"app.example.com":       "http://app.example.com",
		"app.example.com:80":    "http://app.example.com",
		"App.Example.COM":       "http://app.example.com",
		"app.example.com:":      "http://app.example.com",
		"app.example.com:8080":  "http://app.example.com:8080",
		"app.example.com:443":   "http://app.example.com:443",
		"[2001:DB8::80]":        "http://[2001:db8::80]",
		"[2001:db8::1]:80":      "http://[2001:db8::1]",
		"https://app.example:1": "",
		":80":                   "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		if got := publicOrigin(r); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
		if want = strings.Replace(strings.Replace(want, "http:", "https:", 1), "com:443", "com", 1); !strings.HasSuffix(host, ":80") {
			r.TLS = new(tls.ConnectionState)
			if got := publicOrigin(r); got != want {
				t.Errorf("%s over TLS: %q, want %q", host, got, want)
			}
		}
	}
}

func TestComesFromElsewhere(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]bool{
		"":                            false,
		"https://app.example.com":     false,
		"https://app.example.com:443": false,
		"https://App.Example.com":     false,
		"http://app.example.com":      true,
		"https://app.example.com:444": true,
		"https://example.com":         true,
		"null":                        true,
		"//":                          true,
	} {
		r := httptest.NewRequest(http.MethodPost, "https://app.example.com:443/oauth2/logout", nil)
		if from != "" {
			r.Header.Set("Origin", from)
		}
		if got := comesFromElsewhere(r); got != want {
			t.Errorf("%q: %t", from, got)
		}
	}
}

func TestLastValue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []string
		want   string
	}{
		{nil, ""},
		{[]string{"a"}, "a"},
		{[]string{"a, b"}, "b"},
		{[]string{"a", "b ,c "}, "c"},
		{[]string{"a", ""}, ""},
		{[]string{"a,"}, ""},
	} {
		if got := lastValue(http.Header{"X-Forwarded-Host": test.values}, "X-Forwarded-Host"); got != test.want {
			t.Errorf("%q: got %q", test.values, got)
		}
	}
}
