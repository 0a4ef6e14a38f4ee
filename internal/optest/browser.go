package optest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// mostBody bounds what a browser reads of an answer.
const mostBody = 16 << 20

// Browser is what a person logs in with: it keeps cookies by the rules of
// browsers, which are stricter than those of net/http/cookiejar, and tells servers
// what browsers tell them. Its methods are safe for concurrent use; its fields are
// for before and after.
//
// It connects to 127.0.0.1, [::1], localhost and what [Browser.Resolve] names,
// nowhere else. A request that gets no answer fails the test and returns a Response
// with Status 0.
type Browser struct {
	// Steps are all requests sent, in the order of their answers.
	Steps []Step

	// Dropped are the cookies that were not accepted.
	Dropped []DroppedCookie

	// Header is sent with every request, in place of what the browser would send
	// under these names.
	Header http.Header

	// Silent is for a provider that shows no page because the person is signed in
	// there already. Otherwise the person presses a button at every other site that
	// a navigation passes, so that what follows comes from there.
	Silent bool

	// BlockThirdPartyCookies sends and accepts no cookies at all in what a page of
	// another site embeds by Frame, Image and Fetch.
	BlockThirdPartyCookies bool

	// Now is the time by which cookies expire; nil is the time of the system.
	Now func() time.Time

	tb testing.TB

	mu       sync.Mutex // guards the rest, and Steps and Dropped while requests run
	jar      jar
	hosts    map[string]string
	trusted  []*x509.Certificate
	trustAll bool
	client   *http.Transport
}

// Step is one request of a browser and its answer.
type Step struct {
	Method     string
	URL        string
	Sent       http.Header // with Cookie
	Status     int
	Header     http.Header
	Location   string // as it was sent
	SetCookies []*http.Cookie
}

// Response is what a browser ends up with.
type Response struct {
	Status int
	Header http.Header
	Body   string
	URL    string // of the last request
	Steps  []Step // from the first request to the last

	// Frames are the iframes that a navigation loaded on its way.
	Frames []*Response
}

// Location returns where the response redirects to, as browsers read it. It is ""
// without a Location header, and that header itself if browsers would stay.
func (r *Response) Location() string {
	location := r.Header.Get("Location")
	if location == "" {
		return ""
	}
	target, err := ResolveLocation(r.URL, location)
	if err != nil {
		return location
	}
	return target
}

// NewBrowser returns a browser without cookies.
func NewBrowser(tb testing.TB) *Browser {
	tb.Helper()
	b := &Browser{tb: tb, hosts: make(map[string]string)}
	tb.Cleanup(b.closeIdle)
	return b
}

// Clone returns another browser with the same cookies and settings, which go
// separate ways from then on.
func (b *Browser) Clone() *Browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Browser{
		Header: b.Header.Clone(), Silent: b.Silent, BlockThirdPartyCookies: b.BlockThirdPartyCookies, Now: b.Now, tb: b.tb,
		jar: b.jar.clone(), hosts: maps.Clone(b.hosts), trusted: slices.Clone(b.trusted), trustAll: b.trustAll,
	}
	b.tb.Cleanup(c.closeIdle)
	return c
}

// Trust adds certificates that servers may use.
func (b *Browser) Trust(certificates ...*x509.Certificate) {
	b.reconnect(func() { b.trusted = append(b.trusted, certificates...) })
}

// TrustAll accepts every certificate, for every name.
func (b *Browser) TrustAll() { b.reconnect(func() { b.trustAll = true }) }

// Resolve makes all ports of a host name lead to one address, such as
// "127.0.0.1:8443".
func (b *Browser) Resolve(host, address string) {
	b.reconnect(func() { b.hosts[strings.ToLower(host)] = address })
}

func (b *Browser) reconnect(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	if b.client != nil {
		b.client.CloseIdleConnections()
		b.client = nil
	}
}

func (b *Browser) closeIdle() { b.reconnect(func() {}) }

// transport returns what carries requests; the caller holds mu.
func (b *Browser) transport() *http.Transport {
	if b.client != nil {
		return b.client
	}
	roots := x509.NewCertPool()
	for _, certificate := range b.trusted {
		roots.AddCert(certificate)
	}
	hosts := maps.Clone(b.hosts)
	b.client = &http.Transport{
		TLSClientConfig: &tls.Config{
			RootCAs:            roots,
			InsecureSkipVerify: b.trustAll, // only to loopback addresses
			MinVersion:         tls.VersionTLS12,
		},
		DialContext: loopback(hosts),
	}
	return b.client
}

// loopback connects to this machine and to what hosts names.
func loopback(hosts map[string]string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if known, ok := hosts[strings.ToLower(host)]; ok {
			address = known
		} else if !isLoopback(host) {
			return nil, fmt.Errorf("no address for %s", host)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

// Get sends a GET as a script or a program would, with headers as "Name: value",
// and follows nothing. Cookies go along as from a page of the same site, unless the
// headers say Sec-Fetch-Site: cross-site; a Cookie header takes their place.
func (b *Browser) Get(target string, headers ...string) *Response {
	b.tb.Helper()
	return b.Do(http.MethodGet, target, "", headers...)
}

// Post is Get with a form.
func (b *Browser) Post(target string, form url.Values, headers ...string) *Response {
	b.tb.Helper()
	headers = append([]string{"Content-Type: application/x-www-form-urlencoded"}, headers...)
	return b.Do(http.MethodPost, target, form.Encode(), headers...)
}

// Do is Get with any method and body.
func (b *Browser) Do(method, target, body string, headers ...string) *Response {
	b.tb.Helper()
	header := make(http.Header)
	for _, line := range headers {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			b.tb.Errorf("header %q is not of the form \"Name: value\"", line)
		}
		header.Add(name, value)
	}
	u, err := url.Parse(target)
	if err != nil {
		b.tb.Error(err)
		return &Response{URL: target, Header: make(http.Header)}
	}
	return b.send(method, u, body, header, crossing{
		sameSite:   header.Get("Sec-Fetch-Site") != "cross-site",
		navigation: header.Get("Sec-Fetch-Mode") == "navigate",
	})
}

// send sends one request and takes the cookies of its answer.
func (b *Browser) send(method string, u *url.URL, body string, header http.Header, cross crossing) *Response {
	b.tb.Helper()
	result := &Response{URL: u.String(), Header: make(http.Header)}
	request, err := http.NewRequestWithContext(b.tb.Context(), method, u.String(), strings.NewReader(body))
	if err != nil {
		b.tb.Error(err)
		return result
	}
	for name, values := range b.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	if host := header.Get("Host"); host != "" {
		request.Host = host
		header.Del("Host")
	}
	request.Header = header
	cross.safe = method == http.MethodGet || method == http.MethodHead
	third := b.BlockThirdPartyCookies && cross.embedded && !cross.sameSite

	b.mu.Lock()
	if cookies := b.jar.header(u, cross, b.now()); cookies != "" && header.Get("Cookie") == "" && !third {
		header.Set("Cookie", cookies)
	}
	transport := b.transport()
	b.mu.Unlock()

	answer, err := transport.RoundTrip(request)
	if err != nil {
		b.tb.Errorf("%s %s: %v", method, u, err)
		return result
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostBody))
	if err != nil {
		b.tb.Errorf("%s %s: %v", method, u, err)
	}
	result.Status, result.Header, result.Body = answer.StatusCode, answer.Header, string(text)
	step := Step{
		Method: method, URL: result.URL, Sent: header,
		Status: answer.StatusCode, Header: answer.Header, Location: answer.Header.Get("Location"), SetCookies: answer.Cookies(),
	}
	result.Steps = []Step{step}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.Steps = append(b.Steps, step)
	for _, line := range answer.Header["Set-Cookie"] {
		cookie, err := http.ParseSetCookie(line)
		if err != nil {
			b.drop(u, line, err.Error())
			continue
		}
		reason := b.refused(cookie, cross)
		if reason == "" {
			reason = b.jar.set(u, cookie, b.now())
		}
		if reason != "" {
			b.drop(u, line, reason)
		}
	}
	return result
}
