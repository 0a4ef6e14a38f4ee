package openidconnect

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	// lockWait bounds the waiting for another instance.
	lockWait = 10 * time.Second
	// lockPoll is how often those that wait look for the other's result.
	lockPoll = 50 * time.Millisecond
	// stuckLock is how long a lock may be held without any result before it is taken for one that nobody will ever give back.
	stuckLock = 2 * time.Minute
	// announcedWait is how long to wait, when the lock of another instance has ended after it announced that it would send the refresh token, for
	// that instance to tell the result: it may have died, or the storage may have been out of its reach.
	announcedWait = 3 * time.Second
	// secondLook is when the result of another instance is looked for once more, after the provider has refused the token to us: the other may
	// have been answered, and not have written the result yet.
	secondLook = 300 * time.Millisecond
)

// turn is the right to renew one session, which one instance has at a time.
type turn struct {
	rt        *runtime
	opened    *openedSession
	unlock    func() // nil: only this process is kept out
	announced bool   // another instance has said that it would send the refresh token, and not what came of that
}

func (t *turn) end() {
	if t.unlock != nil {
		t.unlock()
	}
}

// takeTurn waits for the right to renew a session. settled says that it need not be renewed any more, or cannot be for now; what became of
// it is among the renewals then.
func (rt *runtime) takeTurn(ctx context.Context, opened *openedSession) (_ *turn, settled bool) {
	l := rt.login
	t := &turn{rt: rt, opened: opened}
	if t.isSettled(ctx) {
		return nil, true
	}
	if l.shared == nil || t.isWithoutStorage() {
		return t, false
	}
	type lock struct {
		unlock func()
		err    error
	}
	locked := make(chan lock, 1)
	waiting, stop := context.WithTimeout(ctx, lockWait)
	defer stop()
	go func() {
		unlock, err := l.shared.Lock(waiting, opened.ID, opened.Generation)
		locked <- lock{unlock, err}
	}()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		select {
		case got := <-locked:
			if got.err != nil {
				return t, t.cannotLock(got.err)
			}
			t.unlock = got.unlock
			l.renewals.unstick(opened.ID)
			if t.isSettled(ctx) || t.announced && t.settlesLate(ctx) || !t.mark(ctx) {
				t.end()
				return nil, true
			}
			return t, false
		case <-poll.C:
			if t.isSettled(ctx) {
				go func() {
					if got := <-locked; got.err == nil {
						got.unlock()
					}
				}()
				return nil, true
			}
		}
	}
}

// isWithoutStorage reports whether the session is renewed without agreeing with other instances, as what they share does not answer.
func (t *turn) isWithoutStorage() bool {
	return t.renewsWithoutStorage() && t.rt.login.renewals.storageFailing(t.rt.now())
}

// renewsWithoutStorage reports whether the session is renewed although the storage fails, so that other instances cannot be kept from doing the
// same. It is where its access token has expired and the renewed session can be kept, which is in its cookie.
func (t *turn) renewsWithoutStorage() bool {
	return t.rt.login.store == nil && (hasExpired(t.opened.Session, t.rt.now()) || t.opened.AccessToken == "" && t.rt.headers.accessToken)
}

// withoutStorage decides what becomes of a renewal when what instances share does not answer.
func (t *turn) withoutStorage(err error) (settled bool) {
	rt, old, now := t.rt, t.opened.Session, t.rt.now()
	if rt.login.store == nil && errors.Is(err, context.DeadlineExceeded) {
		rt.login.renewals.storageFails(now) // one that answers with an error costs nothing to ask again
	}
	if t.renewsWithoutStorage() {
		rt.warnOfStorage("renewals are coordinated within this process alone, as the storage fails", err)
		return false
	}
	rt.warnOfStorage("sessions cannot be renewed for now, as the storage fails", err)
	rt.login.renewals.postpone(old, rt.login.endOf(old), now)
	return true
}

// settlesLate waits for what came of a refresh token that somebody else has sent.
func (t *turn) settlesLate(ctx context.Context) bool {
	late := time.NewTimer(announcedWait)
	defer late.Stop()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if t.isSettled(ctx) {
				return true
			}
		case <-late.C:
			return false
		}
	}
}

// mark tells other instances that the refresh token is about to be sent. It reports whether it may be: where the renewed session could not
// be kept it may not.
func (t *turn) mark(ctx context.Context) bool {
	l, old := t.rt.login, t.opened
	now := t.rt.now()
	err := l.shared.Save(ctx, old.ID, l.sharedEnd(old.Session), &session.Renewal{Generation: old.Generation, Asked: now})
	switch {
	case err == nil:
		return true
	case errors.Is(err, session.ErrSuperseded):
		return !t.isSettled(ctx)
	default:
		return !t.withoutStorage(err)
	}
}

// cannotLock decides whether a session is renewed all the same when its lock cannot be had.
func (t *turn) cannotLock(err error) (settled bool) {
	l, old, now := t.rt.login, t.opened.Session, t.rt.now()
	if errors.Is(err, context.DeadlineExceeded) && l.renewals.stuck(old.ID, now) < stuckLock {
		l.renewals.postpone(old, l.endOf(old), now)
		return true
	}
	return t.withoutStorage(err)
}

// isSettled looks for what other instances have made of the session.
func (t *turn) isSettled(ctx context.Context) bool {
	rt, l, old := t.rt, t.rt.login, t.opened
	end, now := l.endOf(old.Session), rt.now()
	if l.store != nil {
		stored, err := l.store.Load(ctx, old.reference)
		switch {
		case errors.Is(err, session.ErrNotFound):
			l.renewals.finish(old.Session, reasonSessionExpired, end, now)
			return true
		case err != nil:
			return t.withoutStorage(err) // a renewed session could not be kept
		case stored.Generation > old.Generation:
			sealed, err := l.sealRecord(ctx, stored)
			if err != nil {
				sealed = "" // it is read from the store then
			}
			until := now.Add(rt.refresh.grace)
			return l.renewals.adopt(old.Session, &session.Renewal{
				Generation: stored.Generation, Sealed: sealed, Until: until, Replaced: []session.Replaced{{Generation: old.Generation, Until: until}},
			}, stored.Renewed, end, now, rt.refresh.grace)
		}
	}
	switch {
	case l.shared == nil, t.isWithoutStorage():
		return false
	case l.store == nil && l.renewals.storageFailing(now):
		l.renewals.postpone(old.Session, end, now)
		return true
	}
	known, err := l.shared.Load(ctx, old.ID, l.sharedEnd(old.Session))
	switch {
	case errors.Is(err, errStoreBusy):
		l.renewals.postpone(old.Session, end, now)
		return true
	case err != nil:
		return t.withoutStorage(err)
	case known == nil:
		t.announced = false
		return false
	}
	t.announced = known.Generation == old.Generation && !known.Asked.IsZero()
	return l.renewals.adopt(old.Session, known, known.Until.Add(-rt.refresh.grace), end, now, rt.refresh.grace)
}

// askOthers looks again at a session of which this process knows no more than that there is a newer one: those that have made it know for
// how long it is handed out.
func (rt *runtime) askOthers(ctx context.Context, opened *openedSession) standing {
	l := rt.login
	if l.shared == nil || !l.renewals.mayAsk(opened.ID, rt.now()) {
		return standing{kind: standingSpent}
	}
	asking := l.loads.DoChan("renewals of "+string(opened.ID[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		(&turn{rt: rt, opened: opened}).isSettled(ctx)
		return nil, nil
	})
	select {
	case <-asking:
	case <-ctx.Done():
	}
	found := l.renewals.look(opened.Session, rt.now())
	if found.kind == standingSpent {
		l.renewals.asked(opened.ID, rt.now())
	}
	return found
}

// othersWon reports whether another instance has renewed a session whose refresh token the provider has just refused to us.
func (t *turn) othersWon(ctx context.Context) bool {
	if t.rt.login.shared == nil && t.rt.login.store == nil {
		return false
	}
	if t.isSettled(ctx) {
		return true
	}
	wait := time.NewTimer(secondLook)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return false
	}
	return t.isSettled(ctx)
}

// publish tells other instances what has become of a session.
func (t *turn) publish(ctx context.Context, news *session.Renewal) {
	l := t.rt.login
	if news == nil || l.shared == nil {
		return
	}
	tell := func(ctx context.Context) bool {
		err := l.shared.Save(ctx, t.opened.ID, l.sharedEnd(t.opened.Session), news)
		switch {
		case errors.Is(err, session.ErrSuperseded):
			t.isSettled(ctx) // learn by what
			return true
		case err == nil:
			return true
		}
		t.rt.warnOfStorage("other instances do not learn of renewals for now, as the storage fails", err)
		return false
	}
	if l.store == nil && l.renewals.storageFailing(t.rt.now()) || !tell(ctx) {
		if news.Failures == 0 { // that the provider is away they will find out
			l.renewals.unpublished.add(t.opened.ID, tell)
		}
	}
}

// warnOfStorage tells of trouble with what instances share, now and then.
func (rt *runtime) warnOfStorage(message string, err error) {
	if rt.login.renewals.mayWarn(rt.now()) {
		rt.logger.Warn(message, zap.Error(err), zap.String("issuer", rt.issuerName))
	}
}
