package openidconnect

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// ServeHTTP decides on a request, stage by stage.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	rt := h.runtime

	// Read the credential, then remove everything that could be taken for our own word, whatever the request will get.
	token, scheme, refused := rt.credentials.take(r)
	rt.headers.strip(r)
	st := stateOf(r, rt)
	if rt.resource != nil && rt.resource.owns(r) {
		return rt.serveResourceMetadata(w, r, st)
	}
	if refused != nil {
		return rt.refuse(w, r, st, scheme, refused)
	}

	if token == "" {
		return rt.serveAnonymous(w, r, next, st)
	}

	// A credential that was sent decides alone: when it fails, nothing else is tried.
	id, refused := rt.authenticate(r, st, token, scheme)
	if refused != nil {
		rt.metrics.refusedToken(refused.reason)
		return rt.refuse(w, r, st, scheme, refused)
	}
	rt.metrics.valid.Inc()
	rt.metrics.allowed.Inc()
	rt.logAccepted(r, id)

	rt.headers.set(r, id, token)
	st.identify(id, token)
	return next.ServeHTTP(st.privateResponse(w), r)
}

// serveAnonymous gives a request without credentials what is configured for it.
func (rt *runtime) serveAnonymous(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, st *requestState) error {
	if rt.allowPreflight && isPreflight(r) {
		rt.metrics.request(methodNone, resultPreflight)
		rt.headers.setNone(r)
		return next.ServeHTTP(w, r)
	}
	pass, err := rt.unauth.passes(r)
	if err != nil {
		return err
	}
	if pass {
		rt.metrics.request(methodNone, resultPassed)
		rt.headers.setNone(r)
		return next.ServeHTTP(w, r)
	}
	return rt.refuse(w, r, st, "", refuse(reasonNoCredentials))
}

// authenticate makes an identity of a bearer token, or says why not.
func (rt *runtime) authenticate(r *http.Request, st *requestState, raw, scheme string) (*identity, *refusal) {
	if len(raw) > jose.MaxClientToken {
		return nil, refuseClaim(reasonTooLarge, jose.MaxClientToken, len(raw))
	}
	now := rt.now()
	digest := digestToken(raw)
	token, claims, refused := rt.verifiedToken(r, raw, digest, now)
	if refused != nil {
		return nil, refused
	}
	if token.bound || rt.demandsBinding || scheme == schemeDPoP {
		if refused := rt.checkBinding(r, st, token, raw, scheme, now); refused != nil {
			return nil, refused
		}
	}
	if id := token.identityFor(rt.number); id != nil {
		return id, nil
	}
	if claims == nil {
		claims = token.claims() // another handler's acceptance has pushed ours out in between
	}
	if refused := rt.authorization.check(claims); refused != nil {
		return nil, refused
	}
	id, refused := rt.identify(token, claims)
	if refused != nil {
		return nil, refused
	}
	token.accept(rt.number, id)
	return id, nil
}

// verifiedToken returns the token if the provider vouches for it and this handler's policy holds. A token in a cache has been vouched
// for; its dates are looked at each time, and the rest of the policy until this handler has accepted it. The claims are nil when it
// has.
func (rt *runtime) verifiedToken(r *http.Request, raw string, digest tokenDigest, now time.Time) (*verifiedToken, map[string]any, *refusal) {
	if rt.introspection.wants(raw) {
		token, refused := rt.introspect(r.Context(), raw, digest, r, now)
		if refused != nil {
			return nil, nil, refused
		}
		return rt.recheck(r.Context(), token, now)
	}
	if token := rt.tokens.get(digest, now); token != nil {
		if rt.stillSigned(token) {
			rt.metrics.cacheHits.Inc()
			return rt.recheck(r.Context(), token, now)
		}
		rt.tokens.remove(digest)
	}
	rt.metrics.cacheMisses.Inc()
	return rt.validateJWT(r.Context(), raw, digest, now)
}

// recheck applies this handler's policy to a token that was verified before, perhaps for another handler.
func (rt *runtime) recheck(ctx context.Context, token *verifiedToken, now time.Time) (*verifiedToken, map[string]any, *refusal) {
	if token.identityFor(rt.number) != nil {
		return token, nil, rt.policy.checkDates(token, now)
	}
	metadata, refused := rt.metadataForIssuer(ctx)
	if refused != nil {
		return nil, nil, refused
	}
	claims := token.claims()
	return token, claims, rt.policy.check(token, claims, metadata, now)
}

// providerRefusal maps what went wrong with the provider to the answer for the request that needed it.
func (rt *runtime) providerRefusal(err error) *refusal {
	refused := &refusal{reason: reasonOfProvider(err), cause: err, retryAfter: rt.provider.RetryAfter()}
	if refused.reason == reasonIntrospectionUnavailable {
		refused.retryAfter = rt.introspection.shared.introspector.RetryAfter()
	}
	return refused
}

func reasonOfProvider(err error) Reason {
	switch {
	case errors.Is(err, provider.ErrIssuerMismatch):
		return reasonDiscoveryIssuerMismatch
	case errors.Is(err, provider.ErrKeys):
		return reasonKeysUnavailable
	case errors.Is(err, provider.ErrIntrospection):
		return reasonIntrospectionUnavailable
	default:
		return reasonDiscoveryFailed
	}
}

// logRefusal writes the one line of a decision. What strangers can provoke is Debug; that a rule turned a genuine token away is Info.
// Trouble with the provider is told once for each change, not with each request.
func (rt *runtime) logRefusal(r *http.Request, refused *refusal, requestID string) {
	level := zapcore.DebugLevel
	if refused.answer().status == http.StatusForbidden {
		level = zapcore.InfoLevel
	}
	entry := rt.logger.Check(level, "request refused")
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.String("reason", string(refused.reason)),
		zap.String("expected", refused.expected),
		zap.String("got", refused.got),
		zap.String("hint", refused.answer().hint),
		zap.String("issuer", rt.issuerName),
		zap.String("host", r.Host),
		zap.String("method", r.Method),
		zap.String("request_id", requestID),
	}
	if refused.cause != nil {
		fields = append(fields, zap.Error(refused.cause))
	}
	entry.Write(fields...)
}

func (rt *runtime) logAccepted(r *http.Request, id *identity) {
	if entry := rt.logger.Check(zapcore.DebugLevel, "request accepted"); entry != nil {
		entry.Write(zap.String("method", id.method), zap.String("issuer", id.issuer), zap.String("user_id", id.user),
			zap.String("host", r.Host), zap.String("request_id", requestID(r)))
	}
}
