package openidconnect

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// isRevoked reports whether a session has been ended before its time: by its user, the provider or an operator.
func (l *login) isRevoked(sess *session.Session, now time.Time) bool {
	return l.revocations.Touches(l.owner(), sess, now)
}

// beginAfterLogouts has a new session begin after the logouts that there were before its login. Sessions have whole seconds: a logout in this
// very second has ended all that began in it. The session stays ended where its ID token is not younger than the logout token either.
func (rt *runtime) beginAfterLogouts(sess *session.Session) {
	l, now, made := rt.login, rt.now(), sess.Created
	for l.isRevoked(sess, now) {
		if sess.Created = sess.Created.Add(time.Second); sess.Created.Sub(made) > maxAhead {
			sess.Created = made.Add(time.Second)
			break
		}
	}
	if sess.Created != made {
		l.logouts.begins(sess.Created)
	}
}

// stateVersion changes with each renewal and each revocation: what was found out about a session holds as long as it stays.
func (l *login) stateVersion() uint64 {
	return l.renewals.version.Load() + l.revocations.Version()
}

// revoke puts a session, or those that the provider names, on the list of this handler.
func (rt *runtime) revoke(ctx context.Context, ended ...session.Revocation) {
	if err := rt.login.revocations.Add(ctx, rt.now(), ended...); err != nil {
		rt.warnOfStorage("other instances, and this one after a restart, do not learn of a logout for now, as the storage fails", err)
	}
}

var errSlowStore = errors.New("the storage takes its time; what is known in memory is in force")

// endAll ends the sessions that the provider, or an operator, names: wherever handlers of this process keep sessions of their owner. It returns
// how many there were in the stores, or without one how many revocations were written. It does not wait for long: in the memory of this process
// they are over at once, and what is slow goes on by itself.
func (rt *runtime) endAll(ctx context.Context, ended ...session.Revocation) (count int, err error) {
	ctx = context.WithoutCancel(ctx)
	var writing sync.WaitGroup
	lists := rt.revocationLists()
	for _, handler := range lists {
		writing.Add(1)
		rt.login.renewals.inBackground(func() {
			defer writing.Done()
			ctx, cancel := context.WithTimeout(ctx, renewalTimeout)
			defer cancel()
			list, until := slices.Clone(ended), handler.login.latestEnd(ctx, handler.now())
			for i := range list {
				list[i].Until = until
			}
			handler.revoke(ctx, list...)
		})
	}
	type result struct {
		count, stores int
		err           error
	}
	found := make(chan result, 1)
	writing.Add(1)
	rt.login.renewals.inBackground(func() {
		defer writing.Done()
		ctx, cancel := context.WithTimeout(ctx, renewalTimeout)
		defer cancel()
		var got result
		for i := range ended {
			count, stores, err := rt.endInStores(ctx, ended[i])
			got = result{got.count + count, stores, errors.Join(got.err, err)}
		}
		found <- got
	})
	waitAtMost(&writing, endingWait)
	select {
	case got := <-found:
		if got.stores == 0 {
			return len(lists), got.err
		}
		return got.count, got.err
	default:
		return 0, errSlowStore
	}
}

// endStored ends sessions if there are any in a store; otherwise it writes nothing.
func (rt *runtime) endStored(ctx context.Context, ended session.Revocation) (count int, err error) {
	count, _, err = rt.endInStores(ctx, ended)
	if count > 0 {
		_, err = rt.endAll(ctx, ended) // what is being written at this moment too
	}
	return count, err
}

// endInStores ends the sessions in the stores of handlers of the same owner.
func (rt *runtime) endInStores(ctx context.Context, ended session.Revocation) (count, stores int, err error) {
	seen := make(map[string]bool)
	for _, handler := range rt.ofSameOwner() {
		l := handler.login
		if l.store == nil || seen[l.storeKey] {
			continue
		}
		seen[l.storeKey] = true
		stores++
		n, failed := 0, error(nil)
		switch {
		case ended.WithoutSID: // the index does not know; the list ends them
		case ended.SID != "":
			n, failed = l.store.EndBySID(ctx, ended.Owner, ended.SID)
		default:
			n, failed = l.store.EndBySubject(ctx, ended.Owner, ended.Subject, later(ended.Issued, ended.Created))
		}
		count += n
		err = errors.Join(err, failed)
	}
	return count, stores, err
}

// ofSameOwner are the handlers of this process whose sessions are of the same provider and client, this one first.
func (rt *runtime) ofSameOwner() []*runtime {
	same := []*runtime{rt}
	for _, other := range runningHandlers() {
		if other.login != nil && other != rt && other.login.owner() == rt.login.owner() {
			same = append(same, other)
		}
	}
	return same
}

// revocationLists are the lists of ended sessions that these handlers have, each with one of its handlers.
func (rt *runtime) revocationLists() map[*session.Revocations]*runtime {
	lists := make(map[*session.Revocations]*runtime)
	for _, handler := range slices.Backward(rt.ofSameOwner()) {
		lists[handler.login.revocations] = handler // at last this one
	}
	return lists
}

// adoptRevocations takes over what lists elsewhere know of the same owner: a configuration with another storage must not bring back what has
// ended. It runs once for each handler, so with many sites it must not cost more with each of them than a glance at the others.
func (rt *runtime) adoptRevocations() {
	list := rt.login.revocations
	others := make(map[*session.Revocations]bool)
	for other := range everyHandler() {
		if other.login != nil && other.login.revocations != list && other.login.owner() == rt.login.owner() {
			others[other.login.revocations] = true
		}
	}
	for other := range others {
		list.Adopt(other, rt.now())
	}
}

// lifeWait bounds the asking for how long sessions live on other instances.
const lifeWait = time.Second

// latestEnd is the time by which every session that exists now, or whose login is under way, has ended on every instance; zero where that is
// not known.
func (l *login) latestEnd(ctx context.Context, now time.Time) time.Time {
	ctx, cancel := context.WithTimeout(ctx, lifeWait)
	defer cancel()
	life, err := l.revocations.Life(ctx, l.owner())
	if err != nil {
		return time.Time{}
	}
	return now.Add(max(life, l.absolute, l.logouts.longestLife()) + transactionLifetime)
}

// noteLife has other instances know how long sessions live here.
func (rt *runtime) noteLife() {
	l, now := rt.login, rt.now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), retryFor)
		defer cancel()
		again := time.NewTicker(retryAtMost)
		defer again.Stop()
		for {
			err := l.revocations.NoteLife(ctx, l.owner(), max(l.absolute, l.logouts.longestLife()), now)
			if err == nil {
				return
			}
			rt.warnOfStorage("other instances do not learn how long sessions live here, as the storage fails", err)
			select {
			case <-again.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	l.renewals.inBackground(func() {
		ctx, cancel := context.WithTimeout(context.Background(), renewalTimeout)
		defer cancel()
		l.revocations.Refresh(ctx, now) // before the first request has to wait for it
		if err := l.revocations.WriteAdopted(ctx, now); err != nil {
			rt.warnOfStorage("what has ended before the storage was changed is not written for now, as it fails", err)
		}
	})
}

// watchRevocations brings the state of the list into the logs and metrics of this configuration.
func (rt *runtime) watchRevocations() {
	l := rt.login
	stop := l.revocations.Observe(func(err error) {
		rt.metrics.revocationList(err == nil)
		if err != nil && l.renewals.mayTellRevocations(rt.now()) {
			rt.logger.Warn("the list of ended sessions cannot be read or written for now; what is known of it stays in force",
				zap.Error(err), zap.String("issuer", rt.issuerName))
		}
	})
	rt.releases = append(rt.releases, func() error { stop(); return nil })
}
