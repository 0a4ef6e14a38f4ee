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

	// What the provider says it supports; empty where it says nothing.
	IDTokenSigningAlgs []string
	PromptValues       []string
	ResponseModes      []string
	TokenAuthMethods   []string

	// IssParameterSupported promises an iss in every authorization response (RFC 9207).
	IssParameterSupported bool
	// RequiresPAR says that authorization requests must be pushed (RFC 9126).
	RequiresPAR bool

	// mutualTLS are the endpoints for a client that authenticates with its certificate (RFC 8705 section 5).
	mutualTLS Endpoints
}

var errNoDocument = errors.New("the answer is not a JSON object without duplicate members")

// maxMetadataList bounds the lists that are kept of the metadata.
const maxMetadataList = 256

// endpointsFor returns the endpoints that a client uses when it authenticates.
func (m *Metadata) endpointsFor(client *ClientAuthentication) *Endpoints {
	if client.usesCertificate() {
		return &m.mutualTLS
	}
	return &m.Endpoints
}

// discover fetches and checks the metadata document: at the configured place, or at the two that are derived from the issuer.
func (p *Provider) discover(ctx context.Context) (*Metadata, error) {
	address, _, body, err := p.fetchDocument(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiscovery, err)
	}
	return p.parseMetadata(body, address)
}

// fetchDocument fetches the metadata document: from the configured place, or from those that are derived from the issuer.
func (p *Provider) fetchDocument(ctx context.Context) (address string, header http.Header, body []byte, err error) {
	addresses := []string{p.config.Discovery}
	if p.config.Discovery == "" {
		addresses = MetadataURLs(p.config.Issuer)
	}
	for i, at := range addresses {
		gotHeader, gotBody, gotErr := p.get(ctx, "discovery", at)
		call, ok := errors.AsType[*callError](gotErr)
		absent := ok && call.status == http.StatusNotFound
		if i == 0 || !absent { // where there is nothing in either place, the first is the one that people know
			address, header, body, err = at, gotHeader, gotBody, gotErr
		}
		if !absent {
			break
		}
	}
	return address, header, body, err
}

// MetadataURLs returns where the metadata of an issuer is looked for: as OpenID Connect Discovery section 4 has it, then as RFC 8414
// section 3.1 has it, which inserts the well-known part between host and path.
func MetadataURLs(issuer string) []string {
	issuer = strings.TrimSuffix(issuer, "/")
	addresses := []string{issuer + "/.well-known/openid-configuration"}
	if u, err := url.Parse(issuer); err == nil {
		addresses = append(addresses, u.Scheme+"://"+u.Host+"/.well-known/oauth-authorization-server"+u.EscapedPath())
	}
	return addresses
}

// parseMetadata reads the document that came from address and checks that it speaks for the configured issuer.
func (p *Provider) parseMetadata(body []byte, address string) (*Metadata, error) {
	document, err := jose.ParseObject(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiscovery, errNoDocument)
	}
	issuer, _ := document["issuer"].(string)
	if issuer == "" {
		return nil, fmt.Errorf("%w: the metadata names no issuer", ErrIssuerMismatch)
	}
	if p.config.Issuer != "" && issuer != p.config.Issuer {
		return nil, fmt.Errorf("%w: expected issuer %q, got %q%s", ErrIssuerMismatch, p.config.Issuer, issuer, slashHint(p.config.Issuer, issuer))
	}
	if strings.Contains(issuer, TenantPlaceholder) && !p.config.TenantTemplate {
		return nil, fmt.Errorf("%w: the issuer %q stands for every tenant; tenants must list the allowed ones", ErrIssuerMismatch, issuer)
	}
	metadata := &Metadata{
		Issuer:             issuer,
		IDTokenSigningAlgs: listOf(document, "id_token_signing_alg_values_supported"),
		PromptValues:       listOf(document, "prompt_values_supported"),
		ResponseModes:      listOf(document, "response_modes_supported"),
		TokenAuthMethods:   listOf(document, "token_endpoint_auth_methods_supported"),

		IssParameterSupported: document["authorization_response_iss_parameter_supported"] == true,
		RequiresPAR:           document["require_pushed_authorization_requests"] == true,
	}
	if err := p.readEndpoints(metadata, document, address); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDiscovery, err)
	}
	return metadata, nil
}

// readEndpoints takes each endpoint from the configuration, else from the document.
func (p *Provider) readEndpoints(metadata *Metadata, document map[string]any, address string) error {
	aliases, _ := document["mtls_endpoint_aliases"].(map[string]any)
	configured := &p.config.Endpoints
	for _, endpoint := range []struct {
		name     string
		target   *string
		override string
		alias    *string // for mutual TLS; nil where the client does not authenticate
	}{
		{"authorization_endpoint", &metadata.Authorization, configured.Authorization, nil},
		{"token_endpoint", &metadata.Token, configured.Token, &metadata.mutualTLS.Token},
		{"userinfo_endpoint", &metadata.Userinfo, configured.Userinfo, nil},
		{"jwks_uri", &metadata.JWKSURI, configured.JWKSURI, nil},
		{"introspection_endpoint", &metadata.Introspection, configured.Introspection, &metadata.mutualTLS.Introspection},
		{"revocation_endpoint", &metadata.Revocation, configured.Revocation, &metadata.mutualTLS.Revocation},
		{"end_session_endpoint", &metadata.EndSession, configured.EndSession, nil},
		{
			"pushed_authorization_request_endpoint", &metadata.PushedAuthorizationRequest, configured.PushedAuthorizationRequest,
			&metadata.mutualTLS.PushedAuthorizationRequest,
		},
	} {
		var err error
		if *endpoint.target, err = endpointOf(document, endpoint.name, endpoint.override, address); err != nil {
			return err
		}
		if endpoint.alias == nil {
			continue
		}
		if *endpoint.alias, err = endpointOf(aliases, endpoint.name, endpoint.override, address); err != nil {
			return fmt.Errorf("mtls_endpoint_aliases: %w", err)
		}
		if *endpoint.alias == "" {
			*endpoint.alias = *endpoint.target
		}
	}
	return nil
}

// endpointOf returns the configured URL of an endpoint, else the one that the document names, or "".
func endpointOf(document map[string]any, name, override, address string) (string, error) {
	if override != "" {
		return override, nil
	}
	value, ok := document[name].(string)
	if !ok || value == "" {
		return "", nil
	}
	if err := checkDiscovered(value, address); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return value, nil
}

// listOf returns the strings in a member of the document that should be a list of them; what is none is not there.
func listOf(document map[string]any, name string) []string {
	values, _ := document[name].([]any)
	var list []string
	for _, value := range values[:min(len(values), maxMetadataList)] {
		if text, ok := value.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// slashHint names the most common reason why two issuers that look the same are not.
func slashHint(expected, got string) string {
	if strings.TrimSuffix(expected, "/") == strings.TrimSuffix(got, "/") {
		return "; they differ only in the slash at the end, which must be as the provider has it"
	}
	return ""
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
