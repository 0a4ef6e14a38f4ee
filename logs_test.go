package openidconnect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// filteredLog is a site's log without what Caddy itself shows of a request: it hides Authorization and Cookie, and knows nothing of
// tokens in other places.
const filteredLog = `log {
	output openid_connect_test
	level DEBUG
	format filter {
		request>uri query {
			delete access_token
		}
		request>headers>X-Token delete
		wrap json
	}
}
`

// Everything that can happen, at the most talkative level, and no secret in anything that is said.
func TestS261NoSecretIsEverTold(t *testing.T) {
	p := optest.New(t)
	p.SetIntrospectionClient("client", "the-secret-of-the-client-is-long-enough")
	const wrongSecret = "the-wrong-secret-of-the-client-is-long-too"
	p.MarkSecret(wrongSecret)
	site := func(secret string) string {
		settings := "client_id client\nclient_secret " + secret + "\nbearer_token_from query access_token\nbearer_token_from cookie token\n" +
			"bearer_token_from header X-Token\nrequired_scopes read\nclaim_header X-Email email\n"
		return `
	log
	log_append who {http.auth.user.id}
	log_append state {http.vars.openid_connect}
	handle /jwt/* {
		` + api(p, settings) + `
	}
	handle /opaque/* {
		` + api(p, settings+"introspection always\nintrospection_endpoint_auth_method client_secret_post") + `
	}
	handle /assertion/* {
		` + api(p, settings+"introspection always\nintrospection_endpoint_auth_method client_secret_jwt") + `
	}
	handle /own/* {
		` + api(p, settings+"error_responses handle_errors") + `
	}
	handle /strip/* {
		` + api(p, settings+"strip_authorization\nunauth_action pass") + `
	}
	handle_errors {
		respond "{err.message} {http.openid_connect.reason}"
	}
	`
	}
	takeLogs()
	c := startCaddy(t, site("the-secret-of-the-client-is-long-enough"), filteredLog)
	key := p.Key("rs-1")
	forger := optest.NewKey(t, "RS256", "rs-1")
	secret := func(token string) string {
		p.MarkSecret(token)
		return token
	}
	var told strings.Builder // all that clients hear
	broadRun := func() {
		tokens := []string{
			p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil)), p.AccessToken(optest.Claims{"aud": "other"}), p.AccessToken(optest.Claims{"scope": "x"}),
			p.AccessToken(optest.Claims{"exp": 1}), p.AccessToken(optest.Claims{"sub": nil, "client_id": nil}),
			p.AccessToken(optest.Claims{"cnf": map[string]any{"jkt": "x"}}),
			p.IDToken(nil), p.IDToken(optest.Claims{"nonce": "n"}), p.OpaqueToken(optest.Claims{"active": "yes"}),
			p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": "other"})),
			secret(optest.Sign(forger, nil, p.AccessClaims(nil))), secret(optest.Sign(forger, optest.Claims{"kid": "unknown"}, p.AccessClaims(nil))),
			secret(optest.Sign(key, optest.Claims{"typ": "logout+jwt"}, p.AccessClaims(nil))),
			secret(optest.SignRaw(key, `{"alg":"RS256","alg":"RS256"}`, `{}`)),
			secret(optest.Unsigned(nil, p.AccessClaims(nil)) + "unsigned-and-secret"), secret("opaque-and-unknown-to-all"),
			secret("not a token but secret"), secret(`se"cret,token`),
			secret(strings.Repeat("large-and-secret", 2000)[:17_000]),
		}
		for _, token := range tokens {
			header, _, _ := strings.Cut(token, "\x00")
			for _, path := range []string{"/jwt/", "/opaque/", "/assertion/", "/own/", "/strip/"} {
				var headers [][]string
				if len(token) < 16_000 {
					headers = [][]string{
						{"Authorization: Bearer " + header},
						{"Cookie: token=" + header},
						{"X-Token: " + header},
						{"Authorization: Bearer " + header, "Cookie: token=" + header},
					}
				} else {
					headers = [][]string{{"Authorization: Bearer " + header[:16_500]}}
					p.MarkSecret(header[:16_500])
				}
				for _, headers := range headers {
					for _, accept := range []string{"text/html", "application/json"} {
						r := c.get(path+"x", append(headers, "Accept: "+accept)...)
						if r.StatusCode != http.StatusOK { // the upstream echoes what it gets
							fmt.Fprintln(&told, r.body)
						}
						fmt.Fprintln(&told, r.Header)
					}
				}
				if len(token) < 4000 && !strings.ContainsAny(token, ` "`) {
					fmt.Fprintln(&told, c.get(path+"x?a=b&access_token="+token).Header)
				}
			}
		}
	}
	broadRun()
	p.Fail(optest.Introspection, optest.Fault{Status: 401, Body: []byte(`{"error":"invalid_client","error_description":"the-secret-of-the-client-is-long-enough"}`)})
	p.Fail(optest.JWKS, optest.Fault{Drop: true})
	broadRun()
	p.Heal(optest.Introspection)
	p.Heal(optest.JWKS)
	if err := c.load(site(wrongSecret)); err != nil {
		t.Fatal(err)
	}
	broadRun()
	for name := range series(t) {
		fmt.Fprintln(&told, name)
	}
	logs := takeLogs()
	if n := len(logLines(t, logs, "request accepted")) + len(logLines(t, logs, "request refused")); n < 300 {
		t.Errorf("only %d lines of the handler were captured", n)
	}
	if n := len(logLines(t, logs, "handled request")); n < 300 {
		t.Errorf("only %d lines of the access log were captured", n)
	}
	issued := p.Issued()
	if len(issued) < 50 {
		t.Fatalf("only %d secrets to look for", len(issued))
	}
	for _, secret := range issued {
		escaped, _ := json.Marshal(secret)
		for where, text := range map[string]string{"the logs": logs, "an answer": told.String()} {
			for _, form := range []string{secret, strings.Trim(string(escaped), `"`), signaturePart(secret)} {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%.60s… is in %s: …%s", secret, where, text[max(0, i-300):min(len(text), i+100)])
					break
				}
			}
		}
	}
}

// signaturePart is what makes a token usable; the claims before it may be known.
func signaturePart(token string) string {
	if i := strings.LastIndexByte(token, '.'); i >= 0 && len(token)-i > 30 {
		return token[i+1:]
	}
	return token
}

// What strangers can provoke is Debug, what a rule refuses Info; one request, one line (S-250).
func TestLogLevels(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nrequired_scopes read\ndenied_claim groups guests")
	s.allows(p.AccessToken(nil)) // what there is to say of the provider is said
	for _, test := range []struct {
		token   string
		message string
		level   zapcore.Level
		reason  string
		expect  string // is told as expected
		got     string // is told as got
	}{
		{p.AccessToken(nil), "request accepted", zapcore.DebugLevel, "", "", ""},
		{"nonsense", "request refused", zapcore.DebugLevel, "malformed_token", "", ""},
		{"a b", "request refused", zapcore.DebugLevel, "malformed_authorization", "", ""},
		{p.AccessToken(optest.Claims{"aud": "other"}), "request refused", zapcore.DebugLevel, "wrong_audience", "api", "other"},
		{
			p.AccessToken(optest.Claims{"iss": "https://id.example.com/"}), "request refused", zapcore.DebugLevel, "wrong_issuer",
			p.Issuer(), "https://id.example.com/",
		},
		{p.AccessToken(optest.Claims{"exp": 1}), "request refused", zapcore.DebugLevel, "expired", "", "1970-01-01T00:00:01Z"},
		{p.AccessToken(optest.Claims{"scope": "write"}), "request refused", zapcore.InfoLevel, "insufficient_scope", "read", "write"},
		{p.AccessToken(optest.Claims{"groups": "guests"}), "request refused", zapcore.InfoLevel, "claim_denied", "groups", ""},
		{p.AccessToken(optest.Claims{"sub": nil}), "request refused", zapcore.InfoLevel, "claim_required", "sub", ""},
		{p.AccessToken(optest.Claims{"aud": strings.Repeat("x", 5000)}), "request refused", zapcore.DebugLevel, "wrong_audience", "api", "xxx"},
	} {
		s.logs.TakeAll()
		request := s.bearer(test.token)
		lines := withoutEvents(s.logs.TakeAll())
		if len(lines) != 1 {
			t.Errorf("%s: %d lines: %v", test.reason, len(lines), lines)
			continue
		}
		line, fields := lines[0], lines[0].ContextMap()
		if line.Message != test.message || line.Level != test.level {
			t.Errorf("%s: %s at %s, want %s at %s", test.reason, line.Message, line.Level, test.message, test.level)
		}
		if test.reason == "" {
			if fields["user_id"] != "alice" {
				t.Errorf("fields %v", fields)
			}
			continue
		}
		if fields["reason"] != test.reason || fields["issuer"] != p.Issuer() || fields["hint"] == "" ||
			fields["request_id"] != request.json(t, "request_id") {
			t.Errorf("%s: fields %v", test.reason, fields)
		}
		expected, got := fmt.Sprint(fields["expected"]), fmt.Sprint(fields["got"])
		if !strings.Contains(expected, test.expect) || !strings.Contains(got, test.got) {
			t.Errorf("%s: expected %q, got %q", test.reason, expected, got)
		}
		if len(got) > 300 || len(expected) > 300 {
			t.Errorf("%s: a line has %d bytes of the token", test.reason, len(got)+len(expected))
		}
	}
}

// Trouble with the provider is told once when it begins and once when it ends.
func TestProviderTroubleIsToldOnce(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.Fail(optest.Discovery, optest.Fault{Status: 500})
	s := newBearerSite(t, p, "audience api")
	for range 30 {
		s.refuses(p.AccessToken(nil), 503, "discovery_failed")
	}
	told := s.logs.Filter(func(e zapEntry) bool { return e.Level >= zapcore.WarnLevel }).All()
	if len(told) != 1 || told[0].Level != zapcore.WarnLevel {
		t.Fatalf("%d lines: %v", len(told), told)
	}
	if fields := told[0].ContextMap(); fields["issuer"] != p.Issuer() || fields["reason"] != "discovery_failed" || fields["hint"] == "" {
		t.Errorf("fields %v", fields)
	}
	p.Heal(optest.Discovery)
	waitUntil(t, func() bool { return s.logs.FilterMessage("provider is available").Len() == 1 })
	s.allows(p.AccessToken(nil))
	if n := s.logs.Filter(func(e zapEntry) bool { return e.Level >= zapcore.WarnLevel }).Len(); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Secrets given by placeholders are nowhere but in the running handler.
func TestS265SecretsStayPlaceholders(t *testing.T) {
	const secret = "swordfish-of-the-test"
	t.Setenv("OPENID_CONNECT_TEST_SECRET", secret)
	p := optest.New(t)
	p.SetIntrospectionClient("client", secret)
	takeLogs()
	c := startCaddy(t, api(p, "client_id client\nclient_secret {env.OPENID_CONNECT_TEST_SECRET}"))
	c.allows(p.OpaqueToken(p.AccessClaims(nil))) // so the secret was found
	adapted, err := adaptCaddyfile("http://a.example {\n" + handler(p, "client_id client\nclient_secret {env.OPENID_CONNECT_TEST_SECRET}") + "}")
	if err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	shown.Write(adapted)
	if !strings.Contains(shown.String(), "{env.OPENID_CONNECT_TEST_SECRET}") {
		t.Errorf("the placeholder is not in %s", adapted)
	}
	// errors name the field and not its value
	for _, settings := range []string{
		"client_id client\nclient_secret {env.OPENID_CONNECT_TEST_SECRET}\ntoken_signing_alg_values_expected HS512",
		"client_private_key {env.OPENID_CONNECT_TEST_SECRET}\nclient_id client\nintrospection always",
		"client_private_key " + secret + "\nclient_id client\nintrospection always",
		"public_key {env.OPENID_CONNECT_TEST_SECRET}",
		"client_id client\nclient_secret " + secret + "\nclient_secret " + secret,
		"client_id client\nclient_secret {env.OPENID_CONNECT_TEST_SECRET}\nintrospection_endpoint_auth_method private_key_jwt",
		"client_id client\nclient_secret {env.OPENID_CONNECT_TEST_SECRET}x{env.OPENID_CONNECT_UNSET}",
	} {
		h, err := parse("issuer " + p.Issuer() + "\nbearer_only\naudience api\n" + settings)
		if err == nil {
			if err = h.Provision(newContext(t)); err == nil {
				h.Cleanup()
				t.Errorf("%s: no error", settings)
				continue
			}
		}
		fmt.Fprintln(&shown, err)
	}
	shown.WriteString(takeLogs())
	if i := strings.Index(shown.String(), secret); i >= 0 {
		t.Errorf("the secret is shown: %s", shown.String()[max(0, i-200):i+50])
	}
}

// withoutEvents leaves out what Caddy's events app says of what this module emits.
func withoutEvents(lines []zapEntry) []zapEntry {
	return slices.DeleteFunc(lines, func(line zapEntry) bool { return line.LoggerName == "events" })
}
