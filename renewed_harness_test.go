package openidconnect

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// pastAccess is longer than access tokens and ID tokens of the provider live, clock_skew included.
const pastAccess = 7 * time.Minute

// withinProcess keeps what other instances would be told out of a storage that ends with the test.
const withinProcess = "refresh_coordination local"

// renewer is somebody who has signed in at a site that renews sessions, and comes back when the access token has expired.
type renewer struct {
	*visitor
	tokens map[string]string // what the token endpoint has answered last, before SetRefreshResponse
}

// newRenewer logs somebody in at a site of its own, which does not ask other instances. The clocks of the provider are put back at the end
// of the test.
func newRenewer(t *testing.T, p *optest.Provider, settings string) *renewer {
	t.Helper()
	return signedInAt(t, newLoginSite(t, p, withinProcess+"\n"+settings), p)
}

// signedInAt is newRenewer at a site that is there.
func signedInAt(t *testing.T, s *site, p *optest.Provider) *renewer {
	t.Helper()
	p.SetRefreshTokens(true)
	r := &renewer{visitor: newVisitor(t, s, p), tokens: recordedTokens(p)}
	r.signIn("/")
	t.Cleanup(func() { waitUntil(t, s.rests) })
	return r
}

// rests reports whether no renewal is under way any more; one goes on for a moment after its result is there.
func (s *site) rests() bool {
	renewals := s.handler.runtime.login.renewals
	renewals.mu.Lock()
	defer renewals.mu.Unlock()
	for _, state := range renewals.of {
		if state.flight != nil {
			return false
		}
	}
	return true
}

// expire lets the access token expire, everywhere.
func (r *renewer) expire() { r.pass(pastAccess) }

// pass lets time pass, everywhere.
func (r *renewer) pass(d time.Duration) {
	r.later(d)
	r.provider.Advance(d)
	r.t.Cleanup(func() { r.provider.Advance(-d) })
}

// renew asks for something with an expired access token, and returns what the upstream got. There must be one grant, and the next request
// has to get the same without one.
func (r *renewer) renew() arrival {
	r.t.Helper()
	r.expire()
	return r.renewDue()
}

// renewDue is renew for a session that is due already.
func (r *renewer) renewDue() arrival {
	r.t.Helper()
	attempts := r.provider.RefreshAttempts()
	response := r.Get(r.url("/data"), "Accept: application/json")
	if response.Status != http.StatusOK || r.upstream.advance() != 1 {
		r.t.Fatalf("got %d with an access token to be renewed: %s", response.Status, response.Body)
	}
	if names := sessionsIn(response); len(names) == 0 && r.site.handler.runtime.login.store == nil {
		r.t.Error("the answer brings no session")
	}
	if n := r.provider.RefreshAttempts() - attempts; n != 1 {
		r.t.Errorf("%d requests with a refresh token, want 1", n)
	}
	first := r.upstream.last(r.t)
	second := r.again()
	if !maps.EqualFunc(first.Header, second.Header, func(a, b []string) bool { return len(a) == len(b) && (len(a) == 0 || a[0] == b[0]) }) {
		r.t.Errorf("the next request has brought %v, the renewing one %v", second.Header, first.Header)
	}
	return first
}

// again asks once more, which must not take another grant.
func (r *renewer) again() arrival {
	r.t.Helper()
	attempts := r.provider.RefreshAttempts()
	if response := r.Get(r.url("/data"), "Accept: application/json"); response.Status != http.StatusOK || r.upstream.advance() != 1 {
		r.t.Fatalf("got %d after a renewal: %s", response.Status, response.Body)
	}
	if n := r.provider.RefreshAttempts() - attempts; n != 0 {
		r.t.Errorf("%d more requests with a refresh token", n)
	}
	return r.upstream.last(r.t)
}

// wantForbidden checks that a renewal gets through to the rules, and that they refuse.
func (r *renewer) wantForbidden(reason string) {
	r.t.Helper()
	r.expire()
	attempts := r.provider.RefreshAttempts()
	r.wantReason(r.Get(r.url("/data"), "Accept: application/json"), http.StatusForbidden, reason)
	r.wantReason(r.Get(r.url("/data"), "Accept: application/json"), http.StatusForbidden, reason)
	r.upstreamUntouched()
	if n := r.provider.RefreshAttempts() - attempts; n != 1 {
		r.t.Errorf("%d requests with a refresh token, want 1", n)
	}
}

// wantReason checks the status and the reason of a refusal, whatever else the answer brings.
func (r *renewer) wantReason(response *optest.Response, status int, reason string) {
	r.t.Helper()
	if response.Status != status {
		r.t.Fatalf("got %d, want %d (%s): %s", response.Status, status, reason, response.Body)
	}
	if got := jsonMembers(r.t.(*testing.T), response.Body)["reason"]; got != reason {
		r.t.Errorf("the reason is %v, want %s", got, reason)
	}
}

func (r *renewer) upstreamUntouched() {
	r.t.Helper()
	if n := r.upstream.advance(); n != 0 {
		r.t.Errorf("%d requests reached the upstream", n)
	}
}

// wantEnded checks that a renewal ends the session, as a line with these fields tells: a program is told to log in, a page does so, and nothing is
// tried twice.
func (r *renewer) wantEnded(told map[string]string) {
	r.t.Helper()
	r.expire()
	r.wantEndedDue(told)
}

// wantEndedDue is wantEnded for a session that is due already.
func (r *renewer) wantEndedDue(told map[string]string) {
	r.t.Helper()
	attempts, asked := r.provider.RefreshAttempts(), r.provider.Hits(optest.Userinfo)
	r.wantRefusal(r.Get(r.url("/data"), "Accept: application/json"), http.StatusUnauthorized, "no_credentials")
	request := r.begin("/page")
	if n := r.provider.RefreshAttempts() - attempts; n != 1 {
		r.t.Errorf("%d requests with a refresh token, want 1", n)
	}
	if n := r.provider.Hits(optest.Userinfo) - asked; n != 0 {
		r.t.Errorf("userinfo was asked %d times with what is refused", n)
	}
	if n := len(r.kept(isSessionName)); n != 0 {
		r.t.Errorf("the browser still has %d cookies of the session", n)
	}
	fields := r.site.logged(zapcore.InfoLevel, "session ended", told)
	if fields["hint"] == "" || fields["issuer"] == "" {
		r.t.Errorf("the line says %v", fields)
	}
	healRenewals(r.provider)
	r.wantRedirect(r.arrive(request, r.answerTo(request)), "/page")
	r.wantSession(true)
}

// unusedIDToken is what the log says of a renewed ID token that changes nothing.
const unusedIDToken = "a renewed ID token is not used; the session keeps its claims"

// healRenewals undoes what tests of renewals do to a provider.
func healRenewals(p *optest.Provider) {
	heal(p)
	p.SetRefreshIDTokenClaims(nil)
	p.SetRefreshResponse(nil)
	p.SetRefreshOmitIDToken(false)
	p.SetOmitRefreshToken(false)
	p.SetThinIDTokens(false)
	p.HealRefresh()
}

// renewedClaim changes a claim of the ID tokens of refreshes; nil removes it.
func renewedClaim(name string, value any) func(p *optest.Provider) {
	return renewedClaims(optest.Claims{name: value})
}

func renewedClaims(changes optest.Claims) func(p *optest.Provider) {
	return func(p *optest.Provider) {
		p.SetRefreshIDTokenClaims(func(claims optest.Claims) {
			maps.Copy(claims, changes)
			maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
		})
	}
}

// renewedSigner signs ID tokens from now on in another way.
func renewedSigner(sign func(claims optest.Claims) string) func(p *optest.Provider) {
	return func(p *optest.Provider) { p.SetIDTokenSigner(sign) }
}

// renewedAnswer changes a member of the answers to refreshes; nil removes it.
func renewedAnswer(name string, value any) func(p *optest.Provider) {
	return func(p *optest.Provider) {
		p.SetRefreshResponse(func(answer map[string]any) {
			if answer[name] = value; value == nil {
				delete(answer, name)
			}
		})
	}
}

// now is the time at the site.
func (r *renewer) now() time.Time { return r.site.handler.runtime.now() }
