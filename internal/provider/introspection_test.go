package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// basic is a client that the test provider knows.
var basic = &ClientAuthentication{Method: ClientSecretBasic, ClientID: "client", ClientSecret: "secret"}

func (i *Introspector) introspectOnce(t *testing.T) (map[string]any, error) {
	t.Helper()
	answer, _, err := i.Introspect(t.Context(), "token", nil)
	return answer, err
}

func TestIntrospect(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	introspector := newProvider(t, op, nil).NewIntrospector(basic)
	tokens := map[string]string{}
	for n := range 20 {
		subject := fmt.Sprintf("user %d ü", n)
		tokens[op.OpaqueToken(optest.Claims{"sub": subject, "exp": 4102444800})] = subject
	}
	var wait sync.WaitGroup
	// S-105: each answer is that of its own token
	for token, subject := range tokens {
		wait.Go(func() {
			answer, text, err := introspector.Introspect(t.Context(), token, nil)
			if err != nil || answer["active"] != true || answer["sub"] != subject || !strings.Contains(text, subject) {
				t.Errorf("Introspect = %v, %s, %v", answer, text, err)
			}
		})
	}
	wait.Wait()
	if hits := op.Hits(optest.Introspection); hits != len(tokens) {
		t.Errorf("%d requests for %d tokens", hits, len(tokens))
	}
	if answer, _, err := introspector.Introspect(t.Context(), "unknown", nil); err != nil || answer["active"] != false {
		t.Errorf("an unknown token: %v, %v", answer, err)
	}
	// characters that mean something in a form stay in their place
	for _, token := range []string{"a&active=true", "a=b", "a+b c%20", "é\x00\n", "&token=other"} {
		if _, _, err := introspector.Introspect(t.Context(), token, nil); err != nil {
			t.Errorf("token %q: %v", token, err)
		}
		requests := op.Requests(optest.Introspection)
		if form := requests[len(requests)-1].Form; len(form) != 2 || form.Get("token") != token {
			t.Errorf("token %q was sent as %v", token, form)
		}
	}
	if hits := op.Hits(optest.JWKS); hits > 1 {
		t.Errorf("%d fetches of keys", hits)
	}
}

// S-098: the answer is handed over as it is; one that could be read in two ways is none.
func TestIntrospectionAnswers(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for text, good := range map[string]bool{
		`{"active":true}`:                      true,
		`{"active":false,"sub":"a","exp":1e9}`: true,
		`{"active":"true"}`:                    true,
		`{}`:                                   true,
		`{"active":true,"active":false}`:       false,
		`{"active":false,"active":true}`:       false,
		`{"active":false,"\u0061ctive":true}`:  false,
		`{"active":true,"sub":"a","sub":"b"}`:  false,
		`{"active":true}{"active":false}`:      false,
		`[{"active":true}]`:                    false,
		`true`:                                 false,
		`null`:                                 false,
		``:                                     false,
		"{\"active\":true,\"sub\":\"\xff\"}":   false,
		`{"active":true,"sub":"\u0000"}`:       false,

		`eyJhbGciOiJub25lIn0.eyJhY3RpdmUiOnRydWV9.`: false,
	} {
		op.Fail(optest.Introspection, optest.Fault{Status: http.StatusOK, Body: []byte(text)})
		answer, got, err := p.NewIntrospector(basic).Introspect(t.Context(), "token", nil)
		if good && (err != nil || got != text) {
			t.Errorf("%s: %v, %v", text, answer, err)
		}
		if !good && (!errors.Is(err, ErrIntrospection) || answer != nil || got != "") {
			t.Errorf("%s: %v, %q, %v", text, answer, got, err)
		}
	}
}

// Without an endpoint there is nothing to ask, and no request is made.
func TestIntrospectionWithoutEndpoint(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	op.SetMetadata(func(m map[string]any) { delete(m, "introspection_endpoint") })
	if _, _, err := newProvider(t, op, nil).NewIntrospector(basic).Introspect(t.Context(), "token", nil); !errors.Is(err, ErrIntrospection) {
		t.Errorf("Introspect: %v", err)
	}
	op.Fail(optest.Discovery, optest.Fault{Status: 500})
	if _, _, err := newProvider(t, op, nil).NewIntrospector(basic).Introspect(t.Context(), "token", nil); !errors.Is(err, ErrDiscovery) {
		t.Errorf("without metadata: %v", err)
	}
	if hits := op.Hits(optest.Introspection); hits != 0 {
		t.Errorf("%d requests", hits)
	}
	p := newProvider(t, op, func(c *Config) {
		c.Endpoints = Endpoints{JWKSURI: op.Endpoint(optest.JWKS), Introspection: op.Endpoint(optest.Introspection)}
	})
	if _, _, err := p.NewIntrospector(basic).Introspect(t.Context(), "token", nil); err != nil {
		t.Errorf("with a configured endpoint: %v", err)
	}
}

// S-105: strangers' tokens can cause only so many calls at a time; the excess is turned away at once and is no failure.
func TestIntrospectionBound(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, second := p.NewIntrospector(basic), p.NewIntrospector(basic)
		release := make(chan struct{})
		op.set(&op.introspection, func(w http.ResponseWriter, _ *http.Request) {
			<-release
			_, _ = w.Write([]byte(`{"active":true}`))
		})
		var wait sync.WaitGroup
		for i := range maxConcurrentCalls {
			introspector := first
			if i%2 == 0 {
				introspector = second
			}
			wait.Go(func() {
				if _, err := introspector.introspectOnce(t); err != nil {
					t.Errorf("within the bound: %v", err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		for range 2 * toleratedFailures {
			if _, err := first.introspectOnce(t); !errors.Is(err, ErrIntrospection) {
				t.Errorf("beyond the bound: %v", err)
			}
		}
		if time.Since(start) != 0 || op.count("introspection") != maxConcurrentCalls {
			t.Errorf("waited %v, %d requests", time.Since(start), op.count("introspection"))
		}
		close(release)
		wait.Wait()
		if _, err := first.introspectOnce(t); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
	})
}

// S-168: a hanging or dripping endpoint costs a caller no more than the timeout.
func TestIntrospectionTimeout(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{"hang": hang, "drip": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				op.set(&op.introspection, handler)
				introspector := p.NewIntrospector(basic)
				start := time.Now()
				if _, err := introspector.introspectOnce(t); !errors.Is(err, ErrIntrospection) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Introspect: %v", err)
				}
				if waited := time.Since(start); waited != p.config.Timeout {
					t.Errorf("waited %v", waited)
				}
			})
		})
	}
}
