package provider

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func TestDiscovery(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		options    []optest.Option
		oidc, oath int // requests to the two places
	}{
		"root":             {nil, 1, 0},
		"path":             {[]optest.Option{optest.WithIssuerPath("/realms/demo")}, 1, 0},
		"trailing slash":   {[]optest.Option{optest.WithIssuerPath("/")}, 1, 0},
		"path and slash":   {[]optest.Option{optest.WithIssuerPath("/realms/demo/")}, 1, 0},
		"TLS":              {[]optest.Option{optest.WithTLS()}, 1, 0},
		"RFC 8414":         {[]optest.Option{optest.WithOAuthMetadataOnly()}, 1, 1},
		"RFC 8414, path":   {[]optest.Option{optest.WithOAuthMetadataOnly(), optest.WithIssuerPath("/realms/demo")}, 1, 1},
		"RFC 8414, slash":  {[]optest.Option{optest.WithOAuthMetadataOnly(), optest.WithIssuerPath("/")}, 1, 1},
		"RFC 8414, both":   {[]optest.Option{optest.WithOAuthMetadataOnly(), optest.WithIssuerPath("/realms/demo/")}, 1, 1},
		"RFC 8414 and TLS": {[]optest.Option{optest.WithOAuthMetadataOnly(), optest.WithTLS()}, 1, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t, test.options...)
			p := newProvider(t, op, nil)
			if p.KnownMetadata() != nil || p.KnownKeys() != nil || op.Hits(optest.Discovery) != 0 {
				t.Fatal("something is known before it was asked for")
			}
			metadata, err := p.Metadata(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			want := Endpoints{
				Authorization: strings.TrimSuffix(op.Issuer(), "/") + "/authorize", Token: op.Endpoint(optest.Token),
				JWKSURI: op.Endpoint(optest.JWKS), Introspection: op.Endpoint(optest.Introspection), Userinfo: op.Endpoint(optest.Userinfo),
			}
			if metadata.Issuer != op.Issuer() || metadata.Endpoints != want {
				t.Errorf("metadata = %+v", metadata)
			}
			keys, err := p.Keys(t.Context())
			if err != nil || !signed(t, keys, op.AccessToken(nil)) {
				t.Errorf("Keys: %v", err)
			}
			if p.KnownMetadata() != metadata || p.KnownKeys() != keys {
				t.Error("what was fetched is not known")
			}
			if op.Hits(optest.Discovery) != test.oidc || op.Hits(optest.OAuthDiscovery) != test.oath || op.Hits(optest.JWKS) != 1 || op.Hits(optest.Other) != 0 {
				t.Errorf("requests: %d, %d, %d keys, %d elsewhere", op.Hits(optest.Discovery), op.Hits(optest.OAuthDiscovery), op.Hits(optest.JWKS), op.Hits(optest.Other))
			}
		})
	}
}

// Only a document that is not there is looked for elsewhere, and never when its place is configured.
func TestDiscoveryFallback(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNoContent, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway} {
		op := optest.New(t)
		op.Fail(optest.Discovery, optest.Fault{Status: status})
		if _, err := newProvider(t, op, nil).Metadata(t.Context()); !errors.Is(err, ErrDiscovery) {
			t.Errorf("status %d: %v", status, err)
		}
		if op.Hits(optest.OAuthDiscovery) != 0 {
			t.Errorf("status %d: looked for the document elsewhere", status)
		}
	}

	op := optest.New(t, optest.WithOAuthMetadataOnly())
	p := newProvider(t, op, func(c *Config) { c.Discovery = op.Endpoint(optest.Discovery) })
	if _, err := p.Metadata(t.Context()); !errors.Is(err, ErrDiscovery) || op.Hits(optest.OAuthDiscovery) != 0 {
		t.Errorf("a configured place that is not there: %v, %d requests to another", err, op.Hits(optest.OAuthDiscovery))
	}
	p = newProvider(t, op, func(c *Config) { c.Discovery = op.Endpoint(optest.OAuthDiscovery) })
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Errorf("a configured place: %v", err)
	}
	p = newProvider(t, op, func(c *Config) { c.Issuer, c.Discovery = "", op.Endpoint(optest.OAuthDiscovery) })
	if metadata, err := p.Metadata(t.Context()); err != nil || metadata.Issuer != op.Issuer() {
		t.Errorf("a configured place and no issuer: %+v, %v", metadata, err)
	}
	op = optest.New(t)
	op.Fail(optest.Discovery, optest.Fault{Status: http.StatusNotFound})
	if _, err := newProvider(t, op, nil).Metadata(t.Context()); !errors.Is(err, ErrDiscovery) || op.Hits(optest.OAuthDiscovery) == 0 {
		t.Errorf("neither place has it: %v, %d requests to the other", err, op.Hits(optest.OAuthDiscovery))
	}
}

// S-163: the document must name the configured issuer, to the letter.
func TestIssuerMismatch(t *testing.T) {
	t.Parallel()
	tests := map[string]func(issuer string) any{
		"good":              func(issuer string) any { return issuer },
		"other host":        func(string) any { return "https://evil.example" },
		"trailing slash":    func(issuer string) any { return issuer + "/" },
		"case":              func(issuer string) any { return strings.ToUpper(issuer) },
		"case of scheme":    func(issuer string) any { return "H" + issuer[1:] },
		"https":             func(issuer string) any { return "https" + strings.TrimPrefix(issuer, "http") },
		"other path":        func(issuer string) any { return issuer + "/realms/other" },
		"prefix":            func(issuer string) any { return issuer[:len(issuer)-1] },
		"query":             func(issuer string) any { return issuer + "?" },
		"fragment":          func(issuer string) any { return issuer + "#" },
		"space":             func(issuer string) any { return issuer + " " },
		"newline":           func(issuer string) any { return issuer + "\n" },
		"percent":           func(issuer string) any { return strings.Replace(issuer, "127", "%3127", 1) },
		"user":              func(issuer string) any { return strings.Replace(issuer, "://", "://user@", 1) },
		"localhost":         func(issuer string) any { return strings.Replace(issuer, "127.0.0.1", "localhost", 1) },
		"list":              func(issuer string) any { return []string{issuer} },
		"object":            func(issuer string) any { return map[string]any{issuer: true} },
		"number":            func(string) any { return 1 },
		"true":              func(string) any { return true },
		"null":              func(string) any { return nil },
		"empty":             func(string) any { return "" },
		"tenant":            func(issuer string) any { return issuer + "/" + TenantPlaceholder },
		"missing":           nil,
		"ISSUER":            nil,
		"two, ours first":   nil,
		"two, ours last":    nil,
		"two, both ours":    nil,
		"escaped duplicate": nil,
	}
	for name, issuerOf := range tests {
		for _, options := range [][]optest.Option{nil, {optest.WithOAuthMetadataOnly()}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				op := optest.New(t, options...)
				place := optest.Discovery
				if options != nil {
					place = optest.OAuthDiscovery
				}
				switch {
				case issuerOf != nil:
					op.SetMetadata(func(m map[string]any) { m["issuer"] = issuerOf(op.Issuer()) })
				case name == "missing":
					op.SetMetadata(func(m map[string]any) { delete(m, "issuer") })
				case name == "ISSUER":
					op.SetMetadata(func(m map[string]any) { delete(m, "issuer"); m["ISSUER"] = op.Issuer() })
				default:
					ours, evil := `"issuer":"`+op.Issuer()+`"`, `"issuer":"https://evil.example"`
					members := map[string]string{
						"two, ours first": ours + "," + evil, "two, ours last": evil + "," + ours, "two, both ours": ours + "," + ours,
						"escaped duplicate": ours + `,"\u0069ssuer":"https://evil.example"`,
					}[name]
					op.Fail(place, optest.Fault{Body: []byte(`{` + members + `,"jwks_uri":"` + op.Endpoint(optest.JWKS) + `"}`)})
				}
				p := newProvider(t, op, nil)
				keys, err := p.Keys(t.Context())
				if name == "good" {
					if err != nil || !signed(t, keys, op.AccessToken(nil)) {
						t.Fatal(err)
					}
					return
				}
				want := ErrIssuerMismatch
				if strings.Contains(name, "two") || strings.Contains(name, "duplicate") {
					want = ErrDiscovery
				}
				if hint := strings.Contains(err.Error(), "differ only in the slash"); hint != (name == "trailing slash") {
					t.Errorf("the hint at the slash: %v", err)
				}
				if !errors.Is(err, want) || keys != nil || p.KnownMetadata() != nil {
					t.Errorf("Keys = %v, %v, metadata %v", keys, err, p.KnownMetadata())
				}
				if op.Hits(optest.JWKS) != 0 || op.Hits(place) == 0 {
					t.Errorf("%d requests for keys, %d for the document", op.Hits(optest.JWKS), op.Hits(place))
				}
			})
		}
	}
}

// A discovered issuer with a place for the tenant is good only where the tenants are listed.
func TestTenantTemplate(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	template := op.Issuer() + "/" + TenantPlaceholder + "/v2.0"
	op.SetMetadata(func(m map[string]any) { m["issuer"] = template })
	discovery := func(c *Config) { c.Issuer, c.Discovery = "", op.Endpoint(optest.Discovery) }

	p := newProvider(t, op, func(c *Config) { discovery(c); c.TenantTemplate = true })
	if metadata, err := p.Metadata(t.Context()); err != nil || metadata.Issuer != template {
		t.Errorf("with tenants: %+v, %v", metadata, err)
	}
	if _, err := newProvider(t, op, discovery).Metadata(t.Context()); !errors.Is(err, ErrIssuerMismatch) {
		t.Errorf("without tenants: %v", err)
	}
	p = newProvider(t, op, func(c *Config) { c.TenantTemplate = true })
	if _, err := p.Metadata(t.Context()); !errors.Is(err, ErrIssuerMismatch) {
		t.Errorf("with tenants, and an issuer that differs: %v", err)
	}
}
