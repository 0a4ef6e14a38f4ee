package provider

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// endpointMembers are the members of the metadata that name an endpoint, and the field that each goes to.
var endpointMembers = map[string]func(e *Endpoints) *string{
	"authorization_endpoint":                func(e *Endpoints) *string { return &e.Authorization },
	"token_endpoint":                        func(e *Endpoints) *string { return &e.Token },
	"userinfo_endpoint":                     func(e *Endpoints) *string { return &e.Userinfo },
	"jwks_uri":                              func(e *Endpoints) *string { return &e.JWKSURI },
	"introspection_endpoint":                func(e *Endpoints) *string { return &e.Introspection },
	"revocation_endpoint":                   func(e *Endpoints) *string { return &e.Revocation },
	"end_session_endpoint":                  func(e *Endpoints) *string { return &e.EndSession },
	"pushed_authorization_request_endpoint": func(e *Endpoints) *string { return &e.PushedAuthorizationRequest },
}

// S-165: the endpoints of a document that came over https are https too, and none holds what it should not.
func TestDiscoveredEndpoints(t *testing.T) {
	t.Parallel()
	op := optest.New(t, optest.WithTLS())
	p := newProvider(t, op, nil)
	parse := func(p *Provider, member string, value any) (*Metadata, error) {
		body, err := json.Marshal(map[string]any{"issuer": op.Issuer(), member: value})
		if err != nil {
			t.Fatal(err)
		}
		return p.parseMetadata(body, op.Endpoint(optest.Discovery))
	}
	for member, field := range endpointMembers {
		for _, good := range []string{"https://op.example/x", "https://other.example:8443/x?a=b", "https://[::1]/x", "https://127.0.0.1/x"} {
			if metadata, err := parse(p, member, good); err != nil || *field(&metadata.Endpoints) != good {
				t.Errorf("%s %s: %+v, %v", member, good, metadata, err)
			}
		}
		for _, bad := range []string{
			"http://op.example/x", "HTTP://op.example/x", "http://127.0.0.1/x", "http://localhost/x", "https://user:pw@op.example/x", "https://user@op.example/x",
			"https://op.example/x#fragment", "https://op.example/x#", "//op.example/x", "/x", "x", "https:", "https://", "https:///x", "https:op.example",
			"ftp://op.example/x", "file:///etc/passwd", "javascript:alert(1)", "data:,x", " https://op.example/x", "https://op.example/\n", "https://op.example/%zz",
			"https://op example/x", "https://:443/x", "https://op.example/\x7f",
		} {
			if metadata, err := parse(p, member, bad); !errors.Is(err, ErrDiscovery) || metadata != nil {
				t.Errorf("%s %q: %+v, %v", member, bad, metadata, err)
			}
			// a configured value is not looked up, so what the document says of it does no harm
			overridden := New(configFor(op, func(c *Config) { *field(&c.Endpoints) = "https://configured.example/x" }))
			if metadata, err := parse(overridden, member, bad); err != nil || *field(&metadata.Endpoints) != "https://configured.example/x" {
				t.Errorf("%s %q, overridden: %+v, %v", member, bad, metadata, err)
			}
		}
		for _, absent := range []any{"", nil, 1, true, []string{"https://op.example/x"}, map[string]any{"a": "https://op.example/x"}} {
			if metadata, err := parse(p, member, absent); err != nil || metadata.Endpoints != (Endpoints{}) {
				t.Errorf("%s %v: %+v, %v", member, absent, metadata, err)
			}
		}
		if metadata, err := parse(p, strings.ToUpper(member), "https://op.example/x"); err != nil || metadata.Endpoints != (Endpoints{}) {
			t.Errorf("%s in upper case: %+v, %v", member, metadata, err)
		}
	}
}

// The scheme of a URL may be written in capitals; what it protects is the same.
func TestDowngradeInCapitals(t *testing.T) {
	t.Parallel()
	op := optest.New(t, optest.WithTLS())
	plain := optest.New(t)
	op.SetMetadata(func(m map[string]any) { m["jwks_uri"] = plain.Endpoint(optest.JWKS) })
	p := newProvider(t, op, func(c *Config) { c.Discovery = "HTTPS" + strings.TrimPrefix(op.Endpoint(optest.Discovery), "https") })
	if _, err := p.Keys(t.Context()); !errors.Is(err, ErrDiscovery) || op.Hits(optest.Discovery) == 0 {
		t.Errorf("Keys: %v, %d discoveries", err, op.Hits(optest.Discovery))
	}
	if hits := plain.Hits(optest.JWKS); hits != 0 {
		t.Errorf("%d requests in the clear", hits)
	}
}

// S-165 over real connections: not even one request goes to the plain endpoint.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	op, plain := optest.New(t, optest.WithTLS()), optest.New(t)
	op.SetMetadata(func(m map[string]any) { m["jwks_uri"] = plain.Endpoint(optest.JWKS) })
	p := newProvider(t, op, nil)
	if _, err := p.Keys(t.Context()); !errors.Is(err, ErrDiscovery) || p.KnownMetadata() != nil {
		t.Errorf("Keys: %v", err)
	}
	if hits := plain.Hits(optest.JWKS); hits != 0 {
		t.Errorf("%d requests in the clear", hits)
	}
	// From a document that came in the clear itself, they are no worse.
	open := optest.New(t)
	open.SetMetadata(func(m map[string]any) { m["jwks_uri"] = plain.Endpoint(optest.JWKS) })
	if _, err := newProvider(t, open, nil).Keys(t.Context()); err != nil {
		t.Errorf("from a plain document: %v", err)
	}
}

func TestEndpointOverrides(t *testing.T) {
	t.Parallel()
	op, other := optest.New(t), optest.New(t)
	p := newProvider(t, op, func(c *Config) {
		c.WantDiscovery = true
		c.Endpoints = Endpoints{JWKSURI: other.Endpoint(optest.JWKS), Introspection: other.Endpoint(optest.Introspection), Userinfo: other.Endpoint(optest.Userinfo)}
	})
	keys, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !signed(t, keys, other.AccessToken(nil)) || signed(t, keys, op.AccessToken(nil)) {
		t.Error("the keys are not those of the configured place")
	}
	metadata := p.KnownMetadata()
	if metadata.JWKSURI != other.Endpoint(optest.JWKS) || metadata.Introspection != other.Endpoint(optest.Introspection) ||
		metadata.Userinfo != other.Endpoint(optest.Userinfo) || metadata.Token != op.Endpoint(optest.Token) {
		t.Errorf("metadata = %+v", metadata)
	}
	if op.Hits(optest.Discovery) != 1 || op.Hits(optest.JWKS) != 0 || other.Hits(optest.Discovery) != 0 || other.Hits(optest.JWKS) != 1 {
		t.Error("requests went to the wrong provider")
	}
}

// With the issuer and the place of its keys configured, or the keys themselves, nothing is discovered unless asked for.
func TestWithoutDiscovery(t *testing.T) {
	t.Parallel()
	static, err := jose.ParsePEM([]byte(optest.NewKey(t, "ES256", "").PEM()))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		edit            func(op *optest.Provider, c *Config)
		discovery, jwks int
	}{
		"issuer alone": {func(*optest.Provider, *Config) {}, 1, 1},
		"jwks_uri":     {func(op *optest.Provider, c *Config) { c.Endpoints.JWKSURI = op.Endpoint(optest.JWKS) }, 0, 1},
		"jwks_uri, discovery wanted": {func(op *optest.Provider, c *Config) {
			c.Endpoints.JWKSURI, c.WantDiscovery = op.Endpoint(optest.JWKS), true
		}, 1, 1},
		"jwks_uri and discovery": {func(op *optest.Provider, c *Config) {
			c.Endpoints.JWKSURI, c.Discovery = op.Endpoint(optest.JWKS), op.Endpoint(optest.Discovery)
		}, 1, 1},
		"jwks_uri, login wanted": {func(op *optest.Provider, c *Config) {
			c.Endpoints.JWKSURI, c.WantLogin = op.Endpoint(optest.JWKS), true
		}, 1, 1},
		"all for a login": {func(op *optest.Provider, c *Config) {
			c.Endpoints = Endpoints{JWKSURI: op.Endpoint(optest.JWKS), Token: op.Endpoint(optest.Token), Authorization: op.Endpoint(optest.Authorize)}
			c.WantLogin = true
		}, 0, 1},
		"introspection, discovery wanted": {func(_ *optest.Provider, c *Config) { c.KeysUnused, c.WantDiscovery = true, true }, 1, 1},
		"static keys":                     {func(_ *optest.Provider, c *Config) { c.StaticKeys = static }, 0, 0},
		"static keys, wanted":             {func(_ *optest.Provider, c *Config) { c.StaticKeys, c.WantDiscovery = static, true }, 1, 0},
		"static keys and jwks_uri": {func(op *optest.Provider, c *Config) {
			c.StaticKeys, c.Endpoints.JWKSURI = static, op.Endpoint(optest.JWKS)
		}, 0, 0},
		"static keys, no issuer": {func(op *optest.Provider, c *Config) {
			c.StaticKeys, c.Issuer, c.Discovery = static, "", op.Endpoint(optest.Discovery)
		}, 1, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t)
			p := newProvider(t, op, func(c *Config) { test.edit(op, c) })
			p.Warm()
			metadata, err := p.Metadata(t.Context())
			if err != nil || metadata.Issuer != op.Issuer() {
				t.Fatalf("Metadata = %+v, %v", metadata, err)
			}
			keys, err := p.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p.config.StaticKeys != nil && (keys != static || p.RenewKeys(t.Context(), keys) != static) {
				t.Error("the keys are not the configured ones")
			}
			if got := op.Hits(optest.Discovery); got != test.discovery {
				t.Errorf("%d discoveries, want %d", got, test.discovery)
			}
			if got := op.Hits(optest.JWKS); got != test.jwks {
				t.Errorf("%d requests for keys, want %d", got, test.jwks)
			}
		})
	}
}

// A document without jwks_uri is enough for introspection; asking for keys says what is missing and costs no request each time.
func TestWithoutKeys(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	op.SetMetadata(func(m map[string]any) { delete(m, "jwks_uri") })
	p := newProvider(t, op, nil)
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if keys, err := p.Keys(t.Context()); !errors.Is(err, ErrKeys) || keys != nil {
			t.Errorf("Keys = %v, %v", keys, err)
		}
	}
	if keys := p.RenewKeys(t.Context(), nil); keys != nil {
		t.Errorf("RenewKeys = %v", keys)
	}
	if op.Hits(optest.Discovery) != 1 || op.Hits(optest.JWKS) != 0 {
		t.Errorf("%d discoveries, %d requests for keys", op.Hits(optest.Discovery), op.Hits(optest.JWKS))
	}
}
