package optest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func askUserinfo(t *testing.T, p *Provider, token string) (*Response, Claims) {
	t.Helper()
	r := newTestBrowser(t, p).Get(p.Endpoint(Userinfo), "Authorization: Bearer "+token)
	var claims Claims
	if err := json.Unmarshal([]byte(r.Body), &claims); err != nil && r.Header.Get("Content-Type") == "application/json" {
		t.Fatalf("%v: %q", err, r.Body)
	}
	return r, claims
}

// about are the claims of an ID token that tell of the user.
func about(t *testing.T, p *Provider, answer map[string]any) []string {
	t.Helper()
	_, claims := open(t, answer["id_token"].(string), p.Key("rs-1"))
	for _, name := range []string{"iss", "aud", "iat", "exp", "nonce", "at_hash", "sid"} {
		if claims[name] == nil {
			t.Errorf("the ID token lacks %s", name)
		}
		delete(claims, name)
	}
	return slices.Sorted(maps.Keys(claims))
}

func TestUser(t *testing.T) {
	t.Parallel()
	carol := Claims{
		"sub": "carol", "name": "Carol", "phone_number": "1", "groups": []string{"a", "b"}, "https://example.com/role": "x", "gone": nil,
	}
	tests := map[string]struct {
		user  Claims
		scope string
		thin  bool
		token string // claims of the ID token
		info  string // claims of userinfo
	}{
		"everything": {nil, "openid profile email", false, "email name preferred_username sub", "email name preferred_username sub"},
		"profile":    {nil, "openid profile", false, "name preferred_username sub", "name preferred_username sub"},
		"email":      {nil, "email openid", false, "email sub", "email sub"},
		"openid":     {nil, "openid", false, "sub", "sub"},
		"thin":       {nil, "openid profile email", true, "sub", "email name preferred_username sub"},
		"other": {
			carol, "openid phone", false,
			"groups https://example.com/role phone_number sub", "groups https://example.com/role phone_number sub",
		},
		"other, thin":  {carol, "openid", true, "sub", "groups https://example.com/role sub"},
		"sub left out": {Claims{"groups": "a"}, "openid profile email", false, "groups sub", "groups sub"},
		"no sub":       {Claims{"sub": nil, "groups": "a"}, "openid", false, "groups", "groups"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t)
			p.SetUser(test.user)
			p.SetThinIDTokens(test.thin)
			answer := signIn(t, p, "scope", test.scope)
			if got := about(t, p, answer); !slices.Equal(got, strings.Fields(test.token)) {
				t.Errorf("ID token: %q, want %q", got, test.token)
			}
			// Who signs in later is somebody else.
			p.SetUser(Claims{"sub": "bob", "bob": true})
			r, claims := askUserinfo(t, p, answer["access_token"].(string))
			if got := slices.Sorted(maps.Keys(claims)); r.Status != http.StatusOK || !slices.Equal(got, strings.Fields(test.info)) {
				t.Errorf("userinfo: %d %q, want %q", r.Status, got, test.info)
			}
			_, bob := open(t, signIn(t, p, "scope", "openid")["id_token"].(string), p.Key("rs-1"))
			if bob["sub"] != "bob" || (bob["bob"] == true) == test.thin {
				t.Errorf("bob = %v", bob)
			}
			p.SetUser(nil)
			if _, alice := open(t, signIn(t, p)["id_token"].(string), p.Key("rs-1")); alice["sub"] != "alice" {
				t.Errorf("alice = %v", alice)
			}
		})
	}
}

func TestUserinfoRefuses(t *testing.T) {
	t.Parallel()
	p := New(t)
	access := signIn(t, p)["access_token"].(string)
	if r, claims := askUserinfo(t, p, access); r.Status != http.StatusOK || claims["sub"] != "alice" {
		t.Fatalf("%d %v", r.Status, claims)
	}
	if r := NewBrowser(t).Post(p.Endpoint(Userinfo), nil, "Authorization: Bearer "+access); r.Status != http.StatusOK {
		t.Errorf("POST: status %d", r.Status)
	}
	r := NewBrowser(t).Do(http.MethodDelete, p.Endpoint(Userinfo), "", "Authorization: Bearer "+access)
	if r.Status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: status %d", r.Status)
	}
	r, claims := askUserinfo(t, p, p.AccessToken(Claims{"sub": "dave", "scope": "openid email"}))
	if r.Status != http.StatusOK || claims["sub"] != "dave" || len(claims) != 1 {
		t.Errorf("token made by hand: %d %v", r.Status, claims)
	}
	revoked := signIn(t, p)["access_token"].(string)
	p.Revoke(revoked)
	for token, want := range map[string]int{"": 401, "guess": 401, revoked: 401, p.AccessToken(nil): 403} {
		r, claims := askUserinfo(t, p, token)
		if r.Status != want || claims["sub"] != nil || r.Header.Get("Www-Authenticate") == "" {
			t.Errorf("%d %v %v, want %d", r.Status, r.Header, claims, want)
		}
	}
	p.Advance(accessLifetime - 10*time.Second)
	if r, _ := askUserinfo(t, p, access); r.Status != http.StatusOK {
		t.Errorf("in time: status %d", r.Status)
	}
	p.Advance(10 * time.Second)
	if r, _ := askUserinfo(t, p, access); r.Status != http.StatusUnauthorized {
		t.Errorf("expired: status %d", r.Status)
	}
}

func TestUserinfoHooks(t *testing.T) {
	t.Parallel()
	p := New(t)
	access := signIn(t, p)["access_token"].(string)
	p.SetUserinfo(func(claims Claims) { claims["sub"] = "mallory" })
	if r, claims := askUserinfo(t, p, access); r.Status != http.StatusOK || claims["sub"] != "mallory" || claims["name"] != "Alice" {
		t.Errorf("edited: %d %v", r.Status, claims)
	}
	p.SetUserinfoJWT(func(claims Claims) string { return Sign(p.Key("es-1"), nil, claims) })
	r, _ := askUserinfo(t, p, access)
	if r.Header.Get("Content-Type") != "application/jwt" || !slices.Contains(p.Issued(), r.Body) {
		t.Errorf("signed: %v", r.Header)
	}
	if _, claims := open(t, r.Body, p.Key("es-1")); claims["sub"] != "mallory" || claims["name"] != "Alice" {
		t.Errorf("signed: %v", claims)
	}
	p.SetUserinfo(nil)
	p.SetUserinfoJWT(nil)
	if r, claims := askUserinfo(t, p, access); r.Header.Get("Content-Type") != "application/json" || claims["sub"] != "alice" {
		t.Errorf("after: %v %v", r.Header, claims)
	}
}
