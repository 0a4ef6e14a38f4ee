package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// lease says how long locks live: they end by themselves soon after their holder has died, who therefore extends them while it
// lives.
type lease struct {
	length  time.Duration // without an extension
	extend  time.Duration // how often it is extended
	longest time.Duration // with all extensions, for a holder that hangs
	poll    time.Duration // the shortest time between two attempts; the longest is twice that
}

var standardLease = lease{length: 3 * time.Second, extend: time.Second, longest: 2 * time.Minute, poll: 25 * time.Millisecond}

// The value of a lock is known to its holder alone. That it is compared makes takeLock safe to repeat when its answer was lost, and
// keeps a holder whose lease ended from extending or removing the lock of the next.
var (
	takeLock = goredis.NewScript(`
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1`)

	extendLock = goredis.NewScript(`
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('pexpire', KEYS[1], ARGV[2])`)

	dropLock = goredis.NewScript(`
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('del', KEYS[1])`)
)

// Lock takes the lock of that name as soon as nobody holds it. A failover to a replica that had not heard of a lock yet, or a holder
// that is halted for longer than its lease, lets a second holder in: what the lock protects must bear that.
func (s *Store) Lock(ctx context.Context, key string) (func(), error) {
	name, value := s.lockName(key), rand.Text()
	background := context.WithoutCancel(ctx)
	for {
		taken, err := s.take(ctx, name, value)
		if err != nil {
			go s.drop(background, name, value) // it may have been taken all the same
			return nil, err
		}
		if taken {
			return s.hold(background, name, value), nil
		}
		timer := time.NewTimer(s.lease.poll + mathrand.N(s.lease.poll)) //nolint:gosec // it only has to differ
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("redis: %w", ctx.Err())
		case <-timer.C:
		}
	}
}

func (s *Store) take(ctx context.Context, name, value string) (bool, error) {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	taken, err := takeLock.Run(bounded, s.client, []string{name}, value, s.lease.length.Milliseconds()).Bool()
	return taken, s.failure(ctx, err)
}

// hold extends a lock in the background until the function that it returns is called, and drops it then.
func (s *Store) hold(ctx context.Context, name, value string) func() {
	done := make(chan struct{})
	retained := s.client.retain() // a reload in the meantime must not keep the lock from being dropped
	go func() {
		if retained {
			defer func() { _ = s.client.release() }()
		}
		if s.extendUntil(ctx, done, name, value) {
			s.drop(ctx, name, value)
		}
	}()
	return sync.OnceFunc(func() { close(done) })
}

// extendUntil extends a lock until done, and reports whether it is still to be dropped.
func (s *Store) extendUntil(ctx context.Context, done <-chan struct{}, name, value string) bool {
	ticker := time.NewTicker(s.lease.extend)
	defer ticker.Stop()
	longest := time.NewTimer(s.lease.longest)
	defer longest.Stop()
	for {
		select {
		case <-done:
			return true
		case <-longest.C:
			return false
		case <-ticker.C:
			bounded, cancel := context.WithTimeout(ctx, s.patience())
			held, err := extendLock.Run(bounded, s.client, []string{name}, value, s.lease.length.Milliseconds()).Bool()
			cancel()
			if err == nil && !held {
				return false
			}
		}
	}
}

func (s *Store) drop(ctx context.Context, name, value string) {
	bounded, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	_ = dropLock.Run(bounded, s.client, []string{name}, value).Err() // the lease ends it otherwise
}
