package openidconnect

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// TestSection2Refresh goes through the settings of renewals, row by row: what holds by default, and what the setting makes of it.
func TestSection2Refresh(t *testing.T) {
	t.Parallel()
	opaque := func(p *optest.Provider) {
		p.SetOpaqueAccessTokens(true)
		p.SetOmitExpiresIn(true)
	}
	lasting := func(p *optest.Provider) { p.SetAccessLifetime(12 * time.Hour) }
	down := optest.Fault{Status: http.StatusBadGateway}
	for row, test := range map[string]struct {
		settings string
		provider func(p *optest.Provider)
		check    func(t *testing.T, r *renewing)
	}{
		"renew_access_token_on_expiry by default": {"", nil, func(_ *testing.T, r *renewing) {
			r.pass(tokenLife)
			r.wantServed(1)
		}},
		"renew_access_token_on_expiry off": {"renew_access_token_on_expiry off", nil, func(_ *testing.T, r *renewing) {
			r.pass(tokenLife)
			r.wantServed(0)
		}},
		"access_token_expires_leeway by default": {"", nil, func(_ *testing.T, r *renewing) {
			r.pass(tokenLife - 30*time.Second - 1)
			r.wantServed(0)
			r.pass(1)
			r.wantServed(1)
		}},
		"access_token_expires_leeway 10s": {"access_token_expires_leeway 10s", nil, func(_ *testing.T, r *renewing) {
			r.pass(tokenLife - 10*time.Second - 1)
			r.wantServed(0)
			r.pass(1)
			r.wantServed(1)
		}},
		"access_token_expires_in by default": {"", opaque, func(_ *testing.T, r *renewing) {
			r.pass(23 * time.Hour)
			r.wantServed(0)
		}},
		"access_token_expires_in 1h": {"access_token_expires_in 1h", opaque, func(_ *testing.T, r *renewing) {
			r.pass(time.Hour - 30*time.Second - 1)
			r.wantServed(0)
			r.pass(1)
			r.wantServed(1)
		}},
		"refresh_session_interval by default": {"", lasting, func(_ *testing.T, r *renewing) {
			r.pass(11 * time.Hour)
			r.wantServed(0)
		}},
		"refresh_session_interval 1h": {"refresh_session_interval 1h", lasting, func(_ *testing.T, r *renewing) {
			r.pass(time.Hour - 1)
			r.wantServed(0)
			r.pass(1)
			r.wantServed(1)
		}},
		"refresh_grace by default": {"", nil, func(_ *testing.T, r *renewing) {
			old := "Cookie: " + r.cookie()
			r.pass(tokenLife)
			r.wantServed(1)
			r.pass(2*time.Minute - 1)
			r.wantServed(1, old)
			r.pass(1)
			r.wantAnonymous(old)
		}},
		"refresh_grace 10s": {"refresh_grace 10s", nil, func(_ *testing.T, r *renewing) {
			old := "Cookie: " + r.cookie()
			r.pass(tokenLife)
			r.wantServed(1)
			r.pass(10*time.Second - 1)
			r.wantServed(1, old)
			r.pass(1)
			r.wantAnonymous(old)
		}},
		"refresh_failure by default": {withToken, nil, func(_ *testing.T, r *renewing) {
			r.provider.FailRefresh(down)
			r.pass(tokenLife)
			r.wantUnavailable()
			r.pass(10*time.Minute - 1)
			r.wantUnavailable()
			r.pass(1)
			r.wantAnonymous()
		}},
		"refresh_failure end": {withToken + "refresh_failure end", nil, func(t *testing.T, r *renewing) {
			r.provider.FailRefresh(down)
			r.pass(tokenLife - 1)
			if got := r.ask(); got.Status != http.StatusOK {
				t.Errorf("before the token's end: got %d", got.Status)
			}
			r.pass(time.Minute)
			r.wantAnonymous()
		}},
	} {
		t.Run(row, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			if test.provider != nil {
				test.provider(p)
			}
			test.check(t, newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local\n"+test.settings), p))
		})
	}
}
