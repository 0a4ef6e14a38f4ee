package cluster

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// minAttempts is how often a GET is sent at least. A Caddy that reloads, plain or not, resets connections that were waiting for the server
// that it replaces; browsers try again then. On a slow machine that may happen to the same request again.
const minAttempts = 4

// Front makes several gateways one origin to its clients, as a load balancer does: requests go to them in turn, and a GET that gets no
// answer is sent to the next one. What is for another host than the sites' goes there.
type Front struct {
	// Resent counts the times that a gateway did not answer and the request was sent again.
	Resent atomic.Int64

	hosts     map[string]bool
	transport *http.Transport
	next      atomic.Uint64

	mu        sync.Mutex
	addresses []string
}

// NewFront returns a front for the sites with these host names.
func NewFront(hosts ...string) *Front {
	f := &Front{hosts: make(map[string]bool), transport: &http.Transport{
		Proxy:               nil,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     5 * time.Second,
	}}
	for _, host := range hosts {
		f.hosts[host] = true
	}
	return f
}

// Use makes the front send requests to these gateways and no other.
func (f *Front) Use(gateways ...*Gateway) {
	addresses := make([]string, 0, len(gateways))
	for _, g := range gateways {
		addresses = append(addresses, g.Address())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addresses = addresses
}

// Close closes the connections that are not in use.
func (f *Front) Close() { f.transport.CloseIdleConnections() }

type pinKey struct{}

// Pin makes the requests of a context go to one gateway.
func Pin(ctx context.Context, g *Gateway) context.Context {
	return context.WithValue(ctx, pinKey{}, g.Address())
}

// RoundTrip sends a request to one of the gateways, or to whom it is for.
func (f *Front) RoundTrip(request *http.Request) (*http.Response, error) {
	if !f.hosts[request.URL.Host] {
		return f.transport.RoundTrip(request)
	}
	f.mu.Lock()
	addresses := f.addresses
	f.mu.Unlock()
	if len(addresses) == 0 {
		return nil, errNoGateway
	}
	if pinned, ok := request.Context().Value(pinKey{}).(string); ok {
		addresses = []string{pinned}
	}
	first, attempts := f.next.Add(1), max(minAttempts, len(addresses))
	for attempt := range attempts {
		sent := request.Clone(request.Context())
		sent.Host, sent.URL.Host = request.URL.Host, addresses[(first+uint64(attempt))%uint64(len(addresses))]
		response, err := f.transport.RoundTrip(sent)
		last := attempt+1 == attempts
		if err == nil || last || request.Method != http.MethodGet || request.Context().Err() != nil {
			if response != nil {
				response.Request = request // redirects are relative to what the client asked for
			}
			return response, err
		}
		f.Resent.Add(1)
	}
	panic("cluster: the last attempt returns")
}
