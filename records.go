package openidconnect

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// storeTimeout bounds one access to the store.
const storeTimeout = 5 * time.Second

// owner is whose sessions these are.
func (l *login) owner() session.Owner { return session.Owner{Issuer: l.issuer, ClientID: l.clientID} }

// loadSession reads a session from the store. reason says why there is none; refused is set when that cannot be known at the moment.
func (l *login) loadSession(ctx context.Context, reference *session.Reference) (_ *session.Session, reason Reason, refused *refusal) {
	// a page's requests come together, and one of them is enough to read the record
	key := string(reference.ID[:]) + string(reference.Key[:])
	loading := l.loads.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		defer cancel()
		return l.store.Load(ctx, reference)
	})
	var loaded singleflight.Result
	select {
	case loaded = <-loading:
	case <-ctx.Done():
		loaded.Err = ctx.Err()
	}
	switch {
	case errors.Is(loaded.Err, session.ErrNotFound):
		return nil, reasonSessionExpired, nil
	case loaded.Err != nil:
		return nil, "", &refusal{reason: reasonStoreUnavailable, cause: loaded.Err}
	}
	sess := *loaded.Val.(*session.Session)
	if reference.LastUsed.After(sess.LastUsed) {
		sess.LastUsed = reference.LastUsed // the record is not written each time
	}
	return &sess, "", nil
}

// sealRecord seals a session of the store for the memory of this process.
func (l *login) sealRecord(ctx context.Context, sess *session.Session) (string, error) {
	return l.sealer.Seal(ctx, session.PurposeRecord, session.Binding{Issuer: l.issuer, ClientID: l.clientID}, sess.Marshal())
}

// openRecord opens what sealRecord has sealed; nil when that cannot be done.
func (l *login) openRecord(ctx context.Context, sealed string) *session.Session {
	text, _, err := l.sealer.Open(ctx, session.PurposeRecord, session.Binding{Issuer: l.issuer, ClientID: l.clientID}, sealed)
	if err != nil {
		return nil
	}
	sess, err := session.ParseSession(text)
	if err != nil {
		return nil
	}
	return sess
}

// deleteSession removes a session from the store, best effort: it expires there in any case.
func (rt *runtime) deleteSession(ctx context.Context, reference *session.Reference, sess *session.Session) {
	if err := rt.login.store.Delete(ctx, rt.login.owner(), reference, sess); err != nil {
		rt.logger.Warn("a session that is over was not removed from its store", zap.Error(err), zap.String("issuer", rt.issuerName))
	}
}

// forgetSession removes what is kept on the server of a session that is over, but not that its tokens are spent.
func (rt *runtime) forgetSession(ctx context.Context, old *openedSession) {
	l := rt.login
	now := rt.now()
	l.renewals.purge(old.Session, l.endOf(old.Session), now, now.Add(rt.refresh.grace))
	rt.forgetShared(ctx, old)
}

// forgetShared removes what other instances find of a session that is over.
func (rt *runtime) forgetShared(ctx context.Context, old *openedSession) {
	l := rt.login
	if l.shared != nil && old.RefreshToken != "" {
		if err := l.endShared(ctx, old.Session, l.sharedEnd(old.Session)); err != nil {
			rt.logger.Warn("the result of a renewal was not removed from the storage", zap.Error(err), zap.String("issuer", rt.issuerName))
		}
	}
	if old.reference != nil {
		rt.deleteSession(ctx, old.reference, old.Session)
	}
}

// endLockWait is how long the end of a session waits for a renewal that another instance has under way.
const endLockWait = 2 * time.Second

// endShared has other instances take a session for ended, whichever generation of it they have made.
func (l *login) endShared(ctx context.Context, sess *session.Session, end time.Time) error {
	known, err := l.shared.Load(ctx, sess.ID, end)
	if err != nil {
		return err
	}
	generation := sess.Generation
	if known != nil {
		generation = max(generation, known.Generation)
	}
	locking, cancel := context.WithTimeout(ctx, endLockWait)
	defer cancel()
	if unlock, err := l.shared.Lock(locking, sess.ID, generation); err == nil {
		defer unlock() // otherwise whoever renews it may overwrite what we say
	}
	return l.shared.Save(ctx, sess.ID, end, &session.Renewal{Generation: generation, Over: true})
}

// saveRenewed writes a renewed session into the store, however long that takes: the tokens in the record that is there are spent. It reports
// whether there still is a session: a logout may have been quicker.
func (rt *runtime) saveRenewed(ctx context.Context, reference *session.Reference, renewed *session.Session) (exists, saved bool) {
	switch err := rt.login.store.Replace(ctx, reference, renewed); {
	case errors.Is(err, session.ErrNotFound):
		return false, true
	case err == nil, errors.Is(err, session.ErrSuperseded):
		return true, true
	default:
		rt.logger.Error("renewed session not stored; it is tried again", zap.String("reason", string(reasonStoreUnavailable)), zap.Error(err),
			zap.String("issuer", rt.issuerName))
		return true, false
	}
}

// saveLater goes on trying to save what saveRenewed could not. Until it has, this process gives the renewed session out of its memory.
func (rt *runtime) saveLater(reference *session.Reference, renewed *session.Session) {
	l := rt.login
	defer l.renewals.saved(renewed)
	ctx, cancel := context.WithTimeout(context.Background(), retryFor)
	defer cancel()
	again := time.NewTicker(retryEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			rt.logger.Error("renewed session not stored: given up", zap.String("reason", string(reasonStoreUnavailable)),
				zap.String("issuer", rt.issuerName))
			return
		case <-again.C:
		}
		if l.renewals.isNewerThan(renewed) {
			return
		}
		err := l.store.Replace(ctx, reference, renewed)
		if err == nil || errors.Is(err, session.ErrNotFound) || errors.Is(err, session.ErrSuperseded) {
			return
		}
	}
}
