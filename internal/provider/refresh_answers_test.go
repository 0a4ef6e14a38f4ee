package provider

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-164: no redirect is followed with a refresh token, wherever it goes, and it decides nothing.
func TestRefreshRedirects(t *testing.T) {
	t.Parallel()
	op, target := optest.New(t), optest.New(t)
	p := newProvider(t, op, nil)
	token := refreshTokenOf(t, op, p, basic)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{target.Endpoint(optest.Token), op.Endpoint(optest.Token), op.URL() + "/elsewhere", "/elsewhere", ""} {
			before := op.Hits(optest.Token)
			op.Fail(optest.Token, optest.Fault{
				Status: status, Header: http.Header{"Location": {location}}, Body: []byte(`{"error":"invalid_grant"}`), Times: 1,
			})
			if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token}); !errors.Is(err, ErrToken) || RefreshRefused(err) {
				t.Errorf("%d to %q: %v", status, location, err)
			}
			if hits := op.Hits(optest.Token) - before; hits != 1 {
				t.Errorf("%d to %q: %d requests", status, location, hits)
			}
		}
	}
	if target.Hits(optest.Token)+target.Hits(optest.Other)+op.Hits(optest.Other) != 0 {
		t.Error("a redirect was followed")
	}
	if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token}); err != nil {
		t.Errorf("without a redirect: %v", err)
	}
}

// S-195, S-168: an answer that is broken off, too large, endless or none decides nothing about the refresh token, is quoted nowhere and
// asked for once.
func TestRefreshBrokenAnswers(t *testing.T) {
	t.Parallel()
	const refused, good = `{"error":"invalid_grant","error_description":"alice"}`, `{"access_token":"alice's","token_type":"Bearer"}`
	for name, fault := range map[string]optest.Fault{
		"no answer":              {Drop: true},
		"refusal, cut":           {Status: 400, Body: []byte(refused), Header: http.Header{"Content-Length": {"1000"}}},
		"tokens, cut":            {Body: []byte(good), Header: http.Header{"Content-Length": {"1000"}}},
		"refusal, no JSON":       {Status: 400, Body: []byte(refused[:len(refused)-1])},
		"tokens, no JSON":        {Body: []byte(good[:len(good)-1])},
		"refusal, duplicate":     {Status: 400, Body: []byte(`{"error":"invalid_grant","error":"invalid_grant"}`)},
		"refusal, other error":   {Status: 400, Body: []byte(`{"error":"invalid_grant","\u0065rror":"server_error"}`)},
		"tokens, duplicate":      {Body: []byte(`{"access_token":"alice's","token_type":"Bearer","token_type":"Bearer"}`)},
		"refusal, too large":     {Status: 400, Body: padded([]byte(refused), maxBody+1)},
		"tokens, too large":      {Body: padded([]byte(good), maxBody+1)},
		"refusal, endless":       {Status: 400, Body: []byte("invalid_grant "), Endless: true},
		"tokens, endless":        {Body: []byte(good), Endless: true},
		"refusal, broken gzip":   {Status: 400, Body: []byte(refused), Header: http.Header{"Content-Encoding": {"gzip"}}},
		"tokens for other means": {Body: []byte(`{"access_token":"alice's","token_type":"DPoP"}`)},
		"no tokens":              {Body: []byte(`{}`)},
		"an empty answer":        {Status: 200},
		"a page":                 {Body: []byte(`<html>alice: invalid refresh token</html>`), Header: http.Header{"Content-Type": {"text/html"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t)
			p := newProvider(t, op, nil)
			token := refreshTokenOf(t, op, p, basic)
			fault.Times = 1
			op.Fail(optest.Token, fault)
			tokens, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token})
			if !errors.Is(err, ErrToken) || tokens != nil || RefreshRefused(err) || RetryAfterOf(err) != 0 {
				t.Fatalf("Refresh: %v, %v, refused %t", tokens, err, RefreshRefused(err))
			}
			if strings.Contains(err.Error(), "alice") || strings.Contains(err.Error(), token) || len(err.Error()) > 300 {
				t.Errorf("the error quotes: %v", err)
			}
			if op.Hits(optest.Token) != 2 {
				t.Errorf("%d requests", op.Hits(optest.Token)-1)
			}
			// the fault kept the token from being spent, so that it is good yet
			if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token}); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// C-014 for refresh tokens: a connection that ends after the request was sent may have carried it, so that it is not sent again, even on
// a connection that net/http would give a second try.
func TestRefreshOnce(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	token := refreshTokenOf(t, op, p, basic)
	reuse := func() {
		t.Helper()
		if _, _, err := p.NewIntrospector(basic).Introspect(t.Context(), "token", nil); err != nil {
			t.Fatal(err)
		}
	}
	op.Fail(optest.Introspection, optest.Fault{Drop: true, Times: 1})
	if reuse(); op.Hits(optest.Introspection) != 2 {
		t.Fatalf("%d introspections: the connection was a new one, so this test shows nothing", op.Hits(optest.Introspection))
	}
	for _, lose := range []func(){
		func() { op.Fail(optest.Token, optest.Fault{Drop: true, Times: 1}) },
		func() { op.LoseRefreshAnswer(1) },
	} {
		reuse()
		before := op.Hits(optest.Token)
		lose()
		if tokens, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token}); !errors.Is(err, ErrToken) || tokens != nil || RefreshRefused(err) {
			t.Errorf("Refresh: %v, %v", tokens, err)
		}
		if hits := op.Hits(optest.Token) - before; hits != 1 {
			t.Errorf("the refresh token was sent %d times", hits)
		}
	}
	if op.RefreshReuses() != 0 {
		t.Errorf("%d reuses", op.RefreshReuses())
	}
}

// S-195: what hangs or drips costs the timeout, once, and frees its place.
func TestRefreshTimeout(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{"hang": hang, "drip": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
				good := op.token
				op.set(&op.token, handler)
				start := time.Now()
				_, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"})
				if !errors.Is(err, ErrToken) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBusy) || RefreshRefused(err) {
					t.Errorf("got %v", err)
				}
				if waited := time.Since(start); waited != p.config.Timeout || op.count("token") != 1 || len(p.refreshes) != 0 {
					t.Errorf("waited %v for %d requests, %d places are taken", waited, op.count("token"), len(p.refreshes))
				}
				op.set(&op.token, good)
				if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// S-201: who asked may go, but the answer is waited for, as the new refresh token is in it.
func TestRefreshOutlivesCaller(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		op.set(&op.token, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(4 * time.Second)
			_, _ = io.WriteString(w, `{"access_token":"at","token_type":"Bearer","refresh_token":"next"}`)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		tokens, err := p.Refresh(ctx, basic, RefreshGrant{RefreshToken: "rt"})
		if err != nil || tokens.RefreshToken != "next" || time.Since(start) != 4*time.Second || ctx.Err() == nil {
			t.Errorf("after %v: %v, %v", time.Since(start), tokens, err)
		}
	})
}
