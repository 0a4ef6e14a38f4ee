package openidconnect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// sessionContents is what a session keeps of a login.
type sessionContents struct {
	userinfo, idTokenClaims bool // in the identity's claims
	idTokenCopy             bool // the claims of the ID token by themselves, for its header
	rawIDToken              bool
	accessToken             bool
	refreshToken            bool
}

// userinfoPolicy says when the provider is asked for more than the ID token tells.
type userinfoPolicy struct {
	mode   string
	wanted []claimPath // claims that rules, headers and placeholders name
	scopes []string    // that were asked for, when X-Userinfo passes on what they give
}

// scopeShows are claims that come with the standard scopes (OpenID Connect Core section 5.4); any of them shows that the others are
// there too.
var scopeShows = map[string][]string{
	"profile": {"name", "given_name", "family_name", "preferred_username", "nickname"},
	"email":   {"email"},
	"address": {"address"},
	"phone":   {"phone_number"},
}

// wants reports whether the provider must be asked, by what the ID token does not tell.
func (p *userinfoPolicy) wants(claims map[string]any, metadata *provider.Metadata) bool {
	switch {
	case p.mode == userinfoOff:
		return false
	case p.mode == userinfoOn:
		return true
	case metadata.Userinfo == "":
		return false
	}
	for _, path := range p.wanted {
		if _, ok := path.find(claims); !ok {
			return true
		}
	}
	for _, scope := range p.scopes {
		names, standard := scopeShows[scope]
		if standard && !slices.ContainsFunc(names, func(name string) bool { return !emptyClaim(claims[name]) }) {
			return true
		}
	}
	return false
}

// complete turns the answer of the provider into a session: it redeems the code, verifies the ID token and asks for userinfo where that is
// wanted. The code is sent once, whatever happens. user is who logs and the upstream will see.
func (rt *runtime) complete(
	ctx context.Context, metadata *provider.Metadata, transaction *session.Transaction, code, state string,
) (sess *session.Session, user string, refused *refusal) {
	l, asked := rt.login, rt.now()
	tokens, err := rt.provider.Exchange(ctx, l.client, provider.CodeGrant{
		Code: code, RedirectURI: transaction.RedirectURI, Verifier: transaction.Verifier, Params: l.tokenParams,
	})
	if err != nil {
		return nil, "", exchangeRefusal(err)
	}
	if tokens.IDToken == "" {
		return nil, "", refuseClaim(reasonCodeExchangeFailed, "an id_token beside the access token", "none; does scope hold openid?")
	}
	token, refused := rt.verifyIDToken(ctx, tokens.IDToken, metadata, func(parsed *jose.Token) *refusal {
		return l.idTokens.checkDemand(parsed, idTokenDemand{
			nonce: transaction.Nonce, code: code, accessToken: tokens.AccessToken, state: state,
			hasMaxAge: transaction.HasMaxAge, maxAge: transaction.MaxAge, acrValues: transaction.ACRValues,
		}, rt.now())
	})
	if refused != nil {
		if refused.answer().status == http.StatusUnauthorized {
			refused.status = http.StatusBadRequest // it is the provider's answer that is refused, not a request's credential
		}
		return nil, "", refused
	}
	needs := l.needs.load()
	claims, subject := needs.keeps.claimsOf(token), token.subject()
	fromUserinfo := ""
	if needs.wantUserinfo(claims, metadata) {
		userinfo, refused := rt.fetchUserinfo(ctx, metadata, tokens.AccessToken, subject)
		if refused != nil {
			return nil, "", refused
		}
		if needs.keeps.userinfo {
			fromUserinfo = mergeUserinfo(claims, userinfo)
		}
	}
	rt.warnOfOverage(token.claims)
	user, refused = rt.userOf(&verifiedToken{}, claims)
	if refused != nil {
		rt.logger.Warn("the login has no claim that names its user", zap.String("expected", rt.usernameClaim.text),
			zap.String("got", refused.got), zap.String("hint", answers[refused.reason].hint), zap.String("issuer", rt.issuerName))
	}
	keeps := needs.keeps
	keeps.rawIDToken = keeps.rawIDToken || l.wantsHint(metadata)
	sess = l.newSession(tokens, token, claims, keeps, rt.now())
	sess.Renewed, sess.AccessExpires = asked, l.accessExpiry(tokens, asked)
	sess.UserinfoClaims = fromUserinfo
	if transaction.Nonce != "" {
		sess.NonceHash = nonceHash(transaction.Nonce)
	}
	return sess, user, nil
}

// newSession makes the session of a login, with an identifier that nobody has seen before.
func (l *login) newSession(
	tokens *provider.Tokens, token *idToken, claims map[string]any, keeps sessionContents, now time.Time,
) *session.Session {
	text, err := json.Marshal(withoutTransient(claims))
	if err != nil {
		text = []byte(token.payload) // claims came out of JSON
	}
	sess := &session.Session{
		ID: session.NewID(), Claims: string(text), Scope: or(tokens.Scope, l.scope), Subject: token.subject(),
		Created: now, LastUsed: now, End: now.Add(l.absolute), IDTokenIssued: token.issued,
	}
	sess.SID, _ = token.claims["sid"].(string)
	if keeps.accessToken {
		sess.AccessToken = tokens.AccessToken
	}
	if keeps.refreshToken {
		sess.RefreshToken = tokens.RefreshToken
	}
	if keeps.rawIDToken {
		sess.IDToken = token.raw
	}
	if keeps.idTokenCopy {
		sess.IDTokenClaims = token.payload
	}
	return sess
}

// wantsHint reports whether a session keeps its ID token for the logout, which takes one as a hint of whose session ends.
func (l *login) wantsHint(metadata *provider.Metadata) bool {
	return l.keepsHint && metadata.EndSession != ""
}

// accessExpiry is the end of an access token that was asked for at that time: as the answer says, else as the token itself does, else as
// configured. Zero is not known.
func (l *login) accessExpiry(tokens *provider.Tokens, asked time.Time) time.Time {
	if tokens.ExpiresIn > 0 {
		return asked.Add(tokens.ExpiresIn)
	}
	if access, err := jose.Parse(tokens.AccessToken, jose.MaxProviderToken); err == nil && !access.Expiry.IsZero() {
		return expiryByClock(access.IssuedAt, access.Expiry, asked) // it is not ours to verify; this is a clock, no more
	}
	if l.accessExpiresIn > 0 {
		return asked.Add(l.accessExpiresIn)
	}
	return time.Time{}
}

// unclearLifetime is that of an access token whose own dates make no sense here.
const unclearLifetime = 5 * time.Minute

// expiryByClock reads the dates in a token. They are by the provider's clock, which may be wrong here; how long it gives the token is not.
func expiryByClock(issued, expiry, asked time.Time) time.Time {
	lifetime := unclearLifetime
	if !issued.IsZero() && expiry.After(issued) {
		lifetime = expiry.Sub(issued)
	}
	if span := asked.Add(lifetime); !expiry.After(asked) || !issued.IsZero() && span.Before(expiry) {
		return span
	}
	return expiry
}

// withoutTransient takes out what is about the one exchange that is over.
func withoutTransient(claims map[string]any) map[string]any {
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash"} {
		delete(claims, name)
	}
	return claims
}

// claimsOf are the claims of an ID token that a session keeps.
func (c *sessionContents) claimsOf(token *idToken) map[string]any {
	if !c.idTokenClaims {
		return map[string]any{"iss": token.claims["iss"], "sub": token.claims["sub"]}
	}
	return maps.Clone(token.claims)
}

// userinfoSeparator stands between the names of claims that came from userinfo.
const userinfoSeparator = "\x00"

// mergeUserinfo adds what userinfo tells, and returns the names of that. What the ID token says is signed and stays; the claims that tokens
// are judged by never come from userinfo.
func mergeUserinfo(claims, userinfo map[string]any) (names string) {
	var added []string
	for _, name := range sortedKeys(userinfo) {
		if _, signed := claims[name]; !signed && !slices.Contains(protocolClaims, name) && !strings.Contains(name, userinfoSeparator) {
			claims[name] = userinfo[name]
			added = append(added, name)
		}
	}
	return strings.Join(added, userinfoSeparator)
}

var protocolClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time", "nonce", "acr", "amr", "azp", "sid", "tid", "at_hash", "c_hash", "s_hash",
	"cnf", "events", "typ", "scope", "scp", "scopes", "client_id", "act", "may_act", "_claim_sources",
}

// fetchUserinfo asks the userinfo endpoint (OpenID Connect Core section 5.3). The answer must be about the same subject.
func (rt *runtime) fetchUserinfo(ctx context.Context, metadata *provider.Metadata, accessToken, subject string) (map[string]any, *refusal) {
	text, compact, err := rt.provider.Userinfo(ctx, accessToken)
	if err != nil {
		refused := &refusal{reason: reasonUserinfoFailed, cause: err}
		if errors.Is(err, provider.ErrBusy) {
			refused = &refusal{reason: reasonProviderUnreachable, cause: err}
		}
		return nil, refused
	}
	var claims map[string]any
	if compact != "" {
		var refused *refusal
		if claims, refused = rt.verifyUserinfo(ctx, metadata, compact); refused != nil {
			return nil, &refusal{
				reason: reasonUserinfoFailed, status: http.StatusBadRequest, expected: refused.expected, got: string(refused.reason) + ": " + refused.got,
			}
		}
	} else if claims, err = jose.ParseObject(text); err != nil {
		return nil, &refusal{reason: reasonUserinfoFailed, cause: err}
	}
	if sub, ok := claims["sub"].(string); !ok || sub != subject {
		return nil, refuseClaim(reasonSubjectMismatch, "the sub of the ID token in userinfo", "another one, or none")
	}
	return claims, nil
}

// verifyUserinfo verifies userinfo that comes as a signed JWT: by a key of the provider, and for us if it says for whom.
func (rt *runtime) verifyUserinfo(ctx context.Context, metadata *provider.Metadata, compact string) (map[string]any, *refusal) {
	parsed, err := jose.Parse(compact, jose.MaxProviderToken)
	if err != nil {
		return nil, refusalOfGate(err)
	}
	policy := &rt.login.idTokens
	accepted := policy.algorithms
	if len(accepted) == 0 {
		accepted = jose.AsymmetricAlgorithms()
	}
	if !slices.Contains(accepted, parsed.Algorithm) {
		return nil, refuseClaim(reasonUnsupportedAlgorithm, accepted, parsed.Algorithm)
	}
	bearer := tokenPolicy{issuer: policy.issuer, tenants: policy.tenants, skew: policy.skew}
	facts := &verifiedToken{introspected: true, notBefore: parsed.NotBefore, issuedAt: parsed.IssuedAt, expiry: parsed.Expiry}
	if _, ok := parsed.Claims["iss"]; ok {
		if refused := bearer.checkIssuer(facts, parsed.Claims, metadata); refused != nil {
			return nil, refused
		}
	}
	if refused := bearer.checkDates(facts, rt.now()); refused != nil {
		return nil, refused
	}
	if audience, ok := parsed.Claims["aud"]; ok {
		if values, _ := audienceOf(audience); !slices.Contains(values, policy.clientID) {
			return nil, refuseClaim(reasonWrongAudience, policy.clientID, audience)
		}
	}
	if refused := rt.verifyProviderSignature(ctx, parsed, policy.secretKeys); refused != nil {
		return nil, refused
	}
	return parsed.Claims, nil
}

// warnOfOverage tells when the provider has left the groups out because there are too many (Microsoft Entra ID): rules about them refuse then,
// and nobody would know why.
func (rt *runtime) warnOfOverage(claims map[string]any) {
	elsewhere, _ := claims["_claim_names"].(map[string]any)
	_, groups := elsewhere["groups"]
	if overage, _ := claims["hasgroups"].(bool); !groups && !overage {
		return
	}
	rt.logger.Warn("the provider has left out the groups of a user, who has too many of them",
		zap.String("issuer", rt.issuerName), zap.String("got", "_claim_names or hasgroups instead of groups"),
		zap.String("hint", "have the provider send only the groups that are assigned to the application, or use application roles"))
}

// exchangeRefusal tells a provider that failed from one that refused the code.
func exchangeRefusal(err error) *refusal {
	refused := &refusal{reason: reasonCodeExchangeFailed, cause: err}
	answer, ok := errors.AsType[*provider.OAuthError](err)
	switch {
	case errors.Is(err, provider.ErrBusy):
		refused.reason = reasonProviderUnreachable
	case ok && answer.Refused():
		refused.status = http.StatusBadRequest
		refused.got = answer.Error()
	case ok:
		refused.got = answer.Error()
	}
	return refused
}

// biggestClaim names what takes the most room in a session.
func biggestClaim(sess *session.Session) string {
	var claims map[string]json.RawMessage
	if json.Unmarshal([]byte(sess.Claims), &claims) != nil {
		return ""
	}
	name, size := "", 0
	for _, candidate := range slices.Sorted(maps.Keys(claims)) {
		if length := len(claims[candidate]); length > size {
			name, size = candidate, length
		}
	}
	parts := []string{fmt.Sprintf("the claim %s has %d bytes", logText(name), size)}
	for _, token := range []struct{ name, value string }{
		{"access token", sess.AccessToken}, {"refresh token", sess.RefreshToken}, {"copy of the ID token's claims", sess.IDTokenClaims},
	} {
		if len(token.value) > 0 {
			parts = append(parts, fmt.Sprintf("the %s %d", token.name, len(token.value)))
		}
	}
	return strings.Join(parts, ", ")
}
