package openidconnect

import (
	"context"
	"encoding/base64"
	"hash/maphash"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// maxOpenedSessions bounds the sessions that are kept opened, so that a cookie that was seen before is not opened again.
	maxOpenedSessions = 10_000
	// maxOpenedSize is the size (bytes) up to which one is kept: thousands of larger ones would fill the memory.
	maxOpenedSize = 24 << 10
	// maxKeptBeside is how many bytes of other cookies a session that is kept opened may hold in memory; a copy of it would cost more.
	maxKeptBeside = 256
	// storedSessionLifetime is how long a session of a server-side store is believed before it is read again.
	storedSessionLifetime = 5 * time.Second
)

// openedSession is a session that was opened with our keys. Like a verified token it holds facts; whether they open anything is
// decided with each request.
type openedSession struct {
	verifiedToken // its payload are the claims
	*session.Session
	key       sessionKey         // by which it is kept
	reference *session.Reference // with a server-side store
	current   bool               // sealed with the newest key
	returned  atomic.Bool        // the loop breaker knows that it came back
	looked    atomic.Uint64      // the version of what is known of renewals and revocations by which it was last found alive

	mu       sync.Mutex
	reissued string // the value of its new cookie, the same for all requests that bring the old one
	at       time.Time
}

// sessionKey identifies an opened session: the whole cookie, and what it is bound to of the request. It is compared whole, so no two
// cookies are ever taken for each other.
type sessionKey struct {
	host   string // as it is bound
	secure bool   // by the cookie's name for https
	sealed string
}

type sessionCache = boundedCache[sessionKey, *openedSession]

func newSessionCache() *sessionCache {
	seed := maphash.MakeSeed()
	return newBoundedCache[sessionKey, *openedSession](maxOpenedSessions, func(key sessionKey) int {
		// the end of a sealed text is its authentication tag
		return int(maphash.String(seed, key.sealed[max(0, len(key.sealed)-16):]) & 0xffff)
	})
}

// receive takes our cookies out of the request, whatever it will get: they are nobody else's business.
func (rt *runtime) receive(r *http.Request, st *requestState) {
	v := &st.visit
	v.reply = nil
	header := r.Header
	switch {
	case st.cookiesTaken:
		// the handler around this one has taken its cookies out, which may be ours too
		header = http.Header{"Cookie": slices.Clone(st.cookieHeader)}
		rt.cookies.Take(r.Header, v.secure)
	case len(r.Header["Cookie"]) == 1:
		st.cookieLine[0] = r.Header["Cookie"][0]
		st.cookieHeader = st.cookieLine[:]
	case len(r.Header["Cookie"]) == 0:
		return
	default:
		st.cookieHeader = slices.Clone(r.Header["Cookie"])
	}
	st.cookiesTaken = true
	if rt.login == nil {
		rt.cookies.Take(header, false)
		return
	}
	for _, line := range header["Cookie"] {
		v.cookieBytes += int32(len(line))
	}
	v.cookies = rt.cookies.Take(header, v.secure)
}

// look notes how the browser reached us.
func (l *login) look(r *http.Request, v *visit) {
	v.secure, v.host = publicSchemeHost(r)
	if v.host = hostWithoutPort(v.host); l.cookieDomain != "" {
		v.host = l.cookieDomain
	}
}

// sessionOf returns the session of the request, if it has one that is alive. dead says why a cookie that was sent is none; refused
// is set when that cannot be known at the moment.
func (rt *runtime) sessionOf(r *http.Request, v *visit, now time.Time) (opened *openedSession, dead Reason, refused *refusal) {
	if !v.cookies.HasSession() {
		return nil, "", nil
	}
	for _, sealed := range v.cookies.Session {
		candidate, reason, refused := rt.openSession(r.Context(), v, sealed, now)
		switch {
		case refused != nil:
			return nil, "", refused
		case candidate == nil:
			dead = reason
		case opened != nil && opened.Subject != candidate.Subject:
			// somebody has planted a second cookie beside the first; nobody can say which is the user's
			return nil, reasonSessionInvalid, nil
		case opened == nil || candidate.isNewerThan(opened):
			opened = candidate
		}
	}
	if opened == nil {
		if dead == "" {
			dead = reasonSessionInvalid
		}
		return nil, dead, nil
	}
	rt.login.revocations.Refresh(r.Context(), now)
	version := rt.login.stateVersion()
	dead = rt.login.judgeClocks(opened.Session, now)
	if dead != "" || opened.looked.Load() != version || rt.refresh.isDue(opened.Session, now) {
		if rt.login.isRevoked(opened.Session, now) {
			return nil, rt.login.noteDead(v, opened.Session, reasonSessionRevoked), nil
		}
		// an older cookie may have come late: what counts then is the newest session, and whether there still is one
		found := rt.login.renewals.look(opened.Session, now)
		switch found.kind {
		case standingEnded:
			return nil, rt.login.noteDead(v, opened.Session, found.ended), nil
		case standingReplaced, standingSpent:
			if opened, dead, refused = rt.moveOn(r.Context(), v, opened, found); opened == nil {
				return nil, dead, refused
			}
		case standingCurrent, standingClaimed, standingUnderWay, standingPaused:
			if !found.passing {
				opened.looked.Store(version)
			}
		}
	}
	if dead = rt.login.judgeClocks(opened.Session, now); dead != "" {
		return nil, rt.login.noteDead(v, opened.Session, dead), nil
	}
	if dead := judgeToken(opened.Session, now); dead != "" && rt.headers.accessToken && !rt.refresh.canRenew(opened.Session) {
		v.keep = true // handlers that pass no token on still take it
		return nil, dead, nil
	}
	if !opened.returned.Load() {
		opened.returned.Store(true)
		rt.login.memory.comesBack(opened.Session, now)
	}
	return opened, "", nil
}

// isNewerThan compares two sessions of one browser.
func (o *openedSession) isNewerThan(other *openedSession) bool {
	if o.ID == other.ID && o.Generation != other.Generation {
		return o.Generation > other.Generation
	}
	return o.LastUsed.After(other.LastUsed)
}

// endOf is when a session ends whatever happens.
//
// Raising absolute_timeout does not lengthen sessions that exist: the list of ended sessions is kept only until their first end, so a longer
// life would revive sessions that have been logged out.
func (l *login) endOf(sess *session.Session) time.Time {
	end := sess.Created.Add(l.absolute)
	if !sess.End.IsZero() && sess.End.Before(end) {
		return sess.End
	}
	return end
}

// sharedEnd is the end by which instances find what they share of a session: their settings may differ for a while.
func (l *login) sharedEnd(sess *session.Session) time.Time {
	if sess.End.IsZero() {
		return l.endOf(sess)
	}
	return sess.End
}

// isOutdated reports whether the browser is known to have something newer than this session; answers to it leave the browser's cookie alone.
func (l *login) isOutdated(sess *session.Session) bool {
	return l.memory.isSuperseded(sess.ID) || l.renewals.isNewerThan(sess)
}

// noteDead remembers whose cookie the answer may delete. It is kept where the browser is known to have a newer session.
func (l *login) noteDead(v *visit, sess *session.Session, dead Reason) Reason {
	v.carried = sess
	v.keep = v.keep || l.isOutdated(sess)
	return dead
}

// judgeClocks looks at the clocks of a session itself, the absolute and the idle one.
func (l *login) judgeClocks(sess *session.Session, now time.Time) Reason {
	switch {
	case !now.Before(l.endOf(sess)):
		return reasonSessionExpired
	case l.idle > 0 && !now.Before(sess.LastUsed.Add(l.idle)):
		return reasonSessionIdle
	default:
		return ""
	}
}

// judgeToken looks at the access token, which counts only where it is passed on: an expired one never is.
func judgeToken(sess *session.Session, now time.Time) Reason {
	switch {
	case sess.AccessToken == "":
		return reasonSessionInvalid // made when it did not have to be kept
	case hasExpired(sess, now):
		return reasonSessionExpired
	default:
		return ""
	}
}

// openSession opens a session's cookie, or finds it open.
func (rt *runtime) openSession(ctx context.Context, v *visit, sealed string, now time.Time) (*openedSession, Reason, *refusal) {
	l := rt.login
	key := sessionKey{v.host, v.secure, sealed}
	if opened := l.opened.get(key, now); opened != nil {
		return opened, "", nil
	}
	sess, reference, current, err := session.OpenCookie(ctx, l.sealer, l.binding(v, l.cookies.Name(v.secure)), sealed)
	if err != nil || (reference != nil) != (l.store != nil) {
		return nil, reasonSessionInvalid, nil
	}
	if reference != nil {
		var reason Reason
		var refused *refusal
		named := &session.Session{ID: reference.ID, Generation: math.MaxUint64} // its cookie is the same for all generations
		if l.isRevoked(named, now) {
			return nil, l.noteDead(v, named, reasonSessionRevoked), nil
		}
		if sess, reason, refused = l.loadSession(ctx, reference); sess == nil {
			if refused == nil {
				l.noteDead(v, named, reason)
			} else {
				l.revocations.Recheck(ctx, now)
			}
			return nil, reason, refused
		}
	}
	if len(sealed)+maxKeptBeside < int(v.cookieBytes) {
		key.sealed = strings.Clone(sealed) // not the whole header with it
	}
	opened := &openedSession{Session: sess, key: key, reference: reference, current: current}
	rt.noteSID(sess)
	l.remember(opened, now)
	return opened, "", nil
}

// remember keeps a session opened for the requests to come.
func (l *login) remember(opened *openedSession, now time.Time) {
	opened.payload = opened.Claims
	opened.cachedUntil = l.endOf(opened.Session)
	if opened.reference != nil {
		opened.cachedUntil = now.Add(storedSessionLifetime)
	}
	if len(opened.key.sealed)+len(opened.Claims)+len(opened.AccessToken) <= maxOpenedSize {
		l.opened.put(opened.key, opened)
	}
}

// identifySession makes the identity that this handler sees in a session, by the same rules as in a token.
func (rt *runtime) identifySession(opened *openedSession) (*identity, *refusal) {
	if id := opened.identityFor(rt.number); id != nil {
		return id, nil
	}
	if rt.plainIdentity {
		id := &identity{method: methodSession, issuer: rt.policy.issuer, user: opened.Subject, payload: opened.payload, scope: opened.Scope}
		rt.addSessionHeaders(id, opened)
		opened.accept(rt.number, id)
		return id, nil
	}
	claims := opened.claims()
	if claims == nil {
		return nil, refuseClaim(reasonClaimRequired, "the claims of the session", nil)
	}
	addScope(claims, opened.Scope)
	if refused := rt.authorization.check(claims); refused != nil {
		refused.account = accountOf(claims)
		return nil, refused
	}
	id, refused := rt.identify(&opened.verifiedToken, claims)
	if refused != nil {
		refused.account = accountOf(claims)
		return nil, refused
	}
	id.method, id.scope = methodSession, opened.Scope
	rt.addSessionHeaders(id, opened)
	opened.accept(rt.number, id)
	return id, nil
}

// addScope adds what a login was granted, for rules, headers and placeholders: access tokens say it too, ID tokens do not.
func addScope(claims map[string]any, scope string) {
	if _, ok := claims["scope"]; !ok && scope != "" {
		claims["scope"] = scope
	}
}

// addSessionHeaders adds the headers that only a session can fill.
func (rt *runtime) addSessionHeaders(id *identity, opened *openedSession) {
	if rt.headers.userinfo && rt.plainIdentity {
		rt.addHeader(id, headerUserinfo, base64.StdEncoding.EncodeToString([]byte(opened.payload)))
	}
	if rt.headers.idToken && opened.IDTokenClaims != "" {
		rt.addHeader(id, headerIDToken, base64.StdEncoding.EncodeToString([]byte(opened.IDTokenClaims)))
	}
	if rt.headers.rawIDToken && opened.IDToken != "" {
		rt.addHeader(id, headerRawIDToken, opened.IDToken)
	}
	if rt.headers.refreshToken && opened.RefreshToken != "" {
		rt.addHeader(id, headerRefreshToken, opened.RefreshToken)
	}
}

// accountOf is how a page names the account that somebody is signed in with.
func accountOf(claims map[string]any) string {
	for _, name := range []string{"preferred_username", "email", "name", "sub"} {
		if text, ok := claims[name].(string); ok && strings.TrimSpace(text) != "" {
			return logText(text)
		}
	}
	return ""
}
