package optest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// failures is a test that only notes what fails.
type failures struct {
	testing.TB
	texts []string
}

func (f *failures) Error(args ...any) { f.texts = append(f.texts, fmt.Sprint(args...)) }
func (f *failures) Errorf(format string, args ...any) {
	f.texts = append(f.texts, fmt.Sprintf(format, args...))
}

// newServer starts a server for this handler.
func newServer(t *testing.T, secure bool, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server
}

// client is a site that lets the provider sign people in: /private starts, /callback ends.
func client(t *testing.T, p *Provider, mode string) *httptest.Server {
	t.Helper()
	return newServer(t, true, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/callback":
			if err := r.ParseForm(); err != nil || r.Form.Get("state") != "the-state-of-the-request" || r.Form.Get("code") == "" {
				http.Error(w, "no code", http.StatusBadRequest)
				return
			}
			w.Header().Add("Set-Cookie", "__Host-session=1; Path=/; Secure; HttpOnly; SameSite=Lax")
			w.Header().Add("Set-Cookie", "strict=1; Path=/; Secure; SameSite=Strict")
			http.Redirect(w, r, "/private", http.StatusSeeOther)
		case strings.Contains(r.Header.Get("Cookie"), "__Host-session=1"):
			fmt.Fprint(w, "welcome")
		default:
			request := authorization("redirect_uri", "https://app.example.com/callback", "response_mode", mode)
			http.Redirect(w, r, p.Endpoint(Authorize)+"?"+request.Encode(), http.StatusFound)
		}
	})
}

func TestNavigate(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		mode   string
		silent bool
		from   string   // the page of a link, if any
		strict bool     // the last request brings the strict cookie
		steps  []string // of each request the method, path and Sec-Fetch-Site
	}{
		"query": {"", false, "", false, []string{
			"GET /private none", "GET /authorize none", "GET /callback cross-site", "GET /private cross-site",
		}},
		"silent": {"", true, "", true, []string{
			"GET /private none", "GET /authorize none", "GET /callback none", "GET /private none",
		}},
		"form_post": {"form_post", false, "", false, []string{
			"GET /private none", "GET /authorize none", "POST /callback cross-site", "GET /private cross-site",
		}},
		"silent form_post": {"form_post", true, "", false, []string{
			"GET /private none", "GET /authorize none", "POST /callback cross-site", "GET /private cross-site",
		}},
		"own link": {"", true, "https://app.example.com/", true, []string{
			"GET /private same-origin", "GET /authorize cross-site", "GET /callback cross-site", "GET /private cross-site",
		}},
		"sibling's link": {"", true, "https://blog.example.com/", true, []string{
			"GET /private same-site", "GET /authorize cross-site", "GET /callback cross-site", "GET /private cross-site",
		}},
		"foreign link": {"", true, "https://evil.example/", false, []string{
			"GET /private cross-site", "GET /authorize cross-site", "GET /callback cross-site", "GET /private cross-site",
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t)
			server := client(t, p, test.mode)
			b := NewBrowser(t)
			b.TrustAll()
			b.Resolve("app.example.com", server.Listener.Addr().String())
			b.Silent = test.silent
			r := b.NavigateFrom(test.from, "https://app.example.com/private#part")
			if r.Status != http.StatusOK || r.Body != "welcome" || r.URL != "https://app.example.com/private#part" {
				t.Fatalf("%d %q at %s", r.Status, r.Body, r.URL)
			}
			var steps []string
			for _, step := range r.Steps {
				u, err := url.Parse(step.URL)
				if err != nil {
					t.Fatal(err)
				}
				steps = append(steps, step.Method+" "+u.Path+" "+step.Sent.Get("Sec-Fetch-Site"))
				if step.Sent.Get("Sec-Fetch-Mode") != "navigate" || step.Sent.Get("Sec-Fetch-Dest") != "document" ||
					!strings.HasPrefix(step.Sent.Get("Accept"), "text/html") {
					t.Errorf("sent %v", step.Sent)
				}
				if step.Method == http.MethodPost && step.Sent.Get("Origin") != p.URL() {
					t.Errorf("Origin = %q", step.Sent.Get("Origin"))
				}
			}
			if !slices.Equal(steps, test.steps) {
				t.Errorf("steps = %q, want %q", steps, test.steps)
			}
			done := r.Steps[2]
			if done.Status != http.StatusSeeOther || done.Location != "/private" ||
				len(done.SetCookies) != 2 || done.SetCookies[0].Name != "__Host-session" {
				t.Errorf("step = %+v", done)
			}
			// A strict cookie stays behind when a page of another site sent the person here.
			want := "__Host-session=1"
			if test.strict {
				want += "; strict=1"
			}
			if got := r.Steps[3].Sent.Get("Cookie"); got != want {
				t.Errorf("Cookie = %q, want %q", got, want)
			}
			again := b.Navigate("https://app.example.com/private")
			if len(again.Steps) != 1 || again.Body != "welcome" || again.Steps[0].Sent.Get("Cookie") != "__Host-session=1; strict=1" {
				t.Errorf("again: %+v", again.Steps)
			}
			if len(b.Steps) != 5 || len(b.Dropped) != 0 {
				t.Errorf("%d steps in all, dropped %v", len(b.Steps), b.Dropped)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	server := newServer(t, false, func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; path {
		case "/loop":
			w.Header().Set("Location", "/loop")
			w.WriteHeader(http.StatusFound)
		case "/script":
			w.Header().Set("Location", "javascript:alert(1)")
			w.WriteHeader(http.StatusFound)
		case "/bare":
			w.WriteHeader(http.StatusFound)
		case "/end":
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, r.Method+" "+r.PostForm.Get("a"))
		default:
			var status int
			if _, err := fmt.Sscanf(path, "/%d", &status); err != nil {
				t.Error(err)
			}
			w.Header().Set("Location", `\end`)
			w.WriteHeader(status)
		}
	})
	b := NewBrowser(t)
	for status, want := range map[int]string{301: "GET ", 302: "GET ", 303: "GET ", 307: "POST x", 308: "POST x"} {
		r := b.Submit(server.URL+"/page", fmt.Sprintf("%s/%d", server.URL, status), url.Values{"a": {"x"}})
		if r.Body != want || len(r.Steps) != 2 {
			t.Errorf("%d: %q, want %q", status, r.Body, want)
		}
	}
	if r := b.Navigate(server.URL + "/loop"); r.Status != http.StatusFound || len(r.Steps) != mostRedirects+1 {
		t.Errorf("loop: status %d after %d steps", r.Status, len(r.Steps))
	}
	for path, location := range map[string]string{"/script": "javascript:alert(1)", "/bare": ""} {
		if r := b.Navigate(server.URL + path); r.Status != http.StatusFound || len(r.Steps) != 1 || r.Location() != location {
			t.Errorf("%s: status %d, %d steps, Location %q", path, r.Status, len(r.Steps), r.Location())
		}
	}
	if r := b.Get(server.URL + "/302"); r.Status != http.StatusFound || r.Location() != server.URL+"/end" || r.Steps[0].Location != `\end` {
		t.Errorf("Get: status %d, Location %q", r.Status, r.Location())
	}
}

// What a site says is HTML does not become a form that is sent by itself, unless
// the page does that.
func TestOnlySelfSubmittingForms(t *testing.T) {
	t.Parallel()
	form := `<form method="post" action="/logout"><input type="hidden" name="a" value="b"></form>`
	for page, want := range map[string]int{form: 1, submitsItself + form: 2} {
		server := newServer(t, false, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				fmt.Fprint(w, page)
			}
		})
		if r := NewBrowser(t).Navigate(server.URL + "/"); len(r.Steps) != want {
			t.Errorf("%d steps, want %d, for %s", len(r.Steps), want, page)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	var got *http.Request
	server := newServer(t, false, func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		got = r
	})
	b := NewBrowser(t)
	b.SetCookie(server.URL, &http.Cookie{Name: "kept", Value: "1"})
	b.Get(server.URL, "Accept: application/json", "X-Two: a", "X-Two: b")
	if got.Header.Get("Accept") != "application/json" || len(got.Header["X-Two"]) != 2 || got.Header.Get("Cookie") != "kept=1" ||
		got.Header.Get("Sec-Fetch-Mode") != "" {
		t.Errorf("sent %v", got.Header)
	}
	b.Get(server.URL, "Cookie: forged=1", "Host: app.example.com")
	if got.Header.Get("Cookie") != "forged=1" || got.Host != "app.example.com" {
		t.Errorf("sent %v to %s", got.Header, got.Host)
	}
	b.Post(server.URL, url.Values{"a": {"b c"}})
	if got.Method != http.MethodPost || got.PostForm.Get("a") != "b c" {
		t.Errorf("%s %v", got.Method, got.PostForm)
	}
	b.Header = http.Header{"sec-purpose": {"prefetch"}}
	b.Do(http.MethodHead, server.URL, "")
	if got.Method != http.MethodHead || got.Header.Get("Sec-Purpose") != "prefetch" {
		t.Errorf("%s %v", got.Method, got.Header)
	}
	// Browsers say nothing of themselves to a server that could be anybody.
	b.Resolve("app.example.com", server.Listener.Addr().String())
	b.Navigate("http://app.example.com/")
	if got.Header.Get("Sec-Fetch-Site") != "" || got.Header.Get("Upgrade-Insecure-Requests") != "1" {
		t.Errorf("sent %v", got.Header)
	}
	b.Navigate(server.URL)
	if got.Header.Get("Sec-Fetch-Site") != "none" {
		t.Errorf("sent %v", got.Header)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	p := New(t, WithTLS())
	try := func(b *Browser) (status int, failed []string) {
		f := &failures{TB: t}
		b.tb = f
		return b.Get(p.Endpoint(Discovery)).Status, f.texts
	}
	b := NewBrowser(t)
	if status, failed := try(b); status != 0 || len(failed) != 1 || !strings.Contains(failed[0], "certificate") {
		t.Errorf("untrusted: status %d, %q", status, failed)
	}
	other := b.Clone()
	b.Trust(p.Certificate())
	other.TrustAll()
	for _, trusting := range []*Browser{b, other, b.Clone()} {
		if status, failed := try(trusting); status != http.StatusOK || len(failed) != 0 {
			t.Errorf("trusted: status %d, %q", status, failed)
		}
	}
}

func TestNoConnectionsElsewhere(t *testing.T) {
	t.Parallel()
	b, f := NewBrowser(t), &failures{TB: t}
	b.tb = f
	for i, address := range []string{"http://192.0.2.1/", "http://example.com/", "http://127.0.0.1.example.com/", "http://[2001:db8::1]/"} {
		if r := b.Navigate(address); r.Status != 0 || r.Header == nil || len(f.texts) != i+1 || !strings.Contains(f.texts[i], "no address for") {
			t.Errorf("%s: status %d, %q", address, r.Status, f.texts)
		}
	}
	b.Get("http://%zz/")
	b.Get("http://127.0.0.1/", "no header")
	if len(f.texts) < 6 {
		t.Errorf("failures = %q", f.texts)
	}
}

func TestClone(t *testing.T) {
	t.Parallel()
	const address = "https://app.example.com/"
	now := time.Now()
	b := NewBrowser(t)
	b.Now = func() time.Time { return now }
	b.SetCookie(address, &http.Cookie{Name: "a", Value: "1", Secure: true, MaxAge: 60})
	c := b.Clone()
	c.SetCookie(address, &http.Cookie{Name: "a", Value: "2", Secure: true})
	c.SetCookie(address, &http.Cookie{Name: "b", Value: "2"})
	b.SetCookie(address, &http.Cookie{Name: "a", Value: "3", Secure: true, MaxAge: 60})
	if got := b.Cookies(address); len(got) != 1 || got[0].Value != "3" || !got[0].Secure {
		t.Errorf("first: %v", got)
	}
	if got := c.Cookies(address); len(got) != 2 || got[0].Value != "2" {
		t.Errorf("clone: %v", got)
	}
	now = now.Add(time.Minute)
	if got := b.Cookies(address); len(got) != 0 {
		t.Errorf("expired: %v", got)
	}
	c.ClearCookies()
	if got := c.Cookies(address); len(got) != 0 {
		t.Errorf("cleared: %v", got)
	}
}
