package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// maxUnanswered bounds the calls to a backend that have not ended. No more than this many are ever wanted at once.
const maxUnanswered = 32

var errUnanswered = errors.New("too many calls to the backend have not ended")

// patient is a [Backend] whose calls end in good time even where it does not look at the context, or panics.
type patient struct {
	backend    Backend
	unanswered *atomic.Int64
}

// called is a call's result.
type called[T any] struct {
	value T
	err   error
}

// call waits for an answer until the context ends. An answer that comes later is given to late.
func call[T any](ctx context.Context, p patient, late func(T), operation func(context.Context) (T, error)) (T, error) {
	var none T
	if p.unanswered.Add(1) > maxUnanswered {
		p.unanswered.Add(-1)
		return none, errUnanswered
	}
	answer := make(chan called[T])
	go func() {
		defer p.unanswered.Add(-1)
		var got called[T]
		got.err = recovered(func() (err error) {
			got.value, err = operation(ctx)
			return err
		})
		select {
		case answer <- got:
		case <-ctx.Done():
			if got.err == nil && late != nil {
				late(got.value)
			}
		}
	}()
	select {
	case got := <-answer:
		return got.value, got.err
	case <-ctx.Done():
		return none, fmt.Errorf("no answer of the backend: %w", ctx.Err())
	}
}

// do is call for what returns nothing.
func (p patient) do(ctx context.Context, operation func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	_, err := call(ctx, p, nil, func(ctx context.Context) (struct{}, error) { return struct{}{}, operation(ctx) })
	return err
}

func (p patient) load(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return call(ctx, p, nil, func(ctx context.Context) ([]byte, error) { return p.backend.Load(ctx, key) })
}

func (p patient) members(ctx context.Context, set string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return call(ctx, p, nil, func(ctx context.Context) ([]string, error) { return p.backend.Members(ctx, set) })
}

func (p patient) store(ctx context.Context, key string, value []byte, expires time.Time) error {
	return p.do(ctx, func(ctx context.Context) error { return p.backend.Store(ctx, key, value, expires) })
}

func (p patient) delete(ctx context.Context, key string) error {
	return p.do(ctx, func(ctx context.Context) error { return p.backend.Delete(ctx, key) })
}

func (p patient) add(ctx context.Context, set, member string, expires time.Time) error {
	return p.do(ctx, func(ctx context.Context) error { return p.backend.Add(ctx, set, member, expires) })
}

func (p patient) remove(ctx context.Context, set, member string) error {
	return p.do(ctx, func(ctx context.Context) error { return p.backend.Remove(ctx, set, member) })
}

// lock waits for a lock for so long. One that comes too late is given back.
func (p patient) lock(ctx context.Context, key string, wait time.Duration) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	give := func(unlock func()) {
		_ = recovered(func() error {
			unlock()
			return nil
		})
	}
	held, err := call(ctx, p, give, func(ctx context.Context) (func(), error) { return p.backend.Lock(ctx, key) })
	if err != nil {
		return nil, err
	}
	return func() { give(held) }, nil
}
