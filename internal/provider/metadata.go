package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// TenantPlaceholder stands in the issuer of providers that publish one document for many tenants (Microsoft Entra).
const TenantPlaceholder = "{tenantid}"

// Metadata is the provider's metadata (OpenID Connect Discovery section 3, RFC 8414 section 2) with the configured overrides.
type Metadata struct {
	Issuer string
	Endpoints
}

// discover fetches and checks the metadata document: at the configured place, or at the two that are derived from the issuer.
func (p *Provider) discover(ctx context.Context) (*Metadata, error) {
	if p.config.Discovery != "" {
		_, body, err := p.get(ctx, "discovery", p.config.Discovery)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDiscovery, err)
		}
		return p.parseMetadata(body, p.config.Discovery)
	}
	address := strings.TrimSuffix(p.config.Issuer, "/") + "/.well-known/openid-configuration"
	_, body, err := p.get(ctx, "discovery", address)
	if call, ok := errors.AsType[*callError](err); ok && call.status == http.StatusNotFound {
		if address, err = authorizationServerMetadataURL(p.config.Issuer); err == nil {
			_, body, err = p.get(ctx, "discovery", address)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiscovery, err)
	}
	return p.parseMetadata(body, address)
}

// authorizationServerMetadataURL inserts the well-known part between host and path (RFC 8414 section 3.1).
func authorizationServerMetadataURL(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", errors.New("the issuer is not a URL")
	}
	return u.Scheme + "://" + u.Host + "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

// parseMetadata reads the document that came from address and checks that it speaks for the configured issuer.
func (p *Provider) parseMetadata(body []byte, address string) (*Metadata, error) {
	document, err := jose.ParseObject(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: the answer is not a JSON object without duplicate members", ErrDiscovery)
	}
	issuer, _ := document["issuer"].(string)
	if issuer == "" {
		return nil, fmt.Errorf("%w: the metadata names no issuer", ErrIssuerMismatch)
	}
	if p.config.Issuer != "" && issuer != p.config.Issuer {
		return nil, fmt.Errorf("%w: expected issuer %q, got %q", ErrIssuerMismatch, p.config.Issuer, issuer)
	}
	if strings.Contains(issuer, TenantPlaceholder) && !p.config.TenantTemplate {
		return nil, fmt.Errorf("%w: the issuer %q stands for every tenant; tenants must list the allowed ones", ErrIssuerMismatch, issuer)
	}
	metadata := &Metadata{Issuer: issuer}
	for _, endpoint := range []struct {
		name     string
		target   *string
		override string
	}{
		{"authorization_endpoint", &metadata.Authorization, p.config.Endpoints.Authorization},
		{"token_endpoint", &metadata.Token, p.config.Endpoints.Token},
		{"userinfo_endpoint", &metadata.Userinfo, p.config.Endpoints.Userinfo},
		{"jwks_uri", &metadata.JWKSURI, p.config.Endpoints.JWKSURI},
		{"introspection_endpoint", &metadata.Introspection, p.config.Endpoints.Introspection},
		{"revocation_endpoint", &metadata.Revocation, p.config.Endpoints.Revocation},
		{"end_session_endpoint", &metadata.EndSession, p.config.Endpoints.EndSession},
		{"pushed_authorization_request_endpoint", &metadata.PushedAuthorizationRequest, p.config.Endpoints.PushedAuthorizationRequest},
	} {
		if *endpoint.target = endpoint.override; endpoint.override != "" {
			continue
		}
		value, ok := document[endpoint.name].(string)
		if !ok || value == "" {
			continue
		}
		if err := checkDiscovered(value, address); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDiscovery, endpoint.name, err)
		}
		*endpoint.target = value
	}
	return metadata, nil
}

func hasScheme(address, scheme string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == scheme
}

// checkDiscovered refuses endpoints that would give away what the connection to the metadata itself protected.
func checkDiscovered(endpoint, address string) error {
	if err := CheckURL(endpoint); err != nil {
		return err
	}
	if hasScheme(address, "https") && !hasScheme(endpoint, "https") {
		return fmt.Errorf("%q is not https, although the metadata came over https", endpoint)
	}
	return nil
}
