package provider

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// configFor is how to talk to the test provider; edit may change it.
func configFor(op *optest.Provider, edit func(c *Config)) Config {
	config := Config{
		Issuer:    op.Issuer(),
		Timeout:   10 * time.Second,
		UserAgent: "test-agent",
		Proxy:     func(*http.Request) (*url.URL, error) { return nil, nil },
	}
	if certificate := op.Certificate(); certificate != nil {
		config.RootCAs = poolOf(certificate)
	}
	if edit != nil {
		edit(&config)
	}
	return config
}

func poolOf(certificates ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, certificate := range certificates {
		pool.AddCert(certificate)
	}
	return pool
}

// newProvider is the code under test in front of the test provider, over real connections.
func newProvider(tb testing.TB, op *optest.Provider, edit func(c *Config)) *Provider {
	tb.Helper()
	p := New(configFor(op, edit))
	tb.Cleanup(p.Close)
	return p
}

// settle returns when no fetch is under way any more, not even to tell its observers.
func settle(p *Provider) {
	for {
		p.mu.Lock()
		done := p.all.done
		for _, fetches := range []*forced{&p.forced, &p.login, &p.logout} {
			if done == nil {
				done = fetches.done
			}
		}
		p.mu.Unlock()
		if done == nil {
			return
		}
		<-done
	}
}

// lastErrorOf is what the last fetch ended with.
func lastErrorOf(p *Provider) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastError
}

// signed reports whether one of the keys has signed the token.
func signed(tb testing.TB, keys *jose.KeySet, raw string) bool {
	tb.Helper()
	token, err := jose.Parse(raw, 64<<10)
	if err != nil {
		tb.Fatal(err)
	}
	candidates, _ := keys.Candidates(token.KeyID, token.Algorithm)
	return slices.ContainsFunc(candidates, func(key *jose.Key) bool { return token.Verify(key) == nil })
}

// clock is a time that moves on by itself and when told to.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// events is an observer that remembers what it is told.
type events struct {
	mu      sync.Mutex
	calls   []string
	ups     []string
	skipped []int
}

func (e *events) Called(endpoint string, status int, took time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if took < 0 {
		e.calls = append(e.calls, "negative time")
	}
	e.calls = append(e.calls, fmt.Sprintf("%s %d", endpoint, status))
}

func (e *events) Up(up, changed bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ups = append(e.ups, fmt.Sprintf("up=%t changed=%t failed=%t", up, changed, err != nil))
}

func (e *events) KeySkipped(index int, _ error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.skipped = append(e.skipped, index)
}

func (e *events) take() (calls, ups []string, skipped []int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls, ups, skipped = e.calls, e.ups, e.skipped
	e.calls, e.ups, e.skipped = nil, nil, nil
	return calls, ups, skipped
}

// memory is a provider that is reached through pipes in memory, so that a test in a bubble decides about the time. Its answers are
// handlers, which a test may replace at any moment.
type memory struct {
	connections chan net.Conn
	closed      chan struct{}

	mu            sync.Mutex
	discovery     http.HandlerFunc
	jwks          http.HandlerFunc
	introspection http.HandlerFunc
	token         http.HandlerFunc
	userinfo      http.HandlerFunc
	revocation    http.HandlerFunc
	hits          map[string][]time.Time
}

const memoryIssuer = "http://op.example"

// inBubble runs a test with a provider in memory. When it ends, nothing of either side may be left running.
func inBubble(t *testing.T, edit func(c *Config), test func(t *testing.T, p *Provider, op *memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		op := &memory{connections: make(chan net.Conn), closed: make(chan struct{}), hits: make(map[string][]time.Time)}
		op.discovery = answer(http.StatusOK, metadataOf(nil))
		op.jwks = answer(http.StatusOK, string(optest.KeySet(optest.NewKey(t, "ES256", "e1"))))
		op.introspection = answer(http.StatusOK, `{"active":true}`)
		op.token = answer(http.StatusOK, `{"access_token":"at","token_type":"Bearer"}`)
		op.userinfo = answer(http.StatusOK, `{"sub":"alice"}`)
		op.revocation = answer(http.StatusOK, "")
		server := &http.Server{Handler: op, ReadHeaderTimeout: time.Hour}
		served := make(chan error)
		go func() { served <- server.Serve(op) }()

		config := Config{Issuer: memoryIssuer, Timeout: 5 * time.Second, UserAgent: "test-agent"}
		if edit != nil {
			edit(&config)
		}
		p := New(config)
		p.client.Transport.(*http.Transport).DialContext = op.dial
		p.client.Transport.(*http.Transport).Proxy = nil
		defer func() {
			p.Close()
			p.client.CloseIdleConnections()
			server.Close()
			<-served
		}()
		test(t, p, op)
	})
}

func (op *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case op.connections <- server:
		return client, nil
	case <-op.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (op *memory) Accept() (net.Conn, error) {
	select {
	case connection := <-op.connections:
		return connection, nil
	case <-op.closed:
		return nil, net.ErrClosed
	}
}

func (op *memory) Close() error {
	close(op.closed)
	return nil
}

func (op *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (op *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Only when the body has been read does the server notice that a client goes.
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	op.mu.Lock()
	name, handler := "other", http.NotFoundHandler().ServeHTTP
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		name, handler = "discovery", op.discovery
	case "/jwks":
		name, handler = "jwks", op.jwks
	case "/introspect":
		name, handler = "introspection", op.introspection
	case "/token":
		name, handler = "token", op.token
	case "/userinfo":
		name, handler = "userinfo", op.userinfo
	case "/revoke":
		name, handler = "revocation", op.revocation
	}
	op.hits[name] = append(op.hits[name], time.Now())
	op.mu.Unlock()
	handler(w, r)
}

// set replaces one answer.
func (op *memory) set(target *http.HandlerFunc, handler http.HandlerFunc) {
	op.mu.Lock()
	defer op.mu.Unlock()
	*target = handler
}

// times is when an endpoint was asked.
func (op *memory) times(name string) []time.Time {
	op.mu.Lock()
	defer op.mu.Unlock()
	return slices.Clone(op.hits[name])
}

func (op *memory) count(name string) int { return len(op.times(name)) }

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// hang does not answer before the client gives up.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// drip sends a byte each second until the client gives up.
func drip(w http.ResponseWriter, r *http.Request) {
	for {
		_, _ = w.Write([]byte(" "))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

// metadataOf is the document of the provider in memory with some members changed.
func metadataOf(changes map[string]any) string {
	m := map[string]any{
		"issuer": memoryIssuer, "jwks_uri": memoryIssuer + "/jwks", "introspection_endpoint": memoryIssuer + "/introspect",
		"token_endpoint": memoryIssuer + "/token", "userinfo_endpoint": memoryIssuer + "/userinfo",
		"revocation_endpoint": memoryIssuer + "/revoke",
	}
	for name, value := range changes {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(text)
}
