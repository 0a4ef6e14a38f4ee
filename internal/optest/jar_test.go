package optest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// put sets cookies as a server at the address would and returns the last refusal.
func put(t *testing.T, j *jar, address string, now time.Time, lines ...string) (reason string) {
	t.Helper()
	for _, line := range lines {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			t.Fatal(err)
		}
		reason = j.set(parse(t, address), cookie, now)
	}
	return reason
}

func TestJarTakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", longestCookie-1)
	tests := []struct {
		from, line, refusal string // the refusal is a part of its reason
	}{
		{"https://app.example.com/", "a=1", ""},
		{"http://app.example.com/", "a=1", ""},
		{"http://app.example.com/", "a=1; Secure", "Secure"},
		{"https://app.example.com/", "a=1; Secure; SameSite=None", ""},
		{"https://app.example.com/", "a=1; SameSite=None", "SameSite=None"},
		{"https://app.example.com/", "a=1; Domain=example.com", ""},
		{"https://app.example.com/", "a=1; Domain=.Example.com", ""},
		{"https://app.example.com/", "a=1; Domain=app.example.com", ""},
		{"https://app.example.com/", "a=1; Domain=other.example.com", "another host"},
		{"https://app.example.com/", "a=1; Domain=ample.com", "another host"},
		{"https://app.example.com/", "a=1; Domain=com", "public suffix"},
		{"http://127.0.0.1:80/", "a=1; Domain=127.0.0.1", ""},
		{"http://127.0.0.1:80/", "a=1; Domain=0.0.1", "another host"},
		{"https://app.example.com/", "__Host-a=1; Secure; Path=/", ""},
		{"https://app.example.com/", "__Host-a=1; Path=/", "__Host-"},
		{"https://app.example.com/", "__Host-a=1; Secure", "__Host-"},
		{"https://app.example.com/x", "__Host-a=1; Secure; Path=/x", "__Host-"},
		{"https://app.example.com/", "__Host-a=1; Secure; Path=/; Domain=app.example.com", "__Host-"},
		{"https://app.example.com/", "__hOST-a=1; Path=/", "__Host-"},
		{"http://app.example.com/", "__Host-a=1; Secure; Path=/", "Secure"},
		{"https://app.example.com/", "__Secure-a=1; Secure", ""},
		{"https://app.example.com/", "__Secure-a=1", "__Secure-"},
		{"https://app.example.com/", "a=" + long, ""},
		{"https://app.example.com/", "ab=" + long, "4096"},
	}
	for _, test := range tests {
		j := new(jar)
		reason := put(t, j, test.from, time.Now(), test.line)
		if (reason == "") != (test.refusal == "") || !strings.Contains(reason, test.refusal) {
			t.Errorf("%.60s from %s: refused for %q, want %q", test.line, test.from, reason, test.refusal)
		}
		if got := j.header(parse(t, test.from), crossing{sameSite: true}, time.Now()); (got != "") != (test.refusal == "") {
			t.Errorf("%.60s from %s: sent back %q", test.line, test.from, got)
		}
	}
}

func TestJarGives(t *testing.T) {
	t.Parallel()
	now := time.Now()
	j := new(jar)
	if reason := put(
		t, j, "https://app.example.com/shop/cart", now,
		"host=1; Secure; Path=/", "domain=1; Domain=example.com; Path=/", "default=1", "deep=1; Path=/shop/cart", `quoted="1"; Path=/`,
	); reason != "" {
		t.Fatal(reason)
	}
	for address, want := range map[string]string{
		"https://app.example.com/shop/cart":      "deep=1; default=1; host=1; domain=1; quoted=\"1\"",
		"https://app.example.com:8443/shop/cart": "deep=1; default=1; host=1; domain=1; quoted=\"1\"",
		"https://app.example.com/shop/carts":     "default=1; host=1; domain=1; quoted=\"1\"",
		"https://app.example.com/shop":           "default=1; host=1; domain=1; quoted=\"1\"",
		"https://app.example.com/shopping":       "host=1; domain=1; quoted=\"1\"",
		"https://app.example.com":                "host=1; domain=1; quoted=\"1\"",
		"http://app.example.com/":                "domain=1; quoted=\"1\"",
		"https://example.com/":                   "domain=1",
		"https://www.example.com/":               "domain=1",
		"https://x.app.example.com/":             "domain=1",
		"https://app.example.com.evil.example/":  "",
	} {
		if got := j.header(parse(t, address), crossing{sameSite: true}, now); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

func TestJarReplacesAndDeletes(t *testing.T) {
	t.Parallel()
	const address = "https://app.example.com/"
	now := time.Now()
	for name, test := range map[string]struct{ line, want string }{
		"replaced":         {"a=2; Path=/", "a=2; b=1"},
		"another path":     {"a=2; Path=/x", "a=1; b=1"},
		"deleted":          {"a=; Max-Age=0; Path=/", "b=1"},
		"deleted by date":  {"a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/", "b=1"},
		"Max-Age wins":     {"a=2; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=9; Path=/", "a=2; b=1"},
		"another domain":   {"a=; Max-Age=0; Path=/; Domain=app.example.com", "a=1; b=1"},
		"deleting nothing": {"c=; Max-Age=0; Path=/", "a=1; b=1"},
	} {
		j := new(jar)
		if reason := put(t, j, address, now, "a=1; Path=/", "b=1; Path=/; Max-Age=60", test.line); reason != "" {
			t.Fatal(reason)
		}
		if got := j.header(parse(t, address), crossing{sameSite: true}, now); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if got := j.header(parse(t, address), crossing{sameSite: true}, now.Add(time.Minute)); strings.Contains(got, "b=") {
			t.Errorf("%s: %q after a minute", name, got)
		}
	}
	j := new(jar)
	put(t, j, address, now, "a=1; Path=/; Secure")
	if reason := put(t, j, "http://app.example.com/", now, "a=2; Path=/"); !strings.Contains(reason, "there is a Secure one") {
		t.Errorf("from http: %q", reason)
	}
	if reason := put(t, j, "http://app.example.com/", now, "b=2; Path=/"); reason != "" {
		t.Errorf("another one from http: %q", reason)
	}
}

func TestSameSite(t *testing.T) {
	t.Parallel()
	var got string
	server := newServer(t, true, func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Cookie") })
	const own, foreign = "https://app.example.com/", "https://evil.example/"
	b := NewBrowser(t)
	b.TrustAll()
	b.Resolve("app.example.com", server.Listener.Addr().String())
	for name, mode := range map[string]http.SameSite{
		"strict": http.SameSiteStrictMode, "lax": http.SameSiteLaxMode, "silent": 0, "none": http.SameSiteNoneMode,
	} {
		b.SetCookie(own, &http.Cookie{Name: name, Value: "1", Secure: true, SameSite: mode})
	}
	everything, notStrict := []string{"lax=1", "none=1", "silent=1", "strict=1"}, []string{"lax=1", "none=1", "silent=1"}
	for name, test := range map[string]struct {
		request func()
		want    []string
	}{
		"typed":              {func() { b.Navigate(own) }, everything},
		"own link":           {func() { b.NavigateFrom(own, own) }, everything},
		"sibling's link":     {func() { b.NavigateFrom("https://www.example.com/", own) }, everything},
		"link of plain http": {func() { b.NavigateFrom("http://app.example.com/", own) }, notStrict},
		"foreign link":       {func() { b.NavigateFrom(foreign, own) }, notStrict},
		"own form":           {func() { b.Submit(own, own, nil) }, everything},
		"foreign form":       {func() { b.Submit(foreign, own, nil) }, []string{"none=1"}},
		"program":            {func() { b.Get(own) }, everything},
		"foreign image":      {func() { b.Get(own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors") }, []string{"none=1"}},
		"foreign navigation": {func() { b.Get(own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate") }, notStrict},
		"foreign POST":       {func() { b.Post(own, nil, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate") }, []string{"none=1"}},
	} {
		test.request()
		sent := strings.Split(got, "; ")
		slices.Sort(sent)
		if !slices.Equal(sent, test.want) {
			t.Errorf("%s: %q, want %q", name, sent, test.want)
		}
	}
}

func TestDroppedCookies(t *testing.T) {
	t.Parallel()
	server := newServer(t, false, func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range []string{"good=1", "__Host-bad=1; Secure; Path=/", "=nameless"} {
			w.Header().Add("Set-Cookie", line)
		}
	})
	b := NewBrowser(t)
	b.Get(server.URL)
	b.SetCookie(server.URL, &http.Cookie{Name: "own", Value: "1", Secure: true})
	var dropped []string
	for _, d := range b.Dropped {
		if d.URL != server.URL || d.Reason == "" {
			t.Errorf("dropped %+v", d)
		}
		dropped = append(dropped, d.Cookie)
	}
	if want := []string{"__Host-bad=1; Secure; Path=/", "=nameless", "own=1"}; !slices.Equal(dropped, want) {
		t.Errorf("dropped %q, want %q", dropped, want)
	}
	if kept := b.Cookies(server.URL); len(kept) != 1 || kept[0].Name != "good" {
		t.Errorf("kept %v", kept)
	}
}
