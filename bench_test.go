package openidconnect

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// benchmarkHandler provisions a handler for benchmarks and quiet logs.
func benchmarkHandler(b *testing.B, p *optest.Provider, settings string) *Handler {
	b.Helper()
	h, err := parse("issuer " + p.Issuer() + "\nbearer_only\naudience api\n" + settings)
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

// serveTokens runs the handler over requests with the given tokens in turn, each prepared as Caddy's server does. What that costs is
// shown by BenchmarkHandler/no_handler.
func serveTokens(b *testing.B, handler caddyhttp.MiddlewareHandler, tokens []string) {
	b.Helper()
	next := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	w := httptest.NewRecorder()
	original := httptest.NewRequest(http.MethodGet, "/orders", nil)
	requests := make([]http.Header, len(tokens))
	for i, token := range tokens {
		requests[i] = http.Header{
			"Authorization": {"Bearer " + token}, "User-Agent": {"bench"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"},
			"X-Forwarded-For": {"192.0.2.1"},
		}
	}
	serve := func(i int) {
		request := original.Clone(b.Context())
		request.Header = requests[i%len(requests)].Clone()
		request = caddyhttp.PrepareRequest(request, caddy.NewReplacer(), w, nil)
		var err error
		if handler == nil {
			err = next.ServeHTTP(w, request)
		} else {
			err = handler.ServeHTTP(w, request, next)
		}
		if err != nil || w.Code != http.StatusOK {
			b.Fatal(err, w.Code)
		}
	}
	for i := range tokens {
		serve(i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		serve(i)
		i++
	}
}

func BenchmarkHandler(b *testing.B) {
	p := optest.New(b)
	token := p.AccessToken(optest.Claims{"realm_access": map[string]any{"roles": []string{"reader", "writer"}}, "email": "alice@example.com"})
	b.Run("no_handler", func(b *testing.B) { serveTokens(b, nil, []string{token}) })
	b.Run("cached", func(b *testing.B) {
		serveTokens(b, benchmarkHandler(b, p, "set_userinfo_header off"), []string{token})
	})
	b.Run("cached_userinfo", func(b *testing.B) { serveTokens(b, benchmarkHandler(b, p, ""), []string{token}) })
	b.Run("cached_rules", func(b *testing.B) {
		serveTokens(b, benchmarkHandler(b, p, "required_scopes read\nrequired_claim realm_access.roles reader\nclaim_header X-User sub"), []string{token})
	})
	b.Run("cold", func(b *testing.B) { serveTokens(b, benchmarkHandler(b, p, "token_cache 0"), []string{token}) })
	b.Run("cold_es256", func(b *testing.B) {
		p.SetSigningKey(p.Key("es-1"))
		serveTokens(b, benchmarkHandler(b, p, "token_cache 0"), []string{p.AccessToken(nil)})
	})
}
