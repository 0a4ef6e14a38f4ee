package openidconnect

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// C-095: a session is renewed by the lifetime that the provider states, else by what the token says itself, else by policy or demand.
func TestRenewalWithoutExpiresIn(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	type grants []int // that have been made at each of the moments below
	moments := []time.Duration{4 * time.Minute, 5*time.Minute - time.Second, 8 * time.Minute, 50 * time.Minute, 12 * time.Hour}
	for _, test := range []struct {
		name, settings string
		opaque         bool
		expiresIn      any // nil: not stated
		want           grants
	}{
		{"stated", "", true, 300, grants{0, 1, 1, 2, 3}},
		{"stated as text", "", true, "300", grants{0, 1, 1, 2, 3}},
		{"stated as a fraction", "", true, 300.5, grants{0, 1, 1, 2, 3}},
		{"nonsense", "", true, "soon", grants{0, 1, 1, 2, 3}},
		{"negative", "", true, -1, grants{0, 1, 1, 2, 3}},
		{"null", "", true, jsonNull, grants{0, 0, 0, 0, 0}},
		{"by the token itself", "", false, nil, grants{0, 1, 1, 2, 3}},
		{"by policy", "access_token_expires_in 1h", true, nil, grants{0, 0, 0, 0, 1}},
		{"the token itself before policy", "access_token_expires_in 1h", false, nil, grants{0, 1, 1, 2, 3}},
		{"not at all", "", true, nil, grants{0, 0, 0, 0, 0}},
		{"on demand", "refresh_session_interval 10m", true, nil, grants{0, 0, 0, 1, 2}},
		{"never", "renew_access_token_on_expiry off", true, 300, grants{0, 0, 0, 0, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer p.SetOpaqueAccessTokens(false)
			p.SetOpaqueAccessTokens(test.opaque)
			p.SetRefreshTokens(true)
			p.SetTokenResponse(func(answer map[string]any) {
				if answer["expires_in"] = test.expiresIn; test.expiresIn == nil {
					delete(answer, "expires_in")
				}
			})
			s := newLoginSite(t, p, withinProcess+"\n"+test.settings)
			r := &renewer{visitor: newVisitor(t, s, p)}
			r.signIn("/")
			before, passed, got := p.RefreshGrants(), time.Duration(0), grants{}
			for _, moment := range moments {
				r.pass(moment - passed)
				passed = moment
				for range 2 {
					r.Get(r.url("/"))
				}
				got = append(got, p.RefreshGrants()-before)
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("grants %v, want %v", got, test.want)
			}
			if n := r.upstream.advance(); n != 2*len(moments) {
				t.Errorf("%d requests reached the upstream", n)
			}
		})
	}
}

// A token that has just been granted is never due, whatever it says of itself: the clock of the provider may be behind.
func TestRenewalByATokenThatHasExpired(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, settings := range []string{"", "set_access_token_header"} {
		for _, behind := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
			t.Run(fmt.Sprint(settings, behind), func(t *testing.T) {
				defer healRenewals(p)
				r := newRenewer(t, p, settings)
				p.SetRefreshResponse(func(answer map[string]any) {
					delete(answer, "expires_in")
					answer["access_token"] = p.AccessToken(optest.Claims{"exp": r.now().Add(-behind).Unix()})
				})
				r.renew()
				for range 2 {
					r.again()
				}
				r.expire()
				for range 2 {
					if response := r.Get(r.url("/")); response.Status != http.StatusOK {
						t.Errorf("got %d", response.Status)
					}
				}
			})
		}
	}
}
