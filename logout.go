package openidconnect

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// endingWait bounds how long a logout waits for what has to be written; whatever is not by then goes on by itself.
const endingWait = 3 * time.Second

// serveLogout ends the session of the browser, here first, whatever the provider does, and then there.
func (rt *runtime) serveLogout(w http.ResponseWriter, r *http.Request, st *requestState) error {
	if r.TLS != nil && !r.TLS.HandshakeComplete {
		w.WriteHeader(http.StatusTooEarly) // early data can be sent twice by anybody (RFC 8470 section 5.2)
		return nil
	}
	switch {
	case r.Method == http.MethodPost && comesFromElsewhere(r):
		refused := refuse(reasonCrossSiteLogout)
		refused.page, refused.action = pageSignOut, rt.login.logoutPath
		return rt.refuse(w, r, st, "", refused)
	case r.Method == http.MethodPost, r.Method == http.MethodGet, r.Method == http.MethodHead:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	v := &st.visit
	if !logsOut(r) {
		if !v.cookies.HasSession() && !rt.login.strict {
			return rt.writeSignedOut(w, r, st, "")
		}
		return rt.pages.write(w, r, pageData{Page: pageSignOut, Action: rt.login.logoutPath})
	}
	ended := rt.endSessionsOf(r, v)
	v.reply = rt.login.cookies.DeleteSession(&v.cookies, v.secure)
	for _, transaction := range v.cookies.Transactions {
		v.reply = append(v.reply, rt.login.cookies.DeleteTransaction(v.secure, transaction.Name))
	}
	if ended == nil && isScript(r) {
		st.setCookies(w.Header(), v.reply)
		return writeLogoutURL(w, r, rt.login.prefix+endpointLoggedOut)
	}
	if ended == nil {
		return rt.writeSignedOut(w, r, st, "")
	}
	if rt.login.revokesTokens {
		rt.revokeTokens(r.Context(), ended.Session)
	}
	target, detail := rt.logoutTarget(r, v, ended.Session)
	if isScript(r) {
		st.setCookies(w.Header(), v.reply)
		return writeLogoutURL(w, r, or(target, rt.login.prefix+endpointLoggedOut))
	}
	if target == "" {
		return rt.writeSignedOut(w, r, st, detail)
	}
	st.setCookies(w.Header(), v.reply)
	header := w.Header()
	header.Set("Location", target)
	header.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusFound)
	return nil
}

// logsOut reports whether a request ends the session: a page that the user has asked for here, or a form or a script of the site. An image,
// a prefetch or a link on another site does not.
func logsOut(r *http.Request) bool {
	switch {
	case comesFromElsewhere(r), isPrefetch(r):
		return false
	case r.Method == http.MethodPost:
		return true
	default:
		return r.Method == http.MethodGet && navigationOf(r) == topNavigation
	}
}

// isScript reports whether a script of the site has sent the request. It cannot follow to the provider by itself.
func isScript(r *http.Request) bool {
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode != "navigate"
	}
	return r.Header.Get("X-Requested-With") == "XMLHttpRequest" || accepts(r, "application/json") && !accepts(r, "text/html")
}

// comesFromElsewhere reports whether another site has caused the request: by what the browser says of that, else by where it says that it
// has come from. A program says neither.
func comesFromElsewhere(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "cross-site"
	}
	from := or(r.Header.Get("Origin"), r.Header.Get("Referer"))
	if from == "" {
		return false
	}
	u, err := url.Parse(from)
	return err != nil || originOf(u) != publicOrigin(r)
}

// endSessionsOf ends every session that the browser has brought, and returns the newest; nil when there was none that was alive.
func (rt *runtime) endSessionsOf(r *http.Request, v *visit) (newest *openedSession) {
	l, now := rt.login, rt.now()
	opening, cancel := context.WithTimeout(r.Context(), endingWait) // of all of them, from a store that hangs
	defer cancel()
	for _, sealed := range v.cookies.Session {
		opened, _, refused := rt.openSession(opening, v, sealed, now)
		if refused != nil {
			opened = rt.openUnread(r.Context(), v, sealed)
		}
		if opened == nil {
			continue
		}
		dead := l.judgeClocks(opened.Session, now)
		if dead == reasonSessionExpired || l.isRevoked(opened.Session, now) {
			continue
		}
		found := l.renewals.look(opened.Session, now)
		if found.kind == standingReplaced || found.kind == standingSpent {
			// the newest has the tokens that are still good
			if moved, _, _ := rt.moveOn(opening, v, opened, found); moved != nil {
				opened = moved
			}
		}
		first := rt.endSession(r.Context(), opened) // another tab may be doing the same
		l.memory.firstDeletion(opened.ID, now)      // which is in the answer
		// an idle session is none, but a copy of its cookie may be in use
		if first && dead == "" && found.kind != standingEnded && (newest == nil || opened.isNewerThan(newest)) {
			newest = opened
		}
	}
	v.keep, v.renewed = false, ""
	if newest != nil {
		rt.tellLogout(r, newest.Session, logoutByUser)
	}
	return newest
}

// openUnread makes what can be made of a session whose store does not answer: its name, by which it is over.
func (rt *runtime) openUnread(ctx context.Context, v *visit, sealed string) *openedSession {
	l := rt.login
	_, reference, _, err := session.OpenCookie(ctx, l.sealer, l.binding(v, l.cookies.Name(v.secure)), sealed)
	if err != nil || reference == nil || l.store == nil {
		return nil
	}
	return &openedSession{
		Session:   &session.Session{ID: reference.ID, LastUsed: rt.now(), Created: reference.Expires.Add(-l.absolute), End: reference.Expires},
		reference: reference,
	}
}

// endSession ends a session everywhere: a copy of its cookie opens nothing any more, in no generation and on no instance, and what was kept
// of it is gone. It waits for that, but not for long; what this process knows has changed when it returns. It reports whether it was the first.
func (rt *runtime) endSession(ctx context.Context, opened *openedSession) (first bool) {
	l, now := rt.login, rt.now()
	first = l.renewals.purge(opened.Session, l.endOf(opened.Session), now, now)
	ctx = context.WithoutCancel(ctx)
	var written sync.WaitGroup
	for _, write := range []func(context.Context){
		func(ctx context.Context) {
			rt.revoke(ctx, session.Revocation{Owner: l.owner(), ID: opened.ID, Until: later(l.endOf(opened.Session), l.sharedEnd(opened.Session))})
		},
		func(ctx context.Context) { rt.forgetShared(ctx, opened) },
	} {
		written.Add(1)
		l.renewals.inBackground(func() {
			defer written.Done()
			ctx, cancel := context.WithTimeout(ctx, renewalTimeout)
			defer cancel()
			write(ctx)
		})
	}
	waitAtMost(&written, endingWait)
	return first
}

// waitAtMost waits for work that ends by itself.
func waitAtMost(work *sync.WaitGroup, most time.Duration) {
	done := make(chan struct{})
	go func() {
		work.Wait()
		close(done)
	}()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// How sessions are logged out; with the prefix in front, why they have ended.
const (
	reasonLogoutPrefix = "logout_"

	logoutByUser         = "user"
	logoutByBackchannel  = "backchannel"
	logoutByFrontchannel = "frontchannel"
	logoutByOperator     = "operator"
)

// tellLogout tells of a logout in the log and to those who listen.
func (rt *runtime) tellLogout(r *http.Request, sess *session.Session, by string) {
	rt.logger.Info("logout", zap.String("by", by), zap.String("issuer", rt.issuerName), zap.String("user_id", sess.Subject),
		zap.String("host", r.Host), zap.String("request_id", requestID(r)))
	rt.metrics.sessionsEnded(reasonLogoutPrefix+by, 1)
	rt.emit(r, eventLogout, map[string]any{"by": by, "subject": sess.Subject, "count": 1})
}

// writeSignedOut shows the page that says so. It starts no login: the provider might sign the user in again without a word.
func (rt *runtime) writeSignedOut(w http.ResponseWriter, r *http.Request, st *requestState, detail string) error {
	st.setCookies(w.Header(), st.visit.reply)
	return rt.pages.write(w, r, pageData{Page: pageSignedOut, Detail: detail, Action: rt.login.loginURL("", "")})
}

// serveLoggedOut is where the provider sends browsers after a logout, and anybody else may come. Nobody is told to be signed out who is not.
func (rt *runtime) serveLoggedOut(w http.ResponseWriter, r *http.Request, st *requestState) error {
	if opened, _, refused := rt.sessionOf(r, &st.visit, rt.now()); opened != nil || refused != nil {
		return rt.pages.write(w, r, pageData{Page: pageSignOut, Action: rt.login.logoutPath})
	}
	detail := ""
	if state := originalURL(r).Query()["state"]; len(state) == 1 && rt.isLogoutState(r.Context(), &st.visit, state[0]) {
		detail = detailSignedOutThere
	}
	return rt.writeSignedOut(w, r, st, detail)
}

// writeLogoutURL tells a script where to send the browser.
func writeLogoutURL(w http.ResponseWriter, r *http.Request, target string) error {
	body, err := json.Marshal(struct {
		LogoutURL string `json:"logout_url"`
	}{target})
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	return writeBody(w, r, http.StatusOK, "application/json", append(body, '\n'))
}
