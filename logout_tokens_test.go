package openidconnect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Tokens that the provider is asked to revoke at a logout (RFC 7009, S-217).

// revoking is what these tests configure.
const revoking = "revoke_tokens_on_logout\n"

// newRevoking signs somebody in at a provider that revokes tokens, and returns the tokens that it has given last.
func newRevoking(t *testing.T, settings string) (r *renewing, tokens map[string]string) {
	t.Helper()
	p := optest.New(t, optest.WithEndSession(), optest.WithRevocation())
	p.SetRefreshTokens(true)
	tokens = recordedTokens(p)
	return newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local\n"+settings), p), tokens
}

// wantRevocations checks which tokens the provider was asked to revoke, in their order, and by whom.
func wantRevocations(t *testing.T, p *optest.Provider, want ...url.Values) {
	t.Helper()
	var got []url.Values
	for _, request := range p.Revocations() {
		got = append(got, url.Values{"token": {request.Token}, "token_type_hint": {request.Hint}})
		if request.Header.Get("Cookie") != "" || len(request.Form["token"]) != 1 {
			t.Errorf("a request brings %v, %v", request.Header, request.Form)
		}
	}
	if !slices.EqualFunc(got, want, func(a, b url.Values) bool { return a.Encode() == b.Encode() }) {
		t.Errorf("the provider was asked to revoke %d tokens: %.300v, want %.300v", len(got), got, want)
	}
}

func revocationOf(hint, token string) url.Values {
	return url.Values{"token": {token}, "token_type_hint": {hint}}
}

// The refresh token goes first, and then the access token where it is kept: those of the newest generation, once.
func TestS217TokensAreRevoked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		renewed  bool
		old      bool // the logout comes with the cookie of before the renewal
		access   bool
	}{
		"after the login":          {revoking, false, false, false},
		"with an access token":     {revoking + withToken, false, false, true},
		"after a renewal":          {revoking + withToken, true, false, true},
		"with an old cookie":       {revoking + withToken, true, true, true},
		"in a storage":             {revoking + inStorage, true, false, true},
		"in a storage, an old one": {revoking + inStorage, true, true, true},
		"where nothing is renewed": {revoking + withToken + "renew_access_token_on_expiry off", false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, tokens := newRevoking(t, test.settings)
			before := r.cookie()
			if test.renewed {
				r.pass(tokenLife)
				r.ask()
			}
			var headers []string
			if test.old {
				headers = []string{"Cookie: " + before}
			}
			wantRevocations(t, r.provider)
			r.wantLogoutAsked(r.signOut(headers...))
			var want []url.Values
			if name != "where nothing is renewed" {
				want = append(want, revocationOf("refresh_token", tokens["refresh_token"]))
			}
			if test.access {
				want = append(want, revocationOf("access_token", tokens["access_token"]))
			}
			r.site.settle() // a logout waits for two seconds, which may pass on a busy machine
			wantRevocations(t, r.provider, want...)
			if n := r.site.troubles(); n != 0 {
				t.Errorf("%d lines of trouble", n)
			}
			r.signOut("Cookie: " + before) // nobody has a session any more
			r.site.settle()
			wantRevocations(t, r.provider, want...)
		})
	}
}

// The client proves who it is in the way that is configured for this endpoint, or for the token endpoint.
func TestS217ClientAuthentication(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "ours")
	withKey := "client_private_key `" + key.PrivatePEM() + "`\n"
	const secret = "client_secret " + secret32 + "\n"
	for name, test := range map[string]struct {
		settings string
		public   bool
		want     string // the parameter or the header that proves it
	}{
		"by default":                      {secret, false, "Authorization"},
		"as at the token endpoint":        {secret + "token_endpoint_auth_method client_secret_post\n", false, "client_secret"},
		"otherwise than there":            {secret + "revocation_endpoint_auth_method client_secret_post\n", false, "client_secret"},
		"otherwise than there, the other": {secret + "token_endpoint_auth_method client_secret_post\nrevocation_endpoint_auth_method client_secret_basic\n", false, "Authorization"},
		"by an assertion":                 {withKey + "token_endpoint_auth_method private_key_jwt\n", false, "client_assertion"},
		"by an assertion here alone":      {secret + withKey + "revocation_endpoint_auth_method private_key_jwt\n", false, "client_assertion"},
		"by a signed secret":              {secret + "revocation_endpoint_auth_method client_secret_jwt\n", false, "client_assertion"},
		"not at all":                      {"token_endpoint_auth_method none\n", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithRevocation())
			p.SetRefreshTokens(true)
			p.SetIntrospectionClient("client", secret32)
			p.SetAssertionChecker(func(string) error { return nil })
			if test.public {
				p.SetPublicClient("client")
			}
			settings := "refresh_coordination local\n" + revoking + test.settings
			text := loginSettingsAt(p, settings)
			if !strings.Contains(test.settings, "client_secret "+secret32) {
				text = strings.Replace(text, "client_secret secret\n", "", 1)
			}
			s := newSite(t, text)
			t.Cleanup(func() { wantSilence(t, p, s) })
			v := newVisitor(t, s, p)
			v.signIn("/")
			v.signOut()
			s.settle()
			requests := p.Revocations()
			if len(requests) != 1 || s.troubles() != 0 {
				t.Fatalf("%d requests, and %d lines of trouble", len(requests), s.troubles())
			}
			for _, proof := range []string{"Authorization", "client_secret", "client_assertion"} {
				if has := requests[0].Form.Has(proof) || requests[0].Header.Get(proof) != ""; has != (proof == test.want) {
					t.Errorf("%s: %t", proof, has)
				}
			}
			if id := requests[0].Form.Get("client_id"); (test.want == "client_secret" || test.want == "") && id != "client" {
				t.Errorf("client_id %q", id)
			}
		})
	}
}

// Whatever the endpoint does, the user is out; the operator is told once, without any secret.
func TestS217EndpointThatFails(t *testing.T) {
	t.Parallel()
	fault := func(status int, body string) func(p *optest.Provider) {
		return func(p *optest.Provider) {
			p.Fail(optest.Revocation, optest.Fault{Status: status, Body: []byte(body), Header: http.Header{"Retry-After": {"120"}}})
		}
	}
	for name, misbehave := range map[string]func(p *optest.Provider){
		"503":                    fault(503, ""),
		"429":                    fault(429, ""),
		"unsupported_token_type": fault(400, `{"error":"unsupported_token_type"}`),
		"invalid_client":         fault(401, `{"error":"invalid_client"}`),
		"a page": func(p *optest.Provider) {
			p.Fail(optest.Revocation, optest.Fault{Body: []byte("<html><h1>Sign in</h1>"), Header: http.Header{"Content-Type": {"text/html"}}})
		},
		"dropped":               func(p *optest.Provider) { p.Fail(optest.Revocation, optest.Fault{Drop: true}) },
		"a redirect":            func(p *optest.Provider) { p.Fail(optest.Revocation, optest.Fault{Redirect: p.URL() + "/elsewhere"}) },
		"the provider has gone": func(p *optest.Provider) { p.Down() },
		"an answer without an end": func(p *optest.Provider) {
			p.Fail(optest.Revocation, optest.Fault{Status: 400, Body: []byte("x"), Endless: true})
		},
		"the token in its own words": nil,
	} {
		for _, kept := range []string{"", withToken} {
			t.Run(name+map[bool]string{true: ", two tokens"}[kept != ""], func(t *testing.T) {
				t.Parallel()
				r, tokens := newRevoking(t, revoking+kept)
				copied := r.cookie()
				if misbehave == nil {
					fault(400, `{"error":"invalid_request","error_description":"no such token: `+tokens["refresh_token"]+`"}`)(r.provider)
				} else {
					misbehave(r.provider)
				}
				before := r.site.troubles()
				r.wantLogout(r.signOut())
				r.upstream.advance()
				r.wantRefusal(r.ask("Cookie: "+copied).Response, http.StatusUnauthorized, "no_credentials")
				r.site.settle() // the logout waits for two seconds, which may pass on a busy machine
				warnings := r.site.logs.Filter(func(entry zapEntry) bool { return entry.Level >= zapcore.WarnLevel }).All()[before:]
				told := slices.DeleteFunc(warnings, func(entry zapEntry) bool { return !strings.Contains(entry.Message, "revoked") })
				if len(told) != 1 || told[0].Level != zapcore.WarnLevel || told[0].ContextMap()["hint"] == "" {
					t.Errorf("%d lines say so: %v", len(told), told)
				}
			})
		}
	}
}

// Without such an endpoint there is nobody to ask, which the operator is told when he might do something about it.
func TestS217ProvidersWithoutTheEndpoint(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithEndSession())
	p.SetRefreshTokens(true)
	r := newRenewingAt(t, newLoginSite(t, p, "refresh_coordination local\n"+revoking), p)
	told := r.site.logs.FilterMessage("the provider does not offer what is configured").All()
	if len(told) != 1 || told[0].ContextMap()["setting"] != "revoke_tokens_on_logout" {
		t.Errorf("at the login: %v", told)
	}
	copied := r.cookie()
	r.wantLogout(r.signOut())
	r.wantDead(copied)
	if n := p.Hits(optest.Revocation) + p.Hits(optest.Other); n != 0 {
		t.Errorf("%d requests", n)
	}
	if n := r.site.troubles(); n != 2 {
		t.Errorf("%d lines of trouble, one of the login and one of the logout", n)
	}
}

// An endpoint that does not answer keeps nobody waiting for long.
func TestS217EndpointThatHangs(t *testing.T) {
	t.Parallel()
	r, tokens := newRevoking(t, revoking+"timeout 1m\n")
	copied := r.cookie()
	release := make(chan struct{})
	r.provider.Fail(optest.Revocation, optest.Fault{Wait: release})
	began := time.Now()
	r.wantLogout(r.signOut()) // while the endpoint is still waiting
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	r.wantDead(copied)
	close(release)
	r.site.settle()
	wantRevocations(t, r.provider, revocationOf("refresh_token", tokens["refresh_token"]))
	if n := r.site.troubles(); n != 0 {
		t.Errorf("%d lines of trouble, although it has answered in the end", n)
	}
}

// Only a logout of the user's has tokens revoked, and only where that is configured.
func TestS217NothingElseRevokes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		end      func(t *testing.T, r *renewing)
	}{
		"switched off": {withToken, func(_ *testing.T, r *renewing) { r.wantLogout(r.signOut()) }},
		"switched off in so many words": {withToken + "revoke_tokens_on_logout off\n", func(_ *testing.T, r *renewing) {
			r.wantLogout(r.signOut())
		}},
		"a question":   {revoking, func(_ *testing.T, r *renewing) { r.Get(r.url("/oauth2/logout"), linked...) }},
		"another site": {revoking, func(_ *testing.T, r *renewing) { r.Post(r.url("/oauth2/logout"), nil, linked...) }},
		"the landing":  {revoking, func(_ *testing.T, r *renewing) { r.Get(r.url("/oauth2/logged-out"), linked...) }},
		"expired":      {revoking, func(_ *testing.T, r *renewing) { r.pass(30 * 24 * time.Hour); r.open("/page"); r.signOut() }},
		"a new login":  {revoking, func(_ *testing.T, r *renewing) { r.Navigate(r.url("/oauth2/login?prompt=login")) }},
		"a renewal":    {revoking, func(_ *testing.T, r *renewing) { r.pass(tokenLife); r.ask() }},
		"by the provider": {revoking, func(t *testing.T, r *renewing) {
			uri := r.url("/oauth2/backchannel-logout")
			if answer := r.provider.SendLogout(t, uri, r.provider.LogoutToken(optest.BySub("alice"))); answer.Status != http.StatusOK {
				t.Errorf("got %d: %s", answer.Status, answer.Body)
			}
			r.signOut()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _ := newRevoking(t, test.settings)
			test.end(t, r)
			r.site.settle()
			if n := r.provider.Hits(optest.Revocation); n != 0 {
				t.Errorf("the provider was asked to revoke %d tokens", n)
			}
		})
	}
}
