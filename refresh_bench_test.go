package openidconnect

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// newBenchmark signs somebody in at a site that logs nothing, and returns what serves a request with a cookie.
func newBenchmark(b *testing.B, coordination string) (r *renewing, serve func(cookie string) *httptest.ResponseRecorder) {
	b.Helper()
	p := optest.New(b)
	p.SetRefreshTokens(true)
	r = newRenewingAt(b, newLoginSite(b, p, withToken+"set_userinfo_header off\nrefresh_coordination "+coordination), p)
	h := r.site.handler
	h.runtime.logger = zap.NewNop()
	host := r.site.host()
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusOK)
		return nil
	})
	return r, func(cookie string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodGet, "http://"+host+"/orders", nil)
		request.Header = http.Header{"Accept": {"*/*"}, "Cookie": {cookie}}
		if err := h.ServeHTTP(w, caddyhttp.PrepareRequest(request, caddy.NewReplacer(), w, nil), next); err != nil || w.Code != http.StatusOK {
			b.Error(err, w.Code, w.Body)
		}
		return w
	}
}

// BenchmarkRefreshStorm is the time until 64 requests with one cookie, whose access token has expired, are all answered.
func BenchmarkRefreshStorm(b *testing.B) {
	for name, coordination := range map[string]string{"alone": "local", "coordinated": "storage"} {
		b.Run(name, func(b *testing.B) {
			r, serve := newBenchmark(b, coordination)
			cookie := r.cookie()
			b.ReportAllocs()
			storms := 0
			for b.Loop() {
				storms++
				r.pass(tokenLife)
				next := make([]string, 64)
				var group sync.WaitGroup
				for i := range next {
					group.Go(func() { next[i], _ = cookiesOf(serve(cookie).Header()) })
				}
				group.Wait()
				cookie = next[0]
			}
			if grants := r.provider.RefreshGrants(); grants != storms {
				b.Errorf("%d grants in %d storms", grants, storms)
			}
			b.ReportMetric(float64(r.provider.RefreshGrants())/float64(storms), "grants/op")
		})
	}
}

// BenchmarkRenewableSession is a request that needs no renewal: with the newest cookie, which could be renewed, and with an older one, which
// is given the newest.
func BenchmarkRenewableSession(b *testing.B) {
	b.Run("newest", func(b *testing.B) {
		r, serve := newBenchmark(b, "local")
		cookie := r.cookie()
		b.ReportAllocs()
		for b.Loop() {
			serve(cookie)
		}
		r.wantGrants(0)
	})
	b.Run("late", func(b *testing.B) {
		r, serve := newBenchmark(b, "local")
		late := r.cookie()
		r.pass(tokenLife)
		newest, _ := cookiesOf(serve(late).Header())
		b.ReportAllocs()
		for b.Loop() {
			if set, _ := cookiesOf(serve(late).Header()); set != newest {
				b.Fatal("not the newest")
			}
		}
		r.wantGrants(1)
	})
}
