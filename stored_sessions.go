package openidconnect

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// SessionStore is what modules in the namespace http.openid_connect.session_stores provide: a place for sessions, and for what instances
// tell each other of their renewals. Everything in it is sealed with keys that browsers hold.
type SessionStore = session.Backend

const (
	sweepInterval = time.Hour
	sweepTimeout  = 5 * time.Minute
	// maxStoreCalls bounds the calls under way: one to a storage that hangs, a dead network mount say, ends only with the process.
	maxStoreCalls = 256
	// storeBusyWait is how long a call waits for another to end.
	storeBusyWait = time.Second
)

var errStoreBusy = errors.New("too many calls to the storage are under way")

// sharedStore is a store as handlers and successive configurations share it: bounded, whatever is behind it.
type sharedStore struct {
	backend atomic.Pointer[storeBackend]
	calls   chan struct{} // under way
	sweepAt atomic.Int64  // Unix seconds
}

// storeBackend is what a new configuration replaces.
type storeBackend struct {
	SessionStore
	logger *zap.Logger
}

func newSharedStore(backend SessionStore, logger *zap.Logger) *sharedStore {
	s := &sharedStore{calls: make(chan struct{}, maxStoreCalls)}
	s.replace(backend, logger)
	return s
}

// replace is for a new configuration, which brings a store and a logger of its own.
func (s *sharedStore) replace(backend SessionStore, logger *zap.Logger) {
	s.backend.Store(&storeBackend{backend, logger})
}

// within makes one call to the store, for no longer than its context lasts: many storages do not look at it.
func within[T any](ctx context.Context, s *sharedStore, call func(SessionStore) (T, error)) (T, error) {
	var none T
	full := time.NewTimer(storeBusyWait)
	defer full.Stop()
	select {
	case s.calls <- struct{}{}:
	case <-full.C:
		return none, errStoreBusy
	case <-ctx.Done():
		return none, ctx.Err()
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-s.calls }()
		defer func() {
			if recovered := recover(); recovered != nil {
				done <- result{err: fmt.Errorf("the storage panicked: %v", recovered)}
			}
		}()
		value, err := call(s.backend.Load())
		done <- result{value, err}
	}()
	select {
	case got := <-done:
		return got.value, got.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (s *sharedStore) do(ctx context.Context, call func(SessionStore) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := within(ctx, s, func(backend SessionStore) (struct{}, error) { return struct{}{}, call(backend) })
	return err
}

// Load implements [SessionStore], and so do the methods after it.
func (s *sharedStore) Load(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return within(ctx, s, func(backend SessionStore) ([]byte, error) { return backend.Load(ctx, key) })
}

func (s *sharedStore) Store(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := s.do(ctx, func(backend SessionStore) error { return backend.Store(ctx, key, value, expires) }); err != nil {
		return err
	}
	now := time.Now()
	if due := s.sweepAt.Load(); now.Unix() >= due && s.sweepAt.CompareAndSwap(due, now.Add(sweepInterval).Unix()) {
		go s.sweep() //nolint:gosec // it is nobody's request
	}
	return nil
}

func (s *sharedStore) Delete(ctx context.Context, key string) error {
	return s.do(ctx, func(backend SessionStore) error { return backend.Delete(ctx, key) })
}

// Lock waits for as long as its context lasts.
func (s *sharedStore) Lock(ctx context.Context, key string) (unlock func(), err error) {
	type lock struct {
		unlock func()
		err    error
	}
	locked := make(chan lock, 1)
	go func() {
		defer func() {
			if recovered := recover(); recovered != nil {
				locked <- lock{err: fmt.Errorf("the storage panicked: %v", recovered)}
			}
		}()
		backend := s.backend.Load()
		unlock, err := backend.Lock(ctx, key)
		if err == nil && unlock == nil {
			err = errors.New("the storage gives no way to unlock")
		}
		locked <- lock{func() {
			defer func() {
				if recovered := recover(); recovered != nil {
					backend.logger.Error("the storage panicked when a lock was given back", zap.Any("cause", recovered))
				}
			}()
			unlock()
		}, err}
	}()
	select {
	case got := <-locked:
		return got.unlock, got.err
	case <-ctx.Done():
	}
	go func() {
		if late := <-locked; late.err == nil {
			late.unlock()
		}
	}()
	return nil, ctx.Err()
}

func (s *sharedStore) Add(ctx context.Context, set, member string, expires time.Time) error {
	return s.do(ctx, func(backend SessionStore) error { return backend.Add(ctx, set, member, expires) })
}

func (s *sharedStore) Remove(ctx context.Context, set, member string) error {
	return s.do(ctx, func(backend SessionStore) error { return backend.Remove(ctx, set, member) })
}

func (s *sharedStore) Members(ctx context.Context, set string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return within(ctx, s, func(backend SessionStore) ([]string, error) { return backend.Members(ctx, set) })
}

// sweep removes what has expired from a store that knows no expiry. It runs when something is stored: where nothing is, nothing grows.
func (s *sharedStore) sweep() {
	backend := s.backend.Load()
	sweeper, ok := backend.SessionStore.(interface {
		Sweep(ctx context.Context) error
	})
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
	defer cancel()
	defer func() {
		if recovered := recover(); recovered != nil {
			backend.logger.Error("expired sessions not removed: the storage panicked", zap.Any("cause", recovered))
		}
	}()
	if err := sweeper.Sweep(ctx); err != nil {
		backend.logger.Warn("expired sessions not removed; tried again later", zap.Error(err))
	}
}

// acquireStores gets the store of sessions, if they are not in their cookies, and the one by which instances agree on renewals, if they do.
func (h *Handler) acquireStores(ctx caddy.Context, rt *runtime, kept SessionStorage, place string) error {
	l := rt.login
	var store *sharedStore
	var err error
	switch id := kept.moduleID(); {
	case id != "":
		store, err = loadStore(ctx, rt, id, kept)
	case kept.name() == storageCaddy:
		store, err = caddyStore(ctx, rt, place)
	}
	if err != nil {
		return err
	}
	l.storeKey = "Caddy's storage " + place
	if store != nil {
		l.store = session.NewStore(store, func() time.Time { return rt.now() })
		l.storeKey = fmt.Sprintf("%s %s", place, kept)
	}
	shares := h.RefreshCoordination == refreshCoordinationStorage
	if or(h.RefreshCoordination, refreshCoordinationAuto) == refreshCoordinationAuto {
		shares = store != nil || !isDefaultStorage(ctx.Storage())
	}
	if store == nil {
		if store, err = caddyStore(ctx, rt, place); err != nil {
			return err
		}
	}
	if shares && h.renews() {
		l.shared = session.NewRenewals(store, func() time.Time { return rt.now() })
	}
	// Without a configured secret, instances can open each other's cookies only if they share Caddy's storage, where the keys are. Then they share
	// the list of ended sessions there too, so it is followed even where renewals are not coordinated.
	follow := shares || l.store != nil || h.RefreshCoordination != refreshCoordinationLocal
	if l.store == nil && !shares && (!follow || h.Session != nil && len(h.Session.Secret) > 0) {
		rt.logger.Warn("logouts end sessions on this instance alone; another one with the same secret would go on taking their cookies",
			zap.String("issuer", rt.issuerName),
			zap.String("hint", "with several instances set refresh_coordination storage on a storage that they share, or session { storage redis }"))
	}
	l.revocations, err = share(rt, fmt.Sprintf("revocations %v %s", follow, l.storeKey), func() *session.Revocations {
		return session.NewRevocations(session.RevocationsConfig{Backend: store, Follow: follow, Background: l.renewals.inBackground})
	})
	if err == nil {
		rt.adoptRevocations()
	}
	return err
}

// loadStore loads a guest module.
func loadStore(ctx caddy.Context, rt *runtime, id string, kept SessionStorage) (*sharedStore, error) {
	const field = "session.storage"
	config := kept.config()
	if config == nil {
		config = []byte("{}")
	}
	module, err := ctx.LoadModuleByID(id, config)
	if err != nil {
		return nil, fieldError(field, "%v", err)
	}
	backend, ok := module.(SessionStore)
	if !ok {
		return nil, fieldError(field, "the module %s is not a store of sessions", id)
	}
	return adoptStore(rt, "session store "+string(kept), backend)
}

// caddyStore is Caddy's storage as a store.
func caddyStore(ctx caddy.Context, rt *runtime, place string) (*sharedStore, error) {
	return adoptStore(rt, "session store in "+place, session.NewCaddyBackend(ctx.Storage(), time.Now, rt.logger))
}

// adoptStore shares a store with other handlers. The one of this configuration takes the place of that before it once this one runs.
func adoptStore(rt *runtime, key string, backend SessionStore) (*sharedStore, error) {
	store, err := share(rt, key, func() *sharedStore { return newSharedStore(backend, rt.logger) })
	if err != nil {
		return nil, err
	}
	rt.login.adoptStorage = append(rt.login.adoptStorage, func() { store.replace(backend, rt.logger) })
	return store, nil
}

// isDefaultStorage reports whether a storage is the folder that Caddy uses without being told.
func isDefaultStorage(storage certmagic.Storage) bool {
	return reflect.DeepEqual(storage, caddy.DefaultStorage)
}
