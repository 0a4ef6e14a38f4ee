package openidconnect

import (
	"context"
	"crypto/rand"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// carryOn notes the cookies that the answer has to bring: of a session that was renewed, or last reissued long enough ago, or sealed with an
// older key. All requests that bring the same cookie get the same new one.
func (rt *runtime) carryOn(ctx context.Context, v *visit, opened *openedSession, now time.Time) {
	l := rt.login
	if v.renewed == "" && opened.current && now.Sub(opened.LastUsed) < l.reissue || l.memory.isSuperseded(opened.ID) {
		return
	}
	sealed := v.renewed
	if !opened.current || now.Sub(opened.LastUsed) >= l.reissue {
		reissued, err := rt.reissue(ctx, v, opened, now)
		switch {
		case err == nil:
			sealed = reissued
		case l.renewals.mayTellStore(now):
			rt.logger.Error("session not reissued", zap.String("reason", string(reasonStoreUnavailable)), zap.Error(err),
				zap.String("issuer", rt.issuerName), zap.String("hint", answers[reasonStoreUnavailable].hint))
		}
	}
	if sealed != "" {
		v.reply = l.cookies.Session(&v.cookies, v.secure, sealed, l.endOf(opened.Session).Sub(now))
		v.carried = opened.Session
	}
}

// reissue seals the session anew, as one that has just been used.
func (rt *runtime) reissue(ctx context.Context, v *visit, opened *openedSession, now time.Time) (string, error) {
	opened.mu.Lock()
	defer opened.mu.Unlock()
	if opened.reissued != "" && now.Sub(opened.at) < rt.login.reissue {
		return opened.reissued, nil
	}
	used := *opened.Session
	used.LastUsed = now
	sealed, _, err := rt.login.seal(ctx, v, &used, opened.reference)
	if err == nil {
		opened.reissued, opened.at = sealed, now
	}
	return sealed, err
}

// seal makes the value of a session's cookie.
func (l *login) seal(ctx context.Context, v *visit, sess *session.Session, reference *session.Reference) (sealed string, dropped bool, err error) {
	binding := l.binding(v, l.cookies.Name(v.secure))
	if reference == nil {
		return l.cookies.SealSession(ctx, l.sealer, binding, sess)
	}
	named := *reference
	named.LastUsed = sess.LastUsed
	sealed, err = l.sealer.SealReference(ctx, binding, &named)
	return sealed, false, err
}

// keep keeps the session of a login: in the cookies that it returns, and in the store where there is one. What else the browser has of a
// session, which received tells, is deleted.
func (l *login) keep(ctx context.Context, v *visit, received *session.Received, sess *session.Session) (cookies []string, dropped bool, err error) {
	var reference *session.Reference
	if l.store != nil {
		reference = &session.Reference{ID: sess.ID, Expires: l.endOf(sess)}
		rand.Read(reference.Key[:])
		if err := l.store.Create(ctx, l.owner(), reference, sess); err != nil {
			return nil, false, err
		}
	}
	sealed, dropped, err := l.seal(ctx, v, sess, reference)
	if err != nil {
		return nil, false, err
	}
	return l.cookies.Session(received, v.secure, sealed, l.endOf(sess).Sub(sess.LastUsed)), dropped, nil
}
