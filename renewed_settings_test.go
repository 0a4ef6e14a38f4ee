package openidconnect

import (
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A session outlives the settings that it was made with: those of the handler that renews it say what it keeps from then on.

// moveTo takes the browser to a site with other settings, as after a restart.
func (r *renewer) moveTo(settings string) *renewer {
	r.t.Helper()
	s := newLoginSite(r.t, r.provider, withinProcess+"\n"+settings)
	s.setNow(r.now())
	r.t.Cleanup(func() { waitUntil(r.t, s.rests) })
	return &renewer{visitor: r.at(s), tokens: r.tokens}
}

func TestRenewalByOtherUserinfoSettings(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const headers = "claim_header X-Room room\nclaim_header X-Desk desk\n"
	for _, test := range []struct {
		name    string
		renewal told
		want    map[string]string
	}{
		{"no ID token", told{nil, optest.Claims{"desk": "2"}}, map[string]string{"X-Room": "1", "X-Desk": "1"}},
		{"an ID token", told{optest.Claims{"room": "2"}, optest.Claims{"desk": "2"}}, map[string]string{"X-Room": "2", "X-Desk": ""}},
		{"one with all", told{optest.Claims{"room": "2", "desk": "3"}, optest.Claims{"desk": "2"}}, map[string]string{"X-Room": "2", "X-Desk": "3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			told{optest.Claims{"room": "1"}, optest.Claims{"desk": "1"}}.give(p)
			r := newRenewer(t, p, headers+"userinfo on")
			r.site.wantHeaders(map[string]string{"X-Room": "1", "X-Desk": "1"})
			moved := r.moveTo(headers + "userinfo off\ntimeout 6s")
			test.renewal.give(p)
			asked := p.Hits(optest.Userinfo)
			for range 2 {
				moved.renew()
				moved.site.wantHeaders(test.want)
			}
			if n := p.Hits(optest.Userinfo) - asked; n != 0 {
				t.Errorf("userinfo was asked %d times", n)
			}
		})
	}
}

// A handler that passes no access token on keeps none. One that does must not find that of an earlier generation.
func TestRenewalByOtherTokenSettings(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	r := newRenewer(t, p, "set_access_token_header")
	moved := r.moveTo("timeout 6s")
	if got := moved.renew().Header.Get("X-Access-Token"); got != "" {
		t.Error("an access token was passed on unasked")
	}
	back := moved.moveTo("set_access_token_header\ntimeout 7s")
	back.pass(time.Second)
	arrived := back.renewDue() // as it has none
	if got := arrived.Header.Get("X-Access-Token"); got != r.tokens["access_token"] {
		t.Error("not the newest access token")
	}
}
