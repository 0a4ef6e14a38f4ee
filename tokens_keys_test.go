package openidconnect

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Tokens that name unknown keys, and bad signatures by known ones, cost the provider nothing, however many come (CVE-2025-64527).
func TestS086FloodsDoNotReachTheProvider(t *testing.T) {
	t.Parallel()
	for _, refetch := range []string{"answers", "fails"} {
		t.Run("the key set "+refetch, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newBearerSite(t, p, "audience api")
			good := p.AccessToken(nil)
			s.allows(good)
			if refetch == "fails" {
				p.Fail(optest.JWKS, optest.Fault{Status: 500})
			}
			forger := optest.NewKey(t, "ES256", "es-1")
			var group sync.WaitGroup
			for client := range 8 {
				group.Go(func() {
					for i := range 100 {
						key := forger // a known name and a bad signature
						want := http.StatusUnauthorized
						switch i % 4 {
						case 0:
							key = forger.With("ES256", fmt.Sprintf("unknown-%d-%d", client, i))
						case 1:
							key = forger.With("ES256", "")
						}
						token := optest.Sign(key, nil, p.AccessClaims(nil))
						if i%4 == 3 {
							token, want = good, http.StatusOK
						}
						request, _ := http.NewRequest(http.MethodGet, s.server.URL, nil)
						request.Header.Set("Authorization", "Bearer "+token)
						response, err := http.DefaultTransport.RoundTrip(request)
						if err != nil {
							t.Error(err)
							return
						}
						io.Copy(io.Discard, response.Body)
						response.Body.Close()
						if response.StatusCode != want {
							t.Errorf("got %d, want %d", response.StatusCode, want)
						}
					}
				})
			}
			group.Wait()
			most := 2 // one at first and one for all the unknown keys
			if refetch == "fails" {
				most += 4 // the provider recovers by itself, with growing pauses
			}
			if n := p.Hits(optest.JWKS); n > most {
				t.Errorf("%d key sets fetched, want at most %d", n, most)
			}
			if n := p.Hits(optest.Discovery); n != 1 {
				t.Errorf("%d discoveries", n)
			}
			if n := s.reached(); n != 8*25+1 {
				t.Errorf("%d requests reached the upstream, want the %d good ones", n, 8*25+1)
			}
		})
	}
}

// A provider may sign with a new key at once, and take an old one back.
func TestS087KeysComeAndGo(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	old := p.AccessToken(nil)
	other := optest.Sign(p.Key("es-1"), nil, p.AccessClaims(nil))
	s.allows(old)
	s.allows(old) // it is in the cache now
	s.allows(other)
	p.Rotate(t)
	s.allows(p.AccessToken(nil))
	if n := p.Hits(optest.JWKS); n != 2 {
		t.Errorf("%d key sets fetched, want 2", n)
	}
	s.refuses(old, 401, "unknown_key") // cached or not, it falls with its key
	s.allows(other)
	// the same name for other key material is another key
	p.RemoveKey("es-1")
	p.AddKey(optest.NewKey(t, "ES256", "es-1"))
	s.allows(other) // nobody has noticed so far
	if n := p.Hits(optest.JWKS); n != 2 {
		t.Errorf("%d key sets fetched within the pause", n)
	}
}

func TestKeyOfTheSameNameIsAnotherKey(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	token := p.AccessToken(nil)
	s.allows(token)
	p.RemoveKey("rs-1")
	p.AddKey(optest.NewKey(t, "RS256", "rs-1"))
	p.AddKey(optest.NewKey(t, "ES256", "new"))
	s.allows(optest.Sign(p.Key("new"), nil, p.AccessClaims(nil))) // has the key set fetched
	s.refuses(token, 401, "bad_signature")
}

// While the provider cannot give its keys, those that are known go on.
func TestS088KnownKeysOutliveTrouble(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault optest.Fault
	}{
		{"500", optest.Fault{Status: 500}},
		{"404", optest.Fault{Status: 404}},
		{"HTML", optest.Fault{Body: []byte("<html></html>")}},
		{"an empty object", optest.Fault{Body: []byte("{}")}},
		{"no keys", optest.Fault{Body: []byte(`{"keys":[]}`)}},
		{"no usable keys", optest.Fault{Body: []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"},{"kty":"AKP"},null,1]}`)}},
		{"no answer", optest.Fault{Hang: true}},
		{"a closed connection", optest.Fault{Drop: true}},
		{"one byte and no more", optest.Fault{Drip: true}},
		{"a body without end", optest.Fault{Body: []byte(" "), Endless: true}},
		{"a redirect", optest.Fault{Redirect: "http://127.0.0.1:1/"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newBearerSite(t, p, "audience api\ntimeout 2s")
			cached, fresh := p.AccessToken(nil), p.AccessToken(nil)
			s.allows(cached)
			p.Fail(optest.JWKS, test.fault)
			s.refuses(optest.Sign(optest.NewKey(t, "ES256", "unknown"), nil, p.AccessClaims(nil)), 401, "unknown_key")
			p.WaitForHits(t, optest.JWKS, 2)
			s.allows(cached)
			s.allows(fresh)
		})
	}
}

// Without any keys there is nothing to judge by: 503, one call under way at a time, and recovery without help.
func TestS089NothingIsKnown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, endpoint, reason string
		fault                  optest.Fault
	}{
		{"no metadata", optest.Discovery, "discovery_failed", optest.Fault{Status: 500}},
		{"metadata is HTML", optest.Discovery, "discovery_failed", optest.Fault{Body: []byte("<html>")}},
		{"metadata has members twice", optest.Discovery, "discovery_failed", optest.Fault{Body: []byte(`{"issuer":"x","issuer":"y"}`)}},
		{"metadata without end", optest.Discovery, "discovery_failed", optest.Fault{Body: []byte(" "), Endless: true}},
		{"metadata redirects", optest.Discovery, "discovery_failed", optest.Fault{Redirect: "/jwks"}},
		{"no key set", optest.JWKS, "keys_unavailable", optest.Fault{Status: 500}},
		{"key set is HTML", optest.JWKS, "keys_unavailable", optest.Fault{Body: []byte("<html>")}},
		{"key set has no keys", optest.JWKS, "keys_unavailable", optest.Fault{Body: []byte(`{"keys":[]}`)}},
		{"key set redirects", optest.JWKS, "keys_unavailable", optest.Fault{Redirect: "/other"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newBearerSite(t, p, "audience api")
			p.Fail(test.endpoint, test.fault)
			token := p.AccessToken(nil)
			for range 20 {
				s.refuses(token, 503, test.reason)
			}
			if n := p.Hits(test.endpoint); n > 3 {
				t.Errorf("%d calls for 20 requests in a moment", n)
			}
			s.wantRefused(t, s.get("/"), 401, "no_credentials")
			failed := p.Hits(test.endpoint)
			p.Heal(test.endpoint)
			p.WaitForHits(t, optest.JWKS, 1)
			p.WaitForHits(t, test.endpoint, failed+1) // the handler asks again by itself
			waitUntil(t, func() bool { return s.bearer(token).StatusCode == http.StatusOK })
		})
	}
}

// S090: many first requests make one fetch, which belongs to none of them.
func TestS090FirstRequestsShareOneFetch(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\ntimeout 30s")
	release := make(chan struct{})
	p.Fail(optest.JWKS, optest.Fault{Wait: release})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	send := func(ctx context.Context) (int, error) {
		request := newRequest(t, http.MethodGet, s.server.URL, nil, "Authorization: Bearer "+p.AccessToken(nil))
		response, err := transport.RoundTrip(request.WithContext(ctx))
		if err != nil {
			return 0, err
		}
		io.Copy(io.Discard, response.Body)
		return response.StatusCode, response.Body.Close()
	}
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := send(ctx)
		left <- err
	}()
	p.WaitForHits(t, optest.JWKS, 1)
	var group sync.WaitGroup
	for range 300 {
		group.Go(func() {
			if status, err := send(t.Context()); err != nil || status != http.StatusOK {
				t.Errorf("got %d, %v", status, err)
			}
		})
	}
	leave() // the first one, whose request had the fetch started
	if err := <-left; err == nil {
		t.Error("the first client got an answer although it had left")
	}
	close(release)
	group.Wait()
	if d, k := p.Hits(optest.Discovery), p.Hits(optest.JWKS); d != 1 || k != 1 {
		t.Errorf("%d discoveries and %d key sets", d, k)
	}
}

// A key set is read key by key: one that we do not know of does not cost us the others (CVE-2026-42576).
func TestS091OneGoodKeyIsEnough(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	good := p.Key("rs-1")
	p.SetJWKS([]byte(`{"keys":[1,null,"x",[],{},{"kty":"AKP","alg":"ML-DSA-44","pub":"eA"},{"kty":"EC","crv":"P-999","x":"eA","y":"eA"},` +
		`{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"},{"kty":"RSA","n":"","e":"AQAB"},{"kty":"oct","k":"c2VjcmV0","kid":"rs-1"},` +
		`{"kty":"RSA","kid":"twice","kid":"twice"},` + jsonOf(t, good.JWK()) + `],"unknown":true}`))
	s := newBearerSite(t, p, "audience api")
	s.allows(p.AccessToken(nil))
	s.refuses(optest.HMAC("HS256", []byte("secret"), optest.Claims{"kid": "rs-1"}, p.AccessClaims(nil)), 401, "unsupported_algorithm")
	warned := s.logs.FilterMessageSnippet("cannot be used").Len()
	if warned != 11 {
		t.Errorf("%d keys were reported, want 11", warned)
	}
}

// A token without kid may be by any key that fits, and of two keys of one name either may be meant.
func TestS060ToS061NamesOfKeys(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	second := optest.NewKey(t, "RS256", "rs-1") // of the same name as the first
	ec := optest.NewKey(t, "ES256", "rs-1")
	p.AddKey(second)
	p.AddKey(ec)
	s := newBearerSite(t, p, "audience api")
	for _, key := range []*optest.Key{p.Key("rs-1"), second, ec, p.Key("es-1")} {
		s.allows(optest.Sign(key, nil, p.AccessClaims(nil)))
		s.allows(optest.Sign(key, optest.Claims{"kid": nil}, p.AccessClaims(nil)))
	}
	stranger := optest.NewKey(t, "RS256", "rs-1")
	s.refuses(optest.Sign(stranger, nil, p.AccessClaims(nil)), 401, "bad_signature")
	s.refuses(optest.Sign(stranger, optest.Claims{"kid": nil}, p.AccessClaims(nil)), 401, "bad_signature")
	s.refuses(optest.Sign(p.Key("rs-1"), optest.Claims{"kid": "es-1"}, p.AccessClaims(nil)), 401, "unsupported_algorithm")
	s.refuses(optest.Sign(p.Key("rs-1"), optest.Claims{"kid": "RS-1"}, p.AccessClaims(nil)), 401, "unknown_key")
}

// The metadata must speak for the very issuer that is configured (OpenID Connect Discovery section 4.3).
func TestS163MetadataOfAnotherIssuer(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, test := range []struct {
		name   string
		issuer any
		reason string
	}{
		{"another host", "https://evil.example", "discovery_issuer_mismatch"},
		{"a slash", p.Issuer() + "/", "discovery_issuer_mismatch"},
		{"capital letters", strings.ToUpper(p.Issuer()), "discovery_issuer_mismatch"},
		{"https", strings.Replace(p.Issuer(), "http:", "https:", 1), "discovery_issuer_mismatch"},
		{"missing", nil, "discovery_issuer_mismatch"},
		{"a list", []string{p.Issuer()}, "discovery_issuer_mismatch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.SetMetadata(func(m map[string]any) { m["issuer"] = test.issuer })
			defer p.SetMetadata(nil)
			before := p.Hits(optest.JWKS)
			s := newBearerSite(t, p, "audience api")
			s.refuses(p.AccessToken(nil), 503, test.reason)
			s.refuses(p.AccessToken(optest.Claims{"iss": "https://evil.example"}), 401, "wrong_issuer")
			if n := p.Hits(optest.JWKS) - before; n != 0 {
				t.Errorf("%d key sets fetched on the word of a stranger", n)
			}
		})
	}
	newBearerSite(t, p, "audience api").allows(p.AccessToken(nil))
}
