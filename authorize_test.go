package openidconnect

import (
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Scopes are compared whole, and all that are required must be there.
func TestS043AndS081Scopes(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	one := newBearerSite(t, p, "audience api\nrequired_scopes read")
	two := newBearerSite(t, p, "audience api\nrequired_scopes read write:all\nrealm \"the \\\"API\\\"\"")
	for _, test := range []struct {
		name     string
		claims   optest.Claims
		one, two bool
	}{
		{"exactly one", optest.Claims{"scope": "read"}, true, false},
		{"among others", optest.Claims{"scope": "openid read email"}, true, false},
		{"last", optest.Claims{"scope": "write read"}, true, false},
		{"twice", optest.Claims{"scope": strings.Repeat("read ", 2)}, true, false},
		{"with more spaces", optest.Claims{"scope": "  write   read "}, true, false},
		{"both", optest.Claims{"scope": "write:all read"}, true, true},
		{"scp as a list", optest.Claims{"scope": nil, "scp": []string{"read"}}, true, false},
		{"scp as text", optest.Claims{"scope": nil, "scp": "read write:all"}, true, true},
		{"scopes as a list", optest.Claims{"scope": nil, "scopes": []string{"read", "write:all"}}, true, true},
		{"scope as a list", optest.Claims{"scope": []string{"read"}}, true, false},
		{"over several claims", optest.Claims{"scope": "read", "scp": []string{"write:all"}}, true, true},
		{"none", optest.Claims{"scope": nil}, false, false},
		{"null", optest.Claims{"scope": jsonNull}, false, false},
		{"empty", optest.Claims{"scope": ""}, false, false},
		{"a longer one", optest.Claims{"scope": "readwrite"}, false, false},
		{"a shorter one", optest.Claims{"scope": "rea"}, false, false},
		{"in capitals", optest.Claims{"scope": "READ"}, false, false},
		{"with a prefix", optest.Claims{"scope": "api:read"}, false, false},
		{"separated by a tab", optest.Claims{"scope": "read\twrite"}, false, false},
		{"separated by a comma", optest.Claims{"scope": "read,write"}, false, false},
		{"separated by another space", optest.Claims{"scope": "read\u00a0write"}, false, false},
		{"a list of several in one", optest.Claims{"scope": nil, "scp": []string{"read write"}}, false, false},
		{"a list in a list", optest.Claims{"scope": [][]string{{"read"}}}, false, false},
		{"an object", optest.Claims{"scope": map[string]any{"read": true}}, false, false},
		{"under another name", optest.Claims{"scope": nil, "Scope": "read", "permissions": []string{"read"}}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := p.AccessToken(test.claims)
			for _, check := range []struct {
				s       *site
				allowed bool
				scopes  string
			}{{one.in(t), test.one, "read"}, {two.in(t), test.two, "read write:all"}} {
				if check.allowed {
					check.s.allows(token)
					continue
				}
				r := check.s.bearer(token)
				check.s.wantRefused(t, r, 403, "insufficient_scope")
				if got := r.Header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `, scope="`+check.scopes+`"`) {
					t.Errorf("challenge %s, want the scopes %s", got, check.scopes)
				}
			}
		})
	}
	if got := two.bearer(p.AccessToken(nil)).Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, `Bearer realm="the \"API\"", `) {
		t.Errorf("challenge %s", got)
	}
}

func TestClaimRules(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	object := func(value any) map[string]any { return map[string]any{"roles": value} }
	for _, test := range []struct {
		settings string
		claims   optest.Claims
		reason   string // empty: allowed
	}{
		{"required_claim email", optest.Claims{"email": "x"}, ""},
		{"required_claim email", optest.Claims{"email": false}, ""},
		{"required_claim email", optest.Claims{"email": 0}, ""},
		{"required_claim email", nil, "claim_required"},
		{"required_claim email", optest.Claims{"email": jsonNull}, "claim_required"},
		{"required_claim email", optest.Claims{"email": ""}, "claim_required"},
		{"required_claim email", optest.Claims{"email": " "}, "claim_required"},
		{"required_claim email", optest.Claims{"email": []string{}}, "claim_required"},
		{"required_claim email", optest.Claims{"email": map[string]any{}}, "claim_required"},
		{"required_claim email", optest.Claims{"Email": "x", "e-mail": "x"}, "claim_required"},

		{"required_claim groups a b", optest.Claims{"groups": "a"}, ""},
		{"required_claim groups a b", optest.Claims{"groups": []string{"x", "b"}}, ""},
		{"required_claim groups a b", optest.Claims{"groups": "a b"}, "claim_required"},
		{"required_claim groups a b", optest.Claims{"groups": "a,b"}, "claim_required"},
		{"required_claim groups a b", optest.Claims{"groups": []string{"A", "ab", "a "}}, "claim_required"},
		{"required_claim groups a b", optest.Claims{"groups": [][]string{{"a"}}}, "claim_required"},
		{"required_claim groups a b", nil, "claim_required"},
		{"required_claim \"project roles\" admin", optest.Claims{"project roles": map[string]any{"admin": map[string]any{"1": "x"}}}, ""},
		{"required_claim \"project roles\" x", optest.Claims{"project roles": map[string]any{"admin": "x"}}, "claim_required"},
		{"required_claim level 3", optest.Claims{"level": 3}, ""},
		{"required_claim level 3", optest.Claims{"level": "3"}, ""},
		{"required_claim level 3", optest.Claims{"level": 30}, "claim_required"},
		{"required_claim email_verified true", optest.Claims{"email_verified": true}, ""},
		{"required_claim email_verified true", optest.Claims{"email_verified": false}, "claim_required"},
		{"required_claim email_verified true", optest.Claims{"email_verified": 1}, "claim_required"},
		{"required_claim scope read", optest.Claims{"scope": "write read"}, ""},
		{"required_claim groups a\nrequired_claim level 3", optest.Claims{"groups": "a", "level": 3}, ""},
		{"required_claim groups a\nrequired_claim level 3", optest.Claims{"groups": "a", "level": 4}, "claim_required"},

		{"required_claim realm_access.roles admin", optest.Claims{"realm_access": object([]string{"user", "admin"})}, ""},
		{"required_claim realm_access.roles admin", optest.Claims{"realm_access": object("user")}, "claim_required"},
		{"required_claim realm_access.roles admin", optest.Claims{"realm_access": "admin"}, "claim_required"},
		{"required_claim realm_access.roles admin", optest.Claims{"realm_access": []any{object("admin")}}, "claim_required"},
		{"required_claim realm_access.roles admin", optest.Claims{"roles": "admin"}, "claim_required"},

		// S083: a name with a dot in it is not the way into an object, and wins over it
		{"required_claim realm_access.roles admin", optest.Claims{"realm_access.roles": "admin"}, ""},
		{"required_claim realm_access.roles admin", optest.Claims{"realm_access.roles": "user", "realm_access": object("admin")}, "claim_required"},
		{"required_claim realm_access.roles admin", optest.Claims{"realm_access.roles": jsonNull, "realm_access": object("admin")}, "claim_required"},
		{`required_claim realm_access\.roles admin`, optest.Claims{"realm_access.roles": "admin"}, ""},
		{`required_claim realm_access\.roles admin`, optest.Claims{"realm_access": object("admin")}, "claim_required"},
		{"required_claim https://example.com/roles admin", optest.Claims{"https://example.com/roles": []string{"admin"}}, ""},
		{"required_claim https://example.com/roles admin", optest.Claims{"https://example": map[string]any{"com/roles": "admin"}}, ""},
		{"required_claim cognito:groups admin", optest.Claims{"cognito:groups": []string{"admin"}}, ""},

		{"denied_claim groups guests", optest.Claims{"groups": "guests"}, "claim_denied"},
		{"denied_claim groups guests", optest.Claims{"groups": []string{"staff", "guests"}}, "claim_denied"},
		{"denied_claim groups guests", optest.Claims{"groups": []string{"staff"}}, ""},
		{"denied_claim groups guests", nil, ""},
		{"denied_claim groups guests\nrequired_claim groups staff", optest.Claims{"groups": []string{"staff", "guests"}}, "claim_denied"},
		{"denied_claim email_verified false", optest.Claims{"email_verified": false}, "claim_denied"},
		{"denied_claim realm_access.roles guest", optest.Claims{"realm_access": object([]string{"guest"})}, "claim_denied"},
	} {
		t.Run(test.settings+" "+jsonOf(t, test.claims), func(t *testing.T) {
			s := newBearerSite(t, p, "audience api\n"+test.settings)
			token := p.AccessToken(test.claims)
			for range 2 {
				if test.reason == "" {
					s.allows(token)
				} else {
					s.refuses(token, 403, test.reason)
				}
			}
		})
	}
}

// Names and values in rules are not read as anything else.
func TestRulesTakeValuesLiterally(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nrequired_claim email *@example.com a.c ^x$")
	for _, email := range []string{"*@example.com", "a.c", "^x$"} {
		s.allows(p.AccessToken(optest.Claims{"email": email}))
	}
	for _, email := range []string{"alice@example.com", "@example.com", "abc", "x", "*@example.com.evil", ""} {
		s.refuses(p.AccessToken(optest.Claims{"email": email}), 403, "claim_required")
	}
}
