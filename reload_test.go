package openidconnect

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Reloads under load: nobody is turned away, and the provider does not notice.
func TestS268ReloadsUnderLoad(t *testing.T) {
	p := optest.New(t)
	site := func(n int) string {
		return fmt.Sprintf("header X-Load %d\n", n) + api(p, "client_id client\nclient_secret secret\nclaim_header X-Email email\nrequired_scopes read")
	}
	c := startCaddy(t, site(0))
	c.keep = true
	jwt, opaque := p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil))
	c.allows(jwt)
	c.allows(opaque)

	var done atomic.Bool
	var requests, cut atomic.Int64
	var group sync.WaitGroup
	address := c.address
	for client := range 6 {
		group.Go(func() {
			transport := &http.Transport{DisableKeepAlives: client%3 == 0}
			defer transport.CloseIdleConnections()
			for i := 0; !done.Load(); i++ {
				request, _ := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
				want := http.StatusOK
				switch i % 4 {
				case 0:
					want = http.StatusUnauthorized
				case 1:
					request.Header.Set("Authorization", "Bearer "+opaque)
				case 2:
					request.Header.Set("Authorization", "Bearer "+jwt)
				case 3:
					request.Header.Set("Authorization", "Bearer "+jwt+"x")
					want = http.StatusUnauthorized
				}
				response, err := transport.RoundTrip(request)
				if err != nil {
					cut.Add(1) // a listener that closes cuts connections that nobody has accepted yet
					continue
				}
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
				requests.Add(1)
				if response.StatusCode != want {
					t.Errorf("got %d, want %d", response.StatusCode, want)
				}
			}
		})
	}
	for n := range 15 {
		before := requests.Load()
		if err := c.load(site(n + 1)); err != nil {
			t.Error(err)
		}
		waitUntil(t, func() bool { return requests.Load() >= before+20 })
	}
	done.Store(true)
	group.Wait()
	if c.address != address {
		t.Errorf("the address has changed from %s to %s", address, c.address)
	}
	if n := cut.Load(); n > requests.Load()/10 {
		t.Errorf("%d of %d requests were cut off", n, n+requests.Load())
	}
	for endpoint, want := range map[string]int{optest.Discovery: 1, optest.JWKS: 1, optest.Introspection: 1} {
		if n := p.Hits(endpoint); n != want {
			t.Errorf("%d calls to %s, want %d: what was known did not survive", n, endpoint, want)
		}
	}
}

// Nothing of an old configuration goes on working.
func TestS097ReloadsLeaveNothingBehind(t *testing.T) {
	p, failing := optest.New(t), optest.New(t)
	failing.Fail(optest.Discovery, optest.Fault{Status: 500})
	site := func(n int) string {
		// each load has a provider that is kept, one that is new, and one that is retried in the background
		site := "handle /new/* {\n" + api(p, fmt.Sprintf("timeout %dms\nclient_id client\nclient_secret secret", 1000+n)) + "}\nhandle /failing/* {\n" +
			api(failing, fmt.Sprintf("timeout %dms", 1000+n)) + "}\nhandle {\n" + api(p, "") + "}"
		// the idle connections of Caddy's own proxy outlive a reload
		return strings.ReplaceAll(site, "reverse_proxy $UPSTREAM", "reverse_proxy $UPSTREAM {\ntransport http {\nkeepalive off\n}\n}")
	}
	before, handlersBefore := keptProviders(), len(runningHandlers())
	c := startCaddy(t, site(0))
	token := p.AccessToken(nil)
	use := func() {
		t.Helper()
		c.allows(token)
		c.wantAllowed(t, c.get("/new/", "Authorization: Bearer "+p.OpaqueToken(p.AccessClaims(nil))))
		c.wantRefused(t, c.get("/failing/", "Authorization: Bearer "+failing.AccessToken(nil)), 503, "discovery_failed")
	}
	reload := func(n int) {
		t.Helper()
		if err := c.load(site(n)); err != nil {
			t.Fatal(err)
		}
		use()
	}
	use()
	for n := range 5 {
		reload(n + 1)
	}
	settled := func() int {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		goruntime.GC()
		return goruntime.NumGoroutine()
	}
	baseline := settled()
	for n := range 50 {
		reload(n + 6)
	}
	waitUntil(t, func() bool { return settled() <= baseline+5 })
	if n := keptProviders() - before; n != 3 {
		t.Errorf("%d providers are kept, want the 3 of the last load", n)
	}
	if n := len(runningHandlers()) - handlersBefore; n != 3 {
		t.Errorf("%d handlers are kept, want the 3 of the last load", n)
	}
}

// keptProviders is the number of providers that some configuration holds.
func keptProviders() (n int) {
	pool.Range(func(_, value any) bool {
		if _, ok := value.(pooledRuntime); !ok {
			n++
		}
		return true
	})
	return n
}

// A load that fails leaves the old one as it was, and nothing of its own.
func TestFailedLoadsChangeNothing(t *testing.T) {
	p := optest.New(t)
	before := keptProviders()
	c := startCaddy(t, api(p, ""))
	c.allows(p.AccessToken(nil))
	for _, broken := range []string{
		api(p, "") + "respond {$UNSET_MATCHER} @nothing",
		"handle {\n" + api(p, "timeout 3s") + "}\nhandle /x {\n" + api(p, "public_key nonsense") + "}",
		api(p, "timeout 3s\nclient_id client\nclient_secret {env.OPENID_CONNECT_UNSET}"),
		api(p, "timeout 4s") + "reverse_proxy {\nlb_policy nonsense\n}",
	} {
		if err := c.load(broken); err == nil {
			t.Errorf("no error: %s", broken)
		}
		c.allows(p.AccessToken(nil))
		if n := keptProviders() - before; n != 1 {
			t.Errorf("%d providers are kept", n)
		}
	}
	if n := p.Hits(optest.Discovery); n != 1 {
		t.Errorf("%d discoveries", n)
	}
}

// What a token was accepted by is gone: a load that trusts less must not let it in from a cache.
func TestReloadsThatTrustLess(t *testing.T) {
	p := optest.New(t)
	token := p.AccessToken(nil)
	old, other := p.Key("rs-1"), optest.NewKey(t, "RS256", "rs-1")
	quoted := func(keys ...*optest.Key) string {
		var text string
		for _, key := range keys {
			text += key.PEM()
		}
		return `"` + text + `"`
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	write := func(keys ...*optest.Key) {
		t.Helper()
		if err := os.WriteFile(file, optest.KeySet(keys...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name          string
		before, after string
		change        func()
		status        int
		reason        string
	}{
		{"another public_key", "public_key " + quoted(old), "public_key " + quoted(other), nil, 401, "bad_signature"},
		{"one public_key of two", "public_key " + quoted(other, old), "public_key " + quoted(other), nil, 401, "bad_signature"},
		{"a key removed from the file", "jwks " + file, "jwks " + file, func() { write(p.Key("es-1")) }, 401, "unknown_key"},
		{"another audience", "", "realm x\naudience_claim client_id", nil, 401, "wrong_audience"},
		{"fewer algorithms", "", "token_signing_alg_values_expected ES256", nil, 401, "unsupported_algorithm"},
		{"a scope", "", "required_scopes write", nil, 403, "insufficient_scope"},
		{"a rule", "", "denied_claim sub alice", nil, 403, "claim_denied"},
		{"a profile", "", "token_type at+jwt\nmtls_bound required", nil, 401, "unbound"},
		{"keys from elsewhere", "", "public_key " + quoted(other), nil, 401, "bad_signature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(old, p.Key("es-1"))
			c := startCaddy(t, api(p, test.before))
			c.allows(token)
			c.allows(token)
			if test.change != nil {
				test.change()
			}
			if err := c.load(api(p, test.after)); err != nil {
				t.Fatal(err)
			}
			c.refuses(token, test.status, test.reason)
			c.refuses(token, test.status, test.reason)
		})
	}
}

// The file behind a trust pool may change without a change of the configuration.
func TestReloadWithOtherAuthorities(t *testing.T) {
	t.Parallel()
	certificate, stranger := optest.NewCertificate(t, nil), optest.NewCertificate(t, nil)
	p := optest.New(t, optest.WithCertificate(certificate))
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(der []byte) {
		t.Helper()
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := "audience api\nclient_id client\nclient_secret secret\ntls_trust_pool file " + file
	write(certificate.Certificate[0])
	before := newBearerSite(t, p, settings)
	token, opaque := p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil))
	before.allows(token)
	before.allows(opaque)

	write(stranger.Certificate[0])
	after := newBearerSite(t, p, settings)
	after.refuses(token, 503, "discovery_failed")
	after.refuses(opaque, 503, "discovery_failed")
	before.allows(token)

	write(certificate.Certificate[0])
	again := newBearerSite(t, p, settings)
	hits := p.Hits(optest.Discovery)
	again.allows(token)
	if n := p.Hits(optest.Discovery); n != hits {
		t.Errorf("%d discoveries more, although this trust is in use already", n-hits)
	}
	newBearerSite(t, p, "audience api").refuses(token, 503, "discovery_failed") // the system does not trust it
	newBearerSite(t, p, "audience api\ntls_insecure_skip_verify").allows(token)
}

// Caddy starts while the provider is down, serves what needs no provider, and recovers without help.
func TestS170StartWithoutAProvider(t *testing.T) {
	p := optest.New(t)
	p.Down()
	c := startCaddy(t, "handle /other {\nrespond \"still here\"\n}\nhandle {\n"+api(p, "unauth_action pass /public/*")+"}")
	if r := c.get("/other"); r.StatusCode != http.StatusOK || r.body != "still here" {
		t.Errorf("another route got %d %q", r.StatusCode, r.body)
	}
	c.wantAllowed(t, c.get("/public/"))
	c.wantRefused(t, c.get("/"), 401, "no_credentials")
	token := p.AccessToken(nil)
	for range 50 {
		c.refuses(token, 503, "discovery_failed")
	}
	if n := p.Refused(); n > 4 {
		t.Errorf("%d connections to a provider that is down, in a moment", n)
	}
	// nobody asks any more, and yet it comes back
	p.Up()
	p.WaitForHits(t, optest.JWKS, 1)
	waitUntil(t, func() bool { return strings.Contains(takeLogs(), "provider is available") })
	c.allows(token)
	if d, k := p.Hits(optest.Discovery), p.Hits(optest.JWKS); d != 1 || k != 1 {
		t.Errorf("%d discoveries and %d key sets", d, k)
	}
}

// Loading asks nobody, as the provider may be served by this very Caddy; once it has started, Caddy asks ahead of the first request.
func TestProviderIsAskedAfterStart(t *testing.T) {
	p := optest.New(t)
	release := make(chan struct{})
	defer close(release)
	p.Fail(optest.Discovery, optest.Fault{Wait: release})
	start := time.Now()
	c := startCaddy(t, api(p, "timeout 1m"))
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("starting took %s while the provider did not answer", took)
	}
	p.WaitForHits(t, optest.Discovery, 1)
	c.wantRefused(t, c.get("/"), 401, "no_credentials")
	h, err := parse("issuer " + p.Issuer() + "/other\nbearer_only\naudience api")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Provision(newContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	if n := p.Hits(optest.Other); n != 0 {
		t.Errorf("%d calls by a handler that was never started", n)
	}
}
