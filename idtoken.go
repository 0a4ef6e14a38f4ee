package openidconnect

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// idTokenPolicy is what a handler demands of ID tokens (OpenID Connect Core section 3.1.3.7), wherever they come from.
type idTokenPolicy struct {
	issuer           string // empty: as discovered
	tenants          []string
	clientID         string
	trustedAudiences []string
	algorithms       []string     // as configured; empty: by the provider's metadata
	secretKeys       *jose.KeySet // with HS algorithms: the client secret, instead of the provider's keys
	useNonce         bool
	skew             time.Duration
}

// idTokenDemand is what one login expects of its ID token.
type idTokenDemand struct {
	nonce             string
	code, accessToken string // that at_hash and c_hash speak of
	state             string
	hasMaxAge         bool
	maxAge            time.Duration
	acrValues         string
}

// idToken is an ID token that has passed everything.
type idToken struct {
	raw     string
	payload string
	claims  map[string]any
	issued  time.Time
}

// acceptedAlgorithms are those that ID tokens may be signed with. The metadata offers, it does not pin: RS256 where it is offered or
// nothing is said, as OpenID Connect has it, else what asymmetric algorithms there are.
func (p *idTokenPolicy) acceptedAlgorithms(metadata *provider.Metadata) []string {
	switch {
	case len(p.algorithms) > 0:
		return p.algorithms
	case len(metadata.IDTokenSigningAlgs) == 0, slices.Contains(metadata.IDTokenSigningAlgs, "RS256"):
		return []string{"RS256"}
	}
	asymmetric := jose.AsymmetricAlgorithms()
	return slices.DeleteFunc(slices.Clone(metadata.IDTokenSigningAlgs), func(alg string) bool { return !slices.Contains(asymmetric, alg) })
}

// subject is who the token is about.
func (t *idToken) subject() string {
	subject, _ := t.claims["sub"].(string)
	return subject
}

// verifyIDToken decides on an ID token, cheap checks first. further judges what it has to say about the login in particular.
func (rt *runtime) verifyIDToken(
	ctx context.Context, raw string, metadata *provider.Metadata, further func(*jose.Token) *refusal,
) (*idToken, *refusal) {
	policy := &rt.login.idTokens
	parsed, err := jose.Parse(raw, jose.MaxProviderToken)
	if err != nil {
		return nil, refusalOfGate(err)
	}
	if accepted := policy.acceptedAlgorithms(metadata); !slices.Contains(accepted, parsed.Algorithm) {
		return nil, refuseClaim(reasonUnsupportedAlgorithm, accepted, parsed.Algorithm)
	}
	if refused := policy.checkClaims(parsed, metadata, rt.now()); refused != nil {
		return nil, refused
	}
	if refused := further(parsed); refused != nil {
		return nil, refused
	}
	if refused := rt.verifyProviderSignature(ctx, parsed, policy.secretKeys); refused != nil {
		return nil, refused
	}
	return &idToken{raw: raw, payload: parsed.Payload, claims: parsed.Claims, issued: parsed.IssuedAt}, nil
}

// verifyProviderSignature finds the key that has signed what the provider itself handed to us. An unknown key has the keys fetched again,
// by a budget that no stranger's token can spend.
func (rt *runtime) verifyProviderSignature(ctx context.Context, parsed *jose.Token, secretKeys *jose.KeySet) *refusal {
	return rt.verifySignatureOf(ctx, parsed, secretKeys, rt.provider.RenewKeysForLogin)
}

func (rt *runtime) verifySignatureOf(
	ctx context.Context, parsed *jose.Token, secretKeys *jose.KeySet, renew func(context.Context, *jose.KeySet) *jose.KeySet,
) *refusal {
	if secretKeys != nil {
		_, _, refused := signingKey(parsed, secretKeys)
		return refused
	}
	keys, err := rt.provider.Keys(ctx)
	if err != nil {
		return rt.providerRefusal(err)
	}
	_, named, refused := signingKey(parsed, keys)
	if refused != nil && !named {
		if renewed := renew(ctx, keys); renewed != keys {
			_, _, refused = signingKey(parsed, renewed)
		}
	}
	return refused
}

// checkClaims judges what every ID token must say.
func (p *idTokenPolicy) checkClaims(token *jose.Token, metadata *provider.Metadata, now time.Time) *refusal {
	claims := token.Claims
	switch strings.TrimPrefix(strings.ToLower(token.Type), "application/") {
	case "at+jwt", "logout+jwt", "dpop+jwt":
		return refuseClaim(reasonWrongTokenType, "an ID token", "typ "+token.Type)
	}
	if _, ok := claims["events"]; ok {
		return refuseClaim(reasonWrongTokenType, "an ID token", "a token with events")
	}
	if refused := p.checkParties(token, metadata, now); refused != nil {
		return refused
	}
	if subject, ok := claims["sub"].(string); !ok || strings.TrimSpace(subject) == "" {
		return refuseClaim(reasonMissingClaim, "sub", claims["sub"])
	}
	return nil
}

// checkParties judges who has made a token of the provider, for whom, and when.
func (p *idTokenPolicy) checkParties(token *jose.Token, metadata *provider.Metadata, now time.Time) *refusal {
	facts := &verifiedToken{notBefore: token.NotBefore, issuedAt: token.IssuedAt, expiry: token.Expiry}
	bearer := tokenPolicy{issuer: p.issuer, tenants: p.tenants, skew: p.skew}
	if refused := bearer.checkIssuer(facts, token.Claims, metadata); refused != nil {
		return refused
	}
	if refused := bearer.checkDates(facts, now); refused != nil {
		return refused
	}
	if token.IssuedAt.IsZero() {
		return refuseClaim(reasonMissingClaim, "iat", nil)
	}
	return p.checkAudience(token.Claims)
}

// checkAudience judges who the token is for, and who asked for it.
func (p *idTokenPolicy) checkAudience(claims map[string]any) *refusal {
	audiences, wellFormed := audienceOf(claims["aud"])
	if !wellFormed || !slices.Contains(audiences, p.clientID) {
		return refuseClaim(reasonWrongAudience, p.clientID, claims["aud"])
	}
	party, present := claims["azp"]
	if present && party != p.clientID {
		return refuseClaim(reasonWrongAudience, "azp "+p.clientID, party)
	}
	for _, audience := range audiences {
		if audience != p.clientID && !present && !slices.Contains(p.trustedAudiences, audience) {
			return refuseClaim(reasonWrongAudience, "no audience beside "+p.clientID+" without azp (see trusted_audiences)", audience)
		}
	}
	return nil
}

// checkDemand judges what the token must say about this login.
func (p *idTokenPolicy) checkDemand(token *jose.Token, demand idTokenDemand, now time.Time) *refusal {
	claims := token.Claims
	if p.useNonce {
		nonce, _ := claims["nonce"].(string)
		if demand.nonce == "" || subtle.ConstantTimeCompare([]byte(nonce), []byte(demand.nonce)) != 1 {
			return refuseClaim(reasonNonceMismatch, "the nonce of this login", "another one, or none")
		}
	} else if nonce, present := claims["nonce"]; present && nonce != "" {
		return refuseClaim(reasonNonceMismatch, "no nonce, as none was sent", "one of another login")
	}
	if refused := checkHashes(token, map[string]string{"at_hash": demand.accessToken, "c_hash": demand.code, "s_hash": demand.state}); refused != nil {
		return refused
	}
	if demand.hasMaxAge {
		seconds, _ := claims["auth_time"].(json.Number)
		authenticated, err := jose.Date(claims, "auth_time")
		if err != nil || seconds == "" {
			return refuseClaim(reasonInsufficientAuthentication, "auth_time, because of max_age", claims["auth_time"])
		}
		if now.Sub(authenticated) > demand.maxAge+p.skew {
			return refuseClaim(reasonInsufficientAuthentication, "a login not longer ago than "+demand.maxAge.String(),
				"auth_time "+authenticated.UTC().Format(time.RFC3339))
		}
	}
	if demand.acrValues != "" {
		if acr, ok := claims["acr"].(string); !ok || !slices.Contains(strings.Fields(demand.acrValues), acr) {
			return refuseClaim(reasonInsufficientAuthentication, "acr "+demand.acrValues, claims["acr"])
		}
	}
	return nil
}

// checkHashes compares the hashes that a token has of what came with it.
func checkHashes(token *jose.Token, of map[string]string) *refusal {
	for _, name := range sortedKeys(of) {
		if token.Claims[name] == nil {
			continue
		}
		text, _ := token.Claims[name].(string)
		expected, known := halfHash(token.Algorithm, of[name])
		if !known || of[name] == "" || subtle.ConstantTimeCompare([]byte(text), []byte(expected)) != 1 {
			return refuseClaim(reasonHashMismatch, name+" of what came with the token", "another one")
		}
	}
	return nil
}

// nonceHash is what a session keeps of its login's nonce, should a renewed ID token repeat it.
func nonceHash(nonce string) [16]byte {
	sum := sha256.Sum256([]byte(nonce))
	return [16]byte(sum[:])
}

// halfHash is the left half of the hash of text, by the hash function of a signature algorithm (OpenID Connect Core section
// 3.1.3.6). An algorithm without a known hash has none.
func halfHash(algorithm, text string) (hash string, known bool) {
	var sum []byte
	switch {
	case strings.HasSuffix(algorithm, "256"):
		digest := sha256.Sum256([]byte(text))
		sum = digest[:]
	case strings.HasSuffix(algorithm, "384"):
		digest := sha512.Sum384([]byte(text))
		sum = digest[:]
	case strings.HasSuffix(algorithm, "512"), algorithm == "EdDSA", algorithm == "Ed25519":
		digest := sha512.Sum512([]byte(text))
		sum = digest[:]
	default:
		return "", false
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2]), true
}
