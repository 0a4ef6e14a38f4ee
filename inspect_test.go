package openidconnect

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// inspects runs the command in this process. The code is that of the process that it would be.
func inspects(t *testing.T, args ...string) ran {
	t.Helper()
	cmd := inspectCommand()
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetArgs(args)
	cmd.SilenceUsage = true
	code := 0
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		if code = 1; strings.HasSuffix(err.Error(), "status 2") {
			code = 2
		}
	}
	return ran{code, stdout.String(), stderr.String()}
}

func TestInspect(t *testing.T) {
	set := func(name string, value any) func(map[string]any) {
		return func(m map[string]any) {
			if m[name] = value; value == nil {
				delete(m, name)
			}
		}
	}
	for _, test := range []struct {
		name    string
		edit    func(map[string]any)
		address string // after the issuer
		code    int
		stdout  []string
		lacks   string
	}{
		{"good", nil, "", 0, []string{"ok        issuer", "ok        keys", "redirect URI             https://app.example.com/oauth2/callback", "client_secret {env.OIDC_CLIENT_SECRET}"}, "problem"},
		{"by its metadata", nil, "/.well-known/openid-configuration", 0, []string{"ok        issuer"}, "discovery http"},
		{"a slash too many", nil, "/", 2, []string{"problem   issuer", "the difference is the slash at the end"}, ""},
		{"another issuer", set("issuer", "https://id.example.com"), "", 2, []string{"problem   issuer", "got: https://id.example.com", "\t\tdiscovery http"}, ""},
		{"issuer elsewhere", set("issuer", "https://id.example.com"), "/.well-known/openid-configuration", 0, []string{"openid_connect https://id.example.com {", "\t\tdiscovery http"}, "problem"},
		{"no issuer", set("issuer", nil), "", 2, []string{"problem   metadata", "names no issuer"}, "Caddyfile"},
		{"issuer to break out by", set("issuer", "https://id.example.com/ {\n\timport /etc/passwd\n}\x1b[2J"), "", 2, []string{"problem   issuer", "�[2J"}, "Caddyfile"},
		{"issuer with a placeholder", set("issuer", "https://id.example.com/{env.HOME}"), "", 2, []string{"problem   issuer"}, "Caddyfile"},
		{"issuer with a user name", set("issuer", "https://user:password@id.example.com"), "", 2, []string{"problem   issuer"}, "Caddyfile"},
		{"no key that fits", set("id_token_signing_alg_values_supported", []any{"ES512"}), "", 2, []string{"problem   ID token", "a key for ES512", "got: "}, ""},
		{"form_post alone", set("response_modes_supported", []any{"form_post"}), "", 0, []string{"\t\tresponse_mode form_post"}, "problem"},
		{"fragments alone", set("response_modes_supported", []any{"fragment"}), "", 2, []string{"problem   login", "got: fragment"}, ""},
		{"for all tenants", set("issuer", "https://login.example.com/{tenantid}/v2.0"), "", 0, []string{"tenants 00000000-", "discovery http", "note      issuer"}, "problem"},
		{"no keys", set("jwks_uri", nil), "", 2, []string{"problem   keys", "expected: jwks_uri"}, ""},
		{"keys that do not come", set("jwks_uri", "http://127.0.0.1:1/keys"), "", 2, []string{"problem   keys"}, ""},
		{"no logins", set("authorization_endpoint", nil), "", 0, []string{"note      login", "bearer_only", "audience https://app.example.com"}, "redirect URI"},
		{"pushed requests", set("require_pushed_authorization_requests", true), "", 2, []string{"problem   login", "RFC 9126"}, ""},
		{"signed requests", set("require_signed_request_object", true), "", 2, []string{"problem   login", "RFC 9101"}, ""},
		{"implicit flow alone", set("response_types_supported", []any{"id_token"}), "", 2, []string{"problem   login", "got: id_token"}, ""},
		{"HS256 alone", set("id_token_signing_alg_values_supported", []any{"HS256"}), "", 2, []string{"problem   ID token", "got: HS256"}, ""},
		{"ES256", set("id_token_signing_alg_values_supported", []any{"HS256", "ES256"}), "", 0, []string{"signed by ES256;"}, "problem"},
		{"secret in the form", set("token_endpoint_auth_methods_supported", []any{"client_secret_post"}), "", 0, []string{"\t\ttoken_endpoint_auth_method client_secret_post"}, "problem"},
		{"by a key", set("token_endpoint_auth_methods_supported", []any{"private_key_jwt"}), "", 0, []string{"\t\tclient_private_key "}, "client_secret"},
		{"public client", set("token_endpoint_auth_methods_supported", []any{"none"}), "", 0, []string{"public client"}, "client_secret"},
		{"by a certificate", set("token_endpoint_auth_methods_supported", []any{"tls_client_auth"}), "", 0, []string{"\t\ttls_client_certificate ", "\t\ttoken_endpoint_auth_method tls_client_auth"}, "client_secret"},
		{"in no known way", set("token_endpoint_auth_methods_supported", []any{"magic"}), "", 2, []string{"problem   client", "got: magic"}, ""},
		{"plain PKCE", set("code_challenge_methods_supported", []any{"plain"}), "", 0, []string{"warning   PKCE", "use_pkce off"}, "problem"},
		{"no scope openid", set("scopes_supported", []any{"read"}), "", 0, []string{"warning   scope"}, "problem"},
		{"offline_access", set("scopes_supported", []any{"openid", "email", "offline_access"}), "", 0, []string{"\t\tscope openid email offline_access"}, "profile"},
		{"no logout", set("end_session_endpoint", nil), "", 0, []string{"note      logout"}, "post-logout"},
		{"back-channel logout", set("backchannel_logout_supported", true), "", 0, []string{"https://app.example.com/oauth2/backchannel-logout"}, "problem"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := optest.New(t)
			if test.edit != nil {
				p.SetMetadata(test.edit)
			}
			answer := inspects(t, p.Issuer()+test.address)
			answer.want(t, test.code, test.stdout, nil)
			if test.lacks != "" && strings.Contains(answer.stdout, test.lacks) {
				t.Errorf("%q is in\n%s", test.lacks, answer.stdout)
			}
			if strings.Contains(answer.stdout, "\x1b") {
				t.Errorf("the provider writes to the terminal: %q", answer.stdout)
			}
			if _, shown, ok := strings.Cut(answer.stdout, "Write into the Caddyfile:\n\n"); ok {
				validate(t, must(adaptStrictly(t, prepare(t, shown))))
			}
			var found inspected
			if err := json.Unmarshal([]byte(inspects(t, "--json", p.Issuer()+test.address).stdout), &found); err != nil {
				t.Fatal(err)
			}
			if found.Usable != (test.code == 0) {
				t.Errorf("usable is %v: %+v", found.Usable, found)
			}
		})
	}
}

func TestInspectSites(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	inspects(t, "--site", "http://localhost:8080", "--upstream", "app:9000", p.Issuer()).want(t, 0, []string{
		"http://localhost:8080/oauth2/callback", "http://localhost:8080 {\n", "reverse_proxy app:9000\n",
	}, nil)
	for _, site := range []string{"a b", "a{", "", "a\nb", ":8080", "http://", "*.example.com", "~", "a/b"} {
		inspects(t, "--site", site, p.Issuer()).want(t, 1, nil, []string{"--site"})
	}
}

// What cannot be fetched is told with what to look at.
func TestInspectCannotFetch(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithTLS())
	inspects(t, p.Issuer()).want(t, 1, nil, []string{"certificate", "--ca", "tls_trust_pool"})
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, []byte(p.CertificatePEM()), 0o600); err != nil {
		t.Fatal(err)
	}
	inspects(t, "--ca", authority, p.Issuer()).want(t, 0, []string{"ok        issuer"}, nil)
	inspects(t, "--ca", authority, p.Issuer()+"/realms/other").want(t, 1, nil, []string{"status 404", "realm or tenant"})
	inspects(t, "--ca", authority+"x", p.Issuer()).want(t, 1, nil, []string{"no such file"})
	inspects(t, "--ca", "go.mod", p.Issuer()).want(t, 1, nil, []string{"no certificate in PEM"})
	inspects(t, "--timeout", "-1s", p.Issuer()).want(t, 1, nil, []string{"--timeout"})
	inspects(t, "ftp://id.example.com").want(t, 1, nil, []string{"absolute https URL"})
	p.Fail("discovery", optest.Fault{Status: http.StatusOK, Body: []byte("<html>")})
	inspects(t, "--ca", authority, p.Issuer()).want(t, 1, nil, []string{"not a JSON object"})
}

// What is at the second place counts for nothing where the first does not say that it has none: Caddy does not look there either.
func TestInspectLooksWhereCaddyLooks(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	document := jsonOf(t, p.Metadata())
	for status, code := range map[int]int{http.StatusNotFound: 2, http.StatusInternalServerError: 1} { // 2: it states another issuer
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(document))
		}))
		inspects(t, server.URL).want(t, code, nil, nil)
		server.Close()
	}
}

// A document at the place of RFC 8414 will do.
func TestInspectOAuthMetadata(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithOAuthMetadataOnly(), optest.WithIssuerPath("/tenant"))
	inspects(t, p.Issuer()).want(t, 0, []string{"ok        issuer", "/.well-known/oauth-authorization-server/tenant"}, nil)
}
