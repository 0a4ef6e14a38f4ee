package openidconnect

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-197: what the provider says at a renewal holds from that request on, in headers, placeholders and rules.
func TestS197ClaimsChange(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, test := range []struct {
		name          string
		before, after optest.Claims
		header        string // X-Groups after it; empty: there is none
		placeholder   string
	}{
		{"others", optest.Claims{"groups": []string{"a", "b"}}, optest.Claims{"groups": []string{"b", "c"}}, "b,c", "b,c"},
		{"one less", optest.Claims{"groups": []string{"a", "b"}}, optest.Claims{"groups": []string{"b"}}, "b", "b"},
		{"a string", optest.Claims{"groups": []string{"a", "b"}}, optest.Claims{"groups": "c"}, "c", "c"},
		{"an object", optest.Claims{"groups": "a"}, optest.Claims{"groups": map[string]any{"c": 1}}, `{"c":1}`, `{"c":1}`},
		{"an empty list", optest.Claims{"groups": []string{"a"}}, optest.Claims{"groups": []string{}}, "", ""},
		{"null", optest.Claims{"groups": []string{"a"}}, optest.Claims{"groups": jsonNull}, "", ""},
		{"none", optest.Claims{"groups": []string{"a"}}, nil, "", ""},
		{"none before", nil, optest.Claims{"groups": []string{"a"}}, "a", "a"},
		{"something that looks like a placeholder", nil, optest.Claims{"groups": "{env.HOME}"}, "{env.HOME}", "{env.HOME}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.SetUser(test.before)
			r := newRenewer(t, p, "claim_header X-Groups groups\nset_id_token_header\nuserinfo off")
			p.SetUser(test.after)
			r.expire()
			response := r.Get(r.url("/"), "X-Groups: forged", "X-Userinfo: forged", "X-ID-Token: forged")
			if response.Status != 200 || r.upstream.advance() != 1 {
				t.Fatalf("got %d: %s", response.Status, response.Body)
			}
			for range 2 {
				r.site.wantHeaders(map[string]string{"X-Groups": test.header})
				arrived := r.upstream.last(t)
				if got := fmt.Sprint(arrived.placeholder(t, "http.auth.user.groups")); got != test.placeholder {
					t.Errorf("the placeholder is %q", got)
				}
				want, _ := json.Marshal(test.after["groups"])
				for name, claims := range map[string]map[string]any{
					"X-Userinfo": userinfo(t, arrived.Header), "X-ID-Token": decodedHeader(t, arrived, "X-ID-Token"),
				} {
					_, has := claims["groups"]
					if got := jsonOf(t, claims["groups"]); got != string(want) || has != (test.after != nil) {
						t.Errorf("%s has the groups %s, want %s", name, got, want)
					}
				}
				r.again()
			}
		})
	}
	if n := p.RefreshReuses(); n != 0 {
		t.Errorf("%d refresh tokens were presented twice", n)
	}
}

// decodedHeader is the JSON object that a header holds in base64.
func decodedHeader(t *testing.T, a arrival, name string) map[string]any {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(a.Header.Get(name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return jsonMembers(t, string(text))
}

// S-197: a rule that held at the login refuses from the renewal on. The session lives, and gets through again when the rule holds again.
func TestS197RulesOverRenewedClaims(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	roles := func(names ...string) optest.Claims {
		return optest.Claims{"realm_access": map[string]any{"roles": names}}
	}
	for _, test := range []struct {
		name, rule string
		good, bad  optest.Claims
		reason     string
	}{
		{"the group is lost", "required_claim groups staff", optest.Claims{"groups": []string{"staff", "x"}}, optest.Claims{"groups": []string{"x"}}, "claim_required"},
		{"all groups are lost", "required_claim groups staff", optest.Claims{"groups": []string{"staff"}}, nil, "claim_required"},
		{"there has to be some", "required_claim groups", optest.Claims{"groups": []string{"staff"}}, optest.Claims{"groups": []string{}}, "claim_required"},
		{"a role in objects", "required_claim realm_access.roles staff", roles("staff", "x"), roles("x"), "claim_required"},
		{"a group too many", "denied_claim groups locked", optest.Claims{"groups": []string{"x"}}, optest.Claims{"groups": []string{"locked"}}, "claim_denied"},
		{"verified no more", "required_claim email_verified true\nscope openid email", optest.Claims{"email_verified": true}, optest.Claims{"email_verified": false}, "claim_required"},
		{"another type", "required_claim tenant acme", optest.Claims{"tenant": "acme"}, optest.Claims{"tenant": map[string]any{"id": "acme"}}, "claim_required"},
	} {
		for _, storage := range []string{"cookie", "caddy"} {
			t.Run(test.name+" "+storage, func(t *testing.T) {
				p.SetUser(test.good)
				r := newRenewer(t, p, test.rule+"\nuserinfo off\nsession {\nstorage "+storage+"\n}")
				r.renew()
				p.SetUser(test.bad)
				r.wantForbidden(test.reason)
				r.expire() // longer than the grace: the refusal has brought the newest session along
				r.wantPageOf403(test.reason)
				p.SetUser(test.good)
				r.renew()
			})
		}
	}
}

// wantPageOf403 checks that a page navigation is refused by a rule, after a renewal, and not sent to the provider.
func (r *renewer) wantPageOf403(reason string) {
	r.t.Helper()
	authorized := r.provider.Hits(optest.Authorize)
	page := r.open("/page")
	if page.Status != 403 || page.Header.Get("Location") != "" || r.provider.Hits(optest.Authorize) != authorized {
		r.t.Errorf("got %d and %q: %s", page.Status, page.Header.Get("Location"), shown(page))
	}
	r.upstreamUntouched()
	if got := page.Body; len(sessionsIn(page)) == 0 && r.site.handler.runtime.login.store == nil {
		r.t.Errorf("the refusal (%s) does not bring the renewed session: %s", reason, got)
	}
}

// S-197: the granted scope, as the provider states it at the renewal, is that of the session; unstated it stays (RFC 6749 section 5.1).
func TestS197ScopeChanges(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const settings = "scope openid read write\nclaim_header X-Scope scope\n"
	for _, test := range []struct {
		name   string
		answer any // nil: none
		want   string
	}{
		{"the same", "openid read write", "openid read write"},
		{"narrower", "openid read", "openid read"},
		{"in another order", "write openid read", "write openid read"},
		{"wider", "openid read write admin", "openid read write admin"},
		{"not stated", nil, "openid read write"},
		{"empty", "", "openid read write"},
		{"null", jsonNull, "openid read write"},
		{"a list", []string{"openid", "read"}, "openid read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			r := newRenewer(t, p, settings)
			renewedAnswer("scope", test.answer)(p)
			arrived := r.renew()
			if got := arrived.Header.Get("X-Scope"); got != test.want {
				t.Errorf("X-Scope %q, want %q", got, test.want)
			}
			if got := arrived.placeholder(t, "http.auth.user.scope"); got != test.want {
				t.Errorf("the placeholder is %q, want %q", got, test.want)
			}
		})
	}
	t.Run("required_scopes", func(t *testing.T) {
		defer healRenewals(p)
		r := newRenewer(t, p, settings+"required_scopes write")
		renewedAnswer("scope", nil)(p)
		r.renew()
		renewedAnswer("scope", "openid read")(p)
		r.wantForbidden("insufficient_scope")
		renewedAnswer("scope", nil)(p) // and so the same as before, that is without
		r.wantForbidden("insufficient_scope")
		renewedAnswer("scope", "openid read write")(p)
		r.renew()
	})
	t.Run("required_claim", func(t *testing.T) {
		defer healRenewals(p)
		r := newRenewer(t, p, settings+"required_claim scope write")
		r.renew()
		renewedAnswer("scope", "openid read rewrite")(p)
		r.wantForbidden("claim_required")
	})
}
