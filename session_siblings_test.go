package openidconnect

import (
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What other handlers of the host keep in a browser is no upstream's business, whichever handler a request meets.
func TestSessionsOfOtherHandlersStayWithUs(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	api := newBearerSite(t, p, "audience api")
	app := newLoginSite(t, p, "unauth_action pass")
	const foreign = "sid=1; oidc-abc=2; oidc-abcdef1=3; my-oidc-abcdef=4; oidc-abcdefg=5; oidc-abcdef-t-short=6"
	const ours = "; oidc-abcdef=a; __Host-oidc-abcdef=b; __Secure-oidc-012345.1=c; oidc-abcdef-t-abcdefghij=d; __Host-oidc-abcdef-loop=e"
	for name, s := range map[string]*site{"bearer_only": api, "login": app} {
		headers := []string{"Cookie: " + foreign + ours}
		if s == api {
			headers = append(headers, "Authorization: Bearer "+p.AccessToken(nil))
		}
		s.get("/", headers...)
		if got := s.last(t).Header.Get("Cookie"); got != foreign {
			t.Errorf("%s: the upstream got %q, want %q", name, got, foreign)
		}
	}
}

// A handler within a bearer_only one still finds the session.
func TestSessionWithinABearerHandler(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webappSites(p))
	b := optest.NewBrowser(t)
	landed := b.Navigate("http://" + c.address + "/page")
	if landed.Status != 200 || len(landed.Steps) != 4 {
		t.Errorf("landed on %s with %d after %d steps", landed.URL, landed.Status, len(landed.Steps))
	}
}

// webappSites is a login within a handler that lets everybody pass.
func webappSites(p *optest.Provider) string {
	return `route {
		openid_connect ` + p.Issuer() + ` {
			bearer_only
			audience api
			unauth_action pass
		}
		route {
			openid_connect ` + p.Issuer() + ` {
				client_id client
				client_secret secret
			}
			respond "inside"
		}
	}`
}
