package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// refreshTokenOf logs somebody in and returns the refresh token.
func refreshTokenOf(t *testing.T, op *optest.Provider, p *Provider, client *ClientAuthentication) string {
	t.Helper()
	op.SetRefreshTokens(true)
	tokens, err := p.Exchange(t.Context(), client, newGrant(op))
	if err != nil || tokens.RefreshToken == "" {
		t.Fatalf("no refresh token: %v", err)
	}
	return tokens.RefreshToken
}

// C-095, C-096: one POST with the refresh token and nothing about scope, for the tokens that the provider gives.
func TestRefresh(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	first := refreshTokenOf(t, op, p, basic)
	tokens, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: first})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !signed(t, keys, tokens.AccessToken) || !signed(t, keys, tokens.IDToken) || tokens.RefreshToken == "" || tokens.RefreshToken == first ||
		tokens.ExpiresIn != 5*time.Minute {
		t.Errorf("tokens = %+v", tokens)
	}
	request := op.Requests(optest.Token)[1]
	want := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}}
	if fmt.Sprint(request.Form) != fmt.Sprint(want) || request.Method != http.MethodPost || request.URL.RawQuery != "" ||
		request.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || request.Header.Get("Accept") != "application/json" {
		t.Errorf("%s %v, form %v", request.Method, request.Header, request.Form)
	}
	if _, retried := request.Header["Idempotency-Key"]; retried {
		t.Error("the request says that it may be repeated")
	}
	// the next one is good, the spent one is not, and takes the next one with it
	next := tokens.RefreshToken
	for _, test := range []struct {
		name, token string
		good        bool
	}{{"the next", next, true}, {"the spent", first, false}, {"of a dead family", next, false}, {"unknown", first + "x", false}} {
		before := op.Hits(optest.Token)
		tokens, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: test.token})
		if test.good != (err == nil) || test.good != (tokens != nil) || RefreshRefused(err) == test.good {
			t.Errorf("%s: %v, %v", test.name, tokens, err)
		}
		if err != nil && (!errors.Is(err, ErrToken) || strings.Contains(err.Error(), test.token)) {
			t.Errorf("%s: %v", test.name, err)
		}
		if hits := op.Hits(optest.Token) - before; hits != 1 {
			t.Errorf("%s: %d requests", test.name, hits)
		}
	}
	if op.RefreshReuses() == 0 {
		t.Error("the provider has seen no reuse, so this test shows nothing")
	}
}

// C-095: the refresh token is the provider's, whatever it looks like, and arrives as it was given.
func TestRefreshTokenUnchanged(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for _, token := range []string{
		"plain", "a+b/c==", "a b  c ", " ", "100%", "%41", "a&grant_type=password", "a=b;c#d?e", `"'<>\`, "~!@$^*()[]{}|`:,.", strings.Repeat("+", jose.MaxProviderToken),
	} {
		op.Fail(optest.Token, optest.Fault{Body: []byte(`{"access_token":"at","token_type":"Bearer"}`)})
		tokens, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token})
		if err != nil || tokens.AccessToken != "at" || tokens.RefreshToken != "" || tokens.IDToken != "" {
			t.Errorf("%.20q: %+v, %v", token, tokens, err)
		}
		forms := op.TokenRequests()
		if form := forms[len(forms)-1]; len(form) != 2 || len(form["refresh_token"]) != 1 || form.Get("refresh_token") != token {
			t.Errorf("%.20q arrived as %.100q", token, form)
		}
	}
}

// S-120, S-128: configured parameters are added, a scope too; none replaces one of the protocol or adds a way to authenticate.
func TestRefreshParams(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	params := url.Values{"resource": {"https://a.example", "https://b.example"}, "scope": {"openid"}, "a b&c=d": {"é&+%"}}
	for _, name := range TokenParameters() {
		params[name] = []string{"evil", "more"}
	}
	if !params.Has("refresh_token") || !params.Has("client_assertion") {
		t.Fatal("the parameters of the protocol are not complete")
	}
	given := fmt.Sprint(params)
	for _, test := range []struct {
		client *ClientAuthentication
		adds   url.Values
	}{
		{basic, nil},
		{&ClientAuthentication{Method: ClientSecretPost, ClientID: "client", ClientSecret: "secret"}, url.Values{"client_id": {"client"}, "client_secret": {"secret"}}},
	} {
		token := refreshTokenOf(t, op, p, test.client)
		if _, err := p.Refresh(t.Context(), test.client, RefreshGrant{RefreshToken: token, Params: params}); err != nil {
			t.Fatal(err)
		}
		want := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {token},
			"resource": {"https://a.example", "https://b.example"}, "scope": {"openid"}, "a b&c=d": {"é&+%"},
		}
		maps.Copy(want, test.adds)
		if forms := op.TokenRequests(); fmt.Sprint(forms[len(forms)-1]) != fmt.Sprint(want) {
			t.Errorf("%s: form %v, want %v", test.client.Method, forms[len(forms)-1], want)
		}
		if fmt.Sprint(params) != given {
			t.Errorf("the configured parameters were changed: %v", params)
		}
	}
}

// C-015, C-016, C-017, C-018, C-021, S-128: each method sends its own credential and no other.
func TestRefreshAuthentication(t *testing.T) {
	t.Parallel()
	const id, secret = "cli:ent %+&é\"", "a secret: of 32 bytes & more %+é\""
	private, err := jose.ParsePrivateKey(optest.NewKey(t, "ES256", "our-key").PrivatePEM(), "", "our-key")
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jose.NewSecretSigner([]byte(secret), "")
	if err != nil {
		t.Fatal(err)
	}
	assertion := []string{"client_assertion", "client_assertion_type", "client_id"}
	for method, test := range map[string]struct {
		signer *jose.Signer
		params []string // of the form, beside those of the grant
	}{
		ClientSecretBasic: {nil, nil},
		ClientSecretPost:  {nil, []string{"client_id", "client_secret"}},
		ClientSecretJWT:   {symmetric, assertion},
		PrivateKeyJWT:     {private, assertion},
		None:              {nil, []string{"client_id"}},
	} {
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
			client := &ClientAuthentication{Method: method, ClientID: id, ClientSecret: secret, Signer: test.signer, AssertionLifetime: time.Minute}
			p := newProvider(t, op, nil)
			token := refreshTokenOf(t, op, p, client)
			for range 2 {
				tokens, err := p.Refresh(t.Context(), client, RefreshGrant{RefreshToken: token})
				if err != nil {
					t.Fatal(err)
				}
				token = tokens.RefreshToken
			}
			want := slices.Sorted(slices.Values(append([]string{"grant_type", "refresh_token"}, test.params...)))
			for _, request := range op.Requests(optest.Token)[1:] {
				if got := slices.Sorted(maps.Keys(request.Form)); !slices.Equal(got, want) {
					t.Errorf("form with %v, want %v", got, want)
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
			if test.signer != nil && len(seen) != 3 {
				t.Errorf("%d assertions for 3 requests", len(seen))
			}
			// S-194: as another client there is no refresh, once and for all
			other := *client
			other.ClientID += "x"
			_, err := p.Refresh(t.Context(), &other, RefreshGrant{RefreshToken: token})
			if refusal, ok := errors.AsType[*OAuthError](err); !ok || refusal.Code != "invalid_client" || !RefreshRefused(err) || op.Hits(optest.Token) != 4 {
				t.Errorf("as another client: %v, after %d requests", err, op.Hits(optest.Token))
			}
			if _, err := p.Refresh(t.Context(), client, RefreshGrant{RefreshToken: token}); err != nil {
				t.Errorf("as ourselves: %v", err)
			}
		})
	}
}

// A client that authenticates with its certificate refreshes at the alias for it (RFC 8705 section 5).
func TestRefreshMutualTLS(t *testing.T) {
	t.Parallel()
	op, mutual := optest.New(t), optest.New(t)
	op.SetMetadata(func(m map[string]any) {
		m["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": mutual.Endpoint(optest.Token)}
	})
	p := newProvider(t, op, nil)
	client := &ClientAuthentication{Method: TLSClientAuth, ClientID: "client"}
	mutual.Fail(optest.Token, optest.Fault{Body: []byte(`{"access_token":"at","token_type":"Bearer"}`)})
	if _, err := p.Refresh(t.Context(), client, RefreshGrant{RefreshToken: "rt"}); err != nil {
		t.Error(err)
	}
	if mutual.Hits(optest.Token) != 1 || op.Hits(optest.Token) != 0 || mutual.TokenRequests()[0].Get("client_id") != "client" {
		t.Errorf("%d requests to the alias, %d to the endpoint", mutual.Hits(optest.Token), op.Hits(optest.Token))
	}
}

// Without an endpoint, metadata or a way to authenticate there is nothing to send, and nothing is lost.
func TestRefreshUnsent(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	token := refreshTokenOf(t, op, p, basic)
	grant := RefreshGrant{RefreshToken: token}
	sent := op.Hits(optest.Token)
	refuse := func(name string, p *Provider, ctx context.Context, client *ClientAuthentication, want error) {
		t.Helper()
		if tokens, err := p.Refresh(ctx, client, grant); !errors.Is(err, want) || RefreshRefused(err) || tokens != nil {
			t.Errorf("%s: %v, %v", name, tokens, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // whichever of two ways it takes
		refuse("cancelled", p, cancelled, basic, context.Canceled)
	}
	refuse("no assertion", p, t.Context(), &ClientAuthentication{Method: PrivateKeyJWT, ClientID: "client"}, ErrToken)
	refuse("no method", p, t.Context(), &ClientAuthentication{ClientID: "client"}, ErrToken)
	for _, status := range []int{400, 401, 403, 404, 500} {
		op.Fail(optest.Discovery, optest.Fault{Status: status, Body: []byte(`{"error":"invalid_grant"}`)})
		op.Fail(optest.OAuthDiscovery, optest.Fault{Status: status, Body: []byte(`{"error":"invalid_grant"}`)})
		refuse(fmt.Sprintf("discovery %d", status), newProvider(t, op, nil), t.Context(), basic, ErrDiscovery)
	}
	op.Heal(optest.Discovery)
	op.SetMetadata(func(m map[string]any) { delete(m, "token_endpoint") })
	refuse("no endpoint", newProvider(t, op, nil), t.Context(), basic, ErrToken)
	if hits := op.Hits(optest.Token) - sent; hits != 0 {
		t.Errorf("%d requests", hits)
	}
	if _, err := p.Refresh(t.Context(), basic, grant); err != nil {
		t.Errorf("the refresh token is not good any more: %v", err)
	}
}
