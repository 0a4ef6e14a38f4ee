package optest

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// renewal is a good refresh request, changed by pairs; "" leaves out.
func renewal(token string, pairs ...string) url.Values {
	values := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"client"}, "client_secret": {"secret"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if values.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values
}

// renew returns the answer to a refresh that goes well.
func renew(t *testing.T, p *Provider, token string) map[string]any {
	t.Helper()
	status, answer := redeem(t, p, renewal(token))
	if status != http.StatusOK {
		t.Fatalf("status %d: %v", status, answer)
	}
	return answer
}

// refuse checks that a refresh token is good for nothing.
func refuse(t *testing.T, p *Provider, token string) {
	t.Helper()
	if status, answer := redeem(t, p, renewal(token)); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		t.Errorf("status %d: %v", status, answer)
	}
}

func refreshToken(answer map[string]any) string {
	token, _ := answer["refresh_token"].(string)
	return token
}

func introspect(t *testing.T, p *Provider, token string) (known Claims) {
	t.Helper()
	question := url.Values{"token": {token}, "client_id": {"client"}, "client_secret": {"secret"}}
	if err := json.Unmarshal([]byte(newTestBrowser(t, p).Post(p.Endpoint(Introspection), question).Body), &known); err != nil {
		t.Fatal(err)
	}
	return known
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	for name, opaque := range map[string]bool{"JWT": false, "opaque": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t)
			p.SetOpaqueAccessTokens(opaque)
			first := signIn(t, p, "scope", "openid email offline_access", "max_age", "9", "acr_values", "silver")
			_, was := open(t, first["id_token"].(string), p.Key("rs-1"))
			p.Advance(time.Hour)
			answer := renew(t, p, refreshToken(first))
			if answer["token_type"] != "Bearer" || answer["expires_in"] != 300.0 || len(answer) != 6 ||
				answer["scope"] != "openid email offline_access" {
				t.Errorf("answer = %v", answer)
			}
			access := answer["access_token"].(string)
			if access == first["access_token"] || strings.Contains(access, ".") == opaque {
				t.Errorf("access token = %s", access)
			}
			if known := introspect(t, p, access); known["active"] != true || known["sub"] != "alice" || known["scope"] != answer["scope"] {
				t.Errorf("introspection = %v", known)
			}
			if r, info := askUserinfo(t, p, access); r.Status != http.StatusOK || info["email"] != "alice@example.com" || info["name"] != nil {
				t.Errorf("userinfo: %d %v", r.Status, info)
			}
			_, is := open(t, answer["id_token"].(string), p.Key("rs-1"))
			sum := sha256.Sum256([]byte(access))
			if was["nonce"] == nil || is["at_hash"] != encode(sum[:16]) || is["exp"] != is["iat"].(float64)+300 ||
				is["iat"].(float64) < was["iat"].(float64)+3600 {
				t.Errorf("ID tokens: %v, then %v", was, is)
			}
			for _, name := range []string{"nonce", "at_hash", "iat", "exp"} {
				delete(was, name)
				if name != "nonce" {
					delete(is, name)
				}
			}
			if !maps.Equal(was, is) || is["acr"] != "silver" || is["auth_time"] == nil || is["sid"] == nil {
				t.Errorf("ID tokens: %v, then %v", was, is)
			}
			for _, name := range []string{"access_token", "id_token", "refresh_token"} {
				if !slices.Contains(p.Issued(), answer[name].(string)) {
					t.Errorf("%s is not a secret", name)
				}
			}
			if p.RefreshAttempts() != 1 || p.RefreshGrants() != 1 || p.RefreshGrantsOf("alice") != 1 || p.RefreshReuses() != 0 {
				t.Errorf("%d attempts, %d grants, %d reuses", p.RefreshAttempts(), p.RefreshGrants(), p.RefreshReuses())
			}
		})
	}
	if grants := New(t).Metadata()["grant_types_supported"].([]string); !slices.Contains(grants, "refresh_token") {
		t.Errorf("grants = %v", grants)
	}
}

// A request that is refused for what else it says leaves the token as it was.
func TestRefreshRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		form   []string
		twice  string
		client string
		status int
		error  string
		scope  string // granted
	}{
		"good":          {status: 200, scope: "openid email"},
		"less":          {form: []string{"scope", "openid"}, status: 200, scope: "openid"},
		"more":          {form: []string{"scope", "openid profile"}, status: 400, error: "invalid_scope"},
		"no token":      {form: []string{"refresh_token", ""}, status: 400, error: "invalid_request"},
		"unknown token": {form: []string{"refresh_token", "none-of-those-issued"}, status: 400, error: "invalid_grant"},
		"repeated":      {twice: "refresh_token", status: 400, error: "invalid_request"},
		"wrong secret":  {form: []string{"client_secret", "guess"}, status: 401, error: "invalid_client"},
		"no client":     {form: []string{"client_secret", "", "client_id", ""}, status: 401, error: "invalid_client"},
		"other client":  {form: []string{"client_id", "other"}, client: "other", status: 400, error: "invalid_grant"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t)
			p.SetRefreshTokens(true)
			token := refreshToken(signIn(t, p, "scope", "openid email"))
			if test.client != "" {
				p.SetIntrospectionClient(test.client, "secret")
			}
			form := renewal(token, test.form...)
			if test.twice != "" {
				form.Add(test.twice, "again")
			}
			status, answer := redeem(t, p, form)
			scope, _ := answer["scope"].(string)
			if text, _ := answer["error"].(string); status != test.status || text != test.error || scope != test.scope {
				t.Fatalf("%d %v, want %d %s", status, answer, test.status, test.error)
			}
			if status == http.StatusOK {
				token = refreshToken(answer)
			}
			p.SetIntrospectionClient("client", "secret")
			if next := renew(t, p, token); next["scope"] != "openid email" || p.RefreshReuses() != 0 || p.RefreshAttempts() != 2 {
				t.Errorf("after that: %v, %d reuses, %d attempts", next, p.RefreshReuses(), p.RefreshAttempts())
			}
		})
	}
}

func TestPublicClientRefreshes(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetPublicClient("spa")
	p.SetRefreshTokens(true)
	code := p.NewCode(authorization("client_id", "spa"))
	_, answer := redeem(t, p, redemption(code, "client_id", "spa", "client_secret", ""))
	form := renewal(refreshToken(answer), "client_id", "spa", "client_secret", "")
	if status, answer := redeem(t, p, form); status != http.StatusOK || refreshToken(answer) == "" {
		t.Errorf("%d %v", status, answer)
	}
}

// A spent token that comes back ends what its login may do, and no other login.
func TestReuse(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRefreshTokens(true)
	first, other := refreshToken(signIn(t, p)), refreshToken(signIn(t, p))
	second := refreshToken(renew(t, p, first))
	third := refreshToken(renew(t, p, second))
	if first == second || second == third || p.RefreshReuses() != 0 || p.RefreshGrants() != 2 {
		t.Fatalf("%q, %q, %q: %d reuses, %d grants", first, second, third, p.RefreshReuses(), p.RefreshGrants())
	}
	refuse(t, p, first)
	if p.RefreshReuses() != 1 {
		t.Errorf("%d reuses, want 1", p.RefreshReuses())
	}
	refuse(t, p, third)
	if p.RefreshReuses() != 1 {
		t.Error("a token that was never spent counts as reused")
	}
	refuse(t, p, second)
	if p.RefreshReuses() != 2 || p.RefreshGrants() != 2 || p.RefreshAttempts() != 5 {
		t.Errorf("%d reuses, %d grants, %d attempts", p.RefreshReuses(), p.RefreshGrants(), p.RefreshAttempts())
	}
	renew(t, p, other)
}

func TestNoRotation(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  func(p *Provider, on bool)
		same bool // is in the answer
	}{
		"rotation off": {func(p *Provider, on bool) { p.SetRotation(!on) }, true},
		"left out":     {(*Provider).SetOmitRefreshToken, false},
	}
	for name, test := range tests {
		p := New(t)
		p.SetRefreshTokens(true)
		token := refreshToken(signIn(t, p))
		test.set(p, true)
		for range 3 {
			if got := refreshToken(renew(t, p, token)); (got == token) != test.same || got != token && got != "" {
				t.Errorf("%s: refresh token %q", name, got)
			}
		}
		test.set(p, false)
		if next := refreshToken(renew(t, p, token)); next == token || next == "" || p.RefreshReuses() != 0 || p.RefreshGrants() != 4 {
			t.Errorf("%s: then %q, %d reuses, %d grants", name, next, p.RefreshReuses(), p.RefreshGrants())
		}
		refuse(t, p, token)
		if p.RefreshReuses() != 1 {
			t.Errorf("%s: %d reuses", name, p.RefreshReuses())
		}
	}
}

// Of many who come with one token one is served, and the rest give the family away.
func TestParallelRefreshes(t *testing.T) {
	t.Parallel()
	for name, rotation := range map[string]bool{"rotation": true, "no rotation": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 16
			p := New(t)
			p.SetRefreshTokens(true)
			p.SetRotation(rotation)
			token := refreshToken(signIn(t, p))
			hits := p.Hits(Token)
			release := make(chan struct{})
			p.FailRefresh(Fault{Wait: release})
			answers := make(chan string, n)
			for range n {
				go func() {
					_, body, err := post(p, renewal(token))
					if err != nil {
						body = err.Error()
					}
					answers <- body
				}()
			}
			p.WaitForHits(t, Token, hits+n)
			close(release)
			var served []string
			for range n {
				if body := <-answers; strings.Contains(body, "access_token") {
					served = append(served, body)
				}
			}
			want := n
			if rotation {
				want = 1
			}
			if len(served) != want || p.RefreshGrants() != want || p.RefreshReuses() != n-want || p.RefreshAttempts() != n {
				t.Fatalf("%d served, %d grants, %d reuses", len(served), p.RefreshGrants(), p.RefreshReuses())
			}
			var answer map[string]any
			if err := json.Unmarshal([]byte(served[0]), &answer); err != nil {
				t.Fatal(err)
			}
			p.HealRefresh()
			if rotation {
				refuse(t, p, refreshToken(answer))
			} else {
				renew(t, p, token)
			}
		})
	}
}
