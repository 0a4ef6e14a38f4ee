package optest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// post sends a form to the token endpoint, which may not answer.
func post(p *Provider, form url.Values) (status int, body string, err error) {
	answer, err := p.Client().PostForm(p.Endpoint(Token), form)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 1<<16))
	return answer.StatusCode, string(raw), err
}

// refreshTokenIn finds the refresh token of an answer.
func refreshTokenIn(body string) string {
	_, after, _ := strings.Cut(body, `"refresh_token":"`)
	token, _, _ := strings.Cut(after, `"`)
	return token
}

func TestRevokeRefreshTokens(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRefreshTokens(true)
	tokens := make(map[string]string)
	for _, sub := range []string{"alice", "bob", "carol"} {
		p.SetUser(Claims{"sub": sub})
		tokens[sub] = refreshToken(renew(t, p, refreshToken(signIn(t, p))))
	}
	p.RevokeSubject("bob")
	refuse(t, p, tokens["bob"])
	tokens["alice"] = refreshToken(renew(t, p, tokens["alice"]))
	for sub, want := range map[string]int{"alice": 2, "bob": 1, "carol": 1, "dave": 0} {
		if got := p.RefreshGrantsOf(sub); got != want {
			t.Errorf("%d grants for %s, want %d", got, sub, want)
		}
	}
	p.RevokeRefreshTokens()
	refuse(t, p, tokens["alice"])
	refuse(t, p, tokens["carol"])
	if p.RefreshReuses() != 0 || p.RefreshGrants() != 4 {
		t.Errorf("%d reuses, %d grants", p.RefreshReuses(), p.RefreshGrants())
	}
	renew(t, p, refreshToken(signIn(t, p)))
}

func TestAccessLifetime(t *testing.T) {
	t.Parallel()
	for given, want := range map[time.Duration]int{
		2 * time.Second: 2, 2900 * time.Millisecond: 2, 0: 1, -time.Hour: 1, time.Hour: 3600,
	} {
		p := New(t)
		p.SetRefreshTokens(true)
		p.SetAccessLifetime(given)
		first := signIn(t, p)
		for _, answer := range []map[string]any{first, renew(t, p, refreshToken(first))} {
			_, claims := open(t, answer["access_token"].(string), p.Key("rs-1"))
			lives := claims["exp"].(float64) - claims["iat"].(float64)
			if answer["expires_in"] != float64(want) || lives < float64(want) || lives > float64(want)+1 {
				t.Errorf("%v: expires_in %v, exp after %v", given, answer["expires_in"], lives)
			}
		}
		access := first["access_token"].(string)
		before, _ := askUserinfo(t, p, access)
		known := introspect(t, p, access)
		p.Advance(time.Duration(want) * time.Second)
		after, _ := askUserinfo(t, p, access)
		if want == 3600 && (before.Status != http.StatusOK || known["active"] != true) {
			t.Errorf("%v: alive: %d, %v", given, before.Status, known)
		}
		if known := introspect(t, p, access); after.Status != http.StatusUnauthorized || known["active"] != false {
			t.Errorf("%v: expired: %d, %v", given, after.Status, known)
		}
		p.SetOmitExpiresIn(true)
		first = signIn(t, p)
		second := renew(t, p, refreshToken(first))
		if first["expires_in"] != nil || second["expires_in"] != nil || second["access_token"] == nil {
			t.Errorf("%v: not left out: %v, %v", given, first, second)
		}
	}
}

// What is told of a user in a refresh is what is known then, for that user alone.
func TestUserChanges(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRefreshTokens(true)
	p.SetUser(Claims{"sub": "alice", "groups": []string{"staff"}})
	alice := signIn(t, p)
	p.SetUser(Claims{"sub": "bob", "groups": []string{"guests"}})
	bob := signIn(t, p)
	p.SetUser(Claims{"sub": "alice", "groups": []string{"staff", "admins"}})
	for _, test := range []struct {
		answer map[string]any
		want   string
	}{
		{alice, "alice [staff]"},
		{bob, "bob [guests]"},
		{renew(t, p, refreshToken(alice)), "alice [staff admins]"},
		{renew(t, p, refreshToken(bob)), "bob [guests]"},
	} {
		_, claims := open(t, test.answer["id_token"].(string), p.Key("rs-1"))
		_, info := askUserinfo(t, p, test.answer["access_token"].(string))
		for _, told := range []Claims{claims, info} {
			if got := fmt.Sprint(told["sub"], " ", told["groups"]); got != test.want {
				t.Errorf("told %s, want %s", got, test.want)
			}
		}
	}
}

// Each hook spoils what it is for, and the refreshes' hooks leave logins alone.
func TestRefreshHooks(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRefreshTokens(true)
	idToken := func(answer map[string]any) (header, claims Claims) {
		return open(t, answer["id_token"].(string), p.Key("rs-1"))
	}
	spoil := func(claims Claims) { claims["sub"] = "mallory" }
	spoiled := func(answer map[string]any) bool {
		_, claims := idToken(answer)
		return claims["sub"] == "mallory"
	}
	tests := map[string]struct {
		set, unset func()
		spoiled    func(answer map[string]any) bool
		logins     bool // too
	}{
		"claims": {
			func() { p.SetRefreshIDTokenClaims(spoil) }, func() { p.SetRefreshIDTokenClaims(nil) }, spoiled, false,
		},
		"claims of all": {
			func() { p.SetIDTokenClaims(spoil) }, func() { p.SetIDTokenClaims(nil) }, spoiled, true,
		},
		"header of all": {
			func() { p.SetIDTokenHeader(Claims{"kid": "other"}) }, func() { p.SetIDTokenHeader(nil) },
			func(answer map[string]any) bool { header, _ := idToken(answer); return header["kid"] == "other" }, true,
		},
		"signer of all": {
			func() { p.SetIDTokenSigner(func(Claims) string { return "not-a-token" }) }, func() { p.SetIDTokenSigner(nil) },
			func(answer map[string]any) bool { return answer["id_token"] == "not-a-token" }, true,
		},
		"no ID token": {
			func() { p.SetRefreshOmitIDToken(true) }, func() { p.SetRefreshOmitIDToken(false) },
			func(answer map[string]any) bool { _, ok := answer["id_token"]; return !ok }, false,
		},
		"answer": {
			func() {
				p.SetRefreshResponse(func(answer map[string]any) {
					answer["id_token"], answer["access_token"] = "", "an-access-token-of-the-hook"
				})
			},
			func() { p.SetRefreshResponse(nil) },
			func(answer map[string]any) bool {
				return answer["id_token"] == "" && slices.Contains(p.Issued(), "an-access-token-of-the-hook")
			}, false,
		},
		"answer of all": {
			func() { p.SetTokenResponse(func(answer map[string]any) { answer["scope"] = "other" }) },
			func() { p.SetTokenResponse(nil) },
			func(answer map[string]any) bool { return answer["scope"] == "other" }, true,
		},
	}
	for name, test := range tests {
		login := signIn(t, p)
		if answer := renew(t, p, refreshToken(login)); test.spoiled(answer) || test.spoiled(login) {
			t.Errorf("%s: spoiled before: %v", name, answer)
		}
		test.set()
		login = signIn(t, p)
		answer := renew(t, p, refreshToken(login))
		if !test.spoiled(answer) || test.spoiled(login) != test.logins {
			t.Errorf("%s: login %v, refresh %v", name, login, answer)
		}
		test.unset()
		if answer := renew(t, p, refreshToken(answer)); test.spoiled(answer) {
			t.Errorf("%s: spoiled after: %v", name, answer)
		}
	}
}

func TestRefreshFaults(t *testing.T) {
	t.Parallel()
	html := http.Header{"Content-Type": {"text/html"}, "Retry-After": {"7"}}
	tests := map[string]struct {
		fault  Fault
		status int // 0: no answer
		body   string
		spent  bool
	}{
		"status":   {fault: Fault{Status: 503}, status: 503},
		"body":     {fault: Fault{Status: 400, Body: []byte(`{"error":"bad"}`), Header: html}, status: 400, body: `{"error":"bad"}`},
		"drop":     {fault: Fault{Drop: true}},
		"redirect": {fault: Fault{Redirect: "http://127.0.0.1:1/", Status: 418}, status: 418},
		"header":   {fault: Fault{Header: html}, status: 200, body: "access_token", spent: true},
		"delay":    {fault: Fault{Delay: time.Millisecond}, status: 200, body: "access_token", spent: true},
	}
	for name, test := range tests {
		for _, fail := range []struct {
			of   string
			set  func(p *Provider)
			heal func(p *Provider)
		}{
			{"refreshes", func(p *Provider) { p.FailRefresh(test.fault) }, (*Provider).HealRefresh},
			{"endpoint", func(p *Provider) { p.Fail(Token, test.fault) }, func(p *Provider) { p.Heal(Token) }},
		} {
			p := New(t)
			p.SetRefreshTokens(true)
			token := refreshToken(signIn(t, p))
			fail.set(p)
			status, body, err := post(p, renewal(token))
			if status != test.status || (err != nil) != (test.status == 0) || !strings.Contains(body, test.body) {
				t.Errorf("%s of %s: status %d, body %q, %v", name, fail.of, status, body, err)
			}
			if fail.of == "refreshes" {
				signIn(t, p)
			}
			fail.heal(p)
			if p.RefreshAttempts() != 1 || (p.RefreshGrants() == 1) != test.spent {
				t.Errorf("%s of %s: %d attempts, %d grants", name, fail.of, p.RefreshAttempts(), p.RefreshGrants())
			}
			status, _ = redeem(t, p, renewal(token))
			if (status != http.StatusOK) != test.spent || (p.RefreshReuses() == 1) != test.spent {
				t.Errorf("%s of %s: then status %d, %d reuses", name, fail.of, status, p.RefreshReuses())
			}
		}
	}
}

// Both faults apply, each for its own number of requests.
func TestRefreshFaultsOfTwoKinds(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRefreshTokens(true)
	token := refreshToken(signIn(t, p))
	const latency = 20 * time.Millisecond
	p.Fail(Token, Fault{Delay: latency})
	p.FailRefresh(Fault{Status: http.StatusTooManyRequests, Delay: latency, Times: 2})
	for i, want := range []int{429, 429, 200, 200} {
		start := time.Now()
		status, body, err := post(p, renewal(token))
		least := latency
		if want == http.StatusTooManyRequests {
			least = 2 * latency
		}
		if took := time.Since(start); err != nil || status != want || took < least {
			t.Errorf("request %d: status %d after %s, %v", i, status, took, err)
		}
		if status == http.StatusOK {
			token = refreshTokenIn(body)
		}
	}
	if login := signIn(t, p); refreshToken(login) == "" || p.RefreshGrants() != 2 || p.RefreshAttempts() != 4 {
		t.Errorf("%v, %d grants, %d attempts", login, p.RefreshGrants(), p.RefreshAttempts())
	}
}

func TestLoseRefreshAnswer(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetRefreshTokens(true)
	first, second, third := refreshToken(signIn(t, p)), refreshToken(signIn(t, p)), refreshToken(signIn(t, p))
	p.LoseRefreshAnswer(2)
	refuse(t, p, "a refusal is no answer to lose")
	for _, token := range []string{first, second} {
		if status, _, err := post(p, renewal(token)); err == nil {
			t.Errorf("answered with status %d", status)
		}
	}
	if p.RefreshGrants() != 2 || p.RefreshReuses() != 0 {
		t.Errorf("%d grants, %d reuses", p.RefreshGrants(), p.RefreshReuses())
	}
	renew(t, p, third)
	refuse(t, p, first)
	if p.RefreshReuses() != 1 {
		t.Errorf("%d reuses, want 1", p.RefreshReuses())
	}
}

func TestRefreshFailureRate(t *testing.T) {
	t.Parallel()
	const n = 200
	statuses := func(rate float64, seed uint64) (all []int) {
		p := New(t)
		p.SetRefreshTokens(true)
		p.SetOpaqueAccessTokens(true)
		p.SetIDTokenSigner(func(Claims) string { return "not signed, to be quick" })
		token := refreshToken(signIn(t, p))
		p.SetRefreshFailureRate(rate, seed)
		for range n {
			status, body, err := post(p, renewal(token))
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, status); status == http.StatusOK {
				token = refreshTokenIn(body)
			}
		}
		if p.RefreshReuses() != 0 || p.RefreshAttempts() != n {
			t.Errorf("%d reuses, %d attempts", p.RefreshReuses(), p.RefreshAttempts())
		}
		return all
	}
	count := func(all []int, status int) int {
		return len(slices.DeleteFunc(slices.Clone(all), func(s int) bool { return s != status }))
	}
	first := statuses(0.2, 1)
	if failed := count(first, 503); failed < 20 || failed > 65 || count(first, 200) != n-failed {
		t.Errorf("%d of %d failed: %v", failed, n, first)
	}
	if !slices.Equal(first, statuses(0.2, 1)) || slices.Equal(first, statuses(0.2, 2)) {
		t.Error("the seed does not decide")
	}
	if all := count(statuses(0, 1), 200); all != n {
		t.Errorf("rate 0: %d went well", all)
	}
	if all := count(statuses(1, 1), 503); all != n {
		t.Errorf("rate 1: %d failed", all)
	}
}
