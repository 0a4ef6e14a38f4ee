package openidconnect

import (
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// providers are shared by all handlers that talk to the same provider in the same way, across configuration loads. So is what handlers
// have in common of sessions, see [share].
var providers = caddy.NewUsagePool()

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
		value, _, err := providers.LoadOrNew(numbered, func() (caddy.Destructor, error) {
			return &sharedProvider{Provider: provider.New(config), config: config, parts: make(map[any]*sharedPart)}, nil
		})
		if err != nil {
			return nil, nil, err
		}
		release := func() error {
			_, err := providers.Delete(numbered)
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
