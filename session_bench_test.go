package openidconnect

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/session"
)

// benchmarkLoginHandler provisions a handler that keeps sessions, without a provider: none is asked.
func benchmarkLoginHandler(b *testing.B, settings string) *Handler {
	b.Helper()
	h, err := parse("issuer https://id.example.com\nclient_id client\nsession {\nsecret 0123456789abcdef0123456789abcdef\n}\n" + settings)
	if err != nil {
		b.Fatal(err)
	}
	if err := h.Provision(newContext(b)); err != nil {
		b.Fatal(err)
	}
	h.runtime.logger = zap.NewNop()
	b.Cleanup(func() { h.Cleanup() })
	return h
}

// sealedCookie is the Cookie header of a session with these claims and an access token of so many bytes.
func sealedCookie(b *testing.B, h *Handler, claims map[string]any, tokenSize int) string {
	b.Helper()
	l := h.runtime.login
	v := &visit{host: "example.com"}
	text, err := json.Marshal(claims)
	if err != nil {
		b.Fatal(err)
	}
	var token strings.Builder
	for token.Len() < tokenSize {
		token.WriteString(randomText())
	}
	now := time.Now()
	sess := &session.Session{
		ID: session.NewID(), Subject: "alice", Claims: string(text), Created: now, LastUsed: now, Scope: "openid",
		AccessToken: token.String()[:tokenSize], AccessExpires: now.Add(time.Hour),
	}
	cookies, _, err := l.keep(b.Context(), v, &v.cookies, sess)
	if err != nil {
		b.Fatal(err)
	}
	for i, cookie := range cookies {
		cookies[i], _, _ = strings.Cut(cookie, ";")
	}
	return strings.Join(cookies, "; ")
}

// serveSession runs the handler over requests with a session's cookie. forget makes each of them the first of its cookie.
func serveSession(b *testing.B, h *Handler, cookie string, forget bool) {
	b.Helper()
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	w := httptest.NewRecorder()
	original := httptest.NewRequest(http.MethodGet, "http://example.com/orders", nil)
	header := http.Header{
		"User-Agent": {"bench"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "X-Forwarded-For": {"192.0.2.1"}, "Cookie": {cookie},
	}
	serve := func() {
		request := original.Clone(b.Context())
		request.Header = header.Clone()
		request = caddyhttp.PrepareRequest(request, caddy.NewReplacer(), w, nil)
		var err error
		if h == nil {
			err = next.ServeHTTP(w, request)
		} else {
			if forget {
				h.runtime.login.opened.capacity = 0
			}
			err = h.ServeHTTP(w, request, next)
		}
		if err != nil || w.Code != http.StatusOK {
			b.Fatal(err, w.Code, w.Body)
		}
	}
	serve()
	b.ReportMetric(float64(len(cookie)), "cookie-bytes")
	b.ReportAllocs()
	for b.Loop() {
		serve()
	}
	b.ReportMetric(float64(len(cookie)), "cookie-bytes")
}

func BenchmarkSession(b *testing.B) {
	claims := map[string]any{
		"iss": "https://id.example.com", "sub": "alice", "aud": "client", "email": "alice@example.com", "name": "Alice Example",
		"preferred_username": "alice", "iat": 1795400000, "exp": 1795400300, "sid": "c1b5c1f2-aaaa-bbbb-cccc-000000000000",
		"realm_access": map[string]any{"roles": []string{"reader", "writer", "offline_access", "uma_authorization"}},
	}
	groups := map[string]any{}
	maps.Copy(groups, claims)
	var many []string
	for i := range 300 {
		many = append(many, "/departments/group-"+strings.Repeat("0123456789"[i%10:i%10+1], 6))
	}
	groups["groups"] = many
	b.Run("no_handler", func(b *testing.B) {
		serveSession(b, nil, sealedCookie(b, benchmarkLoginHandler(b, ""), claims, 1000), false)
	})
	for name, bench := range map[string]struct {
		settings string
		claims   map[string]any
		token    int
		cold     bool
	}{
		"warm":            {"set_userinfo_header off", claims, 1000, false},
		"warm_userinfo":   {"", claims, 1000, false},
		"cold":            {"set_userinfo_header off", claims, 1000, true},
		"warm_compressed": {"set_userinfo_header off", groups, 1000, false},
		"cold_compressed": {"set_userinfo_header off", groups, 1000, true},
	} {
		b.Run(name, func(b *testing.B) {
			h := benchmarkLoginHandler(b, bench.settings)
			serveSession(b, h, sealedCookie(b, h, bench.claims, bench.token), bench.cold)
		})
	}
}
