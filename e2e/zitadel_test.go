package e2e

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

// zitadelProvider is the op package of zitadel/oidc. It signs with RS256; its opaque tokens look like a JWE.
type zitadelProvider struct {
	address  string
	provider *provider.Provider
	server   *http.Server
}

func newZitadelProvider(t *testing.T) identityProvider {
	t.Helper()
	ports, err := freePorts(1) // to which it can come back
	if err != nil {
		t.Fatal(err)
	}
	z := &zitadelProvider{address: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	opts := provider.Options{Issuer: z.issuer()}
	for _, c := range clients {
		opts.Clients = append(opts.Clients, provider.Client{
			ID: c.ID, Secret: c.Secret, Scopes: c.Scopes, Audience: []string{c.Audience}, Opaque: c.Opaque,
		})
	}
	for _, r := range resources {
		opts.Resources = append(opts.Resources, provider.Resource{ClientID: r.ID, Secret: r.Secret, Audience: r.Audience})
	}
	if z.provider, err = provider.New(opts); err != nil {
		t.Fatal(err)
	}
	z.start(t)
	t.Cleanup(func() { z.server.Close() })
	return z
}

func (z *zitadelProvider) serve(listener net.Listener) {
	z.server = &http.Server{Handler: z.provider, ReadHeaderTimeout: time.Minute}
	go func() { _ = z.server.Serve(listener) }() // ends when the server is closed
}

func (z *zitadelProvider) issuer() string { return "http://" + z.address }

func (z *zitadelProvider) rotate(t *testing.T) {
	t.Helper()
	if err := z.provider.Rotate(); err != nil {
		t.Fatal(err)
	}
}

func (z *zitadelProvider) stop(t *testing.T) {
	t.Helper()
	if err := z.server.Close(); err != nil {
		t.Fatal(err)
	}
}

func (z *zitadelProvider) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", z.address)
	if err != nil {
		t.Fatal(err)
	}
	z.serve(listener)
}
