package provider

import (
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// granted returns the scopes that the client gets when it asks for these.
func (c Client) granted(asked []string) []string {
	if len(asked) == 0 {
		return c.Scopes
	}
	return slices.DeleteFunc(slices.Clone(asked), func(scope string) bool {
		return !slices.Contains(c.Scopes, scope)
	})
}

// confidentialClient is what all clients here have in common: they keep a secret.
type confidentialClient struct{}

func (confidentialClient) ApplicationType() op.ApplicationType  { return op.ApplicationTypeWeb }
func (confidentialClient) AuthMethod() oidc.AuthMethod          { return oidc.AuthMethodBasic }
func (confidentialClient) PostLogoutRedirectURIs() []string     { return nil }
func (confidentialClient) IDTokenLifetime() time.Duration       { return time.Hour }
func (confidentialClient) IDTokenUserinfoClaimsAssertion() bool { return false }
func (confidentialClient) DevMode() bool                        { return false }
func (confidentialClient) ClockSkew() time.Duration             { return 0 }

func (confidentialClient) RestrictAdditionalIdTokenScopes() func([]string) []string { return allScopes }

func (confidentialClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return allScopes
}

func allScopes(scopes []string) []string { return scopes }

// serviceClient shows a Client to the library as one that has the client credentials grant and no login.
type serviceClient struct {
	Client
	confidentialClient
}

func (c serviceClient) GetID() string                      { return c.ID }
func (c serviceClient) ResponseTypes() []oidc.ResponseType { return nil }
func (c serviceClient) RedirectURIs() []string             { return nil }
func (c serviceClient) LoginURL(string) string             { return "" }
func (c serviceClient) IsScopeAllowed(scope string) bool   { return slices.Contains(c.Scopes, scope) }

func (c serviceClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

func (c serviceClient) AccessTokenType() op.AccessTokenType {
	if c.Opaque {
		return op.AccessTokenTypeBearer
	}
	return op.AccessTokenTypeJWT
}

// tokenRequest is what a Client asked for and is granted.
type tokenRequest struct {
	client Client
	scopes []string
}

func (r *tokenRequest) GetSubject() string    { return r.client.ID }
func (r *tokenRequest) GetClientID() string   { return r.client.ID }
func (r *tokenRequest) GetAudience() []string { return r.client.Audience }
func (r *tokenRequest) GetScopes() []string   { return r.scopes }

// Interface guards
var (
	_ op.Client       = serviceClient{}
	_ op.TokenRequest = (*tokenRequest)(nil)
)
