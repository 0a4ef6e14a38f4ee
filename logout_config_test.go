package openidconnect

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What a configuration may say of logouts.

func TestLogoutSettings(t *testing.T) {
	t.Parallel()
	h, err := parseLogin(`client_secret ` + secret32 + `
		logout_path /logout
		post_logout_redirect_uri https://www.example.com/bye?from=app
		revoke_tokens_on_logout
		revocation_endpoint https://id.example.com/revoke
		revocation_endpoint_auth_method client_secret_post
		end_session_endpoint https://id.example.com/logout?p=x
		backchannel_logout off
		frontchannel_logout on`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Handler{
		Issuer: "https://id.example.com", ClientID: "app", ClientSecret: secret32, LogoutPath: "/logout",
		PostLogoutRedirectURI: "https://www.example.com/bye?from=app", RevokeTokensOnLogout: true,
		RevocationEndpoint: "https://id.example.com/revoke", RevocationEndpointAuthMethod: "client_secret_post",
		EndSessionEndpoint: "https://id.example.com/logout?p=x", BackchannelLogout: new(false), FrontchannelLogout: true,
	}
	text := must(json.Marshal(h))
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %s\nwant %s", text, must(json.Marshal(want)))
	}
	back := new(Handler)
	if err := json.Unmarshal(text, back); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("from JSON: %s, %v", must(json.Marshal(back)), err)
	}
	for _, name := range []string{
		`"logout_path":"/logout"`, `"post_logout_redirect_uri":"https://`, `"revoke_tokens_on_logout":true`, `"backchannel_logout":false`,
		`"frontchannel_logout":true`, `"revocation_endpoint_auth_method":"client_secret_post"`,
	} {
		if !strings.Contains(string(text), name) {
			t.Errorf("%s is not in %s", name, text)
		}
	}
	standard, err := parseLogin("client_secret " + secret32)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(must(json.Marshal(standard))); strings.Contains(text, "logout") || !standard.handlesBackchannel() || standard.FrontchannelLogout {
		t.Errorf("by default: %s", text)
	}
}

func TestLogoutSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		"logout_path /logout":                                      "",
		"logout_path /a/b/c.php":                                   "",
		"logout_path /oauth2/logout":                               "",
		"logout_path {env.LOGOUT_PATH}":                            "", // is judged when it is known
		"logout_path logout":                                       `logout_path: "logout" is not a plain path such as /logout`,
		"logout_path /":                                            `logout_path: "/" is not a plain path`,
		"logout_path //logout":                                     `logout_path: "//logout" is not a plain path`,
		"logout_path /a/../logout":                                 `logout_path: "/a/../logout" is not a plain path`,
		"logout_path /logout?x":                                    `logout_path: "/logout?x" is not a plain path`,
		"logout_path /a%2flogout":                                  `logout_path: "/a%2flogout" is not a plain path`,
		"logout_path /logout;x":                                    `logout_path: "/logout;x" is not a plain path`,
		`logout_path /\logout`:                                     `logout_path: "/\\logout" is not a plain path`,
		"logout_path https://app.example/bye":                      `logout_path: "https://app.example/bye" is not a plain path`,
		"logout_path /oauth2/login":                                "logout_path: /oauth2/login is another endpoint of this handler",
		"logout_path /oauth2/callback":                             "logout_path: /oauth2/callback is another endpoint of this handler",
		"logout_path /oauth2/logged-out":                           "logout_path: /oauth2/logged-out is another endpoint of this handler",
		"logout_path /oauth2/session":                              "logout_path: /oauth2/session is another endpoint of this handler",
		"logout_path /oauth2/jwks.json":                            "logout_path: /oauth2/jwks.json is another endpoint of this handler",
		"logout_path /oauth2/backchannel-logout":                   "logout_path: /oauth2/backchannel-logout is another endpoint of this handler",
		"logout_path /oauth2/frontchannel-logout":                  "logout_path: /oauth2/frontchannel-logout is another endpoint of this handler",
		"redirect_uri https://app.example/done\nlogout_path /done": "logout_path: /done is another endpoint of this handler",
		"path_prefix /sso\nlogout_path /sso/login":                 "logout_path: /sso/login is another endpoint of this handler",
		"path_prefix /sso\nlogout_path /oauth2/login":              "",
		"path_prefix /app/sso\nlogout_path /bye\nsession {\ncookie_path /app\n}":     "session.cookie_path: the cookie would not reach /bye: set a logout_path below /app",
		"path_prefix /app/sso\nlogout_path /app/bye\nsession {\ncookie_path /app\n}": "",
		"path_prefix /app/sso\nsession {\ncookie_path /app\n}":                       "",
		"path_prefix /app/sso\nlogout_path /apple\nsession {\ncookie_path /app\n}":   "session.cookie_path: the cookie would not reach /apple",

		"post_logout_redirect_uri /":                                "",
		"post_logout_redirect_uri /goodbye":                         "",
		"post_logout_redirect_uri /goodbye?x=%2F&y":                 "",
		"post_logout_redirect_uri /oauth2/logged-out":               "",
		"post_logout_redirect_uri {env.LANDING}":                    "",
		"post_logout_redirect_uri https://www.example.com/bye?x":    "",
		"post_logout_redirect_uri http://127.0.0.1:8080/bye":        "",
		"post_logout_redirect_uri goodbye":                          "post_logout_redirect_uri: neither a path nor a usable URL",
		"post_logout_redirect_uri ftp://www.example.com/":           "post_logout_redirect_uri: neither a path nor a usable URL",
		"post_logout_redirect_uri javascript:alert(1)":              "post_logout_redirect_uri: neither a path nor a usable URL",
		"post_logout_redirect_uri https:///bye":                     "post_logout_redirect_uri: neither a path nor a usable URL",
		"post_logout_redirect_uri https://user@www.example.com/":    "post_logout_redirect_uri: neither a path nor a usable URL",
		"post_logout_redirect_uri https://www.example.com/#x":       "post_logout_redirect_uri: neither a path nor a usable URL",
		"post_logout_redirect_uri //evil.example/":                  `post_logout_redirect_uri: "//evil.example/" is not a plain path such as /goodbye`,
		`post_logout_redirect_uri /\evil.example/`:                  `post_logout_redirect_uri: "/\\evil.example/" is not a plain path`,
		"post_logout_redirect_uri /a/..//evil.example":              `post_logout_redirect_uri: "/a/..//evil.example" is not a plain path`,
		"post_logout_redirect_uri /goodbye#x":                       `post_logout_redirect_uri: "/goodbye#x" is not a plain path`,
		"post_logout_redirect_uri \"/good bye\"":                    `post_logout_redirect_uri: "/good bye" is not a plain path`,
		"post_logout_redirect_uri /oauth2/logout":                   "post_logout_redirect_uri: /oauth2/logout is an endpoint of this handler that a logout cannot end at",
		"post_logout_redirect_uri /oauth2/logout?x":                 "post_logout_redirect_uri: /oauth2/logout is an endpoint",
		"post_logout_redirect_uri /oauth2/login":                    "post_logout_redirect_uri: /oauth2/login is an endpoint",
		"post_logout_redirect_uri /oauth2/callback":                 "post_logout_redirect_uri: /oauth2/callback is an endpoint",
		"post_logout_redirect_uri /oauth2/backchannel-logout":       "post_logout_redirect_uri: /oauth2/backchannel-logout is an endpoint",
		"post_logout_redirect_uri /oauth2/frontchannel-logout":      "post_logout_redirect_uri: /oauth2/frontchannel-logout is an endpoint",
		"logout_path /bye\npost_logout_redirect_uri /bye":           "post_logout_redirect_uri: /bye is an endpoint",
		"logout_path /bye\npost_logout_redirect_uri /bye/bye":       "",
		"logout_path /bye\npost_logout_redirect_uri /oauth2/logout": "", // which is a page like any other then

		"revocation_endpoint_auth_method client_secret_past":      `revocation_endpoint_auth_method`,
		"revocation_endpoint_auth_method private_key_jwt":         "revocation_endpoint_auth_method",
		"revocation_endpoint_auth_method client_secret_basic":     "",
		"revoke_tokens_on_logout maybe":                           "revoke_tokens_on_logout",
		"revoke_tokens_on_logout on\nrevoke_tokens_on_logout off": "revoke_tokens_on_logout is set twice",
	} {
		t.Run(settings, func(t *testing.T) {
			t.Parallel()
			checkSettings(t, "client_secret "+secret32+"\n"+settings, want)
		})
	}
}

// What is not grammar is an error that says where it stands.
func TestLogoutSettingsAreGrammar(t *testing.T) {
	t.Parallel()
	for _, settings := range []string{
		"logout_path", "logout_path /a /b", "logout_path /a\nlogout_path /b", "log_out_path /a", "post_logout_redirect_uri", "post_logout_redirect_uri /a /b",
		"revoke_tokens_on_logout yes", "backchannel_logout maybe", "frontchannel_logout on off", "revoke_token_on_logout",
	} {
		if _, err := parseLogin(settings); err == nil || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s: got %v", settings, err)
		}
	}
}

// Where a placeholder has led to is judged as well, when it is known.
func TestLogoutSettingsBehindPlaceholders(t *testing.T) {
	p := optest.New(t)
	for value, want := range map[string]string{"/bye": "", "bye": "logout_path", "/oauth2/login": "logout_path"} {
		t.Setenv("OPENID_CONNECT_LOGOUT", value)
		h, err := parse(loginSettingsAt(p, "logout_path {env.OPENID_CONNECT_LOGOUT}"))
		if err != nil {
			t.Fatal(err)
		}
		err = h.Provision(newContext(t))
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %q", value, err, want)
		case want == "":
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
		}
	}
}

// The adapter sees what cannot live together on one host.
func TestAdapterRefusesLogoutsThatClash(t *testing.T) {
	t.Parallel()
	directive := func(matcher, issuer, settings string) string {
		return "openid_connect " + matcher + " https://" + issuer + " {\nclient_id app\nclient_secret secret\n" + settings + "\n}\n"
	}
	const a, b = "a.example.com", "b.example.com"
	for name, test := range map[string]struct{ site, want string }{
		"two providers":                       {directive("/a/*", a, "path_prefix /a/oauth2") + directive("/b/*", b, ""), ""},
		"two providers, and two logout paths": {directive("/a/*", a, "path_prefix /a/oauth2\nlogout_path /bye") + directive("/b/*", b, "logout_path /b/bye"), ""},
		"two providers, one logout path": {
			directive("/a/*", a, "path_prefix /a/oauth2\nlogout_path /bye") + directive("/b/*", b, "logout_path /bye"), "has its endpoints at the same place",
		},
		"the logout of one is by default that of the other": {
			directive("/a/*", a, "path_prefix /a/oauth2\nlogout_path /oauth2/logout") + directive("/b/*", b, ""), "has its endpoints at the same place",
		},
		"a placeholder beside a matcher": {directive("/a/*", a, "logout_path {env.X}"), "logout_path: a directive with a matcher needs it without placeholders"},
		"a placeholder without one":      {directive("", a, "logout_path {env.X}"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := adaptCaddyfile("https://app.example.com {\n" + test.site + "}")
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
