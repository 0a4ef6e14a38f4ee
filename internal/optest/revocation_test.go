package optest

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func revocation(token string, pairs ...string) url.Values {
	values := url.Values{"token": {token}, "client_id": {"client"}, "client_secret": {"secret"}}
	for i := 0; i < len(pairs); i += 2 {
		if values.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values
}

func TestRevocation(t *testing.T) {
	t.Parallel()
	p := New(t, WithRevocation(), WithIssuerPath("/realms/demo"))
	p.SetRefreshTokens(true)
	if got := p.Metadata(); got["revocation_endpoint"] != p.Endpoint(Revocation) || got["revocation_endpoint_auth_methods_supported"] == nil {
		t.Errorf("metadata = %v", got)
	}
	b := newTestBrowser(t, p)
	revoke := func(token string, pairs ...string) int {
		return b.Post(p.Endpoint(Revocation), revocation(token, pairs...)).Status
	}
	first, second := signIn(t, p), signIn(t, p)
	renewed := renew(t, p, refreshToken(first))
	if status := revoke(refreshToken(renewed), "token_type_hint", "refresh_token"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	refuse(t, p, refreshToken(renewed))
	third := renew(t, p, refreshToken(second)) // of another login
	access := third["access_token"].(string)
	if introspect(t, p, access)["active"] != true {
		t.Error("the access token of another login is revoked")
	}
	// A wrong hint is no more than that.
	if status := revoke(access, "token_type_hint", "refresh_token"); status != http.StatusOK || introspect(t, p, access)["active"] != false {
		t.Errorf("access token: status %d", status)
	}
	if status := revoke("unknown"); status != http.StatusOK {
		t.Errorf("unknown token: status %d", status)
	}
	// A spent one names its login as well as the newest does.
	if status := revoke(refreshToken(second)); status != http.StatusOK {
		t.Errorf("spent token: status %d", status)
	}
	refuse(t, p, refreshToken(third))

	got := p.Revocations()
	if len(got) != 4 || got[0].Token != refreshToken(renewed) || got[0].Hint != "refresh_token" || got[1].Token != access ||
		got[2].Hint != "" || got[2].Token != "unknown" || got[0].Form.Get("client_id") != "client" || got[0].Header.Get("Content-Type") == "" {
		t.Errorf("revocations = %+v", got)
	}
	if !slices.Contains(p.Issued(), access) || slices.Contains(p.Issued(), "unknown") {
		t.Error("received tokens are not secrets, or every word is one")
	}
}

func TestRevocationRefuses(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRevocation(true)
	p.SetRefreshTokens(true)
	token := refreshToken(signIn(t, p))
	twice := revocation(token)
	twice.Add("token", "another")
	tests := map[string]struct {
		form   url.Values
		status int
	}{
		"secret":    {revocation(token, "client_secret", "guess"), 401},
		"no client": {revocation(token, "client_id", "", "client_secret", ""), 401},
		"client_id": {revocation(token, "client_secret", ""), 401},
		"no token":  {revocation(""), 400},
		"twice":     {twice, 400},
	}
	b := newTestBrowser(t, p)
	for name, test := range tests {
		if r := b.Post(p.Endpoint(Revocation), test.form); r.Status != test.status {
			t.Errorf("%s: status %d: %s", name, r.Status, r.Body)
		}
	}
	if r := b.Get(p.Endpoint(Revocation) + "?" + revocation(token).Encode()); r.Status != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", r.Status)
	}
	// A fault answers instead, and nothing is revoked.
	p.Fail(Revocation, Fault{Status: 400, Body: []byte(`{"error":"unsupported_token_type"}`), Times: 1})
	if r := b.Post(p.Endpoint(Revocation), revocation(token)); r.Status != 400 || r.Body != `{"error":"unsupported_token_type"}` {
		t.Errorf("fault: status %d: %s", r.Status, r.Body)
	}
	if p.Hits(Revocation) != len(tests)+2 || len(p.Revocations()) != len(tests)+2 {
		t.Errorf("%d requests", p.Hits(Revocation))
	}
	token = refreshToken(renew(t, p, token))
	if r := b.Post(p.Endpoint(Revocation), revocation(token)); r.Status != http.StatusOK {
		t.Errorf("status %d: %s", r.Status, r.Body)
	}
	refuse(t, p, token)
	p.SetRevocation(false)
	if r := b.Post(p.Endpoint(Revocation), revocation(token)); r.Status != http.StatusNotFound {
		t.Errorf("without the endpoint: status %d", r.Status)
	}
}

func TestRevocationByPublicClient(t *testing.T) {
	t.Parallel()
	p := New(t, WithRevocation())
	p.SetPublicClient("app")
	if got := p.Metadata()["revocation_endpoint_auth_methods_supported"]; !slices.Equal(got.([]string), []string{"none"}) {
		t.Errorf("methods = %v", got)
	}
	b := newTestBrowser(t, p)
	for client, want := range map[string]int{"app": 200, "other": 401} {
		if r := b.Post(p.Endpoint(Revocation), url.Values{"token": {"unknown"}, "client_id": {client}}); r.Status != want {
			t.Errorf("%s: status %d", client, r.Status)
		}
	}
}
