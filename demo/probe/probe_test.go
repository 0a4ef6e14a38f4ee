package probe

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/upstream"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status    int
		challenge string
		want      string
	}{
		{200, "", "200"},
		{401, `Bearer realm="api"`, "401"},
		{401, `Bearer realm="api", error="invalid_token", error_description="expired"`, "401 invalid_token"},
		{403, `Bearer error="insufficient_scope", scope="a b"`, "403 insufficient_scope"},
		{401, `Bearer realm="api", error_description="error=x"`, "401"},
		{401, "", "401 without a Bearer challenge"},
		{401, `Basic realm="api"`, "401 without a Bearer challenge"},
		{503, "", "503"},
	} {
		a := Answer{Status: test.status, Header: http.Header{}}
		if test.challenge != "" {
			a.Header.Set("WWW-Authenticate", test.challenge)
		}
		if got := a.Outcome(); got != test.want {
			t.Errorf("%d with %q: got %q, want %q", test.status, test.challenge, got, test.want)
		}
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"reason":"expired","request_id":"1"}`: "expired",
		`{"reason":"expired"}`:                  "expired without a request_id",
	} {
		if got := (&Answer{Body: []byte(body)}).Reason(); got != want {
			t.Errorf("%s: got %q, want %q", body, got, want)
		}
	}
	if got := (&Answer{Body: []byte("<html>")}).Reason(); !strings.HasPrefix(got, "no JSON: ") {
		t.Errorf("a page: got %q", got)
	}
}

func TestUpstream(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(new(upstream.Handler))
	t.Cleanup(server.Close)
	a, err := Request{
		Address: server.Listener.Addr().String(),
		Path:    "/",
		Token:   "t",
		Header: http.Header{
			"X-Userinfo": {base64.StdEncoding.EncodeToString([]byte(`{"sub":"alice"}`))},
			"X-Twice":    {"1", "2"},
		},
	}.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Claim("sub"); got != "alice" {
		t.Errorf("sub = %q", got)
	}
	if got := a.UpstreamHeader("Authorization"); got != "Bearer t" {
		t.Errorf("Authorization = %q", got)
	}
	if got := a.UpstreamHeader("X-Twice"); got != "received 2 times" {
		t.Errorf("X-Twice = %q", got)
	}
}
