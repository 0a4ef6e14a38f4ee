package openidconnect

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// pool has what outlives a configuration load for as long as any handler uses it, under keys of three kinds: providers
// ([acquireProvider]), what handlers have in common of sessions ([share]), and the running handlers themselves ([runtime.register]).
var pool = caddy.NewUsagePool()

// sharedProvider is a provider with what handlers keep beside it.
type sharedProvider struct {
	*provider.Provider
	config provider.Config

	mu    sync.Mutex
	parts map[any]*sharedPart
}

type sharedPart struct {
	value any
	users int
}

// Destruct ends the provider when nobody uses it any more.
func (p *sharedProvider) Destruct() error {
	p.Close()
	return nil
}

// acquireProvider returns the shared provider for a configuration, and what gives it back.
func acquireProvider(config provider.Config) (*sharedProvider, func() error, error) {
	key := config.Key()
	for n := 0; ; n++ {
		// the same description with other authorities behind it is another provider
		numbered := key + "." + strconv.Itoa(n)
		value, _, err := pool.LoadOrNew(numbered, func() (caddy.Destructor, error) {
			return &sharedProvider{Provider: provider.New(config), config: config, parts: make(map[any]*sharedPart)}, nil
		})
		if err != nil {
			return nil, nil, err
		}
		release := func() error {
			_, err := pool.Delete(numbered)
			return err
		}
		shared := value.(*sharedProvider)
		if shared.config.SameTrust(&config) {
			return shared, release, nil
		}
		if err := release(); err != nil {
			return nil, nil, err
		}
	}
}

// part returns what is kept under key beside the provider, made the first time, and what gives it back.
func part[T any](p *sharedProvider, key any, construct func() T) (T, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.parts[key]
	if kept == nil {
		kept = &sharedPart{value: construct()}
		p.parts[key] = kept
	}
	kept.users++
	return kept.value.(T), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if kept.users--; kept.users == 0 {
			delete(p.parts, key)
		}
	}
}

// sharedValue is something that runtimes have in common.
type sharedValue struct{ value any }

// Destruct has nothing to end.
func (sharedValue) Destruct() error { return nil }

// share returns what runtimes have in common under a key, across providers and configuration loads, until the last is released.
func share[T any](rt *runtime, key string, construct func() T) (T, error) {
	shared, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return sharedValue{construct()}, nil })
	if err != nil {
		var none T
		return none, fmt.Errorf("sharing sessions: %w", err)
	}
	rt.releases = append(rt.releases, func() error {
		_, err := pool.Delete(key)
		return err
	})
	return shared.(sharedValue).value.(T), nil
}

// runtimeKey is under which the pool has a runtime.
type runtimeKey uint64

// pooledRuntime is a runtime in the pool.
type pooledRuntime struct{ *runtime }

// Destruct has nothing to end.
func (pooledRuntime) Destruct() error { return nil }

// register makes the runtime known to others of this process, until it is released.
func (rt *runtime) register() {
	key := runtimeKey(rt.number)
	pool.LoadOrStore(key, pooledRuntime{rt})
	rt.releases = append(rt.releases, func() error {
		_, err := pool.Delete(key)
		return err
	})
}

// everyHandler passes over all runtimes of this process, in no order. The pool is locked meanwhile.
func everyHandler() iter.Seq[*runtime] {
	return func(yield func(*runtime) bool) {
		pool.Range(func(_, value any) bool {
			pooled, ok := value.(pooledRuntime)
			return !ok || yield(pooled.runtime)
		})
	}
}

// runningHandlers are all runtimes of this process, in the order in which they were made.
func runningHandlers() []*runtime {
	return slices.SortedFunc(everyHandler(), func(a, b *runtime) int { return int(a.number) - int(b.number) })
}
