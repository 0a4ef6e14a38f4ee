package openidconnect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Some claims are dates, and dates are numbers.
func TestS071ToS072Dates(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	now := time.Now()
	for _, test := range []struct {
		name   string
		claims optest.Claims
		reason string // empty: allowed
	}{
		{"good", nil, ""},
		{"exp beyond everything", optest.Claims{"exp": json.RawMessage("1e300")}, ""},
		{"exp with a fraction and an exponent", optest.Claims{"exp": json.RawMessage("4.1024448005e9")}, ""},
		{"without iat and nbf", optest.Claims{"iat": nil}, ""},
		{"S077 iat two years ago", optest.Claims{"iat": now.AddDate(-2, 0, 0).Unix()}, ""},
		{"S071 exp missing", optest.Claims{"exp": nil}, "missing_claim"},
		{"S071 exp null", optest.Claims{"exp": jsonNull}, "malformed_token"},
		{"S071 exp 0", optest.Claims{"exp": 0}, "expired"},
		{"S071 exp 0.9", optest.Claims{"exp": 0.9}, "expired"},
		{"S071 exp -1", optest.Claims{"exp": -1}, "expired"},
		{"S071 exp 1", optest.Claims{"exp": 1}, "expired"},
		{"S071 exp far before everything", optest.Claims{"exp": json.RawMessage("-1e300")}, "expired"},
		{"S071 exp out of range", optest.Claims{"exp": json.RawMessage("1e400")}, "malformed_token"},
		{`S071 exp "0"`, optest.Claims{"exp": "0"}, "malformed_token"},
		{"S072 exp as text", optest.Claims{"exp": "4102444800"}, "malformed_token"},
		{"S072 exp as a date", optest.Claims{"exp": "2100-01-01T00:00:00Z"}, "malformed_token"},
		{"S072 exp true", optest.Claims{"exp": true}, "malformed_token"},
		{"S072 exp in a list", optest.Claims{"exp": []int{4102444800}}, "malformed_token"},
		{"S072 exp an object", optest.Claims{"exp": map[string]any{}}, "malformed_token"},
		{"S072 nbf as text", optest.Claims{"nbf": "0"}, "malformed_token"},
		{"S072 nbf false", optest.Claims{"nbf": false}, "malformed_token"},
		{"S072 iat as text", optest.Claims{"iat": fmt.Sprint(now.Unix())}, "malformed_token"},
		{"S072 iat null", optest.Claims{"iat": jsonNull}, "malformed_token"},
		{"S076 nbf within the tolerance", optest.Claims{"nbf": now.Add(50 * time.Second).Unix()}, ""},
		{"S076 nbf beyond it", optest.Claims{"nbf": now.Add(70 * time.Second).Unix()}, "not_yet_valid"},
		{"S077 iat within the tolerance", optest.Claims{"iat": now.Add(50 * time.Second).Unix()}, ""},
		{"S077 iat in ten minutes", optest.Claims{"iat": now.Add(10 * time.Minute).Unix()}, "not_yet_valid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, token := s.in(t), p.AccessToken(test.claims)
			if test.reason == "" {
				s.allows(token)
			} else {
				s.refuses(token, 401, test.reason)
			}
		})
	}
}

// The end of a token is sharp, at the tolerance that is configured, whether it is in the cache or not.
func TestS074ToS076TheClock(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	start := time.Now().Truncate(time.Second)
	expiry := start.Add(30 * time.Second)
	for _, test := range []struct {
		settings string
		skew     time.Duration
	}{
		{"", 60 * time.Second},
		{"clock_skew 0s", 0},
		{"clock_skew 5s", 5 * time.Second},
		{"token_cache 0", 60 * time.Second},
		{"token_cache 0\nclock_skew 0s", 0},
	} {
		t.Run(test.settings, func(t *testing.T) {
			s := newBearerSite(t, p, "audience api\n"+test.settings)
			whole := p.AccessToken(optest.Claims{"exp": expiry.Unix(), "iat": start.Unix(), "nbf": start.Unix()})
			half := p.AccessToken(optest.Claims{"exp": json.RawMessage(fmt.Sprintf("%d.5", expiry.Unix())), "iat": start.Unix()})
			at := func(moment time.Time, token string, reason string) {
				t.Helper()
				s.setNow(moment)
				if reason == "" {
					s.allows(token)
				} else {
					s.refuses(token, 401, reason)
				}
			}
			at(start.Add(-test.skew-time.Second), whole, "not_yet_valid")
			at(start.Add(-test.skew), whole, "")
			at(start, whole, "")
			at(expiry.Add(-time.Second), whole, "")
			at(expiry.Add(test.skew-time.Millisecond), whole, "")
			at(expiry.Add(test.skew), whole, "expired")
			at(expiry.Add(test.skew+time.Hour), whole, "expired")
			at(expiry.Add(test.skew), half, "")
			at(expiry.Add(test.skew+499*time.Millisecond), half, "")
			at(expiry.Add(test.skew+500*time.Millisecond), half, "expired")
			// a clock that goes back brings the token back, and nothing else
			at(expiry.Add(-time.Second), whole, "")
		})
	}
}

// The issuer is one string, compared code point by code point.
func TestS078TheIssuerIsExact(t *testing.T) {
	t.Parallel()
	p := optest.New(t, optest.WithIssuerPath("/realms/a"))
	s := newBearerSite(t, p, "audience api\nvalid_issuers https://old.example")
	s.allows(p.AccessToken(nil))
	s.allows(p.AccessToken(optest.Claims{"iss": "https://old.example"}))
	issuer := p.Issuer()
	port := strings.TrimPrefix(p.URL(), "http://127.0.0.1")
	for name, value := range map[string]any{
		"missing": nil, "null": jsonNull, "empty": "", "a list": []string{issuer}, "an object": map[string]any{"iss": issuer}, "a number": 1,
		"with a slash": issuer + "/", "another host": "http://localhost" + port + "/realms/a", "capital letters": strings.ToUpper(issuer),
		"https": strings.Replace(issuer, "http:", "https:", 1), "without the path": p.URL(), "a prefix": issuer[:len(issuer)-1], "a suffix": issuer + "b",
		"percent-encoded": strings.Replace(issuer, "realms", "%72ealms", 1), "with a port": "https://old.example:443",
		"old with a slash": "https://old.example/",
		"a space before":   " " + issuer, "a space after": issuer + " ", "with a query": issuer + "?", "with a fragment": issuer + "#",
		"user information": strings.Replace(issuer, "http://", "http://x@", 1), "zero-width": issuer + "\u200b",
		"two in one": issuer + " https://old.example",
	} {
		t.Run(name, func(t *testing.T) { s.in(t).refuses(p.AccessToken(optest.Claims{"iss": value}), 401, "wrong_issuer") })
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) { m["issuer"] = p.URL() + "/{tenantid}/v2.0" })
	s := newSite(t, "discovery "+p.Endpoint(optest.Discovery)+"\nbearer_only\naudience api\ntenants one two")
	for _, tenant := range []string{"one", "two"} {
		s.allows(p.AccessToken(optest.Claims{"iss": p.URL() + "/" + tenant + "/v2.0", "tid": tenant}))
	}
	s.refuses(p.AccessToken(optest.Claims{"iss": p.URL() + "/three/v2.0", "tid": "three"}), 401, "wrong_issuer")
	s.refuses(p.AccessToken(optest.Claims{"iss": p.URL() + "/one/v2.0", "tid": "two"}), 401, "wrong_issuer")
	s.refuses(p.AccessToken(optest.Claims{"iss": p.URL() + "/one/v2.0"}), 401, "wrong_issuer")
	s.refuses(p.AccessToken(optest.Claims{"iss": p.URL() + "/{tenantid}/v2.0", "tid": "{tenantid}"}), 401, "wrong_issuer")

	everybody := newSite(t, "discovery "+p.Endpoint(optest.Discovery)+"\nbearer_only\naudience api")
	everybody.refuses(p.AccessToken(optest.Claims{"iss": p.URL() + "/one/v2.0", "tid": "one"}), 503, "discovery_issuer_mismatch")
}

func TestS079TheAudience(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	ours := "https://api.example.com/v1"
	s := newBearerSite(t, p, "audience "+ours+" second")
	none := newBearerSite(t, p, "audience any")
	for name, value := range map[string]any{
		"the string": ours, "in a list": []string{ours}, "among others": []string{"other", ours}, "the second": "second", "both": []string{"second", ours},
	} {
		t.Run(name, func(t *testing.T) { s.in(t).allows(p.AccessToken(optest.Claims{"aud": value})) })
	}
	for name, value := range map[string]any{
		"missing": nil, "null": jsonNull, "empty": "", "an empty list": []string{}, "another": "other", "another in a list": []string{"other"},
		"a list in a list": [][]string{{ours}}, "with a number": []any{ours, 1}, "with null": []any{ours, nil}, "an object": map[string]any{ours: true},
		"with a slash": ours + "/", "capital letters": strings.ToUpper(ours), "a string that holds it": "x " + ours + " y", "a prefix": ours[:len(ours)-1],
		"comma-separated": "other," + ours, "space-separated": "second other", "a number": 1, "true": true, "a space after": ours + " ",
	} {
		t.Run(name, func(t *testing.T) {
			token := p.AccessToken(optest.Claims{"aud": value})
			s.in(t).refuses(token, 401, "wrong_audience")
			none.in(t).allows(token)
		})
	}
}

// Some providers have no aud in access tokens, and operators then name another claim.
func TestAudienceClaim(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience app-1 app-2\naudience_claim client_id")
	s.allows(p.AccessToken(optest.Claims{"aud": nil, "client_id": "app-1"}))
	s.allows(p.AccessToken(optest.Claims{"aud": "other", "client_id": "app-2"}))
	s.refuses(p.AccessToken(optest.Claims{"aud": "app-1", "client_id": "other"}), 401, "wrong_audience")
	s.refuses(p.AccessToken(optest.Claims{"aud": "app-1", "client_id": nil}), 401, "wrong_audience")
}

// token_type at+jwt is the JWT profile of RFC 9068.
func TestS260TheAccessTokenProfile(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	profile := newBearerSite(t, p, "audience api\ntoken_type at+jwt")
	anyType := newBearerSite(t, p, "audience api")
	sign := func(typ any, claims optest.Claims) string {
		return optest.Sign(p.Key("rs-1"), optest.Claims{"typ": typ}, p.AccessClaims(claims))
	}
	for _, typ := range []string{"at+jwt", "application/at+jwt", "AT+JWT", "Application/At+Jwt"} {
		profile.allows(sign(typ, nil))
		anyType.allows(sign(typ, nil))
	}
	for _, typ := range []string{"JWT", "jwt", "application/jwt", ""} {
		profile.refuses(sign(typ, nil), 401, "wrong_token_type")
		anyType.allows(sign(typ, nil))
	}
	// a header without typ at all
	bare := optest.SignRaw(p.Key("rs-1"), `{"alg":"RS256","kid":"rs-1"}`, jsonOf(t, p.AccessClaims(nil)))
	profile.refuses(bare, 401, "wrong_token_type")
	anyType.allows(bare)
	for _, typ := range []string{"at+jwt ", "xat+jwt", "at+jwt+x", "at jwt", "application/application/at+jwt", "text/at+jwt", "dpop+jwt", "JOSE"} {
		profile.refuses(sign(typ, nil), 401, "wrong_token_type")
		anyType.refuses(sign(typ, nil), 401, "wrong_token_type")
	}
	for _, name := range []string{"client_id", "jti", "iat", "sub"} {
		profile.refuses(sign("at+jwt", optest.Claims{name: nil}), 401, "missing_claim")
		if name != "iat" {
			profile.refuses(sign("at+jwt", optest.Claims{name: ""}), 401, "missing_claim")
			profile.refuses(sign("at+jwt", optest.Claims{name: jsonNull}), 401, "missing_claim")
		}
		if name != "sub" {
			anyType.allows(sign("at+jwt", optest.Claims{name: nil}))
		}
	}
}

// A token can be too large to be looked at.
func TestTooLargeTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nset_userinfo_header off")
	s.allows(p.AccessToken(optest.Claims{"padding": strings.Repeat("x", 11_000)}))
	s.refuses(p.AccessToken(optest.Claims{"padding": strings.Repeat("x", 13_000)}), 400, "too_large")
	s.refuses(strings.Repeat("a", 20_000), 400, "too_large")
	if n := s.reached(); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	s.wantRefused(t, s.get("/", "Authorization: Bearer "+strings.Repeat("a.", 7_500)), http.StatusUnauthorized, "malformed_token")
}
