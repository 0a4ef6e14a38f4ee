package openidconnect

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// parseLogin reads a directive that logs in; the settings need not say where and who we are there.
func parseLogin(settings string) (*Handler, error) {
	return parse("issuer https://id.example.com\nclient_id app\n" + settings)
}

// secret32 is long enough for everything that takes a secret.
const secret32 = "0123456789abcdef0123456789abcdef"

// checkSettings holds settings to the error they must have; "" is none. Where others are the same but for one thing, the two of them
// show what the error is about.
func checkSettings(t *testing.T, settings, want string) {
	t.Helper()
	_, err := parseLogin(settings)
	switch {
	case want == "" && err != nil:
		t.Errorf("%q is refused: %v", settings, err)
	case want != "" && err == nil:
		t.Errorf("%q is accepted", settings)
	case want != "" && !strings.HasPrefix(strings.TrimPrefix(err.Error(), directive+": "), want):
		t.Errorf("%q\ngot  %v\nwant %s", settings, err, want)
	}
}

func TestLoginSettings(t *testing.T) {
	t.Parallel()
	h, err := parseLogin(`client_secret ` + secret32 + `
		scope openid profile
		scope offline_access
		redirect_uri https://app.example.com/auth/callback
		path_prefix /auth
		use_pkce off
		use_nonce on
		authorization_params login_hint {http.request.uri.query.user}
		authorization_params audience a b
		token_params audience a
		prompt login consent
		max_age 3600
		acr_values gold
		acr_values silver
		resource https://api.example.com urn:api
		display popup
		ui_locales de-AT en
		response_mode form_post
		id_token_signed_response_alg ES256 PS256
		trusted_audiences other
		userinfo on
		error_template /etc/caddy/pages.html
		ignore_bearer`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Handler{
		Issuer: "https://id.example.com", ClientID: "app", ClientSecret: secret32,
		Scope: "openid profile offline_access", RedirectURI: "https://app.example.com/auth/callback", PathPrefix: "/auth",
		UsePKCE: new(false), UseNonce: new(true),
		AuthorizationParams: map[string]StringList{"login_hint": {"{http.request.uri.query.user}"}, "audience": {"a", "b"}},
		TokenParams:         map[string]StringList{"audience": {"a"}},
		Prompt:              "login consent", MaxAge: new(Duration(time.Hour)), ACRValues: "gold silver",
		Resource: StringList{"https://api.example.com", "urn:api"}, Display: "popup", UILocales: "de-AT en",
		ResponseMode: "form_post", IDTokenSignedResponseAlg: StringList{"ES256", "PS256"}, TrustedAudiences: StringList{"other"},
		Userinfo: "on", ErrorTemplate: "/etc/caddy/pages.html", IgnoreBearer: true,
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %s\nwant %s", must(json.Marshal(h)), must(json.Marshal(want)))
	}
}

func TestLoginChecks(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"":                                   "",
		"bearer_only":                        "",
		"scope openid":                       "",
		"scope profile openid":               "",
		"scope {env.SCOPE}":                  "",
		"scope profile email":                "scope: must contain openid: without it the provider sends no ID token",
		"scope Openid profile":               "scope: must contain openid: without it the provider sends no ID token; it has Openid",
		"scope profile\nbearer_only":         "",
		`scope openid a\b`:                   `scope: "a\\b" is not a scope`,
		`scope "openid  profile"`:            "",
		`scope " "`:                          "scope has an empty value",
		"prompt login":                       "",
		"prompt none":                        "",
		"prompt create select_account":       "",
		"prompt {env.PROMPT}":                "",
		"prompt none login":                  "prompt: none must stand alone",
		"prompt logn":                        `prompt: "logn" is not one of login, consent, select_account, create, none; did you mean`,
		`prompt " "`:                         "prompt has an empty value",
		"max_age 0":                          "",
		"max_age 0s":                         "",
		"max_age 1d":                         "",
		"max_age 86400":                      "",
		"max_age 1500ms":                     "max_age: must be whole seconds",
		"max_age 401d":                       "max_age: 9624h0m0s is not between 0s and 9600h0m0s",
		"max_age -1":                         `max_age: "-1" is not a duration`,
		"max_age 9999999999":                 `max_age: "9999999999" is not a duration`,
		"max_age":                            "max_age needs a duration",
		"acr_values urn:a https://b":         "",
		`acr_values "ä"`:                     "acr_values: must be printable ASCII",
		"acr_values \"a\tb\"":                "acr_values: must be printable ASCII",
		"ui_locales de en-GB":                "",
		`ui_locales "é"`:                     "ui_locales: must be printable ASCII",
		"resource https://a":                 "",
		"resource {env.A}":                   "",
		"resource api":                       `resource: "api" is not an absolute URI`,
		"resource https://a/#b":              `resource: "https://a/#b" is not an absolute URI`,
		"resource https://a#":                `resource: "https://a#" is not an absolute URI`,
		"display touch":                      "",
		"display pop":                        `display: "pop" is not one of page, popup, touch, wap`,
		"response_mode query":                "",
		"response_mode form_post":            "",
		"response_mode jwt":                  `response_mode: "jwt" is not one of query, form_post`,
		"response_mode fragment":             `response_mode: "fragment" is not one of query, form_post`,
		"response_mode formpost":             `response_mode: "formpost" is not one of query, form_post; did you mean "form_post"?`,
		"userinfo off":                       "",
		"userinfo of":                        `userinfo: "of" is not one of auto, on, off; did you mean "off"?`,
		"ignore_bearer":                      "",
		"ignore_bearer off\nbearer_only":     "",
		"ignore_bearer\nbearer_only":         "ignore_bearer: contradicts bearer_only",
		"unauth_action auth":                 "",
		"unauth_action auth\nbearer_only":    "",
		"unauth_action auth /a\nbearer_only": "",
		"ignore_bearer\nbearer_token_from header X-Token": "ignore_bearer: contradicts bearer_token_from",
	} {
		checkSettings(t, settings, want)
	}
	if _, err := parse("issuer https://id.example.com\naudience api"); err == nil || !strings.Contains(err.Error(), "client_id: required to log in") {
		t.Errorf("without a client: %v", err)
	}
	if _, err := parse("issuer https://id.example.com\naudience api\nbearer_only"); err != nil {
		t.Errorf("without a client and without logins: %v", err)
	}
}

func TestIDTokenAlgorithmChecks(t *testing.T) {
	t.Parallel()
	const field = "id_token_signed_response_alg"
	withSecret := "client_secret " + secret32 + "\n"
	for settings, want := range map[string]string{
		field + " RS256 ES256 EdDSA":                                           "",
		field + " {env.ALGORITHM}":                                             "",
		field + " none":                                                        field + `: "none" is not a supported signature algorithm`,
		field + " RS265":                                                       field + `: "RS265" is not a supported signature algorithm;`,
		withSecret + field + " HS256":                                          "",
		withSecret + field + " HS256 RS256":                                    field + ": HS256 cannot be combined with RS256: a public",
		withSecret + field + " HS256 HS512":                                    "client_secret: too short for HS512",
		"client_secret {env.S}\n" + field + " HS512":                           "",
		"client_secret secret\n" + field + " HS256":                            "client_secret: too short for HS256, which needs at least",
		field + " HS256":                                                       "client_secret: required with HS256",
		field + " none\nbearer_only":                                           "", // without effect
		withSecret + field + " HS256\njwks_uri https://k/":                     "", // which is for bearer tokens
		withSecret + field + " HS256\ntoken_signing_alg_values_expected HS256": "",
		withSecret + "token_signing_alg_values_expected HS256":                 field + ": must be an HMAC algorithm too",
		withSecret + "token_signing_alg_values_expected HS256\nbearer_only":    "",
	} {
		checkSettings(t, settings, want)
	}
}

func TestParameterChecks(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"authorization_params login_hint a":                   "",
		`authorization_params claims {"userinfo":{"a":null}}`: "",
		"authorization_params prompt login":                   "",
		"authorization_params prompt login\nprompt consent":   "authorization_params: prompt is set by its own setting already",
		"authorization_params resource a:b\nresource c:d":     "authorization_params: resource is set by its own setting already",
		"authorization_params display wap\ndisplay page":      "authorization_params: display is set by its own setting already",
		"authorization_params ui_locales a\nui_locales b":     "authorization_params: ui_locales is set by its own setting already",
		"authorization_params a":                              "authorization_params needs the name of a parameter and its value",
		`authorization_params a ""`:                           "authorization_params has an empty value",
		`authorization_params "a b" c`:                        `authorization_params: "a b" is not the name of a parameter`,
		"token_params audience a":                             "",
		"token_params resource a:b\nresource c:d":             "token_params: resource is set by its own setting already",
		"token_params a":                                      "token_params needs the name of a parameter and its value",
	} {
		checkSettings(t, settings, want)
	}
	for field, names := range map[string]string{
		"authorization_params": "client_id redirect_uri response_type scope state nonce code_challenge code_challenge_method response_mode " +
			"request request_uri max_age acr_values",
		"token_params": "grant_type code redirect_uri client_id client_secret client_assertion client_assertion_type code_verifier " +
			"refresh_token",
	} {
		for name := range strings.FieldsSeq(names) {
			checkSettings(t, field+" "+name+"x a", "")
			checkSettings(t, field+" "+name+" a", field+": "+name+" ")
			checkSettings(t, field+" "+name+" a\nbearer_only", field+": "+name+" ") // a typo is one there too
		}
	}
}

func TestEndpointChecks(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"redirect_uri /callback":                                  "",
		"redirect_uri /a/b.c/caf%C3%A9~_-":                        "",
		"redirect_uri https://app.example.com/callback":           "",
		"redirect_uri http://127.0.0.1:8080/callback":             "",
		"redirect_uri {env.CALLBACK}":                             "",
		"redirect_uri https://{env.HOST}/callback":                "",
		"path_prefix /sso\nredirect_uri /oauth2/login":            "", // no endpoint of ours then
		"path_prefix /a/b":                                        "",
		"path_prefix {env.PREFIX}":                                "",
		"path_prefix {env.PREFIX}\nredirect_uri /callback":        "",
		"redirect_uri callback":                                   "redirect_uri: neither a path nor a usable URL",
		"redirect_uri app.example.com/callback":                   "redirect_uri: neither a path nor a usable URL",
		"redirect_uri ftp://app.example.com/callback":             "redirect_uri: neither a path nor a usable URL",
		"redirect_uri javascript:alert(1)":                        "redirect_uri: neither a path nor a usable URL",
		"redirect_uri https://user:pass@app.example.com/callback": "redirect_uri: neither a path nor a usable URL",
		"redirect_uri https://app.example.com/callback#a":         "redirect_uri: neither a path nor a usable URL",
		"redirect_uri https://app.example.com/callback#":          "redirect_uri: neither a path nor a usable URL",
		"redirect_uri https://app.example.com/callback?a=b":       "redirect_uri: ",
		"redirect_uri https://app.example.com/callback?":          "redirect_uri: ",
		"redirect_uri https://app.example.com":                    "redirect_uri: ",
		"redirect_uri https://app.example.com/":                   "redirect_uri: ",
		"redirect_uri https://app.example.com/a/../callback":      "redirect_uri: ",
		"redirect_uri https://app.example.com//callback":          "redirect_uri: ",
		"redirect_uri /":                                          "redirect_uri: ",
		"redirect_uri //app.example.com/callback":                 "redirect_uri: ",
		"redirect_uri /oauth2/login":                              "redirect_uri: /oauth2/login is another endpoint",
		"path_prefix /sso\nredirect_uri /sso/logout":              "redirect_uri: /sso/logout is another endpoint",
		"redirect_uri https://app.example.com/oauth2/logged-out":  "redirect_uri: /oauth2/logged-out is another endpoint",
		"redirect_uri /oauth2/session\nbearer_only":               "redirect_uri: /oauth2/session is another endpoint",
		"path_prefix /oauth2/\nbearer_only":                       "path_prefix: ",
		"path_prefix /":                                           "path_prefix: ",
		"path_prefix /oauth2/":                                    "path_prefix: ",
		"path_prefix oauth2":                                      "path_prefix: ",
		"path_prefix https://app.example.com/oauth2":              "path_prefix: ",
	} {
		checkSettings(t, settings, want)
	}
	for _, bad := range []string{
		"//a", "/a//b", "/a/../b", "/a/./b", "/a/..", "/a/%2e%2e/b", "/a/%252e%252e/b", `/a\b`, "/a%5cb", "/a%2fb", "/a%2Fb", "/a;b", "/a?b", "/a?",
		"/a#b", "/a#", "/a b", "/a%00b", "/a%0ab", "/a\x7fb", "/ä", "/a%", "/a%zz", "/a%25b", `/a"b`, "/a<b>", "/a|b", "/a^b", "/a`b", "/a%c0%aeb",
	} {
		quoted := "`" + bad + "`"
		if strings.Contains(bad, "`") {
			quoted = `"` + bad + `"`
		}
		checkSettings(t, "path_prefix "+quoted, "path_prefix: ")
		checkSettings(t, "redirect_uri "+quoted, "redirect_uri: ")
	}
}

func TestTokenAuthMethod(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"":                            provider.None,
		"client_secret " + secret32:   provider.ClientSecretBasic,
		"client_private_key a.pem":    provider.PrivateKeyJWT,
		"client_assertion_file token": provider.PrivateKeyJWT,
		"client_assertion_file token\nclient_secret secret":                                                     provider.PrivateKeyJWT,
		"client_secret a\nclient_private_key a.pem":                                                             provider.ClientSecretBasic,
		"client_secret a\ntoken_endpoint_auth_method none":                                                      provider.None,
		"tls_client_certificate a b":                                                                            provider.None,
		"token_endpoint_auth_method client_secret_post\n" + "client_secret a":                                   provider.ClientSecretPost,
		"token_endpoint_auth_method tls_client_auth\ntls_client_certificate a b":                                provider.TLSClientAuth,
		"introspection_endpoint_auth_method client_secret_post\nclient_secret a":                                provider.ClientSecretBasic,
		"introspection_endpoint_auth_method client_secret_post\nclient_secret a\nclient_assertion_file the-jwt": provider.PrivateKeyJWT,
	} {
		h, err := parseLogin(settings)
		if err != nil {
			t.Errorf("%q: %v", settings, err)
		} else if got := h.tokenAuthMethod(); got != want {
			t.Errorf("%q: got %s, want %s", settings, got, want)
		}
	}
}

func TestClientChecks(t *testing.T) {
	t.Parallel()
	const (
		basic, jwt = "token_endpoint_auth_method client_secret_basic", "token_endpoint_auth_method private_key_jwt"
		other      = "\nintrospection_endpoint_auth_method client_secret_post\nclient_secret a"
	)
	for settings, want := range map[string]string{
		basic + "\nclient_secret a":            "",
		basic:                                  "token_endpoint_auth_method: client_secret_basic needs a client_secret",
		jwt + "\nclient_private_key a":         "",
		jwt + "\nclient_assertion_file a":      "",
		jwt:                                    "token_endpoint_auth_method: private_key_jwt needs a client_private_key or a client_assertion_file",
		jwt + other:                            "token_endpoint_auth_method: private_key_jwt needs",
		jwt + other + "\nbearer_only":          "", // nobody asks the token endpoint
		jwt + other + "\nclient_private_key a": "",
		"token_endpoint_auth_method client_secret_jwt\nclient_secret a":                                               "client_secret: too short",
		"token_endpoint_auth_method client_secret_jwt\nclient_secret " + secret32:                                     "",
		"token_endpoint_auth_method self_signed_tls_client_auth":                                                      "token_endpoint_auth_method: self_signed_tls_client_auth needs a tls_client_certificate",
		"client_assertion_file a\nclient_private_key b":                                                               "client_assertion_file: cannot be combined with client_private_key",
		"client_assertion_file a\nclient_secret b\n" + basic:                                                          "client_assertion_file: is for private_key_jwt and contradicts token_endpoint_auth_method client_secret_basic",
		"client_assertion_file a\nclient_secret b\n" + basic + "\nintrospection_endpoint_auth_method private_key_jwt": "",
	} {
		checkSettings(t, settings, want)
	}
}

// TestAuthorizationParamPlaceholders: those of the request stay for the request; what is known when the configuration is loaded is put
// in, as text that cannot become a placeholder any more.
func TestAuthorizationParamPlaceholders(t *testing.T) {
	t.Setenv("OPENID_CONNECT_TEST", "{http.request.host}")
	request := caddy.NewReplacer()
	request.Set("http.request.host", "app.example.com")
	const claims = `{"userinfo":{"name":{"essential":true}}}`
	h := &Handler{
		AuthorizationParams: map[string]StringList{
			"hint":    {"a", "{http.request.host}"},
			"env":     {"{env.OPENID_CONNECT_TEST}/{http.request.host}"},
			"literal": {`\{env.OPENID_CONNECT_TEST\}`},
			"claims":  {claims},
		},
		TokenParams: map[string]StringList{"env": {"{env.OPENID_CONNECT_TEST}"}, "claims": {claims}},
	}
	if err := resolvePlaceholders(h); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"hint": "app.example.com", "env": "{http.request.host}/app.example.com", "literal": "{env.OPENID_CONNECT_TEST}",
	} {
		values := h.AuthorizationParams[name]
		if got := request.ReplaceAll(values[len(values)-1], ""); got != want {
			t.Errorf("%s: %q becomes %q, not %q", name, values, got, want)
		}
	}
	if h.AuthorizationParams["claims"][0] != claims || h.TokenParams["claims"][0] != claims {
		t.Errorf("inline JSON has become %q and %q", h.AuthorizationParams["claims"], h.TokenParams["claims"])
	}
	if got := h.TokenParams["env"][0]; got != "{http.request.host}" {
		t.Errorf("a parameter of the token request is %q", got)
	}
	for _, bad := range []string{"{env.OPENID_CONNECT_TEST_UNSET}", "a{file./nonexistent/openid_connect}"} {
		h := &Handler{AuthorizationParams: map[string]StringList{"a": {"b", bad}}}
		if err := resolvePlaceholders(h); err == nil || !strings.HasPrefix(err.Error(), "authorization_params: ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	h = &Handler{TokenParams: map[string]StringList{"a": {"{http.request.host}"}}}
	if err := resolvePlaceholders(h); err == nil || !strings.HasPrefix(err.Error(), "token_params: ") {
		t.Errorf("a placeholder of the request in a parameter of the token request: %v", err)
	}
}

func TestLoginWarnings(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"":                              "",
		"use_pkce off\nclient_secret a": "",
		"use_nonce off":                 "",
		"use_pkce off":                  "use_pkce off without client authentication",
		"use_pkce off\nuse_nonce off\nclient_secret a":               "use_pkce off and use_nonce off",
		"use_pkce off\nbearer_only":                                  "",
		"token_endpoint http://id.example.com/t":                     "http://id.example.com/t is plain http",
		"userinfo_endpoint http://localhost/t":                       "",
		"session {\ncookie_secure off\n}":                            "session.cookie_secure off",
		"session {\ncookie_secure off\n}\nbearer_only":               "",
		"session {\ncookie_http_only off\n}":                         "session.cookie_http_only off",
		"session {\nsecret 0123456789abcdef\n}":                      "session.secret: under 32 bytes",
		"session {\nsecret " + secret32 + "\n}":                      "",
		"session {\nsecret " + secret32 + " " + secret32[1:] + "\n}": "session.secret: under 32 bytes",
	} {
		h, err := parseLogin(settings)
		if err != nil {
			t.Errorf("%q: %v", settings, err)
			continue
		}
		switch got := h.warnings(); {
		case want == "" && len(got) > 0, want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], want)):
			t.Errorf("%q: got %q, want %q", settings, got, want)
		}
		if strings.Contains(strings.Join(h.warnings(), " "), "0123456789") {
			t.Errorf("%q: a secret in %q", settings, h.warnings())
		}
	}
}
