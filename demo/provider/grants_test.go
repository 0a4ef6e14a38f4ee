package provider_test

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

// offline logs alice in to an application that may go on without her.
func offline(t *testing.T) (*provider.Provider, oauth2.Config, *oauth2.Token) {
	t.Helper()
	p, issuer := serve(t)
	p.Register(provider.Application{
		ID: "web", Secret: "s5", RedirectURIs: []string{redirectURI}, Scopes: []string{"groups"}, TokenLifetime: time.Minute,
	})
	c := oauth2.Config{
		ClientID: "web", ClientSecret: "s5", RedirectURL: redirectURI, Scopes: []string{"openid", "groups", "offline_access"},
		Endpoint: oauth2.Endpoint{AuthURL: issuer + "/authorize", TokenURL: issuer + "/oauth/token", AuthStyle: oauth2.AuthStyleInHeader},
	}
	verifier := oauth2.GenerateVerifier()
	response := logIn(t, c, c.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)), url.Values{"person": {"alice"}})
	tokens, err := c.Exchange(t.Context(), response.Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.RefreshToken == "" {
		t.Fatal("no refresh token")
	}
	return p, c, tokens
}

// renew uses a refresh token; code is the error code of the refusal, if it is one.
func renew(t *testing.T, c oauth2.Config, refreshToken string) (tokens *oauth2.Token, code string) {
	t.Helper()
	tokens, err := c.TokenSource(t.Context(), &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err == nil {
		return tokens, ""
	}
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		t.Error(err)
		return nil, "no answer"
	}
	return nil, refused.ErrorCode
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	p, c, tokens := offline(t)
	if tokens.ExpiresIn < 50 || tokens.ExpiresIn > 60 {
		t.Errorf("the access token lives for %d s", tokens.ExpiresIn)
	}
	renewed, code := renew(t, c, tokens.RefreshToken)
	if code != "" {
		t.Fatalf("refused: %s", code)
	}
	if renewed.RefreshToken == tokens.RefreshToken || renewed.AccessToken == tokens.AccessToken {
		t.Error("the tokens are the old ones")
	}
	_, first := claims(t, issuerOf(c), tokens.Extra("id_token").(string))
	_, second := claims(t, issuerOf(c), renewed.Extra("id_token").(string))
	if second["sub"] != first["sub"] || second["auth_time"] != first["auth_time"] || second["nonce"] != nil || second["groups"] == nil {
		t.Errorf("claims of the new ID token: %v", second)
	}
	if info := userinfo(t, issuerOf(c), renewed.AccessToken); info["sub"] != person(t, "alice").Subject {
		t.Errorf("userinfo: %v", info)
	}
	if got := p.Renewals(); got != (provider.Renewals{Granted: 1}) {
		t.Errorf("counted %+v", got)
	}
}

// TestReuse uses a refresh token once, which is good, and then again: that ends the token that took its place too.
func TestReuse(t *testing.T) {
	t.Parallel()
	p, c, tokens := offline(t)
	renewed, code := renew(t, c, tokens.RefreshToken)
	if code != "" {
		t.Fatalf("refused: %s", code)
	}
	for _, token := range []string{tokens.RefreshToken, renewed.RefreshToken} {
		if _, code := renew(t, c, token); code != "invalid_grant" {
			t.Errorf("got %q, want invalid_grant", code)
		}
	}
	if got := p.Renewals(); got != (provider.Renewals{Granted: 1, Reused: 1}) {
		t.Errorf("counted %+v", got)
	}
}

// TestParallelRenewal: of two that use one token only one gets the next.
func TestParallelRenewal(t *testing.T) {
	t.Parallel()
	p, c, tokens := offline(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { renew(t, c, tokens.RefreshToken) })
	}
	all.Wait()
	if got := p.Renewals(); got.Granted != 1 || got.Reused == 0 {
		t.Errorf("counted %+v", got)
	}
}

func TestRefusedRenewal(t *testing.T) {
	t.Parallel()
	p, c, tokens := offline(t)
	other := c
	other.ClientID = "other"
	p.Register(provider.Application{ID: "other", Secret: "s5", RedirectURIs: []string{redirectURI}})
	if _, code := renew(t, other, tokens.RefreshToken); code != "invalid_grant" {
		t.Errorf("another application: got %q", code)
	}
	if _, code := renew(t, c, "nonsense"); code != "invalid_grant" {
		t.Errorf("made up: got %q", code)
	}
	renewed, code := renew(t, c, tokens.RefreshToken)
	if code != "" {
		t.Fatalf("refused: %s", code)
	}
	p.TakeBack(person(t, "bob").Subject)
	if renewed, code = renew(t, c, renewed.RefreshToken); code != "" {
		t.Fatalf("after bob's were taken back: %s", code)
	}
	p.TakeBack(person(t, "alice").Subject)
	if _, code := renew(t, c, renewed.RefreshToken); code != "invalid_grant" {
		t.Errorf("taken back: got %q", code)
	}
}

func TestRevokedRefreshToken(t *testing.T) {
	t.Parallel()
	_, c, tokens := offline(t)
	form := url.Values{"token": {tokens.RefreshToken}, "client_id": {"web"}, "client_secret": {"s5"}}
	if a := send(t, http.MethodPost, issuerOf(c)+"/revoke", form); a.status != http.StatusOK {
		t.Fatalf("revoking: %d %s", a.status, a.body)
	}
	if _, code := renew(t, c, tokens.RefreshToken); code != "invalid_grant" {
		t.Errorf("got %q, want invalid_grant", code)
	}
}
