package openidconnect

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

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
