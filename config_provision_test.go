package openidconnect

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// privateKeyPEM is a P-256 key that is good for nothing but these tests.
const privateKeyPEM = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgF1O8cBIkT1Zjl7Xe
ayuvtE3FXpFwPR4Osttu9FWjKW6hRANCAAQSfsU2GvrMndIVOCca4yKS90b9ePry
U6m9L8//dnpT3Ng4aNnNZ3gnp+2WA2rwRjsPTwdT1R1/YEq6b3Pqfk+N
-----END PRIVATE KEY-----
`

// TestProvisionErrors: what only shows when files are read names its setting too.
func TestProvisionErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"private.pem": privateKeyPEM,
		"garbage":     "garbage",
		"empty.json":  `{"keys":[]}`,
		"octet.json":  `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ members, want string }{
		"public key that is none":    {`"public_key":"garbage"`, "public_key: no PEM block found"},
		"public key that is private": {`"public_key":` + quoted(privateKeyPEM), `public_key: a PEM block of type "PRIVATE KEY" is not a public key`},
		"key set that is not there":  {`"jwks":"$DIR/missing.json"`, "jwks: open $DIR/missing.json: no such file or directory"},
		"key set that is none":       {`"jwks":"$DIR/garbage"`, "jwks: $DIR/garbage: the key set is not a JSON object"},
		"key set without keys":       {`"jwks":"$DIR/empty.json"`, "jwks: $DIR/empty.json: the key set has no usable signature key"},
		"key set of a secret":        {`"jwks":"$DIR/octet.json"`, "jwks: $DIR/octet.json: the key set has no usable signature key"},
		"private key that is not there": {
			`"client_private_key":"$DIR/missing.pem"`, "client_private_key: neither PEM nor a JWK nor a file that can be read",
		},
		"private key by its other name": {
			`"client_rsa_private_key":"$DIR/missing.pem"`, "client_rsa_private_key: neither PEM nor a JWK nor a file that can be read",
		},
		"private key that is none": {`"client_private_key":"$DIR/garbage"`, "client_private_key: neither PEM nor a JWK"},
		"JWK that is none":         {`"client_private_key":"{\"kty\":\"EC\"}"`, "client_private_key: not a JWK"},
		"algorithm for another key": {
			`"client_private_key":"$DIR/private.pem","client_jwt_assertion_alg":"RS256"`,
			`client_jwt_assertion_alg: unsupported algorithm: "RS256" does not fit a key of type P-256`,
		},
		"algorithm that is none": {
			`"client_private_key":"$DIR/private.pem","client_jwt_assertion_alg":"EC256"`,
			`client_jwt_assertion_alg: "EC256" is not a supported signature algorithm; did you mean "ES256"?`,
		},
		"algorithm that nobody uses": {
			`"client_secret":"secret","client_jwt_assertion_alg":"nonsense"`,
			`client_jwt_assertion_alg: "nonsense" is not a supported signature algorithm`,
		},
		"secret too short to sign with": {
			`"client_secret":"secret","token_endpoint_auth_method":"client_secret_jwt"`,
			"client_secret: too short for HS256, which needs at least 32 bytes",
		},
		"asymmetric algorithm for a secret": {
			`"client_secret":"0123456789abcdef0123456789abcdef","token_endpoint_auth_method":"client_secret_jwt","client_jwt_assertion_alg":"RS256"`,
			`client_jwt_assertion_alg: unsupported algorithm: "RS256" does not use a shared secret`,
		},
		"certificate that is not there": {
			`"tls_client_certificate":{"certificate":"$DIR/missing.pem","key":"$DIR/private.pem"}`,
			"tls_client_certificate: reading $DIR/missing.pem and $DIR/private.pem: open $DIR/missing.pem: no such file or directory",
		},
		"certificate that is none": {
			`"tls_client_certificate":{"certificate":"$DIR/garbage","key":"$DIR/private.pem"}`,
			"tls_client_certificate: reading $DIR/garbage and $DIR/private.pem: tls: failed to find any PEM data in certificate input",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadHandler(t, handlerObject(strings.ReplaceAll(test.members, "$DIR", dir)))
			if err == nil {
				t.Fatal("loaded without an error")
			}
			got := strings.TrimPrefix(strings.ReplaceAll(err.Error(), dir, "$DIR"),
				"loading module 'openid_connect': provision http.handlers.openid_connect: ")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestProvider: what the provider is talked to with, and believed by, is what the settings say.
func TestProvider(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	authority := optest.NewCertificate(t, nil)
	certificatePEM, keyPEM := optest.CertificatePEM(t, authority)
	key := optest.NewKey(t, "ES256", "1")
	mixed := strings.Replace(string(optest.KeySet(key)), `"keys":[`, `"keys":[{"kty":"oct","k":"c2VjcmV0"},`, 1)
	for name, content := range map[string]string{
		"certificate.pem": string(certificatePEM), "key.pem": string(keyPEM), "keys.json": string(optest.KeySet(key)), "mixed.json": mixed,
		"secret": "0123456789abcdef0123456789abcdef\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trusts := func(c provider.Config) bool {
		want := x509.NewCertPool()
		want.AppendCertsFromPEM(certificatePEM)
		return c.RootCAs != nil && c.RootCAs.Equal(want)
	}
	proxy := func(c provider.Config) string {
		if c.Proxy == nil {
			return "unset"
		}
		u, err := c.Proxy(httptest.NewRequest(http.MethodGet, "https://id.example.com/", nil))
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(u)
	}
	for name, test := range map[string]struct {
		settings string
		is       func(provider.Config) bool
	}{
		"nothing": {"", func(c provider.Config) bool {
			return c.RootCAs == nil && proxy(c) == "unset" && c.StaticKeys == nil && c.Certificates == nil
		}},
		"authority, file":  {"tls_trust_pool file $DIR/certificate.pem", trusts},
		"authority, block": {"tls_trust_pool file {\npem_file $DIR/certificate.pem\n}", trusts},
		"authority, inline": {
			"tls_trust_pool inline {\ntrust_der " + base64.StdEncoding.EncodeToString(authority.Certificate[0]) + "\n}", trusts,
		},
		"certificate":      {"tls_client_certificate $DIR/certificate.pem $DIR/key.pem", func(c provider.Config) bool { return len(c.Certificates) == 1 }},
		"not verified":     {"tls_insecure_skip_verify", func(c provider.Config) bool { return c.InsecureSkipVerify }},
		"proxy":            {"network_proxy url http://proxy.example.com:3128", func(c provider.Config) bool { return proxy(c) == "http://proxy.example.com:3128" }},
		"no proxy":         {"network_proxy none", func(c provider.Config) bool { return proxy(c) == "<nil>" }},
		"key set":          {"jwks $DIR/keys.json", func(c provider.Config) bool { return c.StaticKeys.Len() == 1 }},
		"key set, in part": {"jwks $DIR/mixed.json", func(c provider.Config) bool { return c.StaticKeys.Len() == 1 }},
		"public key":       {"public_key `" + key.PEM() + "`", func(c provider.Config) bool { return c.StaticKeys.Len() == 1 }},
		"secret": {
			"client_secret {file." + filepath.ToSlash(dir) + "/secret}\ntoken_signing_alg_values_expected HS256",
			func(c provider.Config) bool { return c.StaticKeys.Len() == 1 },
		},
		"secret that signs": {
			"client_secret {file." + filepath.ToSlash(dir) + "/secret}\ntoken_endpoint_auth_method client_secret_jwt",
			func(c provider.Config) bool { return c.StaticKeys == nil },
		},
		"endpoints": {
			"jwks_uri https://a.example.com\nclient_secret x\nintrospection_endpoint https://b.example.com\ntoken_endpoint https://c.example.com",
			func(c provider.Config) bool {
				return c.Endpoints == provider.Endpoints{
					JWKSURI: "https://a.example.com", Introspection: "https://b.example.com", Token: "https://c.example.com",
				}
			},
		},
		"times": {
			"timeout 2s\njwk_expires_in 1h",
			func(c provider.Config) bool { return c.Timeout == 2*time.Second && c.KeysLifetime == time.Hour },
		},
		"times by default": {"", func(c provider.Config) bool { return c.Timeout == 5*time.Second && c.KeysLifetime == 0 }},
		"tenants":          {"tenants a b", func(c provider.Config) bool { return c.TenantTemplate }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := parse("issuer https://id.example.com\nbearer_only\nclient_id my-api\n" + strings.ReplaceAll(test.settings, "$DIR", filepath.ToSlash(dir)))
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Provision(newContext(t)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { h.Cleanup() })
			if config := h.runtime.provider.config; !test.is(config) {
				t.Errorf("got %+v", config)
			}
		})
	}
}

func quoted(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(quoted)
}

// TestSecretsStayOutOfErrors: error texts end up in logs and terminals.
func TestSecretsStayOutOfErrors(t *testing.T) {
	const secret = "c0rrect-h0rse-battery-staple"
	t.Setenv("OPENID_CONNECT_TEST_SECRET", secret)
	t.Setenv("OPENID_CONNECT_TEST_LONG_SECRET", strings.Repeat(secret, 20))
	for name, members := range map[string]string{
		"braces in a secret":                   `"client_secret":"{` + secret + `}"`,
		"braces in a private key":              `"client_private_key":"{` + secret + `}"`,
		"private key that is neither":          `"client_private_key":"{env.OPENID_CONNECT_TEST_SECRET}"`,
		"private key that is neither, long":    `"client_private_key":"{env.OPENID_CONNECT_TEST_LONG_SECRET}"`,
		"private key that is neither, as JSON": `"client_private_key":"{\"kty\":\"oct\",\"k\":\"` + secret + `\"}"`,
		"private key that is neither, as PEM":  `"client_private_key":"-----BEGIN PRIVATE KEY-----\n` + secret + `\n-----END PRIVATE KEY-----"`,
		"public key that is a secret":          `"public_key":"{env.OPENID_CONNECT_TEST_SECRET}"`,
		"secret too short for its algorithm":   `"client_secret":"{env.OPENID_CONNECT_TEST_SECRET}","token_signing_alg_values_expected":"HS512"`,
		"secret too short to sign with":        `"client_secret":"{env.OPENID_CONNECT_TEST_SECRET}","token_endpoint_auth_method":"client_secret_jwt"`,
		"secret of another type":               `"client_secret":["` + secret + `"]`,
		"password in a URL":                    `"jwks_uri":"https://me:` + secret + `@id.example.com/keys"`,
		"password in something like a URL":     `"jwks_uri":"https://me:` + secret + `%zz@id.example.com/keys"`,
		"password in another URL":              `"jwks_uri":"ftp://me:` + secret + `@id.example.com/keys"`,
	} {
		_, err := loadHandler(t, handlerObject(members))
		if err == nil {
			t.Errorf("%s: loaded without an error", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWarnings: what is allowed and dangerous is told with each load, and nothing else is.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ settings, want string }{
		"nothing to tell":     {"audience api", ""},
		"tls off":             {"audience api\ntls_insecure_skip_verify", "the provider's certificate is not verified"},
		"ssl_verify off":      {"audience api\nssl_verify off", "the provider's certificate is not verified"},
		"any audience":        {"audience any", "audience any"},
		"token in the query":  {"audience api\nbearer_token_from query access_token", "bearer_token_from query access_token"},
		"token in a header":   {"audience api\nbearer_token_from header X-Token", ""},
		"binding off":         {"audience api\nmtls_bound off", "mtls_bound off"},
		"plain http":          {"audience api\njwks_uri http://id.example.com/keys", "http://id.example.com/keys is plain http"},
		"plain http, at home": {"audience api\njwks_uri http://127.0.0.1:8080/keys", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := parse("issuer https://id.example.com\nbearer_only\n" + test.settings)
			if err != nil {
				t.Fatal(err)
			}
			warnings := h.warnings()
			switch {
			case test.want == "" && len(warnings) > 0:
				t.Errorf("warns: %q", warnings)
			case test.want != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], test.want)):
				t.Errorf("got %q, want %q", warnings, test.want)
			}
		})
	}
}
