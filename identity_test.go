package openidconnect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A genuine token that does not say who it is from opens nothing.
func TestS016SomebodyMustBeNamed(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	bySubject := newBearerSite(t, p, "audience api")
	byEmail := newBearerSite(t, p, "audience api\nusername_claim contact.email")
	byEmail.allows(p.AccessToken(optest.Claims{"contact": map[string]any{"email": "alice@example.com"}}))
	byEmail.allows(p.AccessToken(optest.Claims{"contact": map[string]any{"email": 4711}}))
	bySubject.allows(p.AccessToken(optest.Claims{"sub": "4711"}))
	bySubject.refuses(p.AccessToken(optest.Claims{"sub": 4711}), 403, "claim_required") // it is not the user of that name
	for name, value := range map[string]any{
		"missing": nil, "null": jsonNull, "empty": "", "spaces": "  ", "a tab": "\t", "no-break space": "\u00a0", "an empty list": []string{},
		"a list": []string{"alice"}, "an object": map[string]any{"id": "alice"},
	} {
		t.Run(name, func(t *testing.T) {
			bySubject.in(t).refuses(p.AccessToken(optest.Claims{"sub": value}), 403, "claim_required")
			contact := map[string]any{"email": value}
			if value == nil {
				delete(contact, "email")
			}
			byEmail.in(t).refuses(p.AccessToken(optest.Claims{"contact": contact}), 403, "claim_required")
			byEmail.in(t).refuses(p.AccessToken(optest.Claims{"contact": value}), 403, "claim_required")
		})
	}
}

// Keys of the header map that no HTTP parser writes, but an earlier handler might.
func TestS021OddCasing(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nunauth_action pass\nclaim_header X-Email email")
	for _, token := range []string{"", p.AccessToken(optest.Claims{"email": "alice@example.com"})} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		forged := []string{
			"x-userinfo", "X-USERINFO", "X-Userinfo", "x_Userinfo", "x.userinfo", "X-ID-Token", "x-id-token", "X_RAW.ID_TOKEN", "x-access-token",
			"X-REFRESH-TOKEN", "x_email", "X-EMAIL", "X~Email", "x email",
		}
		for _, name := range forged {
			r.Header[name] = []string{"forged", "twice"}
		}
		r.Header["X-Kept"] = []string{"kept"}
		if token != "" {
			r.Header["Authorization"] = []string{"Bearer " + token}
		}
		w := httptest.NewRecorder()
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
		err := s.handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			for name, values := range r.Header {
				if slices.Contains(values, "forged") {
					t.Errorf("%s reached the upstream", name)
				}
			}
			want := map[string]bool{"X-Kept": true}
			if token != "" {
				want = map[string]bool{"X-Kept": true, "Authorization": true, "X-Userinfo": true, "X-Email": true}
			}
			for name := range r.Header {
				if !want[name] {
					t.Errorf("%s is left", name)
				}
			}
			if len(r.Header) != len(want) {
				t.Errorf("the upstream sees %v", r.Header)
			}
			return nil
		}))
		if err != nil || w.Code != http.StatusOK {
			t.Errorf("got %d, %v", w.Code, err)
		}
	}
}

// What is in a claim gets to the upstream as it is, whatever is in it.
func TestS025ToS027ClaimsInHeaders(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nclaim_header X-Text claim\nclaim_header X-Json claim json")
	for _, test := range []struct {
		name       string
		claim      any
		text, json string
	}{
		{"plain", "alice", "alice", `"alice"`},
		{"S025 letters of the world", "Jürgen 張 😀", "J%C3%BCrgen %E5%BC%B5 %F0%9F%98%80", `"J\u00fcrgen \u5f35 \ud83d\ude00"`},
		{
			"S026 separators inside elements",
			[]string{"CN=Admins,OU=x", "a|b", "c,admin"},
			"CN=Admins%2COU=x,a|b,c%2Cadmin",
			`["CN=Admins,OU=x","a|b","c,admin"]`,
		},
		{"S026 percent signs", []string{"100%", "a%2Cb"}, "100%25,a%252Cb", `["100%","a%2Cb"]`},
		{"S026 a comma in a string", "a,admin", "a%2Cadmin", `"a,admin"`},
		{"line breaks", "a\r\nX-Admin: 1", "a%0D%0AX-Admin: 1", `"a\r\nX-Admin: 1"`},
		{"control characters", "a\tb\u007f\u0085", "a%09b%7F%C2%85", `"a\tb\u007f\u0085"`},
		{"HTML", "<b>&amp;", "<b>&amp;", `"\u003cb\u003e\u0026amp;"`},
		{"S027 beyond floating point", json.RawMessage("9007199254740993"), "9007199254740993", "9007199254740993"},
		{"S027 very large", json.RawMessage("123456789012345678901234567890"), "123456789012345678901234567890", "123456789012345678901234567890"},
		{"S027 an exponent", json.RawMessage("1e21"), "1e21", "1e21"},
		{"S027 a final zero", json.RawMessage("1.10"), "1.10", "1.10"},
		{"S027 minus zero", json.RawMessage("-0"), "-0", "-0"},
		{"S027 true", true, "true", "true"},
		{"S027 an object", map[string]any{"b": []int{1, 2}, "a": "x,y"}, `{"a":"x%2Cy"%2C"b":[1%2C2]}`, `{"a":"x,y","b":[1,2]}`},
		{
			"S027 mixed list",
			[]any{"a", 1, true, nil, map[string]any{"x": "y"}, []string{"b", "c"}},
			`a,1,true,{"x":"y"},["b"%2C"c"]`,
			`["a",1,true,null,{"x":"y"},["b","c"]]`,
		},
		{"a placeholder", "{env.HOME} {http.request.uri}", "{env.HOME} {http.request.uri}", `"{env.HOME} {http.request.uri}"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			s.allows(p.AccessToken(optest.Claims{"claim": test.claim}))
			header := s.last(t).Header
			if got := header["X-Text"]; len(got) != 1 || got[0] != test.text {
				t.Errorf("X-Text %q, want %q", got, test.text)
			}
			if got := header["X-Json"]; len(got) != 1 || got[0] != test.json {
				t.Errorf("X-Json %q, want %q", got, test.json)
			}
			// both can be read back
			var fromJSON, want any
			if err := json.Unmarshal([]byte(header.Get("X-Json")), &fromJSON); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(jsonOf(t, test.claim)), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(fromJSON, want) {
				t.Errorf("X-Json is read as %v, want %v", fromJSON, want)
			}
			if text, ok := test.claim.(string); ok {
				if got, err := url.PathUnescape(header.Get("X-Text")); got != text || err != nil {
					t.Errorf("X-Text is read as %q, want %q", got, text)
				}
			}
			// the whole in X-Userinfo, with numbers as they were written
			claims := userinfo(t, header)
			if number, ok := test.claim.(json.RawMessage); ok && fmt.Sprint(claims["claim"]) != string(number) {
				t.Errorf("X-Userinfo has %v, want %s", claims["claim"], number)
			}
		})
	}
	for name, value := range map[string]any{"absent": nil, "null": jsonNull} {
		t.Run("S027 "+name, func(t *testing.T) {
			s := s.in(t)
			s.allows(p.AccessToken(optest.Claims{"claim": value}))
			if header := s.last(t).Header; header["X-Text"] != nil || header["X-Json"] != nil {
				t.Errorf("X-Text %q, X-Json %q", header["X-Text"], header["X-Json"])
			}
		})
	}
}

// A header that upstreams would choke on is left out, and the operator hears of it.
func TestS028HugeClaims(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newIntrospectionSite(t, p, "claim_header X-Groups groups\nclaim_header X-Email email")
	groups := make([]string, 10_000)
	for i := range groups {
		groups[i] = fmt.Sprintf("a-group-of-some-length-%d", i)
	}
	token := p.OpaqueToken(p.AccessClaims(optest.Claims{"groups": groups, "email": "alice@example.com"}))
	s.allows(token)
	header := s.last(t).Header
	if header["X-Groups"] != nil || header["X-Userinfo"] != nil {
		t.Errorf("X-Groups has %d bytes, X-Userinfo %d", len(header.Get("X-Groups")), len(header.Get("X-Userinfo")))
	}
	if header.Get("X-Email") != "alice@example.com" {
		t.Errorf("X-Email %q", header.Get("X-Email"))
	}
	warned := s.logs.Filter(func(e zapEntry) bool { return e.Level == zapcore.WarnLevel }).All()
	if len(warned) != 2 {
		t.Errorf("%d warnings, want one for each header: %v", len(warned), warned)
	}
	s.allows(token)
	// rules still see the claim
	rules := newIntrospectionSite(t, p, "required_claim groups a-group-of-some-length-9999")
	rules.allows(token)
}

// The headers that carry tokens, and Authorization itself.
func TestTokensToTheUpstream(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	token := p.AccessToken(nil)
	for _, test := range []struct {
		settings, authorization, accessToken string
		userinfo                             bool
	}{
		{"", "Bearer " + token, "", true},
		{"set_userinfo_header off", "Bearer " + token, "", false},
		{"set_access_token_header", "Bearer " + token, token, true},
		{"strip_authorization", "", "", true},
		{"strip_authorization\nset_access_token_header", "", token, true},
		{"access_token_in_authorization_header", "Bearer " + token, "", true},
		{"set_id_token_header\nset_raw_id_token_header\nset_refresh_token_header", "Bearer " + token, "", true},
	} {
		t.Run(test.settings, func(t *testing.T) {
			s := newBearerSite(t, p, "audience api\nbearer_token_from cookie token\n"+test.settings)
			s.allows(token)
			header := s.last(t).Header
			if got := header.Get("Authorization"); got != test.authorization {
				t.Errorf("Authorization %q, want %q", got, test.authorization)
			}
			if got := header.Get("X-Access-Token"); got != test.accessToken {
				t.Errorf("X-Access-Token %q, want %q", got, test.accessToken)
			}
			if got := header.Get("X-Userinfo") != ""; got != test.userinfo {
				t.Errorf("X-Userinfo %q", header.Get("X-Userinfo"))
			}
			for _, name := range []string{"X-Id-Token", "X-Raw-Id-Token", "X-Refresh-Token"} {
				if header[name] != nil {
					t.Errorf("%s %q", name, header[name])
				}
			}
			// the same token from a cookie, with credentials of another kind beside it
			s.wantAllowed(t, s.get("/", "Cookie: a=b; token="+token, "Authorization: Basic YTpi"))
			header = s.last(t).Header
			want := "Basic YTpi"
			switch {
			case strings.Contains(test.settings, "strip"):
				want = ""
			case strings.Contains(test.settings, "in_authorization"):
				want = "Bearer " + token
			}
			if got := header.Get("Authorization"); got != want {
				t.Errorf("Authorization %q, want %q", got, want)
			}
		})
	}
}

// X-Userinfo is the token's own text: padded standard base64.
func TestUserinfoHeader(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret secret")
	for padding := range 4 {
		claims := p.AccessClaims(optest.Claims{"name": strings.Repeat("ü?>", padding), "z": "~~~", "x": padding})
		for _, token := range []string{optest.Sign(p.Key("rs-1"), nil, claims), p.OpaqueToken(claims)} {
			s.allows(token)
			value := s.last(t).Header.Get("X-Userinfo")
			if len(value)%4 != 0 || strings.ContainsAny(value, "-_") {
				t.Errorf("X-Userinfo %q is not padded standard base64", value)
			}
			got := userinfo(t, s.last(t).Header)
			if got["sub"] != "alice" || got["name"] != claims["name"] || got["iss"] != p.Issuer() {
				t.Errorf("X-Userinfo has %v", got)
			}
		}
	}
}

// Later directives change headers in place; that must not reach the next request with the same token.
func TestHeadersAreOfOneRequest(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nclaim_header X-Sub sub")
	token := p.AccessToken(nil)
	s.answer(func(_ http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Userinfo", "X-Sub"} {
			r.Header[name][0] += "-changed"
			r.Header[name] = append(r.Header[name], "more")
		}
	})
	s.allows(token)
	s.answer(nil)
	s.allows(token)
	header := s.last(t).Header
	if got := header["X-Sub"]; len(got) != 1 || got[0] != "alice" {
		t.Errorf("X-Sub %q", got)
	}
	if got := userinfo(t, header)["sub"]; got != "alice" {
		t.Errorf("X-Userinfo names %v", got)
	}
}
