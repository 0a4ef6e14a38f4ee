package openidconnect

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// A storage that hangs, as a dead network mount does, holds nobody up for longer than one access may take, and not everybody one by one.
func TestStorageThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &sharedStore{calls: make(chan struct{}, 2)}
		store.replace(nil, zap.NewNop())
		access := func(ctx context.Context, call func() error) error {
			_, err := within(ctx, store, func(SessionStore) (struct{}, error) { return struct{}{}, call() })
			return err
		}
		if err := access(t.Context(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := access(t.Context(), func() error { return errStorage }); !errors.Is(err, errStorage) {
			t.Fatal(err)
		}
		if err := access(t.Context(), func() error { panic(errStorage) }); err == nil {
			t.Fatal("a panic is no error")
		}
		released := make(chan struct{})
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), storeTimeout)
			start := time.Now()
			err := access(ctx, func() error { <-released; return nil })
			cancel()
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != storeTimeout {
				t.Errorf("%v after %v", err, took)
			}
		}
		start := time.Now()
		if err := access(t.Context(), func() error { return nil }); !errors.Is(err, errStoreBusy) || time.Since(start) != storeBusyWait {
			t.Errorf("beyond the bound: %v", err)
		}
		close(released)
		synctest.Wait()
		if err := access(t.Context(), func() error { return nil }); err != nil {
			t.Errorf("when the storage is back: %v", err)
		}
	})
}
