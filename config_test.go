package openidconnect

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// loadHandler loads a handler object of a route in Caddy's JSON just as Caddy does, up to and including Provision.
func loadHandler(t *testing.T, object string) (*Handler, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(newContext(t))
	t.Cleanup(cancel)
	host := struct {
		HandlerRaw json.RawMessage `caddy:"namespace=http.handlers inline_key=handler"`
	}{json.RawMessage(object)}
	loaded, err := ctx.LoadModule(&host, "HandlerRaw")
	if err != nil {
		return nil, err
	}
	return loaded.(*Handler), nil
}

// handlerObject is a handler that lacks nothing, with further members.
func handlerObject(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"handler":"openid_connect","issuer":"https://id.example.com","bearer_only":true,"client_id":"my-api"` + members + `}`
}

func TestJSONErrors(t *testing.T) {
	t.Parallel()
	const (
		decoding     = "loading module 'openid_connect': decoding module config: http.handlers.openid_connect: "
		provisioning = "loading module 'openid_connect': provision http.handlers.openid_connect: "
	)
	for name, test := range map[string]struct {
		members string
		field   string
		want    string
	}{
		"unknown field": {
			`"isuer":"https://id.example.com"`, "isuer",
			decoding + `unknown field "isuer"; did you mean "issuer"?`,
		},
		"unknown field, plural": {
			`"required_claim":[]`, "required_claim",
			decoding + `unknown field "required_claim"; did you mean "required_claims"?`,
		},
		"unknown field, other case": {
			`"Audience":"api"`, "Audience",
			decoding + `unknown field "Audience"; did you mean "audience"?`,
		},
		"unknown field, far from everything": {
			`"frobnicate":1`, "frobnicate",
			decoding + `unknown field "frobnicate"`,
		},
		"unknown field of a rule": {
			`"required_claims":[{"claim":"groups","value":["a"]}]`, "required_claims",
			decoding + `required_claims: unknown field "value"; did you mean "values"?`,
		},
		"unknown field of a claim header": {
			`"claim_headers":{"X-User":{"claims":"sub"}}`, "claim_headers",
			decoding + `claim_headers.X-User: unknown field "claims"; did you mean "claim"?`,
		},
		"unknown field of a token source": {
			`"bearer_token_from":[{"in":"header","names":"X-Token"}]`, "bearer_token_from",
			decoding + `bearer_token_from: unknown field "names"; did you mean "name"?`,
		},
		"unknown field of a resource": {
			`"protected_resource":{"scopes":["a"]}`, "protected_resource",
			decoding + `protected_resource: unknown field "scopes"`,
		},
		"number for a string": {
			`"realm":1`, "realm",
			decoding + "realm: expected a string, got a JSON number",
		},
		"list for a string": {
			`"scope":["openid","profile"]`, "scope",
			decoding + "scope: expected a string, got a JSON array",
		},
		"string for a flag": {
			`"allow_preflight":"on"`, "allow_preflight",
			decoding + "allow_preflight: expected true or false, got a JSON string",
		},
		"string for a number": {
			`"token_cache":"many"`, "token_cache",
			decoding + "token_cache: expected a number, got a JSON string",
		},
		"number for a list": {
			`"audience":5`, "audience",
			decoding + "audience: expected a string or a list of strings",
		},
		"list of numbers": {
			`"required_scopes":["a",1]`, "required_scopes",
			decoding + "required_scopes: expected a string or a list of strings",
		},
		"rules as an object": {
			`"required_claims":{"claim":"groups"}`, "required_claims",
			decoding + "required_claims: expected a list, got a JSON object",
		},
		"number in a rule": {
			`"denied_claims":[{"claim":"level","values":[1]}]`, "denied_claims",
			decoding + "denied_claims: expected a string or a list of strings",
		},
		"list of claim headers": {
			`"claim_headers":["X-User"]`, "claim_headers",
			decoding + "claim_headers: expected an object, got a JSON array",
		},
		"number in a claim header": {
			`"claim_headers":{"X-User":1}`, "claim_headers",
			decoding + "claim_headers: expected an object, got a JSON number",
		},
		"duration without a unit": {
			`"timeout":"5"`, "timeout",
			decoding + `timeout: "5" is not a duration such as 90s or 1d`,
		},
		"duration of another type": {
			`"clock_skew":true`, "clock_skew",
			decoding + `clock_skew: a duration is a string such as "90s" or a number of seconds`,
		},
		"negative seconds": {
			`"introspection_interval":-1`, "introspection_interval",
			decoding + "introspection_interval: a number of seconds is out of range",
		},
		"more seconds than there are": {
			`"introspection_interval":1e300`, "introspection_interval",
			decoding + "introspection_interval: a number of seconds is out of range",
		},
		"negative duration": {
			`"clock_skew":"-1s"`, "clock_skew",
			provisioning + "clock_skew: -1s is not between 0s and 10m0s",
		},
		"seconds out of bounds": {
			`"timeout":61`, "timeout",
			provisioning + "timeout: 1m1s is not between 1ms and 1m0s",
		},
		"empty audience": {
			`"audience":[]`, "audience",
			provisioning + "audience: the list is empty; leave it out or name a value",
		},
		"empty required_scopes": {
			`"required_scopes":[]`, "required_scopes",
			provisioning + "required_scopes: the list is empty; leave it out or name a value",
		},
		"empty valid_issuers": {
			`"valid_issuers":[]`, "valid_issuers",
			provisioning + "valid_issuers: the list is empty; leave it out or name a value",
		},
		"empty tenants": {
			`"tenants":[]`, "tenants",
			provisioning + "tenants: the list is empty; leave it out or name a value",
		},
		"empty algorithms": {
			`"token_signing_alg_values_expected":[]`, "token_signing_alg_values_expected",
			provisioning + "token_signing_alg_values_expected: the list is empty; leave it out or name a value",
		},
		"empty addon headers": {
			`"introspection_addon_headers":[]`, "introspection_addon_headers",
			provisioning + "introspection_addon_headers: the list is empty; leave it out or name a value",
		},
		"empty scopes of a resource": {
			`"protected_resource":{"scopes_supported":[]}`, "protected_resource.scopes_supported",
			provisioning + "protected_resource.scopes_supported: the list is empty; leave it out or name a value",
		},
		"blank value of a list": {
			`"audience":["api"," "]`, "audience",
			provisioning + "audience: has an empty value",
		},
		"null for a list": {
			`"required_scopes":null`, "required_scopes",
			decoding + "required_scopes: is null; leave it out or give it a value",
		},
		"null for a duration": {
			`"timeout":null`, "timeout",
			decoding + "timeout: is null; leave it out or give it a value",
		},
		"null in a rule": {
			`"required_claims":[{"claim":"groups","values":null}]`, "required_claims",
			decoding + "required_claims.values: is null; leave it out or give it a value",
		},
		"empty secret": {
			`"client_secret":""`, "client_secret",
			decoding + "client_secret: is empty; leave it out or give it a value",
		},
		"empty path of a claim": {
			`"claim_headers":{"X-User":""}`, "claim_headers",
			decoding + "claim_headers.X-User: is empty; leave it out or give it a value",
		},
		"matcher that says nothing": {
			`"unauth_rules":[{"action":"pass","match":{"path":[]}}]`, "unauth_rules",
			provisioning + "unauth_rules: the path matcher of rule 1 is empty and would match every request",
		},
		"empty rules": {
			`"required_claims":[]`, "required_claims",
			provisioning + "required_claims: the list is empty; leave it out or name a value",
		},
		"empty string in a list": {
			`"audience":["api",""]`, "audience",
			decoding + "audience: is empty; leave it out or give it a value",
		},
		"empty string for a list": {
			`"required_scopes":""`, "required_scopes",
			decoding + "required_scopes: is empty; leave it out or give it a value",
		},
		"two scopes in one string": {
			`"required_scopes":"orders:read orders:write"`, "required_scopes",
			provisioning + `required_scopes: "orders:read orders:write" is not one scope: no spaces, quotes or backslashes`,
		},
		"empty values of a required claim": {
			`"required_claims":[{"claim":"groups","values":[]}]`, "required_claims",
			provisioning + `required_claims: the rule for "groups" has no value`,
		},
		"denied claim without values": {
			`"denied_claims":[{"claim":"groups"}]`, "denied_claims",
			provisioning + `denied_claims: the rule for "groups" has no value`,
		},
		"empty value of a rule": {
			`"required_claims":[{"claim":"groups","values":["a",""]}]`, "required_claims",
			decoding + "required_claims.values: is empty; leave it out or give it a value",
		},
		"rule without a claim": {
			`"required_claims":[{"values":["a"]}]`, "required_claims",
			provisioning + `required_claims: "": a claim path must not have an empty part`,
		},
		"unauth rule without an action": {
			`"unauth_rules":[{"match":{"path":["/health"]}}]`, "unauth_rules",
			provisioning + "unauth_rules: rule 1 has no action",
		},
		"unauth rule without a matcher": {
			`"unauth_rules":[{"action":"pass","match":{"path":["/health"]}},{"action":"pass"}]`, "unauth_rules",
			provisioning + "unauth_rules: rule 2 has no matcher; unauth_action is the default for all requests",
		},
		"unauth rule with another action": {
			`"unauth_rules":[{"action":"allow","match":{"path":["/health"]}}]`, "unauth_rules",
			provisioning + `unauth_rules: "allow" is not one of deny, pass`,
		},
		"unauth rule with an unknown matcher": {
			`"unauth_rules":[{"action":"pass","match":{"paths":["/health"]}}]`, "unauth_rules",
			provisioning + "unauth_rules: rule 1: module name 'paths': unknown module: http.matchers.paths",
		},
		"unauth action of a later version": {
			`"unauth_action":"auth"`, "unauth_action",
			provisioning + `unauth_action: "auth" is not one of deny, pass`,
		},
		"unknown token type": {
			`"token_type":"jwt"`, "token_type",
			provisioning + `token_type: "jwt" is not one of any, at+jwt`,
		},
		"unknown authentication": {
			`"token_endpoint_auth_method":"client_secret_jvt"`, "token_endpoint_auth_method",
			provisioning + `token_endpoint_auth_method: "client_secret_jvt" is not one of client_secret_basic, client_secret_post, ` +
				`client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, none; did you mean "client_secret_jwt"?`,
		},
		"token source without a name": {
			`"bearer_token_from":[{"in":"header"}]`, "bearer_token_from",
			provisioning + "bearer_token_from: needs a place (header, cookie or query) and a name",
		},
		"token source of another place": {
			`"bearer_token_from":[{"in":"Header","name":"X-Token"}]`, "bearer_token_from",
			provisioning + `bearer_token_from: "Header" is not one of header, cookie, query; did you mean "header"?`,
		},
		"token cache below nothing": {
			`"token_cache":-1`, "token_cache",
			provisioning + "token_cache: -1 is not between 0 and 10000000",
		},
		"one duration by two names": {
			`"clock_skew":60,"iat_slack":60`, "iat_slack",
			provisioning + "iat_slack: is another name of clock_skew; set one of them",
		},
		"one key by two names": {
			`"client_private_key":"a","client_rsa_private_key":"b"`, "client_rsa_private_key",
			provisioning + "client_rsa_private_key: is another name of client_private_key; set one of them",
		},
		"ignored cache with a size": {
			`"jwt_verification_cache_ignore":true,"token_cache":5`, "jwt_verification_cache_ignore",
			provisioning + "jwt_verification_cache_ignore: contradicts token_cache",
		},
		"two headers that some upstreams take for one": {
			`"claim_headers":{"X-User":"sub","x_user":"email"}`, "claim_headers",
			provisioning + "claim_headers: x_user and X-User are the same header to some upstreams",
		},
		"claim header without a path": {
			`"claim_headers":{"X-User":{"json":true}}`, "claim_headers",
			provisioning + `claim_headers: X-User: "": a claim path must not have an empty part`,
		},
		"certificate without a key": {
			`"tls_client_certificate":{"certificate":"/etc/client.pem"}`, "tls_client_certificate",
			provisioning + "tls_client_certificate: needs the files of both the certificate and its key",
		},
		"trust pool without a module": {
			`"tls_trust_pool":{}`, "tls_trust_pool",
			provisioning + "tls_trust_pool: module name not specified with key 'provider' in map[]",
		},
		"unknown proxy": {
			`"network_proxy":{"from":"socks"}`, "network_proxy",
			provisioning + "network_proxy: loading module 'socks': unknown module: caddy.network_proxy.socks",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadHandler(t, handlerObject(test.members))
			if err == nil {
				t.Fatal("loaded without an error")
			}
			if !strings.Contains(err.Error(), test.field) {
				t.Errorf("the error does not name %s", test.field)
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
}

// TestPluginObject: what users of the APISIX plugin bring along is a handler as it stands.
func TestPluginObject(t *testing.T) {
	t.Parallel()
	h, err := loadHandler(t, `{"handler":"openid_connect","client_id":"my-api","client_secret":"secret",
		"discovery":"https://id.example.com/.well-known/openid-configuration","scope":"openid profile email","bearer_only":true}`)
	if err != nil {
		t.Fatal(err)
	}
	if h.ClientID != "my-api" || h.ClientSecret != "secret" || h.Scope != "openid profile email" || !h.BearerOnly ||
		h.Discovery != "https://id.example.com/.well-known/openid-configuration" {
		t.Errorf("got %+v", h)
	}
	if !reflect.DeepEqual(h.runtime.policy.audiences, []string{"my-api"}) || !h.runtime.introspection.configured {
		t.Errorf("got audiences %q, introspection %t", h.runtime.policy.audiences, h.runtime.introspection.configured)
	}
}

// TestPluginNames: attributes that have another name or shape in APISIX mean the same here.
func TestPluginNames(t *testing.T) {
	t.Parallel()
	load := func(t *testing.T, members string) *runtime {
		t.Helper()
		h, err := loadHandler(t, handlerObject(members))
		if err != nil {
			t.Fatal(err)
		}
		return h.runtime
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte(privateKeyPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		members string
		is      func(*runtime) bool
	}{
		"iat_slack":             {`"iat_slack":120`, func(rt *runtime) bool { return rt.policy.skew == 2*time.Minute }},
		"timeout":               {`"timeout":3`, func(rt *runtime) bool { return rt.provider.config.Timeout == 3*time.Second }},
		"ssl_verify off":        {`"ssl_verify":false`, func(rt *runtime) bool { return rt.provider.config.InsecureSkipVerify }},
		"ssl_verify on":         {`"ssl_verify":true`, func(rt *runtime) bool { return !rt.provider.config.InsecureSkipVerify }},
		"ssl_verify by default": {`"realm":"a"`, func(rt *runtime) bool { return !rt.provider.config.InsecureSkipVerify }},
		"token_signing_alg_values_expected": {
			`"token_signing_alg_values_expected":"ES256"`,
			func(rt *runtime) bool { return reflect.DeepEqual(rt.policy.algorithms, []string{"ES256"}) },
		},
		"required_scopes": {
			`"required_scopes":["a","b"]`,
			func(rt *runtime) bool { return reflect.DeepEqual(rt.authorization.requiredScopes, []string{"a", "b"}) },
		},
		"jwk_expires_in": {
			`"jwk_expires_in":3600`,
			func(rt *runtime) bool { return rt.provider.config.KeysLifetime == time.Hour },
		},
		"introspection_interval": {
			`"introspection_interval":0`,
			func(rt *runtime) bool { return rt.introspection.interval.or(-1) == 0 },
		},
		"introspection_expiry_claim": {
			`"introspection_expiry_claim":"expires"`,
			func(rt *runtime) bool { return rt.introspection.expiryClaim == "expires" },
		},
		"introspection_addon_headers": {
			`"introspection_addon_headers":["x-tenant"]`,
			func(rt *runtime) bool { return reflect.DeepEqual(rt.introspection.headers, []string{"X-Tenant"}) },
		},
		"client_rsa_private_key": {
			`"token_endpoint_auth_method":"private_key_jwt","client_rsa_private_key":"` + filepath.ToSlash(key) + `"`,
			func(rt *runtime) bool { return rt.introspection.configured },
		},
		"set_access_token_header": {
			`"set_access_token_header":true`,
			func(rt *runtime) bool { return rt.headers.accessToken && !rt.headers.accessTokenAuthorizes },
		},
		"access_token_in_authorization_header": {
			`"set_access_token_header":true,"access_token_in_authorization_header":true`,
			func(rt *runtime) bool { return rt.headers.accessToken && rt.headers.accessTokenAuthorizes },
		},
		"set_userinfo_header":            {`"set_userinfo_header":false`, func(rt *runtime) bool { return !rt.headers.userinfo }},
		"set_userinfo_header by default": {`"realm":"a"`, func(rt *runtime) bool { return rt.headers.userinfo }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if rt := load(t, test.members); !test.is(rt) {
				t.Errorf("%s has another meaning: %+v", test.members, rt)
			}
		})
	}
	t.Run("jwt_verification_cache_ignore", func(t *testing.T) {
		t.Parallel()
		ignored, none := load(t, `"jwt_verification_cache_ignore":true`), load(t, `"token_cache":0`)
		if ignored.tokens != none.tokens {
			t.Error("not the same as a token_cache of 0")
		}
		if ignored.tokens == load(t, `"realm":"a"`).tokens {
			t.Error("the same as the default")
		}
	})
}

func TestJSONForms(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		members string
		written string // the same, as it is written again
	}{
		"seconds":               {`"timeout":5`, `"timeout":"5s"`},
		"fraction of seconds":   {`"timeout":0.25`, `"timeout":"250ms"`},
		"no seconds":            {`"clock_skew":0`, `"clock_skew":"0s"`},
		"duration":              {`"timeout":"90s"`, `"timeout":"1m30s"`},
		"days":                  {`"jwk_expires_in":"1d"`, `"jwk_expires_in":"24h0m0s"`},
		"string for a list":     {`"audience":"api"`, `"audience":["api"]`},
		"list":                  {`"audience":["api","b"]`, `"audience":["api","b"]`},
		"value of a rule":       {`"required_claims":[{"claim":"a","values":"b"}]`, `"required_claims":[{"claim":"a","values":["b"]}]`},
		"path for a header":     {`"claim_headers":{"X-A":"a.b"}`, `"claim_headers":{"X-A":"a.b"}`},
		"object for a header":   {`"claim_headers":{"X-A":{"claim":"a"}}`, `"claim_headers":{"X-A":"a"}`},
		"header with JSON":      {`"claim_headers":{"X-A":{"claim":"a","json":true}}`, `"claim_headers":{"X-A":{"claim":"a","json":true}}`},
		"cache of nothing":      {`"token_cache":0`, `"token_cache":0`},
		"flag that is off":      {`"set_userinfo_header":false`, `"set_userinfo_header":false`},
		"matchers of a rule":    {`"unauth_rules":[{"action":"pass","match":{"path":["/a"]}}]`, `"unauth_rules":[{"match":{"path":["/a"]},"action":"pass"}]`},
		"resource of its own":   {`"protected_resource":{}`, `"protected_resource":{}`},
		"placeholders are kept": {`"client_secret":"{env.SECRET}"`, `"client_secret":"{env.SECRET}"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := func(members string) *Handler {
				h := new(Handler)
				if err := h.UnmarshalJSON([]byte(`{"issuer":"https://id.example.com","bearer_only":true,"client_id":"my-api",` + members + `}`)); err != nil {
					t.Fatal(err)
				}
				return h
			}
			written, err := json.Marshal(read(test.members))
			if err != nil {
				t.Fatal(err)
			}
			want := `{"issuer":"https://id.example.com","bearer_only":true,"client_id":"my-api",` + test.written + `}`
			if !sameJSON(t, written, []byte(want)) {
				t.Errorf("got  %s\nwant %s", written, want)
			}
			if !reflect.DeepEqual(read(test.members), read(test.written)) {
				t.Error("what is written means something else")
			}
		})
	}
}

func TestUnmarshalJSONRefusesTrailingData(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"realm":"a"}{"realm":"b"}`, `{"realm":"a"}]`, `[]`, `"a"`, `{`, ``} {
		if err := new(Handler).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	algorithms := []string{"RS256", "ES256", "HS256", "EdDSA"}
	for _, test := range []struct {
		name  string
		valid []string
		want  string
	}{
		{"isuer", []string{"issuer", "audience"}, `; did you mean "issuer"?`},
		{"ISSUER", []string{"issuer", "audience"}, `; did you mean "issuer"?`},
		{"rs256", algorithms, `; did you mean "RS256"?`},
		{"eddsa", algorithms, `; did you mean "EdDSA"?`},
		{"completely_different", []string{"issuer", "audience"}, ""},
		{"ab", []string{"ac", "ad"}, `; did you mean "ac"?`}, // the first of equals, whatever the order
		{"ab", []string{"ad", "ac"}, `; did you mean "ac"?`},
		{"x", nil, ""},
	} {
		if got := didYouMean(test.name, test.valid); got != test.want {
			t.Errorf("didYouMean(%q, %q) = %q, want %q", test.name, test.valid, got, test.want)
		}
	}
}

// stringsIn calls found for every string of a configuration that belongs to us, with the name of its field as in JSON. What belongs to
// guest modules is left out.
func stringsIn(v reflect.Value, field string, found func(field string, value reflect.Value)) {
	switch v.Kind() {
	case reflect.String:
		found(field, v)
	case reflect.Pointer:
		if !v.IsNil() {
			stringsIn(v.Elem(), field, found)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		for i := range v.Len() {
			stringsIn(v.Index(i), field, found)
		}
	case reflect.Map:
		if v.Type() == reflect.TypeFor[caddy.ModuleMap]() {
			return
		}
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			stringsIn(value, field, found)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name != "" {
				stringsIn(v.Field(i), strings.TrimPrefix(field+"."+name, "."), found)
			}
		}
	}
}

// fullHandler has a string wherever there can be one.
func fullHandler() *Handler {
	h := new(Handler)
	var fill func(reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Slice:
			if v.Type().Elem().Kind() == reflect.Uint8 {
				v.SetBytes([]byte(`{"guest":"{env.NOT_OURS}"}`))
				return
			}
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fill(v.Index(0))
			fill(v.Index(1))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
			value := reflect.New(v.Type().Elem()).Elem()
			fill(value)
			v.SetMapIndex(reflect.ValueOf("name"), value)
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Field(i).CanSet() {
					fill(v.Field(i))
				}
			}
		}
	}
	fill(reflect.ValueOf(h).Elem())
	return h
}

// TestPlaceholdersEverywhere: every string of the configuration may hold placeholders, whatever it is part of, and an error says
// which one it is about.
func TestPlaceholdersEverywhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OPENID_CONNECT_TEST", "{env.HOME}") // what comes out is not expanded again
	h := fullHandler()
	count := 0
	fields := make(map[string]bool)
	stringsIn(reflect.ValueOf(h).Elem(), "", func(field string, value reflect.Value) {
		value.SetString(`a {env.OPENID_CONNECT_TEST} {file.` + file + `} \{b\}`)
		fields[field] = true
		count++
	})
	if count < 50 || !fields["tls_client_certificate.key"] || !fields["required_claims.values"] || !fields["claim_headers.claim"] ||
		!fields["claim_placeholders"] || !fields["bearer_token_from.name"] || !fields["unauth_rules.action"] {
		t.Fatalf("found %d strings, in %v", count, fields)
	}
	if err := resolvePlaceholders(h); err != nil {
		t.Fatal(err)
	}
	stringsIn(reflect.ValueOf(h).Elem(), "", func(field string, value reflect.Value) {
		if value.String() != "a {env.HOME} from-file {b}" {
			t.Errorf("%s is %q", field, value)
		}
	})
	if string(h.TLSTrustPoolRaw) != `{"guest":"{env.NOT_OURS}"}` || string(h.UnauthRules[0].MatchRaw["name"]) != `{"guest":"{env.NOT_OURS}"}` {
		t.Errorf("a guest module has been changed: %s, %s", h.TLSTrustPoolRaw, h.UnauthRules[0].MatchRaw["name"])
	}

	for _, bad := range []string{"{env.OPENID_CONNECT_TEST_UNSET}", "{file./nonexistent/openid_connect}", "{enb.TYPO}", "a {http.request.host}"} {
		for i := range count {
			h, n, name := fullHandler(), 0, ""
			stringsIn(reflect.ValueOf(h).Elem(), "", func(field string, value reflect.Value) {
				if n == i {
					value.SetString(bad)
					name = field
				}
				n++
			})
			err := resolvePlaceholders(h)
			if err == nil {
				t.Errorf("%s: no error for %s", name, bad)
			} else if !strings.HasPrefix(err.Error(), name+": ") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestPlaceholdersInJSON: inline JSON is not a placeholder.
func TestPlaceholdersInJSON(t *testing.T) {
	t.Parallel()
	for _, key := range []string{`{"kty":"OKP","x":"{env.X}"}`, "\n { \"a\": \"{file./x}\" } "} {
		h := &Handler{ClientPrivateKey: key}
		if err := resolvePlaceholders(h); err != nil || h.ClientPrivateKey != key {
			t.Errorf("%q became %q, %v", key, h.ClientPrivateKey, err)
		}
	}
}

// TestPlaceholdersAreJudged: a value that comes out of a placeholder is checked like one that was written down.
func TestPlaceholdersAreJudged(t *testing.T) {
	t.Setenv("OPENID_CONNECT_TEST", "nonsense value")
	t.Setenv("OPENID_CONNECT_TEST_ISSUER", "https://id.example.com")
	for field, members := range map[string]string{
		"jwks_uri":                          `"jwks_uri":"{env.OPENID_CONNECT_TEST}"`,
		"token_type":                        `"token_type":"{env.OPENID_CONNECT_TEST}"`,
		"introspection":                     `"introspection":"{env.OPENID_CONNECT_TEST}"`,
		"unauth_action":                     `"unauth_action":"{env.OPENID_CONNECT_TEST}"`,
		"mtls_bound":                        `"mtls_bound":"{env.OPENID_CONNECT_TEST}"`,
		"error_responses":                   `"error_responses":"{env.OPENID_CONNECT_TEST}"`,
		"token_endpoint_auth_method":        `"token_endpoint_auth_method":"{env.OPENID_CONNECT_TEST}"`,
		"token_signing_alg_values_expected": `"token_signing_alg_values_expected":"{env.OPENID_CONNECT_TEST}"`,
		"required_scopes":                   `"required_scopes":["{env.OPENID_CONNECT_TEST}"]`,
		"introspection_addon_headers":       `"introspection_addon_headers":["{env.OPENID_CONNECT_TEST}"]`,
		"bearer_token_from":                 `"bearer_token_from":[{"in":"header","name":"{env.OPENID_CONNECT_TEST}"}]`,
		"required_claims":                   `"required_claims":[{"claim":"a.{env.OPENID_CONNECT_TEST}."}]`,
		"claim_headers":                     `"claim_headers":{"X-A":".{env.OPENID_CONNECT_TEST}"}`,
		"claim_placeholders":                `"claim_placeholders":{"a":".{env.OPENID_CONNECT_TEST}"}`,
		"username_claim":                    `"username_claim":".{env.OPENID_CONNECT_TEST}"`,
		"client_secret":                     `"client_secret":"{env.OPENID_CONNECT_TEST}","token_signing_alg_values_expected":"HS256"`,
		"public_key":                        `"public_key":"{env.OPENID_CONNECT_TEST}"`,
		"jwks":                              `"jwks":"{env.OPENID_CONNECT_TEST}"`,
		"tls_client_certificate":            `"tls_client_certificate":{"certificate":"{env.OPENID_CONNECT_TEST}","key":"x"}`,
	} {
		object := strings.Replace(handlerObject(members), "https://id.example.com", "{env.OPENID_CONNECT_TEST_ISSUER}", 1)
		_, err := loadHandler(t, object)
		if err == nil {
			t.Errorf("%s: no error", field)
		} else if !strings.Contains(err.Error(), ": "+field+": ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
