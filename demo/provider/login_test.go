package provider_test

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

const redirectURI = "http://127.0.0.1:8080/oauth2/callback"

// application is a client of a new provider, as far as a login is concerned.
func application(t *testing.T) oauth2.Config {
	t.Helper()
	p, issuer := serve(t)
	p.Register(provider.Application{ID: "web", Secret: "s5", RedirectURIs: []string{redirectURI}, Scopes: []string{"groups"}})
	return oauth2.Config{
		ClientID:     "web",
		ClientSecret: "s5",
		RedirectURL:  redirectURI,
		Scopes:       []string{"openid", "profile", "email", "groups", "orders:read"},
		Endpoint: oauth2.Endpoint{
			AuthURL:   issuer + "/authorize",
			TokenURL:  issuer + "/oauth/token",
			AuthStyle: oauth2.AuthStyleInHeader,
		},
	}
}

func issuerOf(c oauth2.Config) string { return strings.TrimSuffix(c.Endpoint.AuthURL, "/authorize") }

// answer is what a request got.
type answer struct {
	status   int
	location *url.URL // nil unless it redirects
	body     string
}

// send makes a request and follows no redirect.
func send(t *testing.T, method, target string, form url.Values) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	location, err := resp.Location()
	if err != nil && !errors.Is(err, http.ErrNoLocation) {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, location, string(body)}
}

// redirect is send for what redirects.
func redirect(t *testing.T, method, target string, form url.Values) *url.URL {
	t.Helper()
	a := send(t, method, target, form)
	if a.location == nil {
		t.Fatalf("%s %s: %d and no redirect\n%s", method, target, a.status, a.body)
	}
	return a.location
}

var hiddenLogin = regexp.MustCompile(`<input type="hidden" name="login" value="([^"]+)">`)

// openLogin follows an authorization request to the login page and returns the ID of the login.
func openLogin(t *testing.T, authorization string) string {
	t.Helper()
	page := send(t, http.MethodGet, redirect(t, http.MethodGet, authorization, nil).String(), nil)
	match := hiddenLogin.FindStringSubmatch(page.body)
	if page.status != http.StatusOK || match == nil {
		t.Fatalf("the login page: %d\n%s", page.status, page.body)
	}
	for _, name := range []string{"Alice", "Bob"} {
		if !strings.Contains(page.body, "Sign in as "+name) {
			t.Errorf("the login page has no button for %s", name)
		}
	}
	return match[1]
}

// logIn presses a button of the login page and returns the parameters of the authorization response.
func logIn(t *testing.T, c oauth2.Config, authorization string, button url.Values) url.Values {
	t.Helper()
	form := url.Values{"login": {openLogin(t, authorization)}}
	maps.Copy(form, button)
	target := redirect(t, http.MethodPost, issuerOf(c)+"/login", form)
	if strings.HasPrefix(target.String(), issuerOf(c)) {
		target = redirect(t, http.MethodGet, target.String(), nil)
	}
	if got, _, _ := strings.Cut(target.String(), "?"); got != redirectURI {
		t.Fatalf("the login ends at %s", got)
	}
	return target.Query()
}

func TestLogin(t *testing.T) {
	t.Parallel()
	c := application(t)
	verifier := oauth2.GenerateVerifier()
	response := logIn(t, c, c.AuthCodeURL("s1", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", "n1")),
		url.Values{"person": {"alice"}})
	if response.Get("state") != "s1" {
		t.Errorf("state = %q", response.Get("state"))
	}
	tokens, err := c.Exchange(t.Context(), response.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.RefreshToken != "" {
		t.Error("there is a refresh token")
	}

	_, id := claims(t, issuerOf(c), tokens.Extra("id_token").(string))
	alice := person(t, "alice")
	if id["iss"] != issuerOf(c) || id["sub"] != alice.Subject || id["nonce"] != "n1" || id["azp"] != "web" || id["at_hash"] == nil {
		t.Errorf("claims of the ID token: %v", id)
	}
	if aud, ok := id["aud"].([]any); !ok || !slices.Equal(aud, []any{"web"}) {
		t.Errorf("aud = %v", id["aud"])
	}
	if groups, ok := id["groups"].([]any); !ok || !slices.Equal(groups, []any{"staff", "admins"}) {
		t.Errorf("groups in the ID token = %v", id["groups"])
	}
	if id["name"] != nil || id["email"] != nil {
		t.Error("the ID token says what is for the userinfo endpoint to say")
	}

	info := userinfo(t, issuerOf(c), tokens.AccessToken)
	if info["sub"] != alice.Subject || info["name"] != alice.Name || info["email"] != alice.Email {
		t.Errorf("userinfo: %v", info)
	}
}

func person(t *testing.T, username string) provider.Person {
	t.Helper()
	people := provider.People()
	i := slices.IndexFunc(people, func(p provider.Person) bool { return p.Username == username })
	if i < 0 {
		t.Fatalf("%s has no account", username)
	}
	return people[i]
}

func userinfo(t *testing.T, issuer, token string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var info map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		t.Fatal(err)
	}
	return info
}

func TestScopesOfLogin(t *testing.T) {
	t.Parallel()
	c := application(t)
	for _, test := range []struct {
		asked []string
		want  map[string]bool // claims of userinfo
	}{
		{[]string{"openid"}, map[string]bool{"name": false, "email": false, "groups": false}},
		{[]string{"openid", "email"}, map[string]bool{"name": false, "email": true, "groups": false}},
		{[]string{"openid", "groups"}, map[string]bool{"name": false, "email": false, "groups": true}},
	} {
		t.Run(strings.Join(test.asked, " "), func(t *testing.T) {
			t.Parallel()
			c := c
			c.Scopes = test.asked
			response := logIn(t, c, c.AuthCodeURL("s"), url.Values{"person": {"bob"}})
			tokens, err := c.Exchange(t.Context(), response.Get("code"))
			if err != nil {
				t.Fatal(err)
			}
			info := userinfo(t, issuerOf(c), tokens.AccessToken)
			for claim, want := range test.want {
				if got := info[claim] != nil; got != want {
					t.Errorf("%s is told: %t, want %t", claim, got, want)
				}
			}
		})
	}
}

// TestCode first shows a code that is exchanged, and then what spoils one.
func TestCode(t *testing.T) {
	t.Parallel()
	c := application(t)
	verifier := oauth2.GenerateVerifier()
	newCode := func(t *testing.T) string {
		t.Helper()
		return logIn(t, c, c.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), url.Values{"person": {"bob"}}).Get("code")
	}
	code := newCode(t)
	if _, err := c.Exchange(t.Context(), code, oauth2.VerifierOption(verifier)); err != nil {
		t.Fatalf("a good code: %v", err)
	}

	wrongSecret := c
	wrongSecret.ClientSecret = "s1"
	elsewhere := c
	elsewhere.RedirectURL = "http://127.0.0.1:8080/elsewhere"
	for _, test := range []struct {
		name, code, verifier, want string
		client                     oauth2.Config
	}{
		{"used before", code, verifier, "invalid_grant", c},
		{"made up", "nonsense", verifier, "invalid_grant", c},
		{"another verifier", newCode(t), oauth2.GenerateVerifier(), "invalid_grant", c},
		{"wrong secret", newCode(t), verifier, "invalid_client", wrongSecret},
		{"another redirect URI", newCode(t), verifier, "invalid_grant", elsewhere},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := test.client.Exchange(t.Context(), test.code, oauth2.VerifierOption(test.verifier))
			refused, ok := errors.AsType[*oauth2.RetrieveError](err)
			if !ok || refused.ErrorCode != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestCodeIsSpentByRefusal tries the right verifier after a wrong one.
func TestCodeIsSpentByRefusal(t *testing.T) {
	t.Parallel()
	c := application(t)
	verifier := oauth2.GenerateVerifier()
	response := logIn(t, c, c.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), url.Values{"person": {"bob"}})
	for _, v := range []string{oauth2.GenerateVerifier(), verifier} {
		if _, err := c.Exchange(t.Context(), response.Get("code"), oauth2.VerifierOption(v)); err == nil {
			t.Error("the code was exchanged")
		}
	}
}

func TestCancelledLogin(t *testing.T) {
	t.Parallel()
	c := application(t)
	response := logIn(t, c, c.AuthCodeURL("s2"), url.Values{"cancel": {"1"}})
	if response.Get("error") != "access_denied" || response.Get("state") != "s2" || response.Has("code") {
		t.Errorf("the application is told %v", response)
	}
}

func TestNoLoginWithoutPage(t *testing.T) {
	t.Parallel()
	c := application(t)
	back := redirect(t, http.MethodGet, c.AuthCodeURL("s3", oauth2.SetAuthURLParam("prompt", "none")), nil)
	if got := back.Query(); got.Get("error") != "login_required" || got.Get("state") != "s3" {
		t.Errorf("the application is told %v", got)
	}
}

func TestRefusedWithoutRedirect(t *testing.T) {
	t.Parallel()
	c := application(t)
	known := openLogin(t, c.AuthCodeURL("s"))
	elsewhere := c
	elsewhere.RedirectURL = "http://127.0.0.1:8080/elsewhere"
	nobody := c
	nobody.ClientID = "nobody"
	service := c
	service.ClientID = "reader"
	for _, test := range []struct {
		name, method, target string
		form                 url.Values
	}{
		{"redirect URI that is not registered", http.MethodGet, elsewhere.AuthCodeURL("s"), nil},
		{"unknown application", http.MethodGet, nobody.AuthCodeURL("s"), nil},
		{"service that has no login", http.MethodGet, service.AuthCodeURL("s"), nil},
		{"page of an unknown login", http.MethodGet, issuerOf(c) + "/login?login=nonsense", nil},
		{"answer to an unknown login", http.MethodPost, issuerOf(c) + "/login", url.Values{"login": {"x"}, "person": {"alice"}}},
		{"person without an account", http.MethodPost, issuerOf(c) + "/login", url.Values{"login": {known}, "person": {"mallory"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if a := send(t, test.method, test.target, test.form); a.status != http.StatusBadRequest || a.location != nil {
				t.Errorf("got %d and the location %v", a.status, a.location)
			}
		})
	}
}

// TestApplicationIsNoService asks for a token without a person.
func TestApplicationIsNoService(t *testing.T) {
	t.Parallel()
	c := application(t)
	_, err := fetch(t.Context(), issuerOf(c), c.ClientID, c.ClientSecret)
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || refused.ErrorCode != "invalid_client" {
		t.Errorf("got %v, want invalid_client", err)
	}
}
