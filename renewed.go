package openidconnect

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// loginFacts are claims about the login itself, which lasts: a renewed ID token may leave them out (OpenID Connect Core section 12.2).
var loginFacts = []string{"auth_time", "acr", "amr", "sid"}

// renewedSession makes the next generation of a session out of what the provider answers. The tokens are the new ones in any case. An ID
// token that cannot be used changes nothing; one about somebody else ends the session, which refused says. asked is when the provider
// was asked.
func (rt *runtime) renewedSession(
	ctx context.Context, old *session.Session, tokens *provider.Tokens, asked time.Time,
) (renewed *session.Session, refused *refusal) {
	l := rt.login
	needs := l.needs.load()
	renewed = new(*old)
	renewed.Generation++
	renewed.Renewed, renewed.LastUsed = asked, rt.now()
	renewed.AccessExpires = l.accessExpiry(tokens, asked)
	renewed.AccessToken = ""
	if needs.keeps.accessToken {
		renewed.AccessToken = tokens.AccessToken
	}
	renewed.RefreshToken = or(tokens.RefreshToken, old.RefreshToken)
	renewed.Scope = or(tokens.Scope, old.Scope)

	claims, err := jose.ParseObject(old.Claims)
	if err != nil {
		claims = map[string]any{"sub": old.Subject} // cannot be: it was written by us
	}
	metadata, err := rt.provider.Metadata(ctx)
	if err != nil {
		return renewed, nil // the claims can wait
	}
	var token *idToken
	if tokens.IDToken != "" {
		if token, refused = rt.renewedIDToken(ctx, tokens, metadata, old, claims); refused != nil {
			return nil, refused
		}
	}
	if token != nil {
		rt.warnOfOverage(token.claims)
	}
	if refused := rt.renewClaims(ctx, renewed, claims, token, tokens, metadata, needs); refused != nil {
		return nil, refused
	}
	if token != nil && (needs.keeps.rawIDToken || l.wantsHint(metadata)) {
		renewed.IDToken = token.raw
	}
	if token != nil && needs.keeps.idTokenCopy {
		renewed.IDTokenClaims = token.payload
	}
	return renewed, nil
}

// renewedIDToken verifies the ID token of a renewal like the first one; nil says that it is not used. One of another subject or issuer is
// refused (OpenID Connect Core section 12.2).
func (rt *runtime) renewedIDToken(
	ctx context.Context, tokens *provider.Tokens, metadata *provider.Metadata, old *session.Session, claims map[string]any,
) (*idToken, *refusal) {
	if parsed, err := jose.Parse(tokens.IDToken, jose.MaxProviderToken); err == nil {
		if subject, _ := parsed.Claims["sub"].(string); subject != old.Subject {
			return nil, refuseClaim(reasonSubjectMismatch, "the sub of the login in a renewed ID token", "another one, or none")
		}
		if issuer := claims["iss"]; issuer != nil && parsed.Claims["iss"] != issuer {
			return nil, refuseClaim(reasonIssuerMismatch, issuer, parsed.Claims["iss"])
		}
	}
	token, refused := rt.verifyIDToken(ctx, tokens.IDToken, metadata, func(parsed *jose.Token) *refusal {
		return rt.login.idTokens.checkRenewal(parsed, tokens.AccessToken, old, claims, rt.login.acrValues)
	})
	if refused != nil {
		rt.logger.Warn("a renewed ID token is not used; the session keeps its claims", zap.String("reason", string(refused.reason)),
			zap.String("expected", refused.expected), zap.String("got", refused.got), zap.String("issuer", rt.issuerName), zap.Error(refused.cause),
			zap.String("hint", answers[refused.reason].hint))
		return nil, nil
	}
	return token, nil
}

// checkRenewal judges what a renewed ID token says about the login.
func (p *idTokenPolicy) checkRenewal(token *jose.Token, accessToken string, old *session.Session, claims map[string]any, acrValues string) *refusal {
	if nonce := token.Claims["nonce"]; nonce != nil && nonce != "" {
		text, _ := nonce.(string)
		if old.NonceHash == [16]byte{} || nonceHash(text) != old.NonceHash {
			return refuseClaim(reasonNonceMismatch, "the nonce of the login, or none", "another one")
		}
	}
	if refused := checkHashes(token, map[string]string{"at_hash": accessToken}); refused != nil {
		return refused
	}
	if then, now := claims["auth_time"], token.Claims["auth_time"]; then != nil && now != nil && then != now {
		return refuseClaim(reasonInsufficientAuthentication, "the auth_time of the login", now)
	}
	if acr := token.Claims["acr"]; acr != nil && acrValues != "" {
		if text, _ := acr.(string); !slices.Contains(strings.Fields(acrValues), text) {
			return refuseClaim(reasonInsufficientAuthentication, "acr "+acrValues, acr)
		}
	}
	return nil
}

// renewClaims replaces the claims of a session by what the provider says now, in the ID token and in userinfo where that is asked. What it
// no longer says is gone; what cannot be asked for the moment stays.
func (rt *runtime) renewClaims(
	ctx context.Context, renewed *session.Session, old map[string]any, token *idToken, tokens *provider.Tokens,
	metadata *provider.Metadata, needs *loginNeeds,
) *refusal {
	absent := tokens.IDToken == "" // rather than one that is not used, after which nothing changes
	fromUserinfo := make(map[string]any)
	for name := range strings.SplitSeq(renewed.UserinfoClaims, userinfoSeparator) {
		if value, ok := old[name]; ok && name != "" {
			fromUserinfo[name] = value
		}
	}
	var claims map[string]any
	if token != nil {
		claims = needs.keeps.claimsOf(token)
		for _, name := range loginFacts {
			if claims[name] == nil && old[name] != nil {
				claims[name] = old[name]
			}
		}
	} else {
		claims = maps.Clone(old)
		maps.DeleteFunc(claims, func(name string, _ any) bool { _, ok := fromUserinfo[name]; return ok })
	}
	userinfo := fromUserinfo
	if needs.wantUserinfo(claims, metadata) {
		answer, refused := rt.fetchUserinfo(ctx, metadata, tokens.AccessToken, renewed.Subject)
		switch {
		case refused == nil:
			userinfo = answer
			if absent && needs.keeps.userinfo && needs.userinfo.mode == userinfoOn {
				// it is the newer word, where no ID token comes with a renewal
				maps.DeleteFunc(claims, func(name string, _ any) bool { return answer[name] != nil && !slices.Contains(protocolClaims, name) })
			}
		case refused.reason == reasonSubjectMismatch:
			return refused
		default:
			userinfo = old // what the new ID token does not say
			rt.logger.Warn("userinfo failed in a renewal; the session keeps what it had of it", zap.String("reason", string(refused.reason)),
				zap.String("got", refused.got), zap.String("issuer", rt.issuerName), zap.Error(refused.cause),
				zap.String("hint", answers[refused.reason].hint))
		}
	} else if token != nil {
		userinfo = nil // the ID token has it all now
	}
	renewed.UserinfoClaims = ""
	if needs.keeps.userinfo {
		renewed.UserinfoClaims = mergeUserinfo(claims, userinfo)
	}
	text, err := json.Marshal(withoutTransient(claims))
	if err == nil { // claims came out of JSON
		renewed.Claims = string(text)
	}
	return nil
}
