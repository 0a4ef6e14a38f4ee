package openidconnect

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What somebody else's answers, cookies and codes are good for: nothing.

// The attacker sends his own answer to a victim's browser (login CSRF): the victim is not logged in as the attacker.
func TestS129AnswersOfOtherBrowsers(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	attacker := newVisitor(t, s, p)
	p.SetUser(optest.Claims{"sub": "mallory"})
	planted := attacker.begin("/attack")
	answer := attacker.answerTo(planted)
	p.SetUser(nil)
	before := hitsOf(p)
	t.Run("without a session", func(t *testing.T) {
		victim := newVisitor(t, s, p)
		request := victim.wantLogin(victim.arrive(planted, answer)) // as himself
		victim.wantRedirect(victim.arrive(request, victim.answerTo(request)), "/attack")
		victim.wantSession(true)
		if got := userinfo(t, s.last(t).Header)["sub"]; got != "alice" {
			t.Errorf("the victim is %v", got)
		}
	})
	t.Run("with a session", func(t *testing.T) {
		victim := newVisitor(t, s, p)
		victim.signIn("/")
		had := cookieHeader(victim)
		r := victim.arrive(planted, answer)
		victim.wantRedirect(r, "/attack")
		if len(sessionsIn(r)) != 0 || cookieHeader(victim) != had {
			t.Errorf("the session was touched: %q", r.Header.Values("Set-Cookie"))
		}
	})
	t.Run("with another login under way", func(t *testing.T) {
		victim := newVisitor(t, s, p)
		request := victim.begin("/mine")
		victim.wantLogin(victim.arrive(planted, answer))
		victim.wantRedirect(victim.arrive(request, victim.answerTo(request)), "/mine")
	})
	wantHits(t, p, before, hits{authorize: 1, token: 3})
	for _, form := range p.TokenRequests() {
		if form.Get("code") == answer.Get("code") {
			t.Error("the attacker's code was redeemed")
		}
	}
	attacker.wantRedirect(attacker.arrive(planted, answer), "/attack") // so it was a good one
}

// A code that was stolen from another login is not accepted into one's own: the provider sees it by the verifier, and without one the
// nonce shows it.
func TestS155InjectedCode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		status   int
		reason   string
	}{
		"PKCE": {"", 400, "code_exchange_failed"}, "nonce": {"use_pkce off", 400, "nonce_mismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newLoginSite(t, p, test.settings)
			victim, attacker := newVisitor(t, s, p), newVisitor(t, s, p)
			stolen := victim.answerTo(victim.begin("/"))
			request := attacker.begin("/")
			answer := attacker.answerTo(request)
			answer.Set("code", stolen.Get("code"))
			attacker.wantPage(attacker.arrive(request, answer), test.status, test.reason)
			attacker.wantSession(false)
			if len(attacker.kept(isTransactionName)) != 0 {
				t.Error("the login goes on")
			}
			request = attacker.begin("/")
			attacker.wantRedirect(attacker.arrive(request, attacker.answerTo(request)), "/")
		})
	}
}

// Whatever session an attacker has planted in the browser, a login makes a new one.
func TestS130PlantedSessionIsReplaced(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	attacker := newVisitor(t, s, p)
	p.SetUser(optest.Claims{"sub": "mallory"})
	attacker.signIn("/")
	p.SetUser(nil)
	planted := attacker.kept(isSessionName)[0]
	for name, value := range map[string]string{"the attacker's own": planted.Value, "an arbitrary one": randomText()} {
		t.Run(name, func(t *testing.T) {
			victim := newVisitor(t, s, p)
			cookie := *planted
			cookie.Value = value
			victim.SetCookie(victim.url("/"), &cookie)
			request := victim.wantLogin(victim.open("/oauth2/login?prompt=login"))
			r := victim.arrive(request, victim.answerTo(request))
			victim.wantRedirect(r, "/")
			if made := victim.kept(isSessionName); len(made) != 1 || made[0].Value == value {
				t.Fatalf("the browser has %v", made)
			}
			victim.wantSession(true)
			if got := userinfo(t, s.last(t).Header)["sub"]; got != "alice" {
				t.Errorf("the victim is %v", got)
			}
			attacker.wantSession(true)
			if got := userinfo(t, s.last(t).Header)["sub"]; got != "mallory" {
				t.Errorf("the attacker is %v", got)
			}
		})
	}
}

// Sites that share their secret share nothing else: neither sessions nor logins of one are any good at another provider, client or host,
// or where logins must be stronger.
func TestS140NothingOpensElsewhere(t *testing.T) {
	t.Parallel()
	p, foreign := optest.New(t), optest.New(t)
	home := newLoginSite(t, p, "session {\ncookie_name app\n}")
	v := newVisitor(t, home, p)
	v.signIn("/")
	request := v.begin("/oauth2/login?prompt=login")
	answer := v.answerTo(request)
	isAny := func(name string) bool { return name == "app" || isTransactionName(name) }
	if len(v.kept(isAny)) != 2 {
		t.Fatalf("the browser has %v", v.Cookies(v.url("/")))
	}
	for name, test := range map[string]struct {
		p        *optest.Provider
		settings string
		opens    bool
	}{
		"the same settings": {p, "", true}, "another provider": {foreign, "", false}, "another client": {p, "client_id other\n", false},
		"acr_values": {p, "acr_values high\n", false}, "max_age": {p, "max_age 1h\n", false},
		"id_token_signed_response_alg": {p, "id_token_signed_response_alg ES256\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			elsewhere := newLoginSite(t, test.p, test.settings+"session {\ncookie_name app\n}")
			v := v.clone()
			v.t, v.origin, v.upstream, v.provider = t, elsewhere.server.URL, elsewhere.recorder,
				test.p // another port is the same host to a browser
			v.wantSession(test.opens)
			if test.opens {
				return
			}
			before, beforeHome := hitsOf(test.p), hitsOf(p)
			at := url.Values{"redirect_uri": {strings.Replace(request.Get("redirect_uri"), home.server.URL, elsewhere.server.URL, 1)}}
			r := v.arrive(at, answer)
			if len(sessionsIn(r)) != 0 {
				t.Errorf("a session was made: %d", r.Status)
			}
			wantHits(t, test.p, before, hits{})
			wantHits(t, p, beforeHome, hits{})
			v.wantSession(false)
		})
	}
	t.Run("another host", func(t *testing.T) {
		v := v.clone()
		v.t = t
		local := strings.Replace(v.url("/"), "127.0.0.1", "localhost", 1)
		before := hitsOf(p)
		v.wantRefusal(v.Get(local, "Cookie: "+cookieHeader(v)), 401, "no_credentials")
		r := v.Get(local+"oauth2/callback?"+answer.Encode(), append([]string{"Cookie: " + cookieHeader(v)}, linked...)...)
		if len(sessionsIn(r)) != 0 || r.Status == http.StatusOK {
			t.Errorf("got %d, %v", r.Status, r.Header)
		}
		wantHits(t, p, before, hits{})
	})
	v.wantRedirect(v.arrive(request, answer), "/")
}

// Two providers on one host: the answer of one, brought to the other's callback, is not sent on (mix-up, S-133).
func TestS133TwoProviders(t *testing.T) {
	t.Parallel()
	a, b := optest.New(t), optest.New(t)
	siteA, siteB := newLoginSite(t, a, "path_prefix /a"), newLoginSite(t, b, "path_prefix /b")
	v := newVisitor(t, siteA, a)
	atB := *v
	atB.origin, atB.upstream, atB.provider = siteB.server.URL, siteB.recorder, b // in the same browser, with all its cookies
	requestA, requestB := v.begin("/"), atB.begin("/")
	answerA, answerB := v.answerTo(requestA), atB.answerTo(requestB)
	v.wantPage(v.arrive(requestA, answerB), 400, "state_mismatch")
	mixed := url.Values{"code": answerB["code"], "state": answerA["state"], "iss": {b.Issuer()}}
	again := v.clone()
	again.wantPage(again.arrive(requestA, mixed), 400, "issuer_mismatch")
	wantHits(t, a, hits{}, hits{})
	wantHits(t, b, hits{}, hits{})
	v.wantRedirect(v.arrive(requestA, answerA), "/")
	atB.wantRedirect(atB.arrive(requestB, answerB), "/")
	for _, form := range append(a.TokenRequests(), b.TokenRequests()...) {
		if code := form.Get("code"); code != answerA.Get("code") && code != answerB.Get("code") {
			t.Errorf("token request %v", form)
		}
	}
	if a.TokenRequests()[0].Get("code") == answerB.Get("code") {
		t.Error("b's code went to a")
	}
}

// An answer by form: cookies come along from the provider's site, and nothing of the query counts.
func TestSection7FormPost(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newSecureLoginSite(t, p, "response_mode form_post")
	v := newVisitor(t, s, p)
	landed := v.Navigate(v.url("/x?y=z"))
	if landed.Status != http.StatusOK || landed.URL != v.url("/x?y=z") || s.advance() != 1 {
		t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, shown(landed))
	}
	for _, step := range landed.Steps {
		for _, cookie := range step.SetCookies {
			if isTransactionName(cookie.Name) && (cookie.SameSite != http.SameSiteNoneMode || !cookie.Secure) {
				t.Errorf("the transaction is %s", cookie)
			}
		}
	}
	if mode := p.AuthorizeRequests()[0].Get("response_mode"); mode != "form_post" {
		t.Errorf("response_mode %q", mode)
	}
	v.ClearCookies()
	request := v.begin("/x?y=z")
	answer := v.answerTo(request)
	post := func(body, contentType string) *optest.Response {
		return v.Do(http.MethodPost, request.Get("redirect_uri")+"?"+answer.Encode(), body, append([]string{"Content-Type: " + contentType},
			linked...)...)
	}
	const form = "application/x-www-form-urlencoded"
	before := hitsOf(p)
	v.wantPage(v.arrive(request, answer), 400, "state_mismatch")
	v.wantPage(post("", form), 400, "state_mismatch")
	v.wantPage(post(`{"code":"x"}`, "application/json"), 400, "provider_error")
	v.wantPage(post(answer.Encode(), "text/plain"), 400, "provider_error")
	v.wantPage(post(answer.Encode(), "multipart/form-data; boundary=x"), 400, "provider_error")
	v.wantPage(post(answer.Encode()+strings.Repeat("&a=b", 1000), form), 400, "provider_error")
	v.wantPage(post(answer.Encode()+"&code=x", form), 400, "duplicate_parameter")
	v.wantPage(post(answer.Encode()+"&x="+strings.Repeat("x", 1<<20), form), 413, "provider_error")
	for method, status := range map[string]int{http.MethodHead: 401, http.MethodPut: 405} {
		if r := v.Do(method, request.Get("redirect_uri"), answer.Encode(), append([]string{"Content-Type: " + form},
			linked...)...); r.Status != status {
			t.Errorf("%s got %d", method, r.Status)
		}
	}
	wantHits(t, p, before, hits{})
	r := post(answer.Encode(), form+"; charset=utf-8")
	if r.Status != http.StatusSeeOther {
		t.Errorf("status %d, want 303", r.Status)
	}
	v.wantRedirect(r, "/x?y=z")
	t.Run("a form starts a lost login again", func(t *testing.T) {
		v := newVisitor(t, s, p)
		request := v.begin("/x?y=z")
		v.ClearCookies()
		r := v.Post(request.Get("redirect_uri"), v.answerTo(request), linked...)
		v.wantLogin(r)
	})
}

// Line 2. The issuer of the answer (RFC 9207): what is promised must be there, and what is there must be right.
func TestSection7IssOfTheResponse(t *testing.T) {
	t.Parallel()
	promised, silent := optest.New(t, optest.WithIssParameter()), optest.New(t)
	for name, p := range map[string]*optest.Provider{"promised": promised, "not promised": silent} {
		s := newLoginSite(t, p, "")
		for _, test := range []struct {
			name string
			iss  []string
			good bool
		}{
			{"right", []string{p.Issuer()}, true},
			{"missing", nil, p == silent},
			{"wrong", []string{"https://attacker.example"}, false},
			{"with a slash", []string{p.Issuer() + "/"}, false},
			{"in capitals", []string{strings.ToUpper(p.Issuer())}, false},
			{"percent-encoded once more", []string{url.QueryEscape(p.Issuer())}, false},
			{"empty", []string{""}, false},
			{"twice", []string{p.Issuer(), p.Issuer()}, false},
			{"right and wrong", []string{p.Issuer(), "https://attacker.example"}, false},
		} {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				v := newVisitor(t, s, p)
				request := v.begin("/")
				answer := v.answerTo(request)
				answer["iss"] = test.iss
				before := hitsOf(p)
				r := v.arrive(request, answer)
				if test.good {
					v.wantRedirect(r, "/")
					wantHits(t, p, before, hits{token: 1})
					return
				}
				reason := "issuer_mismatch"
				if len(test.iss) > 1 {
					reason = "duplicate_parameter"
				}
				v.wantPage(r, 400, reason)
				wantHits(t, p, before, hits{})
				v.wantSession(false)
			})
		}
	}
	t.Run("a wrong one refuses errors and foreign states too", func(t *testing.T) {
		v := newVisitor(t, newLoginSite(t, silent, ""), silent)
		request := v.begin("/")
		answer := url.Values{"iss": {"https://attacker.example"}, "error": {"temporarily_unavailable"}, "state": {request.Get("state")}}
		v.wantPage(v.arrive(request, answer), 400, "issuer_mismatch")
		v.ClearCookies()
		v.wantPage(v.arrive(request, answer), 400, "issuer_mismatch")
		answer.Del("error")
		answer.Set("state", "")
		v.wantPage(v.arrive(request, answer), 400, "issuer_mismatch")
	})
}
