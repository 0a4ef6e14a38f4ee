package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// expiringBackend is a [Backend] that forgets by itself, as Redis does. It can be told to fail, to wait or to lose what is written.
type expiringBackend struct {
	mu     sync.Mutex
	values map[string]expiring
	sets   map[string]map[string]time.Time
	locks  map[string]chan struct{}
	calls  []string

	// before is asked ahead of each call. Its error is the call's, but errLost has a write do nothing and succeed.
	before func(ctx context.Context, call, key string) error
}

type expiring struct {
	value   []byte
	expires time.Time
}

var (
	_       Backend = (*expiringBackend)(nil)
	errLost         = errors.New("lost")
	errDown         = errors.New("down")
)

func newExpiringBackend() *expiringBackend {
	return &expiringBackend{
		values: make(map[string]expiring), sets: make(map[string]map[string]time.Time), locks: make(map[string]chan struct{}),
	}
}

func (b *expiringBackend) setBefore(before func(ctx context.Context, call, key string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = before
}

// fail has some calls, or all, fail from now on.
func (b *expiringBackend) fail(err error, calls ...string) {
	b.setBefore(func(_ context.Context, call, _ string) error {
		if len(calls) == 0 || slices.Contains(calls, call) {
			return err
		}
		return nil
	})
}

func (b *expiringBackend) begin(ctx context.Context, call, key string) error {
	b.mu.Lock()
	b.calls = append(b.calls, call+" "+key)
	before := b.before
	b.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, call, key)
}

// count is how many calls there were that begin so.
func (b *expiringBackend) count(prefix string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, call := range b.calls {
		if strings.HasPrefix(call, prefix) {
			n++
		}
	}
	return n
}

// keys are those that have not expired.
func (b *expiringBackend) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.values, func(_ string, v expiring) bool { return !time.Now().Before(v.expires) })
	return slices.Sorted(maps.Keys(b.values))
}

func (b *expiringBackend) Load(ctx context.Context, key string) ([]byte, error) {
	if err := b.begin(ctx, "Load", key); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.values[key]
	if !ok || !time.Now().Before(v.expires) {
		return nil, fmt.Errorf("loading: %w", fs.ErrNotExist)
	}
	return slices.Clone(v.value), nil
}

func (b *expiringBackend) Store(ctx context.Context, key string, value []byte, expires time.Time) error {
	switch err := b.begin(ctx, "Store", key); {
	case errors.Is(err, errLost):
		return nil
	case err != nil:
		return err
	}
	b.put(key, value, expires)
	return nil
}

func (b *expiringBackend) put(key string, value []byte, expires time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values[key] = expiring{slices.Clone(value), expires}
}

func (b *expiringBackend) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "Delete", key); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.values, key)
	return nil
}

func (b *expiringBackend) Add(ctx context.Context, set, member string, expires time.Time) error {
	if err := b.begin(ctx, "Add", set+" "+member); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sets[set] == nil {
		b.sets[set] = make(map[string]time.Time)
	}
	b.sets[set][member] = expires
	return nil
}

func (b *expiringBackend) Remove(ctx context.Context, set, member string) error {
	if err := b.begin(ctx, "Remove", set+" "+member); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sets[set], member)
	return nil
}

func (b *expiringBackend) Members(ctx context.Context, set string) ([]string, error) {
	if err := b.begin(ctx, "Members", set); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.sets[set], func(_ string, expires time.Time) bool { return !time.Now().Before(expires) })
	return slices.Collect(maps.Keys(b.sets[set])), nil
}

func (b *expiringBackend) Lock(ctx context.Context, key string) (func(), error) {
	if err := b.begin(ctx, "Lock", key); err != nil {
		return nil, err
	}
	b.mu.Lock()
	lock, ok := b.locks[key]
	if !ok {
		lock = make(chan struct{}, 1)
		b.locks[key] = lock
	}
	b.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return sync.OnceFunc(func() { <-lock }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs a test by a clock of its own, and sees that it leaves nothing behind that goes on for ever.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t)
		time.Sleep(time.Hour)
	})
}

// numbered is the revocation of a session that no other number has.
func numbered(n int, until time.Time) Revocation { return Revocation{ID: numberedID(n), Until: until} }

func numberedID(n int) [16]byte { return [16]byte{byte(n), byte(n >> 8), byte(n >> 16), 1} }

// numberedList has the revocations from one number up to another.
func numberedList(from, to int, until time.Time) []Revocation {
	var list []Revocation
	for n := from; n < to; n++ {
		list = append(list, numbered(n, until))
	}
	return list
}

// missing is how many of the numbers a list does not know.
func missing(r *Revocations, from, to int) int {
	count := 0
	for n := from; n < to; n++ {
		if !r.Touches(Owner{}, &Session{ID: numberedID(n)}, time.Now()) {
			count++
		}
	}
	return count
}

func wantKnown(t *testing.T, r *Revocations, from, to int) {
	t.Helper()
	if n := missing(r, from, to); n != 0 {
		t.Errorf("%d of the revocations from %d to %d are not known", n, from, to)
	}
}

func wantUnknown(t *testing.T, r *Revocations, from, to int) {
	t.Helper()
	if n := missing(r, from, to); n != to-from {
		t.Errorf("%d of the revocations from %d to %d are known", to-from-n, from, to)
	}
}

// following returns a list that reads what others write.
func following(b Backend) *Revocations {
	return NewRevocations(RevocationsConfig{Backend: b, Follow: true})
}

func mustAdd(t *testing.T, r *Revocations, list ...Revocation) {
	t.Helper()
	if err := r.Add(t.Context(), time.Now(), list...); err != nil {
		t.Error(err)
	}
}

// watched collects what the observers of a list are told.
type watched struct {
	mu   sync.Mutex
	errs []error
}

func watch(r *Revocations) *watched {
	w := new(watched)
	r.Observe(func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.errs = append(w.errs, err)
	})
	return w
}

// count is how many errors, or successes for nil, there have been of a kind.
func (w *watched) count(target error) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, err := range w.errs {
		if errors.Is(err, target) {
			n++
		}
	}
	return n
}

// failures is how many errors there have been of any kind.
func (w *watched) failures() int {
	successes := w.count(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.errs) - successes
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("%d times, last %v", len(w.errs), w.errs[max(0, len(w.errs)-5):])
}
