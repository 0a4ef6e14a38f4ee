// Package optest is an OpenID provider for tests that can be told to misbehave.
//
// It uses the standard library alone, so that what it signs and answers does
// not depend on the code under test. [New] starts a provider for one test,
// [Start] one for a program. Everything a [Provider] does by default is
// correct; [Provider.Fail], [Provider.FailRefresh], [Provider.SetJWKS], [Provider.SetMetadata],
// [Provider.Down], the signing functions and the hooks of the login, such as
// [Provider.SetAuthorizeResponse], make it wrong in exactly one way. A [Browser]
// is what logs in. Single sign-on, logout and revocation are there with [WithSSO],
// [WithEndSession] and [WithRevocation].
package optest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Provider is one running provider. All its methods are safe for concurrent use.
type Provider struct {
	server     *httptest.Server
	issuerPath string
	oauthOnly  bool
	down       atomic.Bool
	refused    atomic.Int64
	done       chan struct{}
	closeOnce  sync.Once

	mu                sync.Mutex
	keys              []*Key
	signing           *Key
	rotations         int
	rawJWKS           []byte
	cacheControl      string
	endpoints         map[string]*endpoint
	tokens            map[string]Claims
	issued            []string
	clientSecrets     []string
	clientID          string
	clientSecret      string
	clientCertificate *x509.Certificate
	checkAssertion    func(assertion string) error
	assertions        []string
	advanced          time.Duration
	login             login
	refreshes         refreshes
	logout            logout
	known             []*Key // all that ever were published or signed

	// Edits run one at a time, apart from mu, so that they may call the provider.
	metadataMu   sync.Mutex
	editMetadata func(map[string]any)

	// Hooks of the login run one at a time too.
	hookMu sync.Mutex
}

type options struct {
	address     string
	issuerPath  string
	tls         bool
	certificate *tls.Certificate
	oauthOnly   bool
	iss         bool
	sso         bool
	endSession  bool
	revocation  bool
}

// Option changes how a provider starts.
type Option func(*options)

// WithIssuerPath gives the issuer a path, such as "/realms/demo", or "/" for
// an issuer that ends in a slash.
func WithIssuerPath(path string) Option { return func(o *options) { o.issuerPath = path } }

// WithTLS serves https with a certificate for 127.0.0.1 and example.com. Client
// certificates are asked for, recorded and not verified.
func WithTLS() Option { return func(o *options) { o.tls = true } }

// WithCertificate is WithTLS with a certificate of the caller's.
func WithCertificate(certificate tls.Certificate) Option {
	return func(o *options) { o.tls, o.certificate = true, &certificate }
}

// WithOAuthMetadataOnly leaves the OpenID discovery document out (404) and
// serves the metadata at its RFC 8414 location.
func WithOAuthMetadataOnly() Option { return func(o *options) { o.oauthOnly = true } }

// WithIssParameter promises the iss parameter in authorization responses (RFC
// 9207), and sends it.
func WithIssParameter() Option { return func(o *options) { o.iss = true } }

// WithAddress listens on a chosen loopback address instead of a free port.
func WithAddress(address string) Option { return func(o *options) { o.address = address } }

// New starts a provider that closes when the test ends. It publishes an
// RSA-2048 key "rs-1" for RS256, which signs its tokens, and a P-256 key "es-1".
func New(tb testing.TB, opts ...Option) *Provider {
	tb.Helper()
	p, err := start(tb, opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// Start is New for programs: the caller closes the provider.
func Start(opts ...Option) (*Provider, error) { return start(nil, opts) }

func start(tb testing.TB, opts []Option) (*Provider, error) {
	settings := options{address: "127.0.0.1:0"}
	for _, opt := range opts {
		opt(&settings)
	}
	rs, err := newKey(tb, "RS256", "rs-1", 2048)
	if err != nil {
		return nil, err
	}
	es, err := newKey(tb, "ES256", "es-1", 0)
	if err != nil {
		return nil, err
	}
	inner, err := net.Listen("tcp", settings.address)
	if err != nil {
		return nil, fmt.Errorf("listening for the test provider: %w", err)
	}

	p := &Provider{
		issuerPath:   settings.issuerPath,
		oauthOnly:    settings.oauthOnly,
		done:         make(chan struct{}),
		keys:         []*Key{rs, es},
		signing:      rs,
		rotations:    1,
		endpoints:    make(map[string]*endpoint),
		tokens:       make(map[string]Claims),
		clientID:     "client",
		clientSecret: "secret",
		login:        newLogin(settings.iss),
		refreshes:    newRefreshes(),
		logout:       logout{sso: settings.sso, endSession: settings.endSession, revocation: settings.revocation, redirect: true},
		known:        []*Key{rs, es},
	}
	for _, name := range endpointNames {
		p.endpoints[name] = &endpoint{changed: make(chan struct{})}
	}
	p.server = &httptest.Server{
		Listener: &listener{Listener: inner, provider: p},
		Config:   &http.Server{Handler: p, ErrorLog: log.New(serverLog{}, "", 0)},
	}
	if !settings.tls {
		p.server.Start()
		return p, nil
	}
	p.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	if settings.certificate != nil {
		p.server.TLS.Certificates = []tls.Certificate{*settings.certificate}
	}
	p.server.StartTLS()
	return p, nil
}

// Close ends every request in progress, also those that hang, and the server.
func (p *Provider) Close() {
	p.closeOnce.Do(func() {
		close(p.done)
		p.server.CloseClientConnections()
		p.server.Close()
	})
}

// URL is the server's base URL, without a path or trailing slash.
func (p *Provider) URL() string { return p.server.URL }

// Issuer is the issuer identifier: the URL with the issuer path, if any.
func (p *Provider) Issuer() string { return p.server.URL + p.issuerPath }

// Client returns an HTTP client that trusts the provider's certificate.
func (p *Provider) Client() *http.Client { return p.server.Client() }

// Certificate returns the server certificate, or nil without TLS.
func (p *Provider) Certificate() *x509.Certificate { return p.server.Certificate() }

// CertificatePEM returns the server certificate as PEM, empty without TLS.
func (p *Provider) CertificatePEM() string {
	certificate := p.server.Certificate()
	if certificate == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}

// Down closes all connections and every new one as soon as it is made, until
// Up. Nothing of that counts as a hit.
func (p *Provider) Down() {
	p.down.Store(true)
	p.server.CloseClientConnections()
}

// Up ends Down.
func (p *Provider) Up() { p.down.Store(false) }

// Refused counts the connections that Down turned away.
func (p *Provider) Refused() int { return int(p.refused.Load()) }

// Key returns the published key with that ID, or nil.
func (p *Provider) Key(kid string) *Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range p.keys {
		if key.ID == kid {
			return key
		}
	}
	return nil
}

// AddKey publishes a key after those already there, also when one has its ID.
func (p *Provider) AddKey(key *Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, key)
	p.know(key)
}

// RemoveKey stops publishing the keys with that ID. The provider goes on
// signing with its signing key even when that is no longer published.
func (p *Provider) RemoveKey(kid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = slices.DeleteFunc(p.keys, func(key *Key) bool { return key.ID == kid })
}

// Rotate replaces the signing key, in the key set too, by a new RSA key
// ("rs-2", "rs-3" and so on) and returns the new one.
func (p *Provider) Rotate(tb testing.TB) *Key {
	tb.Helper()
	p.mu.Lock()
	p.rotations++
	kid := fmt.Sprintf("rs-%d", p.rotations)
	p.mu.Unlock()
	key := NewKey(tb, "RS256", kid)
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.signing
	p.keys = slices.DeleteFunc(p.keys, func(k *Key) bool { return k == old })
	p.keys = append(p.keys, key)
	p.signing = key
	p.know(key)
	return key
}

// SetSigningKey chooses the key that signs tokens from now on, published or not.
func (p *Provider) SetSigningKey(key *Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signing = key
	p.know(key)
}

// SetJWKS serves these bytes as the key set; nil goes back to the real one.
func (p *Provider) SetJWKS(raw []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rawJWKS = slices.Clone(raw)
}

// SetCacheControl sets the Cache-Control header of the key set; empty removes it.
func (p *Provider) SetCacheControl(value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cacheControl = value
}

// serverLog leaves out refused handshakes, which some tests are about, and shows
// the rest, such as a panic in an edit of the metadata.
type serverLog struct{}

func (serverLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("TLS handshake error")) {
		return len(line), nil
	}
	return os.Stderr.Write(line)
}

// listener closes connections at once while the provider is down.
type listener struct {
	net.Listener
	provider *Provider
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.provider.down.Load() {
			return conn, err
		}
		l.provider.refused.Add(1)
		_ = conn.Close()
	}
}
