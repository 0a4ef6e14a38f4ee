package openidconnect

import (
	"encoding/base64"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A token that is bound to a key or certificate is no bearer token (RFC 9449 section 7.2, RFC 8705 section 3).
func TestS252BoundTokensAreNoBearerTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret secret")
	s.allows(p.AccessToken(nil))
	s.allows(p.OpaqueToken(p.AccessClaims(nil)))
	for _, confirmation := range []any{
		map[string]any{"jkt": "thumbprint"},
		map[string]any{"x5t#S256": "thumbprint"},
		map[string]any{"jwk": map[string]any{}},
		map[string]any{"jkt": "thumbprint", "x5t#S256": "thumbprint"},
		map[string]any{"kid": "x"},
		map[string]any{},
		"jkt", jsonNull,
		[]string{"jkt"},
	} {
		for range 2 {
			s.refuses(p.AccessToken(optest.Claims{"cnf": confirmation}), 401, "unbound")
			s.refuses(p.OpaqueToken(p.AccessClaims(optest.Claims{"cnf": confirmation})), 401, "unbound")
		}
	}
}

func TestS259TokensBoundToACertificate(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	mine, other := optest.NewCertificate(t, nil), optest.NewCertificate(t, nil)
	start := func(settings string) *site {
		h, err := parse("issuer " + p.Issuer() + "\nbearer_only\naudience api\n" + settings)
		if err != nil {
			t.Fatal(err)
		}
		return startTLSSite(t, h)
	}
	bound := p.AccessToken(optest.Claims{"cnf": map[string]any{"x5t#S256": certificateThumbprint(mine)}})
	free := p.AccessToken(nil)
	both := p.AccessToken(optest.Claims{"cnf": map[string]any{"x5t#S256": certificateThumbprint(mine), "jkt": "x"}})

	auto, required, off := start(""), start("mtls_bound required"), start("mtls_bound off")
	for range 2 { // the second time the tokens are in the cache
		auto.wantAllowed(t, auto.with(mine, bound))
		auto.wantAllowed(t, auto.with(other, free))
		auto.wantAllowed(t, auto.with(none, free))
		auto.wantRefused(t, auto.with(none, bound), 401, "unbound")
		auto.wantRefused(t, auto.with(other, bound), 401, "unbound")
		auto.wantRefused(t, auto.with(mine, both), 401, "unbound")

		required.wantAllowed(t, required.with(mine, bound))
		required.wantRefused(t, required.with(mine, free), 401, "unbound")
		required.wantRefused(t, required.with(none, bound), 401, "unbound")

		off.wantAllowed(t, off.with(none, bound))
		off.wantAllowed(t, off.with(none, free))
	}
	pemText := base64.StdEncoding.EncodeToString(mine.Certificate[0])
	for _, header := range []string{"X-Client-Cert", "Client-Cert", "X-Forwarded-Client-Cert", "Ssl-Client-Cert", "X-Ssl-Cert"} {
		auto.wantRefused(t, auto.with(none, bound, header+": "+pemText), 401, "unbound")
	}
}
