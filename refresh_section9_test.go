package openidconnect

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// TestSection9 walks through the renewal of sessions, in the order in which its design is written down.
func TestSection9(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T){
		"1 within the leeway of the access token's expiry":    testRenewedWithinTheLeeway,
		"1 or at the interval":                                testRenewedAtTheInterval,
		"1 and only with a refresh token":                     testNotRenewedWithoutARefreshToken,
		"2 one for all requests of a session":                 testRenewedOnceForAll,
		"2 which wait no longer than it takes":                testWaitingForARenewal,
		"3 a late request gets the newest, within the grace":  testLateRequest,
		"3 and none presents a spent token after it":          testLateRequestAfterTheGrace,
		"3 where the refresh token stays the same":            testRefreshTokenThatStaysTheSame,
		"4 one instance renews for all":                       testRenewedByOneInstance,
		"5 the provider ends the session":                     testEndedByTheProvider,
		"5 or it cannot be reached, which ends nothing":       testProviderCannotBeReached,
		"6 no new refresh token":                              testRefreshTokenOmitted,
		"6 no new ID token":                                   testIDTokenOmitted,
		"6 one about somebody else":                           testIDTokenAboutSomebodyElse,
		"8 a login that takes its place leaves nothing of it": testPurgedByALogin,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func testRenewedWithinTheLeeway(t *testing.T) {
	r := newRenewing(t, withToken)
	first := r.wantServed(0)
	r.pass(tokenDue - time.Second)
	if got := r.wantServed(0); got.token != first.token || got.set != "" {
		t.Errorf("before it is due: another token (%t), Set-Cookie %q", got.token != first.token, got.Header.Values("Set-Cookie"))
	}
	r.pass(time.Second)
	renewed := r.wantServed(1)
	if renewed.token == first.token || renewed.set == "" {
		t.Errorf("when it is due: another token (%t), Set-Cookie %q", renewed.token != first.token, renewed.Header.Values("Set-Cookie"))
	}
	if got := r.wantServed(1); got.token != renewed.token || got.set != "" {
		t.Errorf("then: another token (%t), Set-Cookie %q", got.token != renewed.token, got.Header.Values("Set-Cookie"))
	}
	form := r.provider.TokenRequests()[1]
	if form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") == "" || form.Has("scope") || form.Has("code") {
		t.Errorf("the provider was sent %v", form)
	}
}

func testRenewedAtTheInterval(t *testing.T) {
	r := newRenewing(t, "refresh_session_interval 1m\nclaim_header X-Groups groups")
	r.wantServed(0)
	r.provider.SetUser(optest.Claims{"groups": "new"})
	r.pass(time.Minute - time.Second)
	r.wantServed(0)
	r.site.wantHeaders(map[string]string{"X-Groups": ""})
	r.pass(time.Second)
	r.wantServed(1)
	r.site.wantHeaders(map[string]string{"X-Groups": "new"})
	r.pass(time.Minute - time.Second)
	r.wantServed(1)
	r.pass(time.Second)
	r.wantServed(2)
}

func testNotRenewedWithoutARefreshToken(t *testing.T) {
	p := optest.New(t)
	r := newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local"), p)
	r.pass(12 * time.Hour) // it lives by its own clocks
	r.wantServed(0)
	r.pass(12 * time.Hour)
	r.wantAnonymous("Cookie: " + r.cookie())
	r.wantGrants(0)
}

func testRenewedOnceForAll(t *testing.T) {
	r := newRenewing(t, withToken)
	r.pass(tokenLife)
	held := make(chan struct{})
	r.provider.FailRefresh(optest.Fault{Wait: held})
	answers := make([]served, 20)
	var group sync.WaitGroup
	for i := range answers {
		one := r.clone()
		group.Go(func() { answers[i] = one.ask() })
	}
	r.provider.WaitForHits(t, optest.Token, 2)
	close(held)
	group.Wait()
	r.wantGrants(1)
	for _, got := range answers {
		if got.Status != http.StatusOK || got.token == "" || got.token != answers[0].token || got.set == "" || got.set != answers[0].set {
			t.Errorf("got %d (%s), the same token: %t, the same cookie: %t", got.Status, got.reason, got.token == answers[0].token, got.set == answers[0].set)
		}
	}
}

func testWaitingForARenewal(t *testing.T) {
	r := newRenewing(t, withToken+"timeout 2s")
	r.pass(tokenDue)
	r.provider.FailRefresh(optest.Fault{Hang: true})
	start := time.Now()
	got := r.ask()
	if took := time.Since(start); got.Status != http.StatusOK || took >= renewalWait {
		t.Errorf("got %d after %s", got.Status, took)
	}
}

func testLateRequest(t *testing.T) {
	r := newRenewing(t, withToken)
	old := "Cookie: " + r.cookie()
	r.pass(tokenLife)
	newest := r.wantServed(1)
	r.pass(defaultRefreshGrace - time.Second)
	if late := r.wantServed(1, old); late.token != newest.token || late.set != newest.set {
		t.Errorf("a late request gets another token (%t) or cookie (%t)", late.token != newest.token, late.set != newest.set)
	}
}

func testLateRequestAfterTheGrace(t *testing.T) {
	r := newRenewing(t, withToken)
	old := "Cookie: " + r.cookie()
	r.pass(tokenLife)
	r.wantServed(1)
	r.pass(defaultRefreshGrace)
	r.wantAnonymous(old)
	r.wantServed(1) // who has the newest cookie does not notice
}

func testRefreshTokenThatStaysTheSame(t *testing.T) {
	r := newRenewing(t, withToken)
	r.provider.SetRotation(false)
	old := "Cookie: " + r.cookie()
	var tokens []string
	for n := range 3 {
		r.pass(tokenLife)
		tokens = append(tokens, r.wantServed(n+1).token)
	}
	if tokens[0] == tokens[1] || tokens[1] == tokens[2] {
		t.Error("a renewal was none")
	}
	r.wantAnonymous(old)
	r.wantGrants(3)
}

func testRenewedByOneInstance(t *testing.T) {
	a, b, _ := newInstances(t, withToken+"refresh_coordination storage")
	old := "Cookie: " + a.cookie()
	a.pass(tokenLife)
	newest := a.wantServed(1)
	if got := b.wantServed(1, old); got.token != newest.token || got.set != newest.set {
		t.Errorf("another instance has another token (%t) or cookie (%t)", got.token != newest.token, got.set != newest.set)
	}
}

func testEndedByTheProvider(t *testing.T) {
	r := newRenewing(t, withToken)
	r.provider.RevokeRefreshTokens()
	r.pass(tokenLife)
	r.wantAnonymous()
	if n := r.provider.RefreshAttempts(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	r.site.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": "refresh_rejected", "got": "invalid_grant"})
}

func testProviderCannotBeReached(t *testing.T) {
	r := newRenewing(t, "")
	r.pass(tokenLife)
	r.provider.FailRefresh(optest.Fault{Status: http.StatusServiceUnavailable})
	for range 10 {
		r.upstream.advance()
		if got := r.ask(); got.Status != http.StatusOK {
			t.Errorf("got %d (%s)", got.Status, got.reason)
		}
	}
	if n := r.provider.RefreshAttempts(); n != 1 {
		t.Errorf("%d attempts before the first pause was over", n)
	}
	if n := r.site.lines("sessions cannot be renewed at the moment; it is tried again"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

func testRefreshTokenOmitted(t *testing.T) {
	r := newRenewing(t, withToken)
	r.provider.SetOmitRefreshToken(true)
	for n := range 3 {
		r.pass(tokenLife)
		r.wantServed(n + 1)
	}
}

func testIDTokenOmitted(t *testing.T) {
	for _, member := range []any{nil, ""} {
		r := newRenewing(t, "userinfo off\nclaim_header X-Email email\nscope \"openid email\"")
		r.provider.SetUser(optest.Claims{"email": "new@example.com"})
		r.provider.SetRefreshResponse(func(answer map[string]any) {
			if answer["id_token"] = member; member == nil {
				delete(answer, "id_token")
			}
		})
		r.pass(tokenLife)
		r.wantServed(1)
		r.site.wantHeaders(map[string]string{"X-Email": "alice@example.com"})
		r.provider.SetRefreshResponse(nil)
		r.pass(tokenLife)
		r.wantServed(2)
		r.site.wantHeaders(map[string]string{"X-Email": "new@example.com"})
	}
}

func testIDTokenAboutSomebodyElse(t *testing.T) {
	for claim, reason := range map[string]string{"sub": "subject_mismatch", "iss": "issuer_mismatch"} {
		r := newRenewing(t, withToken)
		r.provider.SetRefreshIDTokenClaims(func(claims optest.Claims) { claims[claim] = "https://mallory.example.com" })
		r.pass(tokenLife)
		r.wantAnonymous()
		r.wantGrants(1)
		r.site.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": reason})
	}
}

func testPurgedByALogin(t *testing.T) {
	r := newRenewing(t, withToken)
	old := "Cookie: " + r.cookie()
	r.pass(tokenLife)
	r.wantServed(1)
	r.wantServed(1, old)
	newest := "Cookie: " + r.cookie()
	request := r.wantLogin(r.open("/oauth2/login?prompt=login"))
	r.wantRedirect(r.arrive(request, r.answerTo(request)), "/")
	r.wantServed(1)
	r.wantAnonymous(old)
	r.pass(tokenLife)
	r.wantAnonymous(newest) // whose tokens are of no use any more
	r.wantGrants(1)
}
