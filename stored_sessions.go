package openidconnect

import (
	"context"
	"sync/atomic"
	"time"

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
	logger  *zap.Logger
	sweepAt atomic.Int64 // Unix seconds
}

func (s *storedSessions) Save(ctx context.Context, reference *session.Reference, sess *session.Session) error {
	if err := s.CaddyStore.Save(ctx, reference, sess); err != nil {
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
			s.logger.Error("expired sessions not removed: the storage panicked", zap.Any("cause", recovered))
		}
	}()
	if err := s.Sweep(ctx); err != nil {
		s.logger.Warn("expired sessions not removed; tried again with a later login", zap.Error(err))
	}
}
