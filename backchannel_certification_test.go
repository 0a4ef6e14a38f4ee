package openidconnect

import (
	"net/http"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The tests of the OpenID certification plan for clients with back-channel logout: somebody logs out, and while the browser waits at the
// provider this posts a logout token, a good one or one that is wrong in one way (C-078 to C-089).
func TestC089BackchannelLogoutWhileTheBrowserWaits(t *testing.T) {
	t.Parallel()
	b, first, second := newSingleSignOn(t)
	answers := b.logOut(first)
	if len(answers) != 2 {
		t.Fatalf("%d logout tokens", len(answers))
	}
	for _, answer := range answers {
		wantDone(t, answer)
	}
	wantEnded(t, first)
	second.wantSession(false)
	// the other site does not sign in again by itself either: the provider wants credentials
	prompts := b.p.Prompts()
	b.p.SetSIDs(nil)
	second.signIn("/")
	if n := b.p.Prompts() - prompts; n != 1 {
		t.Errorf("%d prompts", n)
	}
	wantEnded(t, first)
}

// newSingleSignOn signs one browser in at two sites of a provider, which tells both of logouts.
func newSingleSignOn(t *testing.T) (b *backchannel, first, second *visitor) {
	t.Helper()
	p := optest.New(t, optest.WithEndSession())
	b = newBackchannelAt(t, p, newLoginSite(t, p, "session {\ncookie_name one\n}"))
	another := b.at(newLoginSite(t, p, "session {\ncookie_name two\n}"))
	p.SetBackchannelLogoutURI(b.uri, another.uri)
	first = b.signIn("alice", "s")
	second = first.at(another.site)
	second.upstream.advance()
	second.signIn("/")
	if n := p.Prompts(); n != 1 {
		t.Fatalf("%d prompts for two logins", n)
	}
	return b, first, second
}

// logOut has somebody log out at one site, and returns what the sites have answered to the provider by then.
func (b *backchannel) logOut(v *visitor) []optest.BackchannelAnswer {
	b.t.Helper()
	before := len(b.p.BackchannelAnswers())
	landed := v.Navigate(v.url("/oauth2/logout"))
	if landed.Status != http.StatusOK {
		b.t.Fatalf("landed on %s with %d", landed.URL, landed.Status)
	}
	logouts := b.p.Logouts()
	if len(logouts) != 1 || logouts[0].SID == "" || logouts[0].Refused != "" {
		b.t.Fatalf("the provider has ended %+v", logouts)
	}
	return b.p.BackchannelAnswers()[before:]
}

func TestC080WrongTokensWhileTheBrowserWaits(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edit   func(optest.Claims)
		reason string
	}{
		"no-event":    {withEvents(nil), "wrong_token_type"},
		"wrong-event": {withEvents(optest.Claims{"http://schemas.openid.net/event/foo": optest.Claims{}}), "wrong_token_type"},
		"with-nonce":  {set("nonce", "n"), "wrong_token_type"},
		"wrong-aud":   {set("aud", "wrong"), "wrong_audience"},
		"wrong-iss":   {func(claims optest.Claims) { claims["iss"] = claims["iss"].(string) + "/wrong" }, "wrong_issuer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, first, second := newSingleSignOn(t)
			b.p.SetLogoutTokenClaims(test.edit)
			answers := b.logOut(first)
			if len(answers) != 2 {
				t.Fatalf("%d logout tokens", len(answers))
			}
			b.wantRefusal(answers[0], http.StatusBadRequest, test.reason)
			if answers[1].Status != http.StatusBadRequest {
				t.Errorf("the other site answers %d", answers[1].Status)
			}
			wantEnded(t, first) // by its user
			wantAlive(t, second)
			b.p.SetLogoutTokenClaims(nil)
			second.site.t = t
			wantDone(t, b.p.SendLogout(t, answers[1].URI, b.p.LogoutToken(optest.BySID("s"))))
			second.wantSession(false)
		})
	}
}

// An administrator ends sessions at the provider, and no browser has a part in it.
func TestLogoutByAnAdministrator(t *testing.T) {
	t.Parallel()
	for where, settings := range keptWhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			b := newBackchannel(t, settings, optest.WithEndSession())
			b.p.SetBackchannelLogoutURI(b.uri)
			alice, bob := b.signIn("alice", "1"), b.signIn("bob", "2")
			if n := b.p.EndSSO("1"); n != 1 {
				t.Fatalf("%d sessions at the provider", n)
			}
			wantEnded(t, alice)
			wantAlive(t, bob)
			b.p.SetLogoutTokenClaims(set("sid", nil)) // as of providers that have no sid
			if n := b.p.EndSSO("bob"); n != 1 {
				t.Fatalf("%d sessions at the provider", n)
			}
			wantEnded(t, bob)
			for _, answer := range b.p.BackchannelAnswers() {
				wantDone(t, answer)
			}
		})
	}
}
