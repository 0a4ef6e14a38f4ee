package session

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// memoryStorage is a storage that can be told to fail: before is asked ahead of each call, by its name and key.
type memoryStorage struct {
	mu     sync.Mutex
	values map[string][]byte
	locks  map[string]chan struct{}
	calls  []string
	before func(ctx context.Context, call, key string) error
	single bool // Delete removes single keys only
}

func newMemoryStorage() *memoryStorage {
	return &memoryStorage{values: make(map[string][]byte), locks: make(map[string]chan struct{})}
}

var _ certmagic.Storage = (*memoryStorage)(nil)

func (s *memoryStorage) begin(ctx context.Context, call, key string) error {
	s.mu.Lock()
	s.calls = append(s.calls, call)
	before := s.before
	s.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, call, key)
}

func (s *memoryStorage) setBefore(before func(ctx context.Context, call, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *memoryStorage) fail(err error, calls ...string) {
	s.setBefore(func(_ context.Context, call, _ string) error {
		if slices.Contains(calls, call) {
			return err
		}
		return nil
	})
}

func (s *memoryStorage) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (s *memoryStorage) get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.values[key])
}

func (s *memoryStorage) set(key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = []byte(value)
}

func (s *memoryStorage) Lock(ctx context.Context, name string) error {
	if err := s.begin(ctx, "Lock", name); err != nil {
		return err
	}
	s.mu.Lock()
	lock, ok := s.locks[name]
	if !ok {
		lock = make(chan struct{}, 1)
		s.locks[name] = lock
	}
	s.mu.Unlock()
	select {
	case lock <- struct{}{}: // also when nobody waits for it any longer
		return nil
	default:
	}
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *memoryStorage) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	lock := s.locks[name]
	s.mu.Unlock()
	<-lock
	return s.begin(ctx, "Unlock", name)
}

func (s *memoryStorage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.begin(ctx, "Store", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = slices.Clone(value)
	return nil
}

func (s *memoryStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.begin(ctx, "Load", key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(value), nil
}

func (s *memoryStorage) Delete(ctx context.Context, key string) error {
	if err := s.begin(ctx, "Delete", key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.values {
		if k == key || !s.single && strings.HasPrefix(k, key+"/") {
			delete(s.values, k)
		}
	}
	return nil
}

func (s *memoryStorage) Exists(ctx context.Context, key string) bool {
	_, err := s.Load(ctx, key)
	return err == nil
}

func (s *memoryStorage) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if err := s.begin(ctx, "List", prefix); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for key := range s.values {
		rest, ok := strings.CutPrefix(key, prefix+"/")
		if !ok {
			continue
		}
		if !recursive {
			rest, _, _ = strings.Cut(rest, "/")
		}
		if key = path.Join(prefix, rest); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fs.ErrNotExist
	}
	return keys, nil
}

func (s *memoryStorage) Stat(context.Context, string) (certmagic.KeyInfo, error) {
	return certmagic.KeyInfo{}, fs.ErrNotExist
}

// observed returns a logger and what it logs.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

func warnings(logs *observer.ObservedLogs) int {
	return logs.FilterLevelExact(zapcore.WarnLevel).Len()
}

func wantWarnings(t *testing.T, logs *observer.ObservedLogs, want int) {
	t.Helper()
	if got := warnings(logs); got != want {
		t.Errorf("%d warnings, want %d: %v", got, want, logs.All())
	}
}
