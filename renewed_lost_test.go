package openidconnect

import (
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// An ID token may be thinner at a renewal than it was at the login; what it lacks is asked of userinfo, and stays for as long as that fails.
func TestRenewalThinsOutWhileUserinfoFails(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, mode := range []string{"auto", "on"} {
		t.Run(mode, func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": []string{"staff"}})
			r := newRenewer(t, p, "required_claim groups staff\nclaim_header X-Groups groups\nset_userinfo_header off\nuserinfo "+mode)
			p.SetThinIDTokens(true)
			r.renew()
			p.SetThinIDTokens(false)
			r.renew()
			p.SetThinIDTokens(true)
			p.Fail(optest.Userinfo, optest.Fault{Status: 503})
			for range 2 {
				r.renew()
				r.site.wantHeaders(map[string]string{"X-Groups": "staff"})
			}
			p.Heal(optest.Userinfo)
			r.renew()
			p.SetUser(optest.Claims{"groups": []string{"other"}})
			r.wantForbidden("claim_required")
		})
	}
}
