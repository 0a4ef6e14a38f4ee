package openidconnect

import (
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// The values that settings of a fixed set may have.
var (
	tokenTypes            = []string{tokenTypeAny, tokenTypeAccess}
	introspectionModes    = []string{introspectionAuto, introspectionAlways, introspectionOff}
	unauthActions         = []string{unauthDeny, unauthPass}
	errorResponses        = []string{errorResponsesBuiltin, errorResponsesHandleErrors}
	bindings              = []string{boundAuto, boundRequired, boundOff}
	tokenSources          = []string{inHeader, inCookie, inQuery}
	clientAuthentications = []string{
		provider.ClientSecretBasic, provider.ClientSecretPost, provider.ClientSecretJWT, provider.PrivateKeyJWT,
		provider.TLSClientAuth, provider.SelfSignedTLSClientAuth, authNone,
	}
)

const (
	tokenTypeAny    = "any"
	tokenTypeAccess = "at+jwt"
	authNone        = "none"
	audienceAny     = "any"
)

const (
	maxClockSkew  = 10 * time.Minute
	maxTimeout    = time.Minute
	maxTokenCache = 10_000_000
)

// check judges the configuration as a whole: what is missing, contradicts itself or has a value that cannot be. It needs nothing
// but the configuration, so it can run on a Caddyfile before anything is provisioned; values that still hold placeholders pass.
func (h *Handler) check() error {
	for _, check := range []func() error{
		h.checkProvider, h.checkKeys, h.checkClient, h.checkLists, h.checkTokens, h.checkDurations, h.checkRules, h.checkHeaders,
		h.checkResource,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// unresolved reports whether a value waits for its placeholders, so that it cannot be judged yet.
func (h *Handler) unresolved(value string) bool { return !h.resolved && strings.Contains(value, "{") }

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
	if h.Introspection == introspectionAlways && len(sources) > 0 {
		return fieldError("introspection", "always cannot be combined with %s: no token would be checked with its keys", sources[0])
	}
	var symmetric, asymmetric string
	for _, alg := range h.TokenSigningAlgValuesExpected {
		switch {
		case h.unresolved(alg):
		case !jose.Known(alg):
			return fieldError("token_signing_alg_values_expected", "%q is not a supported signature algorithm%s", alg,
				didYouMean(alg, signatureAlgorithms()))
		case jose.Symmetric(alg):
			symmetric = alg
		default:
			asymmetric = alg
		}
	}
	switch {
	case symmetric == "":
		return nil
	case asymmetric != "":
		return fieldError("token_signing_alg_values_expected", "%s cannot be combined with %s: a public key would become a secret",
			symmetric, asymmetric)
	case len(sources) > 0:
		return fieldError("token_signing_alg_values_expected",
			"%s cannot be combined with %s: its key is the client_secret, never one that others may know", symmetric, sources[0])
	case h.ClientSecret == "":
		return fieldError("client_secret", "required with %s, as the key of the tokens", symmetric)
	case !h.unresolved(h.ClientSecret) && len(h.ClientSecret) < jose.MinSecretSize(symmetric):
		return fieldError("client_secret", "too short for %s, which needs at least %d bytes", symmetric, jose.MinSecretSize(symmetric))
	default:
		return nil
	}
}

func signatureAlgorithms() []string {
	return append(jose.AsymmetricAlgorithms(), "HS256", "HS384", "HS512")
}

// introspectionAuthMethod is how the client authenticates for introspection; authNone when it cannot.
func (h *Handler) introspectionAuthMethod() string {
	switch {
	case h.IntrospectionEndpointAuthMethod != "":
		return h.IntrospectionEndpointAuthMethod
	case h.TokenEndpointAuthMethod != "":
		return h.TokenEndpointAuthMethod
	case h.ClientSecret != "":
		return provider.ClientSecretBasic
	case h.privateKey() != "":
		return provider.PrivateKeyJWT
	default:
		return authNone
	}
}

func (h *Handler) privateKey() string {
	if h.ClientPrivateKey != "" {
		return h.ClientPrivateKey
	}
	return h.ClientRSAPrivateKey
}

func (h *Handler) checkClient() error {
	if h.ClientPrivateKey != "" && h.ClientRSAPrivateKey != "" {
		return fieldError("client_rsa_private_key", "is another name of client_private_key; set one of them")
	}
	methodField := "token_endpoint_auth_method"
	if h.IntrospectionEndpointAuthMethod != "" {
		methodField = "introspection_endpoint_auth_method"
	}
	for _, method := range []struct{ field, value string }{
		{"token_endpoint_auth_method", h.TokenEndpointAuthMethod},
		{"introspection_endpoint_auth_method", h.IntrospectionEndpointAuthMethod},
	} {
		if err := h.oneOf(method.field, method.value, clientAuthentications); err != nil {
			return err
		}
	}
	alg := h.ClientJWTAssertionAlg
	if alg != "" && !h.unresolved(alg) && !jose.Known(alg) {
		return fieldError("client_jwt_assertion_alg", "%q is not a supported signature algorithm%s", alg, didYouMean(alg, signatureAlgorithms()))
	}
	method := h.introspectionAuthMethod()
	if method != authNone && h.ClientID == "" {
		return fieldError("client_id", "required for the client to authenticate at the provider")
	}
	switch method {
	case provider.ClientSecretBasic, provider.ClientSecretPost, provider.ClientSecretJWT:
		if h.ClientSecret == "" {
			return fieldError(methodField, "%s needs a client_secret", method)
		}
		least := jose.MinSecretSize(or(alg, "HS256"))
		if method == provider.ClientSecretJWT && !h.unresolved(h.ClientSecret) && len(h.ClientSecret) < least {
			return fieldError("client_secret", "too short for %s, which needs at least %d bytes", or(alg, "HS256"), least)
		}
	case provider.PrivateKeyJWT:
		if h.privateKey() == "" {
			return fieldError(methodField, "%s needs a client_private_key", method)
		}
	case provider.TLSClientAuth, provider.SelfSignedTLSClientAuth:
		if h.TLSClientCertificate == nil {
			return fieldError(methodField, "%s needs a tls_client_certificate", method)
		}
	}
	if method == authNone {
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

// checkLists refuses lists that say nothing: an empty list is not "allow everything".
func (h *Handler) checkLists() error {
	for _, list := range []struct {
		field  string
		values StringList
	}{
		{"valid_issuers", h.ValidIssuers},
		{"tenants", h.Tenants},
		{"audience", h.Audience},
		{"required_scopes", h.RequiredScopes},
		{"token_signing_alg_values_expected", h.TokenSigningAlgValuesExpected},
		{"introspection_addon_headers", h.IntrospectionAddonHeaders},
	} {
		if list.values != nil && len(list.values) == 0 {
			return fieldError(list.field, "the list is empty; leave it out or name a value")
		}
		if slices.ContainsFunc(list.values, func(value string) bool { return strings.TrimSpace(value) == "" }) {
			return fieldError(list.field, "has an empty value")
		}
	}
	for _, list := range []struct {
		field string
		empty bool
	}{
		{"required_claims", h.RequiredClaims != nil && len(h.RequiredClaims) == 0},
		{"denied_claims", h.DeniedClaims != nil && len(h.DeniedClaims) == 0},
		{"unauth_rules", h.UnauthRules != nil && len(h.UnauthRules) == 0},
		{"bearer_token_from", h.BearerTokenFrom != nil && len(h.BearerTokenFrom) == 0},
	} {
		if list.empty {
			return fieldError(list.field, "the list is empty; leave it out or name a value")
		}
	}
	for _, name := range h.IntrospectionAddonHeaders {
		if !h.unresolved(name) && !httpguts.ValidHeaderFieldName(name) {
			return fieldError("introspection_addon_headers", "%q is not the name of a header", name)
		}
	}
	for _, scope := range h.RequiredScopes {
		if !h.unresolved(scope) && !isScopeToken(scope) {
			return fieldError("required_scopes", "%q is not one scope: no spaces, quotes or backslashes", scope)
		}
	}
	return nil
}

// isScopeToken reports whether text is a scope-token (RFC 6749 section 3.3).
func isScopeToken(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

func (h *Handler) checkTokens() error {
	switch {
	case !h.BearerOnly:
		return fieldError("bearer_only", "required: this version validates bearer tokens and does not log in browsers")
	case h.ClientID == "" && len(h.Audience) == 0:
		return fieldError("audience", "required unless client_id is set: without it a token made for another service would be accepted")
	case slices.Contains(h.Audience, audienceAny) && len(h.Audience) > 1:
		return fieldError("audience", `"any" switches the check off and cannot stand beside other values`)
	case h.JWTVerificationCacheIgnore && h.TokenCache != nil && *h.TokenCache != 0:
		return fieldError("jwt_verification_cache_ignore", "contradicts token_cache")
	case h.TokenCache != nil && (*h.TokenCache < 0 || *h.TokenCache > maxTokenCache):
		return fieldError("token_cache", "%d is not between 0 and %d", *h.TokenCache, maxTokenCache)
	case strings.ContainsFunc(h.Realm, func(r rune) bool { return r < ' ' || r > '~' }):
		return fieldError("realm", "must be printable ASCII")
	case h.IntrospectionExpiryClaim != "" && strings.TrimSpace(h.IntrospectionExpiryClaim) == "":
		return fieldError("introspection_expiry_claim", "must name a claim")
	}
	for _, choice := range []struct {
		field, value string
		valid        []string
	}{
		{"token_type", h.TokenType, tokenTypes},
		{"introspection", h.Introspection, introspectionModes},
		{"unauth_action", h.UnauthAction, unauthActions},
		{"error_responses", h.ErrorResponses, errorResponses},
		{"mtls_bound", h.MTLSBound, bindings},
		{"dpop_bound", h.DPoPBound, bindings},
	} {
		if err := h.oneOf(choice.field, choice.value, choice.valid); err != nil {
			return err
		}
	}
	for _, source := range h.BearerTokenFrom {
		if source.In == "" || source.Name == "" {
			return fieldError("bearer_token_from", "needs a place (header, cookie or query) and a name")
		}
		if err := h.oneOf("bearer_token_from", source.In, tokenSources); err != nil {
			return err
		}
		switch {
		case h.unresolved(source.Name):
		case !httpguts.ValidHeaderFieldName(source.Name):
			return fieldError("bearer_token_from", "%q is not a name", source.Name)
		case source.In == inHeader && http.CanonicalHeaderKey(source.Name) == "Authorization":
			return fieldError("bearer_token_from", "the Authorization header is always read")
		}
	}
	return nil
}

func (h *Handler) oneOf(field, value string, valid []string) error {
	if value == "" || h.unresolved(value) || slices.Contains(valid, value) {
		return nil
	}
	return fieldError(field, "%q is not one of %s%s", value, strings.Join(valid, ", "), didYouMean(value, valid))
}

func (h *Handler) checkDurations() error {
	if h.ClockSkew != nil && h.IatSlack != nil {
		return fieldError("iat_slack", "is another name of clock_skew; set one of them")
	}
	for _, span := range []struct {
		field       string
		value       *Duration
		least, most time.Duration
	}{
		{"timeout", h.Timeout, time.Millisecond, maxTimeout},
		{"jwk_expires_in", h.JWKExpiresIn, provider.MinKeysLifetime, provider.MaxKeysLifetime},
		{"client_jwt_assertion_expires_in", h.ClientJWTAssertionExpiresIn, time.Second, time.Hour},
		{"clock_skew", h.ClockSkew, 0, maxClockSkew},
		{"iat_slack", h.IatSlack, 0, maxClockSkew},
		{"introspection_interval", h.IntrospectionInterval, 0, 24 * time.Hour},
	} {
		if value := span.value.or(span.least); value < span.least || value > span.most {
			return fieldError(span.field, "%s is not between %s and %s", value, span.least, span.most)
		}
	}
	return nil
}

func (h *Handler) checkRules() error {
	for _, rules := range []struct {
		field      string
		rules      []ClaimRule
		needValues bool
	}{
		{"required_claims", h.RequiredClaims, false},
		{"denied_claims", h.DeniedClaims, true},
	} {
		for _, rule := range rules.rules {
			if !h.unresolved(rule.Claim) {
				if _, err := parseClaimPath(rule.Claim); err != nil {
					return fieldError(rules.field, "%q: %v", rule.Claim, err)
				}
			}
			if rule.Values != nil && len(rule.Values) == 0 || rules.needValues && len(rule.Values) == 0 {
				return fieldError(rules.field, "the rule for %q has no value", rule.Claim)
			}
			if slices.Contains(rule.Values, "") {
				return fieldError(rules.field, "the rule for %q has an empty value", rule.Claim)
			}
		}
	}
	for i, rule := range h.UnauthRules {
		if rule.Action == "" {
			return fieldError("unauth_rules", "rule %d has no action", i+1)
		}
		if err := h.oneOf("unauth_rules", rule.Action, unauthActions); err != nil {
			return err
		}
		if len(rule.MatchRaw) == 0 {
			return fieldError("unauth_rules", "rule %d has no matcher; unauth_action is the default for all requests", i+1)
		}
		for _, name := range sortedKeys(rule.MatchRaw) {
			if text := strings.TrimSpace(string(rule.MatchRaw[name])); text == "{}" || text == "[]" || text == "null" {
				return fieldError("unauth_rules", "the %s matcher of rule %d is empty and would match every request", name, i+1)
			}
		}
	}
	return nil
}

// reservedHeaders cannot carry a claim: they mean something to HTTP itself or belong to the client.
var reservedHeaders = []string{
	"Authorization", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Keep-Alive",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

func (h *Handler) checkHeaders() error {
	if h.UsernameClaim != "" && !h.unresolved(h.UsernameClaim) {
		if _, err := parseClaimPath(h.UsernameClaim); err != nil {
			return fieldError("username_claim", "%q: %v", h.UsernameClaim, err)
		}
	}
	names := make(map[string]string, len(tokenHeaders)) // folded name: who has it
	for _, name := range tokenHeaders {
		names[foldHeaderName(name)] = "a header that this handler sets itself"
	}
	for _, name := range sortedKeys(h.ClaimHeaders) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch other, taken := names[foldHeaderName(name)]; {
		case !httpguts.ValidHeaderFieldName(name):
			return fieldError("claim_headers", "%q is not the name of a header", name)
		case slices.Contains(reservedHeaders, canonical):
			return fieldError("claim_headers", "%s cannot carry a claim", canonical)
		case taken:
			return fieldError("claim_headers", "%s and %s are the same header to some upstreams", name, other)
		}
		names[foldHeaderName(name)] = name
		if path := h.ClaimHeaders[name].Claim; !h.unresolved(path) {
			if _, err := parseClaimPath(path); err != nil {
				return fieldError("claim_headers", "%s: %q: %v", name, path, err)
			}
		}
	}
	for _, name := range sortedKeys(h.ClaimPlaceholders) {
		if name == "" || name == "id" || name == "access_token" || strings.ContainsAny(name, "{} ") {
			return fieldError("claim_placeholders", "%q cannot be the name of a placeholder", name)
		}
		if path := h.ClaimPlaceholders[name]; !h.unresolved(path) {
			if _, err := parseClaimPath(path); err != nil {
				return fieldError("claim_placeholders", "%s: %q: %v", name, path, err)
			}
		}
	}
	return nil
}

func (h *Handler) checkResource() error {
	resource := h.ProtectedResource
	if resource == nil {
		return nil
	}
	if resource.ScopesSupported != nil && len(resource.ScopesSupported) == 0 {
		return fieldError("protected_resource.scopes_supported", "the list is empty; leave it out or name a value")
	}
	for _, address := range []struct{ field, value string }{
		{"resource", resource.Resource},
		{"resource_documentation", resource.ResourceDocumentation},
		{"resource_policy_uri", resource.ResourcePolicyURI},
		{"resource_tos_uri", resource.ResourceTosURI},
	} {
		if address.value == "" || h.unresolved(address.value) {
			continue
		}
		if address.field == "resource" && strings.HasPrefix(address.value, "/") {
			if u, err := url.Parse(address.value); err != nil || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || ambiguousPath(u) {
				return fieldError("protected_resource.resource", "%q is not a plain path", address.value)
			}
			continue
		}
		if err := provider.CheckURL(address.value); err != nil {
			return fieldError("protected_resource."+address.field, "%v", err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	names := keys(m)
	slices.Sort(names)
	return names
}

func keys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
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
	for _, address := range []string{h.Issuer, h.Discovery, h.JWKSURI, h.IntrospectionEndpoint} {
		if address != "" && provider.PlainHTTP(address) {
			warnings = append(warnings, fmt.Sprintf("%s is plain http: whoever is on the way to it can make tokens", address))
		}
	}
	return warnings
}

func (h *Handler) insecure() bool {
	return h.TLSInsecureSkipVerify || h.SSLVerify != nil && !*h.SSLVerify
}
