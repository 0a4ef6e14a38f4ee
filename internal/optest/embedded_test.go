package optest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestEmbedded(t *testing.T) {
	t.Parallel()
	server := newServer(t, true, func(w http.ResponseWriter, r *http.Request) {
		for _, site := range []string{"None", "Lax", "Strict"} {
			w.Header().Add("Set-Cookie", "new"+site+"=1; Path=/; Secure; SameSite="+site)
		}
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "https://app.example.com/end", http.StatusSeeOther)
		case "/away":
			http.Redirect(w, r, "https://evil.example/back", http.StatusFound)
		case "/back":
			http.Redirect(w, r, "https://app.example.com/end", http.StatusFound)
		default:
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, r.Method+" "+r.PostForm.Get("a"))
		}
	})
	frame := func(b *Browser, page, target string) *Response { return b.Frame(page, target) }
	image := func(b *Browser, page, target string) *Response { return b.Image(page, target) }
	get := func(b *Browser, page, target string) *Response { return b.Fetch(page, http.MethodGet, target, "") }
	post := func(b *Browser, page, target string) *Response {
		return b.Fetch(page, http.MethodPost, target, "a=x", "X-Requested-With: fetch")
	}
	own, sibling, foreign := "https://app.example.com/page", "https://blog.example.com/page", "https://evil.example/page"
	all := []string{"None", "Lax", "Strict"}
	tests := map[string]struct {
		load   func(b *Browser, page, target string) *Response
		page   string
		path   string
		block  bool
		fetch  string // Sec-Fetch-Dest, -Mode and -Site of the last request
		origin string
		sent   []string // cookies, by SameSite
		body   string
	}{
		"frame":          {frame, own, "/", false, "iframe navigate same-origin", "", all, "GET "},
		"sibling":        {frame, sibling, "/", false, "iframe navigate same-site", "", all, "GET "},
		"foreign frame":  {frame, foreign, "/", false, "iframe navigate cross-site", "", []string{"None"}, "GET "},
		"blocked":        {frame, foreign, "/", true, "iframe navigate cross-site", "", nil, "GET "},
		"not blocked":    {frame, sibling, "/", true, "iframe navigate same-site", "", all, "GET "},
		"moved frame":    {frame, foreign, "/moved", false, "iframe navigate cross-site", "", []string{"None"}, "GET "},
		"frame and back": {frame, own, "/away", false, "iframe navigate cross-site", "", all, "GET "},
		"image":          {image, own, "/", false, "image no-cors same-origin", "", all, "GET "},
		"foreign image":  {image, foreign, "/", false, "image no-cors cross-site", "", []string{"None"}, "GET "},
		"fetch":          {get, own, "/", false, "empty cors same-origin", "", all, "GET "},
		"foreign fetch":  {get, foreign, "/", false, "empty cors cross-site", "https://evil.example", []string{"None"}, "GET "},
		"post":           {post, own, "/", false, "empty cors same-origin", "https://app.example.com", all, "POST x"},
		"foreign post":   {post, foreign, "/", false, "empty cors cross-site", "https://evil.example", []string{"None"}, "POST x"},
		"moved post":     {post, own, "/moved", false, "empty cors same-origin", "", all, "GET "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := NewBrowser(t)
			b.TrustAll()
			b.Resolve("app.example.com", server.Listener.Addr().String())
			b.Resolve("evil.example", server.Listener.Addr().String())
			b.BlockThirdPartyCookies = test.block
			b = b.Clone()
			for i, site := range []http.SameSite{http.SameSiteNoneMode, http.SameSiteLaxMode, http.SameSiteStrictMode} {
				b.SetCookie("https://app.example.com/", &http.Cookie{Name: "old" + all[i], Value: "1", Path: "/", Secure: true, SameSite: site})
			}
			r := test.load(b, test.page, "https://app.example.com"+test.path)
			if r.Status != http.StatusOK || r.Body != test.body || len(b.Steps) != len(r.Steps) {
				t.Fatalf("%d %q after %d steps", r.Status, r.Body, len(r.Steps))
			}
			sent := r.Steps[len(r.Steps)-1].Sent
			if got := sent.Get("Sec-Fetch-Dest") + " " + sent.Get("Sec-Fetch-Mode") + " " + sent.Get("Sec-Fetch-Site"); got != test.fetch {
				t.Errorf("sent %q", got)
			}
			if sent.Get("Origin") != test.origin || sent.Get("Sec-Fetch-User") != "" || sent.Get("User-Agent") == "" ||
				(sent.Get("Content-Type") != "") != (test.body == "POST x") {
				t.Errorf("sent %v", sent)
			}
			for _, site := range all {
				want := slices.Contains(test.sent, site)
				if got := strings.Contains(r.Steps[0].Sent.Get("Cookie"), "old"+site+"=1"); got != want {
					t.Errorf("SameSite=%s is sent: %t", site, got)
				}
				kept := slices.ContainsFunc(b.Cookies("https://app.example.com/"), func(c *http.Cookie) bool { return c.Name == "new"+site })
				if kept != want {
					t.Errorf("SameSite=%s is accepted: %t, dropped %v", site, kept, b.Dropped)
				}
			}
		})
	}
	f := &failures{TB: t}
	b := NewBrowser(t)
	b.tb = f
	b.Frame("https://%zz/", own)
	b.Frame(own, "https://%zz/")
	b.Fetch(own, http.MethodGet, "http://127.0.0.1:1/", "", "no header")
	if len(f.texts) != 4 {
		t.Errorf("failures = %q", f.texts)
	}
}

func TestFrontchannel(t *testing.T) {
	t.Parallel()
	p := New(t, WithEndSession(), WithTLS(), WithIssuerPath("/"))
	p.SetSIDs(func() string { return `"><script>&` })
	b, _ := visitor(t, p)
	p.SetFrontchannelLogoutURI("https://app.example.com/frontchannel-logout", "https://app.example.com/other?keep=1")
	token, claims := come(t, p, b)
	r := leave(p, b, leaving(token))
	if r.URL != afterwards+"?state=the-state-of-the-logout" || r.Body != "welcome" || len(r.Frames) != 2 || len(r.Steps) != 2 {
		t.Fatalf("at %s with %d frames after %d steps", r.URL, len(r.Frames), len(r.Steps))
	}
	if site := r.Steps[1].Sent.Get("Sec-Fetch-Site"); site != "cross-site" {
		t.Errorf("came back as %s", site)
	}
	for i, frame := range r.Frames {
		u, err := url.Parse(frame.URL)
		if err != nil {
			t.Fatal(err)
		}
		values, sent := u.Query(), frame.Steps[0].Sent
		if values.Get("iss") != p.Issuer() || values.Get("sid") != claims["sid"] || values.Has("keep") != (i == 1) ||
			u.Path != []string{"/frontchannel-logout", "/other"}[i] {
			t.Errorf("frame %s", frame.URL)
		}
		if sent.Get("Sec-Fetch-Dest") != "iframe" || sent.Get("Sec-Fetch-Site") != "cross-site" || frame.Body != "welcome" {
			t.Errorf("sent %v", sent)
		}
	}
	// Nobody is signed in any more: there is nothing to load.
	if r := leave(p, b, leaving(token)); len(r.Frames) != 0 || !strings.HasPrefix(r.URL, afterwards) {
		t.Errorf("again: at %s with %d frames", r.URL, len(r.Frames))
	}
	token, _ = come(t, p, b)
	p.SetLogoutRedirect(false)
	p.SetFrontchannelParameters(func(values url.Values) { values.Del("sid"); values.Set("iss", "https://evil.example") })
	if r := leave(p, b, leaving(token)); len(r.Frames) != 2 || !strings.HasPrefix(r.URL, p.URL()) ||
		r.Frames[0].URL != "https://app.example.com/frontchannel-logout?iss=https%3A%2F%2Fevil.example" {
		t.Errorf("at %s with %d frames", r.URL, len(r.Frames))
	}
	p.SetFrontchannelParameters(func(values url.Values) { clear(values) })
	token, _ = come(t, p, b)
	raw := b.Get(p.Endpoint(EndSession) + "?" + leaving(token).Encode())
	if frames := b.LoadFrames(raw); len(frames) != 2 || frames[0].URL != "https://app.example.com/frontchannel-logout" {
		t.Errorf("%d frames", len(frames))
	}
	// Other pages load nothing by themselves.
	server := newServer(t, false, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<IFRAME class=x src="/a"></IFRAME>`) })
	plain := b.Navigate(server.URL)
	if len(plain.Frames) != 0 || len(b.LoadFrames(plain)) != 1 {
		t.Errorf("%d frames", len(plain.Frames))
	}
}

func TestFramableBy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		policies, options []string
		page              string
		want              bool
	}{
		{nil, nil, "https://evil.example/", true},
		{nil, []string{"DENY"}, "https://app.example.com/", false},
		{nil, []string{"sameorigin"}, "https://app.example.com/x", true},
		{nil, []string{"SAMEORIGIN, allowall"}, "https://op.example.com/", false},
		{nil, []string{"ALLOW-FROM https://op.example.com"}, "https://evil.example/", true},
		{[]string{"default-src 'none'; frame-ancestors 'none'"}, nil, "https://app.example.com/", false},
		{[]string{"frame-ancestors 'self'"}, nil, "https://app.example.com/", true},
		{[]string{"frame-ancestors 'self'"}, nil, "https://op.example.com/", false},
		{[]string{"default-src 'none'; frame-ancestors *"}, []string{"DENY"}, "https://op.example.com/", true},
		{[]string{"frame-ancestors 'self' https://op.example.com"}, nil, "https://op.example.com/", true},
		{[]string{"frame-ancestors https://op.example.com:8443"}, nil, "https://op.example.com/", false},
		{[]string{"frame-ancestors op.example.com"}, nil, "https://op.example.com/", true},
		{[]string{"frame-ancestors https://*.example.com"}, nil, "https://op.example.com/", true},
		{[]string{"frame-ancestors https://*.example.com"}, nil, "https://example.com/", false},
		{[]string{"frame-ancestors http:"}, nil, "http://op.example.com/", true},
		{[]string{"frame-ancestors"}, nil, "https://app.example.com/", false},
		{[]string{"frame-ancestors *, frame-ancestors 'none'"}, nil, "https://op.example.com/", false},
		{[]string{"frame-ancestors *", "frame-ancestors 'self'"}, nil, "https://op.example.com/", false},
		{[]string{"default-src 'none'"}, []string{"DENY"}, "https://op.example.com/", false},
		{nil, nil, "https://%zz/", false},
	}
	for _, test := range tests {
		r := &Response{URL: "https://app.example.com/", Header: http.Header{"Content-Security-Policy": test.policies, "X-Frame-Options": test.options}}
		if got := r.FramableBy(test.page); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}
