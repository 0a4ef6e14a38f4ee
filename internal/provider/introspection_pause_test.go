package provider

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// S-100, S-106: after three failures in a row the endpoint is left alone for a while, longer each time.
func TestIntrospectionBackOff(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"401":  answer(http.StatusUnauthorized, `{"error":"invalid_client"}`),
		"500":  answer(http.StatusInternalServerError, ""),
		"HTML": answer(http.StatusOK, "<html>"),
		"302":  answer(http.StatusFound, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				introspector, other := p.NewIntrospector(basic), p.NewIntrospector(basic)
				good := op.introspection
				op.set(&op.introspection, handler)
				ask := func(i *Introspector) error {
					_, _, err := i.Introspect(t.Context(), "token", nil)
					return err
				}
				for n := range toleratedFailures {
					if err := ask(introspector); !errors.Is(err, ErrIntrospection) || strings.Contains(err.Error(), "secret") {
						t.Fatalf("call %d: %v", n, err)
					}
				}
				if n := op.count("introspection"); n != toleratedFailures {
					t.Fatalf("%d requests", n)
				}
				start := time.Now()
				for time.Since(start) < time.Minute {
					if err := ask(introspector); !errors.Is(err, ErrIntrospection) {
						t.Fatalf("Introspect: %v", err)
					}
					if after := introspector.RetryAfter(); after < time.Second || after > maxRest {
						t.Fatalf("RetryAfter = %v", after)
					}
					time.Sleep(10 * time.Millisecond)
				}
				times := op.times("introspection")[toleratedFailures-1:]
				if len(times) < 12 || len(times) > 18 {
					t.Fatalf("%d requests in a minute", len(times))
				}
				pause := minPause
				for i, at := range times[1:] {
					if interval := at.Sub(times[i]); interval < pause || interval > min(pause*5/4, maxRest)+10*time.Millisecond {
						t.Errorf("pause %d is %v, want %v and at most a quarter more", i, interval, pause)
					}
					pause = min(2*pause, maxRest)
				}
				// another client of the same provider is not held back, nor is anything else
				before := op.count("introspection")
				if err := ask(other); !errors.Is(err, ErrIntrospection) || op.count("introspection") != before+1 {
					t.Errorf("another client: %v", err)
				}
				// back when the pause is over, with all three chances
				op.set(&op.introspection, good)
				time.Sleep(maxRest)
				if err := ask(introspector); err != nil {
					t.Errorf("after the pause: %v", err)
				}
				op.set(&op.introspection, handler)
				before = op.count("introspection")
				for range 10 {
					_ = ask(introspector)
				}
				if n := op.count("introspection") - before; n != toleratedFailures {
					t.Errorf("%d requests after a new failure, want %d", n, toleratedFailures)
				}
			})
		})
	}
}

// Failures that are not in a row cost nobody anything.
func TestIntrospectionFailuresApart(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		introspector := p.NewIntrospector(basic)
		good := op.introspection
		for range 5 {
			op.set(&op.introspection, answer(http.StatusInternalServerError, ""))
			for range toleratedFailures - 1 {
				if _, err := introspector.introspectOnce(t); err == nil {
					t.Fatal("no error")
				}
			}
			op.set(&op.introspection, good)
			if _, err := introspector.introspectOnce(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// S-106: which answers are about the one token, and which about us.
func TestIntrospectionBlame(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		rests   bool
	}{
		"400, the token":            {answer(http.StatusBadRequest, `{"error":"invalid_request"}`), false},
		"400, nothing said":         {answer(http.StatusBadRequest, ``), false},
		"413":                       {answer(http.StatusRequestEntityTooLarge, ``), false},
		"400, the client":           {answer(http.StatusBadRequest, `{"error":"invalid_client"}`), true},
		"400, what the client may":  {answer(http.StatusBadRequest, `{"error":"unauthorized_client","error_description":"x"}`), true},
		"401":                       {answer(http.StatusUnauthorized, `{"error":"invalid_client"}`), true},
		"403, a filter in between":  {answer(http.StatusForbidden, `<html>`), false},
		"404, the wrong place":      {answer(http.StatusNotFound, ``), true},
		"405, the wrong place":      {answer(http.StatusMethodNotAllowed, ``), true},
		"429":                       {answer(http.StatusTooManyRequests, ``), true},
		"503":                       {answer(http.StatusServiceUnavailable, ``), true},
		"200, no JSON":              {answer(http.StatusOK, `<html>`), true},
		"no answer within the time": {hang, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				introspector := p.NewIntrospector(&ClientAuthentication{Method: ClientSecretPost, ClientID: "client", ClientSecret: "wrong"})
				op.set(&op.introspection, test.handler)
				const calls = toleratedFailures + 2
				for range calls {
					if _, err := introspector.introspectOnce(t); !errors.Is(err, ErrIntrospection) {
						t.Fatalf("Introspect: %v", err)
					}
				}
				want := calls
				if test.rests {
					want = toleratedFailures
				}
				if n := op.count("introspection"); n != want {
					t.Errorf("%d requests, want %d", n, want)
				}
			})
		})
	}
}

// S-105: who leaves before the answer says nothing about the provider.
func TestIntrospectionCancelled(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		introspector := p.NewIntrospector(basic)
		good := op.introspection
		op.set(&op.introspection, hang)
		for range 2 * toleratedFailures {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err := introspector.Introspect(ctx, "token", nil)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Introspect: %v", err)
			}
		}
		op.set(&op.introspection, good)
		if _, err := introspector.introspectOnce(t); err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

// S-100: Retry-After holds, from the first failure on and within bounds; a failure beside it does not shorten it.
func TestIntrospectionRetryAfter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status int
		value  string
		want   time.Duration
	}{
		"429":            {429, "10", 10 * time.Second},
		"503":            {503, "10", 10 * time.Second},
		"500":            {500, "10", 10 * time.Second},
		"a day":          {429, "86400", maxPause},
		"a date":         {503, "Sat, 01 Jan 2000 00:00:10 GMT", 10 * time.Second}, // the bubble begins at the start of 2000
		"a date, past":   {503, "Fri, 31 Dec 1999 00:00:00 GMT", 0},
		"none":           {429, "", 0},
		"garbage":        {429, "soon", 0},
		"not asked: 401": {401, "20", 0},
		"not asked: 400": {400, "20", 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				introspector := p.NewIntrospector(basic)
				good := op.introspection
				op.set(&op.introspection, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", test.value)
					w.WriteHeader(test.status)
				})
				if _, err := introspector.introspectOnce(t); !errors.Is(err, ErrIntrospection) {
					t.Fatal(err)
				}
				if after := introspector.RetryAfter(); after != max(test.want, time.Second) {
					t.Errorf("RetryAfter = %v, want %v", after, test.want)
				}
				op.set(&op.introspection, good)
				if test.want > 0 {
					time.Sleep(test.want - time.Nanosecond)
					if _, err := introspector.introspectOnce(t); err == nil || op.count("introspection") != 1 {
						t.Errorf("before the time: %v, %d requests", err, op.count("introspection"))
					}
					time.Sleep(time.Nanosecond)
				}
				if _, err := introspector.introspectOnce(t); err != nil {
					t.Errorf("after the time: %v", err)
				}
			})
		})
	}
	t.Run("beside another failure", func(t *testing.T) {
		t.Parallel()
		inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
			introspector := p.NewIntrospector(basic)
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Fatal(err)
			}
			// Two calls at a time: the first is told to wait, the second just fails, later.
			op.set(&op.introspection, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.FormValue("token"), "slow") {
					time.Sleep(time.Second)
				} else {
					w.Header().Set("Retry-After", "20")
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			var wait sync.WaitGroup
			for _, token := range []string{"fast", "slow"} {
				wait.Go(func() {
					if _, _, err := introspector.Introspect(t.Context(), token, nil); err == nil {
						t.Error("no error")
					}
				})
			}
			wait.Wait()
			op.set(&op.introspection, answer(http.StatusOK, `{"active":true}`))
			time.Sleep(10 * time.Second)
			if _, err := introspector.introspectOnce(t); err == nil || op.count("introspection") != 2 {
				t.Errorf("before the time: %v, %d requests", err, op.count("introspection"))
			}
			time.Sleep(10 * time.Second)
			if _, err := introspector.introspectOnce(t); err != nil {
				t.Errorf("after the time: %v", err)
			}
		})
	})
}
