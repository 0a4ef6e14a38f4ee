package openidconnect

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// When we cannot find out, that is our trouble and the provider's: 503, never 401, and never through.
func TestS100TroubleWithIntrospectionIs503(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault optest.Fault
	}{
		{"401", optest.Fault{Status: 401, Body: []byte(`{"error":"invalid_client"}`)}},
		{"400", optest.Fault{Status: 400}},
		{"403", optest.Fault{Status: 403}},
		{"429", optest.Fault{Status: 429, Header: http.Header{"Retry-After": {"7"}}}},
		{"500", optest.Fault{Status: 500}},
		{"503", optest.Fault{Status: 503}},
		{"HTML", optest.Fault{Body: []byte("<html>")}},
		{"no answer", optest.Fault{Hang: true}},
		{"a closed connection", optest.Fault{Drop: true}},
		{"one byte and no more", optest.Fault{Drip: true}},
		{"a body without end", optest.Fault{Body: []byte(" "), Endless: true}},
		{"a signed answer", optest.Fault{
			Body:   []byte("eyJhbGciOiJub25lIn0.e30."),
			Header: http.Header{"Content-Type": {"application/token-introspection+jwt"}},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newIntrospectionSite(t, p, "timeout 2s")
			token := p.OpaqueToken(p.AccessClaims(nil))
			p.Fail(optest.Introspection, test.fault)
			r := s.bearer(token)
			s.wantRefused(t, r, 503, "introspection_unavailable")
			if after := r.Header.Get("Retry-After"); test.name == "429" && after != "7" {
				t.Errorf("Retry-After %s, the provider said 7", after)
			}
			if test.name == "429" {
				return
			}
			p.Heal(optest.Introspection)
			s.allows(token) // the failure is not remembered as an answer
		})
	}
	t.Run("provider down", func(t *testing.T) {
		p := optest.New(t)
		s := newIntrospectionSite(t, p, "")
		s.allows(p.AccessToken(nil))
		p.Down()
		s.refuses(p.OpaqueToken(p.AccessClaims(nil)), 503, "introspection_unavailable")
	})
	t.Run("the endpoint named by nobody", func(t *testing.T) {
		p := optest.New(t)
		p.SetMetadata(func(m map[string]any) { delete(m, "introspection_endpoint") })
		newIntrospectionSite(t, p, "").refuses("opaque", 401, "malformed_token")
		newIntrospectionSite(t, p, "introspection always").refuses("opaque", 503, "introspection_unavailable")
	})
}

// A connection that the provider closes after a while of silence costs nobody anything.
func TestIntrospectionSurvivesAClosedConnection(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "")
	s.allows(p.OpaqueToken(p.AccessClaims(nil)))
	p.Fail(optest.Introspection, optest.Fault{Drop: true, Times: 1})
	s.allows(p.OpaqueToken(p.AccessClaims(nil)))
	p.Fail(optest.Introspection, optest.Fault{Drop: true})
	before := p.Hits(optest.Introspection)
	s.refuses(p.OpaqueToken(p.AccessClaims(nil)), 503, "introspection_unavailable")
	if n := p.Hits(optest.Introspection) - before; n > 2 {
		t.Errorf("%d calls for one token", n)
	}
	for _, request := range p.Requests(optest.Introspection) {
		if got, sent := request.Header["Idempotency-Key"]; sent {
			t.Errorf("the provider was sent Idempotency-Key %q", got)
		}
	}
}

// Neither the token nor our credential goes where a redirect points.
func TestS102IntrospectionFollowsNoRedirect(t *testing.T) {
	t.Parallel()
	p, evil := optest.New(t), optest.New(t)
	for _, status := range []int{301, 302, 307, 308} {
		s := newIntrospectionSite(t, p, "")
		token := p.OpaqueToken(p.AccessClaims(nil))
		evil.Fail(optest.Introspection, optest.Fault{Body: fmt.Appendf(nil, `{"active":true,"sub":"mallory","aud":"api","iss":%q}`, p.Issuer())})
		p.Fail(optest.Introspection, optest.Fault{Status: status, Redirect: evil.Endpoint(optest.Introspection)})
		s.refuses(token, 503, "introspection_unavailable")
		p.Heal(optest.Introspection)
		s.allows(token)
	}
	if n := evil.Hits(optest.Introspection); n != 0 {
		t.Errorf("%d requests followed", n)
	}
}

func TestS105ManyAskAtOnce(t *testing.T) {
	t.Parallel()
	const clients = 200
	ask := func(t *testing.T, s *site, token func(int) string, want func(int) string) {
		t.Helper()
		var group sync.WaitGroup
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		for i := range clients {
			group.Go(func() {
				request, _ := http.NewRequest(http.MethodGet, s.server.URL, nil)
				request.Header.Set("Authorization", "Bearer "+token(i))
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				body, _ := io.ReadAll(response.Body)
				if got := string(body); response.StatusCode != http.StatusOK || got != want(i) {
					t.Errorf("got %d %q, want %q", response.StatusCode, got, want(i))
				}
			})
		}
		group.Wait()
	}
	start := func(t *testing.T) (*optest.Provider, *site) {
		p := optest.New(t)
		s := newIntrospectionSite(t, p, "timeout 30s")
		s.answer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, userinfoSubject(r.Header)) })
		return p, s
	}
	t.Run("one token", func(t *testing.T) {
		p, s := start(t)
		token := p.OpaqueToken(p.AccessClaims(nil))
		ask(t, s, func(int) string { return token }, func(int) string { return "alice" })
		if n := p.Hits(optest.Introspection); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("distinct tokens", func(t *testing.T) {
		p, s := start(t)
		var tokens [clients]string
		for i := range tokens {
			tokens[i] = p.OpaqueToken(p.AccessClaims(optest.Claims{"sub": fmt.Sprintf("user-%d", i)}))
		}
		ask(t, s, func(i int) string { return tokens[i] }, func(i int) string { return fmt.Sprintf("user-%d", i) })
		if n := p.Hits(optest.Introspection); n != clients {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("the first to ask goes away", func(t *testing.T) {
		p, s := start(t)
		token := p.OpaqueToken(p.AccessClaims(nil))
		release := make(chan struct{})
		p.Fail(optest.Introspection, optest.Fault{Wait: release})
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			request := newRequest(t, http.MethodGet, s.server.URL, nil, "Authorization: Bearer "+token)
			response, err := http.DefaultTransport.RoundTrip(request.WithContext(ctx))
			if err == nil {
				response.Body.Close()
			}
			left <- err
		}()
		p.WaitForHits(t, optest.Introspection, 1)
		second := make(chan *reply)
		go func() { second <- s.bearer(token) }()
		leave()
		if err := <-left; err == nil {
			t.Error("the first client got an answer although it had left")
		}
		close(release)
		if r := <-second; r.StatusCode != http.StatusOK {
			t.Errorf("the second client got %d", r.StatusCode)
		}
		if n := p.Hits(optest.Introspection); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// Strangers can make up opaque tokens. How many of them are asked about at the same time is bounded, and the excess hears so at once.
func TestS249CallsAtATimeAreBounded(t *testing.T) {
	t.Parallel()
	const clients, most = 300, 256
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "timeout 1m")
	jwt := p.AccessToken(nil)
	s.allows(jwt)
	release := make(chan struct{})
	p.Fail(optest.Introspection, optest.Fault{Wait: release})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	statuses := make(chan int, clients)
	for i := range clients {
		token := p.OpaqueToken(p.AccessClaims(optest.Claims{"sub": fmt.Sprint(i)}))
		go func() {
			request, _ := http.NewRequest(http.MethodGet, s.server.URL, nil)
			request.Header.Set("Authorization", "Bearer "+token)
			response, err := transport.RoundTrip(request)
			if err != nil {
				t.Error(err)
				statuses <- 0
				return
			}
			response.Body.Close()
			statuses <- response.StatusCode
		}()
	}
	for range clients - most {
		if status := <-statuses; status != http.StatusServiceUnavailable {
			t.Errorf("status %d while all calls are under way", status)
		}
	}
	p.WaitForHits(t, optest.Introspection, most)
	s.allows(jwt) // which needs no call
	close(release)
	for range most {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("status %d for one of those that were let in", status)
		}
	}
	if n := p.Hits(optest.Introspection); n != most {
		t.Errorf("%d calls, want %d", n, most)
	}
}

// A wrong secret is the operator's fault: clients hear 503, the operator hears of it once, and the provider is left in peace.
func TestS106WrongClientSecret(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetIntrospectionClient("client", "the-right-secret")
	good := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret the-right-secret")
	good.allows(p.OpaqueToken(p.AccessClaims(nil)))

	before := p.Hits(optest.Introspection)
	s := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret the-wrong-secret")
	for range 50 {
		s.refuses(p.OpaqueToken(p.AccessClaims(nil)), 503, "introspection_unavailable")
	}
	if n := p.Hits(optest.Introspection) - before; n > 10 {
		t.Errorf("%d calls with a wrong secret", n)
	}
	told := s.logs.Filter(func(e zapEntry) bool { return e.Level >= zapcore.WarnLevel }).All()
	if len(told) != 1 {
		t.Errorf("%d lines at warn or above, want 1: %v", len(told), told)
	}
	for _, line := range s.logs.All() {
		if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "the-wrong-secret") {
			t.Errorf("a log line has the secret: %s", text)
		}
	}
	// other tokens and JWTs do not suffer
	s.allows(p.AccessToken(nil))
	good.allows(p.OpaqueToken(p.AccessClaims(nil)))
}

// Who asks about every token, and knows where, needs nothing else of the provider.
func TestIntrospectionAlone(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.Fail(optest.Discovery, optest.Fault{Status: 404})
	p.Fail(optest.JWKS, optest.Fault{Status: 500})
	endpoint := "introspection_endpoint " + p.Endpoint(optest.Introspection) + "\n"
	s := newIntrospectionSite(t, p, "introspection always\n"+endpoint)
	s.allows(p.OpaqueToken(p.AccessClaims(nil)))
	s.allows(p.AccessToken(nil))
	s.refuses(p.OpaqueToken(p.AccessClaims(optest.Claims{"aud": "other"})), 401, "wrong_audience")
	if hits := p.Hits(optest.Discovery) + p.Hits(optest.JWKS); hits != 0 {
		t.Errorf("%d requests for what is not needed", hits)
	}
	// what is no reference is verified with the provider's keys unless the provider is always asked
	s = newIntrospectionSite(t, p, endpoint)
	s.refuses(p.AccessToken(nil), 503, "discovery_failed")
}
