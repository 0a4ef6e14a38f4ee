package provider

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-087: the provider signs with a new key at once; the first token of that key is good after one forced renewal.
func TestRotation(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	before := op.AccessToken(nil)
	keys, err := p.Keys(t.Context())
	if err != nil || !signed(t, keys, before) {
		t.Fatal(err)
	}
	op.Rotate(t)
	after := op.AccessToken(nil)
	if signed(t, keys, after) {
		t.Fatal("the new key is known before it was fetched")
	}
	keys = p.RenewKeys(t.Context(), keys)
	if !signed(t, keys, after) || signed(t, keys, before) || op.Hits(optest.JWKS) != 2 {
		t.Errorf("after the renewal: new %v, old %v, %d fetches", signed(t, keys, after), signed(t, keys, before), op.Hits(optest.JWKS))
	}
	// The next one has to wait, so that tokens cannot make us ask again and again.
	op.Rotate(t)
	if again := p.RenewKeys(t.Context(), keys); again != keys || op.Hits(optest.JWKS) != 2 {
		t.Errorf("%d fetches", op.Hits(optest.JWKS))
	}
}

// S-088, S-091, S-092: whatever the provider answers for its keys, the good ones that we have stay in use.
func TestStaleKeys(t *testing.T) {
	t.Parallel()
	weak := optest.NewRSAKey(t, "RS256", "weak", 1024)
	body := func(text string) optest.Fault { return optest.Fault{Body: []byte(text)} }
	tests := map[string]optest.Fault{
		"500":               {Status: 500},
		"404":               {Status: 404},
		"204":               {Status: 204},
		"401":               {Status: 401},
		"HTML":              body("<html><body>Maintenance</body></html>"),
		"empty":             {Status: 200},
		"empty object":      body(`{}`),
		"no keys":           body(`{"keys":[]}`),
		"null keys":         body(`{"keys":null}`),
		"list":              body(`[]`),
		"null":              body(`null`),
		"secrets":           body(`{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}`),
		"weak keys":         {Body: optest.KeySet(weak)},
		"101 keys":          {Body: optest.KeySet(slices.Repeat([]*optest.Key{optest.NewKey(t, "ES256", "e1")}, 101)...)},
		"too large":         body(`{"keys":[],"x":"` + strings.Repeat("x", maxBody) + `"}`),
		"deep":              body(`{"keys":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`),
		"redirect":          {Status: 302, Redirect: "http://169.254.169.254/"},
		"dropped":           {Drop: true},
		"hanging":           {Hang: true},
		"dripping":          {Drip: true},
		"endless":           {Body: []byte(`{"keys":[`), Endless: true},
		"metadata":          body(`{"issuer":"https://op.example"}`),
		"error, good JSON":  {Status: 503, Body: optest.KeySet(optest.NewKey(t, "ES256", "e1"))},
		"duplicate members": body(`{"keys":[{"kty":"EC","kty":"EC"}]}`),
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t)
			var now clock
			var seen events
			p := New(configFor(op, nil))
			defer p.Close()
			p.now = now.now
			defer p.Observe("test", &seen)()
			token := op.AccessToken(nil)
			keys, err := p.Keys(t.Context())
			if err != nil || !signed(t, keys, token) {
				t.Fatal(err)
			}
			settle(p)
			seen.take()
			op.Fail(optest.JWKS, fault)
			patience := p.config.Timeout
			if fault.Hang || fault.Drip {
				p.config.Timeout = 50 * time.Millisecond
			}
			for range 3 {
				if got := p.RenewKeys(t.Context(), keys); got != keys || p.KnownKeys() != keys {
					t.Fatal("the good keys are gone")
				}
				if got, err := p.Keys(t.Context()); got != keys || err != nil {
					t.Fatalf("Keys: %v", err)
				}
				now.advance(forcedInterval)
			}
			if status := p.Status(); status.Up || len(status.Keys) != 2 || !errors.Is(lastErrorOf(p), ErrKeys) {
				t.Errorf("status %+v", status)
			}
			_, ups, skipped := seen.take()
			if len(ups) < 3 || ups[0] != "up=false changed=true failed=true" || slices.Contains(ups[1:], ups[0]) {
				t.Errorf("told of %v", ups)
			}
			if unusable := name == "secrets" || name == "weak keys" || name == "duplicate members"; unusable != (len(skipped) == 1) {
				t.Errorf("told of the unusable keys %v in %d fetches", skipped, len(ups))
			}
			// It recovers with the next fetch, which may take as long as a busy machine needs.
			settle(p)
			p.config.Timeout = patience
			op.Heal(optest.JWKS)
			op.Rotate(t)
			keys = p.RenewKeys(t.Context(), keys)
			if !signed(t, keys, op.AccessToken(nil)) || !p.Status().Up {
				t.Errorf("not recovered: %+v", p.Status())
			}
		})
	}
}

// S-088: the same when it is TLS that fails.
func TestStaleKeysWithoutTLS(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	trusted, foreign := optest.NewCertificate(t, nil), optest.NewCertificate(t, nil)
	var broken atomic.Bool
	server := httptest.NewUnstartedServer(op)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if broken.Load() {
			return &tls.Config{Certificates: []tls.Certificate{foreign}}, nil
		}
		return &tls.Config{Certificates: []tls.Certificate{trusted}}, nil
	}}
	server.StartTLS()
	defer server.Close()
	op.SetMetadata(func(m map[string]any) {
		for name, value := range m {
			if text, ok := value.(string); ok {
				m[name] = strings.Replace(text, op.URL(), server.URL, 1)
			}
		}
	})
	var now clock
	p := New(configFor(op, func(c *Config) { c.Issuer, c.RootCAs = server.URL, poolOf(trusted.Leaf) }))
	defer p.Close()
	p.now = now.now
	keys, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	server.CloseClientConnections()
	hits := op.Hits(optest.JWKS)
	if got := p.RenewKeys(t.Context(), keys); got != keys || p.Status().Up {
		t.Errorf("status %+v", p.Status())
	}
	var unknown *tls.CertificateVerificationError
	if err := lastErrorOf(p); !errors.Is(err, ErrKeys) || !errors.As(err, &unknown) {
		t.Errorf("last error: %v", err)
	}
	if op.Hits(optest.JWKS) != hits {
		t.Error("a request was sent to who could not prove its name")
	}
	broken.Store(false)
	now.advance(forcedInterval)
	op.Rotate(t)
	if got := p.RenewKeys(t.Context(), keys); !signed(t, got, op.AccessToken(nil)) || !p.Status().Up {
		t.Errorf("not recovered: %+v", p.Status())
	}
}

// S-091, S-092: a set of a hundred keys is taken, and unusable members cost only themselves.
func TestKeySetSizes(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	members := make([]any, 0, 100)
	for range 97 {
		members = append(members, map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"})
	}
	members = append(members, nil, op.Key("rs-1").JWK(), 1)
	text, err := json.Marshal(map[string]any{"keys": members})
	if err != nil {
		t.Fatal(err)
	}
	op.SetJWKS(text)
	var seen events
	p := newProvider(t, op, nil)
	defer p.Observe("test", &seen)()
	keys, err := p.Keys(t.Context())
	if err != nil || keys.Len() != 1 || !signed(t, keys, op.AccessToken(nil)) {
		t.Fatalf("Keys: %v", err)
	}
	if _, _, skipped := seen.take(); len(skipped) != 99 || slices.Contains(skipped, 98) {
		t.Errorf("told of %d unusable keys: %v", len(skipped), skipped)
	}
}

// Unusable keys are reported once for each new document, not with every fetch.
func TestKeySkippedOnce(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	var now clock
	var seen events
	p := New(configFor(op, nil))
	defer p.Close()
	p.now = now.now
	defer p.Observe("test", &seen)()
	weak := optest.NewRSAKey(t, "RS256", "weak", 1024)
	renew := func() []int {
		now.advance(forcedInterval)
		p.RenewKeys(t.Context(), p.KnownKeys())
		_, _, skipped := seen.take()
		return skipped
	}
	op.SetJWKS(optest.KeySet(weak, op.Key("rs-1")))
	if _, err := p.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle(p)
	if _, _, skipped := seen.take(); !slices.Equal(skipped, []int{0}) {
		t.Errorf("told of %v", skipped)
	}
	for range 3 {
		if skipped := renew(); skipped != nil {
			t.Errorf("the same document again: told of %v", skipped)
		}
	}
	op.SetJWKS(optest.KeySet(op.Key("rs-1"), weak))
	if skipped := renew(); !slices.Equal(skipped, []int{1}) {
		t.Errorf("another document: told of %v", skipped)
	}
	op.SetJWKS(nil)
	if skipped := renew(); skipped != nil {
		t.Errorf("a document without: told of %v", skipped)
	}
	if hits := op.Hits(optest.JWKS); hits != 6 {
		t.Errorf("%d fetches", hits)
	}
}

// A Retry-After of the key endpoint reaches whoever asks when to come back.
func TestKeysRetryAfter(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	op.Fail(optest.JWKS, optest.Fault{Status: 503, Header: http.Header{"Retry-After": {"40"}}})
	p := newProvider(t, op, nil)
	if _, err := p.Keys(t.Context()); !errors.Is(err, ErrKeys) {
		t.Fatal(err)
	}
	if after := p.RetryAfter(); after <= 30*time.Second || after > 40*time.Second {
		t.Errorf("RetryAfter = %v", after)
	}
	for range 100 {
		if _, err := p.Keys(t.Context()); !errors.Is(err, ErrKeys) {
			t.Fatal(err)
		}
	}
	if hits := op.Hits(optest.JWKS); hits != 1 {
		t.Errorf("%d fetches", hits)
	}
}
