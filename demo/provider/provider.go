// Package provider is a small OpenID provider for the demo and for tests: the op package of zitadel/oidc, with everything
// kept in memory. Its tokens, keys, metadata and introspection answers are those of a provider that people run; only
// who may ask for what is decided here, and the page where people log in.
package provider

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// Client is a service that fetches access tokens for itself, with the client credentials grant.
type Client struct {
	ID     string
	Secret string

	// Scopes are the ones it may have. It gets those of them that it asks for, or all of them if it asks for none.
	Scopes []string

	// Audience goes into the tokens as aud.
	Audience []string

	// Opaque tokens mean something only to the introspection endpoint; the others are signed JWTs.
	Opaque bool
}

// Resource is an API that may ask the introspection endpoint about the tokens that are meant for it.
type Resource struct {
	ClientID string
	Secret   string

	// Audience is the aud by which tokens name this API.
	Audience string
}

// Options is what a provider is made of.
type Options struct {
	// Issuer is the URL under which the provider is reached. It may be http, and should then be a loopback address.
	Issuer string

	Clients   []Client
	Resources []Resource

	// Lifetime is that of access tokens. Default: 1h
	Lifetime time.Duration
}

// Provider is an OpenID provider, served as an http.Handler.
type Provider struct {
	http.Handler
	storage *storage
}

// Register adds an application, or replaces the one with its ID.
func (p *Provider) Register(a Application) { p.storage.register(a) }

// Renewals counts what came of refresh tokens.
func (p *Provider) Renewals() Renewals { return p.storage.grants.count() }

// SignOut tells the applications that a person has signed out here, by the back-channel. Their sessions of that person end.
func (p *Provider) SignOut(ctx context.Context, subject string) error {
	return p.storage.signOut(ctx, subject)
}

// TakeBack ends all that a person has granted to applications, as when the account is disabled.
func (p *Provider) TakeBack(subject string) { p.storage.takeBack(subject) }

// New makes a provider with a fresh signing key.
func New(opts Options) (*Provider, error) {
	if opts.Lifetime == 0 {
		opts.Lifetime = time.Hour
	}
	keys, err := newKeyRing()
	if err != nil {
		return nil, err
	}
	store := newStorage(opts, keys)

	config := &op.Config{
		CodeMethodS256:        true,
		AuthMethodPost:        true,
		GrantTypeRefreshToken: true,
		SupportedScopes:       store.scopes(),
	}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, fmt.Errorf("making the key for opaque tokens: %w", err)
	}
	library, err := op.NewProvider(config, store, op.StaticIssuer(opts.Issuer), op.WithAllowInsecure())
	if err != nil {
		return nil, fmt.Errorf("making the provider: %w", err)
	}
	page := &loginPage{issuer: opts.Issuer, people: People(), logins: store.logins, library: library}
	mux := http.NewServeMux()
	mux.Handle("/", library)
	mux.HandleFunc("GET "+loginPath, page.show)
	mux.HandleFunc("POST "+loginPath, page.finish)
	mux.HandleFunc("POST "+SignOutPath, store.serveSignOut)
	return &Provider{Handler: mux, storage: store}, nil
}

// Rotate makes a new signing key and signs with it from now on. The keys before it stay published, as tokens that they
// signed are still around.
func (p *Provider) Rotate() error {
	return p.storage.keys.rotate()
}
