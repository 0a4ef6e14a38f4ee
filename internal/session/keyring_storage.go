package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// storageOperation is one turn to the storage. There is never more than one at a time on one storage, even if it hangs.
type storageOperation struct {
	storage certmagic.Storage
	writes  bool            // it makes a key where one is due
	limit   context.Context // ends when nobody waits any longer
	done    chan struct{}   // closed at the end
	err     error           // valid after done
}

// turnToStorage starts an operation, or returns the one that is running. One that only reads is for an unknown id, and is not
// started more often than such readings may happen: nil then.
func (r *KeyRing) turnToStorage(writes bool) *storageOperation {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != nil {
		return r.running
	}
	if now := r.now(); !writes {
		if now.Before(r.rereadAt) {
			return nil
		}
		r.rereadAt = now.Add(rereadAfter)
	}
	limit, cancel := context.WithTimeout(context.Background(), storageWait)
	operation := &storageOperation{storage: r.storage, writes: writes, limit: limit, done: make(chan struct{})}
	r.running = operation
	known := r.keys.Load()
	go func() {
		defer cancel()
		defer close(operation.done)
		keys, err := operation.perform(known, r)
		r.finish(operation, keys, err)
	}()
	return operation
}

// wait returns when the operation has ended, or nobody should wait for it any longer. It reports whether it ended well.
func (r *KeyRing) wait(ctx context.Context, operation *storageOperation) bool {
	select {
	case <-operation.done:
	case <-operation.limit.Done():
		select {
		case <-operation.done: // which ends the limit too
		default:
			return false
		}
	case <-ctx.Done():
		return false
	}
	return operation.err == nil
}

// finish takes over what an operation brought, unless a reload has made it pointless.
func (r *KeyRing) finish(operation *storageOperation, keys []*generatedKey, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running != operation {
		return
	}
	r.running = nil
	if len(keys) > 0 {
		r.adopt(keys)
	}
	operation.err = err
	switch {
	case err != nil:
		r.failed(err)
		if operation.writes {
			r.tryAgainLater()
		}
	case len(keys) > 0 && r.failing:
		r.failing = false
		r.logger.Info("the session keys in the storage can be used again")
	}
}

// adopt makes the keys of the storage the ones to use; r.mu is held. A key that is no longer there is forgotten, unless the
// storage that it came from was taken away, or it came from none.
func (r *KeyRing) adopt(keys []*generatedKey) {
	known := r.keys.Load()
	retained := slices.Clone(known.retained)
	if known.foreign {
		retained = append(retained, known.stored...)
	}
	retained = slices.DeleteFunc(retained, func(k *generatedKey) bool {
		return slices.ContainsFunc(keys, func(stored *generatedKey) bool { return stored.id == k.id })
	})
	r.keys.Store(&knownKeys{
		stored:   keys,
		retained: retained[max(len(retained)-maxRetained, 0):],
		lookAt:   rotationDue(keys),
	})
}

// tryAgainLater puts the next turn to the storage off; r.mu is held.
func (r *KeyRing) tryAgainLater() {
	known := *r.keys.Load()
	known.lookAt = r.now().Add(retryAfter)
	r.keys.Store(&known)
}

// failed warns, once until the storage works again; r.mu is held.
func (r *KeyRing) failed(err error) {
	if r.failing {
		return
	}
	r.failing = true
	r.logger.Warn("the session keys in the storage cannot be used; sessions go on with keys that only this process knows",
		zap.String("storage_key", ringKey), zap.Error(err))
}

// withoutStorage returns a key that this process makes for itself.
func (r *KeyRing) withoutStorage() (*key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := *r.keys.Load()
	now := r.now()
	if k := known.seals(now); k != nil {
		return k.key, nil
	}
	k, err := generateKey(now, func(id keyID) bool { return known.find(id) != nil })
	if err != nil {
		return nil, err
	}
	r.failed(errors.New("the storage does not answer"))
	known.retained = append(slices.Clip(known.retained), k)
	known.lookAt = now.Add(retryAfter)
	r.keys.Store(&known)
	return k.key, nil
}

// perform reads the keys of the storage, and makes one there if it is due and the operation writes. It may return keys and an
// error: those that are there, though another one could not be made.
func (o *storageOperation) perform(known *knownKeys, r *KeyRing) (keys []*generatedKey, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = fmt.Errorf("the storage panicked: %v", recovered)
		}
	}()
	if o.storage == nil {
		return nil, errors.New("there is no storage")
	}
	now := r.now()
	document, err := loadRing(o.limit, o.storage)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && !o.writes:
		return nil, nil
	case err != nil && !missing:
		return nil, err
	case !missing:
		keys = document.keys()
	}
	if !o.writes || now.Before(rotationDue(keys)) {
		return keys, nil
	}

	if err := o.storage.Lock(o.limit, ringLock); err != nil {
		return keys, fmt.Errorf("locking the session keys: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(o.limit), storageWait)
		defer cancel()
		if unlockErr := o.storage.Unlock(ctx, ringLock); unlockErr != nil && err == nil {
			err = fmt.Errorf("unlocking the session keys: %w", unlockErr)
		}
	}()
	// somebody else may have made one meanwhile, and nothing is written when nobody waits any longer
	document, err = loadRing(o.limit, o.storage)
	if errors.Is(err, fs.ErrNotExist) {
		document, err = known.document()
	}
	if err = errors.Join(err, o.limit.Err()); err != nil {
		return keys, err
	}
	return document.renew(o.limit, o.storage, now)
}
