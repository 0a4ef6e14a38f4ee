package e2e

import (
	"sync"
	"testing"
)

// shared is something that the first test which needs it starts, and that serves until all tests have ended.
type shared[T interface{ Close() error }] struct {
	start func() (T, error)

	once    sync.Once
	started bool
	value   T
	err     error
}

func (s *shared[T]) get(t *testing.T) T {
	t.Helper()
	value, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (s *shared[T]) load() (T, error) {
	s.once.Do(func() {
		s.value, s.err = s.start()
		s.started = s.err == nil
	})
	return s.value, s.err
}

// close ends it, if it was started.
func (s *shared[T]) close() error {
	if !s.started {
		return nil
	}
	return s.value.Close()
}
