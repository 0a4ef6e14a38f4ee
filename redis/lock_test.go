package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// quick is a lease of which a test can see the end, and which a holder who is not let run for a while does not lose.
var quick = lease{
	length: 3 * time.Second, extend: 300 * time.Millisecond, longest: 2 * time.Minute, poll: 5 * time.Millisecond,
}

// instances are stores on the same server, each with connections of its own.
func instances(t *testing.T, n int, lease lease) []*Store {
	t.Helper()
	stores := make([]*Store, n)
	for i := range stores {
		// another timeout is another client
		stores[i] = newStore(t, at(t, shared).with(settings{"keepalive_timeout": 10_000 + i}))
		stores[i].lease = lease
	}
	return stores
}

func TestLockIsHeldByOne(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	var holders, turns atomic.Int32
	ctx := within(t, 2*time.Minute)
	for _, s := range instances(t, 3, quick) {
		for range 4 {
			group.Go(func() {
				for range 5 {
					unlock, err := s.Lock(ctx, "key")
					if err != nil {
						t.Error(err)
						return
					}
					if holders.Add(1) != 1 {
						t.Error("two hold the lock")
					}
					turns.Add(1)
					holders.Add(-1)
					unlock()
				}
			})
		}
	}
	group.Wait()
	if turns.Load() != 60 {
		t.Errorf("%d turns", turns.Load())
	}
}

func TestLockOfALivingHolderStays(t *testing.T) {
	t.Parallel()
	stores := instances(t, 2, quick)
	unlock, err := stores[0].Lock(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	other, err := stores[1].Lock(t.Context(), "other")
	if err != nil {
		t.Fatalf("another lock: %v", err)
	}
	other()

	// for longer than it lives without an extension
	if _, err := stores[1].Lock(within(t, 3*quick.length/2), "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a lock that is held: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := stores[1].Lock(cancelled, "key"); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that has ended: %v", err)
	}
	unlock()
	unlock() // has no effect
	again, err := stores[1].Lock(within(t, time.Minute), "key")
	if err != nil {
		t.Fatalf("a lock that was given back: %v", err)
	}
	again()
}

func TestLockOfADeadHolderEnds(t *testing.T) {
	t.Parallel()
	stores := instances(t, 2, quick)
	start := time.Now()
	if taken, err := stores[0].take(t.Context(), stores[0].lockName("key"), "a holder that never extends it"); err != nil || !taken {
		t.Fatal(taken, err)
	}
	unlock, err := stores[1].Lock(within(t, time.Minute), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if waited := time.Since(start); waited < quick.length {
		t.Errorf("the lock of a dead holder was taken after %v", waited)
	}
}

func TestLockOfAHangingHolderEnds(t *testing.T) {
	t.Parallel()
	stores := instances(t, 2, quick)
	stores[0].lease.longest = 300 * time.Millisecond
	unlock, err := stores[0].Lock(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	again, err := stores[1].Lock(within(t, time.Minute), "key")
	if err != nil {
		t.Fatalf("the lock of a holder that hangs: %v", err)
	}
	defer again()
	unlock() // too late, and not of the one who holds it now
	if _, err := stores[0].Lock(within(t, 100*time.Millisecond), "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the next holder's lock is gone: %v", err)
	}
}

func TestLostLockIsNotTouched(t *testing.T) {
	t.Parallel()
	s := instances(t, 1, quick)[0]
	raw := shared.client(t)
	ctx := t.Context()
	name := s.lockName("key")

	// the good case: who holds it extends and drops it
	if taken, err := s.take(ctx, name, "first"); err != nil || !taken {
		t.Fatal(taken, err)
	}
	if taken, err := s.take(ctx, name, "first"); err != nil || !taken {
		t.Errorf("an attempt that is repeated because its answer was lost: %v, %v", taken, err)
	}
	s.drop(ctx, name, "first")
	if exists := raw.Exists(ctx, name).Val(); exists != 0 {
		t.Error("a dropped lock is there")
	}

	// the lease has ended and somebody else holds it
	if err := raw.Set(ctx, name, "second", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if s.extendUntil(ctx, make(chan struct{}), name, "first") {
		t.Error("the first holder believes to have it")
	}
	s.drop(ctx, name, "first")
	if holder := raw.Get(ctx, name).Val(); holder != "second" {
		t.Errorf("the first holder dropped the lock of the second: %q", holder)
	}
	if left := raw.PTTL(ctx, name).Val(); left < 50*time.Second {
		t.Errorf("the first holder changed the lease of the second to %v", left)
	}
}

func TestLockOutlivesItsConfiguration(t *testing.T) {
	t.Parallel()
	s := newStore(t, at(t, shared).with(settings{"keepalive_timeout": "77s"})) // no other test keeps this client open
	s.lease.length = time.Hour                                                 // it does not end by itself while the test looks
	unlock, err := s.Lock(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	key := s.client.key
	if err := s.Cleanup(); err != nil {
		t.Fatal(err)
	}
	s.release = nil // the end of the test would do it once more
	raw := shared.client(t)
	if exists := raw.Exists(t.Context(), s.lockName("key")).Val(); exists != 1 {
		t.Fatal("the lock is gone before it was given back")
	}
	unlock()
	if !eventually(time.Minute, func() bool { return raw.Exists(t.Context(), s.lockName("key")).Val() == 0 }) {
		t.Error("a lock that was given back after a reload stays until its lease ends")
	}
	if !eventually(time.Minute, func() bool { _, used := clients.References(key); return !used }) {
		t.Error("the connections are not closed")
	}
	if _, err := s.Load(t.Context(), "key"); !errors.Is(err, goredis.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
	if _, err := s.Lock(t.Context(), "key"); !errors.Is(err, goredis.ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
}
