package openidconnect

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Userinfo that fails ends nothing: the access token and what the ID token says are new, what userinfo said stays.
func TestRenewalWhileUserinfoFails(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	foreign := optest.NewKey(t, "RS256", "rs-1")
	signed := func(sign func(claims optest.Claims) string) func() { return func() { p.SetUserinfoJWT(sign) } }
	fails := func(fault optest.Fault) func() { return func() { p.Fail(optest.Userinfo, fault) } }
	answer := func(body, media string) func() {
		return fails(optest.Fault{Body: []byte(body), Header: http.Header{"Content-Type": {media}}})
	}
	forged := func(changes optest.Claims) optest.Claims {
		claims := optest.Claims{"sub": "alice", "desk": "evil"}
		maps.Copy(claims, changes)
		return claims
	}
	for _, storage := range []string{"cookie", "caddy"} {
		for name, faulty := range map[string]func(){
			"500":              fails(optest.Fault{Status: 500}),
			"503":              fails(optest.Fault{Status: 503, Header: http.Header{"Retry-After": {"60"}}}),
			"401":              fails(optest.Fault{Status: 401}),
			"403":              fails(optest.Fault{Status: 403}),
			"a redirect":       fails(optest.Fault{Redirect: "https://evil.example/"}),
			"no answer":        fails(optest.Fault{Drop: true}),
			"a page":           answer("<html>", "text/html"),
			"a list":           answer("[]", "application/json"),
			"a member twice":   answer(`{"sub":"alice","desk":"evil","desk":"evil"}`, "application/json"),
			"5 MB":             answer(`{"sub":"alice","desk":"`+strings.Repeat("x", 5<<20)+`"}`, "application/json"),
			"by a foreign key": signed(func(optest.Claims) string { return optest.Sign(foreign, nil, forged(nil)) }),
			"unsigned":         signed(func(optest.Claims) string { return optest.Unsigned(nil, forged(nil)) }),
			"by the secret":    signed(func(optest.Claims) string { return optest.HMAC("HS256", []byte("secret"), nil, forged(nil)) }),
			"of another iss": signed(func(optest.Claims) string {
				return optest.Sign(p.Key("rs-1"), nil, forged(optest.Claims{"iss": "https://evil.example"}))
			}),
			"for another aud": signed(func(optest.Claims) string {
				return optest.Sign(p.Key("rs-1"), nil, forged(optest.Claims{"aud": "other"}))
			}),
			"expired":          signed(func(optest.Claims) string { return optest.Sign(p.Key("rs-1"), nil, forged(optest.Claims{"exp": 1})) }),
			"not a JWT at all": answer("nonsense", "application/jwt"),
			"larger than 64 KB": signed(func(optest.Claims) string {
				return optest.Sign(p.Key("rs-1"), nil, forged(optest.Claims{"x": strings.Repeat("x", 64<<10)}))
			}),
		} {
			t.Run(storage+" "+name, func(t *testing.T) {
				defer healRenewals(p)
				told{optest.Claims{"room": "1"}, optest.Claims{"desk": "1"}}.give(p)
				r := newRenewer(t, p, "userinfo on\nset_access_token_header\nclaim_header X-Room room\nclaim_header X-Desk desk\n"+
					"session {\nstorage "+storage+"\n}")
				told{optest.Claims{"room": "2"}, optest.Claims{"desk": "2"}}.give(p)
				faulty()
				for range 2 {
					before := p.Hits(optest.Userinfo)
					r.renew()
					r.site.wantHeaders(map[string]string{"X-Room": "2", "X-Desk": "1", "X-Access-Token": r.tokens["access_token"]})
					if n := p.Hits(optest.Userinfo) - before; n != 1 && name != "no answer" { // which has the transport try again
						t.Errorf("userinfo was asked %d times", n)
					}
				}
				r.site.logged(zapcore.WarnLevel, "userinfo failed in a renewal; the session keeps what it had of it", map[string]string{
					"reason": "userinfo_failed", "issuer": p.Issuer(),
				})
				p.Heal(optest.Userinfo)
				p.SetUserinfoJWT(nil)
				r.renew()
				r.site.wantHeaders(map[string]string{"X-Room": "2", "X-Desk": "2"})
			})
		}
	}
	t.Run("signed and good", func(t *testing.T) {
		defer healRenewals(p)
		told{optest.Claims{"room": "1"}, optest.Claims{"desk": "1"}}.give(p)
		r := newRenewer(t, p, "userinfo on\nclaim_header X-Desk desk")
		p.SetUserinfoJWT(func(optest.Claims) string {
			return optest.Sign(p.Key("rs-1"), nil, forged(optest.Claims{"iss": p.Issuer(), "aud": "client", "exp": time.Now().Add(time.Hour).Unix(), "desk": "3"}))
		})
		r.renew()
		r.site.wantHeaders(map[string]string{"X-Desk": "3"})
	})
}

// S-158 at a renewal: userinfo about somebody else ends the session, whatever the ID token says.
func TestRenewalWithUserinfoOfOthers(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, storage := range []string{"cookie", "caddy"} {
		for name, test := range map[string]struct {
			omit   bool // the ID token
			faulty func()
		}{
			"another sub":                      {false, func() { p.SetUserinfo(func(claims optest.Claims) { claims["sub"] = "mallory" }) }},
			"another sub, without an ID token": {true, func() { p.SetUserinfo(func(claims optest.Claims) { claims["sub"] = "mallory" }) }},
			"in capitals":                      {false, func() { p.SetUserinfo(func(claims optest.Claims) { claims["sub"] = "Alice" }) }},
			"no sub":                           {false, func() { p.SetUserinfo(func(claims optest.Claims) { delete(claims, "sub") }) }},
			"signed": {false, func() {
				p.SetUserinfoJWT(func(claims optest.Claims) string {
					return optest.Sign(p.Key("rs-1"), nil, optest.Claims{"sub": "mallory"})
				})
			}},
		} {
			t.Run(storage+" "+name, func(t *testing.T) {
				defer healRenewals(p)
				r := newRenewer(t, p, "userinfo on\nclaim_header X-Groups groups\nsession {\nstorage "+storage+"\n}")
				r.renew()
				p.SetRefreshOmitIDToken(test.omit)
				test.faulty()
				r.expire()
				thief, attempts := r.clone(), p.RefreshAttempts()
				r.wantRefusal(r.Get(r.url("/data"), "Accept: application/json"), http.StatusUnauthorized, "no_credentials")
				healRenewals(p)
				thief.wantSession(false)
				r.begin("/page")
				if n := p.RefreshAttempts() - attempts; n != 1 {
					t.Errorf("%d requests with a refresh token", n)
				}
				r.site.logged(zapcore.InfoLevel, "session ended", map[string]string{
					"reason": "subject_mismatch", "expected": "the sub of the ID token in userinfo",
				})
				r.signIn("/")
			})
		}
	}
}

// S-160 at a renewal: userinfo adds, and overrides neither what is signed nor what tokens are judged by.
func TestS160UserinfoNeverOverridesAtARenewal(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetUser(optest.Claims{"groups": []string{"staff"}})
	r := newRenewer(t, p, "userinfo on\nmax_age 1d\nacr_values gold\nclaim_header X-Tenant tenant")
	before := userinfo(t, r.upstream.last(t).Header)
	p.SetUserinfo(func(claims optest.Claims) {
		maps.Copy(claims, optest.Claims{
			"iss": "https://evil.example", "aud": "evil", "exp": 1, "nbf": 4102444800, "iat": 1, "jti": "x", "auth_time": 1, "nonce": "n",
			"acr": "platinum", "amr": []string{"mfa"}, "azp": "evil", "sid": "evil", "tid": "evil", "at_hash": "x", "cnf": map[string]any{"jkt": "x"},
			"scope": "admin", "groups": []string{"admin"}, "tenant": "acme",
			"_claim_sources": map[string]any{"s": map[string]any{"endpoint": "https://evil.example"}},
		})
	})
	for _, omitted := range []bool{false, true} {
		p.SetRefreshOmitIDToken(omitted)
		arrived := r.renew()
		after := userinfo(t, arrived.Header)
		if got := fmt.Sprint(after["groups"]); !omitted && got != "[staff]" {
			t.Errorf("groups %s against what is signed", got)
		}
		if got := arrived.Header.Get("X-Tenant"); got != "acme" {
			t.Errorf("what userinfo may tell is %q", got)
		}
		for _, name := range []string{"iss", "sub", "aud", "sid", "acr", "auth_time"} {
			if fmt.Sprint(after[name]) != fmt.Sprint(before[name]) || after[name] == nil {
				t.Errorf("%s was %v and is %v", name, before[name], after[name])
			}
		}
		for _, name := range []string{"nbf", "jti", "nonce", "amr", "azp", "tid", "at_hash", "cnf", "scope", "_claim_sources"} {
			if value, ok := after[name]; ok {
				t.Errorf("%s is %v", name, value)
			}
		}
	}
}

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
