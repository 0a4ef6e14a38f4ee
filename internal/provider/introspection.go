package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// toleratedFailures is how many introspection calls in a row may fail before the provider is given a rest: one bad answer must not
// cost the next caller anything, a wrong client secret must not lock the client out at the provider.
const toleratedFailures = 3

// maxRest is the longest rest that an introspection endpoint is given unless it asks for more. It is short, as strangers may have
// brought the failures about with tokens that the provider trips over.
const maxRest = 5 * time.Second

// Introspector asks the provider about opaque tokens (RFC 7662) in the name of one client.
type Introspector struct {
	provider *Provider
	client   *ClientAuthentication

	mu       sync.Mutex
	failures int
	retryAt  time.Time
}

// NewIntrospector makes an introspector that authenticates as client.
func (p *Provider) NewIntrospector(client *ClientAuthentication) *Introspector {
	return &Introspector{provider: p, client: client}
}

// Introspect asks about one token and returns the answer as parsed and as received; header holds request headers to send along.
// Whether the token is active is for the caller to read. Errors wrap ErrIntrospection, or what stopped discovery.
func (i *Introspector) Introspect(ctx context.Context, token string, header http.Header) (answer map[string]any, text string, err error) {
	p := i.provider
	metadata, err := p.Metadata(ctx)
	if err != nil {
		return nil, "", err
	}
	if metadata.Introspection == "" {
		return nil, "", fmt.Errorf("%w: %w introspection_endpoint", ErrIntrospection, ErrNoEndpoint)
	}
	if wait := i.pause(); wait > 0 && !offline(ctx) {
		return nil, "", fmt.Errorf("%w: resting for %s after repeated failures", ErrIntrospection, wait.Round(time.Millisecond))
	}
	release, err := p.acquire(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrIntrospection, err)
	}
	defer release()
	answer, text, err = i.call(ctx, metadata, token, header)
	if ctx.Err() == nil { // an impatient caller says nothing of the provider
		i.record(err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrIntrospection, err)
	}
	return answer, text, nil
}

func (i *Introspector) call(ctx context.Context, metadata *Metadata, token string, header http.Header) (map[string]any, string, error) {
	p := i.provider
	c := call{
		endpoint: "introspection",
		url:      metadata.endpointsFor(i.client).Introspection,
		form:     url.Values{"token": {token}, "token_type_hint": {"access_token"}},
		header:   header.Clone(),
	}
	if c.header == nil {
		c.header = make(http.Header)
	}
	if err := i.client.apply(&c, metadata, p.now()); err != nil {
		return nil, "", err
	}
	if !i.client.usesAssertion() {
		// A question may be asked twice: the key, which is not sent without a value, lets net/http do so when the provider closes an
		// idle connection at the wrong moment. An assertion may not.
		c.header["Idempotency-Key"] = nil
	}
	status, responseHeader, body, err := p.do(ctx, c)
	if err != nil {
		return nil, "", err
	}
	if status != http.StatusOK {
		return nil, "", statusError(c.endpoint, status, responseHeader, body, p.now())
	}
	answer, err := jose.ParseObject(string(body))
	if err != nil {
		return nil, "", fmt.Errorf("the answer is not a JSON object without duplicate members")
	}
	return answer, string(body), nil
}

// RetryAfter is how long a caller should wait after a failure.
func (i *Introspector) RetryAfter() time.Duration {
	return max(i.pause(), i.provider.RetryAfter())
}

func (i *Introspector) pause() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.retryAt.Sub(i.provider.now())
}

func (i *Introspector) record(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err == nil {
		i.failures, i.retryAt = 0, time.Time{}
		return
	}
	if call, ok := errors.AsType[*callError](err); ok && call.blamesRequest() {
		return // a stranger's token must not cost others theirs
	}
	i.failures++
	var rest time.Duration
	if i.failures >= toleratedFailures {
		rest = min(pauseAfter(i.failures-toleratedFailures), maxRest)
	}
	rest = max(rest, min(RetryAfterOf(err), maxPause))
	if until := i.provider.now().Add(rest); until.After(i.retryAt) {
		i.retryAt = until
	}
}
