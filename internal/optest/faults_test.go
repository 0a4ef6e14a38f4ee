package optest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	p := New(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	tests := map[string]struct {
		fault  Fault
		status int // 0: no answer
		body   string
		header string // value of X-Test
	}{
		"status":   {fault: Fault{Status: 500}, status: 500},
		"body":     {fault: Fault{Body: []byte("[]")}, status: 200, body: "[]"},
		"header":   {fault: Fault{Header: http.Header{"x-test": {"1"}}}, status: 200, body: string(KeySet(p.Key("rs-1"), p.Key("es-1"))), header: "1"},
		"delay":    {fault: Fault{Delay: time.Millisecond, Body: []byte("late")}, status: 200, body: "late"},
		"drop":     {fault: Fault{Drop: true}},
		"redirect": {fault: Fault{Redirect: "http://127.0.0.1:1/", Status: 307}, status: 307},
		"endless":  {fault: Fault{Endless: true, Body: []byte("ab")}, status: 200},
	}
	for name, test := range tests {
		p.Fail(JWKS, test.fault)
		before := p.Hits(JWKS)
		answer, err := client.Get(p.Endpoint(JWKS))
		if (err != nil) != (test.status == 0) {
			t.Fatalf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if p.Hits(JWKS) != before+1 {
			t.Errorf("%s: not counted once", name)
		}
		body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
		answer.Body.Close()
		if err != nil || answer.StatusCode != test.status || answer.Header.Get("X-Test") != test.header {
			t.Errorf("%s: status %d, header %v, %v", name, answer.StatusCode, answer.Header, err)
		}
		if test.body != "" && string(body) != test.body {
			t.Errorf("%s: body %q, want %q", name, body, test.body)
		}
		if name == "endless" && len(body) != 1<<20 {
			t.Errorf("endless: %d bytes", len(body))
		}
	}
	p.Fail(JWKS, Fault{Status: 503, Times: 2})
	for i, want := range []int{503, 503, 200} {
		if status, _ := get(t, p, p.Endpoint(JWKS)); status != want {
			t.Errorf("request %d: status %d, want %d", i, status, want)
		}
	}
	p.Fail(JWKS, Fault{Status: 503})
	p.Heal(JWKS)
	if status, _ := get(t, p, p.Endpoint(JWKS)); status != http.StatusOK {
		t.Errorf("healed: status %d", status)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	p := New(t)
	release := make(chan struct{})
	p.Fail(Discovery, Fault{Wait: release})
	statuses := make(chan int, 3)
	for range cap(statuses) {
		go func() {
			answer, err := p.Client().Get(p.Endpoint(Discovery))
			if err != nil {
				statuses <- 0
				return
			}
			answer.Body.Close()
			statuses <- answer.StatusCode
		}()
	}
	p.WaitForHits(t, Discovery, cap(statuses))
	if len(statuses) != 0 {
		t.Error("answered before the release")
	}
	close(release)
	for range cap(statuses) {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
}

// A stalled answer ends with its client, and at the latest with the provider: no
// test may wait for ever, whichever fault it forgot.
func TestStallsEnd(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]Fault{
		"hang": {Hang: true}, "drip": {Drip: true}, "delay": {Delay: time.Hour}, "wait": {Wait: make(chan struct{})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t)
			p.Fail(JWKS, fault)
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error, 2)
			for _, c := range []context.Context{ctx, t.Context()} {
				go func() {
					r, err := http.NewRequestWithContext(c, http.MethodGet, p.Endpoint(JWKS), nil)
					if err != nil {
						errs <- err
						return
					}
					answer, err := p.Client().Do(r)
					if err == nil {
						_, err = io.ReadAll(answer.Body)
						answer.Body.Close()
					}
					errs <- err
				}()
			}
			p.WaitForHits(t, JWKS, 2)
			cancel()
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("first to end: %v, want the canceled request", err)
			}
			p.Close()
			if err := <-errs; err == nil || errors.Is(err, context.Canceled) {
				t.Errorf("after Close: %v, want a broken connection", err)
			}
		})
	}
}

func TestDownAndUp(t *testing.T) {
	t.Parallel()
	p := New(t)
	if status, _ := get(t, p, p.Endpoint(JWKS)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	p.Down()
	if answer, err := p.Client().Get(p.Endpoint(JWKS)); err == nil {
		answer.Body.Close()
		t.Error("answered while down")
	}
	if p.Hits(JWKS) != 1 || p.Refused() == 0 {
		t.Errorf("%d hits, %d refused", p.Hits(JWKS), p.Refused())
	}
	p.Up()
	if status, _ := get(t, p, p.Endpoint(JWKS)); status != http.StatusOK {
		t.Errorf("after Up: status %d", status)
	}
}
