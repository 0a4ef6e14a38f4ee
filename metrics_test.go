package openidconnect

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// series are the values of all our metrics, by name and labels; a histogram counts as its number of observations.
func series(tb testing.TB) map[string]float64 {
	tb.Helper()
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		tb.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "caddy_openid_connect_") {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			value := metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			values[strings.TrimPrefix(family.GetName(), "caddy_openid_connect_")+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return values
}

func wantSeries(tb testing.TB, want map[string]float64) {
	tb.Helper()
	got := series(tb)
	for name, value := range want {
		if got[name] != value {
			tb.Errorf("%s is %v, want %v", name, got[name], value)
		}
	}
	if tb.Failed() {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			tb.Logf("%s %v", name, got[name])
		}
	}
}

func TestMetrics(t *testing.T) {
	p := optest.New(t)
	client := "client_id client\nclient_secret secret\n"
	sites := "http://a.example:$PORT {\nbind 127.0.0.1\n" + api(p, client+"unauth_action pass /public/*\nallow_preflight") + "}\n" +
		"http://b.example:$PORT {\nbind 127.0.0.1\n" + api(p, client+"required_scopes write") + "}\n"
	c := startCaddy(t, sites)
	send := func(method, host, path string, headers ...string) {
		t.Helper()
		request := newRequest(t, method, c.url(path), nil, headers...)
		request.Host = host
		roundTrip(t, http.DefaultTransport, request)
	}
	// every name is there from the start, so that a dashboard is not empty
	names := make(map[string]bool)
	for name := range series(t) {
		names[name[:strings.IndexByte(name, '{')]] = true
	}
	for _, name := range []string{
		"requests_total", "logins_total", "refreshes_total", "token_validations_total", "token_cache_hits_total", "token_cache_misses_total",
	} {
		if !names[name] {
			t.Errorf("%s is not there at start: %v", name, names)
		}
	}
	if names["revocation_list_up"] {
		t.Error("the list of ended sessions is told of, and there are no sessions")
	}
	token := "Authorization: Bearer " + p.AccessToken(nil)
	opaque := "Authorization: Bearer " + p.OpaqueToken(p.AccessClaims(nil))
	writer := "Authorization: Bearer " + p.AccessToken(optest.Claims{"scope": "write"})
	for range 3 {
		send("GET", "a.example", "/", token)
	}
	for range 2 {
		send("GET", "a.example", "/", opaque)
	}
	send("GET", "b.example", "/", token)
	send("GET", "b.example", "/", writer)
	send("GET", "a.example", "/")
	send("GET", "b.example", "/")
	send("GET", "a.example", "/public/")
	send("OPTIONS", "a.example", "/", "Access-Control-Request-Method: POST")
	send("GET", "a.example", "/", "Authorization: Bearer a b")
	send("GET", "a.example", "/", "Authorization: Bearer "+p.AccessToken(optest.Claims{"aud": "other"}))
	p.Fail(optest.Introspection, optest.Fault{Status: 500, Times: 1})
	send("GET", "a.example", "/", "Authorization: Bearer unheard-of")
	wantSeries(t, map[string]float64{
		"requests_total{method=bearer,result=allowed}":      6,
		"requests_total{method=bearer,result=forbidden}":    1,
		"requests_total{method=bearer,result=unauthorized}": 1,
		"requests_total{method=bearer,result=bad_request}":  1,
		"requests_total{method=bearer,result=unavailable}":  1,
		"requests_total{method=none,result=unauthorized}":   2,
		"requests_total{method=none,result=passed}":         1,
		"requests_total{method=none,result=preflight}":      1,

		"token_validations_total{reason=,result=valid}":                            6,
		"token_validations_total{reason=insufficient_scope,result=refused}":        1,
		"token_validations_total{reason=wrong_audience,result=refused}":            1,
		"token_validations_total{reason=introspection_unavailable,result=refused}": 1,

		// one token was met four times, another once, a wrong one once, an opaque one twice, another once
		"token_cache_hits_total{}":   4,
		"token_cache_misses_total{}": 5,

		"provider_requests_total{code=200,endpoint=discovery}":      1,
		"provider_requests_total{code=200,endpoint=jwks}":           1,
		"provider_requests_total{code=200,endpoint=introspection}":  1,
		"provider_requests_total{code=500,endpoint=introspection}":  1,
		"provider_request_duration_seconds{endpoint=discovery}":     1,
		"provider_request_duration_seconds{endpoint=introspection}": 2,
		"provider_up{issuer=" + p.Issuer() + "}":                    1,
	})

	t.Run("after a reload", func(t *testing.T) {
		c := c.in(t)
		if err := c.load(sites); err != nil {
			t.Fatal(err)
		}
		wantSeries(t, map[string]float64{
			"provider_up{issuer=" + p.Issuer() + "}":       1, // nothing was fetched since, and yet it is known
			"requests_total{method=bearer,result=allowed}": 0,
			"token_cache_hits_total{}":                     0,
		})
		send("GET", "a.example", "/", token)
		wantSeries(t, map[string]float64{
			"requests_total{method=bearer,result=allowed}":         1,
			"token_cache_hits_total{}":                             1, // the cache has outlived the reload
			"provider_requests_total{code=200,endpoint=discovery}": 0,
		})
	})
	t.Run("provider_up goes down and up", func(t *testing.T) {
		p := optest.New(t)
		p.Fail(optest.Discovery, optest.Fault{Status: 500})
		if err := c.load(api(p, "")); err != nil {
			t.Fatal(err)
		}
		c.advance()
		c.in(t).refuses(p.AccessToken(nil), 503, "discovery_failed")
		wantSeries(t, map[string]float64{"provider_up{issuer=" + p.Issuer() + "}": 0})
		p.Heal(optest.Discovery)
		waitUntil(t, func() bool { return series(t)["provider_up{issuer="+p.Issuer()+"}"] == 1 })
	})
}

// However many users and attackers there are, there are no more series, and none names anybody.
func TestS266LabelsHoldNobody(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, "client_id client\nclient_secret secret\nclaim_header X-Email email"))
	key := optest.NewKey(t, "ES256", "es-1")
	for i := range 100 {
		name := fmt.Sprintf("somebody-%d", i)
		for _, token := range []string{
			p.AccessToken(optest.Claims{"sub": name, "email": name, "jti": name, "client_id": name}),
			p.OpaqueToken(p.AccessClaims(optest.Claims{"sub": name})),
			optest.Sign(key.With("ES256", name), nil, p.AccessClaims(optest.Claims{"sub": name})),
			optest.Sign(key, nil, p.AccessClaims(optest.Claims{"iss": name})),
			p.AccessToken(optest.Claims{"aud": name}), optest.Sign(key, optest.Claims{"typ": name}, p.AccessClaims(nil)), name,
			p.AccessToken(optest.Claims{"sub": nil, "client_id": name}),
		} {
			c.get("/"+name, "Authorization: Bearer "+token, "User-Agent: "+name)
		}
		request := newRequest(t, name, c.url("/"), nil)
		request.Host = name + ".example"
		roundTrip(t, http.DefaultTransport, request)
	}
	all := series(t)
	for name := range all {
		if strings.Contains(name, "somebody") {
			t.Errorf("series %s", name)
		}
	}
	if len(all) > 40 {
		t.Errorf("%d series", len(all))
	}
}
