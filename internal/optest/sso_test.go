package optest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// visitor returns a browser to which every address at app.example.com shows the same
// page, and the server of that.
func visitor(t *testing.T, p *Provider) (*Browser, *httptest.Server) {
	t.Helper()
	server := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("welcome")) })
	b := NewBrowser(t)
	b.TrustAll()
	b.Resolve("app.example.com", server.Listener.Addr().String())
	p.Resolve("app.example.com", server.Listener.Addr().String())
	return b, server
}

// come makes the browser sign in, and returns the ID token of that and its claims.
func come(t *testing.T, p *Provider, b *Browser, pairs ...string) (token string, claims Claims) {
	t.Helper()
	landed := b.NavigateFrom("https://app.example.com/", p.Endpoint(Authorize)+"?"+authorization(pairs...).Encode())
	target, err := url.Parse(landed.URL)
	if err != nil || target.Query().Get("code") == "" {
		t.Fatalf("%d at %s: %v", landed.Status, landed.URL, err)
	}
	status, answer := redeem(t, p, redemption(target.Query().Get("code")))
	if status != http.StatusOK {
		t.Fatalf("status %d: %v", status, answer)
	}
	token = answer["id_token"].(string)
	_, claims = open(t, token, p.signingKey())
	return token, claims
}

func TestSSO(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]Option{
		"http": {WithSSO()}, "TLS": {WithSSO(), WithTLS()}, "path": {WithEndSession(), WithIssuerPath("/realms/demo")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t, options...)
			b, _ := visitor(t, p)
			_, first := come(t, p, b)
			p.SetUser(Claims{"sub": "bob"}) // who is not at this browser
			_, second := come(t, p, b)
			if first["sub"] != "alice" || second["sub"] != "alice" || first["sid"] != second["sid"] || p.Prompts() != 1 {
				t.Errorf("%v, then %v, with %d prompts", first, second, p.Prompts())
			}
			other, _ := visitor(t, p)
			_, third := come(t, p, other)
			if third["sub"] != "bob" || third["sid"] == first["sid"] || p.Prompts() != 2 {
				t.Errorf("at another browser: %v, with %d prompts", third, p.Prompts())
			}
			sessions := p.SSOSessions()
			if len(sessions) != 2 || sessions[0].SID != first["sid"] || sessions[0].Subject != "alice" || sessions[0].Logins != 2 ||
				sessions[1].Subject != "bob" || sessions[1].Logins != 1 || sessions[1].AuthTime.Before(sessions[0].AuthTime) {
				t.Errorf("sessions = %+v", sessions)
			}
			if len(b.Dropped) != 0 {
				t.Errorf("dropped %v", b.Dropped)
			}
			for _, cookie := range b.Cookies(p.URL()) {
				if !slices.Contains(p.Issued(), cookie.Value) {
					t.Error("the cookie is not a secret")
				}
			}
			// Nobody is told; the next login needs credentials.
			if n := p.EndSSO("alice"); n != 1 || len(p.SSOSessions()) != 1 || p.EndSSO("alice") != 0 {
				t.Errorf("%d ended", n)
			}
			p.SetUser(nil)
			if _, again := come(t, p, b); again["sid"] == first["sid"] || p.Prompts() != 3 {
				t.Errorf("after the end: %v, with %d prompts", again, p.Prompts())
			}
			if n := p.EndSSO(third["sid"].(string)); n != 1 {
				t.Errorf("%d ended by sid", n)
			}
		})
	}
}

func TestNoSSO(t *testing.T) {
	t.Parallel()
	p := New(t)
	b, _ := visitor(t, p)
	_, first := come(t, p, b)
	_, second := come(t, p, b, "prompt", "none")
	if first["sid"] == second["sid"] || p.Prompts() != 0 || len(p.SSOSessions()) != 0 || len(b.Cookies(p.URL())) != 0 {
		t.Errorf("%v, then %v, with %d prompts and %v", first, second, p.Prompts(), p.SSOSessions())
	}
	metadata := p.Metadata()
	for _, name := range []string{"end_session_endpoint", "revocation_endpoint", "backchannel_logout_supported", "frontchannel_logout_supported"} {
		if metadata[name] != nil {
			t.Errorf("%s = %v", name, metadata[name])
		}
	}
	for _, name := range []string{EndSession, Revocation} {
		if r := b.Post(p.Endpoint(name), url.Values{}); r.Status != http.StatusNotFound || p.Hits(name) != 0 {
			t.Errorf("%s: status %d", name, r.Status)
		}
	}
	if p.Hits(Other) != 2 {
		t.Errorf("%d requests elsewhere", p.Hits(Other))
	}
}

func TestPrompts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		request []string
		age     time.Duration
		user    string
		prompts int
		sameSID bool
	}{
		"silent":              {nil, time.Hour, "bob", 1, true},
		"prompt=none":         {[]string{"prompt", "none"}, 0, "bob", 1, true},
		"prompt=consent":      {[]string{"prompt", "consent"}, 0, "bob", 1, true},
		"prompt=login":        {[]string{"prompt", "login"}, 0, "alice", 2, true},
		"prompt=login, other": {[]string{"prompt", "consent login"}, 0, "bob", 2, false},
		"max_age kept":        {[]string{"max_age", "60"}, 50 * time.Second, "alice", 1, true},
		"max_age over":        {[]string{"max_age", "60"}, time.Minute, "alice", 2, true},
		"max_age=0":           {[]string{"max_age", "0"}, 0, "alice", 2, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t, WithSSO())
			b, _ := visitor(t, p)
			_, first := come(t, p, b, "max_age", "1000")
			p.Advance(test.age)
			p.SetUser(Claims{"sub": test.user})
			_, second := come(t, p, b, append([]string{"max_age", "1000000"}, test.request...)...)
			if (first["sid"] == second["sid"]) != test.sameSID || p.Prompts() != test.prompts {
				t.Errorf("%v, then %v, with %d prompts", first, second, p.Prompts())
			}
			if asked := test.prompts > 1; second["sub"] != "alice" && !asked || asked && second["sub"] != test.user {
				t.Errorf("signed in: %v", second["sub"])
			}
			signedInAgain := second["auth_time"].(float64) >= first["auth_time"].(float64)+test.age.Seconds()
			if test.age > 0 && signedInAgain != (test.prompts > 1) {
				t.Errorf("auth_time %v, then %v", first["auth_time"], second["auth_time"])
			}
		})
	}
}

func TestPromptNone(t *testing.T) {
	t.Parallel()
	p := New(t, WithSSO())
	answer := redirected(t, p, authorization("prompt", "none"))
	if answer.Get("error") != "login_required" || answer.Has("code") || answer.Get("state") == "" || p.Prompts() != 0 {
		t.Errorf("answer = %v", answer)
	}
	b, _ := visitor(t, p)
	come(t, p, b)
	if r := b.Navigate(p.Endpoint(Authorize) + "?" + authorization("prompt", "none").Encode()); !strings.Contains(r.URL, "code=") {
		t.Errorf("with a session: %s", r.URL)
	}
	p.FailAuthorize("access_denied", "")
	other, _ := visitor(t, p)
	if r := other.Navigate(p.Endpoint(Authorize) + "?" + authorization().Encode()); !strings.Contains(r.URL, "access_denied") ||
		len(p.SSOSessions()) != 1 || p.Prompts() != 1 {
		t.Errorf("%s: %v", r.URL, p.SSOSessions())
	}
}

// A provider that shows no page is one more redirect to a browser; one that asks is
// where the person comes from.
func TestSilentLogin(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"query", "form_post"} {
		p := New(t, WithSSO(), WithTLS())
		server := client(t, p, mode)
		b := NewBrowser(t)
		b.TrustAll()
		b.Resolve("app.example.com", server.Listener.Addr().String())
		for i, want := range []string{"cross-site", "none"} {
			b.SetCookie("https://app.example.com/", &http.Cookie{Name: "__Host-session", Path: "/", Secure: true, MaxAge: -1})
			r := b.Navigate("https://app.example.com/private")
			if mode == "form_post" {
				want = "cross-site"
			}
			if got := r.Steps[len(r.Steps)-1].Sent.Get("Sec-Fetch-Site"); r.Body != "welcome" || got != want || p.Prompts() != 1 {
				t.Errorf("%s %d: %q with Sec-Fetch-Site %q, %d prompts", mode, i, r.Body, got, p.Prompts())
			}
		}
	}
}

func TestSIDs(t *testing.T) {
	t.Parallel()
	odd := "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ 0aZ"
	for name, options := range map[string][]Option{"single sign-on": {WithSSO()}, "none": nil} {
		p := New(t, options...)
		n := 0
		p.SetSIDs(func() string {
			n++
			return odd + strconv.Itoa(n) + strings.Repeat("x", len(p.SSOSessions()))
		})
		b, _ := visitor(t, p)
		if _, claims := come(t, p, b); claims["sid"] != odd+"1" {
			t.Errorf("%s: sid = %q", name, claims["sid"])
		}
		other, _ := visitor(t, p)
		if _, claims := come(t, p, other); claims["sid"] != odd+"2"+strings.Repeat("x", len(options)) {
			t.Errorf("%s: sid = %q", name, claims["sid"])
		}
		p.SetSIDs(nil)
		p.NewCode(authorization())
		if sessions := p.SSOSessions(); n != 2 || len(sessions) != 3*len(options) {
			t.Errorf("%s: %d named, sessions %v", name, n, sessions)
		}
	}
}

// Two providers on one host keep their sessions apart.
func TestCookiesOfTwoProviders(t *testing.T) {
	t.Parallel()
	first, second := New(t, WithSSO()), New(t, WithSSO())
	b, _ := visitor(t, first)
	come(t, first, b)
	come(t, second, b)
	come(t, first, b)
	if first.Prompts() != 1 || second.Prompts() != 1 || len(b.Cookies(first.URL())) != 2 {
		t.Errorf("%d and %d prompts, cookies %v", first.Prompts(), second.Prompts(), b.Cookies(first.URL()))
	}
}
