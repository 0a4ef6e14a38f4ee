package provider

import (
	"context"
	"errors"
	"fmt"
)

// ErrOffline is wrapped with one of the others when a call would have been needed and [WithoutCalls] forbids it.
var ErrOffline = errors.New("calls to the provider are not allowed here")

type offlineKey struct{}

// WithoutCalls returns a context with which nothing is asked of a provider, neither by the caller nor in the background: what is known is
// the answer, and what would take a call fails with ErrOffline.
func WithoutCalls(ctx context.Context) context.Context {
	return context.WithValue(ctx, offlineKey{}, true)
}

func offline(ctx context.Context) bool { return ctx.Value(offlineKey{}) != nil }

// unknown says why metadata or keys are not in s, for a caller that may not ask for them.
func (p *Provider) unknown(s *state) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.complete(s):
		return fmt.Errorf("%w: %w jwks_uri", ErrKeys, ErrNoEndpoint) // no call would change that
	case p.lastError != nil:
		return fmt.Errorf("%w; %w", p.lastError, ErrOffline)
	case s.metadata == nil:
		return fmt.Errorf("%w: %w", ErrDiscovery, ErrOffline)
	default:
		return fmt.Errorf("%w: %w", ErrKeys, ErrOffline)
	}
}
