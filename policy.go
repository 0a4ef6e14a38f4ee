package openidconnect

import (
	"slices"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// tokenPolicy is what a handler demands of bearer tokens, whatever rules follow.
type tokenPolicy struct {
	issuer          string // empty: as discovered
	validIssuers    []string
	tenants         []string
	clientID        string
	audiences       []string
	anyAudience     bool
	defaultAudience bool // audiences is just the client_id, because nothing else was configured
	audienceClaim   string
	algorithms      []string
	profile         bool // RFC 9068: token_type at+jwt
	skew            time.Duration
	mtlsBound       string
	dpopBound       string
}

// check judges all of a JWT but its signature, or all of an introspection answer.
func (p *tokenPolicy) check(t *verifiedToken, claims map[string]any, metadata *provider.Metadata, now time.Time) *refusal {
	if !t.introspected {
		if !slices.Contains(p.algorithms, t.algorithm) {
			return refuseClaim(reasonUnsupportedAlgorithm, p.algorithms, t.algorithm)
		}
		if refused := p.checkHeaderType(t.headerType); refused != nil {
			return refused
		}
	}
	if refused := p.checkIssuer(t, claims, metadata); refused != nil {
		return refused
	}
	if refused := p.checkDates(t, now); refused != nil {
		return refused
	}
	if refused := p.checkKind(t, claims); refused != nil {
		return refused
	}
	return p.checkAudience(t, claims)
}

// checkHeaderType judges the typ of the header (RFC 9068 section 4, RFC 8725 section 3.11).
func (p *tokenPolicy) checkHeaderType(headerType string) *refusal {
	name := strings.TrimPrefix(strings.ToLower(headerType), "application/")
	switch {
	case name == "at+jwt", !p.profile && (name == "" || name == "jwt"):
		return nil
	case p.profile:
		return refuseClaim(reasonWrongTokenType, "typ at+jwt", "typ "+headerType)
	default:
		return refuseClaim(reasonWrongTokenType, "typ at+jwt, JWT or none", "typ "+headerType)
	}
}

func (p *tokenPolicy) checkIssuer(t *verifiedToken, claims map[string]any, metadata *provider.Metadata) *refusal {
	expected := p.issuer
	if metadata != nil {
		expected = metadata.Issuer
	}
	if len(p.tenants) > 0 {
		tenant, _ := claims["tid"].(string)
		if !slices.Contains(p.tenants, tenant) {
			return refuseClaim(reasonWrongIssuer, "a tenant of "+strings.Join(p.tenants, " "), "tid "+tenant)
		}
		expected = strings.ReplaceAll(expected, provider.TenantPlaceholder, tenant)
	}
	value, present := claims["iss"]
	if !present && t.introspected {
		return nil // we asked the issuer itself
	}
	issuer, _ := value.(string)
	if issuer != "" && (issuer == expected || slices.Contains(p.validIssuers, issuer)) {
		return nil
	}
	return refuseClaim(reasonWrongIssuer, expected, value)
}

func (p *tokenPolicy) checkDates(t *verifiedToken, now time.Time) *refusal {
	if t.expiry.IsZero() {
		if !t.introspected {
			return refuseClaim(reasonMissingClaim, "exp", nil)
		}
	} else if !now.Before(t.expiry.Add(p.skew)) {
		return refuseClaim(reasonExpired, "exp after "+now.UTC().Format(time.RFC3339), "exp "+t.expiry.UTC().Format(time.RFC3339))
	}
	for _, date := range []struct {
		name  string
		value time.Time
	}{{"nbf", t.notBefore}, {"iat", t.issuedAt}} {
		if date.value.After(now.Add(p.skew)) {
			return refuseClaim(reasonNotYetValid, date.name+" before "+now.UTC().Format(time.RFC3339),
				date.name+" "+date.value.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// foreignClaims are members that access tokens do not have and other tokens of the same provider do.
var foreignClaims = []string{"events", "nonce", "at_hash", "c_hash"}

// checkKind refuses tokens that were made for something else (RFC 8725 section 3.12).
func (p *tokenPolicy) checkKind(t *verifiedToken, claims map[string]any) *refusal {
	for _, name := range foreignClaims {
		if _, ok := claims[name]; ok {
			return refuseClaim(reasonWrongTokenType, "an access token", "a token with "+name)
		}
	}
	if kind, ok := claims["typ"].(string); ok {
		switch strings.ToLower(kind) {
		case "id", "refresh", "offline", "logout":
			return refuseClaim(reasonWrongTokenType, "an access token", "typ "+kind)
		}
	}
	if use, ok := claims["token_use"]; ok && use != "access" && use != "access_token" {
		return refuseClaim(reasonWrongTokenType, "token_use access", use)
	}
	if p.profile && !t.introspected {
		for _, name := range []string{"sub", "client_id", "iat", "jti"} {
			if emptyClaim(claims[name]) {
				return refuseClaim(reasonMissingClaim, name, claims[name])
			}
		}
	}
	return nil
}

func (p *tokenPolicy) checkAudience(t *verifiedToken, claims map[string]any) *refusal {
	values, wellFormed := audienceOf(claims[p.audienceClaim])
	if t.introspected && p.defaultAudience && claims[p.audienceClaim] == nil {
		if client, ok := claims["client_id"].(string); ok && client == p.clientID {
			return nil
		}
		return refuseClaim(reasonWrongAudience, "client_id "+p.clientID, claims["client_id"])
	}
	if !p.anyAudience {
		if !wellFormed {
			return refuseClaim(reasonWrongAudience, p.audiences, claims[p.audienceClaim])
		}
		matching := slices.DeleteFunc(values, func(audience string) bool { return !slices.Contains(p.audiences, audience) })
		if len(matching) == 0 {
			return refuseClaim(reasonWrongAudience, p.audiences, claims[p.audienceClaim])
		}
		if slices.ContainsFunc(matching, func(audience string) bool { return audience != p.clientID }) {
			return nil
		}
	} else if p.clientID == "" || !slices.Contains(values, p.clientID) {
		return nil
	}
	// The audience is our own client: so are ID tokens, and this one must show that it is none.
	if !p.showsAccess(t, claims) {
		return refuseClaim(reasonWrongTokenType, "a sign of an access token (scope, client_id, typ at+jwt)", "a token for the client itself")
	}
	return nil
}

// audienceOf reads a string or a list of strings; anything else is not well-formed.
func audienceOf(value any) (values []string, wellFormed bool) {
	switch value := value.(type) {
	case string:
		return []string{value}, value != ""
	case []any:
		for _, element := range value {
			text, ok := element.(string)
			if !ok {
				return nil, false
			}
			values = append(values, text)
		}
		return values, len(values) > 0
	default:
		return nil, false
	}
}

// showsAccess reports whether a token whose audience is our own client_id carries what only access tokens do.
func (p *tokenPolicy) showsAccess(t *verifiedToken, claims map[string]any) bool {
	// ID tokens are JWTs, so an opaque token is none; of others the provider's token_type speaks, which has been looked at
	if _, typed := claims["token_type"]; t.opaque || t.introspected && typed {
		return true
	}
	if strings.HasSuffix(strings.ToLower(t.headerType), "at+jwt") {
		return true
	}
	for _, name := range []string{"scope", "scp", "client_id"} {
		if _, ok := claims[name]; ok {
			return true
		}
	}
	kind, _ := claims["typ"].(string)
	_, party := claims["azp"]
	return party && strings.EqualFold(kind, "Bearer") || claims["token_use"] == "access"
}
