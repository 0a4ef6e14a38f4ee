package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/crypto"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

// SignOutPath is where a person is signed out of all applications, as an administrator or the person would do it in a console: by a
// POST with the username as person. This is a demo, so anybody may.
const SignOutPath = "/sign-out"

const (
	// logoutTokenLifetime is how long an application may take to look at a logout token.
	logoutTokenLifetime = 2 * time.Minute
	// logoutTimeout is how long it may take to answer.
	logoutTimeout = 10 * time.Second
)

// signOut sends a logout token to each application that wants to be told (OpenID Connect Back-Channel Logout 1.0). The library knows these
// tokens, but leaves it to its users to send them.
func (s *storage) signOut(ctx context.Context, subject string) error {
	s.mu.Lock()
	var wanted []Application
	for _, a := range s.applications {
		if a.BackchannelLogoutURI != "" {
			wanted = append(wanted, a)
		}
	}
	s.mu.Unlock()
	var failed []error
	for _, a := range wanted {
		if err := s.tellLogout(ctx, a, subject); err != nil {
			failed = append(failed, fmt.Errorf("telling %s of a logout: %w", a.ID, err))
		}
	}
	return errors.Join(failed...)
}

func (s *storage) tellLogout(ctx context.Context, a Application, subject string) error {
	key := s.keys.current()
	options := (&jose.SignerOptions{}).WithType("logout+jwt")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: signingAlgorithm, Key: jose.JSONWebKey{Key: key.private, KeyID: key.id}}, options)
	if err != nil {
		return err
	}
	expires := time.Now().Add(logoutTokenLifetime)
	token, err := crypto.Sign(oidc.NewLogoutTokenClaims(s.issuer, subject, oidc.Audience{a.ID}, expires, rand.Text(), "", 0), signer)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, logoutTimeout)
	defer cancel()
	form := url.Values{"logout_token": {token}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.BackchannelLogoutURI, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered %s", answer.Status)
	}
	return nil
}

func (s *storage) serveSignOut(w http.ResponseWriter, r *http.Request) {
	for _, person := range s.people {
		if person.Username != r.PostFormValue("person") {
			continue
		}
		if err := s.signOut(r.Context(), person.Subject); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "%s is signed out of all applications\n", person.Username)
		return
	}
	http.Error(w, "nobody has that username", http.StatusNotFound)
}
