package openidconnect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	defaultLeeway       = 30 * time.Second
	defaultRefreshGrace = 2 * time.Minute
	// keptPastExpiry is how long after the end of its access token a session lives on that the provider cannot be asked about.
	keptPastExpiry = 10 * time.Minute
	// renewalWait bounds how long a request waits for a renewal.
	renewalWait = 10 * time.Second
	// failingWait is the same after a failure, when the request can do without.
	failingWait = time.Second
	// renewalTimeout bounds a renewal itself up to the grant, and once more what comes after.
	renewalTimeout = 30 * time.Second
	// maxHops bounds how often one request moves on to a newer generation.
	maxHops = 4
)

// refreshPolicy is when and how a handler renews sessions.
type refreshPolicy struct {
	enabled      bool
	leeway       time.Duration // configured; negative: by default
	interval     time.Duration // 0: by the access token's expiry alone
	grace        time.Duration
	endsOnOutage bool // a provider that cannot be reached ends sessions
}

func (h *Handler) refreshPolicy() refreshPolicy {
	return refreshPolicy{
		enabled:      h.renews(),
		leeway:       h.AccessTokenExpiresLeeway.or(-1),
		interval:     h.RefreshSessionInterval.or(0),
		grace:        h.RefreshGrace.or(defaultRefreshGrace),
		endsOnOutage: h.RefreshFailure == refreshFailureEnd,
	}
}

// canRenew reports whether there is anything to renew a session with.
func (p *refreshPolicy) canRenew(sess *session.Session) bool {
	return p.enabled && sess.RefreshToken != ""
}

// isDue reports whether a session has to be renewed now: ahead of the end of its access token, or when its claims have become old.
func (p *refreshPolicy) isDue(sess *session.Session, now time.Time) bool {
	switch {
	case !p.canRenew(sess):
		return false
	case p.isExpiring(sess, now):
		return true
	default:
		return p.interval > 0 && !now.Before(grantedAt(sess).Add(p.interval))
	}
}

// isExpiring reports whether the access token is within its leeway. Most are far from it, which takes less to see.
func (p *refreshPolicy) isExpiring(sess *session.Session, now time.Time) bool {
	left := sess.AccessExpires.Sub(now)
	return left <= max(p.leeway, defaultLeeway) && !sess.AccessExpires.IsZero() && left <= p.leewayOf(sess)
}

// leewayOf is how long before its expiry an access token is renewed. A share of the token's lifetime bounds it: a token that has just been
// granted must never be due.
func (p *refreshPolicy) leewayOf(sess *session.Session) time.Duration {
	lifetime := max(sess.AccessExpires.Sub(grantedAt(sess)), 0)
	if p.leeway < 0 {
		return min(defaultLeeway, lifetime/5)
	}
	return min(p.leeway, lifetime/2)
}

// grantedAt is when the provider has last given tokens.
func grantedAt(sess *session.Session) time.Time {
	if sess.Renewed.IsZero() {
		return sess.Created
	}
	return sess.Renewed
}

// renew returns the session as the request is to see it: renewed where that is due, and the newest there is for a request that comes late with
// an older cookie. dead says why there is none any more; refused is set when that cannot be known at the moment.
func (rt *runtime) renew(r *http.Request, v *visit, opened *openedSession) (_ *openedSession, dead Reason, refused *refusal) {
	l := rt.login
	var wait *time.Timer
	began := rt.now()
	for range maxHops {
		now := rt.now()
		if !rt.needsRenewal(opened.Session, now) {
			return opened, "", nil
		}
		if !grantedAt(opened.Session).Before(began) {
			return rt.unrenewed(v, opened, standing{retryAt: now}) // it is over already, and one grant is enough for a request
		}
		found := l.renewals.claim(opened.Session, l.endOf(opened.Session), now)
		switch found.kind {
		case standingReplaced, standingSpent:
			if opened, dead, refused = rt.moveOn(r.Context(), v, opened, found); opened == nil {
				return nil, dead, refused
			}
			continue
		case standingEnded:
			return nil, l.noteDead(v, opened.Session, found.ended), nil
		case standingPaused:
			return rt.unrenewed(v, opened, found)
		case standingClaimed:
			go rt.runRenewal(l.binding(v, l.cookies.Name(v.secure)), opened, found.flight) //nolint:gosec // it goes on when the request is gone
		case standingCurrent, standingUnderWay:
		}
		patience := renewalWait
		if found.failing && rt.goesOn(opened.Session, found.outage, now) {
			if patience = failingWait - time.Since(found.flight.began); patience <= 0 {
				return opened, "", nil // whoever comes next gets the result
			}
		}
		if wait == nil {
			wait = time.NewTimer(patience)
			defer wait.Stop()
		}
		select {
		case <-found.flight.done:
		case <-wait.C:
			return rt.unrenewed(v, opened, standing{retryAt: now}) // it may yet be
		case <-r.Context().Done():
			return nil, "", &refusal{reason: reasonRefreshUnavailable, cause: r.Context().Err()}
		}
	}
	return rt.unrenewed(v, opened, standing{retryAt: rt.now()})
}

// needsRenewal reports whether this handler cannot use the session as it is.
func (rt *runtime) needsRenewal(sess *session.Session, now time.Time) bool {
	return rt.refresh.isDue(sess, now) || rt.headers.accessToken && sess.AccessToken == "" && rt.refresh.canRenew(sess)
}

// goesOn reports whether a session serves this handler without having been renewed, for the moment.
func (rt *runtime) goesOn(sess *session.Session, outage trouble, now time.Time) bool {
	if rt.headers.accessToken {
		return judgeToken(sess, now) == ""
	}
	kept := !rt.refresh.endsOnOutage || !outage.provider
	return !hasExpired(sess, now) || kept && now.Before(sess.AccessExpires.Add(keptPastExpiry))
}

// hasExpired reports whether the access token has, kept or not.
func hasExpired(sess *session.Session, now time.Time) bool {
	return !sess.AccessExpires.IsZero() && !now.Before(sess.AccessExpires)
}

// unrenewed decides on a session that is due and cannot be renewed for the moment. That is never fatal while the access token lives.
func (rt *runtime) unrenewed(v *visit, opened *openedSession, found standing) (*openedSession, Reason, *refusal) {
	l, now := rt.login, rt.now()
	switch {
	case rt.goesOn(opened.Session, found.outage, now):
		return opened, "", nil
	case rt.refresh.endsOnOutage && found.outage.provider:
		if news := l.renewals.finish(opened.Session, reasonRefreshUnavailable, l.endOf(opened.Session), now); news != nil {
			ended := &refusal{reason: reasonRefreshUnavailable}
			rt.noteEnd(ended)
			l.renewals.inBackground(func() {
				ctx, cancel := context.WithTimeout(context.Background(), renewalTimeout)
				defer cancel()
				rt.tellEnd(ctx, &turn{rt: rt, opened: opened}, news, ended)
			})
		}
		return nil, l.noteDead(v, opened.Session, reasonRefreshUnavailable), nil
	case hasExpired(opened.Session, now) && !now.Before(opened.AccessExpires.Add(keptPastExpiry)):
		v.keep = true // it may yet be renewed
		return nil, reasonRefreshUnavailable, nil
	case l.store != nil && found.outage.storage:
		return nil, "", &refusal{
			reason: reasonStoreUnavailable, expected: "a session that can be renewed", got: "a store that fails", retryAfter: found.retryAt.Sub(now),
		}
	default:
		return nil, "", &refusal{reason: reasonRefreshUnavailable, retryAfter: found.retryAt.Sub(now)}
	}
}

// moveOn opens the newest generation of a session for a request that brings an older one.
func (rt *runtime) moveOn(ctx context.Context, v *visit, opened *openedSession, found standing) (*openedSession, Reason, *refusal) {
	l, now := rt.login, rt.now()
	if l.store == nil {
		v.keep = true // the browser may have the newest
		if found.kind == standingSpent {
			found = rt.askOthers(ctx, opened)
		}
		if found.kind != standingReplaced {
			return nil, or(found.ended, reasonRefreshRejected), nil
		}
		newest, reason, refused := rt.openSession(ctx, v, found.sealed, now)
		if newest != nil {
			v.keep, v.renewed = false, found.sealed
		}
		return newest, reason, refused
	}
	// the cookie is the same for all generations; only what is remembered of the record is old
	newest := &openedSession{key: opened.key, reference: opened.reference, current: opened.current}
	if found.sealed != "" {
		newest.Session = l.openRecord(ctx, found.sealed)
	}
	if newest.Session == nil {
		var reason Reason
		var refused *refusal
		if newest.Session, reason, refused = l.loadSession(ctx, opened.reference); newest.Session == nil {
			return nil, reason, refused
		}
	}
	if newest.Generation <= opened.Generation {
		// what the store has is older than what this process knows of: its tokens are spent, and a newer record may come yet
		if l.renewals.isStale(opened.ID, now) {
			return nil, l.noteDead(v, newest.Session, reasonRefreshRejected), nil
		}
		return nil, "", &refusal{reason: reasonStoreUnavailable, expected: "a renewed session", got: "an older one"}
	}
	l.remember(newest, now)
	return newest, "", nil
}

// runRenewal renews a session for all that wait for it. It goes on when they have gone: the provider may have spent the refresh token.
func (rt *runtime) runRenewal(binding session.Binding, opened *openedSession, f *flight) {
	l := rt.login
	defer l.renewals.endFlight(opened.ID, f)
	defer func() {
		if recovered := recover(); recovered != nil {
			rt.logger.Error("renewal of a session panicked", zap.Any("cause", recovered), zap.Stack("stack"))
			l.renewals.fail(opened.Session, 0, l.endOf(opened.Session), rt.now())
		}
	}()
	waiting, stop := context.WithTimeout(context.Background(), renewalTimeout)
	defer stop()
	turn, settled := rt.takeTurn(waiting, opened)
	if settled {
		return
	}
	defer turn.end()
	asked := rt.now()
	tokens, err := rt.provider.Refresh(waiting, l.client, provider.RefreshGrant{RefreshToken: opened.RefreshToken, Params: l.tokenParams})
	// What the provider has given must be kept, however long the waiting was.
	ctx, cancel := context.WithTimeout(context.Background(), renewalTimeout)
	defer cancel()
	if err != nil {
		rt.notRenewed(ctx, opened, turn, err)
		return
	}
	rt.refreshWorks()
	if len(tokens.Unusable) > 0 {
		rt.logger.Warn("a part of the provider's answer to a renewal is not used", zap.Errors("got", tokens.Unusable), zap.String("issuer", rt.issuerName))
	}
	renewed, refused := rt.renewedSession(ctx, opened.Session, tokens, asked)
	if refused != nil {
		rt.endRefused(ctx, opened, turn, refused)
		return
	}
	rt.keepRenewed(ctx, binding, opened, turn, renewed)
}

// keepRenewed seals a renewed session and tells everybody of it.
func (rt *runtime) keepRenewed(ctx context.Context, binding session.Binding, opened *openedSession, turn *turn, renewed *session.Session) {
	l := rt.login
	end, now := l.endOf(renewed), rt.now()
	sealed, err := rt.sealRenewed(ctx, binding, opened.Session, renewed)
	if err != nil {
		reason := reasonStoreUnavailable
		if errors.Is(err, session.ErrTooLarge) {
			reason = reasonSessionTooLarge
		}
		rt.logger.Error("session ended: it cannot be kept after its renewal", zap.String("reason", string(reason)), zap.Error(err),
			zap.String("got", biggestClaim(renewed)), zap.String("hint", answers[reason].hint), zap.String("issuer", rt.issuerName))
		rt.metrics.refresh(string(reason))
		turn.publish(ctx, l.renewals.finish(opened.Session, reason, end, now))
		return
	}
	saved := true
	if l.store != nil {
		var exists bool
		if exists, saved = rt.saveRenewed(ctx, opened.reference, renewed); !exists {
			l.renewals.finish(opened.Session, reasonSessionExpired, end, now)
			rt.revokeLate(ctx, renewed)
			return
		}
	}
	// told first: who has waited for the renewal, and looks at metrics or the log then, finds it there
	rt.metrics.refresh(resultSucceeded)
	rt.logger.Debug("session renewed", zap.String("issuer", rt.issuerName), zap.Uint64("generation", renewed.Generation))
	news := l.renewals.succeed(opened.Session, renewal{sealed: sealed, unsaved: !saved, end: end, at: now, grace: rt.refresh.grace})
	if !saved && news != nil {
		l.renewals.inBackground(func() { rt.saveLater(opened.reference, renewed) })
	}
	if news != nil && l.store == nil {
		news.Sealed = sealed
	}
	if news == nil {
		rt.revokeLate(ctx, renewed)
	}
	turn.publish(ctx, news)
}

// sealRenewed seals a session as it is given to late requests. One that has grown out of its cookie keeps the claims it had.
func (rt *runtime) sealRenewed(ctx context.Context, binding session.Binding, old, renewed *session.Session) (string, error) {
	l := rt.login
	seal := func() (sealed string, err error) {
		if l.store != nil {
			return l.sealRecord(ctx, renewed)
		}
		sealed, _, err = l.cookies.SealSession(ctx, l.sealer, binding, renewed)
		return sealed, err
	}
	sealed, err := seal()
	if errors.Is(err, session.ErrTooLarge) {
		rt.logger.Warn("a renewed session would not fit its cookie and keeps its old claims", zap.String("reason", string(reasonSessionTooLarge)),
			zap.String("got", biggestClaim(renewed)), zap.String("hint", answers[reasonSessionTooLarge].hint), zap.String("issuer", rt.issuerName))
		renewed.Claims, renewed.IDTokenClaims, renewed.UserinfoClaims = old.Claims, old.IDTokenClaims, old.UserinfoClaims
		sealed, err = seal()
	}
	return sealed, err
}

// notRenewed sorts the failures of a grant: those by which the provider ends the session, and those that pass.
func (rt *runtime) notRenewed(ctx context.Context, opened *openedSession, turn *turn, err error) {
	l := rt.login
	if provider.RefreshRefused(err) {
		rt.refreshWorks()
		rt.endRefused(ctx, opened, turn, &refusal{reason: reasonRefreshRejected, got: refusedGrant(err)})
		return
	}
	now := rt.now()
	answer, answered := errors.AsType[*provider.OAuthError](err)
	retryAfter := provider.RetryAfterOf(err)
	rt.metrics.refresh(resultUnavailable)
	if l.renewals.mayTellOutage(now) {
		fields := []zap.Field{
			zap.String("reason", string(reasonRefreshUnavailable)), zap.String("issuer", rt.issuerName), zap.Error(err),
			zap.String("hint", answers[reasonRefreshUnavailable].hint),
		}
		if answered {
			fields = append(fields, zap.String("got", answer.Error()))
		}
		rt.logger.Warn("sessions cannot be renewed at the moment; it is tried again", fields...)
	}
	turn.publish(ctx, l.renewals.unanswered(opened.Session, retryAfter, l.endOf(opened.Session), now))
}

// refreshWorks notes that the provider has answered.
func (rt *runtime) refreshWorks() {
	if rt.login.renewals.answered() {
		rt.logger.Info("sessions can be renewed again", zap.String("issuer", rt.issuerName))
	}
}

// endRefused ends a session that the provider does not want to go on, unless another instance has renewed it meanwhile.
func (rt *runtime) endRefused(ctx context.Context, opened *openedSession, turn *turn, refused *refusal) {
	l := rt.login
	if refused.reason == reasonRefreshRejected && turn.othersWon(ctx) {
		return
	}
	rt.metrics.refresh(resultRejected)
	rt.noteEnd(refused)
	rt.tellEnd(ctx, turn, l.renewals.finish(opened.Session, reasonRefreshRejected, l.endOf(opened.Session), rt.now()), refused)
}

// noteEnd has the log and the metrics know that a session ends.
func (rt *runtime) noteEnd(refused *refusal) {
	rt.logger.Info("session ended", zap.String("reason", string(refused.reason)), zap.String("expected", refused.expected),
		zap.String("got", refused.got), zap.String("hint", answers[refused.reason].hint), zap.String("issuer", rt.issuerName))
	rt.metrics.sessionsEnded(string(refused.reason), 1)
}

// tellEnd has everybody else know that a session has ended: event handlers, other instances and the store.
func (rt *runtime) tellEnd(ctx context.Context, turn *turn, news *session.Renewal, refused *refusal) {
	rt.emit(nil, eventSessionEnded, map[string]any{"reason": string(refused.reason), "subject": turn.opened.Subject})
	turn.publish(ctx, news)
	if rt.login.store != nil {
		rt.deleteSession(ctx, turn.opened.reference, turn.opened.Session)
	}
}

// refusedGrant tells what the provider said, by its code alone.
func refusedGrant(err error) string {
	if answer, ok := errors.AsType[*provider.OAuthError](err); ok {
		return answer.Error()
	}
	return fmt.Sprint(err)
}
