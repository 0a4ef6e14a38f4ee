package openidconnect

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What requests get, row by row, of a site that logs browsers in and takes bearer tokens too.

func TestSection4ValidSessionOrValidTokenReachesTheNextHandler(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "audience api\nscope openid email\nclaim_header X-Email email\nunauth_action pass /public/*")
	v := newVisitor(t, s, p)
	v.signIn("/deep/link?a=1&b=%2F%c3%a4&c=d%20e+f")
	arrived := s.last(t)
	if arrived.RequestURI != "/deep/link?a=1&b=%2F%c3%a4&c=d%20e+f" {
		t.Errorf("the login returned to %s", arrived.RequestURI)
	}
	r := v.Get(v.url("/x"), "X-Userinfo: forged", "X-Access-Token: forged", "Cookie: other=1; "+cookieHeader(v)+"; another=2")
	if r.Status != http.StatusOK || r.Header.Get("Cache-Control") != "private" || r.Header.Get("Set-Cookie") != "" {
		t.Errorf("got %d, %v", r.Status, r.Header)
	}
	header := s.last(t).Header
	if claims := userinfo(t, header); claims["sub"] != "alice" || claims["email"] != "alice@example.com" || claims["nonce"] != nil {
		t.Errorf("X-Userinfo %v", claims)
	}
	if got := header["X-Email"]; len(got) != 1 || got[0] != "alice@example.com" || header["X-Access-Token"] != nil {
		t.Errorf("X-Email %q, X-Access-Token %q", got, header["X-Access-Token"])
	}
	if got := header.Get("Cookie"); got != "other=1; another=2" {
		t.Errorf("the upstream got the cookies %q", got)
	}
	s.advance()
	s.allows(p.AccessToken(nil))

	t.Run("what the upstream says of caching stands", func(t *testing.T) {
		s.answer(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "max-age=60") })
		defer s.answer(nil)
		if r := v.open("/x"); r.Header.Get("Cache-Control") != "max-age=60" {
			t.Errorf("Cache-Control %q", r.Header.Values("Cache-Control"))
		}
	})
	t.Run("an upstream cookie with our names is dropped", func(t *testing.T) {
		name := v.kept(isSessionName)[0].Name
		s.answer(func(w http.ResponseWriter, _ *http.Request) {
			for _, cookie := range []string{name + "=evil", name + ".0=evil", name + "-t-abcdefghij=evil", "__Host-" + name + "=evil", "=" +
				name + "=evil", "theirs=1"} {
				w.Header().Add("Set-Cookie", cookie+"; Path=/")
			}
			io.WriteString(w, "body")
		})
		defer s.answer(nil)
		for _, path := range []string{"/x", "/public/x"} {
			if got := v.open(path).Header.Values("Set-Cookie"); len(got) != 1 || got[0] != "theirs=1; Path=/" {
				t.Errorf("%s: Set-Cookie %q", path, got)
			}
		}
	})
	t.Run("when we set a cookie the answer is stored nowhere", func(t *testing.T) {
		s.answer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
		})
		defer s.answer(nil)
		v := v.clone()
		v.later(6 * time.Minute)
		r := v.open("/x")
		if got := r.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "private, no-store" || len(sessionsIn(r)) != 1 {
			t.Errorf("Cache-Control %q, Set-Cookie %q", got, r.Header.Values("Set-Cookie"))
		}
		v.wantSession(true)
	})
}

// cookieHeader is what the browser would send.
func cookieHeader(v *visitor) string {
	var pairs []string
	for _, cookie := range v.Cookies(v.url("/")) {
		pairs = append(pairs, cookie.Name+"="+cookie.Value)
	}
	return strings.Join(pairs, "; ")
}

func TestSection4BearerTokenThatIsNotValidNeverFallsBackToTheCookie(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "audience api\nrequired_scopes openid\ndenied_claim groups guests\nbearer_token_from header X-Token")
	v := newVisitor(t, s, p)
	v.signIn("/")
	for _, test := range []struct {
		row    string
		token  string
		status int
		reason string
		error  string
	}{
		{"not valid", p.AccessToken(optest.Claims{"exp": 1}), 401, "expired", "invalid_token"},
		{"forged", optest.Sign(optest.NewKey(t, "RS256", "rs-1"), nil, p.AccessClaims(nil)), 401, "bad_signature", "invalid_token"},
		{"malformed header", "a b", 400, "malformed_authorization", "invalid_request"},
		{"lacks a scope", p.AccessToken(nil), 403, "insufficient_scope", "insufficient_scope"},
		{"fails another rule", p.AccessToken(optest.Claims{"scope": "openid", "groups": "guests"}), 403, "claim_denied", ""},
	} {
		for _, headers := range [][]string{nil, typed} { // programs and pages
			r := v.Get(v.url("/"), append([]string{"Authorization: Bearer " + test.token}, headers...)...)
			if headers == nil {
				v.wantRefusal(r, test.status, test.reason)
			} else {
				v.wantPage(r, test.status, test.reason)
			}
			challenge := r.Header.Get("Www-Authenticate")
			if !strings.Contains(challenge, `error="`+test.error+`"`) != (test.error == "") {
				t.Errorf("%s: challenge %q", test.row, challenge)
			}
			if r.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s: Set-Cookie %q", test.row, r.Header.Values("Set-Cookie"))
			}
		}
	}
	good := p.AccessToken(optest.Claims{"sub": "bob", "scope": "openid"})
	for _, headers := range [][]string{
		{"Authorization: Bearer " + good, "Authorization: Basic YTpi"},
		{"Authorization: Bearer " + good, "X-Token: " + good},
	} {
		v.wantRefusal(v.Get(v.url("/"), headers...), 400, "ambiguous_credentials")
	}
	if r := v.Get(v.url("/"), "Authorization: Bearer "+good); r.Status != http.StatusOK || userinfo(t, s.last(t).Header)["sub"] != "bob" {
		t.Errorf("a good token beside a session got %d", r.Status)
	}
	s.advance()
	v.wantSession(true) // which is alice's still
	if got := userinfo(t, s.last(t).Header)["sub"]; got != "alice" {
		t.Errorf("the session is of %s", got)
	}
	p.Fail(optest.JWKS, optest.Fault{Status: 500})
	v.wantRefusal(v.Get(v.url("/"), "Authorization: Bearer "+optest.Sign(p.Key("rs-1"), optest.Claims{"kid": "x"}, p.AccessClaims(nil))),
		401, "unknown_key")
}

func TestSection4AuthorizationWithAnotherSchemeIsPassedOn(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "unauth_action pass /public/*")
	v := newVisitor(t, s, p)
	stranger := newVisitor(t, s, p)
	stranger.wantRefusal(stranger.Get(v.url("/"), "Authorization: Basic YTpi"), 401, "no_credentials")
	stranger.wantLogin(stranger.open("/", "Authorization: Basic YTpi"))
	v.signIn("/")
	for _, header := range []string{"Basic YTpi", "Negotiate abc", "BearerX abc", "Digest username=\"a\""} {
		for path, visitor := range map[string]*visitor{"/": v, "/public/": stranger} {
			r := visitor.Get(v.url(path), "Authorization: "+header)
			if got := s.last(t).Header.Values("Authorization"); r.Status != http.StatusOK || len(got) != 1 || got[0] != header {
				t.Errorf("%s: status %d, the upstream got %q", path, r.Status, got)
			}
			s.advance()
		}
	}
}

// A site that leaves bearer tokens to the upstream takes none for a credential (S-005).
func TestSection4IgnoredBearerTokensOpenNothing(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "ignore_bearer")
	v := newVisitor(t, s, p)
	token := p.AccessToken(optest.Claims{"aud": "client"})
	for _, headers := range [][]string{
		{"Authorization: Bearer " + token}, {"Authorization: Bearer anything"}, {"X-Access-Token: " + token}, {"Cookie: access_token=" +
			token},
	} {
		for _, path := range []string{"/", "/?access_token=" + token, "/?token=x"} {
			v.wantRefusal(v.Get(v.url(path), headers...), 401, "no_credentials")
		}
	}
	v.signIn("/")
	r := v.Get(v.url("/"), "Authorization: Bearer "+token)
	if got := s.last(t).Header.Get("Authorization"); r.Status != http.StatusOK || got != "Bearer "+token {
		t.Errorf("status %d, the upstream got %q", r.Status, got)
	}
}

func TestSection4NoCredentialsAuthPageNavigationGoesToTheProvider(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	for name, headers := range map[string][]string{
		"typed": typed, "linked": linked, "of an older browser": {"Accept: text/html"},
		"without a destination": {"Sec-Fetch-Mode: navigate"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			t.Run(name+" "+method, func(t *testing.T) {
				request := v.wantLogin(v.Do(method, v.url("/x?y=z"), "", headers...))
				if request.Get("redirect_uri") != v.url("/oauth2/callback") {
					t.Errorf("redirect_uri %q", request.Get("redirect_uri"))
				}
			})
		}
	}
}

func TestSection4NoCredentialsAuthAnythingElseIs401(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	v.begin("/")
	v.ClearCookies()
	page := func(headers ...string) []string { return append(headers, "Accept: text/html,*/*;q=0.8") }
	for _, test := range []struct {
		name, method string
		headers      []string
	}{
		{"fetch", "GET", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-origin", "Accept: */*"}},
		{"fetch that asks for HTML", "GET", page("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty")},
		{"XHR", "GET", page("X-Requested-With: XMLHttpRequest")},
		{"EventSource", "GET", []string{"Accept: text/event-stream", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}},
		{"WebSocket", "GET", page("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")},
		{"preflight", "OPTIONS", page("Origin: https://elsewhere.example", "Access-Control-Request-Method: GET")},
		{"image", "GET", []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Accept: image/*"}},
		{"prefetch", "GET", page("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch")},
		{"prerender", "GET", page("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch;prerender")},
		{"a program", "GET", []string{"Accept: */*"}},
		{"a script that posts", "POST", []string{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"}},
		{"PUT", "PUT", page()},
		{"DELETE", "DELETE", []string{"Accept: application/json"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			r := v.Do(test.method, v.url("/x"), "", test.headers...)
			v.wantRefusal(r, 401, "no_credentials")
			if got := r.Header.Values("Www-Authenticate"); len(got) != 1 || got[0] != `Bearer realm="openid_connect"` {
				t.Errorf("challenge %q", got)
			}
			if !strings.Contains(r.Body, `"error":"login_required"`) || !strings.Contains(r.Body, `"login_url":"/oauth2/login"`) {
				t.Errorf("body %s", r.Body)
			}
			if got := r.Header.Values("Set-Cookie"); got != nil {
				t.Errorf("Set-Cookie %q", got)
			}
		})
	}
}

func TestSection4NoCredentialsDenyIs401(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "unauth_action deny\nunauth_action auth /app/*")
	v := newVisitor(t, s, p)
	v.wantLogin(v.open("/app/"))
	v.wantRefusal(v.Get(v.url("/")), 401, "no_credentials")
	r := v.open("/")
	v.wantPage(r, 401, "no_credentials")
	if r.Header.Get("Www-Authenticate") != `Bearer realm="openid_connect"` || strings.Contains(r.Body, "<a ") {
		t.Errorf("%v %s", r.Header, r.Body)
	}
	v.signIn("/app/")
	v.wantSession(true)
}

func TestSection4NoCredentialsPassIsStripped(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "unauth_action pass\nclaim_header X-Email email\nunauth_action auth /private/*")
	v := newVisitor(t, s, p)
	v.signIn("/private/")
	name := v.kept(isSessionName)[0].Name
	v.ClearCookies()
	for _, headers := range [][]string{typed, {"Accept: */*"}, {"Sec-Fetch-Mode: cors"}} {
		r := v.Get(v.url("/"), append([]string{
			"X-Userinfo: forged", "X_Email: forged", "X-Raw-Id-Token: forged", "Cookie: a=b; " + name + "-t-abcdefghij=x; " + name + "-loop=x",
		}, headers...)...)
		header := s.last(t).Header
		if r.Status != http.StatusOK || s.advance() != 1 || r.Header.Get("Cache-Control") != "" || r.Header.Get("Set-Cookie") != "" {
			t.Errorf("got %d, %v", r.Status, r.Header)
		}
		for _, forged := range []string{"X-Userinfo", "X_email", "X-Email", "X-Raw-Id-Token"} {
			if header[forged] != nil {
				t.Errorf("%s: %q", forged, header[forged])
			}
		}
		if header.Get("Cookie") != "a=b" {
			t.Errorf("the upstream got the cookies %q", header.Get("Cookie"))
		}
	}
}

func TestSection4SignedInButARuleRefuses(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "scope openid profile\nrequired_claim groups staff")
	p.SetUser(optest.Claims{"preferred_username": "<b>ursula</b>", "groups": []string{"staff"}})
	newVisitor(t, s, p).signIn("/")
	p.SetUser(optest.Claims{"preferred_username": "<b>ursula</b>", "groups": []string{"guests"}})
	v := newVisitor(t, s, p)
	landed := v.Navigate(v.url("/reports?year=2026"))
	v.wantPage(landed, 403, "claim_required")
	before := hitsOf(p)
	for range 5 { // nobody is sent round and round
		r := v.open("/reports?year=2026")
		v.wantPage(r, 403, "claim_required")
		if !strings.Contains(r.Body, "&lt;b&gt;ursula&lt;/b&gt;") || !strings.Contains(r.Body, "Use another account") {
			t.Errorf("the page does not name the account and the way out: %s", r.Body)
		}
		if want := `href="/oauth2/login?prompt=select_account&amp;return_to=%2Freports%3Fyear%3D2026"`; !strings.Contains(r.Body, want) {
			t.Errorf("the way out is not %s: %s", want, r.Body)
		}
		if r.Header.Get("Www-Authenticate") != "" {
			t.Errorf("challenge %q", r.Header.Get("Www-Authenticate"))
		}
	}
	r := v.Get(v.url("/"), "Accept: application/json")
	v.wantRefusal(r, 403, "claim_required")
	wantHits(t, p, before, hits{})
	for _, leaked := range []string{"ursula", "guests", "alice"} {
		if strings.Contains(r.Body, leaked) {
			t.Errorf("a program is told %s: %s", leaked, r.Body)
		}
	}
	p.SetUser(optest.Claims{"sub": "bob", "groups": "staff"})
	request := v.wantLogin(v.open("/oauth2/login?prompt=select_account&return_to=%2Freports%3Fyear%3D2026"))
	if got := request.Get("prompt"); got != "login" { // the provider does not offer select_account
		t.Errorf("prompt %q", got)
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/reports?year=2026")
	v.wantSession(true)
}

func TestSection4ProviderUnreachable(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "unauth_action pass /public/*\naudience api")
	v := newVisitor(t, s, p)
	p.Fail(optest.Discovery, optest.Fault{Status: 500})
	for _, path := range []string{"/x?y=z", "/oauth2/login"} {
		r := v.open(path)
		v.wantPage(r, 503, "discovery_failed")
		if r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	v.wantRefusal(v.Get(v.url("/"), "Authorization: Bearer "+p.AccessToken(nil)), 503, "discovery_failed")
	v.wantRefusal(v.Get(v.url("/")), 401, "no_credentials") // a plain 401 needs no provider
	if r := v.open("/public/"); r.Status != http.StatusOK {
		t.Errorf("a public page got %d", r.Status)
	}
	s.advance()
	p.Heal(optest.Discovery)
	waitUntil(t, func() bool { return s.handler.runtime.provider.KnownMetadata() != nil })
	v.signIn("/x?y=z")
	p.Down()
	v.wantSession(true) // a session needs no provider
	newVisitor(t, s, p).begin("/")
}
