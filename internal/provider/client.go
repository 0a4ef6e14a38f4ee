package provider

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

const (
	// maxBody bounds any answer of the provider (bytes).
	maxBody = 1 << 20
	// maxConcurrentCalls bounds the calls under way that strangers can cause; the excess is turned away at once.
	maxConcurrentCalls = 256
	// maxConcurrentRefreshes bounds the refreshes under way, which have places of their own: they neither wait for what strangers
	// cause nor take its places; the excess waits.
	maxConcurrentRefreshes = 128
	// maxConcurrentRevocations bounds the revocations under way, which have places of their own too: many users who log out at the same
	// time hold nobody up but each other.
	maxConcurrentRevocations = 64
	// maxRetryAfter bounds what we believe of a Retry-After header.
	maxRetryAfter = 10 * time.Minute
)

// callError is a failed call: no answer, or one with a status that is not wanted. Its text is for logs and holds no body.
type callError struct {
	endpoint   string
	address    string // of a document that anybody may fetch, else empty
	status     int    // 0 without an answer
	retryAfter time.Duration
	cause      error

	blamesClient bool // the answer says that our client authentication is the reason
	deadGrant    bool // of the token endpoint: a text in the answer says that the grant is of no use any more
	secret       bool // the cause quotes what nobody may read
}

func (e *callError) Error() string {
	if e.status != 0 && e.address != "" {
		return fmt.Sprintf("the %s endpoint %s answered with status %d", e.endpoint, e.address, e.status)
	}
	if e.status != 0 {
		return fmt.Sprintf("the %s endpoint answered with status %d", e.endpoint, e.status)
	}
	if e.secret {
		return fmt.Sprintf("calling the %s endpoint: the reason holds a part of a secret", e.endpoint)
	}
	return fmt.Sprintf("calling the %s endpoint: %v", e.endpoint, e.cause)
}

func (e *callError) Unwrap() error { return e.cause }

// blamesRequest reports whether the provider refused this one request, rather than us or everybody.
func (e *callError) blamesRequest() bool {
	switch e.status {
	case http.StatusBadRequest:
		return !e.blamesClient
	case http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusUnprocessableEntity,
		http.StatusRequestHeaderFieldsTooLarge:
		return true
	default:
		return false
	}
}

// RetryAfterOf returns how long the provider asked to be left alone when it answered with status 429 or a failure of its own, at most
// 10 minutes; 0 when it did not ask.
func RetryAfterOf(err error) time.Duration {
	if answer, ok := errors.AsType[*OAuthError](err); ok {
		return answer.retryAfter
	}
	if failed, ok := errors.AsType[*callError](err); ok {
		return failed.retryAfter
	}
	return 0
}

// newClient makes the one client of a provider. It follows no redirect: a credential, a token or our trust in the answer would
// follow along.
func newClient(config Config) *http.Client {
	proxy := config.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: proxy,
			TLSClientConfig: &tls.Config{
				MinVersion:         tls.VersionTLS12,
				RootCAs:            config.RootCAs,
				Certificates:       config.Certificates,
				InsecureSkipVerify: config.InsecureSkipVerify, //nolint:gosec // an option for development that warns at every load
			},
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    32,
			IdleConnTimeout:        90 * time.Second,
			TLSHandshakeTimeout:    config.Timeout,
			ResponseHeaderTimeout:  config.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxIdleOnce is how long a connection may have been idle for a call that is not repeated. The provider may be about to close it, and what
// is on its way then is lost; some do so after a few seconds.
const maxIdleOnce = time.Second

// call is one request to the provider.
type call struct {
	endpoint string // name in metrics and errors
	url      string
	form     url.Values // nil: GET
	header   http.Header
	accept   string   // media types; empty: JSON
	once     bool     // whatever happens, it is never sent a second time
	secrets  []string // what must not be read in an error, beside the secretParameters of the form
}

// secretParameters are those of a form that hold a secret.
var secretParameters = []string{"code", "code_verifier", "refresh_token", "token", "client_secret", "client_assertion"}

const (
	// maxShared is how many characters in a row a text may have in common with a secret by chance.
	maxShared = 7
	// maxQuoted is the longest text that is searched for secrets; a longer one is taken to hold some.
	maxQuoted = 1 << 10
)

// echoes reports whether a text of the provider holds what it must have from the call: a secret, or a piece of one.
func (c *call) echoes(text string) bool {
	secrets := slices.Clone(c.secrets)
	for _, name := range secretParameters {
		secrets = append(secrets, c.form.Get(name))
	}
	return len(text) > maxQuoted || slices.ContainsFunc(secrets, func(secret string) bool {
		if secret != "" && text == secret {
			return true
		}
		for i := range len(text) - maxShared {
			if strings.Contains(secret, text[i:i+maxShared+1]) {
				return true
			}
		}
		return false
	})
}

// failed is a call without an answer. What net/http cannot make sense of, it quotes; the URL in front of that is ours.
func (c *call) failed(cause error) *callError {
	text := cause.Error()
	if outer, ok := errors.AsType[*url.Error](cause); ok {
		text = outer.Err.Error()
	}
	return &callError{endpoint: c.endpoint, cause: cause, secret: c.echoes(text)}
}

// acquire takes one of the slots for calls that strangers can cause, or returns ErrBusy at once.
func (p *Provider) acquire(ctx context.Context) (release func(), err error) {
	if offline(ctx) {
		return nil, ErrOffline
	}
	select {
	case p.calls <- struct{}{}:
		return func() { <-p.calls }, nil
	default:
		return nil, ErrBusy
	}
}

// waitFor takes one of the slots for calls that strangers cannot cause, waiting for it while ctx lasts; without one it returns ErrBusy.
func waitFor(ctx context.Context, slots chan struct{}) (release func(), err error) {
	if offline(ctx) {
		return nil, ErrOffline
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	return func() { <-slots }, nil
}

// do makes one call within the configured timeout and returns status, header and body; a body over the cap is an error.
func (p *Provider) do(ctx context.Context, c call) (status int, header http.Header, body []byte, err error) {
	if offline(ctx) {
		return 0, nil, nil, ErrOffline // whoever calls; who waits for a place has been told before
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	start := time.Now()
	defer func() {
		took := time.Since(start)
		p.observe(func(o Observer) { o.Called(c.endpoint, status, took) })
	}()
	method, content := http.MethodGet, io.Reader(nil)
	if c.form != nil {
		method, content = http.MethodPost, strings.NewReader(c.form.Encode())
	}
	request, err := http.NewRequestWithContext(ctx, method, c.url, content)
	if err != nil {
		return 0, nil, nil, &callError{endpoint: c.endpoint, cause: errors.New("the URL is not valid")}
	}
	if c.once {
		request.GetBody = nil // net/http could send it again otherwise, over HTTP/2 even where the provider has seen it
		if now := time.Now().UnixNano(); now-p.lastOnce.Swap(now) > int64(maxIdleOnce) {
			p.client.CloseIdleConnections()
		}
		defer func() { p.lastOnce.Store(time.Now().UnixNano()) }()
	}
	maps.Copy(request.Header, c.header)
	if c.form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.Header.Set("Accept", cmp.Or(c.accept, "application/json"))
	request.Header.Set("User-Agent", p.config.UserAgent)
	response, err := p.client.Do(request)
	if err != nil {
		return 0, nil, nil, c.failed(err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return 0, nil, nil, c.failed(err)
	}
	if len(body) > maxBody {
		return response.StatusCode, nil, nil, &callError{endpoint: c.endpoint, cause: errors.New("the answer is larger than 1 MiB")}
	}
	return response.StatusCode, response.Header, body, nil
}

// get fetches a document that must come with status 200.
func (p *Provider) get(ctx context.Context, endpoint, address string) (http.Header, []byte, error) {
	status, header, body, err := p.do(ctx, call{endpoint: endpoint, url: address})
	if err != nil {
		return nil, nil, err
	}
	if status != http.StatusOK {
		failed := statusError(endpoint, status, header, body, p.now())
		failed.address = address
		return nil, nil, failed
	}
	return header, body, nil
}

// isHTML reports whether an answer is a page for people, such as a login form or the error page of a proxy, whatever it looks like.
func isHTML(header http.Header) bool {
	media := mediaType(header)
	return media == "text/html" || media == "application/xhtml+xml"
}

func mediaType(header http.Header) string {
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(media))
}

func statusError(endpoint string, status int, header http.Header, body []byte, now time.Time) *callError {
	e := &callError{endpoint: endpoint, status: status}
	if document, err := jose.ParseObject(string(body)); err == nil {
		// RFC 6749 section 5.2; some providers say so with 400
		e.blamesClient = document["error"] == "invalid_client" || document["error"] == "unauthorized_client"
	}
	e.retryAfter = retryAfter(status, header, now)
	return e
}

// retryAfter returns what an answer asks for that says that the provider cannot answer now.
func retryAfter(status int, header http.Header, now time.Time) time.Duration {
	if status != http.StatusTooManyRequests && status < http.StatusInternalServerError {
		return 0
	}
	return parseRetryAfter(header.Get("Retry-After"), now)
}

// parseRetryAfter reads both forms of the header (RFC 9110 section 10.2.3), bounded; 0 when there is none.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter.Seconds()))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
