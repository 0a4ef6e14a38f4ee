// Package provider is everything that talks to the identity provider: its metadata, its keys, token introspection, the exchange of
// authorization codes and refresh tokens, the revocation of tokens, userinfo, the client's authentication there, and the one HTTP client
// that carries it all.
//
// A [Provider] is shared by every handler that talks to the same provider in the same way, and outlives configuration reloads. It
// fetches nothing until it is asked to or warmed up, keeps what it has while the provider is down, and recovers by itself.
package provider

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Errors that tell the caller what could not be had. The detail they are wrapped in is for logs.
var (
	ErrDiscovery      = errors.New("discovery failed")
	ErrIssuerMismatch = errors.New("the metadata is of another issuer")
	ErrKeys           = errors.New("no keys")
	ErrIntrospection  = errors.New("introspection failed")
	ErrToken          = errors.New("the token request failed")
	ErrUserinfo       = errors.New("the userinfo request failed")
	ErrRevocation     = errors.New("the revocation failed")
	// ErrNoEndpoint is wrapped with one of the others, and completed by the endpoint's name, when the provider has no such endpoint.
	ErrNoEndpoint = errors.New("the metadata names no")
	// ErrBusy is wrapped with one of the others when nothing was sent, because too many calls are under way.
	ErrBusy = errors.New("too many calls are under way")
)

const (
	// metadataLifetime is how old discovered metadata gets before a scheduled renewal fetches it again.
	metadataLifetime = time.Hour
	// forcedInterval is the least time between two fetches of the keys that tokens with unknown keys have caused.
	forcedInterval = 30 * time.Second
	// loginInterval is the same for ID tokens, which no stranger can make up.
	loginInterval = 5 * time.Second
	// logoutInterval is the same for logout tokens, which anybody may send.
	logoutInterval = 30 * time.Second
	// Bounds of the pause after a failed fetch; it doubles from one to the other.
	minPause = 500 * time.Millisecond
	maxPause = 15 * time.Second
	// maxAskedPause bounds the pause that the provider itself asks for.
	maxAskedPause = time.Minute
	// MinKeysLifetime is the least age at which keys are fetched again.
	MinKeysLifetime = time.Minute
	// MaxKeysLifetime is the greatest.
	MaxKeysLifetime = 24 * time.Hour
)

// Observer is told what goes on with the provider, for metrics and logs. Its methods must not block.
type Observer interface {
	// Called is told of each call: the endpoint, the HTTP status (0 without an answer) and the time taken.
	Called(endpoint string, status int, took time.Duration)
	// Up is told when metadata and keys were fetched, and when that failed; changed is set when it was otherwise before.
	Up(up, changed bool, err error)
	// KeySkipped is told of a key in the provider's set that cannot be used, once for each newly published set.
	KeySkipped(index int, reason error)
}

// Provider is a client of one identity provider. It is safe for concurrent use.
type Provider struct {
	config   Config
	client   *http.Client
	lastOnce atomic.Int64 // Unix nanoseconds of the last call that is not repeated
	now      func() time.Time

	calls       chan struct{} // bounds the calls that strangers can cause
	refreshes   chan struct{} // bounds the refreshes, which strangers cannot cause
	revocations chan struct{} // bounds the revocations, which they cannot either

	background context.Context // of work that no single request owns; ends at Close
	cancel     context.CancelFunc

	state atomic.Pointer[state]

	mu        sync.Mutex
	observers []observation
	closed    bool
	changed   chan struct{} // closed when the state is replaced
	all       flight        // metadata and keys
	forced    forced        // keys, because of an unknown one in a token from anywhere
	login     forced        // keys, because of an unknown one in an ID token
	logout    forced        // keys, because of an unknown one in a logout token
	timer     *time.Timer   // of the next scheduled fetch
	next      time.Time     // when it fires
	failures  int
	retryAt   time.Time // no fetch that a request caused starts before this
	lastError error     // nil after a success
	lastFetch time.Time // when the last fetch ended
	failure   failure
	down      bool
	warnedOf  [sha256.Size]byte // digest of the key set whose unusable keys were reported

	keyFetches atomic.Uint64 // numbers the fetches of keys in the order of their beginnings
}

// forced are the fetches of the keys that unknown keys have caused: one at a time, and so often.
type forced struct {
	flight
	interval time.Duration
	at       time.Time // when the last one began
}

// failure is a fetch that failed, remembered for whoever asks what the trouble was.
type failure struct {
	text string
	at   time.Time
}

// state is what is known of the provider, replaced as a whole.
type state struct {
	metadata      *Metadata
	metadataAt    time.Time // when it was fetched; zero: never
	metadataUntil time.Time // when to fetch it again; zero: never
	keys          *jose.KeySet
	keysAt        time.Time
	keysUntil     time.Time
	keysDigest    [sha256.Size]byte // of the document that keys came from
	keysFetch     uint64            // number of the fetch that they came from
}

type observation struct {
	key      any
	observer Observer
	count    int
}

// New makes a provider. It does not open a connection.
func New(config Config) *Provider {
	p := &Provider{
		config:      config,
		client:      newClient(config),
		now:         time.Now,
		calls:       make(chan struct{}, maxConcurrentCalls),
		refreshes:   make(chan struct{}, maxConcurrentRefreshes),
		revocations: make(chan struct{}, maxConcurrentRevocations),
		forced:      forced{interval: forcedInterval},
		login:       forced{interval: loginInterval},
		logout:      forced{interval: logoutInterval},
	}
	p.changed = make(chan struct{})
	p.background, p.cancel = context.WithCancel(context.Background())
	known := &state{keys: config.StaticKeys}
	if !config.discovers() {
		known.metadata = config.metadata()
	}
	p.state.Store(known)
	return p
}

// Observe adds an observer; calls of the same key share one. The returned function removes it.
func (p *Provider) Observe(key any, observer Observer) (stop func()) {
	p.mu.Lock()
	i := slices.IndexFunc(p.observers, func(o observation) bool { return o.key == key })
	tells, up := i < 0 && !p.lastFetch.IsZero(), !p.down
	if i < 0 {
		p.observers = append(p.observers, observation{key: key, observer: observer, count: 1})
	} else {
		p.observers[i].count++
	}
	p.mu.Unlock()
	if tells {
		observer.Up(up, false, nil)
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		i := slices.IndexFunc(p.observers, func(o observation) bool { return o.key == key })
		if p.observers[i].count--; p.observers[i].count == 0 {
			p.observers = slices.Delete(slices.Clone(p.observers), i, i+1)
		}
	})
}

func (p *Provider) observe(f func(Observer)) {
	p.mu.Lock()
	observers := p.observers
	p.mu.Unlock()
	for i := range observers { // without a copy of the count, which changes
		f(observers[i].observer)
	}
}

// Warm fetches metadata and keys in the background unless they are known. It returns at once.
func (p *Provider) Warm() {
	if !p.complete(p.state.Load()) {
		p.renew()
	}
}

// Close ends background work and idle connections. What is known stays readable.
func (p *Provider) Close() {
	p.mu.Lock()
	p.closed, p.next = true, time.Time{}
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.cancel()
	p.client.CloseIdleConnections()
}

// complete reports whether s holds all that this provider can be asked for.
func (p *Provider) complete(s *state) bool {
	return s.metadata != nil && (s.keys != nil || s.metadata.JWKSURI == "")
}

// Metadata returns the provider's metadata, waiting for the first discovery. Errors wrap ErrDiscovery or ErrIssuerMismatch.
func (p *Provider) Metadata(ctx context.Context) (*Metadata, error) {
	s, err := p.await(ctx, func(s *state) bool { return s.metadata != nil })
	if err != nil {
		return nil, err
	}
	return s.metadata, nil
}

// KnownMetadata returns the metadata if it is there already, else nil.
func (p *Provider) KnownMetadata() *Metadata { return p.state.Load().metadata }

// Keys returns the provider's keys, waiting for the first fetch. Errors wrap ErrKeys or what stopped discovery before it.
func (p *Provider) Keys(ctx context.Context) (*jose.KeySet, error) {
	s, err := p.await(ctx, func(s *state) bool { return s.keys != nil })
	if err != nil {
		return nil, err
	}
	return s.keys, nil
}

// KnownKeys returns the keys if they are there already, else nil.
func (p *Provider) KnownKeys() *jose.KeySet { return p.state.Load().keys }

// RenewKeys fetches the keys again because a token names one that is not in known, at most every 30 seconds for the whole
// provider; callers share one fetch. It returns the keys there are afterwards, which are the old ones when the fetch failed or was
// not allowed.
func (p *Provider) RenewKeys(ctx context.Context, known *jose.KeySet) *jose.KeySet {
	return p.renewKeys(ctx, known, &p.forced)
}

// RenewKeysForLogin is RenewKeys for an ID token that came from the token endpoint, at most every 5 seconds: who sends bearer tokens
// of unknown keys must not keep others from logging in after the provider has changed its keys.
func (p *Provider) RenewKeysForLogin(ctx context.Context, known *jose.KeySet) *jose.KeySet {
	return p.renewKeys(ctx, known, &p.login)
}

// RenewKeysForLogout is RenewKeys for a logout token, at most every 30 seconds. Strangers can send these too, but the two budgets are apart:
// a provider that has changed its keys may send a logout token but once, and a flood of bearer tokens must not be why it is refused.
func (p *Provider) RenewKeysForLogout(ctx context.Context, known *jose.KeySet) *jose.KeySet {
	return p.renewKeys(ctx, known, &p.logout)
}

func (p *Provider) renewKeys(ctx context.Context, known *jose.KeySet, fetches *forced) *jose.KeySet {
	if p.config.StaticKeys != nil {
		return known
	}
	if current := p.state.Load().keys; current != known {
		return current // somebody was faster
	}
	if offline(ctx) {
		return known
	}
	p.mu.Lock()
	now := p.now()
	if fetches.done == nil && (fetches.at.IsZero() || now.Sub(fetches.at) >= fetches.interval) {
		// counted before the fetch, so that a slow or failing provider is not asked more often
		fetches.at = now
		p.start(&fetches.flight, p.fetchForced)
	}
	done := fetches.done
	p.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	return p.state.Load().keys
}

// RetryAfter is how long a caller should wait before it asks again.
func (p *Provider) RetryAfter() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.retryAt.Sub(p.now()), time.Second)
}
