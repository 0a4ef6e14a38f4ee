package e2e

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// atOnce is how many requests a page makes at the same moment.
const atOnce = 20

// eachRenewing runs a test with a site behind every provider, and with every place for sessions.
func eachRenewing(t *testing.T, test func(t *testing.T, r *renewing)) {
	for _, one := range []struct {
		name    string
		start   newProvider
		options []string
	}{
		{"zitadel", newZitadelLoginWith, nil},
		{"oidc-provider", newNodeLoginWith, nil},
		{"oidc-provider, sessions in Caddy's storage", newNodeLoginWith, []string{"session {", "storage caddy", "}"}},
		{"keycloak", newKeycloakAccount, nil},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			test(t, newRenewing(t, one.start, one.options...))
		})
	}
}

// TestRenewal has many requests at once after the end of each access token, half of them with the cookies of the login.
func TestRenewal(t *testing.T) {
	t.Parallel()
	eachRenewing(t, func(t *testing.T, r *renewing) {
		tab := r.logsIn(t, "/orders")
		login := r.session()
		newest := r.get(t, login)
		spent := newest.Header.Get("X-Refresh-Token")
		for range 3 {
			newest = r.renewsForAll(t, atOnce, login, newest)
		}
		if r.provider.admin != nil {
			if sessions, err := r.provider.admin.Sessions(t.Context(), r.subject()); err != nil || sessions != 1 {
				t.Errorf("there are %d sessions at the provider, %v, want 1", sessions, err)
			}
		}

		// The provider would have noticed a second use: it does now.
		if status := redeem(t, r.provider, spent); status != http.StatusBadRequest {
			t.Errorf("a spent refresh token is answered with %d", status)
		}
		if g := r.provider.grants(t); g.Refused != 1 {
			t.Errorf("%d refresh tokens were refused, want 1", g.Refused)
		}
		if r.provider.name == "zitadel" { // does no more about it
			return
		}
		// It has ended the session, and the gateway goes along with it.
		expire(t)
		for range 2 {
			r.expectLoginRequired(t, r.get(t, newest.kept))
		}
		if g := r.provider.grants(t); g.Refused != 2 {
			t.Errorf("%d refresh tokens were refused, want 2: one of ours", g.Refused)
		}
		tab.Open(r.url("/again"))
		r.finish(t, tab, r.provider.user).expect(t, "/again", r.subject())
		r.expectNoErrors(t, tab)
	})
}

// renewsForAll has many requests come at the same time, after the end of the access token: half of them with the cookies of the login, and
// half with those of an answer. It expects one renewal for all of them, and returns an answer after it.
func (r *renewing) renewsForAll(t *testing.T, requests int, login cookies, before *scriptAnswer) *scriptAnswer {
	t.Helper()
	for range 5 {
		expire(t)
		var senders []cookies
		for i := range requests {
			senders = append(senders, []cookies{login, before.kept}[i%2])
		}
		var took time.Duration
		r.renews(t, func() {
			began := time.Now()
			answers := r.getAll(t, senders...)
			if took = time.Since(began); took < tokenLifetime*4/5 {
				r.expectOne(t, before, answers)
			}
			before = r.get(t, answers[0].kept)
		})
		if took < tokenLifetime*4/5 {
			return before
		}
		t.Logf("%d requests took %s, which is time for another renewal: once more", requests, took)
	}
	t.Fatal("this machine is too slow to tell one renewal from two")
	return nil
}

// expectOne compares the answers to many requests: all have the tokens and the cookies of one renewal.
func (r *renewing) expectOne(t *testing.T, before *scriptAnswer, answers []*scriptAnswer) {
	t.Helper()
	accessTokens, refreshTokens, values := make(map[string]int), make(map[string]int), make(map[string]int)
	for i, answer := range answers {
		if answer.status != http.StatusOK {
			t.Fatalf("request %d got %d: %s", i, answer.status, answer.body)
		}
		answer.expect(t, "/received", r.subject())
		answer.expectAlive(t)
		accessTokens[answer.Header.Get("X-Access-Token")]++
		refreshTokens[answer.Header.Get("X-Refresh-Token")]++
		values[strings.Join(slices.Sorted(maps.Values(answer.kept)), " ")]++
	}
	if len(accessTokens) != 1 || accessTokens[before.Header.Get("X-Access-Token")] != 0 {
		t.Errorf("the application got %d access tokens, want a new one", len(accessTokens))
	}
	if len(refreshTokens) != 1 || refreshTokens[before.Header.Get("X-Refresh-Token")] != 0 {
		t.Errorf("the application got %d refresh tokens, want a new one", len(refreshTokens))
	}
	if old := values[strings.Join(slices.Sorted(maps.Values(before.kept)), " ")]; len(values) != 1 || old != 0 && !r.stored {
		t.Errorf("the browser gets %d different cookies, %d times those that it has; want new ones", len(values), old)
	}
}

// expectAlive compares the exp of the access token, where it shows one, with the time at which it came to the application.
func (r received) expectAlive(t *testing.T) {
	t.Helper()
	parts := strings.Split(r.Header.Get("X-Access-Token"), ".")
	if len(parts) != 3 {
		return
	}
	var claims struct{ Exp int64 }
	if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err != nil || json.Unmarshal(payload, &claims) != nil {
		return
	}
	if left := time.Unix(claims.Exp, 0).Sub(r.At); left < -time.Second {
		t.Errorf("the application got an access token that has expired %s ago", -left)
	}
}

// expectLoginRequired compares an answer with the one that scripts get without a session.
func (r *renewing) expectLoginRequired(t *testing.T, answer *scriptAnswer) {
	t.Helper()
	var refusal struct {
		Error    string `json:"error"`
		LoginURL string `json:"login_url"`
	}
	if err := json.Unmarshal(answer.body, &refusal); err != nil || answer.status != http.StatusUnauthorized ||
		refusal.Error != "login_required" || refusal.LoginURL == "" {
		t.Errorf("a script is answered with %d: %s", answer.status, answer.body)
	}
}

// redeem sends a refresh token to the provider, as whoever has got hold of it and of the client's secret.
func redeem(t *testing.T, p *loginProvider, refreshToken string) (status int) {
	t.Helper()
	meta, err := discover(t.Context(), p.issuer)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, meta.TokenEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(p.client, secret)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
