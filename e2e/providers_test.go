package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	apiAudience       = "https://api.e2e.localhost"
	elsewhereAudience = "https://elsewhere.e2e.localhost"
)

// client is a service that is registered at both providers.
type client struct {
	ID       string   `json:"id"`
	Secret   string   `json:"secret"`
	Scopes   []string `json:"scopes"`
	Audience string   `json:"audience"`
	Opaque   bool     `json:"opaque"`
}

// resource is an API that may introspect tokens.
type resource struct {
	ID       string `json:"id"`
	Secret   string `json:"secret"`
	Audience string `json:"audience"`
}

var (
	secret   = rand.Text() // of every client and resource
	password = rand.Text() // of every person
)

var (
	reader    = client{"reader", secret, []string{"orders:read", "orders:list"}, apiAudience, false}
	guest     = client{"guest", secret, []string{"menu:read"}, apiAudience, false}
	elsewhere = client{"elsewhere", secret, []string{"orders:read"}, elsewhereAudience, false}

	opaqueReader    = client{"opaque-reader", secret, []string{"orders:read"}, apiAudience, true}
	opaqueGuest     = client{"opaque-guest", secret, []string{"menu:read"}, apiAudience, true}
	opaqueElsewhere = client{"opaque-elsewhere", secret, []string{"orders:read"}, elsewhereAudience, true}

	api = resource{"api", secret, apiAudience}

	clients   = []client{reader, guest, elsewhere, opaqueReader, opaqueGuest, opaqueElsewhere}
	resources = []resource{api}
)

// identityProvider is a provider that a test has for itself, so that what Caddy knows about it starts from nothing.
type identityProvider interface {
	issuer() string
	// rotate has the provider sign with a new key; the ones before it stay published.
	rotate(t *testing.T)
	// stop ends the provider, start runs it again under the same issuer.
	stop(t *testing.T)
	start(t *testing.T)
}

// eachProvider runs a test against every provider.
func eachProvider(t *testing.T, test func(t *testing.T, p identityProvider)) {
	for _, one := range []struct {
		name  string
		start func(*testing.T) identityProvider
	}{
		{"zitadel", newZitadelProvider},
		{"oidc-provider", newNodeProvider},
	} {
		t.Run(one.name, func(t *testing.T) { test(t, one.start(t)) })
	}
}

// fetch gets an access token from the token endpoint, with all the scopes of the client.
func fetch(ctx context.Context, issuer string, c client) (string, error) {
	return fetchWith(ctx, issuer, c, nil)
}

// fetchWith sends further parameters along.
func fetchWith(ctx context.Context, issuer string, c client, parameters url.Values) (string, error) {
	meta, err := discover(ctx, issuer)
	if err != nil {
		return "", err
	}
	config := clientcredentials.Config{
		ClientID:     c.ID,
		ClientSecret: c.Secret,
		TokenURL:     meta.TokenEndpoint,
		Scopes:       c.Scopes,
		AuthStyle:    oauth2.AuthStyleInHeader,

		EndpointParams: parameters,
	}
	token, err := config.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("fetching a token for %s: %w", c.ID, err)
	}
	return token.AccessToken, nil
}

func mustFetch(t *testing.T, p identityProvider, c client) string {
	t.Helper()
	token, err := fetch(t.Context(), p.issuer(), c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// revoke ends a token, as the client that it was issued to.
func revoke(t *testing.T, issuer string, c client, token string) {
	t.Helper()
	meta, err := discover(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"token": {token}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, meta.RevocationEndpoint,
		strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(c.ID, c.Secret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("revocation for %s: %s", c.ID, resp.Status)
	}
}

type metadata struct {
	TokenEndpoint         string `json:"token_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	BackchannelLogout     bool   `json:"backchannel_logout_supported"`
}

func discover(ctx context.Context, issuer string) (metadata, error) {
	var meta metadata
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return meta, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return meta, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&meta); err != nil {
		return meta, fmt.Errorf("decoding the metadata: %w", err)
	}
	return meta, nil
}

// eventually repeats a step until it is content, and fails the test if that takes too long.
func eventually(t *testing.T, what string, within time.Duration, content func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !content() {
		select {
		case <-deadline:
			if !content() { // asked once more: the time may have passed while this machine did nothing
				t.Fatalf("not within %s: %s", within, what)
			}
			return
		case <-tick.C:
		}
	}
}
