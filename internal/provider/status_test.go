package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The life of a provider as an operator sees it: nobody asked, down, up, renewed, down again with what is known, recovered, closed.
func TestStatus(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		want := Status{Issuer: memoryIssuer}
		check := func(when string) {
			t.Helper()
			synctest.Wait()
			if got := p.Status(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s:\n%+v, want\n%+v", when, got, want)
			}
		}
		planned := func() { t.Helper(); synctest.Wait(); want.NextFetch = nextOf(t, p) }
		check("before anything")

		good := op.jwks
		op.set(&op.jwks, answer(http.StatusInternalServerError, "quoted"))
		if _, err := p.Keys(t.Context()); err == nil {
			t.Fatal("no error")
		}
		want.Asked, want.MetadataFetched, want.LastErrorAt = true, time.Now(), time.Now()
		want.LastError = "no keys: the jwks endpoint " + memoryIssuer + "/jwks answered with status 500"
		want.Endpoints = Endpoints{
			Token: memoryIssuer + "/token", Introspection: memoryIssuer + "/introspect", Userinfo: memoryIssuer + "/userinfo",
			JWKSURI: memoryIssuer + "/jwks", Revocation: memoryIssuer + "/revoke",
		}
		planned()
		check("without keys")
		if after := time.Until(want.NextFetch); after < minPause || after > 2*minPause {
			t.Errorf("the next attempt is %v away", after)
		}

		op.set(&op.jwks, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second) // long enough to look at it
			good(w, r)
		})
		time.Sleep(time.Until(want.NextFetch))
		want.NextFetch = time.Time{}
		check("during an attempt")
		time.Sleep(time.Second)
		want.Up, want.KeysFetched = true, time.Now()
		want.Keys = []KeyStatus{{ID: "e1", Type: "EC", Algorithm: "ES256", Curve: "P-256"}}
		want.NextFetch = want.MetadataFetched.Add(metadataLifetime)
		check("up, the error remembered")

		op.set(&op.jwks, good)
		time.Sleep(time.Until(want.NextFetch))
		want.MetadataFetched = time.Now()
		want.NextFetch = time.Now().Add(metadataLifetime)
		check("after the metadata were renewed")

		op.set(&op.discovery, answer(http.StatusOK, `{"issuer":"http://other.example"}`))
		time.Sleep(time.Until(want.NextFetch))
		want.Up, want.LastErrorAt = false, time.Now()
		want.LastError = `the metadata is of another issuer: expected issuer "` + memoryIssuer + `", got "http://other.example"`
		planned()
		check("down, with what is known")

		op.set(&op.discovery, answer(http.StatusOK, metadataOf(nil)))
		time.Sleep(time.Until(want.NextFetch))
		want.Up, want.MetadataFetched, want.NextFetch = true, time.Now(), time.Now().Add(metadataLifetime)
		check("recovered")

		time.Sleep(time.Minute)
		op.set(&op.jwks, withCacheControl("", optest.NewKey(t, "RS256", "r1"), optest.NewKey(t, "ES384", "e2")))
		p.RenewKeys(t.Context(), p.KnownKeys())
		want.KeysFetched = time.Now()
		want.Keys = []KeyStatus{{ID: "r1", Type: "RSA", Algorithm: "RS256"}, {ID: "e2", Type: "EC", Algorithm: "ES384", Curve: "P-384"}}
		check("with other keys")

		op.set(&op.jwks, hang)
		time.Sleep(forcedInterval)
		p.RenewKeys(t.Context(), p.KnownKeys())
		want.Up, want.LastErrorAt = false, time.Now()
		want.LastError = p.Status().LastError
		if !strings.HasPrefix(want.LastError, "no keys: calling the jwks endpoint: ") {
			t.Errorf("last error %q", want.LastError)
		}
		planned()
		check("the keys hang")

		p.Close()
		want.NextFetch = time.Time{}
		check("closed")
		p.Status().Keys[0].ID = "changed by its reader"
		check("read again")
	})
}

// nextOf returns the time of the next planned fetch, which must be there.
func nextOf(t *testing.T, p *Provider) time.Time {
	t.Helper()
	next := p.Status().NextFetch
	if !next.After(time.Now()) {
		t.Errorf("the next fetch is at %v", next)
	}
	return next
}

// Every kind of key is described; what is not usable is not among them, and a key without name or algorithm says so.
func TestStatusKeys(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		var members []string
		for _, algorithm := range []string{"RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
			set := string(optest.KeySet(optest.NewKey(t, algorithm, "key "+algorithm)))
			members = append(members, strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(set), `{"keys":[`), `]}`))
		}
		var bare map[string]any
		if err := json.Unmarshal([]byte(members[2]), &bare); err != nil {
			t.Fatal(err)
		}
		delete(bare, "kid")
		delete(bare, "alg")
		text, err := json.Marshal(bare)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, `{"kty":"oct","k":"c2VjcmV0c2VjcmV0","kid":"secret"}`, string(text))
		op.set(&op.jwks, answer(http.StatusOK, `{"keys":[`+strings.Join(members, ",")+`]}`))
		if _, err := p.Keys(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []KeyStatus{
			{"key RS256", "RSA", "RS256", ""},
			{"key PS512", "RSA", "PS512", ""},
			{"key ES256", "EC", "ES256", "P-256"},
			{"key ES384", "EC", "ES384", "P-384"},
			{"key ES512", "EC", "ES512", "P-521"},
			{"key EdDSA", "OKP", "EdDSA", "Ed25519"},
			{"", "EC", "", "P-256"},
		}
		if got := p.Status().Keys; !reflect.DeepEqual(got, want) {
			t.Errorf("keys\n%+v, want\n%+v", got, want)
		}
	})
}

// What is configured is known without asking anybody.
func TestStatusConfigured(t *testing.T) {
	t.Parallel()
	static, err := jose.ParsePEM([]byte(optest.NewKey(t, "ES256", "").PEM()))
	if err != nil {
		t.Fatal(err)
	}
	endpoints := Endpoints{Token: "https://op.example/token"}
	tests := map[string]struct {
		config Config
		want   Status
	}{
		"all": {
			Config{Issuer: "https://op.example", StaticKeys: static, Endpoints: endpoints},
			Status{Issuer: "https://op.example", Up: true, Endpoints: endpoints, Keys: []KeyStatus{{Type: "EC", Curve: "P-256"}}},
		},
		"without keys": {
			Config{Issuer: "https://op.example", Endpoints: Endpoints{JWKSURI: "https://op.example/jwks"}},
			Status{Issuer: "https://op.example", Endpoints: Endpoints{JWKSURI: "https://op.example/jwks"}},
		},
		"keys alone": {
			Config{Discovery: "https://op.example/metadata", StaticKeys: static, Endpoints: endpoints},
			Status{Endpoints: endpoints, Keys: []KeyStatus{{Type: "EC", Curve: "P-256"}}},
		},
	}
	for name, test := range tests {
		p := New(test.config)
		if got := p.Status(); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
		p.Close()
	}
	// with discovery alone, the issuer is what the document states
	op := optest.New(t)
	p := newProvider(t, op, func(c *Config) { c.Issuer, c.Discovery = "", op.Endpoint(optest.Discovery) })
	if _, err := p.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	settle(p)
	if got := p.Status(); got.Issuer != op.Issuer() || !got.Up || got.LastError != "" || !got.LastErrorAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

// A provider's text in an error is bounded and stays text.
func TestStatusLongError(t *testing.T) {
	t.Parallel()
	for _, letter := range []string{"x", "é", "日"} {
		inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
			op.set(&op.discovery, answer(http.StatusOK, fmt.Sprintf(`{"issuer":%q}`, "http://"+strings.Repeat(letter, maxFailureText))))
			if _, err := p.Metadata(t.Context()); err == nil {
				t.Fatal("no error")
			}
			synctest.Wait()
			text := p.Status().LastError
			if len(text) > maxFailureText+3 || len(text) < maxFailureText-3 || !utf8.ValidString(text) || !strings.HasSuffix(text, letter+"...") || !strings.HasPrefix(text, ErrIssuerMismatch.Error()) {
				t.Errorf("%d bytes: %.200s", len(text), text)
			}
		})
	}
}
