package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/gateway"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/upstream"
)

const (
	// apiAudience is what the tokens for the demo's API carry as aud.
	apiAudience = "https://api.demo.localhost"
	// apiClient is the API as a client of the provider, which it has to be to ask the introspection endpoint.
	apiClient = "api"
	// webApplication is the site as a client of the provider, for people who log in.
	webApplication = "demo-web"

	ordersScope = "orders:read"

	// tokenLifetime is that of people's access tokens: short enough to see one renewed.
	tokenLifetime = time.Minute
)

// The clients at the provider. The guests have a scope, but not the one that the sites require; the tokens of otherReader are
// meant for another API.
const (
	ordersReader       = "orders-reader"
	guest              = "guest"
	otherReader        = "other-api-reader"
	opaqueOrdersReader = "orders-reader-opaque"
	opaqueGuest        = "guest-opaque"
)

// stack is everything that the demo runs: a provider, an upstream, and Caddy between a client and the upstream.
type stack struct {
	provider *provider.Provider
	issuer   string
	secret   string // of all clients; made anew for each run
	upstream *upstream.Handler
	gateway  *gateway.Gateway

	upstreamAddress string
	servers         []*http.Server
}

// start runs the provider and the upstream; Caddy waits for load.
func start(logLevel string) (*stack, error) {
	s := &stack{secret: rand.Text(), upstream: new(upstream.Handler)}

	var err error
	if s.gateway, err = gateway.New(logLevel); err != nil {
		return nil, err
	}
	if s.upstreamAddress, err = s.serve(func(string) (http.Handler, error) { return s.upstream, nil }); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if _, err = s.serve(s.newProvider); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stack) newProvider(address string) (http.Handler, error) {
	s.issuer = "http://" + address
	orders := []string{ordersScope}
	menu := []string{"menu:read"}
	aud := []string{apiAudience, apiClient}
	var err error
	s.provider, err = provider.New(provider.Options{
		Issuer: s.issuer,
		Clients: []provider.Client{
			{ID: ordersReader, Secret: s.secret, Scopes: orders, Audience: aud},
			{ID: guest, Secret: s.secret, Scopes: menu, Audience: aud},
			{ID: otherReader, Secret: s.secret, Scopes: orders, Audience: []string{"https://other.demo.localhost"}},
			{ID: opaqueOrdersReader, Secret: s.secret, Scopes: orders, Audience: aud, Opaque: true},
			{ID: opaqueGuest, Secret: s.secret, Scopes: menu, Audience: aud, Opaque: true},
		},
		Resources: []provider.Resource{{ClientID: apiClient, Secret: s.secret, Audience: apiAudience}},
	})
	return s.provider, err
}

// load runs these sites, which share one listener. The provider is told that people come back there.
func (s *stack) load(sites string) error {
	if err := s.gateway.LoadCaddyfile(sites); err != nil {
		return err
	}
	address, err := s.address()
	if err != nil {
		return err
	}
	s.register(address, tokenLifetime)
	return nil
}

// register tells the provider of the site, and how long the access tokens live that it gives to it from now on.
func (s *stack) register(address string, lifetime time.Duration) {
	s.provider.Register(provider.Application{
		ID:                     webApplication,
		Secret:                 s.secret,
		RedirectURIs:           []string{"http://" + address + "/oauth2/callback"},
		PostLogoutRedirectURIs: []string{"http://" + address + "/oauth2/logged-out"},
		BackchannelLogoutURI:   "http://" + address + "/oauth2/backchannel-logout",
		Scopes:                 []string{"groups"},
		TokenLifetime:          lifetime,
	})
}

// address is where Caddy listens.
func (s *stack) address() (string, error) {
	addresses, err := s.gateway.Addresses()
	if err != nil {
		return "", err
	}
	if len(addresses) != 1 {
		return "", fmt.Errorf("want Caddy on one address, not on %q", addresses)
	}
	return addresses[0], nil
}

// serve runs a handler on a free port; the handler may need to know its address.
func (s *stack) serve(handler func(address string) (http.Handler, error)) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listening: %w", err)
	}
	address := listener.Addr().String()
	h, err := handler(address)
	if err != nil {
		return "", errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(listener) }() // ends at close
	return address, nil
}

func (s *stack) close() error {
	err := s.gateway.Close()
	for _, server := range s.servers {
		err = errors.Join(err, server.Close())
	}
	return err
}

// token fetches an access token from the provider's token endpoint.
func (s *stack) token(ctx context.Context, client string) (string, error) {
	config := clientcredentials.Config{
		ClientID:     client,
		ClientSecret: s.secret,
		TokenURL:     s.tokenEndpoint(),
		AuthStyle:    oauth2.AuthStyleInHeader,
	}
	token, err := config.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("fetching a token for %s: %w", client, err)
	}
	return token.AccessToken, nil
}

func (s *stack) tokenEndpoint() string { return s.issuer + "/oauth/token" }
