package apisix_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

// TestInputs: what people have around a plugin object.
func TestInputs(t *testing.T) {
	t.Parallel()
	route := `{"id":"7","uri":"/*","plugins":{"openid-connect":` + browser + `}}`
	other := `{"id":"8","uri":"/x","plugins":{"limit-count":{}}}`
	for name, input := range map[string]string{
		"the plugin":           browser,
		"with a mark in front": "\ufeff" + browser,
		"in its name":          `{"openid-connect":` + browser + `}`,
		"in plugins":           `{"plugins":{"openid-connect":` + browser + `}}`,
		"in a route":           route,
		"in a list":            "[" + other + "," + route + "]",
		"in a list of plugins": "[" + browser + "]",
		"of the admin API":     `{"key":"/apisix/routes/7","value":` + route + `}`,
		"of all routes":        `{"total":2,"list":[{"value":` + other + `},{"value":` + route + `}]}`,
		"of old versions":      `{"action":"get","node":{"key":"x","value":` + route + `}}`,
		"of a file":            `{"routes":[` + route + `],"upstreams":[]}`,
	} {
		conversion := convert(t, input)
		if !strings.Contains(conversion.Caddyfile, "\t\tclient_id app\n") {
			t.Errorf("%s:\n%s", name, conversion.Caddyfile)
		}
	}
}

// TestErrors: what is wrong is told with its place, and without the values of the input.
func TestErrors(t *testing.T) {
	t.Parallel()
	route := `{"id":%q,"plugins":{"openid-connect":` + browser + `}}`
	for input, want := range map[string]string{
		"":                               "the input is empty",
		" \n":                            "the input is empty",
		"{":                              "line 1, column 2: the JSON ends before it is complete",
		"{\n  \"client_id\": app}":       "line 2, column 16: not JSON",
		`{"client_id":"a"} {}`:           "line 1, column 19: something stands after the end",
		`"hidden"`:                       "line 1, column 1: expected the object of a plugin, not a string",
		`{}`:                             "client_id is missing",
		`{"client_id":"a"}`:              "discovery is missing",
		`{"plugins":{"limit-count":{}}}`: "no openid-connect plugin is in it",
		`[{"plugins":{}}]`:               "no openid-connect plugin is in the list",
		`{"openid-connect":"hidden"}`:    "line 1, column 19: openid-connect: expected an object, not a string",
		"[" + fmt.Sprintf(route, "a") + ",\n" + fmt.Sprintf(route, "b{x}") + "]": `2 openid-connect plugins are in it (line 1, id a; line 2, id "b(x)"); give one`,
		with(t, browser, "client_id", "5"):                                       "client_id: expected a string, not a number",
		with(t, browser, "timeout", `"hidden"`):                                  "timeout: expected a whole number, not a string",
		with(t, browser, "timeout", "1.5"):                                       "timeout: expected a whole number",
		with(t, browser, "timeout", "1e400"):                                     "timeout: expected a whole number",
		with(t, browser, "bearer_only", `"yes"`):                                 "bearer_only: expected true or false, not a string",
		with(t, browser, "bearer_only", "null"):                                  "bearer_only: expected true or false, not null",
		with(t, browser, "ssl_verify", `"hidden"`):                               `ssl_verify: expected true, false or "no", not a string`,
		with(t, browser, "session", `"hidden"`):                                  "session: expected an object, not a string",
		with(t, browser, "session.secret", "5"):                                  "session.secret: expected a string, not a number",
		with(t, browser, "required_scopes", `"a"`):                               "required_scopes: expected a list of strings, not a string",
		with(t, browser, "required_scopes", `[5]`):                               "required_scopes: expected a list of strings",
		with(t, browser, "required_scopes", `["a b"]`):                           "required_scopes: has what cannot be a scope",
		with(t, browser, "claim_schema", `"hidden"`):                             "claim_schema: expected an object",
		with(t, browser, "discovery", `"id.example.com"`):                        "discovery: not an absolute URL",
		with(t, browser, "discovery", `"https://me:hidden@id.example.com"`):      "discovery: not an absolute URL",
		with(t, browser, "discovery", `"$secret://vault/hidden"`):                "discovery: a reference",
		with(t, browser, "client_id", `"a\nb"`):                                  "client_id: it cannot be written into a Caddyfile",
		"{\"client_id\":\"a\",\n  \"client_id\":\"b\"}":                          "line 2, column 3: client_id is there twice",
		`{"session":{"secret":"hidden","secret":"hidden"}}`:                      "line 1, column 31: secret is there twice",
		strings.Repeat(`{"value":`, 100):                                         "more than 64 levels",
		strings.Repeat(`[`, 100000):                                              "more than 64 levels",
	} {
		_, err := apisix.Convert([]byte(input), apisix.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %q", input, err, want)
			continue
		}
		for _, secret := range hidden {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q is in %q", secret, err)
			}
		}
	}
}

// TestUnknownAttributes: they are refused, with the name that may have been meant.
func TestUnknownAttributes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"client_secrte":           "did you mean client_secret?",
		"use_jkws":                "did you mean use_jwks?",
		"session.cookie_samesite": "did you mean session.cookie_same_site?",
		"session.idle_timeout":    "did you mean session.idling_timeout?",
		"idling_timeout":          "did you mean session.idling_timeout?",
		"zzzzzzzzzz":              "not an attribute of the plugin",
		"_meta":                   "disable, filter, priority",
	} {
		got := outcomeOf(convert(t, with(t, browser, name, `"hidden"`)), name)
		if got.Outcome != refused || !strings.Contains(got.Note, want) {
			t.Errorf("%s is %+v, without %q", name, got, want)
		}
	}
	dotted := convert(t, `{"session.secret":"hidden",`+browser[1:])
	if got := outcomeOf(dotted, "session.secret"); got.Outcome != refused {
		t.Errorf("a name with a dot in it is %+v", got)
	}
}

// TestOrder: the outcomes stand as the attributes do, and what is missing comes last.
func TestOrder(t *testing.T) {
	t.Parallel()
	conversion := convert(t, `{"timeout":3,"session":{"secret":"hidden-hidden-hidden"},"xyz":1,"discovery":"https://id.example.com/d","client_id":"a"}`)
	var names []string
	for _, attribute := range conversion.Attributes {
		names = append(names, attribute.Name)
	}
	const want = "timeout session session.secret xyz discovery client_id redirect_uri session.idling_timeout access_token_expires_in " +
		"set_access_token_header set_id_token_header logout_path"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s", got)
	}
}

// TestOptions: where the site and its upstream are.
func TestOptions(t *testing.T) {
	keyFile := environment(t)
	route := `{"hosts":["b.example.com","*.a.example.com"],"uri":"/x/*","plugins":{"openid-connect":` + browser + `},
		"upstream":{"nodes":{"10.0.0.1:80":1,"10.0.0.2:80":1}}}`
	for _, test := range []struct {
		input   string
		options apisix.Options
		lines   []string
	}{
		{browser, apisix.Options{}, []string{"example.com {", "openid_connect {", "reverse_proxy localhost:8080"}},
		{
			browser,
			apisix.Options{Site: "http://localhost:80, a.example.com", Upstream: "https://10.0.0.1:8443"},
			[]string{"http://localhost:80, a.example.com {", "reverse_proxy https://10.0.0.1:8443"},
		},
		{browser, apisix.Options{Site: ":8080", Upstream: "[::1]:9000"}, []string{":8080 {", "reverse_proxy [::1]:9000"}},
		{route, apisix.Options{}, []string{"*.a.example.com, b.example.com {", "openid_connect /x/* {", "reverse_proxy /x/* 10.0.0.1:80 10.0.0.2:80"}},
		{route, apisix.Options{Site: "c.example.com", Upstream: "app:8080"}, []string{"c.example.com {", "reverse_proxy /x/* app:8080"}},
	} {
		conversion, err := apisix.Convert([]byte(test.input), test.options)
		if err != nil {
			t.Fatal(err)
		}
		checkLines(t, conversion.Caddyfile, test.lines)
		load(t, keyFile, conversion.Caddyfile)
	}
	for _, options := range []apisix.Options{
		{Site: "a b"},
		{Site: "a {"},
		{Site: "a\n"},
		{Site: "ftp://a"},
		{Site: "a:b"},
		{Site: "a:99999"},
		{Site: "{$HOME}"},
		{Site: "a/b"},
		{Site: "#a"},
		{Site: ","},
		{Upstream: "a"},
		{Upstream: "a:1 b:2"},
		{Upstream: "{env.A}:1"},
		{Upstream: "a:1\n"},
		{Upstream: "a:1/x"},
		{Upstream: ":80"},
		{Upstream: "*:80"},
	} {
		if _, err := apisix.Convert([]byte(browser), options); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", options, err)
		}
	}
}

// TestTogether: attributes that cannot stand together give way to each other, and the Caddyfile loads.
func TestTogether(t *testing.T) {
	keyFile := environment(t)
	const app = `"client_id":"a","client_secret":"hidden","discovery":"https://id.example.com/.well-known/openid-configuration"`
	for _, test := range []struct {
		input string
		lines []string
	}{
		{`{"redirect_uri":"https://other.test/cb","session":{"cookie_domain":"example.com"},` + app + `}`, []string{"redirect_uri https://other.test/cb", "-cookie_domain"}},
		{`{"redirect_uri":"http://a.test/cb","session":{"cookie_same_site":"None"},` + app + `}`, []string{"-cookie_same_site"}},
		{`{"redirect_uri":"http://a.test/cb","session":{"cookie_same_site":"None","cookie_secure":true},` + app + `}`, []string{"cookie_same_site none"}},
		{`{"redirect_uri":"http://a.test/cb","response_mode":"form_post",` + app + `}`, []string{"-response_mode"}},
		{`{"redirect_uri":"/cb","session":{"cookie_path":"/app"},` + app + `}`, []string{"redirect_uri /cb", "-cookie_path"}},
		{
			`{"redirect_uri":"/app/cb","logout_path":"/app/bye","session":{"cookie_path":"/app/"},` + app + `}`,
			[]string{"cookie_path /app/", "path_prefix /app/oauth2", "logout_path /app/bye"},
		},
		{`{"prompt":"login","authorization_params":{"prompt":"consent"},` + app + `}`, []string{"-prompt", "authorization_params prompt consent"}},
		{`{"renew_access_token_on_expiry":false,"refresh_session_interval":60,` + app + `}`, []string{"-refresh_session_interval"}},
		{`{"set_raw_id_token_header":true,"session_contents":{"id_token":true},` + app + `}`, []string{"session_contents id_token enc_id_token"}},
		{`{"set_access_token_header":true,"session_contents":{"id_token":true},` + app + `}`, []string{"-set_access_token_header"}},
		{
			`{"client_id":"a","discovery":"https://id.example.com/x","bearer_only":true,"introspection_endpoint":"https://id.example.com/i"}`,
			[]string{"-introspection", "-introspection_endpoint"},
		},
		{`{"client_id":"a","discovery":"https://id.example.com/x","use_pkce":true}`, []string{"-client_secret", "-introspection"}},
		{`{"bearer_only":true,"public_key":` + text(publicKey) + `,"client_id":"a","discovery":"https://id.example.com/x"}`, []string{"issuer {env.OIDC_ISSUER}"}},
		{
			`{"token_endpoint_auth_method":"client_secret_jwt","introspection_endpoint":"https://id.example.com/i",` + app + `}`,
			[]string{"token_endpoint_auth_method client_secret_jwt", "introspection_endpoint_auth_method client_secret_basic"},
		},
		{`{"session":{"storage":"redis","redis":{"username":"x"}},` + app + `}`, []string{"storage redis", "-username"}},
		{`{"session":{"storage":"redis","redis":{"server_name":"x","ssl_verify":false}},` + app + `}`, []string{"storage redis", "-server_name", "-ssl_verify"}},
	} {
		conversion := convert(t, test.input)
		checkLines(t, conversion.Caddyfile, test.lines)
		checkRemarks(t, conversion)
		load(t, keyFile, conversion.Caddyfile)
	}
}
