package openidconnect

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// session is a block with settings.
func sessionBlock(settings string) string { return "session {\n" + settings + "\n}\n" }

func TestSessionSettings(t *testing.T) {
	t.Parallel()
	h, err := parseLogin(sessionBlock(`
		secret `+secret32+` 0123456789abcdef
		secret {env.OLDER}
		storage caddy
		cookie_name sid
		cookie_domain example.com
		cookie_path /
		cookie_same_site none
		cookie_secure on
		cookie_http_only off
		cookie_partitioned
		cookie_persistent off
		idling_timeout 30m
		reissue_interval 1m
		absolute_timeout 8h
		max_cookie_bytes 8000`) + "session_contents user access_token\nsession_contents enc_id_token")
	if err != nil {
		t.Fatal(err)
	}
	want := &SessionConfig{
		Secret: StringList{secret32, "0123456789abcdef", "{env.OLDER}"}, Storage: storageCaddy,
		CookieName: "sid", CookieDomain: "example.com", CookiePath: "/", CookieSameSite: sameSiteNone, CookieSecure: cookieSecureOn,
		CookieHTTPOnly: new(false), CookiePartitioned: true, CookiePersistent: new(false),
		IdlingTimeout: new(Duration(30 * time.Minute)), ReissueInterval: new(Duration(time.Minute)),
		AbsoluteTimeout: new(Duration(8 * time.Hour)), MaxCookieBytes: new(8000),
	}
	if !reflect.DeepEqual(h.Session, want) {
		t.Errorf("got  %s\nwant %s", must(json.Marshal(h.Session)), must(json.Marshal(want)))
	}
	if contents := (SessionContents{AccessToken: true, EncIDToken: true, User: true}); *h.SessionContents != contents {
		t.Errorf("got %+v, want %+v", *h.SessionContents, contents)
	}
}

// TestSessionMembers: in JSON the same by the names of APISIX, and every member at its place.
func TestSessionMembers(t *testing.T) {
	t.Parallel()
	h := new(Handler)
	object := `{"session":{"secret":["a","b"],"storage":"cookie","cookie_name":"n","cookie_domain":"d","cookie_path":"/p","cookie_same_site":"lax",` +
		`"cookie_secure":"auto","cookie_http_only":true,"cookie_partitioned":true,"cookie_persistent":false,"idling_timeout":"30m0s",` +
		`"reissue_interval":"1m0s","absolute_timeout":"1h0m0s","max_cookie_bytes":4000},` +
		`"session_contents":{"access_token":true,"id_token":true,"enc_id_token":true,"user":true}}`
	if err := json.Unmarshal([]byte(object), h); err != nil {
		t.Fatal(err)
	}
	if written := must(json.Marshal(h)); string(written) != object {
		t.Errorf("got  %s\nwant %s", written, object)
	}
	for text, want := range map[string]SessionConfig{
		`{"secret":"a"}`:                  {Secret: StringList{"a"}},
		`{"storage":{"module":"caddy"}}`:  {Storage: storageCaddy},
		`{"storage":{"module":"cookie"}}`: {Storage: storageCookie},
		`{"idling_timeout":90}`:           {IdlingTimeout: new(Duration(90 * time.Second))},
		`{"cookie_http_only":false}`:      {CookieHTTPOnly: new(false)},
		`{}`:                              {},
	} {
		h := new(Handler)
		if err := json.Unmarshal([]byte(`{"session":`+text+`}`), h); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(*h.Session, want) {
			t.Errorf("%s: got %+v", text, *h.Session)
		}
	}
}

func TestSessionMemberErrors(t *testing.T) {
	t.Parallel()
	for members, want := range map[string]string{
		`"session":{"secrets":"a"}`:                           `session: unknown field "secrets"; did you mean "secret"?`,
		`"session":{"cookie_samesite":"lax"}`:                 `session: unknown field "cookie_samesite"; did you mean "cookie_same_site"?`,
		`"session":{"cookie":{"lifetime":3600}}`:              `session: unknown field "cookie"`,
		`"session":null`:                                      "session: is null; leave it out or give it a value",
		`"session":{"secret":""}`:                             "session.secret: is empty",
		`"session":{"secret":[""]}`:                           "session.secret: is empty",
		`"session":{"secret":5}`:                              "session.secret: expected a string or a list of strings",
		`"session":{"cookie_http_only":null}`:                 "session.cookie_http_only: is null",
		`"session":{"cookie_http_only":"on"}`:                 "session.cookie_http_only: expected true or false, got a JSON string",
		`"session":{"cookie_secure":1}`:                       "session.cookie_secure: expected a string, got a JSON number",
		`"session":{"idling_timeout":"soon"}`:                 `session.idling_timeout: "soon" is not a duration`,
		`"session":{"max_cookie_bytes":"4k"}`:                 "session.max_cookie_bytes: expected a number, got a JSON string",
		`"session":"cookie"`:                                  "session: expected an object",
		`"session":[]`:                                        "session: expected an object",
		`"session":{"storage":5}`:                             "session.storage: expected the name of a storage",
		`"session":{"storage":{}}`:                            `session.storage: an object needs "module"`,
		`"session":{"storage":{"module":null}}`:               "session.storage: expected the name of a storage",
		`"session":{"storage":{"module":"caddy","modul":""}}`: `session.storage: unknown field "modul"; did you mean "module"?`,
		`"session_contents":{"idtoken":true}`:                 `session_contents: unknown field "idtoken"; did you mean "id_token"?`,
		`"session_contents":{"user":"yes"}`:                   "session_contents.user: expected true or false, got a JSON string",
		`"session_contents":["user"]`:                         "session_contents: expected an object",
		`"session_contents":null`:                             "session_contents: is null",
		`"authorization_params":{"a":null}`:                   "authorization_params.a: is null",
		`"authorization_params":{"a":["b",""]}`:               "authorization_params.a: is empty",
		`"authorization_params":{"a":{"b":"c"}}`:              "authorization_params: expected a string or a list of strings",
		`"token_params":"a=b"`:                                "token_params: expected an object, got a JSON string",
		`"max_age":"long"`:                                    `max_age: "long" is not a duration`,
	} {
		err := json.Unmarshal([]byte("{"+members+"}"), new(Handler))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", members, err, want)
		}
	}
	// what is right as JSON and wrong as a setting
	for members, want := range map[string]string{
		`"session":{"storage":{"module":"reddis"}}`:     `session.storage: "reddis" is not one of cookie, caddy`,
		`"session":{"secret":[]}`:                       "session.secret: the list is empty",
		`"authorization_params":{"a":[]}`:               "authorization_params: a has no value",
		`"authorization_params":{"":"b"}`:               `authorization_params: "" is not the name of a parameter`,
		`"resource":[]`:                                 "resource: the list is empty",
		`"trusted_audiences":[" "]`:                     "trusted_audiences: has an empty value",
		`"prompt":" "`:                                  "prompt: is blank",
		`"scope":" "`:                                   "scope: must contain openid",
		`"max_age":-1`:                                  "max_age: ",
		`"max_age":"-1s"`:                               "max_age: -1s is not between",
		`"session":{"absolute_timeout":"-1h"}`:          "session.absolute_timeout: -1h0m0s is not between",
		`"session":{"idling_timeout":"-1h"}`:            "session.idling_timeout: -1h0m0s is neither",
		`"session":{"cookie_secure":"yes"}`:             `session.cookie_secure: "yes" is not one of auto, on, off`,
		`"response_mode":"form_post.jwt"`:               `response_mode: "form_post.jwt" is not one of query, form_post`,
		`"unauth_rules":[{"action":"auth","match":{}}]`: "unauth_rules: rule 1 has an empty set of matchers",
		`"unauth_rules":[{"action":"auth","match":[]}]`: "unauth_rules: rule 1 has no matcher",
	} {
		h := new(Handler)
		err := json.Unmarshal([]byte(`{"issuer":"https://id.example.com","client_id":"app",`+members+"}"), h)
		if err == nil {
			err = h.check()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", members, err, want)
		}
	}
}

func TestSessionChecks(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 60)
	for settings, want := range map[string]string{
		"secret 0123456789abcdef":                             "",
		"secret 0123456789abcde":                              "session.secret: too short: at least 16 bytes",
		"secret " + secret32 + " short":                       "session.secret: too short",
		"secret {env.SECRET}":                                 "",
		"storage cookie":                                      "",
		"storage redis":                                       `storage: "redis" is not in this build of Caddy`,
		"storage cokie":                                       `storage: "cokie" is not one of cookie, caddy, json_test, memory_test; did you mean "cookie"?`,
		"cookie_same_site strict":                             "",
		"cookie_same_site Lax":                                `cookie_same_site: "Lax" is not one of lax, strict, none; did you mean`,
		"cookie_secure maybe":                                 `cookie_secure: "maybe" is not one of auto, on, off`,
		"cookie_http_only perhaps":                            `cookie_http_only is on or off, not "perhaps"`,
		"cookie_name sid":                                     "",
		"cookie_name {env.NAME}":                              "",
		"cookie_name my.sid-1":                                "",
		"cookie_name sid.x1":                                  "",
		"cookie_name sid.1":                                   `session.cookie_name: "sid.1" ends like the names of the parts`,
		"cookie_name sid.12":                                  `session.cookie_name: "sid.12" ends like the names of the parts`,
		"cookie_name " + long:                                 "",
		"cookie_name " + long + "n":                           "session.cookie_name: has more than 60 characters",
		`cookie_name "my sid"`:                                `session.cookie_name: "my sid" cannot be the name of a cookie`,
		"cookie_name a=b":                                     `session.cookie_name: "a=b" cannot be the name of a cookie`,
		"cookie_name a;b":                                     `session.cookie_name: "a;b" cannot be the name of a cookie`,
		"cookie_name sí":                                      `session.cookie_name: "sí" cannot be the name of a cookie`,
		"cookie_name __Host-":                                 `session.cookie_name: "__Host-" is nothing but a prefix`,
		"cookie_name __Host-sid":                              "",
		"cookie_name __Host-sid\ncookie_path /":               "",
		"cookie_name __Host-sid\ncookie_path /oauth2":         "session.cookie_name: browsers refuse the prefix __Host- together with a",
		"cookie_name __Host-sid\ncookie_domain example.com":   "session.cookie_name: browsers refuse the prefix __Host- together with",
		"cookie_name __HOST-sid\ncookie_domain example.com":   "session.cookie_name: browsers refuse the prefix __Host- together with",
		"cookie_name __Host-sid\ncookie_secure off":           "session.cookie_name: browsers refuse the prefix of __Host-sid together",
		"cookie_name __Secure-sid\ncookie_domain example.com": "",
		"cookie_name __secure-sid\ncookie_secure off":         "session.cookie_name: browsers refuse the prefix of __secure-sid together",
		"cookie_same_site none":                               "",
		"cookie_same_site none\ncookie_secure on":             "",
		"cookie_same_site none\ncookie_secure off":            "session.cookie_same_site: none: browsers take such cookies only with",
		"cookie_partitioned":                                  "",
		"cookie_partitioned\ncookie_secure off":               "session.cookie_partitioned: browsers take such cookies only with Secure,",
		"cookie_partitioned off":                              "",
		"cookie_partitioned off\ncookie_secure off":           "",
		"max_cookie_bytes 200":                                "",
		"max_cookie_bytes 15000":                              "",
		"max_cookie_bytes 199":                                "session.max_cookie_bytes: 199 is not between 200 and 15000",
		"max_cookie_bytes 15001":                              "session.max_cookie_bytes: 15001 is not between 200 and 15000",
		"max_cookie_bytes 4k":                                 `max_cookie_bytes: "4k" is not a number of bytes`,
		"max_cookie_bytes":                                    "max_cookie_bytes needs a number of bytes",
		"absolute_timeout 1m":                                 "",
		"absolute_timeout 400d":                               "",
		"absolute_timeout 59s":                                "session.absolute_timeout: 59s is not between 1m and 400d",
		"absolute_timeout 401d":                               "session.absolute_timeout: 9624h0m0s is not between 1m and 400d",
		"absolute_timeout 0":                                  "session.absolute_timeout: 0s is not between 1m and 400d",
		"idling_timeout 0":                                    "",
		"idling_timeout 1m":                                   "",
		"idling_timeout 24h":                                  "",
		"idling_timeout 900ms":                                "session.idling_timeout: 900ms is neither 0 nor between 1s and the",
		"idling_timeout 25h":                                  "session.idling_timeout: 25h0m0s is neither 0 nor",
		"idling_timeout 25h\nabsolute_timeout 7d":             "",
		"idling_timeout 2h\nabsolute_timeout 1h":              "session.idling_timeout: 2h0m0s is neither 0 nor between 1s and the",
		"reissue_interval 1s":                                 "",
		"reissue_interval 0":                                  "session.reissue_interval: 0s is not between 1s",
		"reissue_interval 999ms":                              "session.reissue_interval: 999ms is not between 1s",
		"reissue_interval 2m\nabsolute_timeout 1m":            "session.reissue_interval: 2m0s is not between 1s and the absolute_timeout",
		"cookie_names a":                                      `session: unrecognized subdirective "cookie_names"; did you mean`,
		"cookie_name a\ncookie_name b":                        "session: cookie_name is set twice",
		"cookie_name a b":                                     `cookie_name: unexpected argument "b"`,
		"cookie_name":                                         "cookie_name needs a value",
		"secret":                                              "secret needs at least one value",
	} {
		checkSettings(t, sessionBlock(settings), want)
	}
	for settings, want := range map[string]string{
		"session":        "session is empty",
		"session {\n}":   "session is empty",
		"session cookie": `session: unexpected argument "cookie"`,
		sessionBlock("cookie_name a") + sessionBlock("cookie_path /"):            "session is set twice",
		sessionBlock("cookie_same_site none\ncookie_secure off") + "bearer_only": "", // without effect
	} {
		checkSettings(t, settings, want)
	}
}

func TestCookieDomainChecks(t *testing.T) {
	t.Parallel()
	for domain, redirectURI := range map[string]string{
		"example.com":           "https://example.com/callback",
		"app.example.com":       "https://APP.example.com:8443/callback",
		"example.co.uk":         "https://a.b.example.co.uk/callback",
		"xn--bcher-kva.example": "https://sso.xn--bcher-kva.example/callback",
		"a-b.c1.example":        "/callback",
		"{env.DOMAIN}":          "https://example.com/callback",
	} {
		checkSettings(t, sessionBlock("cookie_domain "+domain)+"redirect_uri "+redirectURI, "")
	}
	for _, domain := range []string{
		"localhost", "com", "127.0.0.1", "10.1", "::1", "[::1]", "2001:db8::1.2.3.4", "example.com.", "example..com", "-a.example", "a-.example", "*.example.com",
		"Example.com", "bücher.example", "example.com:443", "https://example.com", "example.com/", "a_b.example", "a;b.example", "a,b.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example",
	} {
		checkSettings(t, sessionBlock("cookie_domain "+domain), "session.cookie_domain: ")
	}
	checkSettings(t, sessionBlock("cookie_domain .example.com"), "session.cookie_domain: leave out the dot in front: example.com and all hosts")
	for _, host := range []string{"example.org", "badexample.com", "example.com.evil.test", "com", "xexample.com", "127.0.0.1", "[::1]:8080", "example.com."} {
		checkSettings(t, sessionBlock("cookie_domain example.com")+"redirect_uri https://"+host+"/callback", "redirect_uri: ")
		checkSettings(t, sessionBlock("cookie_domain example.com")+"bearer_only\nredirect_uri https://"+host+"/callback", "")
	}
}

// TestCookiePathChecks: the session must reach our own endpoints.
func TestCookiePathChecks(t *testing.T) {
	t.Parallel()
	const unreached = "session.cookie_path: the cookie would not reach "
	for settings, want := range map[string]string{
		sessionBlock("cookie_path /"):                                                        "",
		sessionBlock("cookie_path /oauth2"):                                                  "",
		sessionBlock("cookie_path /app") + "path_prefix /app/oauth2":                         "",
		sessionBlock("cookie_path /app/") + "path_prefix /app/oauth2":                        "",
		sessionBlock("cookie_path /app") + "path_prefix /app":                                "",
		sessionBlock("cookie_path /app") + "path_prefix /app/o\nredirect_uri /app/callback":  "",
		sessionBlock("cookie_path /app") + "path_prefix /app/o\nredirect_uri /app":           "",
		sessionBlock("cookie_path /app") + "path_prefix {env.PREFIX}":                        "",
		sessionBlock("cookie_path {env.PATH}"):                                               "",
		sessionBlock("cookie_path /app"):                                                     unreached + "/oauth2/: set a path_prefix",
		sessionBlock("cookie_path /app") + "path_prefix /application":                        unreached + "/application/",
		sessionBlock("cookie_path /app") + "path_prefix /app/o\nredirect_uri /callback":      unreached + "/callback: set a redirect_uri",
		sessionBlock("cookie_path /app") + "path_prefix /app/o\nredirect_uri https://a.b/cb": unreached + "/cb: set a redirect_uri below",
		sessionBlock("cookie_path /app") + "bearer_only":                                     "",
		sessionBlock("cookie_path app"):                                                      `session.cookie_path: "app" is not a plain`,
		sessionBlock("cookie_path /a/../b"):                                                  "session.cookie_path: ",
		sessionBlock("cookie_path /a;b"):                                                     "session.cookie_path: ",
	} {
		checkSettings(t, settings, want)
	}
}

// TestCookieTransportChecks: what browsers drop is refused here, or else logins would go in circles.
func TestCookieTransportChecks(t *testing.T) {
	t.Parallel()
	const http, https = "redirect_uri http://app.example.com/callback\n", "redirect_uri https://app.example.com/callback\n"
	for settings, want := range map[string]string{
		"response_mode form_post":                                             "",
		"response_mode form_post\n" + https:                                   "",
		"response_mode form_post\n" + sessionBlock("cookie_secure on"):        "",
		"response_mode form_post\n" + http:                                    "response_mode: form_post takes cookies that other sites send: browsers take such",
		"response_mode form_post\n" + sessionBlock("cookie_secure off"):       "response_mode: form_post takes cookies",
		"response_mode form_post\nbearer_only\n" + http:                       "",
		"response_mode query\n" + http + sessionBlock("cookie_secure off"):    "",
		https + sessionBlock("cookie_same_site none"):                         "",
		http + sessionBlock("cookie_name __Host-sid"):                         "session.cookie_name: browsers refuse the prefix of __Host-sid together with a",
		https + sessionBlock("cookie_name __Host-sid"):                        "",
		http + sessionBlock("cookie_name __Host-sid\ncookie_secure on"):       "",
		"response_mode form_post\n" + http + sessionBlock("cookie_secure on"): "response_mode: form_post takes cookies that other sites",
		http + sessionBlock("cookie_same_site none"):                          "session.cookie_same_site: none: browsers take such cookies",
		http + sessionBlock("cookie_same_site none\ncookie_secure on"):        "", // where TLS ends in front of us
		http + sessionBlock("cookie_partitioned"):                             "session.cookie_partitioned: ",
		http + sessionBlock("cookie_same_site lax"):                           "",
		"redirect_uri HTTP://app.example.com/a\nresponse_mode form_post":      "response_mode: ",
	} {
		checkSettings(t, settings, want)
	}
}

// TestSessionContentsChecks: what is wanted of a session must be in it.
func TestSessionContentsChecks(t *testing.T) {
	t.Parallel()
	for _, need := range []struct{ setting, field, with, without string }{
		{"set_access_token_header", "set_access_token_header", "access_token", "id_token enc_id_token user"},
		{"set_id_token_header", "set_id_token_header", "id_token", "access_token enc_id_token user"},
		{"set_raw_id_token_header", "set_raw_id_token_header", "enc_id_token", "access_token id_token user"},
		{"set_userinfo_header", "set_userinfo_header", "user", "access_token enc_id_token"},
		{"set_userinfo_header", "set_userinfo_header", "id_token", "access_token enc_id_token"},
		{"required_claim groups", "required_claims", "user", "access_token"},
		{"denied_claim groups a", "denied_claims", "id_token", "access_token"},
		{"claim_header X-User email", "claim_headers", "user", "access_token"},
		{"claim_placeholder mail email", "claim_placeholders", "user", "access_token"},
	} {
		checkSettings(t, need.setting, "")
		checkSettings(t, need.setting+"\nsession_contents "+need.with, "")
		checkSettings(t, need.setting+"\nsession_contents "+need.without, "session_contents: contradicts "+need.field)
		checkSettings(t, need.setting+"\nbearer_only\nsession_contents "+need.without, "")
		if strings.HasPrefix(need.setting, "set_") {
			checkSettings(t, need.setting+" off\nsession_contents "+need.without, "")
		}
	}
	checkSettings(t, "session_contents", "session_contents needs at least one value")
	checkSettings(t, "session_contents users", `session_contents: "users" is not one of access_token, id_token, enc_id_token, user; did you mean "user"?`)
}

// JSON has the forms of APISIX and of Caddy's routes too.
func TestSessionForms(t *testing.T) {
	t.Parallel()
	const head = `{"issuer":"https://id.example.com","client_id":"app",`
	for members, want := range map[string]string{
		`"session":{"cookie_same_site":"Lax","cookie_secure":true}`:                       `"session":{"cookie_same_site":"lax","cookie_secure":"on"}`,
		`"session":{"cookie_secure":false}`:                                               `"session":{"cookie_secure":"off"}`,
		`"unauth_rules":[{"match":[{"path":["/a"]}],"action":"pass"}]`:                    `"unauth_rules":[{"match":{"path":["/a"]},"action":"pass"}]`,
		`"unauth_rules":[{"match":[{"path":["/a"]},{"method":["GET"]}],"action":"pass"}]`: `"unauth_rules":[{"match":[{"path":["/a"]},{"method":["GET"]}],"action":"pass"}]`,
	} {
		h := new(Handler)
		if err := json.Unmarshal([]byte(head+members+"}"), h); err != nil {
			t.Errorf("%s: %v", members, err)
			continue
		}
		if got := must(json.Marshal(h)); !sameJSON(t, got, []byte(head+want+"}")) {
			t.Errorf("%s: got %s", members, got)
		}
		if err := h.Provision(newContext(t)); err != nil {
			t.Errorf("%s: %v", members, err)
		}
		if err := h.Cleanup(); err != nil {
			t.Error(err)
		}
	}
}
