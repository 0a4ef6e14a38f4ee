package openidconnect

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// providers asks for all providers.
func (c *adminSite) providers() (list []providerStatus, body string) {
	c.t.Helper()
	r := c.ask(http.MethodGet, "/openid_connect/providers", "")
	if r.StatusCode != http.StatusOK {
		c.t.Fatalf("status %d: %s", r.StatusCode, r.body)
	}
	wantAdminHeaders(c.t, r)
	if err := json.Unmarshal([]byte(r.body), &list); err != nil {
		c.t.Fatalf("%v: %s", err, r.body)
	}
	return list, r.body
}

func TestAdminProviders(t *testing.T) {
	p, other := optest.New(t), optest.New(t)
	const secret = "swordfish-of-the-client"
	began := time.Now().Truncate(time.Second)
	c := startAdmin(t, "http://a.example:$PORT {\nbind 127.0.0.1\n"+
		"openid_connect "+p.Issuer()+" {\nclient_id web\nclient_secret "+secret+"\nsession {\nsecret \""+sessionSecret+"\"\n}\n}\n"+toUpstream+"}\n"+
		"http://b.example:$PORT {\nbind 127.0.0.1\n"+api(p, "client_id client\nclient_secret secret")+"}\n"+
		"http://c.example:$PORT {\nbind 127.0.0.1\n"+api(p, "")+"}\n"+
		"http://d.example:$PORT {\nbind 127.0.0.1\n"+api(other, "jwks_uri "+other.Endpoint(optest.JWKS)+"?key="+secret)+"}\n")
	var list []providerStatus
	var body string
	waitUntil(t, func() bool {
		list, body = c.providers()
		return len(list) == 2 && list[0].State == stateUp && list[1].State == stateUp
	})
	if list[0].Issuer != p.Issuer() {
		list[0], list[1] = list[1], list[0]
	}
	got, second := list[0], list[1]
	if again, _ := c.providers(); again[0].Issuer >= again[1].Issuer {
		t.Error("the order is not that of the issuers")
	}
	for name, at := range map[string]time.Time{"metadata_fetched": got.MetadataFetched, "keys_fetched": got.KeysFetched} {
		if at.Before(began) || at.After(time.Now()) {
			t.Errorf("%s %v", name, at)
		}
	}
	if !got.NextFetch.After(time.Now()) {
		t.Errorf("next_fetch %v", got.NextFetch)
	}
	if got.LastError != "" || !got.LastErrorAt.IsZero() || strings.Contains(body, "last_error") {
		t.Errorf("last_error %q at %v", got.LastError, got.LastErrorAt)
	}
	if !reflect.DeepEqual(got.ClientIDs, []string{"client", "web"}) || !reflect.DeepEqual(got.SessionStorage, []string{"cookie"}) {
		t.Errorf("client_ids %q, session_storage %q", got.ClientIDs, got.SessionStorage)
	}
	if second.ClientIDs == nil || len(second.ClientIDs) != 0 || second.SessionStorage == nil || len(second.SessionStorage) != 0 {
		t.Errorf("of bearer tokens alone: client_ids %q, session_storage %q", second.ClientIDs, second.SessionStorage)
	}
	if want := []keyStatus{{"rs-1", "RSA", "RS256", ""}, {"es-1", "EC", "ES256", "P-256"}}; !reflect.DeepEqual(got.Keys, want) {
		t.Errorf("keys %v, want %v", got.Keys, want)
	}
	if got.Endpoints["token_endpoint"] != p.Endpoint(optest.Token) || got.Endpoints["jwks_uri"] != p.Endpoint(optest.JWKS) {
		t.Errorf("endpoints %v", got.Endpoints)
	}
	if want := other.Endpoint(optest.JWKS) + "?..."; second.Endpoints["jwks_uri"] != want {
		t.Errorf("jwks_uri %q, want %q", second.Endpoints["jwks_uri"], want)
	}
	if got.Caches != (cacheStatus{}) {
		t.Errorf("caches %+v before anything has happened", got.Caches)
	}

	// what has happened is counted, and what is shared is counted once
	jwt, opaque := p.AccessToken(nil), p.OpaqueToken(p.AccessClaims(nil))
	send := func(host string, headers ...string) {
		t.Helper()
		request := newRequest(t, http.MethodGet, c.url("/"), nil, headers...)
		request.Host = host
		if r := roundTrip(t, http.DefaultTransport, request); r.StatusCode != http.StatusOK {
			t.Fatalf("status %d: %s", r.StatusCode, r.body)
		}
	}
	send("b.example", "Authorization: Bearer "+jwt)
	send("c.example", "Authorization: Bearer "+jwt)
	send("b.example", "Authorization: Bearer "+opaque)
	if c.post("/openid_connect/revoke", map[string]any{"sub": "bob", "issuer": p.Issuer()}, 200)["count"] != 1.0 {
		t.Error("nothing was revoked")
	}
	list, body = c.providers()
	for _, entry := range list {
		want := cacheStatus{}
		if entry.Issuer == p.Issuer() {
			want = cacheStatus{Tokens: 1, Introspections: 1, Revocations: 1}
		}
		if entry.Caches != want {
			t.Errorf("caches %+v, want %+v", entry.Caches, want)
		}
	}
	for _, hidden := range append(p.Issued(), secret, sessionSecret, "bob") {
		if strings.Contains(body, hidden) {
			t.Errorf("%s is shown: %s", hidden, body)
		}
	}
}

// A provider that fails is shown as it is, and so is one that has failed.
func TestAdminProviderTrouble(t *testing.T) {
	p := optest.New(t)
	p.Fail(optest.Discovery, optest.Fault{Status: http.StatusInternalServerError})
	c := startAdmin(t, api(p, "timeout 2s"))
	state := func(state string) (found providerStatus, body string) {
		t.Helper()
		waitUntil(t, func() bool {
			var list []providerStatus
			if list, body = c.providers(); len(list) != 1 {
				t.Fatal(body)
			}
			found = list[0]
			return found.State == state
		})
		return found, body
	}
	down, body := state(stateDown)
	if !strings.Contains(down.LastError, "500") || time.Since(down.LastErrorAt) > time.Minute {
		t.Errorf("last_error %q at %v", down.LastError, down.LastErrorAt)
	}
	if down.Issuer != p.Issuer() || len(down.Keys) != 0 || strings.Contains(body, "keys_fetched") || strings.Contains(body, "metadata_fetched") {
		t.Errorf("%s", body)
	}
	if !strings.Contains(body, `"keys": []`) || !strings.Contains(body, `"endpoints": {}`) {
		t.Errorf("what is empty is missing: %s", body)
	}
	p.Heal(optest.Discovery)
	if up, _ := state(stateUp); up.LastError != down.LastError || up.LastErrorAt.Before(down.LastErrorAt) || len(up.Keys) == 0 {
		t.Errorf("recovered: %+v", up)
	}
}

// A provider that nobody has asked yet is neither up nor down.
func TestProviderOfWhichNothingIsKnown(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	if list := statusOfProviders([]*Handler{s.handler}); len(list) != 1 || list[0].State != stateUnknown || list[0].Issuer != p.Issuer() {
		t.Errorf("%+v", list)
	}
	if n := p.Hits(optest.Discovery); n != 0 {
		t.Errorf("%d calls", n)
	}
	if list := statusOfProviders(nil); list == nil || len(list) != 0 {
		t.Errorf("%+v", list)
	}
}
