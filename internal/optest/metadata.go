package optest

import (
	"maps"
	"slices"
	"strings"
)

// SetMetadata lets edit change every metadata document before it is served;
// nil ends that.
func (p *Provider) SetMetadata(edit func(m map[string]any)) {
	p.metadataMu.Lock()
	defer p.metadataMu.Unlock()
	p.editMetadata = edit
}

// Metadata returns the metadata document as it would be served now.
func (p *Provider) Metadata() map[string]any {
	base := strings.TrimSuffix(p.Issuer(), "/")
	methods := []string{"client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"}
	assertionAlgorithms := []string{"HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"}
	p.mu.Lock()
	algorithms := make(map[string]bool)
	for _, key := range p.keys {
		algorithms[key.Algorithm] = true
	}
	public, iss := p.login.public, p.login.iss
	endSession, revocation := p.logout.endSession, p.logout.revocation
	p.mu.Unlock()
	m := map[string]any{
		"issuer":                                                   p.Issuer(),
		"authorization_endpoint":                                   base + "/authorize",
		"token_endpoint":                                           base + "/token",
		"jwks_uri":                                                 base + "/jwks",
		"introspection_endpoint":                                   base + "/introspect",
		"userinfo_endpoint":                                        base + "/userinfo",
		"response_types_supported":                                 []string{"code"},
		"response_modes_supported":                                 []string{"query", "form_post"},
		"code_challenge_methods_supported":                         []string{"S256"},
		"grant_types_supported":                                    []string{"authorization_code", "refresh_token", "client_credentials"},
		"subject_types_supported":                                  []string{"public"},
		"scopes_supported":                                         []string{"openid", "profile", "email", "read", "write"},
		"id_token_signing_alg_values_supported":                    slices.Sorted(maps.Keys(algorithms)),
		"token_endpoint_auth_methods_supported":                    methods,
		"token_endpoint_auth_signing_alg_values_supported":         assertionAlgorithms,
		"introspection_endpoint_auth_methods_supported":            methods,
		"introspection_endpoint_auth_signing_alg_values_supported": assertionAlgorithms,
	}
	if endSession {
		m["end_session_endpoint"] = base + "/end-session"
		m["backchannel_logout_supported"], m["backchannel_logout_session_supported"] = true, true
		m["frontchannel_logout_supported"], m["frontchannel_logout_session_supported"] = true, true
	}
	if revocation {
		m["revocation_endpoint"] = base + "/revoke"
		m["revocation_endpoint_auth_methods_supported"] = methods
		m["revocation_endpoint_auth_signing_alg_values_supported"] = assertionAlgorithms
	}
	if public {
		m["token_endpoint_auth_methods_supported"] = []string{"none"}
		if revocation {
			m["revocation_endpoint_auth_methods_supported"] = []string{"none"}
		}
	}
	if iss {
		m["authorization_response_iss_parameter_supported"] = true
	}
	p.metadataMu.Lock()
	defer p.metadataMu.Unlock()
	if p.editMetadata != nil {
		p.editMetadata(m)
	}
	return m
}
