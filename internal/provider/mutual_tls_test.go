package provider

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// C-019, C-020, RFC 8705 section 5: a client that authenticates with its certificate is sent to the endpoints for that; no other is,
// and nothing but the client's authentication decides.
func TestMutualTLSAliases(t *testing.T) {
	t.Parallel()
	certificate := optest.NewCertificate(t, nil)
	op, mutual := optest.New(t, optest.WithTLS()), optest.New(t, optest.WithTLS())
	mutual.SetClientCertificate(certificate.Leaf)
	op.SetClientCertificate(certificate.Leaf)
	op.SetMetadata(func(m map[string]any) {
		m["mtls_endpoint_aliases"] = map[string]any{
			"token_endpoint": mutual.Endpoint(optest.Token), "introspection_endpoint": mutual.Endpoint(optest.Introspection),
			"userinfo_endpoint": mutual.Endpoint(optest.Userinfo), "jwks_uri": mutual.Endpoint(optest.JWKS),
		}
	})
	withCertificate := func(c *Config) {
		c.RootCAs, c.Certificates = poolOf(op.Certificate(), mutual.Certificate()), []tls.Certificate{certificate}
	}
	ask := func(p *Provider, method string, at *optest.Provider) {
		t.Helper()
		client := &ClientAuthentication{Method: method, ClientID: "client", ClientSecret: "secret"}
		tokens, introspections := at.Hits(optest.Token), at.Hits(optest.Introspection)
		if _, err := p.Exchange(t.Context(), client, newGrant(at)); err != nil {
			t.Errorf("%s, Exchange: %v", method, err)
		}
		if _, _, err := p.NewIntrospector(client).Introspect(t.Context(), "token", nil); err != nil {
			t.Errorf("%s, Introspect: %v", method, err)
		}
		if at.Hits(optest.Token)-tokens != 1 || at.Hits(optest.Introspection)-introspections != 1 {
			t.Errorf("%s: the requests went elsewhere", method)
		}
	}
	p := newProvider(t, op, withCertificate)
	for _, method := range []string{TLSClientAuth, SelfSignedTLSClientAuth} {
		ask(p, method, mutual)
	}
	ask(p, ClientSecretBasic, op)
	ask(p, ClientSecretPost, op)
	for _, request := range mutual.Requests(optest.Token) {
		if len(request.PeerCertificates) != 1 || request.Form.Get("client_id") != "client" || request.Form.Has("client_secret") || request.Header.Get("Authorization") != "" {
			t.Errorf("%d certificates, %v, %v", len(request.PeerCertificates), request.Form, request.Header)
		}
	}
	if _, err := p.Keys(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := p.Userinfo(t.Context(), op.OpaqueToken(optest.Claims{"sub": "alice", "scope": "openid"})); err != nil {
		t.Error(err)
	}
	if mutual.Hits(optest.Userinfo) != 0 || mutual.Hits(optest.JWKS) != 0 {
		t.Error("userinfo or the keys were asked for at an alias")
	}

	// what is configured is what is meant
	configured := newProvider(t, op, func(c *Config) {
		withCertificate(c)
		c.Endpoints = Endpoints{Token: op.Endpoint(optest.Token), Introspection: op.Endpoint(optest.Introspection)}
	})
	ask(configured, TLSClientAuth, op)
	// and without discovery there are no aliases
	alone := newProvider(t, op, func(c *Config) {
		withCertificate(c)
		c.Endpoints = Endpoints{JWKSURI: op.Endpoint(optest.JWKS), Token: op.Endpoint(optest.Token), Introspection: op.Endpoint(optest.Introspection)}
	})
	ask(alone, TLSClientAuth, op)

	// a provider whose aliases leave an endpoint out has one for all
	op.SetMetadata(func(m map[string]any) {
		m["mtls_endpoint_aliases"] = map[string]any{"revocation_endpoint": mutual.URL()}
	})
	ask(newProvider(t, op, withCertificate), TLSClientAuth, op)
}

// S-165 for aliases: they are checked like the endpoints that they stand for.
func TestMutualTLSAliasesChecked(t *testing.T) {
	t.Parallel()
	op := optest.New(t, optest.WithTLS())
	p := newProvider(t, op, nil)
	parse := func(p *Provider, aliases any) (*Metadata, error) {
		body, err := json.Marshal(map[string]any{
			"issuer": op.Issuer(), "token_endpoint": "https://op.example/token", "introspection_endpoint": "https://op.example/introspect",
			"mtls_endpoint_aliases": aliases,
		})
		if err != nil {
			t.Fatal(err)
		}
		return p.parseMetadata(body, op.Endpoint(optest.Discovery))
	}
	fields := map[string]func(e *Endpoints) *string{
		"token_endpoint":                        func(e *Endpoints) *string { return &e.Token },
		"introspection_endpoint":                func(e *Endpoints) *string { return &e.Introspection },
		"revocation_endpoint":                   func(e *Endpoints) *string { return &e.Revocation },
		"pushed_authorization_request_endpoint": func(e *Endpoints) *string { return &e.PushedAuthorizationRequest },
	}
	for member, field := range fields {
		good, err := parse(p, map[string]any{member: "https://mtls.example/x"})
		if err != nil || *field(&good.mutualTLS) != "https://mtls.example/x" || *field(&good.Endpoints) == "https://mtls.example/x" {
			t.Errorf("%s: %+v, %v", member, good, err)
		}
		for _, bad := range []string{"http://mtls.example/x", "https://user:pw@mtls.example/x", "https://mtls.example/x#", "/x", "file:///x"} {
			metadata, err := parse(p, map[string]any{member: bad})
			if !errors.Is(err, ErrDiscovery) || metadata != nil || !strings.Contains(err.Error(), "mtls_endpoint_aliases") || strings.Contains(err.Error(), "pw") {
				t.Errorf("%s %q: %+v, %v", member, bad, metadata, err)
			}
		}
		overridden := New(configFor(op, func(c *Config) { *field(&c.Endpoints) = "https://configured.example/x" }))
		if metadata, err := parse(overridden, map[string]any{member: "http://mtls.example/x"}); err != nil || *field(&metadata.mutualTLS) != "https://configured.example/x" {
			t.Errorf("%s, overridden: %+v, %v", member, metadata, err)
		}
	}
	for _, none := range []any{nil, "https://mtls.example/x", 1, true, []any{"https://mtls.example/x"}, map[string]any{}, map[string]any{"token_endpoint": 1}} {
		metadata, err := parse(p, none)
		if err != nil || metadata.mutualTLS.Token != "https://op.example/token" || metadata.mutualTLS.Introspection != "https://op.example/introspect" {
			t.Errorf("%v: %+v, %v", none, metadata, err)
		}
	}
}
