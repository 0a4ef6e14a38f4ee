package openidconnect

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

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
		for member, value := range v.Fields() {
			if name, _, _ := strings.Cut(member.Tag.Get("json"), ","); name != "" {
				stringsIn(value, strings.TrimPrefix(field+"."+name, "."), found)
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
			for _, field := range v.Fields() {
				if field.CanSet() {
					fill(field)
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
		!fields["claim_placeholders"] || !fields["bearer_token_from.name"] || !fields["unauth_rules.action"] ||
		!fields["session.secret"] || !fields["session.storage"] || !fields["token_params"] || !fields["authorization_params"] {
		t.Fatalf("found %d strings, in %v", count, fields)
	}
	if err := resolvePlaceholders(h); err != nil {
		t.Fatal(err)
	}
	stringsIn(reflect.ValueOf(h).Elem(), "", func(field string, value reflect.Value) {
		want := "a {env.HOME} from-file {b}"
		if field == "authorization_params" {
			want = `a \{env.HOME\} from-file \{b\}` // to be replaced once more, at each login
		}
		if value.String() != want {
			t.Errorf("%s is %q", field, value)
		}
	})
	if string(h.TLSTrustPoolRaw) != `{"guest":"{env.NOT_OURS}"}` || string(h.UnauthRules[0].MatchRaw[0]["name"]) != `{"guest":"{env.NOT_OURS}"}` {
		t.Errorf("a guest module has been changed: %s, %s", h.TLSTrustPoolRaw, h.UnauthRules[0].MatchRaw[0]["name"])
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
			if name == "authorization_params" && err == nil && !atLoad.MatchString(bad) {
				continue
			}
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
		"redirect_uri":                      `"redirect_uri":"/{env.OPENID_CONNECT_TEST}"`,
		"path_prefix":                       `"path_prefix":"/{env.OPENID_CONNECT_TEST}"`,
		"prompt":                            `"prompt":"{env.OPENID_CONNECT_TEST}"`,
		"scope":                             `"scope":"openid \\\"{env.OPENID_CONNECT_TEST}"`,
		"resource":                          `"resource":"{env.OPENID_CONNECT_TEST}"`,
		"response_mode":                     `"response_mode":"{env.OPENID_CONNECT_TEST}"`,
		"session.secret":                    `"session":{"secret":"{env.OPENID_CONNECT_TEST}"}`,
		"session.storage":                   `"session":{"storage":"{env.OPENID_CONNECT_TEST}"}`,
		"session.cookie_name":               `"session":{"cookie_name":"{env.OPENID_CONNECT_TEST}"}`,
		"session.cookie_domain":             `"session":{"cookie_domain":"{env.OPENID_CONNECT_TEST}"}`,
		"session.cookie_path":               `"session":{"cookie_path":"{env.OPENID_CONNECT_TEST}"}`,
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
