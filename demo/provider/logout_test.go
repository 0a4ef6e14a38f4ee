package provider_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

// TestEndSession sends somebody to where the application wants them after a logout, and nowhere else.
func TestEndSession(t *testing.T) {
	t.Parallel()
	p, issuer := serve(t)
	const landing = "http://127.0.0.1:8080/oauth2/logged-out"
	p.Register(provider.Application{ID: "web", Secret: "s5", PostLogoutRedirectURIs: []string{landing}})
	query := url.Values{"client_id": {"web"}, "post_logout_redirect_uri": {landing}, "state": {"s"}}
	if target := redirect(t, http.MethodGet, issuer+"/end_session?"+query.Encode(), nil); target.String() != landing+"?state=s" {
		t.Errorf("sent to %s", target)
	}
	query.Set("post_logout_redirect_uri", "http://127.0.0.1:8080/elsewhere")
	if a := send(t, http.MethodGet, issuer+"/end_session?"+query.Encode(), nil); a.status != http.StatusBadRequest {
		t.Errorf("to where nobody has registered: %d, to %v", a.status, a.location)
	}
}

// TestSignOut has the applications told of a logout that have asked for it, by a token that the provider has signed.
func TestSignOut(t *testing.T) {
	t.Parallel()
	p, issuer := serve(t)
	status, tokens := http.StatusOK, []string(nil)
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.PostFormValue("logout_token"))
		w.WriteHeader(status)
	}))
	t.Cleanup(application.Close)
	p.Register(provider.Application{ID: "web", Secret: "s5", BackchannelLogoutURI: application.URL})
	p.Register(provider.Application{ID: "other", Secret: "s6"})
	alice := provider.People()[0]

	if a := send(t, http.MethodPost, issuer+provider.SignOutPath, url.Values{"person": {alice.Username}}); a.status != http.StatusOK {
		t.Fatalf("signing alice out: %d %s", a.status, a.body)
	}
	if len(tokens) != 1 {
		t.Fatalf("%d tokens were sent, want one", len(tokens))
	}
	_, c := claims(t, issuer, tokens[0])
	events, _ := c["events"].(map[string]any)
	_, ok := events["http://schemas.openid.net/event/backchannel-logout"]
	if !ok || c["sub"] != alice.Subject || c["iss"] != issuer || c["jti"] == "" {
		t.Errorf("the token says %v", c)
	}
	if audience, _ := c["aud"].([]any); !slices.Equal(audience, []any{"web"}) {
		t.Errorf("the token is for %v", c["aud"])
	}

	status = http.StatusBadRequest
	if err := p.SignOut(t.Context(), alice.Subject); err == nil || !strings.Contains(err.Error(), "telling web of a logout") {
		t.Errorf("an application that refuses: %v", err)
	}
	for person, want := range map[string]int{alice.Username: http.StatusBadGateway, "nobody": http.StatusNotFound} {
		if a := send(t, http.MethodPost, issuer+provider.SignOutPath, url.Values{"person": {person}}); a.status != want {
			t.Errorf("signing %s out: %d, want %d", person, a.status, want)
		}
	}
}
