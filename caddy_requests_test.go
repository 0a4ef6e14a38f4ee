package openidconnect

import (
	"fmt"
	"strings"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard" // what a user's Caddyfile may hold

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// TestWhatRequestsGet goes through every kind of request that a bearer-only site meets.
func TestWhatRequestsGet(t *testing.T) {
	p, down := optest.New(t), optest.New(t)
	c := startCaddy(t, `
	handle /rules/* {
		`+api(p, "required_scopes read write\ndenied_claim groups suspended\nbearer_token_from cookie token\nbearer_token_from query token")+`
	}
	handle /pass/* {
		`+api(p, "unauth_action pass")+`
	}
	handle /opaque/* {
		`+api(p, "client_id client\nclient_secret secret")+`
	}
	handle /down/* {
		`+api(down, "")+`
	}
	handle {
		`+api(p, "")+`
	}`)
	token := p.AccessToken(nil)
	c.allows(token)
	navigation := []string{"Accept: text/html,*/*;q=0.8", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"}

	t.Run("valid bearer token, rules hold", func(t *testing.T) {
		c := c.in(t)
		r := c.get("/rules/x?a=1", "Authorization: Bearer "+p.AccessToken(optest.Claims{"scope": "openid write read"}))
		c.wantAllowed(t, r)
		if got := r.Header.Get("Cache-Control"); got != "private" {
			t.Errorf("Cache-Control %q, want private", got)
		}
		arrived := c.last(t)
		if claims := userinfo(t, arrived.Header); claims["sub"] != "alice" {
			t.Errorf("the upstream sees %v", claims)
		}
		if arrived.RequestURI != "/rules/x?a=1" {
			t.Errorf("the upstream sees %s", arrived.RequestURI)
		}
	})
	t.Run("bearer token present but not valid", func(t *testing.T) {
		c := c.in(t)
		for _, path := range []string{"/", "/rules/", "/pass/"} {
			c.wantRefused(t, c.get(path, "Authorization: Bearer "+p.AccessToken(optest.Claims{"aud": "other"})), 401, "wrong_audience")
			c.wantRefused(t, c.get(path, "Authorization: Bearer nonsense"), 401, "malformed_token")
		}
		page := c.get("/pass/", append(navigation, "Authorization: Bearer nonsense")...)
		if page.StatusCode != 401 || page.Header.Get("Location") != "" || !strings.Contains(page.Header.Get("WWW-Authenticate"), "invalid_token") {
			t.Errorf("a navigation with a bad token got %d %v", page.StatusCode, page.Header)
		}
		if c.advance() != 0 {
			t.Error("it reached the upstream")
		}
	})
	t.Run("two or more Authorization headers", func(t *testing.T) {
		c := c.in(t)
		for _, path := range []string{"/", "/pass/"} {
			c.wantRefused(t, c.get(path, "Authorization: Bearer "+token, "Authorization: Basic YTpi"), 400, "ambiguous_credentials")
		}
	})
	t.Run("a token in two places", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/rules/?token="+token, "Authorization: Bearer "+token), 400, "ambiguous_credentials")
		c.wantRefused(t, c.get("/rules/", "Cookie: token="+token, "Authorization: Bearer "+token), 400, "ambiguous_credentials")
	})
	t.Run("bearer lacks a scope", func(t *testing.T) {
		c := c.in(t)
		r := c.get("/rules/", "Authorization: Bearer "+token)
		c.wantRefused(t, r, 403, "insufficient_scope")
		if got := r.Header.Get("WWW-Authenticate"); !strings.HasSuffix(got, `, scope="read write"`) {
			t.Errorf("challenge %s, want the scopes that are needed", got)
		}
	})
	t.Run("bearer fails another rule", func(t *testing.T) {
		c := c.in(t)
		denied := p.AccessToken(optest.Claims{"scope": "read write", "groups": []string{"staff", "suspended"}})
		c.wantRefused(t, c.get("/rules/", "Authorization: Bearer "+denied), 403, "claim_denied")
	})
	t.Run("Authorization with another scheme", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/", "Authorization: Basic YTpi"), 401, "no_credentials")
		c.wantAllowed(t, c.get("/pass/", "Authorization: Basic YTpi"))
		arrived := c.last(t)
		if got := arrived.Header.Get("Authorization"); got != "Basic YTpi" || arrived.Header.Get("X-Userinfo") != "" {
			t.Errorf("the upstream sees Authorization %q and X-Userinfo %q", got, arrived.Header.Get("X-Userinfo"))
		}
	})
	t.Run("introspection unreachable and needed for a bearer", func(t *testing.T) {
		c := c.in(t)
		p.Fail(optest.Introspection, optest.Fault{Status: 500, Times: 1})
		opaque := p.OpaqueToken(p.AccessClaims(nil))
		c.wantRefused(t, c.get("/opaque/", "Authorization: Bearer "+opaque), 503, "introspection_unavailable")
		c.wantAllowed(t, c.get("/opaque/", "Authorization: Bearer "+opaque))
	})
	t.Run("no credentials, deny", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/"), 401, "no_credentials")
		c.wantRefused(t, c.get("/", "Accept: application/json"), 401, "no_credentials")
	})
	t.Run("no credentials, pass", func(t *testing.T) {
		c := c.in(t)
		c.wantAllowed(t, c.get("/pass/", "X-Userinfo: forged"))
		if got := c.last(t).Header["X-Userinfo"]; got != nil {
			t.Errorf("the upstream sees X-Userinfo %q", got)
		}
	})
	t.Run("keys known and an unknown kid whose refetch fails", func(t *testing.T) {
		c := c.in(t)
		p.Fail(optest.JWKS, optest.Fault{Status: 500})
		defer p.Heal(optest.JWKS)
		c.refuses(optest.Sign(optest.NewKey(t, "ES256", "unknown"), nil, p.AccessClaims(nil)), 401, "unknown_key")
		c.allows(p.AccessToken(nil))
	})
	t.Run("provider not known yet or unreachable", func(t *testing.T) {
		c := c.in(t)
		ahead := down.AccessToken(nil)
		c.wantAllowed(t, c.get("/down/", "Authorization: Bearer "+ahead))
		p2 := optest.New(t)
		p2.Down()
		if err := c.load("handle /down/* {\n" + api(down, "") + "}\nhandle /unknown/* {\n" + api(p2, "") + "}\nhandle {\n" + api(p, "") + "}"); err != nil {
			t.Fatal(err)
		}
		down.Down()
		c.wantRefused(t, c.get("/unknown/", "Authorization: Bearer "+p2.AccessToken(nil)), 503, "discovery_failed")
		c.wantRefused(t, c.get("/unknown/"), 401, "no_credentials")
		c.wantRefused(t, c.get("/unknown/", "Authorization: Bearer nonsense"), 401, "malformed_token")
		c.wantAllowed(t, c.get("/down/", "Authorization: Bearer "+ahead))
		c.wantAllowed(t, c.get("/down/", "Authorization: Bearer "+down.AccessToken(nil)))
		c.allows(token)
	})
}

// With error_responses handle_errors the site draws its own page: the headers are ours, the body is the site's.
func TestSiteDrawsItsOwnErrors(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, "error_responses handle_errors\nrequired_scopes read")+`
	handle_errors {
		header X-Reason "{http.openid_connect.reason}"
		respond "{err.status_code}|{err.message}|{http.openid_connect.error}|{http.openid_connect.reason}|{http.openid_connect.request_id}|{http.auth.user.id}"
	}`)
	c.allows(p.AccessToken(nil))
	for _, test := range []struct {
		name, authorization string
		status              int
		code, reason        string
		challenge           string
	}{
		{"no credentials", "", 401, "login_required", "no_credentials", `Bearer realm="openid_connect"`},
		{"malformed", "Bearer a b", 400, "invalid_request", "malformed_authorization", `Bearer realm="openid_connect", error="invalid_request"`},
		{
			"not valid", "Bearer " + p.AccessToken(optest.Claims{"sub": "mallory", "aud": "x"}), 401, "invalid_token", "wrong_audience",
			`Bearer realm="openid_connect", error="invalid_token"`,
		},
		{
			"lacks a scope", "Bearer " + p.AccessToken(optest.Claims{"sub": "mallory", "scope": "x"}), 403, "insufficient_scope",
			"insufficient_scope", `Bearer realm="openid_connect", error="insufficient_scope"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.in(t)
			var headers []string
			if test.authorization != "" {
				headers = append(headers, "Authorization: "+test.authorization)
			}
			r := c.get("/", headers...)
			parts := strings.Split(r.body, "|")
			if len(parts) != 6 {
				t.Fatalf("status %d, body %q", r.StatusCode, r.body)
			}
			if r.StatusCode != test.status || parts[0] != fmt.Sprint(test.status) || parts[2] != test.code || parts[3] != test.reason {
				t.Errorf("status %d, page %q", r.StatusCode, r.body)
			}
			if parts[1] == "" || parts[4] == "" || parts[5] != "" {
				t.Errorf("message %q, request id %q, user %q", parts[1], parts[4], parts[5])
			}
			if got := r.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, test.challenge) {
				t.Errorf("challenge %s, want %s", got, test.challenge)
			}
			if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Reason") != test.reason {
				t.Errorf("headers %v", r.Header)
			}
			if n := c.advance(); n != 0 {
				t.Errorf("%d requests reached the upstream", n)
			}
		})
	}
}

// A handler within another one decides anew, by the token that the outer one has taken out of the request.
func TestSection2NestedHandlersFindTheToken(t *testing.T) {
	p := optest.New(t)
	places := "bearer_token_from query access_token\nbearer_token_from header X-Access-Token\n"
	c := startCaddy(t, "handle {\nopenid_connect "+p.Issuer()+" {\nbearer_only\naudience api\n"+places+`}
		handle /in/* {
			`+api(p, places+"required_scopes write")+`
		}
		handle {
			reverse_proxy $UPSTREAM
		}
	}`)
	reader, writer := p.AccessToken(nil), p.AccessToken(optest.Claims{"scope": "write"})
	c.wantAllowed(t, c.get("/out?access_token="+reader))
	for name, send := range map[string]func(path, token string) *reply{
		"query":  func(path, token string) *reply { return c.get(path + "?a=1&access_token=" + token) },
		"header": func(path, token string) *reply { return c.get(path+"?a=1", "X-Access-Token: "+token) },
	} {
		c.wantAllowed(t, send("/in/x", writer))
		if arrived := c.last(t); arrived.RequestURI != "/in/x?a=1" || arrived.Header.Get("X-Access-Token") != "" {
			t.Errorf("%s: the upstream got %s and %v", name, arrived.RequestURI, arrived.Header)
		}
		c.advance()
		c.wantRefused(t, send("/in/x", reader), 403, "insufficient_scope")
		c.wantRefused(t, send("/in/x", "x"), 401, "malformed_token")
	}
	c.wantRefused(t, c.get("/in/x?access_token=%21"), 400, "malformed_authorization")
	c.wantRefused(t, c.get("/in/x?access_token="+writer, "X-Access-Token: "+writer), 400, "ambiguous_credentials")
	c.wantRefused(t, c.get("/in/x"), 401, "no_credentials")
}

// What the outer handler removes without looking for a token in it may be one for the inner handler.
func TestSection2NestedHandlersFindTheTokenInAHeader(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "handle {\nopenid_connect "+p.Issuer()+" {\nclient_id client\nunauth_action pass /in/*\nclaim_header X-Token sub\n}\n"+`
		handle /in/* {
			`+api(p, "bearer_token_from header X-Token\nbearer_token_from header X-Access-Token")+`
		}
		handle {
			reverse_proxy $UPSTREAM
		}
	}`)
	for _, name := range []string{"X-Token", "X-Access-Token"} {
		c.wantAllowed(t, c.get("/in/x", name+": "+p.AccessToken(nil)))
		if arrived := c.last(t).Header; arrived.Get("X-Access-Token") != "" {
			t.Errorf("the upstream got %v", arrived)
		}
		c.advance()
		c.wantRefused(t, c.get("/in/x", name+": x"), 401, "malformed_token")
	}
	c.wantRefused(t, c.get("/in/x"), 401, "no_credentials")
	c.wantAllowed(t, c.get("/in/x", "X-Token: "+p.AccessToken(nil), "X-Userinfo: forged"))
}
