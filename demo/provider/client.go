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

// serviceClient shows a Client to the library as one that has the client credentials grant and no login.
type serviceClient struct{ Client }

func (c serviceClient) GetID() string                        { return c.ID }
func (c serviceClient) ApplicationType() op.ApplicationType  { return op.ApplicationTypeWeb }
func (c serviceClient) AuthMethod() oidc.AuthMethod          { return oidc.AuthMethodBasic }
func (c serviceClient) ResponseTypes() []oidc.ResponseType   { return nil }
func (c serviceClient) RedirectURIs() []string               { return nil }
func (c serviceClient) PostLogoutRedirectURIs() []string     { return nil }
func (c serviceClient) LoginURL(string) string               { return "" }
func (c serviceClient) IDTokenLifetime() time.Duration       { return time.Hour }
func (c serviceClient) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c serviceClient) DevMode() bool                        { return false }
func (c serviceClient) ClockSkew() time.Duration             { return 0 }
func (c serviceClient) IsScopeAllowed(scope string) bool     { return slices.Contains(c.Scopes, scope) }

func (c serviceClient) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeClientCredentials}
}

func (c serviceClient) AccessTokenType() op.AccessTokenType {
	if c.Opaque {
		return op.AccessTokenTypeBearer
	}
	return op.AccessTokenTypeJWT
}

func (c serviceClient) RestrictAdditionalIdTokenScopes() func([]string) []string { return allScopes }

func (c serviceClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return allScopes
}

func allScopes(scopes []string) []string { return scopes }

// tokenRequest is what a Client asked for and is granted.
type tokenRequest struct {
	client Client
	scopes []string
}

func (r *tokenRequest) GetSubject() string    { return r.client.ID }
func (r *tokenRequest) GetAudience() []string { return r.client.Audience }
func (r *tokenRequest) GetScopes() []string   { return r.scopes }

// Interface guards
var (
	_ op.Client       = serviceClient{}
	_ op.TokenRequest = (*tokenRequest)(nil)
)
