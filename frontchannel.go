package openidconnect

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// frontchannelPage is what the provider's page gets into its frame.
const frontchannelPage = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Signed out</title></head><body></body></html>\n"

// serveFrontchannelLogout ends the session that a page of the provider names, which loads this in a frame (OpenID Connect Front-Channel
// Logout 1.0). Anybody can frame it, so it takes the name of a session that there is: the one of this browser, one in the store, or one
// that has been seen here; anything else leaves no trace. It never revokes tokens, and its answer tells nothing.
func (rt *runtime) serveFrontchannelLogout(w http.ResponseWriter, r *http.Request, st *requestState) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	if sid, ok := rt.frontchannelSID(r); ok && r.Method == http.MethodGet && !isPrefetch(r) {
		rt.endBySID(r, st, sid)
		st.setCookies(w.Header(), st.visit.reply)
	}
	// directives around this one may forbid framing; this page has to be framed
	w.Header().Del("X-Frame-Options")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors *")
	w.Header().Set("Referrer-Policy", "no-referrer")
	return writeBody(w, r, http.StatusOK, "text/html; charset=utf-8", []byte(frontchannelPage))
}

// frameInterval is how often a session can be ended by a frame that strangers may load too.
const frameInterval = 10 * time.Second

// maxSID bounds the name of a session (bytes).
const maxSID = 512

// frontchannelSID is the session that the provider names, if it is the provider that is named as well.
func (rt *runtime) frontchannelSID(r *http.Request) (sid string, ok bool) {
	query, err := url.ParseQuery(originalURL(r).RawQuery)
	if err != nil || len(query["iss"]) != 1 || len(query["sid"]) != 1 || query.Get("sid") == "" || len(query.Get("sid")) > maxSID {
		return "", false
	}
	metadata := rt.provider.KnownMetadata()
	issuers := []string{rt.login.issuer}
	if metadata != nil {
		issuers = rt.policy.issuers(metadata)
	}
	return query.Get("sid"), slices.Contains(issuers, query.Get("iss"))
}

// endBySID ends the sessions that the provider calls by a name that is known here.
func (rt *runtime) endBySID(r *http.Request, st *requestState, sid string) {
	l, v, now := rt.login, &st.visit, rt.now()
	own, subject := false, ""
	for _, sealed := range v.cookies.Session {
		opened, _, _ := rt.openSession(r.Context(), v, sealed, now)
		if opened == nil || opened.SID != sid || l.judgeClocks(opened.Session, now) != "" || l.isRevoked(opened.Session, now) {
			continue
		}
		rt.endSession(r.Context(), opened)
		v.reply = l.cookies.DeleteSession(&v.cookies, v.secure)
		own, subject = true, opened.Subject
	}
	ended := session.Revocation{Owner: l.owner(), SID: sid, Created: l.logouts.momentOf(now)}
	var count int
	var err error
	repeated := "frame of " + sid
	switch {
	case !own && l.logouts.hasCarriedOut(repeated, now):
		return // anybody can load the frame again and again
	case own || l.logouts.hasSeenSID(sid, now):
		count, err = rt.endAll(r.Context(), ended)
	case !l.logouts.beginLookup():
		return // strangers can ask for any name, and the storage is for others too
	case l.store != nil:
		count, err = rt.endStored(r.Context(), ended)
		l.logouts.endLookup()
	default:
		known := l.revocations.KnowsSID(r.Context(), l.owner(), sid)
		l.logouts.endLookup()
		if !known {
			return
		}
		count, err = rt.endAll(r.Context(), ended)
	}
	if own || count > 0 {
		l.logouts.carriesOut(repeated, now.Add(frameInterval), now)
	}
	switch {
	case err != nil && !l.renewals.mayTellStore(now):
	case err != nil:
		rt.logger.Error("front-channel logout failed", zap.String("reason", string(reasonStoreUnavailable)), zap.Error(err),
			zap.String("hint", answers[reasonStoreUnavailable].hint), zap.String("issuer", rt.issuerName), zap.String("request_id", requestID(r)))
	case own || count > 0:
		rt.logger.Info("logout", zap.String("by", logoutByFrontchannel), zap.String("issuer", rt.issuerName), zap.Int("count", count),
			zap.String("user_id", subject), zap.String("host", r.Host), zap.String("request_id", requestID(r)))
		rt.metrics.sessionsEnded(reasonLogoutPrefix+logoutByFrontchannel, max(count, 1))
		rt.emit(r, eventLogout, map[string]any{"by": logoutByFrontchannel, "subject": subject, "sid": sid, "count": max(count, 1)})
	}
}

// noteSID remembers what the provider calls a session, for a logout that nothing else vouches for.
func (rt *runtime) noteSID(sess *session.Session) {
	l := rt.login
	if l.frontchannel && sess.SID != "" {
		l.logouts.noteSID(sess.SID, l.endOf(sess), rt.now())
	}
}

// shareSID has other instances know that name too, as the provider's page may reach any of them.
func (rt *runtime) shareSID(ctx context.Context, sess *session.Session) {
	l := rt.login
	if !l.frontchannel || sess.SID == "" || l.store != nil {
		return
	}
	rt.noteSID(sess)
	ctx = context.WithoutCancel(ctx)
	l.renewals.inBackground(func() {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if err := l.revocations.NoteSID(ctx, l.owner(), sess.SID, l.endOf(sess)); err != nil {
			rt.warnOfStorage("other instances cannot end a session by front-channel logout, as the storage fails", err)
		}
	})
}
