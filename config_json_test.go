package openidconnect

import (
	"encoding/json"
	"strings"
	"testing"

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
			provisioning + `unauth_rules: "allow" is not one of auth, deny, pass`,
		},
		"unauth rule with an unknown matcher": {
			`"unauth_rules":[{"action":"pass","match":{"paths":["/health"]}}]`, "unauth_rules",
			provisioning + "unauth_rules: rule 1: module name 'paths': unknown module: http.matchers.paths",
		},
		"unauth action in another language": {
			`"unauth_action":"login"`, "unauth_action",
			provisioning + `unauth_action: "login" is not one of auth, deny, pass`,
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
