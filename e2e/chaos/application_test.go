package main

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestApplication takes what the gateway tells of a machine, and notices each thing that it would not tell.
func TestApplication(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		path   string
		change func(*http.Request)
		fine   bool
	}{
		{"as it should be", "/api", func(*http.Request) {}, true},
		{"as it should be, of what is open", "/open/a", func(*http.Request) {}, true},
		{"nobody, of what is open", "/open/a", func(r *http.Request) { r.Header = make(http.Header) }, true},
		{"somebody else's cookie", "/api", func(r *http.Request) { r.Header.Set("Cookie", "oidc-other=1; a=b") }, true},
		{"nobody", "/api", func(r *http.Request) { r.Header = make(http.Header) }, false},
		{"forged, of what is open", "/open/a", func(r *http.Request) { r.Header = http.Header{"X_subject": {forged}} }, false},
		{"forged beside it", "/api", func(r *http.Request) { r.Header["X_userinfo"] = []string{forged} }, false},
		{"forged and never sent", "/api", func(r *http.Request) { r.Header.Set("X-Refresh-Token", forged) }, false},
		{"forged in the trailer", "/api", func(r *http.Request) { r.Trailer = http.Header{"X.subject": {forged}} }, false},
		{"twice", "/api", func(r *http.Request) { r.Header.Add("X-Subject", "machine") }, false},
		{"two people", "/api", func(r *http.Request) { r.Header.Set("X-Subject", "other") }, false},
		{"somebody else's token", "/api", func(r *http.Request) { r.Header.Set("X-Access-Token", "token of other") }, false},
		{"a token of nobody", "/api", func(r *http.Request) { r.Header.Set("X-Access-Token", "unknown") }, false},
		{"a session cookie", "/api", func(r *http.Request) { r.Header.Set("Cookie", "a=b; oidc-0123ab.1=x") }, false},
		{"a login's cookie", "/api", func(r *http.Request) { r.Header.Set("Cookie", "__Host-oidc-0123ab-t-abcdefgh27=x") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tally := newTally()
			a := startApplication(tally)
			defer a.close()
			a.machines.Store("token", "machine")
			a.machines.Store("token of other", "other")
			r := httptest.NewRequest(http.MethodGet, test.path, nil)
			r.Header = http.Header{
				"X-Userinfo": {base64.StdEncoding.EncodeToString([]byte(`{"sub":"machine"}`))}, "X-Access-Token": {"token"}, "X-Subject": {"machine"},
			}
			test.change(r)
			a.ServeHTTP(httptest.NewRecorder(), r)
			if (tally.violations == 0) != test.fine {
				t.Errorf("violations: %q, want fine: %t", tally.told, test.fine)
			}
		})
	}
}
