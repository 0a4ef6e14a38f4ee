package openidconnect

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What is under way while somebody logs out.

// logoutTimeline is the time of a provider that ends single sign-on sessions, revokes tokens and gives refresh tokens.
func logoutTimeline(t *testing.T) *timeline {
	t.Helper()
	p := optest.New(t, optest.WithEndSession(), optest.WithRevocation())
	p.SetRefreshTokens(true)
	return newTimeline(p)
}

// An answer that the upstream was slow with never brings the session back.
func TestS211SlowAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		before   time.Duration // what has the slow answer bring a cookie
	}{
		"reissued":                {"", 10 * time.Minute},
		"renewed":                 {"", time.Hour},
		"reissued in the storage": {"session {\nstorage caddy\n}", 10 * time.Minute},
	} {
		for _, logsOut := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", and nothing happens", true: ", and a logout"}[logsOut], func(t *testing.T) {
				t.Parallel()
				l := logoutTimeline(t)
				l.issuer.SetAccessLifetime(time.Hour)
				r := l.welcome(t, l.instance(t, newSharedFolder(t), withToken+test.settings))
				upstream := r.delay()
				old := r.cookie()
				r.pass(test.before)
				answer := upstream.begin(r, "/slow", "Accept: application/json")
				r.upstream.advance()
				if logsOut {
					r.wantLogout(r.signOut())
				}
				upstream.finish()
				late := <-answer
				if brought := late.set != ""; late.Status != http.StatusOK || brought == logsOut || late.forgot {
					t.Errorf("the slow answer has %d and Set-Cookie %q", late.Status, late.Header.Values("Set-Cookie"))
				}
				if !logsOut {
					r.wantAlive(old)
					return
				}
				r.wantDead(old)
				if late.set != "" {
					r.wantDead(late.set)
				}
			})
		}
	}
}

// A callback that comes once more within its grace gets the session again, but not when that has ended in between.
func TestS211RepeatedCallbacks(t *testing.T) {
	t.Parallel()
	for way, settings := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			v := newVisitor(t, newLoginSite(t, p, settings), p)
			request := v.begin("/page")
			answer, tab := v.answerTo(request), v.clone()
			v.wantRedirect(v.arrive(request, answer), "/page")
			copied := cookieHeader(v)
			v.wantAlive(copied)
			again := tab.clone()
			if again.wantRedirect(again.arrive(request, answer), "/page"); len(again.kept(isSessionName)) != 1 {
				t.Error("a repetition does not get the session while it lives")
			}
			v.wantLogout(v.signOut())
			for _, pause := range []time.Duration{0, callbackGrace / 2} {
				v.later(pause)
				late := tab.clone()
				r := late.arrive(request, answer)
				late.wantRedirect(r, "/page")
				if len(sessionsIn(r)) != 0 || len(late.kept(isSessionName)) != 0 {
					t.Errorf("the session comes back: %q", r.Header.Values("Set-Cookie"))
				}
				late.wantSession(false)
			}
			v.wantDead(copied)
			if n := p.CodeReuses(); n != 0 {
				t.Errorf("%d codes were presented twice", n)
			}
		})
	}
}

// A login that is under way in the browser ends with the logout; one that is finished afterwards is a new one.
func TestLoginsUnderWayAtALogout(t *testing.T) {
	t.Parallel()
	v, p := newSignedIn(t, "")
	request := v.begin("/oauth2/login?prompt=login&return_to=/x")
	tab, answer := v.clone(), v.answerTo(request)
	v.wantLogout(v.signOut())
	before := p.Hits(optest.Token)
	v.wantLogin(v.arrive(request, answer)) // its transaction has gone, so it starts anew
	v.lose(isTransactionName)
	if n := p.Hits(optest.Token) - before; n != 0 {
		t.Errorf("%d codes were sent", n)
	}
	tab.wantRedirect(tab.arrive(request, answer), "/x")
	tab.wantSession(true)
}

// Whoever logs out while his session is being renewed is out when the renewal is done, and the tokens that it has brought are revoked too.
func TestLogoutDuringARenewal(t *testing.T) {
	t.Parallel()
	for way, settings := range ways {
		for _, revokes := range []bool{true, false} {
			t.Run(way+map[bool]string{true: ", revoking", false: ""}[revokes], func(t *testing.T) {
				t.Parallel()
				l := logoutTimeline(t)
				p := l.issuer
				tokens := recordedTokens(p)
				settings := withToken + "userinfo on\n" + settings
				if revokes {
					settings += "\nrevoke_tokens_on_logout"
				}
				r := l.welcome(t, l.instance(t, newSharedFolder(t), settings))
				first, old := map[string]string{"refresh_token": tokens["refresh_token"], "access_token": tokens["access_token"]}, r.cookie()
				r.wantAlive(old)
				r.pass(tokenLife)

				// the provider has given new tokens, and takes its time with the rest
				release := make(chan struct{})
				p.Fail(optest.Userinfo, optest.Fault{Wait: release})
				hits := p.Hits(optest.Userinfo)
				answer := make(chan served, 1)
				one := r.clone()
				go func() { answer <- one.ask() }()
				p.WaitForHits(t, optest.Userinfo, hits+1)
				r.wantLogout(r.signOut())
				wantRevoked := func(want map[string]string) {
					t.Helper()
					revoked := make(map[string]string)
					for _, request := range p.Revocations() {
						revoked[request.Hint] = request.Token
					}
					for hint, token := range want {
						if revoked[hint] != token {
							t.Errorf("the last %s to be revoked is not the one that should be", hint)
						}
					}
				}
				if revokes {
					p.WaitForHits(t, optest.Revocation, 2)
					wantRevoked(first)
				}
				close(release)
				late := <-answer
				if late.set != "" || late.Status == http.StatusOK {
					t.Errorf("the renewing request got %d and Set-Cookie %q", late.Status, late.Header.Values("Set-Cookie"))
				}
				r.site.settle()
				if revokes {
					p.WaitForHits(t, optest.Revocation, 4)
					second := map[string]string{"refresh_token": tokens["refresh_token"], "access_token": tokens["access_token"]}
					if second["refresh_token"] == first["refresh_token"] {
						t.Fatal("there are no new tokens")
					}
					wantRevoked(second)
				} else if n := p.Hits(optest.Revocation); n != 0 {
					t.Errorf("%d revocations that nobody has asked for", n)
				}
				p.Heal(optest.Userinfo)
				r.wantDead(old)
				r.pass(tokenLife)
				r.wantDead(old)
			})
		}
	}
}

// Of many tabs that log out at once each gets an answer, and there is one logout.
func TestLogoutInManyTabs(t *testing.T) {
	t.Parallel()
	for way, settings := range ways {
		for _, old := range []bool{false, true} {
			t.Run(way+map[bool]string{true: ", with an old cookie", false: ""}[old], func(t *testing.T) {
				t.Parallel()
				l := logoutTimeline(t)
				r := l.welcome(t, l.instance(t, newSharedFolder(t), "revoke_tokens_on_logout\n"+settings))
				cookies := "Cookie: " + r.cookie()
				if old {
					r.pass(tokenLife)
					r.ask()
				}
				r.forgetOpened()
				const tabs = 24
				answers := make([]*optest.Response, tabs)
				begin := make(chan struct{})
				var group sync.WaitGroup
				for i := range answers {
					tab := r.clone()
					group.Go(func() {
						<-begin
						if i%3 == 0 {
							answers[i] = tab.Post(tab.url("/oauth2/logout"), url.Values{}, append([]string{cookies}, clicked...)...)
							return
						}
						answers[i] = tab.signOut(cookies)
					})
				}
				close(begin)
				group.Wait()
				provider := 0
				for _, answer := range answers {
					switch {
					case answer.Status == http.StatusFound && strings.HasPrefix(answer.Location(), l.issuer.Endpoint(optest.EndSession)+"?"):
						provider++
					case answer.Status != http.StatusOK || !strings.Contains(answer.Body, "<h1>You are signed out</h1>"):
						t.Errorf("a tab got %d: %s", answer.Status, shown(answer))
					}
					if _, forgot := cookiesOf(answer.Header); !forgot {
						t.Error("a tab is not told to drop the cookie")
					}
				}
				if n := r.site.lines("logout"); n != 1 || provider != 1 {
					t.Errorf("%d logouts in the log, %d tabs are sent to the provider", n, provider)
				}
				if n := l.issuer.Hits(optest.Revocation); n != 1 {
					t.Errorf("%d revocations", n)
				}
				r.wantDead(strings.TrimPrefix(cookies, "Cookie: "))
			})
		}
	}
}
