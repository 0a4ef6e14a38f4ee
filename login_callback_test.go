package openidconnect

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The callback, line by line: what it redeems, what it heals, and what it refuses without asking the provider for anything.

func TestSection7TransactionFoundAndStateEqual(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newSecureLoginSite(t, p, "userinfo on"), p)
	r := v.open("/x?y=z")
	request := v.wantLogin(r)
	cookie := r.Steps[0].SetCookies[0]
	if !regexp.MustCompile(`^__Host-oidc-[0-9a-f]{6}-t-[a-z2-7]{10}$`).MatchString(cookie.Name) || cookie.Path != "/" ||
		cookie.MaxAge != 900 ||
		!cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("the transaction is %s", cookie)
	}
	for name, hidden := range map[string]string{
		"nonce": request.Get("nonce"), "challenge": request.Get("code_challenge"), "state": request.Get("state"), "path": "/x?y=z",
	} {
		opened, _ := base64.RawURLEncoding.DecodeString(cookie.Value)
		if strings.Contains(cookie.Value, hidden) || strings.Contains(string(opened), hidden) {
			t.Errorf("the %s is in the cookie", name)
		}
	}
	before := hitsOf(p)
	r = v.arrive(request, v.answerTo(request))
	v.wantRedirect(r, "/x?y=z")
	wantHits(t, p, before, hits{token: 1, userinfo: 1})
	form := p.TokenRequests()[0]
	if form.Get("redirect_uri") != request.Get("redirect_uri") ||
		challengeOf(form.Get("code_verifier")) != request.Get("code_challenge") {
		t.Errorf("token request %v for %v", form, request)
	}
	if len(v.kept(isTransactionName)) != 0 || len(v.kept(isSessionName)) != 1 {
		t.Errorf("after the login the browser has %v", v.Cookies(v.url("/")))
	}
	session := v.kept(isSessionName)[0]
	if !regexp.MustCompile(`^__Host-oidc-[0-9a-f]{6}$`).MatchString(session.Name) || session.Path != "/" || session.MaxAge != 24*60*60 ||
		!session.Secure || !session.HttpOnly || session.SameSite != http.SameSiteLaxMode {
		t.Errorf("the session is %s", session)
	}
	v.wantSession(true)
	if len(v.Dropped) != 0 {
		t.Errorf("browsers drop %v", v.Dropped)
	}
}

// Line 1. What the provider says instead of a code.
func TestSection7ProviderErrorIsAPageUnlessItPasses(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	for _, test := range []struct {
		code, description string
		status            int
		reason            string
	}{
		{"access_denied", "", 403, "access_denied"},
		{"login_required", "", 400, "provider_error"},
		{"interaction_required", "", 400, "provider_error"},
		{"invalid_scope", "<script>alert(1)</script>", 400, "provider_error"},
		{"server_error", "", 400, "provider_error"},
		{"<script>", "{env.HOME}", 400, "provider_error"},
		{"", "", 400, "provider_error"},
	} {
		t.Run(test.code, func(t *testing.T) {
			v := newVisitor(t, s, p)
			request := v.begin("/x?y=z")
			before := hitsOf(p)
			answer := url.Values{"error": {test.code}, "error_description": {test.description}, "state": {request.Get("state")}}
			r := v.arrive(request, answer)
			v.wantPage(r, test.status, test.reason)
			wantHits(t, p, before, hits{})
			if !strings.Contains(r.Body, `<a href="/oauth2/login?return_to=%2Fx%3Fy%3Dz">`) || strings.Contains(r.Body, "script") {
				t.Errorf("the page: %s", shown(r))
			}
			if left := v.kept(isTransactionName); len(left) != 0 {
				t.Errorf("the transaction is still there")
			}
			// the same without a state of ours is a page too, and says no more than 400
			for _, state := range []string{"", "x", request.Get("state") + "x"} {
				answer.Set("state", state)
				v.wantPage(v.arrive(request, answer), 400, "provider_error")
			}
			v.wantLogin(v.open("/oauth2/login?return_to=%2Fx%3Fy%3Dz")) // the way out works
		})
	}
	t.Run("an error beside a code", func(t *testing.T) {
		v := newVisitor(t, s, p)
		request := v.begin("/")
		answer := v.answerTo(request)
		answer.Set("error", "temporarily_unavailable")
		before := hitsOf(p)
		v.wantPage(v.arrive(request, answer), 400, "provider_error")
		wantHits(t, p, before, hits{})
	})
	for name, fail := range map[string][2]string{
		"temporarily_unavailable":               {"temporarily_unavailable", "please wait"},
		"authentication_expired in description": {"login_required", "code: authentication_expired"},
	} {
		t.Run(name+" starts once more", func(t *testing.T) {
			v := newVisitor(t, s, p)
			request := v.begin("/x?y=z")
			before := hitsOf(p)
			failed := func(request url.Values) url.Values {
				return url.Values{"error": {fail[0]}, "error_description": {fail[1]}, "state": {request.Get("state")}}
			}
			second := v.wantLogin(v.arrive(request, failed(request)))
			if n := len(v.kept(isTransactionName)); n != 1 {
				t.Errorf("the browser has %d transactions", n)
			}
			status, reason := 400, "provider_error"
			if fail[0] == "temporarily_unavailable" {
				status = 503
			}
			r := v.arrive(second, failed(second))
			v.wantPage(r, status, reason) // and no oftener
			wantHits(t, p, before, hits{})

			third := v.wantLogin(v.open("/oauth2/login?return_to=%2Fx%3Fy%3Dz"))
			v.wantRedirect(v.arrive(third, v.answerTo(third)), "/x?y=z")
			v.wantSession(true)
		})
	}
	t.Run("with a state that does not open nothing starts", func(t *testing.T) {
		v := newVisitor(t, s, p)
		request := v.begin("/")
		v.wantPage(v.arrive(request, url.Values{"error": {"temporarily_unavailable"}, "state": {"x"}}), 400, "provider_error")
	})
}

// Line 3. Back buttons, reloads and second tabs of people who are signed in.
func TestSection7NoTransactionButAValidSession(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "session {\nabsolute_timeout 2h\n}")
	signedIn := newVisitor(t, s, p)
	old := signedIn.begin("/older?tab=1")
	abandoned := signedIn.begin("/abandoned?tab=1")
	used := signedIn.begin("/used?a=b%20c")
	usedAnswer := signedIn.answerTo(used)
	signedIn.wantRedirect(signedIn.arrive(used, usedAnswer), "/used?a=b%20c")
	long := signedIn.begin("/oauth2/login?prompt=login&return_to=/long%3Fq=" + strings.Repeat("x", 600))
	for _, test := range []struct {
		name string
		do   func(v *visitor) *optest.Response
		want string
	}{
		{"spent", func(v *visitor) *optest.Response { return v.arrive(used, usedAnswer) }, "/used?a=b%20c"},
		{"missing", func(v *visitor) *optest.Response {
			v.lose(isTransactionName)
			return v.arrive(old, v.answerTo(old))
		}, "/older?tab=1"},
		{"missing, and what the state could not hold", func(v *visitor) *optest.Response {
			v.lose(isTransactionName)
			return v.arrive(long, v.answerTo(long))
		}, "/long"},
		{"unreadable", func(v *visitor) *optest.Response {
			for _, cookie := range v.kept(isTransactionName) {
				cookie.Value = flipped(cookie.Value, len(cookie.Value)/2)
				v.SetCookie(v.url("/"), cookie)
			}
			return v.arrive(abandoned, v.answerTo(abandoned))
		}, "/abandoned?tab=1"},
		{"expired", func(v *visitor) *optest.Response {
			v.site.setNow(time.Now().Add(20 * time.Minute))
			return v.arrive(abandoned, v.answerTo(abandoned))
		}, "/abandoned?tab=1"},
		{"no state, and nothing under way", func(v *visitor) *optest.Response {
			v.lose(isTransactionName)
			return v.open("/oauth2/callback")
		}, "/"},
		{"a state of nobody, and nothing under way", func(v *visitor) *optest.Response {
			v.lose(isTransactionName)
			return v.open("/oauth2/callback?code=x&state=" + randomText())
		}, "/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := signedIn.clone()
			v.t = t
			before := hitsOf(p)
			v.wantRedirect(test.do(v), test.want)
			wantHits(t, p, before, hits{})
			v.wantSession(true)
		})
	}
}

// Line 4. Nobody is signed in: what was lost on the way starts again, twice at most, and what was tampered with does not.
func TestSection7TransactionIsGoneAndTheLoginStartsAgainAtMostTwice(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	for name, loseIt := range map[string]func(v *visitor){
		"lost":    func(v *visitor) { v.lose(isTransactionName) },
		"expired": func(v *visitor) { v.site.setNow(v.site.handler.runtime.now().Add(15 * time.Minute)) },
		"unreadable": func(v *visitor) {
			for _, cookie := range v.kept(isTransactionName) {
				cookie.Value = randomText()
				v.SetCookie(v.url("/"), cookie)
			}
		},
		"under another name": func(v *visitor) {
			cookie := v.kept(isTransactionName)[0]
			v.lose(isTransactionName)
			cookie.Name = flipped(cookie.Name, len(cookie.Name)-1)
			v.SetCookie(v.url("/"), cookie)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVisitor(t, s, p)
			request := v.begin("/x?y=z&w=%2f")
			before := hitsOf(p)
			for range 2 {
				loseIt(v)
				request = v.wantLogin(v.arrive(request, v.answerTo(request)))
			}
			again := v.clone()
			loseIt(v)
			reason := "transaction_missing"
			if name == "expired" {
				reason = "transaction_expired"
			}
			v.wantPage(v.arrive(request, v.answerTo(request)), 400, reason)
			wantHits(t, p, before, hits{})
			// the last of these logins, finished in time, leads where the first one was to lead
			s.handler.runtime.now = time.Now
			again.lose(isTransactionName)
			request = again.begin("/x?y=z&w=%2f")
			again.wantRedirect(again.arrive(request, again.answerTo(request)), "/x?y=z&w=%2f")
		})
	}
	t.Run("cookies are blocked", func(t *testing.T) {
		v := newVisitor(t, s, p)
		v.Header = http.Header{"Cookie": {"blocked=1"}}
		before := hitsOf(p)
		r := v.Navigate(v.url("/x?y=z"))
		v.wantPage(r, 400, "transaction_missing")
		wantHits(t, p, before, hits{authorize: 3})
	})
	t.Run("the secret has been replaced", func(t *testing.T) {
		v := newVisitor(t, s, p)
		request := v.begin("/x")
		replaced := newSite(t,
			"issuer "+p.Issuer()+"\nclient_id client\nclient_secret secret\nsession {\nsecret \"the session secret of another day\"\n}")
		v.origin, v.upstream = replaced.server.URL, replaced.recorder
		before := hitsOf(p)
		again := v.wantLogin(v.open("/oauth2/callback?" + v.answerTo(request).Encode()))
		wantHits(t, p, before, hits{})
		if n := len(v.kept(isTransactionName)); n != 1 {
			t.Errorf("the browser has %d transactions", n)
		}
		v.wantRedirect(v.arrive(again, v.answerTo(again)), "/") // nobody can read where it was to lead
	})
	t.Run("nothing at all is readable", func(t *testing.T) {
		v := newVisitor(t, s, p)
		before := hitsOf(p)
		for _, query := range []string{"", "?code=x&state=" + randomText()} { // a bookmark, a rotated key
			v.wantLogin(v.open("/oauth2/callback" + query))
			v.lose(isTransactionName)
		}
		v.wantPage(v.open("/oauth2/callback"), 400, "transaction_missing")
		wantHits(t, p, before, hits{})
		v.later(time.Minute)
		defer func() { s.handler.runtime.now = time.Now }()
		request := v.wantLogin(v.open("/oauth2/callback"))
		v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
	})
}

func TestSection7StateThatDoesNotOpenBesideALiveTransactionWasTamperedWith(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	other := newVisitor(t, newLoginSite(t, optest.New(t), ""), p)
	v := newVisitor(t, s, p)
	request := v.begin("/x")
	state := request.Get("state")
	foreign, err := url.Parse(other.open("/").Location())
	if err != nil {
		t.Fatal(err)
	}
	for name, tampered := range map[string]string{
		"missing": "", "random": randomText(), "truncated": state[:len(state)-1], "longer": state + "A", "changed": flipped(state,
			len(state)/2), "padded": state + "=",
		"with a space": state[:9] + " " + state[9:], "another provider's": foreign.Query().Get("state"), "huge": strings.Repeat("A", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			v := v.clone()
			v.t = t
			answer := v.answerTo(request)
			answer.Set("state", tampered)
			before := hitsOf(p)
			v.wantPage(v.arrive(request, answer), 400, "state_mismatch")
			wantHits(t, p, before, hits{})
			if len(v.kept(isTransactionName)) != 1 {
				t.Error("a stranger's answer has ended the login")
			}
		})
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x")
}

// Where it cannot be found out at the moment whether the answer is the provider's, the login goes on as soon as it can.
func TestSection7ResponseIssuerThatCannotBeChecked(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	v := newVisitor(t, newSiteOn(t, storage, p, sealedWithSecret("timeout 5s")), p)
	request := v.begin("/x?y=z")
	answer := v.answerTo(request)
	answer.Set("iss", p.Issuer())

	p.Fail(optest.Discovery, optest.Fault{Status: 500})
	restarted := func(timeout string) *visitor {
		return v.at(newSiteOn(t, storage, p, sealedWithSecret("timeout "+timeout)))
	}
	callback := "/oauth2/callback?" + answer.Encode()
	early := restarted("5001ms")
	early.wantPage(early.Get(early.url(callback), linked...), 503, "discovery_failed")
	if n := len(v.kept(isTransactionName)); n != 1 {
		t.Fatalf("%d transactions are left", n)
	}
	p.Heal(optest.Discovery)
	late := restarted("5002ms")
	late.wantRedirect(late.Get(late.url(callback), linked...), "/x?y=z")

	v.ClearCookies()
	request = v.begin("/")
	answer.Set("state", request.Get("state"))
	answer.Set("iss", "https://other.example")
	v.wantPage(v.arrive(request, answer), 400, "issuer_mismatch")
}
