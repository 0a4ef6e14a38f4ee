package provider

import (
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Application is a web application that people log in to, with the authorization code flow. Its ID tokens tell who somebody is and
// the groups; name and email address have to be asked for at the userinfo endpoint.
type Application struct {
	ID     string
	Secret string

	// RedirectURIs are where people may be sent after a login, compared as text.
	RedirectURIs []string

	// PostLogoutRedirectURIs are where they may be sent after a logout.
	PostLogoutRedirectURIs []string

	// BackchannelLogoutURI is where the application wants to be told of logouts.
	BackchannelLogoutURI string

	// Scopes are those that it may have beside openid, profile, email and offline_access.
	Scopes []string

	// TokenLifetime is that of its access tokens. Default: that of the provider
	TokenLifetime time.Duration
}

// webClient shows an Application to the library.
type webClient struct {
	Application
	confidentialClient

	issuer string
}

func (c webClient) GetID() string          { return c.ID }
func (c webClient) RedirectURIs() []string { return c.Application.RedirectURIs }
func (c webClient) PostLogoutRedirectURIs() []string {
	return c.Application.PostLogoutRedirectURIs
}

func (c webClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c webClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}

func (c webClient) LoginURL(id string) string           { return loginURL(c.issuer, id) }
func (c webClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }
func (c webClient) IsScopeAllowed(scope string) bool    { return slices.Contains(c.Scopes, scope) }

// Interface guard
var _ op.Client = webClient{}
