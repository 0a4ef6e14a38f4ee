package openidconnect

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

const (
	sweepInterval = time.Hour
	sweepTimeout  = 5 * time.Minute
)

// storedSessions are the sessions in Caddy's storage, which knows no expiry. What has expired goes when something is saved: where
// nothing is, nothing grows.
type storedSessions struct {
	*session.CaddyStore
	logger  atomic.Pointer[zap.Logger] // of the running configuration
	calls   chan struct{}              // under way
	sweepAt atomic.Int64               // Unix seconds
}

func newStoredSessions(storage certmagic.Storage, logger *zap.Logger) *storedSessions {
	s := &storedSessions{CaddyStore: session.NewCaddyStore(storage, time.Now, logger), calls: make(chan struct{}, maxStoreCalls)}
	s.logger.Store(logger)
	return s
}

// SetStorage is for a new configuration, which brings a storage and a logger of its own.
func (s *storedSessions) SetStorage(storage certmagic.Storage, logger *zap.Logger) {
	s.logger.Store(logger)
	s.CaddyStore.SetStorage(storage, logger)
}

// maxStoreCalls bounds the calls under way: one to a storage that hangs, a dead network mount say, ends only with the process.
const maxStoreCalls = 256

var errStoreBusy = errors.New("too many calls to the storage are under way")

// within makes one call to the storage, for no longer than its context lasts: many storages do not look at it.
func (s *storedSessions) within(ctx context.Context, call func() error) error {
	select {
	case s.calls <- struct{}{}:
	default:
		return errStoreBusy
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-s.calls }()
		defer func() {
			if recovered := recover(); recovered != nil {
				done <- fmt.Errorf("the storage panicked: %v", recovered)
			}
		}()
		done <- call()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *storedSessions) Load(ctx context.Context, reference *session.Reference) (*session.Session, error) {
	loaded := make(chan *session.Session, 1)
	err := s.within(ctx, func() error {
		sess, err := s.CaddyStore.Load(ctx, reference)
		loaded <- sess
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-loaded, nil
}

func (s *storedSessions) Delete(ctx context.Context, reference *session.Reference) error {
	return s.within(ctx, func() error { return s.CaddyStore.Delete(ctx, reference) })
}

func (s *storedSessions) Save(ctx context.Context, reference *session.Reference, sess *session.Session) error {
	if err := s.within(ctx, func() error { return s.CaddyStore.Save(ctx, reference, sess) }); err != nil {
		return err
	}
	now := time.Now()
	if due := s.sweepAt.Load(); now.Unix() >= due && s.sweepAt.CompareAndSwap(due, now.Add(sweepInterval).Unix()) {
		go s.sweep() //nolint:gosec // it is nobody's request
	}
	return nil
}

func (s *storedSessions) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
	defer cancel()
	defer func() {
		if recovered := recover(); recovered != nil {
			s.logger.Load().Error("expired sessions not removed: the storage panicked", zap.Any("cause", recovered))
		}
	}()
	if err := s.Sweep(ctx); err != nil {
		s.logger.Load().Warn("expired sessions not removed; tried again with a later login", zap.Error(err))
	}
}
