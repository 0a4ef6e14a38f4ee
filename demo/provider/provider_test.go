package provider_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

const audience = "https://api.demo.localhost"

// serve starts a provider with a client for JWTs, one for opaque tokens, and two resources.
func serve(t *testing.T) (*provider.Provider, string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	issuer := "http://" + server.Listener.Addr().String()
	p, err := provider.New(provider.Options{
		Issuer: issuer,
		Clients: []provider.Client{
			{ID: "reader", Secret: "s1", Scopes: []string{"orders:read", "orders:list"}, Audience: []string{audience}},
			{ID: "opaque", Secret: "s2", Scopes: []string{"orders:read"}, Audience: []string{audience}, Opaque: true},
		},
		Resources: []provider.Resource{
			{ClientID: "api", Secret: "s3", Audience: audience},
			{ClientID: "elsewhere", Secret: "s4", Audience: "https://elsewhere.localhost"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = p
	server.Start()
	t.Cleanup(server.Close)
	return p, issuer
}

func fetch(ctx context.Context, issuer, client, secret string, scopes ...string) (string, error) {
	config := clientcredentials.Config{
		ClientID:     client,
		ClientSecret: secret,
		TokenURL:     issuer + "/oauth/token",
		Scopes:       scopes,
		AuthStyle:    oauth2.AuthStyleInHeader,
	}
	token, err := config.Token(ctx)
	if err != nil {
		return "", err
	}
	return token.AccessToken, nil
}

func publishedKeys(t *testing.T, issuer string) jose.JSONWebKeySet {
	t.Helper()
	resp, err := http.Get(issuer + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	return set
}

// claims verifies a JWT with the published keys.
func claims(t *testing.T, issuer, token string) (kid string, c map[string]any) {
	t.Helper()
	parsed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	kid = parsed.Signatures[0].Header.KeyID
	keys := publishedKeys(t, issuer)
	found := keys.Key(kid)
	if len(found) != 1 {
		t.Fatalf("%d published keys have the ID %q", len(found), kid)
	}
	payload, err := parsed.Verify(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return kid, c
}

func introspect(t *testing.T, issuer, client, secret, token string) oidc.IntrospectionResponse {
	t.Helper()
	form := url.Values{"token": {token}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/oauth/introspect",
		strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(client, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("introspection as %s: %s", client, resp.Status)
	}
	var answer oidc.IntrospectionResponse
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestJWT(t *testing.T) {
	t.Parallel()
	_, issuer := serve(t)
	for _, test := range []struct {
		name  string
		asked []string
		want  any
	}{
		{"all that it may have", nil, "orders:read orders:list"},
		{"what it asks for", []string{"orders:read"}, "orders:read"},
		{"not what it may not have", []string{"orders:read", "orders:write"}, "orders:read"},
		{"nothing allowed", []string{"orders:write"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			token, err := fetch(t.Context(), issuer, "reader", "s1", test.asked...)
			if err != nil {
				t.Fatal(err)
			}
			_, c := claims(t, issuer, token)
			if c["iss"] != issuer || c["sub"] != "reader" || c["client_id"] != "reader" {
				t.Errorf("claims: %v", c)
			}
			if aud, ok := c["aud"].([]any); !ok || !slices.Equal(aud, []any{audience}) {
				t.Errorf("aud = %v", c["aud"])
			}
			if c["scope"] != test.want {
				t.Errorf("scope = %v, want %v", c["scope"], test.want)
			}
		})
	}
}

func TestWrongSecret(t *testing.T) {
	t.Parallel()
	_, issuer := serve(t)
	if _, err := fetch(t.Context(), issuer, "reader", "s1"); err != nil {
		t.Fatalf("right secret: %v", err)
	}
	for _, credentials := range [][2]string{{"reader", "s2"}, {"reader", ""}, {"nobody", "s1"}, {"api", "s3"}} {
		_, err := fetch(t.Context(), issuer, credentials[0], credentials[1])
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.ErrorCode != "invalid_client" {
			t.Errorf("%v: got %v, want invalid_client", credentials, err)
		}
	}
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	_, issuer := serve(t)
	for client, secret := range map[string]string{"reader": "s1", "opaque": "s2"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			token, err := fetch(t.Context(), issuer, client, secret, "orders:read")
			if err != nil {
				t.Fatal(err)
			}
			answer := introspect(t, issuer, "api", "s3", token)
			if !answer.Active || answer.ClientID != client || !slices.Contains(answer.Audience, audience) ||
				!slices.Equal(answer.Scope, oidc.SpaceDelimitedArray{"orders:read"}) || answer.Expiration == 0 {
				t.Errorf("api is told %+v", answer)
			}
			if other := introspect(t, issuer, "elsewhere", "s4", token); other.Active || other.ClientID != "" {
				t.Errorf("a resource that the token is not meant for is told %+v", other)
			}
		})
	}
	if answer := introspect(t, issuer, "api", "s3", "nonsense"); answer.Active {
		t.Error("nonsense is active")
	}
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	_, issuer := serve(t)
	token, err := fetch(t.Context(), issuer, "opaque", "s2")
	if err != nil {
		t.Fatal(err)
	}
	if !introspect(t, issuer, "api", "s3", token).Active {
		t.Fatal("a fresh token is not active")
	}
	form := url.Values{"token": {token}, "client_id": {"opaque"}, "client_secret": {"s2"}}
	resp, err := http.PostForm(issuer+"/revoke", form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("revocation: %s", resp.Status)
	}
	if introspect(t, issuer, "api", "s3", token).Active {
		t.Error("the revoked token is active")
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	p, issuer := serve(t)
	before, err := fetch(t.Context(), issuer, "reader", "s1")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Rotate(); err != nil {
		t.Fatal(err)
	}
	after, err := fetch(t.Context(), issuer, "reader", "s1")
	if err != nil {
		t.Fatal(err)
	}
	oldKey, _ := claims(t, issuer, before)
	newKey, _ := claims(t, issuer, after)
	if oldKey == newKey {
		t.Error("the key is the same after a rotation")
	}
	if n := len(publishedKeys(t, issuer).Keys); n != 2 {
		t.Errorf("%d keys are published, want 2", n)
	}
}
