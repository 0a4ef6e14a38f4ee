package openidconnect

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// outcome is what became of a request, as far as it depends on who sends it.
type outcome struct {
	status  int
	reason  string            // of a refusal
	headers map[string]string // that start with X-Claim-
	user    string            // {http.auth.user.id}
	claims  map[string]string // placeholders
}

// passedOn is the outcome of a request that has just reached the upstream.
func (s *site) passedOn(t *testing.T, claims []string) outcome {
	t.Helper()
	arrived := s.last(t)
	got := outcome{
		status: http.StatusOK, user: fmt.Sprint(arrived.placeholder(t, "http.auth.user.id")),
		headers: make(map[string]string), claims: make(map[string]string),
	}
	for name, values := range arrived.Header {
		if strings.HasPrefix(name, "X-Claim-") {
			got.headers[name] = strings.Join(values, "|")
		}
	}
	for _, name := range claims {
		got.claims[name] = fmt.Sprint(arrived.placeholder(t, "http.auth.user."+name))
	}
	return got
}

// withBearer is the outcome of a bearer token with these claims.
func (s *site) withBearer(t *testing.T, p *optest.Provider, user optest.Claims, scope string, claims []string) outcome {
	t.Helper()
	token := optest.Claims{"scope": scope}
	maps.Copy(token, user)
	r := s.bearer(p.AccessToken(token))
	if n := s.advance(); n != 1 {
		return outcome{status: r.StatusCode, reason: r.json(t, "reason")}
	}
	return s.passedOn(t, claims)
}

// withSession is the outcome of a login as somebody with these claims.
func (s *site) withSession(t *testing.T, p *optest.Provider, user optest.Claims, claims []string) outcome {
	t.Helper()
	p.SetUser(user)
	v := newVisitor(t, s, p)
	v.Navigate(v.url("/"))
	s.advance()
	r := v.Get(v.url("/"), "Accept: application/json")
	if n := s.advance(); n != 1 {
		reason, _ := jsonMembers(t, r.Body)["reason"].(string)
		return outcome{status: r.Status, reason: reason}
	}
	return s.passedOn(t, claims)
}

// jsonMembers are the members of a JSON object.
func jsonMembers(t *testing.T, text string) (members map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return members
}

// Rules, headers and placeholders make the same of claims, whether they come with a token or with a session.
func TestClaimsAreTheSameForSessionsAndTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	const scope = "openid profile email read"
	for name, test := range map[string]struct {
		settings string
		user     optest.Claims
		want     outcome // status 0 is 200, user "" is alice
	}{
		"a string":                 {"required_claim tenant acme", optest.Claims{"tenant": "acme"}, outcome{claims: map[string]string{"tenant": "acme"}}},
		"another string":           {"required_claim tenant acme", optest.Claims{"tenant": "acme "}, outcome{reason: "claim_required"}},
		"another case":             {"required_claim tenant acme", optest.Claims{"tenant": "Acme"}, outcome{reason: "claim_required"}},
		"a part of a string":       {"required_claim tenant acme", optest.Claims{"tenant": "acme evil"}, outcome{reason: "claim_required"}},
		"missing":                  {"required_claim tenant acme", nil, outcome{reason: "claim_required"}},
		"null":                     {"required_claim tenant", optest.Claims{"tenant": jsonNull}, outcome{reason: "claim_required"}},
		"empty":                    {"required_claim tenant", optest.Claims{"tenant": []string{}}, outcome{reason: "claim_required"}},
		"there":                    {"required_claim tenant", optest.Claims{"tenant": false}, outcome{claims: map[string]string{"tenant": "false"}}},
		"a boolean":                {"required_claim email_verified true", optest.Claims{"email_verified": true}, outcome{}},
		"a boolean that is false":  {"required_claim email_verified true", optest.Claims{"email_verified": false}, outcome{reason: "claim_required"}},
		"a number":                 {"required_claim level 3", optest.Claims{"level": 3}, outcome{claims: map[string]string{"level": "3"}}},
		"a number of another kind": {"required_claim level 3", optest.Claims{"level": 3.5}, outcome{reason: "claim_required"}},
		"a large number": {
			"claim_header X-Claim-A n",
			optest.Claims{"n": json.RawMessage("12345678901234567890")},
			outcome{headers: map[string]string{"X-Claim-A": "12345678901234567890"}, claims: map[string]string{"n": "12345678901234567890"}},
		},
		"an element of a list": {
			"required_claim groups a b", optest.Claims{"groups": []string{"x", "b"}}, outcome{claims: map[string]string{"groups": "x,b"}},
		},
		"no element of a list": {"required_claim groups a b", optest.Claims{"groups": []string{"x", "a,b"}}, outcome{reason: "claim_required"}},
		"all lines":            {"required_claim groups a\nrequired_claim groups b", optest.Claims{"groups": []string{"b", "a"}}, outcome{}},
		"one line of two": {
			"required_claim groups a\nrequired_claim groups b", optest.Claims{"groups": []string{"b"}}, outcome{reason: "claim_required"},
		},
		"nested": {
			"required_claim a.b.roles boss",
			optest.Claims{"a": map[string]any{"b": map[string]any{"roles": []string{"boss"}}}},
			outcome{claims: map[string]string{"a.b.roles": "boss"}},
		},
		"nested in another place": {
			"required_claim a.b.roles boss", optest.Claims{"b": map[string]any{"roles": []string{"boss"}}}, outcome{reason: "claim_required"},
		},
		"a name with dots": {
			"required_claim a.b.roles boss", optest.Claims{"a.b.roles": "boss"}, outcome{claims: map[string]string{"a.b.roles": "boss"}},
		},
		"an escaped dot": {
			`required_claim a\.b.roles boss`,
			optest.Claims{"a.b": map[string]any{"roles": "boss"}},
			outcome{claims: map[string]string{`a\.b.roles`: "boss"}},
		},
		"a URL": {
			"required_claim https://example.com/roles boss\nclaim_placeholder r https://example.com/roles",
			optest.Claims{"https://example.com/roles": []string{"boss"}},
			outcome{claims: map[string]string{"r": "boss"}},
		},
		"a member of an object": {
			"required_claim roles boss", optest.Claims{"roles": map[string]any{"boss": 1}}, outcome{claims: map[string]string{"roles": `{"boss":1}`}},
		},
		"denied":                  {"denied_claim groups guests", optest.Claims{"groups": []string{"a", "guests"}}, outcome{reason: "claim_denied"}},
		"not denied":              {"denied_claim groups guests", optest.Claims{"groups": []string{"a"}}, outcome{}},
		"nothing to deny":         {"denied_claim groups guests", nil, outcome{}},
		"scopes":                  {"required_scopes read openid", nil, outcome{}},
		"a scope that is missing": {"required_scopes read write", nil, outcome{reason: "insufficient_scope"}},
		"a scope as a claim":      {"required_claim scope read", nil, outcome{}},
		"scopes in a header and a placeholder": {
			"claim_header X-Claim-A scope", nil, outcome{headers: map[string]string{"X-Claim-A": scope}, claims: map[string]string{"scope": scope}},
		},
		"another scope as a claim":  {"required_claim scope write", nil, outcome{reason: "claim_required"}},
		"a scope of the user's own": {"required_claim roles read", optest.Claims{"roles": "a read"}, outcome{reason: "claim_required"}},
		"headers": {
			"claim_header X-Claim-A name\nclaim_header X-Claim-B groups\nclaim_header X-Claim-C o json\nclaim_header X-Claim-D gone\nclaim_header X-Claim-E o",
			optest.Claims{"name": "Zoë, 50%", "groups": []string{"a,b", " c", "d\r\nX-Evil: 1"}, "o": map[string]any{"é": 1}},
			outcome{headers: map[string]string{
				"X-Claim-A": "Zo%C3%AB%2C 50%25", "X-Claim-B": "a%2Cb,%20c,d%0D%0AX-Evil: 1", "X-Claim-C": `{"\u00e9":1}`, "X-Claim-E": "{\"\\u00e9\":1}",
			}},
		},
		"the user by another claim":       {"username_claim email", optest.Claims{"email": "ada@example.com"}, outcome{user: "ada@example.com"}},
		"the user by a nested claim":      {"username_claim a.b", optest.Claims{"a": map[string]any{"b": "ada"}}, outcome{user: "ada"}},
		"the user by a number":            {"username_claim uid", optest.Claims{"uid": 1001}, outcome{user: "1001"}},
		"the user by a claim that is not": {"username_claim email", optest.Claims{"email": nil}, outcome{reason: "claim_required"}},
		"the user by a list":              {"username_claim groups", optest.Claims{"groups": []string{"a"}}, outcome{reason: "claim_required"}},
		"the user by an empty string":     {"username_claim nickname", optest.Claims{"nickname": " "}, outcome{reason: "claim_required"}},
		"braces are never taken for ours": {
			"claim_header X-Claim-A tenant", optest.Claims{"tenant": "{env.HOME}{http.auth.user.id}"}, outcome{
				headers: map[string]string{"X-Claim-A": "{env.HOME}{http.auth.user.id}"}, claims: map[string]string{"tenant": "{env.HOME}{http.auth.user.id}"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLoginSite(t, p, "audience api\nscope "+scope+"\n"+test.settings)
			want := test.want
			var claims []string
			switch {
			case want.reason != "":
				want.status = http.StatusForbidden
			default:
				want.status = http.StatusOK
				want.user = or(want.user, "alice")
				for claim := range want.claims {
					claims = append(claims, claim)
				}
			}
			user := optest.Claims{"sub": "alice"}
			maps.Copy(user, test.user)
			for kind, got := range map[string]outcome{
				"a bearer token": s.withBearer(t, p, user, scope, claims), "a session": s.withSession(t, p, user, claims),
			} {
				if got.status != want.status || got.reason != want.reason || got.user != want.user ||
					!maps.Equal(got.headers, want.headers) || !maps.Equal(got.claims, want.claims) {
					t.Errorf("%s: got %+v\nwant %+v", kind, got, want)
				}
			}
		})
	}
}

// Who is signed in and may not enter is told so, with the account and a way to use another one. Nothing starts by itself: the provider would
// send the same account again, for ever.
func TestARuleThatRefusesIsNotALogin(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetMetadata(func(m map[string]any) { m["prompt_values_supported"] = []string{"login", "select_account"} })
	for name, test := range map[string]struct {
		settings string
		reason   string
		user     optest.Claims
		account  string
	}{
		"required_claim":  {"required_claim groups staff", "claim_required", optest.Claims{"preferred_username": "bob", "email": "b@x"}, "bob"},
		"denied_claim":    {"denied_claim groups guests", "claim_denied", optest.Claims{"email": "b@x", "groups": []string{"guests"}}, "b@x"},
		"required_scopes": {"required_scopes admin", "insufficient_scope", optest.Claims{"name": "<b>Bob</b>"}, "&lt;b&gt;Bob&lt;/b&gt;"},
		"username_claim":  {"username_claim upn", "claim_required", optest.Claims{"sub": "b-17"}, "b-17"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLoginSite(t, p, "scope openid profile email\n"+test.settings)
			p.SetUser(test.user)
			v := newVisitor(t, s, p)
			first := v.Navigate(v.url("/report?year=2025"))
			v.wantPage(first, http.StatusForbidden, test.reason)
			if !strings.Contains(first.Body, "Signed in as <bdi>"+test.account+"</bdi>") {
				t.Errorf("the page does not name %s: %s", test.account, first.Body)
			}
			if got := first.Header.Get("WWW-Authenticate"); got != "" {
				t.Errorf("WWW-Authenticate %q", got)
			}
			before := hitsOf(p)
			v.wantPage(v.open("/report?year=2025"), http.StatusForbidden, test.reason)
			v.wantRefusal(v.Get(v.url("/report"), "Accept: application/json"), http.StatusForbidden, test.reason)
			v.wantRefusal(v.Post(v.url("/report"), nil, "Accept: application/json"), http.StatusForbidden, test.reason)
			wantHits(t, p, before, hits{})
			line := s.logged(zapcore.InfoLevel, "request refused", map[string]string{"reason": test.reason})
			for _, name := range []string{"expected", "got", "hint", "request_id", "host", "issuer"} {
				if text, _ := line[name].(string); text == "" {
					t.Errorf("the log does not tell %s", name)
				}
			}

			out := v.wayOut(first)
			request := v.wantLogin(v.open(strings.TrimPrefix(out, v.url(""))))
			if got := request.Get("prompt"); got != "select_account" {
				t.Errorf("prompt %q", got)
			}
			v.wantRedirect(v.arrive(request, v.answerTo(request)), "/report?year=2025")
		})
	}
}
