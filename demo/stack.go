package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
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

	ordersScope = "orders:read"
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
	return provider.New(provider.Options{
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

// jwtSite is the site that the demo shows: JWTs are verified with the provider's published keys.
func (s *stack) jwtSite(address string) string {
	return s.site(address, "set_userinfo_header", "claim_header X-Client-Id client_id")
}

// opaqueSite takes opaque tokens as well: it asks the provider about them, as the client named here.
func (s *stack) opaqueSite(address string) string {
	return s.site(address, "client_id "+apiClient, "client_secret "+s.secret, "claim_header X-Client-Id client_id")
}

func (s *stack) site(address string, options ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "http://%s {\n\tbind 127.0.0.1\n\topenid_connect %s {\n", address, s.issuer)
	fmt.Fprintf(&b, "\t\tbearer_only\n\t\taudience %s\n\t\trequired_scopes %s\n", apiAudience, ordersScope)
	for _, option := range options {
		fmt.Fprintf(&b, "\t\t%s\n", option)
	}
	fmt.Fprintf(&b, "\t}\n\treverse_proxy %s\n}\n", s.upstreamAddress)
	return b.String()
}
