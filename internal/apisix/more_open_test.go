package apisix_test

import (
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

// TestNeverSilentlyMoreOpen: where the Caddyfile lets in whom APISIX keeps out, a line says so. Each pair begins with the case where nothing
// is more open.
func TestNeverSilentlyMoreOpen(t *testing.T) {
	keyFile := environment(t)
	const (
		discovery = `"discovery":"https://id.example.com/.well-known/openid-configuration"`
		secret    = `"client_id":"app","client_secret":"hidden-client-secret",` + discovery
		public    = `"client_id":"app","client_secret":"","bearer_only":true,` + discovery
		pin       = "token_signing_alg_values_expected ES256"
	)
	for _, test := range []struct {
		input, name string
		outcome     apisix.Outcome
		lines       []string
	}{
		{`{` + secret + `}`, "force_reauthorize", "", []string{"-" + caution}},
		{`{"force_reauthorize":false,` + secret + `}`, "force_reauthorize", noOp, []string{"-" + caution}},
		{`{"force_reauthorize":true,` + secret + `}`, "force_reauthorize", refused, []string{caution}},

		// a pin where tokens are introspected, and where they are verified after all
		{`{"bearer_only":true,"token_signing_alg_values_expected":"ES256",` + secret + `}`, "token_signing_alg_values_expected", noOp, []string{"-" + caution}},
		{`{"token_signing_alg_values_expected":"ES256",` + public + `}`, "token_signing_alg_values_expected", translated, []string{pin, caution}},
		{
			`{"token_signing_alg_values_expected":"ES256","introspection_endpoint":"https://id.example.com/i","use_pkce":true,"client_id":"app",` + discovery + `}`,
			"token_signing_alg_values_expected", translated,
			[]string{pin, "-introspection", caution},
		},
		{`{` + public + `}`, "bearer_only", changed, []string{"-introspection", caution}},
		{
			`{"introspection_interval":60,` + public + `}`, "introspection_interval", noOp,
			[]string{"-introspection_interval", caution},
		},

		// a session without a refresh token
		{`{` + secret + `}`, "renew_access_token_on_expiry", "", nil},
		{`{"set_access_token_header":false,` + secret + `}`, "renew_access_token_on_expiry", changed, nil},
		{`{"set_access_token_header":false,"renew_access_token_on_expiry":true,` + secret + `}`, "renew_access_token_on_expiry", changed, nil},
		{`{"set_access_token_header":false,"renew_access_token_on_expiry":false,` + secret + `}`, "renew_access_token_on_expiry", translated, nil},
		{`{"session_contents":{"id_token":true},` + secret + `}`, "renew_access_token_on_expiry", "", nil},
		{`{"session_contents":{"id_token":true},"required_scopes":["a"],` + secret + `}`, "renew_access_token_on_expiry", changed, nil},

		{`{"refresh_session_interval":60,` + secret + `}`, "refresh_session_interval", changed, []string{"-" + caution}},
		{`{"renew_access_token_on_expiry":false,"refresh_session_interval":60,` + secret + `}`, "refresh_session_interval", refused, []string{caution}},

		{`{"authorization_params":{"state":"x"},` + secret + `}`, "authorization_params", refused, []string{"-" + caution}},
		{`{"authorization_params":{"acr_values":"high\n"},` + secret + `}`, "authorization_params", refused, []string{caution}},

		{`{"introspection_params":{"a":"b"},` + secret + `}`, "introspection_params", noOp, []string{"-" + caution}},
		{`{"introspection_params":{"a":"b"},"bearer_only":true,` + secret + `}`, "introspection_params", refused, []string{caution}},
	} {
		conversion := convert(t, test.input)
		if got := outcomeOf(conversion, test.name); got.Outcome != test.outcome {
			t.Errorf("%s: %+v, not %s", test.input, got, test.outcome)
		}
		checkLines(t, conversion.Caddyfile, test.lines)
		checkRemarks(t, conversion)
		checkSecrets(t, conversion)
		load(t, keyFile, conversion.Caddyfile)
	}
}

// TestRoutes: what no route led to is not served, or a line says that it is.
func TestRoutes(t *testing.T) {
	keyFile := environment(t)
	const several = "@apisix path /v1/* /v2 /"
	for _, test := range []struct {
		route, name string
		outcome     apisix.Outcome
		lines       []string
	}{
		{`"uri":"/*"`, "route.uri", noOp, []string{"openid_connect {", "-@apisix", "-" + caution}},
		{`"uri":"/v1/*"`, "route.uri", translated, []string{"openid_connect /v1/* {", "reverse_proxy /v1/* localhost:8080", "-@apisix", "-" + caution}},
		{`"uri":"/"`, "route.uri", translated, []string{"openid_connect / {", "reverse_proxy / localhost:8080", "-" + caution}},
		{
			`"uris":["/v1/*","/v2","/","/v2"]`, "route.uris", translated,
			[]string{several, "openid_connect @apisix {", "reverse_proxy @apisix localhost:8080", "-" + caution},
		},
		{`"uri":"/v1/*","uris":["/v2","/"]`, "route.uri", translated, []string{several, "openid_connect @apisix {", "-" + caution}},
		{`"uris":["/v2","/*"]`, "route.uris", noOp, []string{"openid_connect {", "-@apisix", "-" + caution}},
		{`"uris":["/v1/*","/a*b/{x}"]`, "route.uris", changed, []string{"openid_connect {", "-@apisix", caution}},
		{`"uris":["/v1/*",5]`, "route.uris", changed, []string{"openid_connect {", caution}},
		{`"uris":[]`, "route.uris", changed, []string{"openid_connect {", caution}},
		{`"uri":"/a/../b"`, "route.uri", changed, []string{"openid_connect {", caution}},
		{`"uri":"/*","status":1`, "route.status", "", []string{"-" + caution}},
		{`"uri":"/*","status":0`, "route.status", refused, []string{caution}},
		{`"uri":"/*","vars":[["arg_x","==","y"]]`, "route.vars", refused, []string{caution}},
		{`"id":"service"`, "route.uri", changed, []string{"openid_connect {", caution}},
		{`"uri":"/v1/*","desc":"alone"`, "route.plugins.ip-restriction", "", []string{"-" + caution}},
	} {
		for _, plugin := range []string{browser, verify} {
			conversion := convert(t, `{`+test.route+`,"plugins":{"openid-connect":`+plugin+`}}`)
			if got := outcomeOf(conversion, test.name); got.Outcome != test.outcome {
				t.Errorf("%s: %+v, not %s", test.route, got, test.outcome)
			}
			checkLines(t, conversion.Caddyfile, test.lines)
			checkRemarks(t, conversion)
			load(t, keyFile, conversion.Caddyfile)
		}
	}
}

// TestBesides: what else keeps requests out is told wherever it stands.
func TestBesides(t *testing.T) {
	keyFile := environment(t)
	const other = `"ip-restriction":{"whitelist":["10.0.0.0/8"]}`
	alone := convert(t, `{"openid-connect":`+browser+`}`)
	checkLines(t, alone.Caddyfile, []string{"-" + caution})
	for input, name := range map[string]string{
		`{"openid-connect":` + browser + `,` + other + `}`:                                                         "route.plugins.ip-restriction",
		`{"plugins":{` + other + `,"openid-connect":` + browser + `}}`:                                             "route.plugins.ip-restriction",
		`{"routes":[{"uri":"/*","plugins":{` + other + `,"openid-connect":` + browser + `}}]}`:                     "route.plugins.ip-restriction",
		`{"routes":[{"plugins":{"openid-connect":` + browser + `}}],"global_rules":[{"plugins":{` + other + `}}]}`: "route.global_rules",
	} {
		conversion := convert(t, input)
		if got := outcomeOf(conversion, name); got.Outcome != refused {
			t.Errorf("%s: %+v", input, got)
		}
		checkLines(t, conversion.Caddyfile, []string{caution})
		checkRemarks(t, conversion)
		load(t, keyFile, conversion.Caddyfile)
	}
}
