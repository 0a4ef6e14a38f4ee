package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRefreshes renews a login, and presents a spent refresh token.
func TestRefreshes(t *testing.T) {
	t.Parallel()
	p, err := startProvider()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	const callback, verifier = "http://127.0.0.1:1/oauth2/callback", "a verifier"
	status, first := p.exchange(t, p.codeFor(t, stormClient, callback, verifier), callback, verifier)
	if status != http.StatusOK || first.RefreshToken == "" || first.ExpiresIn != 2 {
		t.Fatalf("a code got %d and %+v", status, first)
	}
	status, second := p.renew(t, first.RefreshToken)
	if status != http.StatusOK || second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		t.Fatalf("a refresh token got %d and %+v", status, second)
	}
	login, renewed := claimsOf(t, first.IDToken), claimsOf(t, second.IDToken)
	if renewed["sub"] != login["sub"] || renewed["sid"] != login["sid"] || renewed["auth_time"] != login["auth_time"] || renewed["nonce"] != nil {
		t.Errorf("the login %v was renewed as %v", login, renewed)
	}
	for generation, token := range []string{first.AccessToken, second.AccessToken} {
		found, ok := p.refreshes.find(markOf(token))
		if !ok || found.generation != generation || time.Until(found.ends) > shortLifetime {
			t.Errorf("generation %d is known as %+v, %t", generation, found, ok)
		}
	}
	if want := (refreshCounts{attempts: 1, grants: 1}); p.refreshes.count() != want {
		t.Errorf("counted %+v, want %+v", p.refreshes.count(), want)
	}
	for _, token := range []string{first.RefreshToken, second.RefreshToken, "unknown"} {
		if status, _ := p.renew(t, token); status != http.StatusBadRequest {
			t.Errorf("a token of a login that has presented a spent one got %d", status)
		}
	}
	if want := (refreshCounts{attempts: 4, grants: 1, reuses: 1}); p.refreshes.count() != want {
		t.Errorf("counted %+v, want %+v", p.refreshes.count(), want)
	}
	if status, tokens := p.exchange(t, p.codeFor(t, loginClient, callback, verifier), callback, verifier); tokens.RefreshToken != "" {
		t.Errorf("a client that needs no refresh token got %d and one", status)
	}
}

func (p *provider) renew(t *testing.T, token string) (status int, tokens tokenResponse) {
	t.Helper()
	response, err := http.PostForm(p.issuer+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&tokens); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, tokens
}

// TestClients has clients use a site that gives new cookies, and refuses some of them.
func TestClients(t *testing.T) {
	t.Parallel()
	var first, renewed, foreign atomic.Int64
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch cookie, err := r.Cookie("session"); {
		case err == nil && cookie.Value == "first":
			if first.Add(1)%10 == 0 {
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "renewed", Path: "/"})
			fmt.Fprint(w, "one 1000")
		case err == nil && cookie.Value == "renewed":
			fmt.Fprintf(w, "two %d", 2000+renewed.Add(1))
		default:
			foreign.Add(1)
		}
	}))
	t.Cleanup(site.Close)
	order := stormOrder{URL: site.URL + "/token", Cookie: "session=first", Clients: 4, Stuck: 2, Duration: 500 * time.Millisecond}
	input, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	if err := serveClients(strings.NewReader(string(input)), &output); err != nil {
		t.Fatal(err)
	}
	var result stormResult
	if err := json.Unmarshal([]byte(output.String()), &result); err != nil {
		t.Fatal(err)
	}
	if all := int(first.Load() + renewed.Load()); foreign.Load() != 0 || result.Requests != all || renewed.Load() == 0 || first.Load() < 20 {
		t.Errorf("%d requests, of which the site saw %d with the first cookie, %d with the new one and %d with none",
			result.Requests, first.Load(), renewed.Load(), foreign.Load())
	}
	if refused := result.Refused["status 401"]; len(result.Refused) != 1 || int64(refused) != first.Load()/10 {
		t.Errorf("refused were %v, want %d", result.Refused, first.Load()/10)
	}
	if len(result.Tokens) != 2 || result.Tokens["one"] != 1000 || result.Tokens["two"] != 2000+renewed.Load() {
		t.Errorf("the tokens were %v", result.Tokens)
	}
	if result.Took < order.Duration || result.Median <= 0 || result.Median > result.P99 || result.P99 > result.Slowest {
		t.Errorf("the times were %+v", result)
	}
}

// TestPromises shows a storm that keeps every promise, and for each of them one that breaks it.
func TestPromises(t *testing.T) {
	t.Parallel()
	const took = 10 * time.Second
	for _, test := range []struct {
		name   string
		harm   func(*stormLeg, *refreshCounts)
		broken string
	}{
		{"calm", func(*stormLeg, *refreshCounts) {}, ""},
		{"refused", func(l *stormLeg, _ *refreshCounts) { l.Refused["status 401"] = 1 }, "refused"},
		{"reuse", func(_ *stormLeg, c *refreshCounts) { c.reuses = 1 }, "presented twice"},
		{"a grant in vain", func(_ *stormLeg, c *refreshCounts) { c.attempts, c.grants = 6, 6 }, "newest generation"},
		{"too many grants", func(_ *stormLeg, c *refreshCounts) { c.grants = 8 }, "grants, in"},
		{"too few grants", func(_ *stormLeg, c *refreshCounts) { c.grants = 3 }, "grants, in"},
		{"a failed attempt", func(_ *stormLeg, c *refreshCounts) { c.attempts++ }, "attempts"},
		{"a generation left out", func(l *stormLeg, _ *refreshCounts) { delete(l.Tokens, "token-2") }, "access tokens at"},
		{"a token past its end", func(l *stormLeg, _ *refreshCounts) { l.Tokens["token-1"] += int64(time.Hour) }, "after their end"},
		{"a token of nobody", func(l *stormLeg, _ *refreshCounts) { l.Tokens["else"] = 0 }, "nobody issued"},
		{"a slow answer", func(l *stormLeg, _ *refreshCounts) { l.Slowest = stormSlowest }, "slowest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := &run{provider: &provider{}}
			leg := stormLeg{stormResult: stormResult{Took: took, Slowest: stormSlowest / 2, Refused: map[string]int{}, Tokens: map[string]int64{}}}
			now := time.Now()
			for generation := range 6 {
				mark := fmt.Sprintf("token-%d", generation)
				r.provider.refreshes.note(mark, issued{generation, now.Add(time.Minute)})
				leg.Tokens[mark] = now.UnixNano()
			}
			counts := refreshCounts{attempts: 5, grants: 5}
			test.harm(&leg, &counts)
			var report strings.Builder
			err := writePromises(&report, r.promises([3]stormLeg{1: leg}, counts))
			if test.broken == "" && err != nil {
				t.Errorf("broken: %v", err)
			}
			if test.broken != "" && (err == nil || !strings.Contains(err.Error(), test.broken) || !strings.Contains(report.String(), "**broken**")) {
				t.Errorf("got %v, want %q to be broken", err, test.broken)
			}
		})
	}
}

func TestReadsIn(t *testing.T) {
	t.Parallel()
	got, err := readsIn("# Stats\r\ntotal_commands_processed:9000\r\nkeyspace_hits:4711\r\nkeyspace_misses:12\r\n")
	if err != nil || got != 4711 {
		t.Errorf("got %d, %v, want 4711", got, err)
	}
	for _, statistics := range []string{"# Stats\r\n", "keyspace_hits:many\r\n"} {
		if _, err := readsIn(statistics); err == nil {
			t.Errorf("a number was read in %q", statistics)
		}
	}
}
