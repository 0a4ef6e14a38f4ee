package provider

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-167: a certificate that does not prove who answers ends the call; only the provider that a pool is for trusts it.
func TestTLS(t *testing.T) {
	t.Parallel()
	expired := optest.NewCertificate(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	wrongHost := optest.NewCertificate(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"other.example"}, nil })
	tests := map[string]struct {
		option optest.Option
		edit   func(c *Config)
		good   bool
	}{
		"trusted":            {optest.WithTLS(), nil, true},
		"own certificate":    {optest.WithCertificate(optest.NewCertificate(t, nil)), nil, true},
		"system roots":       {optest.WithTLS(), func(c *Config) { c.RootCAs = nil }, false},
		"empty pool":         {optest.WithTLS(), func(c *Config) { c.RootCAs = x509.NewCertPool() }, false},
		"expired":            {optest.WithCertificate(expired), nil, false},
		"wrong host":         {optest.WithCertificate(wrongHost), nil, false},
		"expired, unchecked": {optest.WithCertificate(expired), func(c *Config) { c.InsecureSkipVerify = true }, true},
		"unknown, unchecked": {optest.WithTLS(), func(c *Config) { c.RootCAs, c.InsecureSkipVerify = nil, true }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t, test.option)
			_, err := newProvider(t, op, test.edit).Keys(t.Context())
			if test.good && err != nil || !test.good && !errors.Is(err, ErrDiscovery) {
				t.Errorf("Keys: %v", err)
			}
			if hits := op.Hits(optest.Discovery); test.good != (hits == 1) {
				t.Errorf("%d requests", hits)
			}
		})
	}
	t.Run("TLS 1.1", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		defer server.Close()
		p := New(Config{Issuer: server.URL, Timeout: 10 * time.Second, InsecureSkipVerify: true})
		defer p.Close()
		if _, err := p.Metadata(t.Context()); !errors.Is(err, ErrDiscovery) || !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("Metadata: %v", err)
		}
	})
}

// S-173: what our calls carry, and nothing of the client's; one connection serves them all.
func TestRequests(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	var mu sync.Mutex
	connections := 0
	server := httptest.NewUnstartedServer(op)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			connections++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	op.SetMetadata(func(m map[string]any) {
		for name, value := range m {
			if text, ok := value.(string); ok {
				m[name] = strings.Replace(text, op.URL(), server.URL, 1)
			}
		}
	})
	p := newProvider(t, op, func(c *Config) { c.Issuer = server.URL })
	if _, err := p.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	ours := http.Header{
		"X-Tenant": {"a", "b"}, "Authorization": {"Bearer of the client"}, "User-Agent": {"the client's"}, "Accept": {"text/html"},
		"Content-Type": {"text/plain"}, "Content-Length": {"5"},
	}
	given := ours.Clone()
	introspector := p.NewIntrospector(&ClientAuthentication{Method: ClientSecretBasic, ClientID: "client", ClientSecret: "secret"})
	token := op.OpaqueToken(optest.Claims{"sub": "alice"})
	for range 3 {
		answer, text, err := introspector.Introspect(t.Context(), token, given)
		if err != nil || answer["active"] != true || answer["sub"] != "alice" || !strings.Contains(text, `"alice"`) {
			t.Fatalf("Introspect = %v, %s, %v", answer, text, err)
		}
	}
	if fmt.Sprint(given) != fmt.Sprint(ours) {
		t.Errorf("the caller's header was changed: %v", given)
	}
	for _, endpoint := range []string{optest.Discovery, optest.JWKS} {
		for _, r := range op.Requests(endpoint) {
			want := http.Header{"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "User-Agent": {"test-agent"}}
			if r.Method != http.MethodGet || fmt.Sprint(r.Header) != fmt.Sprint(want) || len(r.Body) != 0 || r.URL.RawQuery != "" {
				t.Errorf("%s: %s %v", endpoint, r.Method, r.Header)
			}
		}
	}
	for _, r := range op.Requests(optest.Introspection) {
		want := http.Header{
			"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "User-Agent": {"test-agent"}, "X-Tenant": {"a", "b"},
			"Authorization": {"Basic Y2xpZW50OnNlY3JldA=="}, "Content-Type": {"application/x-www-form-urlencoded"},
			"Content-Length": {fmt.Sprint(len(r.Body))},
		}
		if r.Method != http.MethodPost || fmt.Sprint(r.Header) != fmt.Sprint(want) || r.URL.RawQuery != "" {
			t.Errorf("introspection: %s %v, want %v", r.Method, r.Header, want)
		}
		if wantForm := (url.Values{"token": {token}, "token_type_hint": {"access_token"}}); fmt.Sprint(r.Form) != fmt.Sprint(wantForm) {
			t.Errorf("introspection: form %v", r.Form)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if connections != 1 {
		t.Errorf("%d connections for %d calls", connections, 5)
	}
}

// The configured proxy is asked about every call; without one, the environment's is.
func TestProxy(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	var asked []string
	p := newProvider(t, op, func(c *Config) {
		c.Issuer = "http://op.invalid"
		c.Proxy = func(r *http.Request) (*url.URL, error) {
			asked = append(asked, r.URL.String())
			return url.Parse(op.URL())
		}
	})
	op.SetMetadata(func(m map[string]any) { m["issuer"] = "http://op.invalid" })
	if _, err := p.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http://op.invalid/.well-known/openid-configuration", op.Endpoint(optest.JWKS)}; !slices.Equal(asked, want) {
		t.Errorf("asked about %v", asked)
	}
	if newClient(Config{}).Transport.(*http.Transport).Proxy == nil {
		t.Error("without a configured proxy there is none at all")
	}
	p = newProvider(t, op, func(c *Config) { c.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("no way") } })
	if _, err := p.Metadata(t.Context()); !errors.Is(err, ErrDiscovery) {
		t.Errorf("a proxy that fails: %v", err)
	}
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"1":                             time.Second,
		"60":                            time.Minute,
		"600":                           10 * time.Minute,
		"601":                           10 * time.Minute,
		"9999999999":                    10 * time.Minute,
		"9223372036854775807":           10 * time.Minute,
		"-1":                            0,
		"-9223372036854775808":          0,
		"1.5":                           0,
		"soon":                          0,
		"Wed, 02 Jan 2030 03:04:15 GMT": 10 * time.Second,
		"Wed, 02 Jan 2030 04:04:05 GMT": 10 * time.Minute,
		"Wed, 02 Jan 2030 03:04:05 GMT": 0,
		"Wed, 02 Jan 2030 03:03:05 GMT": 0,
		"Mon, 01 Jan 0001 00:00:00 GMT": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": 10 * time.Minute,
	}
	for value, want := range tests {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("parseRetryAfter(%q) = %v, want %v", value, got, want)
		}
	}
}
