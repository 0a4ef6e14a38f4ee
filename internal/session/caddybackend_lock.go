package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const (
	// maxStrays bounds the calls to a storage that hangs: each ends only when the storage answers.
	maxStrays = 1024

	// unlockWait is how long the giving back of a lock is waited for.
	unlockWait = 200 * time.Millisecond
)

var errStrays = errors.New("too many calls to the storage have not ended")

// Lock implements [Backend]. It returns when the context ends even where the storage does not look at it: a lock that comes too
// late is given back at once.
//
// Do not lock under a name that was used before: for some seconds after a lock of Caddy's file storage has been given back, the
// process that had it keeps whatever is locked under that name from ending by itself.
func (b *CaddyBackend) Lock(ctx context.Context, key string) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("locking in the storage: %w", err)
	}
	if b.strays.Load() >= maxStrays {
		return nil, fmt.Errorf("locking in the storage: %w", errStrays)
	}
	lock := &storageLock{strays: &b.strays, storage: b.storage, logger: b.logger, name: caddyPrefix + key}
	// the context ends the waiting, but not what keeps the lock fresh
	lock.ctx, lock.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, lock.cancel)
	locked := make(chan error)
	go func() {
		err := recovered(func() error { return lock.storage.Lock(lock.ctx, lock.name) })
		select {
		case locked <- err:
		case <-ctx.Done():
			if err == nil {
				lock.release()
			}
			b.strays.Add(-1)
		}
	}()
	select {
	case err = <-locked:
	case <-ctx.Done():
		b.strays.Add(1) // until the storage has answered
		return nil, fmt.Errorf("locking in the storage: %w", ctx.Err())
	}
	switch ended := !stop(); {
	case err == nil && ended:
		lock.unlock()
		err = ctx.Err()
	case ended:
		err = ctx.Err()
	case err != nil:
		lock.cancel()
	default:
		return lock.unlock, nil
	}
	return nil, fmt.Errorf("locking in the storage: %w", err)
}

// storageLock is a lock that is held, or about to be.
type storageLock struct {
	strays  *atomic.Int64
	storage certmagic.Storage
	logger  *zap.Logger
	name    string
	ctx     context.Context // for as long as it is held
	cancel  context.CancelFunc
	once    sync.Once
}

// unlock gives the lock back, once, and waits a little for that.
func (l *storageLock) unlock() {
	l.once.Do(func() {
		done := make(chan struct{})
		l.strays.Add(1)
		go func() {
			defer l.strays.Add(-1)
			defer close(done)
			l.release()
		}()
		timer := time.NewTimer(unlockWait)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
		}
	})
}

func (l *storageLock) release() {
	defer l.cancel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), storageWait)
	defer cancel()
	err := recovered(func() error { return l.storage.Unlock(ctx, l.name) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.logger.Debug("a lock in the storage was not given back; it ends by itself", zap.Error(err))
	}
}

// recovered makes a panic of the storage, in a goroutine of its own, an error.
func recovered(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the storage panicked: %v", r)
		}
	}()
	return call()
}
