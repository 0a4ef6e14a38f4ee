package cluster

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// transit is how much later than its end an access token may reach the upstream: it was alive when the gateway sent it.
const transit = 150 * time.Millisecond

// SubjectHeader is how the gateways tell the upstream who makes a request.
const SubjectHeader = "X-Subject"

// Upstream is the application. It answers with the subject of the request, and looks up each access token that it gets.
type Upstream struct {
	*Tokens

	server *httptest.Server
	mu     sync.Mutex
	seen   UpstreamCounts
}

// UpstreamCounts are what an upstream has seen.
type UpstreamCounts struct {
	Requests int
	Tokens   int           // different access tokens
	Expired  int           // requests with one that had expired
	Unknown  int           // requests with one that the provider has not given out
	Latest   time.Duration // after its end did a token arrive, at most
}

// StartUpstream starts an application on a free port of 127.0.0.1.
func StartUpstream() *Upstream {
	u := &Upstream{Tokens: NewTokens()}
	u.server = httptest.NewServer(u)
	return u
}

// Close stops it.
func (u *Upstream) Close() {
	u.server.CloseClientConnections()
	u.server.Close()
}

// Address is where it listens.
func (u *Upstream) Address() string {
	return u.server.Listener.Addr().(*net.TCPAddr).String()
}

// Counts returns what it has seen so far.
func (u *Upstream) Counts() UpstreamCounts {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen
}

// ServeHTTP answers with the subject.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.note(r.Header["X-Access-Token"], time.Now())
	fmt.Fprint(w, r.Header.Get(SubjectHeader))
}

func (u *Upstream) note(tokens []string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Requests++
	for _, token := range tokens {
		late, isNew, known := u.Late(token, now)
		if !known {
			u.seen.Unknown++
			continue
		}
		if isNew {
			u.seen.Tokens++
		}
		u.seen.Latest = max(u.seen.Latest, late)
		if late > transit {
			u.seen.Expired++
		}
	}
}
