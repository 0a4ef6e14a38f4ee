package openidconnect

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

const (
	// maxIntrospectionAge bounds how long an answer is believed when nothing shorter is configured.
	maxIntrospectionAge = 5 * time.Minute
	// unknownExpiryAge bounds it for answers that do not say when the token expires.
	unknownExpiryAge = time.Minute
)

// introspection is what handlers share that ask the provider in the name of the same client: who asks, the answers, and the calls
// under way.
type introspection struct {
	introspector *provider.Introspector
	answers      *tokenCache
	flight       singleflight.Group

	mu       sync.Mutex
	toldDown bool // what the log was last told
	toldAt   time.Time
}

// tell reports whether the log should hear of the state of the last call.
func (i *introspection) tell(down bool, now time.Time) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if down == i.toldDown || now.Sub(i.toldAt) < time.Minute {
		return false
	}
	i.toldDown, i.toldAt = down, now
	return true
}

// introspectionPolicy is what one handler wants of introspection (RFC 7662).
type introspectionPolicy struct {
	mode        string
	configured  bool // a client is there to ask as
	shared      *introspection
	interval    *Duration // upper bound for believing an answer
	expiryClaim string
	headers     []string // of the request, to send along
}

// When tokens are introspected.
const (
	introspectionAuto   = "auto"
	introspectionAlways = "always"
	introspectionOff    = "off"
)

// wants reports whether this token is for introspection rather than for a look at its signature.
func (p *introspectionPolicy) wants(raw string) bool {
	switch p.mode {
	case introspectionAlways:
		return true
	case introspectionOff:
		return false
	default:
		return p.configured && !jose.LooksLikeJWT(raw)
	}
}

// key identifies an answer: the token, the headers that were sent along, and what bounds its life.
func (p *introspectionPolicy) key(digest tokenDigest, r *http.Request) (tokenDigest, http.Header) {
	if len(p.headers) == 0 && p.interval == nil && p.expiryClaim == "exp" {
		return digest, nil
	}
	hash := sha256.New()
	hash.Write(digest[:])
	fmt.Fprintf(hash, "%d %s", p.interval.or(-1), p.expiryClaim)
	header := make(http.Header, len(p.headers))
	for _, name := range p.headers {
		if values := r.Header[name]; len(values) > 0 {
			header[name] = values
			fmt.Fprintf(hash, "\n%q %q", name, values)
		}
	}
	return tokenDigest(hash.Sum(nil)), header
}

// introspect asks the provider about a token, or takes an answer that it gave not long ago.
func (rt *runtime) introspect(ctx context.Context, raw string, digest tokenDigest, r *http.Request, now time.Time) (*verifiedToken, *refusal) {
	metadata, err := rt.provider.Metadata(ctx)
	if err != nil {
		return nil, rt.providerRefusal(err)
	}
	if metadata.Introspection == "" && rt.introspection.mode == introspectionAuto {
		return nil, refuseClaim(reasonMalformedToken, "a JWT, as the provider has no introspection_endpoint", "an opaque token")
	}
	shared := rt.introspection.shared
	key, header := rt.introspection.key(digest, r)
	if token := shared.answers.get(key, now); token != nil {
		rt.metrics.cacheHits.Inc()
		return token, nil
	}
	rt.metrics.cacheMisses.Inc()
	// One call for all that bring the same token; nobody's disconnect cancels it for the others.
	done := shared.flight.DoChan(string(key[:]), func() (_ any, err error) {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: panic: %v", provider.ErrIntrospection, r) // it would end the process otherwise
			}
		}()
		claims, text, err := shared.introspector.Introspect(context.WithoutCancel(ctx), raw, header)
		rt.logIntrospection(err)
		if err != nil {
			return nil, err
		}
		token, refused := rt.readAnswer(raw, claims, text)
		if refused != nil {
			return refused, nil
		}
		if now := rt.now(); now.Before(token.cachedUntil) {
			shared.answers.put(key, token)
		}
		return token, nil
	})
	select {
	case result := <-done:
		if result.Err != nil {
			return nil, rt.providerRefusal(result.Err)
		}
		if refused, ok := result.Val.(*refusal); ok {
			return nil, refused
		}
		return result.Val.(*verifiedToken), nil
	case <-ctx.Done():
		return nil, rt.providerRefusal(fmt.Errorf("%w: %w", provider.ErrIntrospection, ctx.Err()))
	}
}

// logIntrospection writes a line when introspection stops or starts to work, not with each failure, and at most one a minute: what a
// stranger sends as a token may make it fail.
func (rt *runtime) logIntrospection(err error) {
	if !rt.introspection.shared.tell(err != nil, rt.now()) {
		return
	}
	logger := rt.logger.With(zap.String("issuer", rt.issuerName), zap.String("client_id", rt.policy.clientID))
	if err == nil {
		logger.Info("introspection works again")
		return
	}
	reason := reasonOfProvider(err)
	logger.Warn("introspection does not work; opaque tokens get 503",
		zap.String("reason", string(reason)), zap.String("hint", answers[reason].hint), zap.Error(err))
}

// readAnswer makes a token of an introspection answer. Only active with the boolean true makes one.
func (rt *runtime) readAnswer(raw string, claims map[string]any, text string) (*verifiedToken, *refusal) {
	if active, ok := claims["active"].(bool); !ok || !active {
		return nil, refuseClaim(reasonInactive, "active true", claims["active"])
	}
	if kind, ok := claims["token_type"]; ok {
		name, _ := kind.(string)
		switch {
		case strings.EqualFold(name, "Bearer"), strings.EqualFold(name, "access_token"):
		case strings.EqualFold(name, "DPoP") && claims["cnf"] != nil: // what proves it is looked at with each request
		default:
			return nil, refuseClaim(reasonWrongTokenType, "token_type Bearer", kind)
		}
	}
	signed, encrypted := jose.Shape(raw)
	token := &verifiedToken{payload: text, introspected: true, opaque: !signed && !encrypted}
	token.confirmation, token.bound = claims["cnf"]
	var err error
	if token.expiry, err = jose.Date(claims, "exp"); err == nil {
		if token.notBefore, err = jose.Date(claims, "nbf"); err == nil {
			token.issuedAt, err = jose.Date(claims, "iat")
		}
	}
	if err != nil {
		return nil, refusalOfGate(err)
	}
	bound := token.expiry
	if name := rt.introspection.expiryClaim; name != "exp" {
		if bound, err = jose.Date(claims, name); err != nil {
			return nil, refusalOfGate(err)
		}
	}
	now := rt.now()
	age := rt.introspection.interval.or(maxIntrospectionAge)
	if bound.IsZero() {
		age = rt.introspection.interval.or(unknownExpiryAge)
	}
	token.cachedUntil = now.Add(age)
	if !bound.IsZero() && bound.Before(token.cachedUntil) {
		token.cachedUntil = bound
	}
	return token, nil
}
