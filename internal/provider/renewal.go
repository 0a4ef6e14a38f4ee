package provider

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// await returns the state as soon as ready accepts it, starting a fetch if none is under way. Nobody waits longer than one call may
// take, and after a failure the provider is not asked again before the pause is over.
func (p *Provider) await(ctx context.Context, ready func(*state) bool) (*state, error) {
	s := p.state.Load()
	if ready(s) {
		return s, nil
	}
	if offline(ctx) {
		return nil, p.unknown(s)
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	p.mu.Lock()
	if p.all.done == nil && !p.now().Before(p.retryAt) {
		p.start(&p.all, p.fetchAll)
	}
	done := p.all.done
	p.mu.Unlock()
	for {
		p.mu.Lock()
		changed, lastError := p.changed, p.lastError
		p.mu.Unlock()
		if s := p.state.Load(); ready(s) {
			return s, nil
		}
		if done == nil {
			if lastError == nil {
				lastError = fmt.Errorf("%w: the metadata names no jwks_uri", ErrKeys)
			}
			return nil, lastError
		}
		select {
		case <-changed:
		case <-done:
			done = nil // one more look, then its error
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDiscovery, ctx.Err())
		}
	}
}

// flight is a fetch under way, for all that wait for it; done is nil while there is none.
type flight struct{ done chan struct{} }

// start runs f free of any single request's cancellation. The caller holds the lock and has seen that no such flight is under way.
func (p *Provider) start(fl *flight, f func(context.Context) error) {
	if p.closed {
		return
	}
	done := make(chan struct{})
	fl.done = done
	go func() {
		defer func() {
			if r := recover(); r != nil {
				p.plan(p.failed(fmt.Errorf("%w: panic: %v", ErrDiscovery, r)))
			}
			p.mu.Lock()
			fl.done = nil
			p.mu.Unlock()
			close(done)
		}()
		if err := f(p.background); err != nil {
			p.plan(p.failed(err))
		}
	}()
}

// renew is what the timer and Warm call: a fetch without anybody waiting.
func (p *Provider) renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all.done == nil {
		p.start(&p.all, p.fetchAll)
	}
}

// fetchAll brings metadata and keys up to date, each if it is time. Keys are renewed even where discovery fails: a key that the provider
// has withdrawn must not live on because of that.
func (p *Provider) fetchAll(ctx context.Context) error {
	err := p.fetchMetadata(ctx)
	if s := p.state.Load(); s.metadata != nil && p.wantsKeys(s) && !p.now().Before(s.keysUntil) {
		p.mu.Lock()
		if p.down && s.keys != nil {
			p.forced.at = p.now() // a retry counts like one that a token has caused
			p.logout.at = p.forced.at
		}
		p.mu.Unlock()
		err = errors.Join(err, p.fetchKeys(ctx))
	}
	if err != nil {
		return err
	}
	p.succeeded()
	return nil
}

// fetchForced fetches the keys alone. Its success says nothing of discovery, so where that is due a pause after a failure goes on.
func (p *Provider) fetchForced(ctx context.Context) error {
	if err := p.fetchKeys(ctx); err != nil {
		p.update(func(s *state) { s.keysUntil = p.now() }) // there is a reason to want them, so they are tried again soon
		return err
	}
	if !p.config.discovers() || p.now().Before(p.state.Load().metadataUntil) {
		p.succeeded()
	}
	return nil
}

func (p *Provider) wantsKeys(s *state) bool {
	return p.config.StaticKeys == nil && s.metadata.JWKSURI != ""
}

// fetchMetadata runs discovery unless what is known is young enough. The issuer never changes under way: with it the keys would, and
// whose tokens we accept.
func (p *Provider) fetchMetadata(ctx context.Context) error {
	if !p.config.discovers() {
		return nil
	}
	known := p.state.Load()
	if known.metadata != nil && p.now().Before(known.metadataUntil) {
		return nil
	}
	metadata, err := p.discover(ctx)
	if err != nil {
		return err
	}
	if known.metadata != nil && metadata.Issuer != known.metadata.Issuer {
		return fmt.Errorf("%w: expected issuer %q, got %q", ErrIssuerMismatch, known.metadata.Issuer, metadata.Issuer)
	}
	now := p.now()
	p.update(func(s *state) { s.metadata, s.metadataAt, s.metadataUntil = metadata, now, now.Add(metadataLifetime) })
	return nil
}

// update replaces the state and wakes who waits for it; a forced fetch may run beside another.
func (p *Provider) update(change func(*state)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	after := *p.state.Load()
	change(&after)
	p.state.Store(&after)
	close(p.changed)
	p.changed = make(chan struct{})
}

// succeeded ends any pause and plans the next fetch.
func (p *Provider) succeeded() {
	p.mu.Lock()
	changed := p.down || p.lastFetch.IsZero()
	p.down, p.failures, p.lastError, p.retryAt = false, 0, nil, time.Time{}
	p.lastFetch = p.now()
	p.mu.Unlock()
	p.observe(func(o Observer) { o.Up(true, changed, nil) })
	next := time.Time{}
	for _, due := range []time.Time{p.state.Load().metadataUntil, p.state.Load().keysUntil} {
		if next.IsZero() || !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	if !next.IsZero() {
		p.plan(next.Sub(p.now()))
	}
}

// failed records a failure and returns when to try again.
func (p *Provider) failed(err error) time.Duration {
	p.mu.Lock()
	changed := !p.down
	p.down, p.lastError = true, err
	p.lastFetch = p.now()
	p.failure = failure{text: bounded(err.Error()), at: p.lastFetch}
	pause := pauseAfter(p.failures)
	p.failures++
	pause = max(pause, min(RetryAfterOf(err), maxAskedPause))
	p.retryAt = p.lastFetch.Add(pause)
	if p.complete(p.state.Load()) {
		// nobody waits: what is known stays in use, and no stranger's token makes us ask more often than this
		pause = max(pause, forcedInterval)
	}
	p.mu.Unlock()
	p.observe(func(o Observer) { o.Up(false, changed, err) })
	return pause
}

// pauseAfter doubles with each failure, with jitter, so that many instances do not return to a provider at the same instant.
func pauseAfter(failures int) time.Duration {
	pause := min(minPause<<min(failures, 10), maxPause)
	return pause + rand.N(pause/4) //nolint:gosec // spreads load; nobody gains by guessing it
}

// plan sets the one timer of this provider.
func (p *Provider) plan(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.next = p.now().Add(after)
	p.timer = time.AfterFunc(after, p.renew)
}
