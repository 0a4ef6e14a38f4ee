package openidconnect

import (
	"maps"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What is about the login itself stays when an ID token of a renewal leaves it out (OpenID Connect Core section 12.2).
func TestRenewalKeepsFactsOfTheLogin(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const settings = "claim_header X-Acr acr\nclaim_header X-Amr amr\nclaim_header X-Time auth_time\nclaim_header X-Sid sid\nclaim_header X-Groups groups\n"
	facts := []string{"X-Acr", "X-Amr", "X-Time", "X-Sid"}
	p.SetIDTokenClaims(func(claims optest.Claims) {
		if _, first := claims["nonce"]; first {
			claims["amr"] = []string{"pwd", "otp"}
		}
	})
	for _, test := range []struct {
		name    string
		changes optest.Claims
		want    map[string]string // that are not as they were
	}{
		{"left out", optest.Claims{"acr": nil, "amr": nil, "auth_time": nil, "sid": nil}, nil},
		{"the same again", nil, nil},
		{"another amr", optest.Claims{"amr": []string{"hwk"}}, map[string]string{"X-Amr": "hwk"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.SetRefreshIDTokenClaims(nil)
			p.SetUser(optest.Claims{"groups": "a"})
			r := newRenewer(t, p, settings+"max_age 1d\nacr_values gold silver")
			first := r.upstream.last(t).Header.Clone()
			for _, name := range facts {
				if first.Get(name) == "" {
					t.Fatalf("there is no %s to begin with", name)
				}
			}
			renewedClaims(test.changes)(p)
			p.SetUser(optest.Claims{"groups": "b"})
			for range 2 {
				header := r.renew().Header
				if header.Get("X-Groups") != "b" {
					t.Error("the ID token is not used")
				}
				for _, name := range facts {
					want, changed := test.want[name]
					if !changed {
						want = first.Get(name)
					}
					if got := header.Get(name); got != want {
						t.Errorf("%s %q, want %q", name, got, want)
					}
				}
			}
		})
	}
	for name, changes := range map[string]optest.Claims{
		"a later auth_time":   {"auth_time": 4102444800},
		"an earlier one":      {"auth_time": 1},
		"an acr too low":      {"acr": "bronze"},
		"an acr of two words": {"acr": "gold silver"},
		"an acr as a list":    {"acr": []string{"gold"}},
	} {
		t.Run(name, func(t *testing.T) {
			p.SetRefreshIDTokenClaims(nil)
			p.SetUser(optest.Claims{"groups": "a"})
			r := newRenewer(t, p, settings+"userinfo off\nmax_age 1d\nacr_values gold silver")
			first := r.upstream.last(t).Header.Clone()
			renewedClaims(changes)(p)
			p.SetUser(optest.Claims{"groups": "b"})
			header := r.renew().Header
			for _, name := range append(facts, "X-Groups") {
				if got := header.Get(name); got != first.Get(name) {
					t.Errorf("%s %q, want %q", name, got, first.Get(name))
				}
			}
			r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "insufficient_authentication"})
		})
	}
	t.Run("another value that was good at a login too", func(t *testing.T) {
		p.SetRefreshIDTokenClaims(nil)
		r := newRenewer(t, p, settings+"acr_values gold silver")
		renewedClaim("acr", "silver")(p)
		if got := r.renew().Header.Get("X-Acr"); got != "silver" {
			t.Errorf("acr %q", got)
		}
	})
}

// Who the user is called may change, but not be left open.
func TestRenewalOfTheUsername(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	user := func(name any) {
		claims := optest.Claims{"email": "ada@example.com"}
		if name != nil {
			claims["preferred_username"] = name
		}
		p.SetUser(claims)
	}
	const settings = "scope openid profile email\nusername_claim preferred_username\nset_userinfo_header off\n"
	named := func(t *testing.T, a arrival, want string) {
		t.Helper()
		if got := a.placeholder(t, "http.auth.user.id"); got != want {
			t.Errorf("the user is %v, want %s", got, want)
		}
	}
	t.Run("renamed", func(t *testing.T) {
		user("ada")
		r := newRenewer(t, p, settings)
		named(t, r.upstream.last(t), "ada")
		user("ada.lovelace")
		named(t, r.renew(), "ada.lovelace")
		user("{http.request.host}")
		named(t, r.renew(), "{http.request.host}")
	})
	t.Run("thin", func(t *testing.T) {
		defer healRenewals(p)
		user("ada")
		r := newRenewer(t, p, settings)
		p.SetThinIDTokens(true)
		user("ada.lovelace")
		named(t, r.renew(), "ada.lovelace")
		if n := p.Hits(optest.Userinfo); n != 1 {
			t.Errorf("userinfo was asked %d times", n)
		}
	})
	t.Run("without an ID token", func(t *testing.T) {
		defer healRenewals(p)
		user("ada")
		r := newRenewer(t, p, settings)
		p.SetRefreshOmitIDToken(true)
		user("other")
		named(t, r.renew(), "ada")
	})
	for name, value := range map[string]any{"none": nil, "null": jsonNull, "empty": " ", "a list": []string{"ada"}} {
		t.Run(name, func(t *testing.T) {
			user("ada")
			r := newRenewer(t, p, settings)
			user(value)
			r.wantForbidden("claim_required")
			user("ada")
			named(t, r.renew(), "ada")
		})
	}
}

// What a session keeps is what it keeps after a renewal.
func TestRenewalBySessionContents(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetUserinfo(func(claims optest.Claims) { claims["desk"] = claims["room"] })
	user := func(room string) { p.SetUser(optest.Claims{"room": room}) }
	for contents, want := range map[string]struct{ room, desk, id, raw, access bool }{
		"":                          {room: true, desk: true},
		"session_contents user":     {room: true, desk: true}, // which userinfo tells as well
		"session_contents id_token": {room: true},
		"session_contents id_token user access_token enc_id_token\nset_id_token_header\nset_raw_id_token_header\nset_access_token_header": {
			room: true, desk: true, id: true, raw: true, access: true,
		},
		"session_contents access_token\nset_access_token_header":     {access: true},
		"session_contents enc_id_token\nset_raw_id_token_header":     {raw: true},
		"set_id_token_header\nset_raw_id_token_header\nuserinfo off": {room: true, id: true, raw: true},
	} {
		t.Run(contents, func(t *testing.T) {
			defer p.SetRefreshOmitIDToken(false)
			user("1")
			settings := contents
			if _, has := map[string]bool{"set_id_token_header\nset_raw_id_token_header\nuserinfo off": true}[contents]; !has {
				settings += "\nuserinfo on"
			}
			r := newRenewer(t, p, settings)
			seen := func(a arrival, room string) {
				t.Helper()
				claims := userinfo(t, a.Header)
				for name, value := range map[string]struct{ got, want any }{
					"room": {claims["room"], when(want.room, room)},
					"desk": {claims["desk"], when(want.desk, room)},
				} {
					if value.got != value.want {
						t.Errorf("%s is %v, want %v", name, value.got, value.want)
					}
				}
				if claims["sub"] != "alice" || claims["iss"] != p.Issuer() {
					t.Errorf("the identity is %v", claims)
				}
				if got := a.Header.Get("X-Access-Token"); (got == r.tokens["access_token"]) != want.access || (got != "") != want.access {
					t.Error("not the newest access token")
				}
			}
			idToken := func(a arrival, room, token string) {
				t.Helper()
				if got := a.Header.Get("X-Raw-Id-Token"); want.raw && got != token || !want.raw && got != "" {
					t.Error("not the ID token that it should be")
				}
				if want.id && decodedHeader(t, a, "X-ID-Token")["room"] != room || !want.id && a.Header.Get("X-ID-Token") != "" {
					t.Errorf("X-ID-Token %q", a.Header.Get("X-ID-Token"))
				}
			}
			seen(r.upstream.last(t), "1")
			idToken(r.upstream.last(t), "1", r.tokens["id_token"])

			user("2")
			renewed := r.renew()
			seen(renewed, "2")
			idToken(renewed, "2", r.tokens["id_token"])
			last := maps.Clone(r.tokens)["id_token"]

			p.SetRefreshOmitIDToken(true)
			r.renew()
			idToken(r.upstream.last(t), "2", last)
		})
	}
}

// when is the value where there is to be one.
func when(is bool, value string) any {
	if is {
		return value
	}
	return nil
}

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
