package openidconnect

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// recordedTokens notes what the token endpoint of p answers from now on.
func recordedTokens(p *optest.Provider) map[string]string {
	tokens := make(map[string]string)
	p.SetTokenResponse(func(answer map[string]any) {
		for name, value := range answer {
			tokens[name] = fmt.Sprint(value)
		}
	})
	return tokens
}

// What a client would like to be taken for ours.
var forgedHeaders = []string{
	"X-Userinfo: forged", "X-Access-Token: forged", "X-ID-Token: forged", "X-Raw-ID-Token: forged", "X-Refresh-Token: forged", "X_Userinfo: forged",
}

// The five headers of a session, each by its own switch, and none by a client's word.
func TestTokenHeadersOfSessions(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetUser(optest.Claims{"sub": "alice", "name": "Zoë", "groups": []string{"a"}})
	tokens := recordedTokens(p)
	payload := func() string { // of the ID token, padded
		_, encoded, _ := segments(tokens["id_token"])
		text, err := base64.RawURLEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(text)
	}
	token := func(name string) func() string { return func() string { return tokens[name] } }
	for name, test := range map[string]struct {
		settings string
		want     map[string]func() string
	}{
		"by default":               {"set_userinfo_header off", nil},
		"set_access_token_header":  {"set_access_token_header", map[string]func() string{"X-Access-Token": token("access_token")}},
		"set_id_token_header":      {"set_id_token_header", map[string]func() string{"X-Id-Token": payload}},
		"set_raw_id_token_header":  {"set_raw_id_token_header", map[string]func() string{"X-Raw-Id-Token": token("id_token")}},
		"set_refresh_token_header": {"set_refresh_token_header", map[string]func() string{"X-Refresh-Token": token("refresh_token")}},
		"set_access_token_header off": {
			"set_access_token_header off\nset_id_token_header off\nset_raw_id_token_header off\nset_refresh_token_header off", nil,
		},
		"access_token_in_authorization_header": {
			"access_token_in_authorization_header", map[string]func() string{"Authorization": func() string { return "Bearer " + tokens["access_token"] }},
		},
		"all of them": {
			"set_access_token_header\nset_id_token_header\nset_raw_id_token_header\nset_refresh_token_header\nstrip_authorization", map[string]func() string{
				"X-Access-Token": token("access_token"), "X-Id-Token": payload,
				"X-Raw-Id-Token": token("id_token"), "X-Refresh-Token": token("refresh_token"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			settings := test.settings
			if !strings.Contains(settings, "set_userinfo_header") {
				settings += "\nset_userinfo_header off"
			}
			s := newLoginSite(t, p, settings)
			v := newVisitor(t, s, p)
			v.signIn("/")
			if r := v.Get(v.url("/"), forgedHeaders...); r.Status != http.StatusOK {
				t.Fatalf("got %d", r.Status)
			}
			header := s.last(t).Header
			for _, name := range append(tokenHeaders, "Authorization", "X_Userinfo") {
				want := ""
				if test.want[name] != nil {
					want = test.want[name]()
				}
				if got := strings.Join(header.Values(name), "|"); got != want {
					t.Errorf("%s %q, want %q", name, got, want)
				}
			}
			for _, cookie := range (&http.Request{Header: header}).Cookies() {
				if isSessionName(cookie.Name) {
					t.Errorf("the upstream got %s", cookie.Name)
				}
			}
		})
	}
}

// X-Userinfo is the JSON of what is known of the user, without what was about the one exchange.
func TestUserinfoHeaderOfSessions(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetUser(optest.Claims{"sub": "alice", "name": "Zoë <&>", "level": 9007199254740993, "groups": []string{"a", "b"}, "o": map[string]any{"p": nil}})
	s := newLoginSite(t, p, "scope openid profile")
	v := newVisitor(t, s, p)
	v.signIn("/")
	claims := userinfo(t, s.last(t).Header)
	for name, want := range map[string]any{
		"iss": p.Issuer(), "sub": "alice", "aud": "client", "name": "Zoë <&>", "level": "9007199254740993", "groups": "[a b]", "o": "map[p:<nil>]",
	} {
		if got := fmt.Sprint(claims[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash"} {
		if value, ok := claims[name]; ok {
			t.Errorf("%s is %v", name, value)
		}
	}
}

// Authorization with another scheme is nobody's business here.
func TestOtherAuthorizationWithASession(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for settings, want := range map[string]string{"": "Basic YTpi", "strip_authorization": ""} {
		s := newLoginSite(t, p, settings)
		v := newVisitor(t, s, p)
		v.signIn("/")
		if r := v.Get(v.url("/"), "Authorization: Basic YTpi"); r.Status != http.StatusOK || s.advance() != 1 {
			t.Fatalf("got %d", r.Status)
		}
		if got := s.last(t).Header.Get("Authorization"); got != want {
			t.Errorf("%q: the upstream got %q, want %q", settings, got, want)
		}
	}
}

// No upstream ever gets an access token that has expired. Where none is passed on, its end means nothing to the session.
func TestExpiredAccessTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const lifetime = 5 * time.Minute
	for name, test := range map[string]struct {
		settings string
		ends     bool
	}{
		"passed on":                      {"set_access_token_header", true},
		"passed on in Authorization":     {"access_token_in_authorization_header", true},
		"not passed on":                  {"", false},
		"kept, but not passed on":        {"session_contents access_token user id_token", false},
		"the refresh token is passed on": {"set_refresh_token_header", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLoginSite(t, p, test.settings)
			v := newVisitor(t, s, p)
			v.later(0) // from now on time passes here alone
			v.signIn("/")
			v.later(lifetime - time.Second)
			v.wantSession(true)
			v.later(2 * time.Second)
			v.wantSession(!test.ends)
			if !test.ends {
				return
			}
			s.logged(zapcore.DebugLevel, "request refused", map[string]string{"reason": "session_expired", "hint": "access token has expired"})
			v.wantRefusal(v.Get(v.url("/"), "Accept: application/json"), http.StatusUnauthorized, "no_credentials")
			request := v.begin("/page")
			v.provider.Advance(lifetime)
			defer v.provider.Advance(-lifetime)
			v.wantRedirect(v.arrive(request, v.answerTo(request)), "/page")
			v.wantSession(true)
		})
	}
	for name, opaque := range map[string]bool{"an opaque one without an end": true, "a JWT without expires_in": false} {
		t.Run(name, func(t *testing.T) {
			p := optest.New(t)
			p.SetOpaqueAccessTokens(opaque)
			p.SetTokenResponse(func(answer map[string]any) { delete(answer, "expires_in") })
			v := newVisitor(t, newLoginSite(t, p, "set_access_token_header"), p)
			v.signIn("/")
			v.wantSession(true)
			v.later(20 * time.Hour)
			v.wantSession(opaque) // a JWT says itself when it ends
		})
	}
}

// A session keeps what it is told to, and no more.
func TestSessionContents(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	tokens := recordedTokens(p)
	p.SetUser(optest.Claims{"sub": "alice", "name": "Ada", "tenant": "acme"})
	p.SetIDTokenClaims(func(claims optest.Claims) { delete(claims, "name") }) // it is in userinfo alone
	for settings, want := range map[string]string{
		"":                               "aud exp iat iss name sid sub tenant",
		"session_contents user":          "iss name sub tenant",
		"session_contents id_token":      "aud exp iat iss sid sub tenant",
		"session_contents user id_token": "aud exp iat iss name sid sub tenant",
		"session_contents user enc_id_token\nset_raw_id_token_header":                     "iss name sub tenant",
		"session_contents user access_token\nset_access_token_header":                     "iss name sub tenant",
		"session_contents enc_id_token\nset_raw_id_token_header\nset_userinfo_header off": "",
		"session_contents access_token\nset_access_token_header\nset_userinfo_header off": "",
	} {
		t.Run(settings, func(t *testing.T) {
			s := newLoginSite(t, p, "scope openid profile\nuserinfo on\n"+settings)
			newVisitor(t, s, p).signIn("/")
			arrived := s.last(t)
			if got := arrived.placeholder(t, "http.auth.user.id"); got != "alice" {
				t.Errorf("the user is %v", got)
			}
			if want == "" {
				if got := arrived.placeholder(t, "http.auth.user.tenant"); got != "" {
					t.Errorf("tenant is %v", got)
				}
			} else if got := strings.Join(sortedKeys(userinfo(t, arrived.Header)), " "); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			for header, token := range map[string]string{"X-Raw-Id-Token": tokens["id_token"], "X-Access-Token": tokens["access_token"]} {
				if switched := strings.Contains(settings, "set_"+strings.ToLower(strings.ReplaceAll(header[2:], "-", "_"))); !switched {
					token = ""
				}
				if got := arrived.Header.Get(header); got != token {
					t.Errorf("%s %.30q, want %.30q", header, got, token)
				}
			}
		})
	}
}
