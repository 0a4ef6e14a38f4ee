package openidconnect

import (
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// introspectionAuthMethod is how the client authenticates for introspection; provider.None when it cannot.
func (h *Handler) introspectionAuthMethod() string {
	return or(h.IntrospectionEndpointAuthMethod, h.tokenAuthMethod())
}

// tokenAuthMethod is how the client authenticates at the token endpoint; provider.None for a public client.
func (h *Handler) tokenAuthMethod() string {
	switch {
	case h.TokenEndpointAuthMethod != "":
		return h.TokenEndpointAuthMethod
	case h.ClientAssertionFile != "":
		return provider.PrivateKeyJWT
	case h.ClientSecret != "":
		return provider.ClientSecretBasic
	case h.privateKey() != "":
		return provider.PrivateKeyJWT
	default:
		return provider.None
	}
}

func (h *Handler) privateKey() string {
	if h.ClientPrivateKey != "" {
		return h.ClientPrivateKey
	}
	return h.ClientRSAPrivateKey
}

func (h *Handler) checkClient() error {
	switch {
	case h.ClientPrivateKey != "" && h.ClientRSAPrivateKey != "":
		return fieldError("client_rsa_private_key", "is another name of client_private_key; set one of them")
	case h.ClientAssertionFile != "" && h.privateKey() != "":
		return fieldError("client_assertion_file", "cannot be combined with client_private_key: assertions come from one place")
	}
	for _, method := range []struct{ field, value string }{
		{"token_endpoint_auth_method", h.TokenEndpointAuthMethod},
		{"introspection_endpoint_auth_method", h.IntrospectionEndpointAuthMethod},
		{"revocation_endpoint_auth_method", h.RevocationEndpointAuthMethod},
	} {
		if err := h.oneOf(method.field, method.value, clientAuthentications); err != nil {
			return err
		}
	}
	if alg := h.ClientJWTAssertionAlg; alg != "" && !h.unresolved(alg) && !jose.Known(alg) {
		return fieldError("client_jwt_assertion_alg", "%q is not a supported signature algorithm%s", alg, didYouMean(alg, signatureAlgorithms()))
	}
	token, introspection := h.tokenAuthMethod(), h.introspectionAuthMethod()
	if !h.BearerOnly || token == introspection {
		if err := h.checkAuthMethod("token_endpoint_auth_method", token); err != nil {
			return err
		}
	}
	if !h.BearerOnly {
		if err := h.checkAuthMethod("revocation_endpoint_auth_method", h.revocationAuthMethod()); err != nil {
			return err
		}
	}
	if err := h.checkAuthMethod("introspection_endpoint_auth_method", introspection); err != nil {
		return err
	}
	if h.ClientAssertionFile != "" && token != provider.PrivateKeyJWT && introspection != provider.PrivateKeyJWT &&
		!h.unresolved(token) && !h.unresolved(introspection) {
		return fieldError("client_assertion_file", "is for private_key_jwt and contradicts token_endpoint_auth_method %s", token)
	}
	return h.checkIntrospection(introspection)
}

// checkAuthMethod makes sure that the client has what a method of authentication takes.
func (h *Handler) checkAuthMethod(field, method string) error {
	if method != provider.None && h.ClientID == "" {
		return fieldError("client_id", "required for the client to authenticate at the provider")
	}
	switch method {
	case provider.ClientSecretBasic, provider.ClientSecretPost, provider.ClientSecretJWT:
		if h.ClientSecret == "" {
			return fieldError(field, "%s needs a client_secret", method)
		}
		alg := or(h.ClientJWTAssertionAlg, "HS256")
		least := jose.MinSecretSize(alg)
		if method == provider.ClientSecretJWT && !h.unresolved(h.ClientSecret) && len(h.ClientSecret) < least {
			return fieldError("client_secret", "too short for %s, which needs at least %d bytes", alg, least)
		}
	case provider.PrivateKeyJWT:
		if h.privateKey() == "" && h.ClientAssertionFile == "" {
			return fieldError(field, "%s needs a client_private_key or a client_assertion_file", method)
		}
	case provider.TLSClientAuth, provider.SelfSignedTLSClientAuth:
		if h.TLSClientCertificate == nil {
			return fieldError(field, "%s needs a tls_client_certificate", method)
		}
	}
	return nil
}

func (h *Handler) checkIntrospection(method string) error {
	if method == provider.None {
		const need = "the client cannot authenticate: set client_secret, client_private_key or tls_client_certificate"
		if h.Introspection == introspectionAlways {
			return fieldError("introspection", need)
		}
		if h.IntrospectionEndpoint != "" {
			return fieldError("introspection_endpoint", need)
		}
	}
	if h.TokenType == tokenTypeAccess && (h.Introspection == introspectionAlways || h.IntrospectionEndpoint != "") {
		return fieldError("token_type", "at+jwt accepts JWTs alone, so nothing can be introspected")
	}
	if h.Introspection == introspectionOff && h.IntrospectionEndpoint != "" {
		return fieldError("introspection_endpoint", "contradicts introspection off")
	}
	return nil
}
