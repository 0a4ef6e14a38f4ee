package openidconnect

import (
	"fmt"
	"slices"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

func (h *Handler) checkProvider() error {
	if h.Issuer == "" && h.Discovery == "" {
		return fieldError("issuer", "required, as the directive's first argument or as a setting, unless discovery is set")
	}
	for _, endpoint := range []struct{ field, value string }{
		{"issuer", h.Issuer},
		{"discovery", h.Discovery},
		{"authorization_endpoint", h.AuthorizationEndpoint},
		{"token_endpoint", h.TokenEndpoint},
		{"userinfo_endpoint", h.UserinfoEndpoint},
		{"jwks_uri", h.JWKSURI},
		{"introspection_endpoint", h.IntrospectionEndpoint},
		{"revocation_endpoint", h.RevocationEndpoint},
		{"end_session_endpoint", h.EndSessionEndpoint},
		{"pushed_authorization_request_endpoint", h.PushedAuthorizationRequestEndpoint},
	} {
		if endpoint.value == "" || h.unresolved(endpoint.value) {
			continue
		}
		if err := provider.CheckURL(endpoint.value); err != nil {
			return fieldError(endpoint.field, "%v", err)
		}
	}
	if h.TLSInsecureSkipVerify && h.SSLVerify != nil && *h.SSLVerify {
		return fieldError("tls_insecure_skip_verify", "contradicts ssl_verify on")
	}
	if c := h.TLSClientCertificate; c != nil && (c.Certificate == "" || c.Key == "") {
		return fieldError("tls_client_certificate", "needs the files of both the certificate and its key")
	}
	return nil
}

func (h *Handler) checkKeys() error {
	var sources []string
	for _, source := range []struct{ field, value string }{
		{"jwks", h.JWKS}, {"jwks_uri", h.JWKSURI}, {"public_key", h.PublicKey},
	} {
		if source.value != "" {
			sources = append(sources, source.field)
		}
	}
	if len(sources) > 1 {
		return fieldError(sources[1], "cannot be combined with %s: the keys come from one place", sources[0])
	}
	if (h.PublicKey != "" || h.JWKS != "") && h.Issuer == "" {
		return fieldError("issuer", "required with %s: without it tokens of anybody with that key would be accepted", sources[0])
	}
	if h.BearerOnly && h.Introspection == introspectionAlways && len(sources) > 0 {
		return fieldError("introspection", "always cannot be combined with %s: no token would be checked with its keys", sources[0])
	}
	symmetric, err := h.checkAlgorithms("token_signing_alg_values_expected", h.TokenSigningAlgValuesExpected)
	if err != nil {
		return err
	}
	if symmetric != "" && len(sources) > 0 {
		return fieldError("token_signing_alg_values_expected",
			"%s cannot be combined with %s: its key is the client_secret, never one that others may know", symmetric, sources[0])
	}
	return nil
}

// checkAlgorithms judges a list of signature algorithms, and returns the HMAC algorithm in it that takes the longest secret.
func (h *Handler) checkAlgorithms(field string, algorithms StringList) (symmetric string, err error) {
	asymmetric := ""
	for _, alg := range algorithms {
		switch {
		case h.unresolved(alg):
		case !jose.Known(alg):
			return "", fieldError(field, "%q is not a supported signature algorithm%s", alg, didYouMean(alg, signatureAlgorithms()))
		case !jose.Symmetric(alg):
			asymmetric = alg
		case symmetric == "" || jose.MinSecretSize(alg) > jose.MinSecretSize(symmetric):
			symmetric = alg
		}
	}
	switch {
	case symmetric == "":
		return "", nil
	case asymmetric != "":
		return "", fieldError(field, "%s cannot be combined with %s: a public key would become a secret", symmetric, asymmetric)
	case h.ClientSecret == "":
		return "", fieldError("client_secret", "required with %s, as the key of the tokens", symmetric)
	case !h.unresolved(h.ClientSecret) && len(h.ClientSecret) < jose.MinSecretSize(symmetric):
		return "", fieldError("client_secret", "too short for %s, which needs at least %d bytes", symmetric, jose.MinSecretSize(symmetric))
	default:
		return symmetric, nil
	}
}

func signatureAlgorithms() []string {
	return append(jose.AsymmetricAlgorithms(), "HS256", "HS384", "HS512")
}

// warnings are the settings that are allowed and dangerous; they are told at every load.
func (h *Handler) warnings() []string {
	var warnings []string
	if h.insecure() {
		warnings = append(warnings, "the provider's certificate is not verified: whoever is on the way to it can make tokens")
	}
	if slices.Contains(h.Audience, audienceAny) {
		warnings = append(warnings, "audience any: tokens that the provider made for other services are accepted")
	}
	for _, source := range h.BearerTokenFrom {
		if source.In == inQuery {
			warnings = append(warnings, fmt.Sprintf("bearer_token_from query %s: tokens in URLs end up in logs and histories", source.Name))
		}
	}
	if h.MTLSBound == boundOff {
		warnings = append(warnings, "mtls_bound off: a stolen token that is bound to a certificate works without it")
	}
	if h.DPoPBound == boundOff {
		warnings = append(warnings, "dpop_bound off: a stolen token that is bound to a key works without it")
	}
	addresses := []string{h.Issuer, h.Discovery, h.JWKSURI, h.IntrospectionEndpoint}
	if !h.BearerOnly {
		addresses = append(addresses, h.AuthorizationEndpoint, h.TokenEndpoint, h.UserinfoEndpoint)
		warnings = append(warnings, h.sessionWarnings()...)
	}
	for _, address := range addresses {
		if address != "" && provider.PlainHTTP(address) {
			warnings = append(warnings, fmt.Sprintf("%s is plain http: whoever is on the way to it can make tokens", address))
		}
	}
	return warnings
}

func (h *Handler) insecure() bool {
	return h.TLSInsecureSkipVerify || h.SSLVerify != nil && !*h.SSLVerify
}
