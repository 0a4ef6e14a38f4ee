package openidconnect

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// The values that settings of a fixed set may have.
var (
	tokenTypes            = []string{tokenTypeAny, tokenTypeAccess}
	introspectionModes    = []string{introspectionAuto, introspectionAlways, introspectionOff}
	unauthActions         = []string{unauthAuth, unauthDeny, unauthPass}
	errorResponses        = []string{errorResponsesBuiltin, errorResponsesHandleErrors}
	bindings              = []string{boundAuto, boundRequired, boundOff}
	tokenSources          = []string{inHeader, inCookie, inQuery}
	responseModes         = []string{responseModeQuery, responseModeFormPost}
	userinfoModes         = []string{userinfoAuto, userinfoOn, userinfoOff}
	displays              = []string{"page", "popup", "touch", "wap"}
	prompts               = []string{promptLogin, promptConsent, promptSelectAccount, promptCreate, promptNone}
	sameSites             = []string{sameSiteLax, sameSiteStrict, sameSiteNone}
	cookieSecures         = []string{cookieSecureAuto, cookieSecureOn, cookieSecureOff}
	refreshFailures       = []string{refreshFailureKeep, refreshFailureEnd}
	refreshCoordinations  = []string{refreshCoordinationAuto, refreshCoordinationLocal, refreshCoordinationStorage}
	clientAuthentications = []string{
		provider.ClientSecretBasic, provider.ClientSecretPost, provider.ClientSecretJWT, provider.PrivateKeyJWT,
		provider.TLSClientAuth, provider.SelfSignedTLSClientAuth, provider.None,
	}
)

const (
	tokenTypeAny    = "any"
	tokenTypeAccess = "at+jwt"
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
		h.checkProvider, h.checkLists, h.checkTokens, h.checkKeys, h.checkClient, h.checkDurations, h.checkRules, h.checkHeaders,
		h.checkResource, h.checkLogin, h.checkParameters, h.checkEndpoints, h.checkSession, h.checkSessionContents,
		h.checkRefresh, h.checkLogout,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// unresolved reports whether a value waits for its placeholders, so that it cannot be judged yet.
func (h *Handler) unresolved(value string) bool { return !h.resolved && strings.Contains(value, "{") }

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
		{"id_token_signed_response_alg", h.IDTokenSignedResponseAlg},
		{"trusted_audiences", h.TrustedAudiences},
		{"resource", h.Resource},
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
	case h.ClientID == "" && !h.BearerOnly:
		return fieldError("client_id", "required to log in; a handler that only takes bearer tokens says bearer_only")
	case h.ClientID == "" && len(h.Audience) == 0:
		return fieldError("audience", "required unless client_id is set: without it a token made for another service would be accepted")
	case h.IgnoreBearer && h.BearerOnly:
		return fieldError("ignore_bearer", "contradicts bearer_only: nobody could enter")
	case h.IgnoreBearer && len(h.BearerTokenFrom) > 0:
		return fieldError("ignore_bearer", "contradicts bearer_token_from")
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
		{"response_mode", h.ResponseMode, responseModes},
		{"userinfo", h.Userinfo, userinfoModes},
		{"display", h.Display, displays},
		{"refresh_failure", h.RefreshFailure, refreshFailures},
		{"refresh_coordination", h.RefreshCoordination, refreshCoordinations},
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
		{"max_age", h.MaxAge, 0, maxSessionLifetime},
		{"access_token_expires_leeway", h.AccessTokenExpiresLeeway, 0, time.Hour},
		{"access_token_expires_in", h.AccessTokenExpiresIn, time.Second, maxAccessTokenLifetime},
		{"refresh_grace", h.RefreshGrace, time.Second, time.Hour},
	} {
		if value := span.value.or(span.least); value < span.least || value > span.most {
			return fieldError(span.field, "%s is not between %s and %s", value, span.least, span.most)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

func keys[V any](m map[string]V) []string {
	return slices.Collect(maps.Keys(m))
}
