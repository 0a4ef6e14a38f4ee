package openidconnect

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The authorization request: what is in it, what never is, and who may ask for one.

// whatIsNewEachTime are the parameters whose values never repeat.
var whatIsNewEachTime = []string{"state", "nonce", "code_challenge"}

func TestS116AuthorizationRequest(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, ""), p)
	seen := make(map[string]bool)
	for range 200 {
		v.ClearCookies()
		request := v.begin("/")
		for name, values := range request {
			if len(values) != 1 {
				t.Fatalf("%s occurs %d times", name, len(values))
			}
		}
		for _, name := range whatIsNewEachTime {
			value := request.Get(name)
			if seen[value] || len(value) < 43 || strings.Trim(value,
				"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") != "" {
				t.Fatalf("%s is %q", name, value)
			}
			if name != "state" && len(value) != 43 {
				t.Fatalf("%s has %d characters", name, len(value))
			}
			seen[value] = true
			request.Del(name)
		}
		want := url.Values{
			"response_type": {"code"}, "client_id": {"client"}, "scope": {"openid"}, "redirect_uri": {v.url("/oauth2/callback")},
			"code_challenge_method": {"S256"},
		}
		if request.Encode() != want.Encode() {
			t.Fatalf("the request has %v, want %v", request, want)
		}
	}
}

// Random parts are random in every place (S-124).
func TestS124NothingIsDerivedFromTime(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, ""), p)
	v.later(0) // all at one instant
	var values [3][]string
	for range 60 {
		v.ClearCookies()
		request := v.begin("/")
		for i, name := range whatIsNewEachTime {
			values[i] = append(values[i], request.Get(name))
		}
	}
	for i, name := range whatIsNewEachTime {
		from := 0
		if name == "state" {
			from = 8 // the version and the name of the key
		}
		for at := from; at < len(values[i][0])-1; at++ {
			letters := make(map[byte]bool)
			for _, value := range values[i] {
				letters[value[at]] = true
			}
			if len(letters) < 10 {
				t.Errorf("%s has %d letters at place %d", name, len(letters), at)
			}
		}
	}
}

func TestS119NothingOfTheRequestLeaksIn(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, ""), p)
	want := slices.Sorted(maps.Keys(v.begin("/")))
	const path = "/app?scope=admin&prompt=none&redirect_uri=https%3A%2F%2Fevil.example&client_id=x&claims=%7B%7D&state=s&nonce=n&max_age=0&" +
		"response_type=token&response_mode=fragment&login_hint=mallory&acr_values=low&request=x&code_challenge=x&code_challenge_method=plain&resource=x"
	request := v.wantLogin(v.open(path, "X-Forwarded-Host: evil.example", "Referer: https://evil.example/?scope=admin"))
	if got := slices.Sorted(maps.Keys(request)); !slices.Equal(got, want) {
		t.Errorf("parameters %q, want %q", got, want)
	}
	for name, value := range map[string]string{
		"scope": "openid", "client_id": "client", "response_type": "code", "redirect_uri": v.url("/oauth2/callback"),
		"code_challenge_method": "S256",
	} {
		if request.Get(name) != value {
			t.Errorf("%s=%s", name, request.Get(name))
		}
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), path) // it is where the login leads, and nothing else
}

func TestSection2LoginSettingsInTheRequest(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	claims := `{"id_token":{"email":{"essential":true}}}`
	for _, test := range []struct {
		name, settings string
		want           url.Values // in the request; nil values are not there
	}{
		{"scope", "scope openid  profile offline_access", url.Values{"scope": {"openid profile offline_access"}}},
		{"prompt", "prompt login consent", url.Values{"prompt": {"login consent"}}},
		{"max_age", "max_age 90s", url.Values{"max_age": {"90"}}},
		{"max_age in seconds", "max_age 3600", url.Values{"max_age": {"3600"}}},
		{"max_age 0", "max_age 0", url.Values{"max_age": {"0"}}},
		{"acr_values", "acr_values high higher", url.Values{"acr_values": {"high higher"}}},
		{"resource", "resource https://a.example https://b.example/x", url.Values{"resource": {"https://a.example", "https://b.example/x"}}},
		{"display and ui_locales", "display popup\nui_locales de fr", url.Values{"display": {"popup"}, "ui_locales": {"de fr"}}},
		{"use_pkce off", "use_pkce off", url.Values{"code_challenge": nil, "code_challenge_method": nil}},
		{"use_nonce off", "use_nonce off", url.Values{"nonce": nil}},
		{"response_mode", "response_mode query", url.Values{"response_mode": nil}},
		{"authorization_params", "authorization_params domain_hint \"a & b\"\nauthorization_params hd example.com", url.Values{
			"domain_hint": {"a & b"}, "hd": {"example.com"},
		}},
		{
			"authorization_params of the request",
			"authorization_params login_hint {http.request.header.X-User}\nauthorization_params kc_idp {http.request.header.X-None}",
			url.Values{
				"login_hint": {"{env.HOME} & {http.request.host}"}, "kc_idp": nil,
			},
		},
		{"claims", "authorization_params claims `" + claims + "`", url.Values{"claims": {claims}}},
		{
			"an absolute redirect_uri", "redirect_uri https://app.example.com/sso/done",
			url.Values{"redirect_uri": {"https://app.example.com/sso/done"}},
		},
		{"a path as redirect_uri", "redirect_uri /sso/done", url.Values{"redirect_uri": {"/sso/done"}}},
		{"path_prefix", "path_prefix /sso", url.Values{"redirect_uri": {"/sso/callback"}}},
		{"an odd client_id", `client_id "a b+c%20d&e=f:g\"h"`, url.Values{"client_id": {`a b+c%20d&e=f:g"h`}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVisitor(t, newLoginSite(t, p, test.settings), p)
			request := v.wantLogin(v.open("/", "X-User: {env.HOME} & {http.request.host}"))
			for name, want := range test.want {
				if name == "redirect_uri" && strings.HasPrefix(want[0], "/") {
					want = []string{v.url(want[0])}
				}
				if !slices.Equal(request[name], want) {
					t.Errorf("%s is %q, want %q", name, request[name], want)
				}
			}
		})
	}
}

// What the endpoint's own URL carries stays, once (S-121).
func TestS121AuthorizationEndpointWithAQuery(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) {
		m["authorization_endpoint"] = p.Endpoint(optest.Authorize) + "?p=policy%2B1&tenant=a&scope=evil&%73tate=evil&prompt=login"
	})
	v := newVisitor(t, newLoginSite(t, p, "prompt consent"), p)
	r := v.open("/")
	request := v.wantLogin(r)
	for name, want := range map[string]string{"p": "policy+1", "tenant": "a", "scope": "openid", "prompt": "consent"} {
		if got := request[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if len(request["state"]) != 1 || request.Get("state") == "evil" || !strings.Contains(r.Location(), "?p=policy%2B1&tenant=a&") {
		t.Errorf("the request is %s", r.Location())
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
}

// The token request: the very redirect_uri, the verifier, one way of authentication, and what is configured besides (C-013 to C-022).
func TestS128TokenRequest(t *testing.T) {
	t.Parallel()
	const id, secret = `a:b%c+d e&f"`, `s:e%c+r e&t"ü`
	for _, test := range []struct {
		name, settings string
		method         string // of authentication
	}{
		{"client_secret_basic", "", "basic"},
		{"client_secret_post", "token_endpoint_auth_method client_secret_post", "post"},
		{"client_secret_jwt", "token_endpoint_auth_method client_secret_jwt", "assertion"},
		{"token_params", "token_params audience https://api.example\ntoken_params resource https://a.example https://b.example", "basic"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			id, secret := id, secret
			if test.method == "assertion" {
				secret += strings.Repeat("x", 32)
				p.SetAssertionChecker(func(string) error { return nil })
			}
			p.SetIntrospectionClient(id, secret)
			v := newVisitor(t, newLoginSite(t, p, "client_id `"+id+"`\nclient_secret `"+secret+"`\n"+test.settings), p)
			request := v.begin("/")
			answer := v.answerTo(request)
			v.wantRedirect(v.arrive(request, answer), "/")
			sent := p.Requests(optest.Token)
			if len(sent) != 1 || sent[0].Method != http.MethodPost || sent[0].URL.RawQuery != "" ||
				sent[0].Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Fatalf("token requests %+v", sent)
			}
			form := sent[0].Form
			want := url.Values{
				"grant_type": {"authorization_code"}, "code": answer["code"], "redirect_uri": request["redirect_uri"],
				"code_verifier": form["code_verifier"],
			}
			switch test.method {
			case "post":
				want["client_id"], want["client_secret"] = []string{id}, []string{secret}
			case "assertion":
				for _, name := range []string{"client_id", "client_assertion", "client_assertion_type"} {
					want[name] = form[name]
				}
				wantAssertion(t, form.Get("client_assertion"), p.Issuer(), id)
			}
			if test.name == "token_params" {
				want["audience"], want["resource"] = []string{"https://api.example"}, []string{"https://a.example", "https://b.example"}
			}
			if form.Encode() != want.Encode() {
				t.Errorf("the request has %v, want %v", form, want)
			}
			username, password, basic := (&http.Request{Header: sent[0].Header}).BasicAuth()
			if basic != (test.method == "basic") || basic && (username != url.QueryEscape(id) || password != url.QueryEscape(secret)) {
				t.Errorf("Authorization %q", sent[0].Header.Get("Authorization"))
			}
			if verifier := form.Get("code_verifier"); len(verifier) != 43 || challengeOf(verifier) != request.Get("code_challenge") {
				t.Errorf("verifier %q for challenge %q", verifier, request.Get("code_challenge"))
			}
		})
	}
	t.Run("a public client", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		p.SetPublicClient("public")
		v := newVisitor(t, newSite(t, "issuer "+p.Issuer()+"\nclient_id public\nsession {\nsecret \""+sessionSecret+"\"\n}"), p)
		request := v.begin("/")
		v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
		sent := p.Requests(optest.Token)[0]
		if sent.Form.Get("client_id") != "public" || sent.Header.Get("Authorization") != "" || sent.Form.Has("client_secret") {
			t.Errorf("token request %v", sent)
		}
	})
}

func wantAssertion(t *testing.T, assertion, audience, client string) {
	t.Helper()
	_, payload, _ := segments(assertion)
	var claims struct {
		Issuer   string          `json:"iss"`
		Subject  string          `json:"sub"`
		Audience json.RawMessage `json:"aud"`
		ID       string          `json:"jti"`
		IssuedAt int64           `json:"iat"`
		Expires  int64           `json:"exp"`
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != client || claims.Subject != client || string(claims.Audience) != `"`+audience+`"` || len(claims.ID) < 16 ||
		claims.Expires-claims.IssuedAt > 60 {
		t.Errorf("assertion %+v", claims)
	}
}
