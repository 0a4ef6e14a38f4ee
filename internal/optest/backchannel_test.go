package optest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// receiver is a client that notes the logout tokens it gets.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newReceiver(t *testing.T, secure bool, status int) *receiver {
	t.Helper()
	c := new(receiver)
	c.Server = newServer(t, secure, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests, c.bodies = append(c.requests, r), append(c.bodies, string(body))
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		fmt.Fprintf(w, "answer %d", len(c.requests))
	})
	return c
}

// tokens returns the logout tokens received.
func (c *receiver) tokens(t *testing.T) []string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, body := range c.bodies {
		form, err := url.ParseQuery(body)
		if err != nil || len(form) != 1 || len(form["logout_token"]) != 1 {
			t.Fatalf("body %q: %v", body, err)
		}
		all = append(all, form.Get("logout_token"))
	}
	return all
}

func TestBackchannel(t *testing.T) {
	t.Parallel()
	p := New(t, WithEndSession())
	good, bad := newReceiver(t, true, http.StatusOK), newReceiver(t, false, http.StatusBadRequest)
	p.Resolve("App.example.com", "127.0.0.1:1")
	b, _ := visitor(t, p)
	p.Resolve("api.example.com", good.Listener.Addr().String())
	p.SetBackchannelLogoutURI("https://api.example.com/backchannel-logout", bad.URL+"/logout")
	token, claims := come(t, p, b)

	// The client is told before the browser is sent back, so it can be asked at once.
	leave(p, b, leaving(token))
	sent := good.tokens(t)
	if len(sent) != 1 || len(bad.tokens(t)) != 1 || sent[0] == bad.tokens(t)[0] {
		t.Fatalf("%d and %d logout tokens", len(sent), len(bad.tokens(t)))
	}
	header, got := open(t, sent[0], p.Key("rs-1"))
	if header["typ"] != "logout+jwt" || got["sid"] != claims["sid"] || got["sub"] != "alice" || got["aud"] != "client" || got["iss"] != p.Issuer() {
		t.Errorf("%v %v", header, got)
	}
	r := good.requests[0]
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.URL.Path != "/backchannel-logout" ||
		r.Header.Get("Cookie") != "" || r.Host != "api.example.com" {
		t.Errorf("%s %s %s %v", r.Method, r.Host, r.URL, r.Header)
	}
	answers := p.BackchannelAnswers()
	if len(answers) != 2 || answers[0].Status != http.StatusOK || answers[0].Token != sent[0] || answers[0].Err != nil ||
		answers[0].Body != "answer 1" || answers[0].Header.Get("Cache-Control") != "no-store" ||
		answers[0].URI != "https://api.example.com/backchannel-logout" || answers[1].Status != http.StatusBadRequest {
		t.Errorf("answers = %+v", answers)
	}
	if !slices.Contains(p.Issued(), sent[0]) {
		t.Error("the logout token is not a secret")
	}

	// A logout of nobody tells nobody.
	leave(p, b, leaving(token))
	if len(good.tokens(t)) != 1 {
		t.Error("told twice")
	}

	// Nor does an unreachable client keep anything from ending.
	p.SetBackchannelLogoutURI("https://unknown.example.com/", "https://api.example.com/")
	p.SetLogoutTokenClaims(func(claims Claims) { delete(claims, "sid") })
	come(t, p, b)
	if n := p.EndSSO("alice"); n != 1 || len(p.SSOSessions()) != 0 {
		t.Errorf("%d ended", n)
	}
	answers = p.BackchannelAnswers()
	if len(answers) != 4 || answers[2].Status != 0 || answers[2].Err == nil || answers[3].Status != http.StatusOK {
		t.Errorf("answers = %+v", answers)
	}
	if _, got := open(t, good.tokens(t)[1], p.Key("rs-1")); got["sid"] != nil || got["sub"] != "alice" {
		t.Errorf("claims = %v", got)
	}
}

func TestSendLogout(t *testing.T) {
	t.Parallel()
	p := New(t, WithTLS())
	c := newReceiver(t, true, http.StatusOK)
	token := p.LogoutToken(BySID("s"))
	if answer := p.SendLogout(t, c.URL, token); answer.Status != http.StatusOK || answer.Token != token || c.tokens(t)[0] != token {
		t.Errorf("answer = %+v", answer)
	}
	answer := p.SendLogoutRequest(t, http.MethodPut, c.URL+"/x", "application/json", `{"logout_token":"a"}`,
		"Origin: https://evil.example", "Cookie: a=b")
	r := c.requests[1]
	if answer.Body != "answer 2" || r.Method != http.MethodPut || r.Header.Get("Content-Type") != "application/json" || r.URL.Path != "/x" ||
		r.Header.Get("Origin") != "https://evil.example" || r.Header.Get("Cookie") != "a=b" || c.bodies[1] != `{"logout_token":"a"}` {
		t.Errorf("%s %s %v %q", r.Method, r.URL, r.Header, c.bodies[1])
	}
	p.SendLogoutRequest(t, http.MethodGet, c.URL, "", "")
	if r := c.requests[2]; r.Method != http.MethodGet || r.Header.Get("Content-Type") != "" || c.bodies[2] != "" {
		t.Errorf("%s %v", r.Method, r.Header)
	}
	f := &failures{TB: t}
	p.SendLogout(f, "https://192.0.2.1/", token)
	p.SendLogoutRequest(f, "NO METHOD", c.URL, "", "")
	p.SendLogoutRequest(f, http.MethodPost, c.URL, "", "", "no header")
	if len(f.texts) != 3 || !strings.Contains(f.texts[0], "no address for") || !strings.Contains(f.texts[1], "method") ||
		!strings.Contains(f.texts[2], "no header") {
		t.Errorf("failures = %q", f.texts)
	}
	if answers := p.BackchannelAnswers(); len(answers) != 6 || answers[3].Err == nil {
		t.Errorf("answers = %+v", answers)
	}
	for _, text := range f.texts {
		if strings.Contains(text, token) {
			t.Error("the token is told")
		}
	}
}

// A client that never answers is left alone when the provider closes.
func TestCloseEndsBackchannel(t *testing.T) {
	t.Parallel()
	p := New(t)
	got, release := make(chan struct{}), make(chan struct{})
	server := newServer(t, false, func(http.ResponseWriter, *http.Request) { close(got); <-release })
	defer close(release)
	done := make(chan BackchannelAnswer)
	go func() { done <- p.postLogout(server.URL, "token") }()
	<-got
	p.Close()
	if answer := <-done; answer.Err == nil {
		t.Errorf("answer = %+v", answer)
	}
}
