package openidconnect

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// recorder is an upstream that records what reaches it and answers with the headers it got.
type recorder struct {
	mu       sync.Mutex
	received []arrival
	next     http.HandlerFunc
	admitted int // what reached it when an expectation was last met
}

// arrival is a request that reached the upstream, with its body read; its trailers are there.
type arrival struct {
	*http.Request
	body string
}

func (u *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	next := u.next
	u.mu.Unlock()
	if next != nil {
		u.record(arrival{Request: r})
		next(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	u.record(arrival{Request: r, body: string(body)})
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(r.Header)
}

func (u *recorder) record(a arrival) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.received = append(u.received, a)
}

// answer makes the upstream answer in another way; it then has to read the body itself.
func (u *recorder) answer(next http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next = next
}

// reached is the number of requests that got through to the upstream.
func (u *recorder) reached() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.received)
}

// last is the newest request that got through.
func (u *recorder) last(tb testing.TB) arrival {
	tb.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.received) == 0 {
		tb.Fatal("no request reached the upstream")
	}
	return u.received[len(u.received)-1]
}

// advance returns how many requests have got through since the last call.
func (u *recorder) advance() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.received) - u.admitted
	u.admitted = len(u.received)
	return n
}

// wantAllowed checks that the request of this reply, and no other since the last check, got through.
func (u *recorder) wantAllowed(tb testing.TB, r *reply) {
	tb.Helper()
	if r.StatusCode != http.StatusOK {
		tb.Errorf("status %d, want 200: %s", r.StatusCode, r.body)
	}
	if n := u.advance(); n != 1 {
		tb.Errorf("%d requests reached the upstream, want 1", n)
	}
}

// wantRefused checks that a request got this refusal in all that refusals have in common, and that nothing has reached the upstream
// since the last check.
func (u *recorder) wantRefused(tb testing.TB, r *reply, status int, reason string) {
	tb.Helper()
	if n := u.advance(); n != 0 {
		tb.Errorf("%d requests reached the upstream, want none", n)
	}
	if r.StatusCode != status {
		tb.Errorf("status %d, want %d (%s): %s", r.StatusCode, status, reason, r.body)
		return
	}
	if got := r.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
		tb.Errorf("Cache-Control %q, want no-store", got)
	}
	if got := r.Header.Values("Set-Cookie"); got != nil {
		tb.Errorf("Set-Cookie %q on a bearer answer", got)
	}
	if got := r.Header.Get("Location"); got != "" {
		tb.Errorf("redirected to %q", got)
	}
	wantChallenge(tb, r, status, reason)
	if r.Request != nil && r.Request.Method == http.MethodHead {
		return
	}
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		tb.Errorf("Content-Type %q, want JSON", got)
		return
	}
	if got := r.json(tb, "reason"); got != reason {
		tb.Errorf("reason %q, want %q", got, reason)
	}
	for _, name := range []string{"error", "error_description", "request_id"} {
		if r.json(tb, name) == "" {
			tb.Errorf("the body has no %s: %s", name, r.body)
		}
	}
}

// wantChallenge checks WWW-Authenticate and Retry-After (RFC 6750 section 3, RFC 9110 section 15.6.4).
func wantChallenge(tb testing.TB, r *reply, status int, reason string) {
	tb.Helper()
	challenges := r.Header.Values("WWW-Authenticate")
	code := map[int]string{http.StatusBadRequest: "invalid_request", http.StatusUnauthorized: "invalid_token"}[status]
	if reason == "insufficient_scope" {
		code = "insufficient_scope"
	}
	switch {
	case reason == "no_credentials":
		if len(challenges) != 1 || !strings.HasPrefix(challenges[0], "Bearer realm=") || strings.Contains(challenges[0], "error") ||
			strings.Contains(challenges[0], "scope") {
			tb.Errorf("challenge %q, want one without an error", challenges)
		}
	case code == "":
		if challenges != nil {
			tb.Errorf("challenge %q with status %d", challenges, status)
		}
	case len(challenges) != 1 || !strings.Contains(challenges[0], `, error="`+code+`", error_description="`):
		tb.Errorf("challenge %q, want error %q with a description", challenges, code)
	}
	if got := r.Header.Get("Retry-After"); (got != "") != (status == http.StatusServiceUnavailable) {
		tb.Errorf("Retry-After %q with status %d", got, status)
	}
}
