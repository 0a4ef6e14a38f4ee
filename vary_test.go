package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Caches are told what an answer depends on, and what the upstream says of that stays (S-232).
func TestS232Vary(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ settings, want string }{
		{"", "Authorization, Cookie"},
		{"ignore_bearer", "Cookie"},
		{"bearer_token_from header x-token", "Authorization, X-Token, Cookie"},
		{"audience api\nbearer_only", "Authorization"},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			s := newSite(t, "issuer "+p.Issuer()+"\nclient_id client\nclient_secret secret\n"+test.settings)
			token := "Authorization: Bearer " + p.AccessToken(optest.Claims{"aud": []string{"api", "client"}})
			for _, upstream := range [][]string{nil, {"Accept-Encoding"}, {"Accept-Encoding", "Origin"}, {"*"}, {test.want}} {
				s.answer(func(w http.ResponseWriter, _ *http.Request) { w.Header()["Vary"] = slices.Clone(upstream) })
				want := append(slices.Clone(upstream), test.want)
				if slices.Contains(upstream, "*") || slices.Contains(upstream, test.want) {
					want = upstream
				}
				if strings.Contains(test.settings, "ignore_bearer") {
					continue
				}
				if got := s.get("/", token); got.StatusCode != http.StatusOK || !slices.Equal(got.Header["Vary"], want) {
					t.Errorf("of %q: got %d and %q, want %q", upstream, got.StatusCode, got.Header["Vary"], want)
				}
			}
			if strings.Contains(test.settings, "bearer_only") {
				open := newSite(t, "issuer "+p.Issuer()+"\nunauth_action pass\n"+test.settings)
				if got := open.get("/"); got.StatusCode != http.StatusOK || !slices.Equal(got.Header["Vary"], []string{test.want}) {
					t.Errorf("passed on: got %d and %q, want %q", got.StatusCode, got.Header["Vary"], test.want)
				}
			}
			for _, accept := range []string{"text/html", "application/json"} {
				if got := s.get("/", "Accept: "+accept); got.StatusCode == http.StatusOK || !slices.Equal(got.Header["Vary"], []string{test.want}) {
					t.Errorf("%s: got %d and %q, want %q", accept, got.StatusCode, got.Header["Vary"], test.want)
				}
			}
		})
	}
}

// Where handlers nest, an answer depends on what each of them looks at.
func TestS232VaryOfNestedHandlers(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "http://127.0.0.1:$PORT {\nbind 127.0.0.1\n"+api(p, "bearer_token_from header X-Outer")+
		"handle {\n"+api(p, "bearer_token_from header X-Inner")+"respond ok\n}\n}")
	got := c.get("/", "Authorization: Bearer "+p.AccessToken(nil))
	if got.StatusCode != http.StatusOK {
		t.Fatalf("got %d", got.StatusCode)
	}
	vary := strings.Join(got.Header["Vary"], ", ")
	for _, name := range []string{"Authorization", "X-Outer", "X-Inner"} {
		if !strings.Contains(vary, name) {
			t.Errorf("%s is not in %q", name, vary)
		}
	}
}
