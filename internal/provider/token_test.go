package provider

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	callback = "https://app.example.com/oauth2/callback"
	// a verifier and its challenge, from RFC 7636 appendix B
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// newGrant is a fresh code of the test provider with all that belongs to it.
func newGrant(op *optest.Provider) CodeGrant {
	code := op.NewCode(url.Values{"redirect_uri": {callback}, "code_challenge": {challenge}})
	return CodeGrant{Code: code, RedirectURI: callback, Verifier: verifier}
}

// C-013, C-014: one POST with the code, its redirect URI and its verifier, for the tokens that the provider gives.
func TestExchange(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	op.SetRefreshTokens(true)
	p := newProvider(t, op, nil)
	observer := &events{}
	defer p.Observe("test", observer)()
	grant := newGrant(op)
	tokens, err := p.Exchange(t.Context(), basic, grant)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !signed(t, keys, tokens.AccessToken) || !signed(t, keys, tokens.IDToken) || tokens.RefreshToken == "" || tokens.TokenType != "Bearer" ||
		tokens.Scope != "openid" || tokens.ExpiresIn.Seconds() != 300 {
		t.Errorf("tokens = %+v", tokens)
	}
	request := op.Requests(optest.Token)[0]
	want := url.Values{"grant_type": {"authorization_code"}, "code": {grant.Code}, "redirect_uri": {callback}, "code_verifier": {verifier}}
	if fmt.Sprint(request.Form) != fmt.Sprint(want) || request.Method != http.MethodPost || request.URL.RawQuery != "" ||
		request.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || request.Header.Get("Accept") != "application/json" {
		t.Errorf("%s %v, form %v", request.Method, request.Header, request.Form)
	}
	if _, retried := request.Header["Idempotency-Key"]; retried {
		t.Error("the request says that it may be repeated")
	}

	// What is wrong with the grant is the provider's to say, and it is asked once each time.
	for name, edit := range map[string]func(g *CodeGrant){
		"spent":        func(g *CodeGrant) { *g = grant },
		"unknown":      func(g *CodeGrant) { g.Code += "x" },
		"redirect_uri": func(g *CodeGrant) { g.RedirectURI += "/" },
		"verifier":     func(g *CodeGrant) { g.Verifier = strings.Repeat("v", 43) },
		"no verifier":  func(g *CodeGrant) { g.Verifier = "" },
	} {
		before := op.Hits(optest.Token)
		bad := newGrant(op)
		edit(&bad)
		tokens, err := p.Exchange(t.Context(), basic, bad)
		refusal, ok := errors.AsType[*OAuthError](err)
		if !errors.Is(err, ErrToken) || !ok || !refusal.Refused() || refusal.Status != http.StatusBadRequest || tokens != nil {
			t.Errorf("%s: %v, %v", name, tokens, err)
		}
		if hits := op.Hits(optest.Token) - before; hits != 1 {
			t.Errorf("%s: %d requests", name, hits)
		}
		if strings.Contains(err.Error(), bad.Code) || strings.Contains(err.Error(), verifier) {
			t.Errorf("%s: the error quotes a secret: %v", name, err)
		}
	}
	if op.CodeReuses() != 1 {
		t.Errorf("%d reuses, of one asked for", op.CodeReuses())
	}
	if calls, _, _ := observer.take(); !slices.Contains(calls, "token 200") || !slices.Contains(calls, "token 400") {
		t.Errorf("observed %v", calls)
	}
}

// S-120, S-128: configured parameters are added; none replaces one of the protocol or adds a second way to authenticate.
func TestExchangeParams(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	params := url.Values{"resource": {"https://a.example", "https://b.example"}, "empty": {""}, "a b&c=d": {"é&+%"}}
	for _, name := range []string{"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret", "client_assertion", "client_assertion_type"} {
		params[name] = []string{"evil", "more"}
	}
	given := maps.Clone(params)
	for _, test := range []struct {
		client *ClientAuthentication
		adds   url.Values
	}{
		{basic, nil},
		{&ClientAuthentication{Method: ClientSecretPost, ClientID: "client", ClientSecret: "secret"}, url.Values{"client_id": {"client"}, "client_secret": {"secret"}}},
	} {
		grant := newGrant(op)
		grant.Params = params
		if _, err := p.Exchange(t.Context(), test.client, grant); err != nil {
			t.Fatal(err)
		}
		want := url.Values{
			"grant_type": {"authorization_code"}, "code": {grant.Code}, "redirect_uri": {callback}, "code_verifier": {verifier},
			"resource": {"https://a.example", "https://b.example"}, "empty": {""}, "a b&c=d": {"é&+%"},
		}
		maps.Copy(want, test.adds)
		if forms := op.TokenRequests(); fmt.Sprint(forms[len(forms)-1]) != fmt.Sprint(want) {
			t.Errorf("%s: form %v, want %v", test.client.Method, forms[len(forms)-1], want)
		}
		if fmt.Sprint(params) != fmt.Sprint(given) {
			t.Errorf("the configured parameters were changed: %v", params)
		}
	}
	// without PKCE
	grant := CodeGrant{Code: op.NewCode(url.Values{"redirect_uri": {callback}}), RedirectURI: callback, Params: url.Values{"code_verifier": {verifier}}}
	if _, err := p.Exchange(t.Context(), basic, grant); err != nil {
		t.Errorf("without PKCE: %v", err)
	}
}

// C-015, C-016, C-017, C-018, C-021, S-128: each method sends its own credential and no other.
func TestExchangeAuthentication(t *testing.T) {
	t.Parallel()
	const id, secret = "cli:ent %+&é\"", "a secret: of 32 bytes & more %+é\""
	key := optest.NewKey(t, "ES256", "our-key")
	private, err := jose.ParsePrivateKey(key.PrivatePEM(), "", "our-key")
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jose.NewSecretSigner([]byte(secret), "")
	if err != nil {
		t.Fatal(err)
	}
	assertion := []string{"client_id", "client_assertion", "client_assertion_type"}
	tests := map[string]struct {
		signer *jose.Signer
		params []string // of the form, beside those of the grant
	}{
		ClientSecretBasic: {nil, nil},
		ClientSecretPost:  {nil, []string{"client_id", "client_secret"}},
		ClientSecretJWT:   {symmetric, assertion},
		PrivateKeyJWT:     {private, assertion},
		None:              {nil, []string{"client_id"}},
	}
	for method, test := range tests {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t)
			op.SetIntrospectionClient(id, secret)
			if method == None {
				op.SetPublicClient(id)
			}
			op.SetAssertionChecker(func(raw string) error {
				if _, claims := readAssertion(t, raw); claims["aud"] != op.Issuer() || claims["iss"] != id || claims["sub"] != id {
					return errors.New("not for this provider")
				}
				return nil
			})
			client := &ClientAuthentication{Method: method, ClientID: id, ClientSecret: secret, Signer: test.signer, AssertionLifetime: 60e9}
			p := newProvider(t, op, nil)
			for range 2 {
				if _, err := p.Exchange(t.Context(), client, newGrant(op)); err != nil {
					t.Fatal(err)
				}
			}
			want := slices.Sorted(slices.Values(append([]string{"code", "code_verifier", "grant_type", "redirect_uri"}, test.params...)))
			for _, request := range op.Requests(optest.Token) {
				if got := slices.Sorted(maps.Keys(request.Form)); !slices.Equal(got, want) {
					t.Errorf("form with %v, want %v", got, want)
				}
				if request.Form.Has("client_id") && request.Form.Get("client_id") != id {
					t.Errorf("client_id = %q", request.Form.Get("client_id"))
				}
				if request.Header.Get("Authorization") != "" != (method == ClientSecretBasic) {
					t.Errorf("Authorization: %q", request.Header.Get("Authorization"))
				}
			}
			seen := map[any]bool{} // S-127: a fresh one for each request
			for _, raw := range op.Assertions() {
				_, claims := readAssertion(t, raw)
				seen[claims["jti"]] = true
			}
			if test.signer != nil && len(seen) != 2 {
				t.Errorf("%d assertions for 2 requests", len(seen))
			}
			client.ClientID += "x"
			_, err := p.Exchange(t.Context(), client, newGrant(op))
			refusal, ok := errors.AsType[*OAuthError](err)
			if !ok || refusal.Refused() || refusal.Code != "invalid_client" || op.Hits(optest.Token) != 3 {
				t.Errorf("as another client: %v, after %d requests", err, op.Hits(optest.Token))
			}
		})
	}
}

// Without an endpoint there is nothing to ask.
func TestExchangeWithoutEndpoint(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	op.SetMetadata(func(m map[string]any) { delete(m, "token_endpoint") })
	if _, err := newProvider(t, op, nil).Exchange(t.Context(), basic, newGrant(op)); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "token_endpoint") {
		t.Errorf("Exchange: %v", err)
	}
	op.Fail(optest.Discovery, optest.Fault{Status: 500})
	if _, err := newProvider(t, op, nil).Exchange(t.Context(), basic, newGrant(op)); !errors.Is(err, ErrDiscovery) {
		t.Errorf("without metadata: %v", err)
	}
	if _, err := newProvider(t, op, func(c *Config) {
		c.Endpoints = Endpoints{JWKSURI: op.Endpoint(optest.JWKS), Token: op.Endpoint(optest.Token)}
	}).Exchange(t.Context(), basic, newGrant(op)); err != nil {
		t.Errorf("with a configured endpoint: %v", err)
	}
	if hits := op.Hits(optest.Token); hits != 1 {
		t.Errorf("%d requests", hits)
	}
}
