package openidconnect

import (
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Some providers write null for what does not apply to a renewal, which is as if it were not there.
func TestRenewedIDTokenWithNulls(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const settings = "claim_header X-Groups groups\nclaim_header X-Acr acr\nclaim_header X-Sid sid\nclaim_header X-Amr amr\nacr_values gold\n"
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash", "acr", "auth_time", "amr", "sid"} {
		t.Run(name, func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": "a"})
			p.SetIDTokenClaims(func(claims optest.Claims) { claims["amr"] = []string{"pwd"} })
			r := newRenewer(t, p, settings)
			facts := r.upstream.last(t).Header.Clone()
			renewedClaim(name, jsonNull)(p)
			p.SetUser(optest.Claims{"groups": "b"})
			for range 2 {
				header := r.renew().Header
				if got := header.Get("X-Groups"); got != "b" {
					t.Errorf("groups %q: the ID token is not used", got)
				}
				for _, fact := range []string{"X-Acr", "X-Sid", "X-Amr"} {
					if got := header.Get(fact); got != facts.Get(fact) || got == "" {
						t.Errorf("%s %q, want %q", fact, got, facts.Get(fact))
					}
				}
			}
			if n := r.site.logs.FilterMessage(unusedIDToken).Len(); n != 0 {
				t.Errorf("%d lines about an ID token that is used", n)
			}
		})
	}
}
