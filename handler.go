package openidconnect

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
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

	// Read the credentials, then remove everything that could be taken for our own word, whatever the request will get.
	st := stateOf(r, rt)
	var token, scheme string
	var refused *refusal
	if !rt.ignoreBearer {
		token, scheme, refused = rt.credentials.take(r, &st.taken)
	}
	rt.headers.strip(r, &st.taken)
	if rt.login != nil {
		rt.login.look(r, &st.visit)
	}
	rt.receive(r, st)
	if rt.login != nil {
		if name := rt.login.ownEndpoint(originalURL(r).EscapedPath()); name != "" {
			return rt.serveEndpoint(w, r, st, name)
		}
	}
	if rt.resource != nil && rt.resource.owns(r) {
		return rt.serveResourceMetadata(w, r, st)
	}
	if refused != nil {
		return rt.refuse(w, r, st, scheme, refused)
	}

	// A token that was sent decides alone: when it fails, nothing else is tried.
	if token != "" {
		return rt.serveBearer(w, r, next, st, token, scheme)
	}
	if rt.login != nil {
		now := rt.now()
		opened, dead, refused := rt.sessionOf(r, &st.visit, now)
		if opened != nil && rt.needsRenewal(opened.Session, now) {
			opened, dead, refused = rt.renew(r, &st.visit, opened)
			now = rt.now()
		}
		switch {
		case refused != nil:
			return rt.refuse(w, r, st, "", refused)
		case opened != nil:
			return rt.serveSignedIn(w, r, next, st, opened, now)
		}
		st.dead = dead
	}
	return rt.serveAnonymous(w, r, next, st)
}

// serveBearer gives a request with a bearer token what the token is good for.
func (rt *runtime) serveBearer(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, st *requestState, token, scheme string) error {
	id, refused := rt.authenticate(r, st, token, scheme)
	if refused != nil {
		rt.metrics.refusedToken(refused.reason)
		return rt.refuse(w, r, st, scheme, refused)
	}
	rt.metrics.valid.Inc()
	rt.metrics.allowedBearer.Inc()
	rt.logAccepted(r, id)

	st.keepAuthorization(r)
	rt.headers.set(r, id, token)
	st.identify(id, token)
	return st.pass(w, r, next, true)
}

// serveSignedIn gives a request with a session what its user may have.
func (rt *runtime) serveSignedIn(
	w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, st *requestState, opened *openedSession, now time.Time,
) error {
	rt.carryOn(r.Context(), &st.visit, opened, now)
	id, refused := rt.identifySession(opened)
	if refused != nil {
		st.signedIn = true
		return rt.refuse(w, r, st, "", refused)
	}
	rt.metrics.allowedSession.Inc()
	rt.logAccepted(r, id)

	st.keepAuthorization(r)
	rt.headers.set(r, id, opened.AccessToken)
	st.identify(id, opened.AccessToken)
	return st.pass(w, r, next, true)
}

// serveAnonymous gives a request without credentials what is configured for it.
func (rt *runtime) serveAnonymous(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, st *requestState) error {
	action, result := unauthPass, resultPreflight
	if !rt.allowPreflight || !isPreflight(r) {
		var err error
		if action, err = rt.unauth.actionFor(r); err != nil {
			return err
		}
		result = resultPassed
	}
	if rt.login != nil && navigationOf(r) == topNavigation && st.dead != "" && !st.visit.keep {
		rt.deleteDead(r, st)
	}
	switch {
	case action == unauthPass:
		rt.metrics.request(methodNone, result)
		if entry := rt.logger.Check(zapcore.DebugLevel, "request passed"); entry != nil {
			entry.Write(zap.String("result", result), zap.String("issuer", rt.issuerName), zap.String("host", r.Host),
				zap.String("method", r.Method), zap.String("request_id", requestID(r)))
		}
		st.keepAuthorization(r)
		rt.headers.setNone(r)
		return st.pass(w, r, next, false)
	case action == unauthAuth && rt.login != nil:
		return rt.requireLogin(w, r, st)
	default:
		return rt.refuse(w, r, st, "", refuse(reasonNoCredentials))
	}
}

// toldElsewhere are ends of sessions that get no line of their own here: anybody can send a cookie that cannot be opened, and what became of a
// renewal was told when it happened.
var toldElsewhere = []Reason{reasonSessionInvalid, reasonRefreshRejected, reasonRefreshUnavailable}

// deleteDead has the browser drop the cookie of a session that is none any more. It is told so once: a page that was asked for at the same
// time must not delete what a login has written in between.
func (rt *runtime) deleteDead(r *http.Request, st *requestState) {
	l, v := rt.login, &st.visit
	if v.carried != nil && !l.memory.firstDeletion(v.carried.ID, rt.now()) {
		return
	}
	v.reply = l.cookies.DeleteSession(&v.cookies, v.secure)
	if !slices.Contains(toldElsewhere, st.dead) {
		rt.logger.Info("session ended", zap.String("reason", string(st.dead)), zap.String("hint", answers[st.dead].hint),
			zap.String("issuer", rt.issuerName), zap.String("host", r.Host), zap.String("request_id", requestID(r)))
		subject := ""
		if v.carried != nil {
			subject = v.carried.Subject
		}
		if st.dead != reasonSessionRevoked { // which was counted when it was ended
			rt.metrics.sessionsEnded(string(st.dead), 1)
		}
		rt.emit(r, eventSessionEnded, map[string]any{"reason": string(st.dead), "subject": subject})
	}
}

// requireLogin sends a page navigation to the provider. Everything else is told that a login is needed: a script, an image or a WebSocket
// cannot log anybody in, and a redirect would drop what a form has sent.
func (rt *runtime) requireLogin(w http.ResponseWriter, r *http.Request, st *requestState) error {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch kind := navigationOf(r); {
	case kind == notNavigation:
		return rt.refuse(w, r, st, "", refuse(reasonNoCredentials))
	case !reads:
		refused := refuse(reasonNoCredentials)
		refused.page = pageSessionEnded
		refused.action = rt.login.loginURL(safeReturnURL(r.Header.Get("Referer"), publicOrigin(r)), "")
		return rt.refuse(w, r, st, "", refused)
	case kind == framedNavigation && !rt.login.framed:
		refused := refuse(reasonNoCredentials)
		refused.page, refused.action = pageFramed, location(requestedURL(r), publicOrigin(r))
		return rt.refuse(w, r, st, "", refused)
	case rt.login.strict && isCrossSite(r) && !st.visit.cookies.HasSession():
		// a strict cookie does not come along from another site; it may be there all the same
		return rt.pages.write(w, r, pageData{
			Page: pageContinue, Status: http.StatusOK, Refresh: true, Action: location(requestedURL(r), publicOrigin(r)),
		})
	default:
		return rt.startLogin(w, r, st, loginAttempt{returnURL: requestedURL(r)})
	}
}

// goTo ends a login. Under strict the browser would leave its new cookie behind on a redirect that began at the provider, so it is
// sent on by a page of ours.
func (rt *runtime) goTo(w http.ResponseWriter, r *http.Request, target string) {
	if !rt.login.strict {
		redirect(w, r, target)
		return
	}
	err := rt.pages.write(w, r, pageData{Page: pageContinue, Status: http.StatusOK, Refresh: true, Action: target})
	if err != nil {
		rt.logger.Error("page not written", zap.Error(err), zap.String("request_id", requestID(r)))
	}
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

// logRefusal writes the one line of a decision. What strangers can provoke is Debug; that a rule turned a genuine token or user away is
// Info; what the provider did wrong in a login is Warn, so many times a minute, and what we did wrong Error. That it cannot be reached is told
// once for each change, and that the store of sessions fails once a minute, not with each request.
func (rt *runtime) logRefusal(r *http.Request, st *requestState, refused *refusal, requestID string) {
	a := refused.answer()
	level := zapcore.DebugLevel
	switch {
	case errors.Is(refused.cause, context.Canceled): // by a client that has gone
	case refused.reason == reasonSessionTooLarge, refused.reason == reasonStoreUnavailable && rt.login.renewals.mayTellStore(rt.now()):
		level = zapcore.ErrorLevel
	case refused.reason == reasonAccessDenied:
		if rt.login.memory.mayTell(string(refused.reason), rt.now()) {
			level = zapcore.InfoLevel
		}
	case a.status == http.StatusForbidden && refused.reason != reasonCrossSiteLogin && refused.reason != reasonCrossSiteLogout:
		level = zapcore.InfoLevel
	case refused.warns && rt.login.memory.mayTell(string(refused.reason)+strconv.Itoa(a.status), rt.now()):
		level = zapcore.WarnLevel
	}
	entry := rt.logger.Check(level, "request refused")
	if entry == nil {
		return
	}
	reason, hint := refused.reason, or(refused.hint, a.hint)
	if reason == reasonNoCredentials && st.dead != "" {
		reason, hint = st.dead, answers[st.dead].hint // the request is not told, the operator is
	}
	fields := []zap.Field{
		zap.String("reason", string(reason)),
		zap.String("expected", refused.expected),
		zap.String("got", refused.got),
		zap.String("hint", hint),
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
