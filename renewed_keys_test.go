package openidconnect

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// newKeysRenewer is somebody at a site whose X-Groups shows whether a renewed ID token was used.
func newKeysRenewer(t *testing.T, p *optest.Provider, settings string) *renewer {
	t.Helper()
	p.SetUser(optest.Claims{"groups": "login"})
	return newRenewer(t, p, "claim_header X-Groups groups\nset_access_token_header\nuserinfo off\n"+settings)
}

// wantRenewed renews, with other groups at the provider, and checks whether the ID token was used.
func (r *renewer) wantRenewed(used bool) {
	r.t.Helper()
	before := r.upstream.last(r.t).Header.Get("X-Groups")
	now := before + "+"
	r.provider.SetUser(optest.Claims{"groups": now})
	header := r.renew().Header
	switch got := header.Get("X-Groups"); {
	case used && got != now:
		r.t.Errorf("groups %q, want those of the renewed ID token, %q", got, now)
	case !used && got != before:
		r.t.Errorf("groups %q, want those of before, %q", got, before)
	}
	if header.Get("X-Access-Token") != r.tokens["access_token"] {
		r.t.Error("not the new access token")
	}
}

// A provider may have new keys by the time that it renews.
func TestRenewalWithNewKeys(t *testing.T) {
	t.Parallel()
	t.Run("rotated", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		r := newKeysRenewer(t, p, "")
		fetched := p.Hits(optest.JWKS)
		p.Rotate(t)
		r.wantRenewed(true)
		r.wantRenewed(true)
		if n := p.Hits(optest.JWKS) - fetched; n != 1 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
	t.Run("rotated, and no keys to be had", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		r := newKeysRenewer(t, p, "")
		p.Rotate(t)
		p.Fail(optest.JWKS, optest.Fault{Status: http.StatusServiceUnavailable})
		r.wantRenewed(false)
		r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "unknown_key"})
	})
	t.Run("not rotated, and no keys to be had", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		r := newKeysRenewer(t, p, "")
		fetched := p.Hits(optest.JWKS)
		p.Fail(optest.JWKS, optest.Fault{Status: http.StatusServiceUnavailable})
		r.wantRenewed(true)
		r.wantRenewed(true)
		if n := p.Hits(optest.JWKS) - fetched; n != 0 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
	t.Run("the key of the login, which is published no more", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		r := newKeysRenewer(t, p, "")
		old := p.Key("rs-1")
		p.Rotate(t)
		r.wantRenewed(true)
		p.SetSigningKey(old)
		r.wantRenewed(false)
		r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "unknown_key"})
	})
	t.Run("another key of the same name", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		r := newKeysRenewer(t, p, "")
		p.SetSigningKey(optest.NewKey(t, "RS256", "rs-1"))
		r.wantRenewed(false)
		r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "bad_signature"})
	})
	t.Run("given by hand", func(t *testing.T) {
		t.Parallel()
		p := optest.New(t)
		r := newKeysRenewer(t, p, "public_key `"+p.Key("rs-1").PEM()+"`")
		r.wantRenewed(true)
		p.Rotate(t)
		r.wantRenewed(false)
		if n := p.Hits(optest.JWKS); n != 0 {
			t.Errorf("the keys were fetched %d times", n)
		}
	})
}

// A process that has just started knows no keys; a session of the one before it is renewed all the same, and gets its claims when they are
// there.
func TestRenewalAfterARestart(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	r := newKeysRenewer(t, p, "")
	p.Fail(optest.JWKS, optest.Fault{Status: http.StatusServiceUnavailable})
	restarted := newLoginSite(t, p, withinProcess+"\nclaim_header X-Groups groups\nset_access_token_header\nuserinfo off\ntimeout 6s")
	restarted.setNow(r.now())
	later := &renewer{visitor: r.at(restarted), tokens: r.tokens}
	p.SetUser(optest.Claims{"groups": "new"})
	header := later.renew().Header
	if got := header.Get("X-Groups"); got != "login" || header.Get("X-Access-Token") != r.tokens["access_token"] {
		t.Errorf("groups %q without keys", got)
	}
	restarted.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": "keys_unavailable"})

	p.Fail(optest.Discovery, optest.Fault{Status: http.StatusServiceUnavailable})
	third := newLoginSite(t, p, withinProcess+"\nclaim_header X-Groups groups\nset_access_token_header\nuserinfo off\ntimeout 7s")
	third.setNow(later.now())
	last := &renewer{visitor: later.at(third), tokens: r.tokens}
	last.expire()
	attempts := p.RefreshAttempts()
	refused := last.Get(last.url("/"), "Accept: application/json")
	last.wantReason(refused, http.StatusServiceUnavailable, "refresh_unavailable")
	if n := p.RefreshAttempts() - attempts; n != 0 {
		t.Errorf("%d requests to an unknown endpoint", n)
	}
}

// HS256 is by the client secret, at a renewal too.
func TestRenewalWithHS256(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const secret = "a client secret of more than 32 bytes"
	p.SetIntrospectionClient("client", secret)
	by := func(key string) func(optest.Claims) string {
		return func(claims optest.Claims) string { return optest.HMAC("HS256", []byte(key), nil, claims) }
	}
	p.SetIDTokenSigner(by(secret))
	r := newKeysRenewer(t, p, "client_secret `"+secret+"`\nid_token_signed_response_alg HS256")
	r.wantRenewed(true)
	for reason, sign := range map[string]func(optest.Claims) string{
		"bad_signature":         by(strings.ToUpper(secret)),
		"unsupported_algorithm": nil, // RS256, by the provider's key
	} {
		p.SetIDTokenSigner(sign)
		r.wantRenewed(false)
		r.site.logged(zapcore.WarnLevel, unusedIDToken, map[string]string{"reason": reason})
	}
	p.SetIDTokenSigner(by(secret))
	r.wantRenewed(true)
	if n := p.Hits(optest.JWKS); n > 1 { // once for bearer tokens
		t.Errorf("the keys were fetched %d times", n)
	}
}

// The tenant of the login is the one that renews it, whatever others are allowed to log in.
func TestRenewalOfTenants(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const ours, partner, foreign = "9188040d-6c67-4c5b-b112-36a304b66dad", "2c9e5a70-93fe-4d0a-9b3e-6d2f3e4a5b6c", "72f988bf-86f1-41af-91ab-2d7cd011db47"
	p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
	at := func(tenant string) string { return p.URL() + "/" + tenant + "/v2.0" }
	from := func(set func(func(optest.Claims)), issuer, tid any) {
		set(func(claims optest.Claims) {
			if claims["iss"], claims["tid"] = issuer, tid; tid == nil {
				delete(claims, "tid")
			}
		})
	}
	for _, test := range []struct {
		name     string
		iss, tid any
		used     bool
		expected string // of the line that tells of the session's end; empty: it does not end
	}{
		{"the same", at(ours), ours, true, ""},
		{"no tid", at(ours), nil, false, ""},
		{"the tid of a partner", at(ours), partner, false, ""},
		{"the tid of somebody else", at(ours), foreign, false, ""},
		{"a partner", at(partner), partner, false, at(ours)},
		{"somebody else", at(foreign), foreign, false, at(ours)},
		{"the template", p.URL() + "/{tenantid}/v2.0", ours, false, at(ours)},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer healRenewals(p)
			from(p.SetIDTokenClaims, at(ours), ours)
			p.SetUser(optest.Claims{"groups": "login"})
			s := newDiscoveredSite(t, p, withinProcess+"\ntenants "+ours+" "+partner+"\nclaim_header X-Groups groups\nset_access_token_header\nuserinfo off")
			r := signedInAt(t, s, p)
			r.wantRenewed(true)
			from(p.SetRefreshIDTokenClaims, test.iss, test.tid)
			if test.expected == "" {
				r.wantRenewed(test.used)
				if got := r.upstream.last(t).placeholder(t, "http.openid_connect.issuer"); got != at(ours) {
					t.Errorf("the issuer is %v", got)
				}
				return
			}
			r.expire()
			r.wantRefusal(r.Get(r.url("/data"), "Accept: application/json"), http.StatusUnauthorized, "no_credentials")
			r.begin("/page")
			s.logged(zapcore.InfoLevel, "session ended", map[string]string{"reason": "issuer_mismatch", "expected": test.expected})
		})
	}
}
