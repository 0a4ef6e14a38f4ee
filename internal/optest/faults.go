package optest

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// The endpoints by the names that Fail, Heal, Hits and Requests take. Other
// counts requests to any path that is none of the endpoints.
const (
	Discovery      = "discovery"
	OAuthDiscovery = "oauth-discovery"
	JWKS           = "jwks"
	Introspection  = "introspection"
	Authorize      = "authorize"
	Token          = "token"
	Userinfo       = "userinfo"
	EndSession     = "end-session"
	Revocation     = "revocation"
	Other          = "other"
)

var endpointNames = []string{Discovery, OAuthDiscovery, JWKS, Introspection, Authorize, Token, Userinfo, EndSession, Revocation, Other}

// recordedRequests is how many requests an endpoint remembers, the newest ones,
// so that a benchmark does not fill the memory.
const recordedRequests = 1000

// endlessBody bounds an endless answer, in case the client never stops reading.
const endlessBody = 64 << 20

// Fault is what an endpoint does instead of answering well. Wait, then Delay come
// first; then the first that is set of Hang, Drop, Redirect, and Status or Body.
// With none of these the good answer follows. Header changes any answer, Drip and
// Endless say how it is sent.
type Fault struct {
	Status   int             // the status; 200 if there is only a Body, 302 for a Redirect
	Body     []byte          // the body instead of the good one; empty with only a Status
	Header   http.Header     // set in the answer, replacing the good answer's
	Wait     <-chan struct{} // hold the request until this is closed
	Delay    time.Duration   // hold the request for so long
	Hang     bool            // never answer
	Drop     bool            // close the connection
	Redirect string          // redirect there
	Drip     bool            // send one byte of the body, then nothing more
	Endless  bool            // repeat Body without end (64 MiB)
	Times    int             // for so many requests; 0 is until Heal
}

// RecordedRequest is a request that the provider received.
type RecordedRequest struct {
	Method           string
	URL              *url.URL
	Header           http.Header
	Body             []byte
	Form             url.Values // of the body
	PeerCertificates []*x509.Certificate
}

type endpoint struct {
	hits     int
	requests []RecordedRequest
	fault    *Fault
	changed  chan struct{} // closed and replaced at each hit
}

// endpoint returns a named endpoint; a mistyped name must not make a test pass.
// The caller holds mu.
func (p *Provider) endpoint(name string) *endpoint {
	e, ok := p.endpoints[name]
	if !ok {
		panic(fmt.Sprintf("optest: no endpoint %q", name))
	}
	return e
}

// Fail makes an endpoint misbehave, in place of an earlier fault. Where the fault has
// an answer of its own, a code is spent all the same and a refresh token is not: that
// is what LoseRefreshAnswer is for. Nor does a session end then, or a token get revoked.
func (p *Provider) Fail(endpoint string, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoint(endpoint).fault = &fault
}

// Heal ends the endpoint's fault for requests yet to come.
func (p *Provider) Heal(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoint(endpoint).fault = nil
}

// Hits counts the requests an endpoint received, also those it failed.
func (p *Provider) Hits(endpoint string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoint(endpoint).hits
}

// Requests returns the requests an endpoint received, oldest first, at most the
// last thousand.
func (p *Provider) Requests(endpoint string) []RecordedRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.endpoint(endpoint).requests)
}

// WaitForHits returns when the endpoint has received n requests in all. It fails
// the test after a minute.
func (p *Provider) WaitForHits(tb testing.TB, endpoint string, n int) {
	tb.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		e := p.endpoint(endpoint)
		hits, changed := e.hits, e.changed
		p.mu.Unlock()
		if hits >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			tb.Fatalf("%s received %d requests, waiting for %d", endpoint, hits, n)
		}
	}
}

// record counts a request and returns the faults that apply to it: that of the
// endpoint, then that of refreshes.
func (p *Provider) record(name string, request RecordedRequest) []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoint(name)
	e.hits++
	e.requests = newest(append(e.requests, request), recordedRequests)
	close(e.changed)
	e.changed = make(chan struct{})
	var faults []Fault
	if fault := take(&e.fault); fault != nil {
		faults = append(faults, *fault)
	}
	if isRefresh(name, request) {
		if fault := p.refreshes.attempt(); fault != nil {
			faults = append(faults, *fault)
		}
	}
	return faults
}

// take returns the fault for one more request, if there is one, and ends it when it
// was for no more.
func take(current **Fault) *Fault {
	if *current == nil {
		return nil
	}
	fault := **current
	if (*current).Times > 0 {
		if (*current).Times--; (*current).Times == 0 {
			*current = nil
		}
	}
	return &fault
}

// hold waits for the fault's channel and delay. It aborts the request when the
// client goes or the provider closes.
func (p *Provider) hold(r *http.Request, fault Fault) {
	if fault.Wait != nil {
		p.await(r, fault.Wait)
	}
	if fault.Delay > 0 {
		delay, cancel := context.WithTimeout(context.Background(), fault.Delay)
		defer cancel()
		p.await(r, delay.Done())
	}
	if fault.Hang {
		p.await(r, nil)
	}
	if fault.Drop {
		panic(http.ErrAbortHandler)
	}
}

// await waits for the signal, or aborts the request.
func (p *Provider) await(r *http.Request, signal <-chan struct{}) {
	select {
	case <-signal:
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	case <-p.done:
		panic(http.ErrAbortHandler)
	}
}

// replaces tells whether nothing of the good answer is sent but its headers.
func (f Fault) replaces() bool { return f.Redirect != "" || f.Status != 0 || f.Body != nil }

// replace turns the good answer into the faulty one.
func (f Fault) replace(good response) response {
	switch {
	case f.Redirect != "":
		good = response{status: http.StatusFound, header: http.Header{"Location": {f.Redirect}}}
		if f.Status != 0 {
			good.status = f.Status
		}
		good.body = f.Body
	case f.Status != 0 || f.Body != nil:
		good.status, good.body = f.Status, f.Body
		if f.Status == 0 {
			good.status = http.StatusOK
		}
	}
	for name, values := range f.Header {
		good.header[http.CanonicalHeaderKey(name)] = values
	}
	return good
}

// drip sends the headers and the first byte, and then stalls.
func (p *Provider) drip(w http.ResponseWriter, r *http.Request, answer response) {
	first := []byte("{")
	if len(answer.body) > 0 {
		first = answer.body[:1]
	}
	answer.writeHeader(w)
	_, _ = w.Write(first)
	_ = http.NewResponseController(w).Flush()
	p.await(r, nil)
}

// stream repeats the body until the client has enough.
func stream(w http.ResponseWriter, answer response) {
	chunk := bytes.Repeat(answer.body, 1+(32<<10)/max(1, len(answer.body)))
	if len(chunk) == 0 {
		chunk = bytes.Repeat([]byte(" "), 32<<10)
	}
	answer.writeHeader(w)
	for sent := 0; sent < endlessBody; sent += len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}
