package openidconnect

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// verifiedToken is what is known for certain of an access token: the provider signed it, or said by introspection that it is
// active. It says nothing about what the token is good for; a [tokenPolicy] does.
type verifiedToken struct {
	// payload is the JSON of the claims as received. It is kept as text, not parsed: a cache of many parsed tokens keeps the garbage
	// collector busy, and a request seldom asks for a claim.
	payload      string
	confirmation any // cnf, which is looked at with each request

	algorithm, headerType       string // of a JWT
	notBefore, issuedAt, expiry time.Time
	introspected, opaque        bool // opaque: introspected, and no JWT either
	bound                       bool // has cnf

	// cachedUntil ends the token's time in a cache.
	cachedUntil time.Time
	// keys is the key set in which the signing key was last seen; a token falls with its key.
	keys       atomic.Pointer[jose.KeySet]
	thumbprint string

	// accepted remembers the identities that policies have made of this token, so that a token seen before costs a look-up. The
	// policy's number is part of it: no policy ever sees the verdict of another.
	accepted atomic.Pointer[[]acceptedBy]
}

type acceptedBy struct {
	policy   uint64
	identity *identity
}

func (t *verifiedToken) until() time.Time { return t.cachedUntil }

// maxAccepted bounds the verdicts remembered for one token.
const maxAccepted = 8

// claims parses the payload, which has passed the gate before.
func (t *verifiedToken) claims() map[string]any {
	claims, err := jose.ParseObject(t.payload)
	if err != nil {
		return nil
	}
	return claims
}

func (t *verifiedToken) identityFor(policy uint64) *identity {
	if list := t.accepted.Load(); list != nil {
		for i := range *list {
			if (*list)[i].policy == policy {
				return (*list)[i].identity
			}
		}
	}
	return nil
}

func (t *verifiedToken) accept(policy uint64, id *identity) {
	list := t.accepted.Load()
	var next []acceptedBy
	if list != nil {
		next = slices.Clone(*list)
	}
	if len(next) >= maxAccepted {
		next = next[1:]
	}
	next = append(next, acceptedBy{policy: policy, identity: id})
	t.accepted.CompareAndSwap(list, &next) // losing a race costs a recomputation
}

// validateJWT decides on a token in JWT form, cheap checks first.
func (rt *runtime) validateJWT(ctx context.Context, raw string, digest tokenDigest, now time.Time) (*verifiedToken, map[string]any, *refusal) {
	parsed, err := jose.Parse(raw, jose.MaxClientToken)
	if err != nil {
		return nil, nil, refusalOfGate(err)
	}
	token := &verifiedToken{
		payload: parsed.Payload, algorithm: parsed.Algorithm, headerType: parsed.Type,
		notBefore: parsed.NotBefore, issuedAt: parsed.IssuedAt, expiry: parsed.Expiry,
		cachedUntil: parsed.Expiry.Add(rt.policy.skew),
	}
	token.confirmation, token.bound = parsed.Claims["cnf"]
	metadata, refused := rt.metadataForIssuer(ctx)
	if refused != nil {
		return nil, nil, refused
	}
	if refused := rt.policy.check(token, parsed.Claims, metadata, now); refused != nil {
		return nil, nil, refused
	}
	keys, err := rt.provider.Keys(ctx)
	if err != nil {
		return nil, nil, rt.providerRefusal(err)
	}
	key, named, refused := signingKey(parsed, keys)
	if refused != nil && !named {
		if renewed := rt.provider.RenewKeys(ctx, keys); renewed != keys {
			keys = renewed
			key, _, refused = signingKey(parsed, keys)
		}
	}
	if refused != nil {
		return nil, nil, refused
	}
	token.keys.Store(keys)
	token.thumbprint = key.Thumbprint()
	rt.tokens.put(digest, token)
	return token, parsed.Claims, nil
}

// signingKey returns the key of the set that signed the token. named reports whether the set has the key that the token names:
// if not, the keys may be too old; if so, a signature that does not verify is final.
func signingKey(token *jose.Token, keys *jose.KeySet) (key *jose.Key, named bool, refused *refusal) {
	candidates, named := keys.Candidates(token.KeyID, token.Algorithm)
	for _, key := range candidates {
		if token.Verify(key) == nil {
			return key, named, nil
		}
	}
	switch {
	case len(candidates) > 0:
		return nil, named, refuseClaim(reasonBadSignature, "a signature by a key of the provider", "kid "+token.KeyID)
	case named:
		return nil, named, refuseClaim(reasonUnsupportedAlgorithm, "the algorithm of the key", token.Algorithm)
	default:
		return nil, named, refuseClaim(reasonUnknownKey, "a key of the provider", "kid "+token.KeyID)
	}
}

// stillSigned reports whether the key that signed a cached token is still published.
func (rt *runtime) stillSigned(token *verifiedToken) bool {
	if token.introspected {
		return true
	}
	current := rt.provider.KnownKeys()
	if token.keys.Load() == current {
		return true
	}
	if current == nil || !current.Contains(token.thumbprint) {
		return false
	}
	token.keys.Store(current)
	return true
}

func refusalOfGate(err error) *refusal {
	refused := &refusal{expected: "a JWT of three base64url segments", got: err.Error()}
	switch {
	case errors.Is(err, jose.ErrTooLarge):
		refused.reason, refused.expected = reasonTooLarge, "a smaller token"
	case errors.Is(err, jose.ErrAlgorithm):
		refused.reason, refused.expected = reasonUnsupportedAlgorithm, "an algorithm that is known"
	case errors.Is(err, jose.ErrCritical):
		refused.reason, refused.expected = reasonUnsupportedCritical, "no critical header parameters"
	default:
		refused.reason = reasonMalformedToken
	}
	return refused
}

// metadataForIssuer returns the provider's metadata where the expected issuer depends on it, else nil.
func (rt *runtime) metadataForIssuer(ctx context.Context) (*provider.Metadata, *refusal) {
	if rt.policy.issuer != "" && len(rt.policy.tenants) == 0 {
		return nil, nil
	}
	metadata, err := rt.provider.Metadata(ctx)
	if err != nil {
		return nil, rt.providerRefusal(err)
	}
	return metadata, nil
}
