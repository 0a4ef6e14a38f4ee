package openidconnect

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// lastTokenRequest is the newest request to the token endpoint.
func lastTokenRequest(t *testing.T, p *optest.Provider) optest.RecordedRequest {
	t.Helper()
	requests := p.Requests(optest.Token)
	if len(requests) == 0 {
		t.Fatal("there was no token request")
	}
	return requests[len(requests)-1]
}

// S-200: an answer without a refresh token leaves the old one in use, one with another replaces it.
func TestS200RefreshTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	omit := func(p *optest.Provider) { p.SetOmitRefreshToken(true) }
	empty := func(value any) func(*optest.Provider) {
		return func(p *optest.Provider) {
			p.SetOmitRefreshToken(true)
			p.SetRefreshResponse(func(answer map[string]any) { answer["refresh_token"] = value })
		}
	}
	for _, storage := range []string{"cookie", "caddy"} {
		for name, without := range map[string]func(*optest.Provider){"none": omit, "empty": empty(""), "null": empty(jsonNull)} {
			t.Run(storage+" "+name, func(t *testing.T) {
				defer healRenewals(p)
				r := newRenewer(t, p, "set_refresh_token_header\nset_access_token_header\nsession {\nstorage "+storage+"\n}")
				without(p)
				kept := r.tokens["refresh_token"]
				for range 3 {
					arrived := r.renew()
					if got := lastTokenRequest(t, p).Form.Get("refresh_token"); got != kept {
						t.Error("another refresh token was presented than that of the login")
					}
					if arrived.Header.Get("X-Refresh-Token") != kept || arrived.Header.Get("X-Access-Token") != r.tokens["access_token"] {
						t.Error("the upstream did not get the new access token and the old refresh token")
					}
				}
				p.SetOmitRefreshToken(false)
				p.SetRefreshResponse(nil)
				for range 3 {
					arrived := r.renew()
					if got := lastTokenRequest(t, p).Form.Get("refresh_token"); got != kept {
						t.Error("not the newest refresh token was presented")
					}
					if kept == r.tokens["refresh_token"] {
						t.Error("the provider has not rotated")
					}
					if kept = r.tokens["refresh_token"]; arrived.Header.Get("X-Refresh-Token") != kept {
						t.Error("the upstream did not get the newest refresh token")
					}
				}
			})
		}
	}
	t.Run("no rotation", func(t *testing.T) {
		p.SetRotation(false)
		defer p.SetRotation(true)
		r := newRenewer(t, p, "set_refresh_token_header")
		kept := r.tokens["refresh_token"]
		for range 3 { // each is a real one
			if got := r.renew().Header.Get("X-Refresh-Token"); got != kept || r.tokens["refresh_token"] != kept {
				t.Error("the refresh token has changed")
			}
		}
	})
	if n := p.RefreshReuses(); n != 0 {
		t.Errorf("%d spent refresh tokens were presented", n)
	}
}

// C-096: the new access token is what everybody gets from then on, and the old one nobody any more.
func TestRenewedAccessToken(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, settings := range []string{"set_access_token_header", "set_access_token_header\naccess_token_in_authorization_header"} {
		t.Run(settings, func(t *testing.T) {
			r := newRenewer(t, p, settings)
			for range 3 {
				old := r.tokens["access_token"]
				arrived := r.renew()
				got := arrived.Header.Get("X-Access-Token")
				if strings.Contains(settings, "authorization") {
					got = strings.TrimPrefix(arrived.Header.Get("Authorization"), "Bearer ")
				}
				if got != r.tokens["access_token"] || got == old {
					t.Error("the upstream did not get the new access token")
				}
				if placeholder := arrived.placeholder(t, "http.auth.user.access_token"); placeholder != got {
					t.Error("the placeholder is not the new access token")
				}
			}
		})
	}
}

// C-095: the request carries the refresh token as it was given, and nothing that was not asked for.
func TestRefreshRequest(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, test := range []struct {
		name, settings string
		want           url.Values // beside grant_type and refresh_token
	}{
		{"by default", "", nil},
		{"scopes are those of the login", "scope openid profile email offline_access", nil},
		{"what the login alone asks for", "prompt consent\nacr_values gold\nmax_age 1d\ndisplay page\nui_locales de\nauthorization_params access_type offline", nil},
		{"token_params", "token_params audience https://api.example\ntoken_params tenant a", url.Values{
			"audience": {"https://api.example"}, "tenant": {"a"},
		}},
		{"a part of the scope", "scope openid read write\ntoken_params scope `openid read`", url.Values{"scope": {"openid read"}}},
		{"resource", "resource https://a.example https://b.example", url.Values{"resource": {"https://a.example", "https://b.example"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.FailRefresh(refreshed(t, p, nil))
			defer p.HealRefresh()
			r := newRenewer(t, p, test.settings)
			r.renew()
			request := lastTokenRequest(t, p)
			want := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {r.tokens["refresh_token"]}}
			maps.Copy(want, test.want)
			if request.Form.Encode() != want.Encode() {
				t.Errorf("the request has %q, want %q", slices.Sorted(maps.Keys(request.Form)), slices.Sorted(maps.Keys(want)))
			}
			if request.Method != http.MethodPost || request.URL.RawQuery != "" || request.Header.Get("Cookie") != "" ||
				request.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || request.Header.Get("Accept") != "application/json" {
				t.Errorf("%s %s %v", request.Method, request.URL, request.Header)
			}
		})
	}
}

// refreshed is a good answer to a refresh, in place of the one that the provider would give.
func refreshed(t *testing.T, p *optest.Provider, changes map[string]any) optest.Fault {
	t.Helper()
	answer := map[string]any{"access_token": p.AccessToken(nil), "token_type": "Bearer", "expires_in": 300}
	maps.Copy(answer, changes)
	maps.DeleteFunc(answer, func(_ string, value any) bool { return value == nil })
	body, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return optest.Fault{Body: body, Header: http.Header{"Content-Type": {"application/json"}}}
}

// Refresh tokens are texts of the provider's making: whatever characters they have, they come back as they were.
func TestRefreshTokensWithOddCharacters(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, storage := range []string{"cookie", "caddy"} {
		for _, token := range []string{
			"a b+c/d=e&f=g?h#i%2Bj%", `"quoted"\back\slash`, "1//0gAbC-_~.!*'();:@$,[]{}|^`<>", "  spaces at both ends  ", "0", "=", "&", "+",
			strings.Repeat("x+/=", 2<<10), strings.Repeat("~", 1000) + ".eyJhbGciOiJub25lIn0.e30.",
		} {
			t.Run(fmt.Sprintf("%s %.20s %d", storage, token, len(token)), func(t *testing.T) {
				defer healRenewals(p)
				p.SetRefreshTokens(true)
				p.MarkSecret(token + "-not-in-any-log")
				p.SetTokenResponse(func(answer map[string]any) { answer["refresh_token"] = token })
				s := newLoginSite(t, p, withinProcess+"\nset_refresh_token_header\nsession {\nstorage "+storage+"\n}")
				r := &renewer{visitor: newVisitor(t, s, p)}
				r.signIn("/")
				for range 2 {
					p.FailRefresh(refreshed(t, p, map[string]any{"refresh_token": token}))
					r.renew()
					if got := lastTokenRequest(t, p).Form["refresh_token"]; len(got) != 1 || got[0] != token {
						t.Errorf("presented %q", got)
					}
				}
			})
		}
	}
}

// Answers without a token keep the session, as an outage does, and are asked for again; what is too large for a token is none either.
func TestRefreshAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	large := strings.Repeat("x", 65<<10)
	for name, changes := range map[string]map[string]any{
		"no access token":      {"access_token": nil},
		"an empty one":         {"access_token": ""},
		"one that is a number": {"access_token": 7},
		"one of 65 KB":         {"access_token": large},
		"with a line break":    {"access_token": "a\nb"},
		"no type":              {"token_type": nil},
		"of type DPoP":         {"token_type": "DPoP"},
		"2 MB":                 {"x": strings.Repeat("x", 2<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": []string{"a"}})
			r := newRenewer(t, p, "claim_header X-Groups groups")
			token := r.tokens["access_token"]
			with := newRenewer(t, p, "set_access_token_header\ntimeout 6s")
			p.FailRefresh(refreshed(t, p, changes))
			r.expire()
			with.later(pastAccess)
			for range 3 {
				response := r.Get(r.url("/"))
				if response.Status != http.StatusOK || r.upstream.advance() != 1 {
					t.Errorf("got %d: %s", response.Status, response.Body)
				}
				r.site.wantHeaders(map[string]string{"X-Groups": "a"})
				refused := with.Get(with.url("/"), "Accept: application/json")
				with.wantReason(refused, http.StatusServiceUnavailable, "refresh_unavailable")
				if refused.Header.Get("Retry-After") == "" {
					t.Error("there is no Retry-After")
				}
			}
			p.HealRefresh()
			r.pass(time.Minute)
			r.renewDue()
			with.later(time.Minute)
			if got := with.renewDue().Header.Get("X-Access-Token"); got == "" || got == token {
				t.Error("not a new access token")
			}
		})
	}
}

// What is odd beside a good access token is left out, and what the session had of it stays: the refresh token of before is spent by then.
func TestRefreshAnswersThatAreOdd(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	large := strings.Repeat("x", 65<<10)
	for _, test := range []struct {
		member string
		value  any
	}{
		{"refresh_token", large},
		{"refresh_token", []string{"a"}},
		{"refresh_token", "a\nb"},
		{"id_token", large},
		{"id_token", true},
		{"id_token", map[string]any{}},
		{"scope", 1},
		{"scope", []any{"openid", 1}},
		{"scope", large},
		{"scope", "openid\nread"},
		{"expires_in", []int{300}},
	} {
		t.Run(fmt.Sprintf("%s %.20v", test.member, test.value), func(t *testing.T) {
			defer healRenewals(p)
			p.SetUser(optest.Claims{"groups": "a"})
			r := newRenewer(t, p, "set_access_token_header\nset_refresh_token_header\nclaim_header X-Scope scope\nclaim_header X-Groups groups")
			kept := r.tokens["refresh_token"]
			p.SetOmitRefreshToken(true)
			renewedAnswer(test.member, test.value)(p)
			for range 2 {
				header := r.renew().Header
				if header.Get("X-Access-Token") != r.tokens["access_token"] || header.Get("X-Refresh-Token") != kept ||
					header.Get("X-Scope") != "openid" || header.Get("X-Groups") != "a" {
					t.Errorf("got %v", header)
				}
			}
			healRenewals(p)
			p.SetUser(optest.Claims{"groups": "b"})
			if got := r.renew().Header.Get("X-Groups"); got != "b" {
				t.Errorf("groups %q after it", got)
			}
		})
	}
}
