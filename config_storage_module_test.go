package openidconnect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

func init() {
	caddy.RegisterModule(new(memoryStore))
	caddy.RegisterModule(new(jsonStore))
}

// memoryStore is a guest module that keeps sessions in memory. Those of one name share what they keep, as instances do.
type memoryStore struct {
	Name     string `json:"name,omitempty"`
	Limit    int    `json:"limit,omitempty"` // bytes of a value; 0 is none
	Password string `json:"password,omitempty"`

	*memory `json:"-"`
}

// memories are shared by name.
var memories sync.Map

func (*memoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: storageNamespace + ".memory_test", New: func() caddy.Module { return new(memoryStore) }}
}

func (s *memoryStore) Provision(caddy.Context) error {
	if s.Limit < 0 {
		return errors.New("limit: below 0")
	}
	s.memory = newMemory()
	if s.Name != "" {
		shared, _ := memories.LoadOrStore(s.Name, s.memory)
		s.memory = shared.(*memory)
	}
	return nil
}

// UnmarshalCaddyfile reads memory_test [<name>] { limit <bytes>; password <text> }.
func (s *memoryStore) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		s.Name = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		setting, value := d.Val(), ""
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		switch setting {
		case "limit":
			limit, err := strconv.Atoi(value)
			if err != nil {
				return d.Errf("limit: %q is not a number", value)
			}
			s.Limit = limit
		case "password":
			s.Password = value
		default:
			return d.Errf("unrecognized subdirective %q", setting)
		}
	}
	return nil
}

func (s *memoryStore) Store(ctx context.Context, key string, value []byte, expires time.Time) error {
	if s.Limit > 0 && len(value) > s.Limit {
		return fmt.Errorf("a value of %d bytes is over the limit", len(value))
	}
	return s.memory.Store(ctx, key, value, expires)
}

// jsonStore is a guest module without a form for Caddyfiles.
type jsonStore struct {
	*memory `json:"-"`
}

func (*jsonStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: storageNamespace + ".json_test", New: func() caddy.Module { return &jsonStore{newMemory()} }}
}

// memory keeps everything until it is deleted.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	sets   map[string]map[string]bool
	locks  map[string]chan struct{} // full while held
}

func newMemory() *memory {
	return &memory{values: make(map[string][]byte), sets: make(map[string]map[string]bool), locks: make(map[string]chan struct{})}
}

func (m *memory) Load(ctx context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.values[key]
	if !ok {
		return nil, fmt.Errorf("loading: %w", fs.ErrNotExist)
	}
	return bytes.Clone(value), ctx.Err()
}

func (m *memory) Store(ctx context.Context, key string, value []byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = bytes.Clone(value)
	return ctx.Err()
}

func (m *memory) Delete(ctx context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
	return ctx.Err()
}

func (m *memory) Lock(ctx context.Context, key string) (func(), error) {
	m.mu.Lock()
	lock, ok := m.locks[key]
	if !ok {
		lock = make(chan struct{}, 1)
		m.locks[key] = lock
	}
	m.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return sync.OnceFunc(func() { <-lock }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Add(ctx context.Context, set, member string, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sets[set] == nil {
		m.sets[set] = make(map[string]bool)
	}
	m.sets[set][member] = true
	return ctx.Err()
}

func (m *memory) Remove(ctx context.Context, set, member string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sets[set], member)
	return ctx.Err()
}

func (m *memory) Members(ctx context.Context, set string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortedKeys(m.sets[set]), ctx.Err()
}

// Interface guards
var (
	_ session.Backend       = (*memoryStore)(nil)
	_ session.Backend       = (*jsonStore)(nil)
	_ caddy.Provisioner     = (*memoryStore)(nil)
	_ caddyfile.Unmarshaler = (*memoryStore)(nil)
)
