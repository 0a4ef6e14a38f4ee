package openidconnect

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What a logout asks of the provider (OpenID Connect RP-Initiated Logout 1.0).

// The whole way, there and back, with what the certification plan looks for: C-074, C-075, S-209, S-210.
func TestC074LogoutAtTheProvider(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"by default": "", "with a storage": inStorage + "revoke_tokens_on_logout", "strict": "session {\ncookie_same_site strict\n}", "at other paths": "path_prefix /sso\nlogout_path /bye",
		"without PKCE": "use_pkce off",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			s := newSiteOn(t, newFolderStorage(t), p, sealedWithSecret(settings))
			v := newVisitor(t, s, p)
			prefix, logout := "/oauth2", "/oauth2/logout"
			if name == "at other paths" {
				prefix, logout = "/sso", "/bye"
			}
			p.SetPostLogoutRedirectURIs(v.url(prefix + "/logged-out"))
			if landed := v.Navigate(v.url("/page")); landed.Status != http.StatusOK {
				t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, shown(landed))
			}
			if name == "strict" {
				v.Get(v.url("/page"), clicked...)
			}
			v.wantSession(true)
			copied := cookieHeader(v)
			sid, idToken := p.SSOSessions()[0].SID, ""
			if claims := userinfo(t, s.last(t).Header); claims["sid"] != sid {
				t.Errorf("the session is of %v, want %s", claims["sid"], sid)
			}

			landed := v.NavigateFrom(v.url("/page"), v.url(logout))
			page, query, _ := strings.Cut(landed.URL, "?")
			if landed.Status != http.StatusOK || page != v.url(prefix+"/logged-out") {
				t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, shown(landed))
			}
			v.wantNotice(landed, "You are signed out", prefix+"/login")
			if !strings.Contains(landed.Body, detailSignedOutThere) {
				t.Errorf("the page does not say that the provider has done so too: %s", shown(landed))
			}
			logouts := p.Logouts()
			if len(logouts) != 1 {
				t.Fatalf("the provider was asked %d times", len(logouts))
			}
			asked := logouts[0]
			for _, token := range p.Issued() {
				if token == asked.Hint {
					idToken = token
				}
			}
			if asked.Method != http.MethodGet || asked.Refused != "" || !asked.HintValid || idToken == "" || asked.ClientID != "client" ||
				asked.RedirectURI != v.url(prefix+"/logged-out") || asked.SID != sid || len(asked.State) < 40 || len(asked.Form) != 4 {
				t.Errorf("the provider was asked %+v", asked)
			}
			if values, _ := url.ParseQuery(query); len(values) != 1 || values.Get("state") != asked.State {
				t.Errorf("the way ends at %s", landed.URL)
			}
			for _, step := range landed.Steps[1:] {
				if strings.Contains(step.URL, "id_token_hint") != strings.HasPrefix(step.URL, p.Endpoint(optest.EndSession)) {
					t.Errorf("the ID token goes to %s", step.URL)
				}
			}
			if n := len(p.SSOSessions()); n != 0 {
				t.Errorf("%d sessions go on at the provider", n)
			}
			v.wantSession(false)
			v.wantDead(copied)

			// and then it takes credentials to come back
			if n := p.Prompts(); n != 1 {
				t.Errorf("%d prompts by now", n)
			}
			v.upstream.advance()
			if landed := v.Navigate(v.url("/page")); landed.Status != http.StatusOK || p.Prompts() != 2 {
				t.Errorf("landed on %s with %d, and %d prompts", landed.URL, landed.Status, p.Prompts())
			}
			v.wantSession(true)
			v.wantDead(copied)
		})
	}
}

// The hint is the newest ID token that there is of the session, whichever generation of its cookie comes.
func TestC074HintIsTheLatestIDToken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		omit     bool // renewals bring no ID token
		old      bool // the logout comes with the cookie of before the renewal
	}{
		"renewed":                         {withToken, false, false},
		"renewed without an ID token":     {withToken, true, false},
		"with an old cookie":              {withToken, false, true},
		"in a storage":                    {inStorage, false, false},
		"in a storage, with no new token": {inStorage, true, false},
		"in a storage, with an old one":   {inStorage, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			p.SetRefreshTokens(true)
			p.SetRefreshOmitIDToken(test.omit)
			l := newTimeline(p)
			r := l.welcome(t, l.instance(t, newSharedFolder(t), test.settings))
			before := "Cookie: " + r.cookie()
			known := len(p.Issued())
			r.pass(tokenLife)
			r.wantServed(1)
			var headers []string
			if test.old {
				headers = []string{before}
			}
			hint := r.wantLogoutAsked(r.signOut(headers...)).Get("id_token_hint")
			issuedLater := slices.Contains(p.Issued()[known:], hint)
			if hint == "" || issuedLater == test.omit {
				t.Errorf("the hint is of the renewal: %t", issuedLater)
			}
		})
	}
}

// wantLogoutAsked is wantLogout for whom the browser need not forget anything.
func (v *visitor) wantLogoutAsked(r *optest.Response) url.Values {
	v.t.Helper()
	u, err := url.Parse(r.Location())
	if err != nil || r.Status != http.StatusFound || !strings.HasPrefix(r.Location(), v.provider.Endpoint(optest.EndSession)+"?") {
		v.t.Fatalf("got %d and %q: %s", r.Status, r.Location(), shown(r))
	}
	return u.Query()
}

// What a session leaves out of its cookie is no hint, and the provider then goes by its own cookie.
func TestC074LogoutWithoutAHint(t *testing.T) {
	t.Parallel()
	const contents = "session_contents user id_token"
	large := optest.Claims{"sub": "alice", "groups": manyTexts(40)}
	for name, test := range map[string]struct {
		settings string
		user     optest.Claims
		hint     string // the parameter, empty: none
	}{
		"kept by default":           {"", nil, "id_token_hint"},
		"kept by configuration":     {contents + " enc_id_token", nil, "id_token_hint"},
		"left out by configuration": {contents, nil, ""},
		"left out of a full cookie": {"session {\nmax_cookie_bytes 2600\n}", large, ""},
		"fitting in a larger one":   {"session {\nmax_cookie_bytes 4000\n}", large, "id_token_hint"},
		"too long for a URL":        {"", optest.Claims{"sub": "alice", "groups": manyTexts(80)}, "logout_hint"},
		"too long, in a storage":    {inStorage, optest.Claims{"sub": "alice", "groups": manyTexts(200)}, "logout_hint"},
		"too long, without a sid":   {"", optest.Claims{"sub": "alice", "groups": manyTexts(80)}, "logout_hint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t, optest.WithEndSession())
			p.SetUser(test.user)
			withoutSID := strings.HasSuffix(name, "without a sid")
			p.SetIDTokenClaims(func(claims optest.Claims) {
				if withoutSID {
					delete(claims, "sid")
				}
			})
			s := newSiteOn(t, newFolderStorage(t), p, sealedWithSecret(test.settings))
			v := newVisitor(t, s, p)
			v.signIn("/")
			answer := v.signOut()
			asked := v.wantLogout(answer)
			for _, parameter := range []string{"id_token_hint", "logout_hint"} {
				if asked.Has(parameter) != (parameter == test.hint) {
					t.Errorf("%s: %t", parameter, asked.Has(parameter))
				}
			}
			if len(answer.Location()) > 4000 {
				t.Errorf("the URL has %d bytes", len(answer.Location()))
			}
			want := p.SSOSessions()[0].SID
			if withoutSID {
				want = "alice"
			}
			if test.hint == "logout_hint" && asked.Get("logout_hint") != want {
				t.Errorf("logout_hint %q, want %q", asked.Get("logout_hint"), want)
			}
			if asked.Get("client_id") != "client" || asked.Get("post_logout_redirect_uri") != v.url("/oauth2/logged-out") || asked.Get("state") == "" {
				t.Errorf("the provider is asked %v", asked)
			}
			landed := v.NavigateFrom(v.url("/"), answer.Location())
			v.wantSignedOut(landed, detailSignedOutThere)
			if logouts := p.Logouts(); len(logouts) != 1 || logouts[0].Refused != "" || len(p.SSOSessions()) != 0 {
				t.Errorf("at the provider: %+v, and %d sessions go on", logouts, len(p.SSOSessions()))
			}
		})
	}
}
