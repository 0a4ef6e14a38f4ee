package openidconnect

import (
	"maps"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What userinfo has to do with a renewal: it is asked by the same rules as at a login, and what it cannot tell for the moment stays.

// told is what of a user the ID token and userinfo tell; nil is no ID token at all.
type told struct{ idToken, userinfo optest.Claims }

// give has a provider answer so from now on.
func (a told) give(p *optest.Provider) {
	p.SetThinIDTokens(true)
	p.SetRefreshOmitIDToken(a.idToken == nil)
	p.SetIDTokenClaims(func(claims optest.Claims) { maps.Copy(claims, a.idToken) })
	p.SetUserinfo(func(claims optest.Claims) { maps.Copy(claims, a.userinfo) })
}

func TestRenewalAsksUserinfo(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const wanted = "claim_header X-Groups groups\nset_userinfo_header off\n"
	thin := optest.Claims{}
	groups := func(name string) optest.Claims { return optest.Claims{"groups": name} }
	for _, test := range []struct {
		name, settings string
		login, renewal told
		want           string // X-Groups after the renewal
		asked          int    // in the renewal
	}{
		{"auto: the ID token tells all", wanted, told{groups("a"), groups("x")}, told{groups("b"), groups("y")}, "b", 0},
		{"auto: thin now", wanted, told{groups("a"), groups("x")}, told{thin, groups("y")}, "y", 1},
		{"auto: thin both times", wanted, told{thin, groups("x")}, told{thin, groups("y")}, "y", 1},
		{"auto: thin no more", wanted, told{thin, groups("x")}, told{groups("b"), groups("y")}, "b", 0},
		{"auto: nobody knows any more", wanted, told{thin, groups("x")}, told{thin, thin}, "", 1},
		{"auto: no ID token, userinfo knows", wanted, told{thin, groups("x")}, told{nil, groups("y")}, "y", 1},
		{"auto: no ID token, userinfo knows no more", wanted, told{thin, groups("x")}, told{nil, thin}, "", 1},
		{"auto: no ID token, that of the login knew", wanted, told{groups("a"), groups("x")}, told{nil, groups("y")}, "a", 0},
		{"on: no ID token, and userinfo never knew", wanted + "userinfo on", told{groups("a"), thin}, told{nil, thin}, "a", 1},
		{"auto: no ID token, and nobody asks", "set_userinfo_header off", told{groups("a"), groups("x")}, told{nil, groups("y")}, "", 0},
		{"auto: for X-Userinfo", "scope openid email\nclaim_header X-Groups groups\nuserinfo auto", told{
			optest.Claims{"groups": "a", "email": "1@example.com"}, thin,
		}, told{groups("b"), groups("y")}, "b", 1},
		{"on", wanted + "userinfo on", told{groups("a"), groups("x")}, told{groups("b"), groups("y")}, "b", 1},
		{"on: thin", wanted + "userinfo on", told{groups("a"), groups("x")}, told{thin, groups("y")}, "y", 1},
		{"on: no ID token", wanted + "userinfo on", told{groups("a"), groups("x")}, told{nil, groups("y")}, "y", 1},
		{"off", wanted + "userinfo off", told{groups("a"), groups("x")}, told{groups("b"), groups("y")}, "b", 0},
		{"off: thin", wanted + "userinfo off", told{groups("a"), groups("x")}, told{thin, groups("y")}, "", 0},
		{"off: no ID token", wanted + "userinfo off", told{groups("a"), groups("x")}, told{nil, groups("y")}, "a", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			test.login.give(p)
			r := newRenewer(t, p, test.settings)
			for range 2 { // the second finds what the first has left
				test.renewal.give(p)
				before := p.Hits(optest.Userinfo)
				arrived := r.renew()
				if got := arrived.Header.Get("X-Groups"); got != test.want {
					t.Errorf("groups %q, want %q", got, test.want)
				}
				if n := p.Hits(optest.Userinfo) - before; n != test.asked {
					t.Errorf("userinfo was asked %d times, want %d", n, test.asked)
				}
				if test.asked == 0 {
					continue
				}
				requests := p.Requests(optest.Userinfo)
				if got := requests[len(requests)-1].Header.Get("Authorization"); got != "Bearer "+r.tokens["access_token"] {
					t.Error("userinfo was not asked with the new access token")
				}
			}
		})
	}
}

// Where a claim comes from may change with each renewal; it is gone when nobody tells it any more.
func TestRenewalFollowsClaims(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	claim := func(value string) optest.Claims { return optest.Claims{"groups": value} }
	thin := optest.Claims{}
	told{thin, claim("1")}.give(p)
	r := newRenewer(t, p, "userinfo on\nclaim_header X-Groups groups")
	for i, step := range []struct {
		told
		want string
	}{
		{told{thin, claim("2")}, "2"},
		{told{nil, claim("3")}, "3"},
		{told{claim("4"), claim("x")}, "4"}, // what is signed wins
		{told{nil, claim("5")}, "5"},        // unless it is old
		{told{thin, claim("6")}, "6"},
		{told{nil, thin}, ""},
		{told{nil, claim("8")}, "8"},
		{told{claim("9"), thin}, "9"},
		{told{nil, thin}, "9"},
		{told{thin, thin}, ""},
	} {
		step.give(p)
		arrived := r.renew()
		if got := arrived.Header.Get("X-Groups"); got != step.want {
			t.Errorf("step %d: groups %q, want %q", i, got, step.want)
		}
		if got, _ := userinfo(t, arrived.Header)["groups"].(string); got != step.want {
			t.Errorf("step %d: groups %q in X-Userinfo, want %q", i, got, step.want)
		}
	}
}

// An ID token that cannot be used is no reason to believe userinfo instead, of what the last good one has said.
func TestRenewalWithABadIDTokenAndUserinfo(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	foreign := optest.NewKey(t, "RS256", "rs-1")
	for name, test := range map[string]struct {
		settings string
		desk     string // that userinfo alone tells
	}{
		"auto": {"", "2"}, "on": {"userinfo on", "2"}, "off": {"userinfo off", ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": "a", "room": "1"})
			p.SetUserinfo(func(claims optest.Claims) { claims["desk"] = claims["room"] })
			r := newRenewer(t, p, "claim_header X-Groups groups\nclaim_header X-Desk desk\nclaim_header X-Sid sid\nacr_values gold\nclaim_header X-Acr acr\n"+
				test.settings)
			first := r.upstream.last(t).Header.Clone()
			p.SetUser(optest.Claims{"groups": "b", "room": "2"})
			p.SetIDTokenSigner(func(claims optest.Claims) string {
				maps.Copy(claims, optest.Claims{"groups": "evil", "desk": "evil", "sid": "evil", "acr": "gold"})
				return optest.Sign(foreign, nil, claims)
			})
			for range 2 {
				r.renew()
				r.site.wantHeaders(map[string]string{"X-Groups": "a", "X-Desk": test.desk, "X-Sid": first.Get("X-Sid"), "X-Acr": "gold"})
			}
			r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "bad_signature"})
		})
	}
}

// Without an ID token userinfo is asked for what it has told before. What the login's ID token has said is another matter, unless userinfo is
// on.
func TestRenewalWithoutIDTokenKeepsItsClaims(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for mode, want := range map[string]map[string]string{
		"auto": {"X-Groups": "a", "X-Desk": "2"},
		"on":   {"X-Groups": "y", "X-Desk": "2"},
		"off":  {"X-Groups": "a", "X-Desk": ""},
	} {
		t.Run(mode, func(t *testing.T) {
			defer healRenewals(p)
			told{optest.Claims{"groups": "a"}, optest.Claims{"groups": "x", "desk": "1"}}.give(p)
			r := newRenewer(t, p, "claim_header X-Groups groups\nclaim_header X-Desk desk\nuserinfo "+mode)
			told{nil, optest.Claims{"groups": "y", "desk": "2"}}.give(p)
			for range 2 {
				r.renew()
				r.site.wantHeaders(want)
			}
		})
	}
}
