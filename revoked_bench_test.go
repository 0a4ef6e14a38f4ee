package openidconnect

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// revokedHandler is a handler whose list, in memory, has so many entries of each kind, none of them of the sessions that are served.
func revokedHandler(tb testing.TB, entries int) *Handler {
	tb.Helper()
	h, err := parse("issuer https://id.example.com\nclient_id client\nset_userinfo_header off\nsession {\nsecret 0123456789abcdef0123456789abcdef\n}")
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Provision(newContext(tb)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.Cleanup() })
	h.runtime.logger = zap.NewNop()
	l := h.runtime.login
	l.revocations = session.NewRevocations(session.RevocationsConfig{})
	now := time.Now()
	list := make([]session.Revocation, entries)
	for i := range list {
		list[i] = session.Revocation{Owner: l.owner(), Until: now.Add(24 * time.Hour)}
		switch i % 3 {
		case 0:
			list[i].ID = session.NewID()
		case 1:
			list[i].SID, list[i].Created = fmt.Sprint("sid-", i), now.Add(time.Hour)
		default:
			list[i].Subject, list[i].Issued = fmt.Sprint("subject-", i), now.Add(time.Hour)
		}
	}
	if err := l.revocations.Add(context.Background(), now, list...); err != nil {
		tb.Fatal(err)
	}
	if n := l.revocations.Len(); n != entries {
		tb.Fatalf("%d entries", n)
	}
	return h
}

// The price of the list for a session that was seen before, and for one that was not.
func BenchmarkSessionWithRevocations(b *testing.B) {
	claims := map[string]any{"iss": "https://id.example.com", "sub": "alice", "email": "alice@example.com"}
	for _, entries := range []int{0, 100_000} {
		for name, first := range map[string]bool{"seen": false, "first_seen": true} {
			b.Run(fmt.Sprintf("%d/%s", entries, name), func(b *testing.B) {
				h := revokedHandler(b, entries)
				serveSession(b, h, sealedCookie(b, h, claims, 0), first)
			})
		}
	}
}

// A session that was seen before is not looked up again until something is added to the list; then it is, once.
func TestSeenSessionsAreNotLookedUpAgain(t *testing.T) {
	h := revokedHandler(t, 1000)
	l, now := h.runtime.login, time.Now()
	sess := &session.Session{ID: session.NewID(), Subject: "alice", SID: "s", Claims: `{"sub":"alice"}`, Created: now, LastUsed: now}
	v := &visit{host: "example.com"}
	cookies, _, err := l.keep(t.Context(), v, &v.cookies, sess)
	if err != nil {
		t.Fatal(err)
	}
	header := (&http.Response{Header: http.Header{"Set-Cookie": cookies}}).Cookies()[0]
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	serve := func() int {
		w := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
		request.AddCookie(header)
		if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(request, caddy.NewReplacer(), w, nil), next); err != nil {
			t.Error(err)
		}
		return w.Code
	}
	if code := serve(); code != http.StatusOK {
		t.Fatalf("got %d", code)
	}
	opened := l.opened.get(sessionKey{"example.com", false, header.Value}, now)
	if opened == nil || opened.looked.Load() != l.stateVersion() {
		t.Fatalf("what was looked up is not remembered: %v", opened)
	}
	end := func(id [16]byte) {
		if err := l.revocations.Add(t.Context(), now, session.Revocation{Owner: l.owner(), ID: id, Until: now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	end(session.NewID())
	if opened.looked.Load() == l.stateVersion() {
		t.Error("what was known before is taken for the newest")
	}
	if code := serve(); code != http.StatusOK || opened.looked.Load() != l.stateVersion() {
		t.Errorf("after another's logout: %d", code)
	}
	end(sess.ID)
	if code := serve(); code != http.StatusUnauthorized || opened.looked.Load() == l.stateVersion() {
		t.Errorf("a session that was ended got %d", code)
	}
}
