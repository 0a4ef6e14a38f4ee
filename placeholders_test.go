package openidconnect

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// show is a response that shows placeholders; one that is not defined would stay as it is written.
const show = `respond "id={http.auth.user.id} email={http.auth.user.email} groups={http.auth.user.groups} level={http.auth.user.level} ` +

	`roles={http.auth.user.realm_access.roles} object={http.auth.user.realm_access} flag={http.auth.user.flag} big={http.auth.user.big} named={http.auth.user.role} ` +
	`token={http.auth.user.access_token} method={http.openid_connect.method} issuer={http.openid_connect.issuer} ` +
	`error={http.openid_connect.error} reason={http.openid_connect.reason} request={http.openid_connect.request_id} ` +
	`unknown={http.auth.user.unknown} other={http.openid_connect.other} vars={http.vars.openid_connect}"`

func TestPlaceholders(t *testing.T) {
	p := optest.New(t)
	site := func(settings string) string {
		return handler(p, "unauth_action pass\nclaim_placeholder role https://example\\.com/role\n"+settings) + show
	}
	c := startCaddy(t, site(""))
	token := p.AccessToken(optest.Claims{
		"email": "alice@example.com", "groups": []string{"a", "b,c"}, "level": 3, "realm_access": map[string]any{"roles": []string{"boss"}}, "flag": true,
		"big": json.RawMessage("123456789012345678901234567890"), "https://example.com/role": "admin",
	})
	want := "id=alice email=alice@example.com groups=a,b%2Cc level=3 roles=boss object={\"roles\":[\"boss\"]} flag=true big=123456789012345678901234567890 named=admin " +
		"token= method=bearer issuer=" + p.Issuer() + " error= reason= request= unknown= other= vars="
	if got := c.bearer(token).body; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	t.Run("defined and empty for anonymous requests", func(t *testing.T) {
		want := "id= email= groups= level= roles= object= flag= big= named= token= method= issuer= error= reason= request= unknown= other= vars="
		if got := c.in(t).get("/").body; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("access_token only where tokens are passed on", func(t *testing.T) {
		c := c.in(t)
		for _, settings := range []string{"set_access_token_header", "access_token_in_authorization_header"} {
			if err := c.load(site(settings)); err != nil {
				t.Fatal(err)
			}
			if got := c.bearer(token).body; !strings.Contains(got, "token="+token+" ") {
				t.Errorf("%s: %s", settings, got)
			}
		}
	})
	t.Run("username_claim", func(t *testing.T) {
		c := c.in(t)
		if err := c.load(site("username_claim email")); err != nil {
			t.Fatal(err)
		}
		if got := c.bearer(token).body; !strings.HasPrefix(got, "id=alice@example.com ") {
			t.Error(got)
		}
	})
}

// Placeholders work wherever a site decides by them.
func TestPlaceholdersInDirectives(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, `
	log
	log_append who {http.auth.user.id}
	log_append state {http.vars.openid_connect}
	log_append variable openid_connect
	header >X-Served-To {http.auth.user.id}
	@member expression `+"`"+`"admin" in {http.auth.user.groups}`+"`"+`
	@boss expression `+"`"+`dyn({http.auth.user.realm_access.roles}).exists(r, r.startsWith("bo"))`+"`"+`
	@senior expression `+"`"+`{http.auth.user.level} >= 3`+"`"+`
	@scored expression `+"`"+`{http.auth.user.score} > 0.5`+"`"+`
	@verified expression `+"`"+`{http.auth.user.email_verified} == true`+"`"+`
	@alice vars {http.auth.user.id} alice
	openid_connect `+p.Issuer()+` {
		bearer_only
		audience api
		unauth_action pass
	}
	request_header X-By-Directive {http.auth.user.id}
	handle /member {
		respond @member yes
		respond no
	}
	handle /boss {
		respond @boss yes
		respond no
	}
	handle /senior {
		respond @senior yes
		respond no
	}
	handle /scored {
		respond @scored yes
		respond no
	}
	handle /verified {
		respond @verified yes
		respond no
	}
	handle /alice {
		respond @alice yes
		respond no
	}
	handle {
		reverse_proxy $UPSTREAM {
			header_up X-Remote-User {http.auth.user.id}
			header_up X-Remote-Groups {http.auth.user.groups}
			header_up X-Issuer {http.openid_connect.issuer}
			header_up -X-Gone
		}
	}`)
	ask := func(t *testing.T, path string, claims optest.Claims) string {
		return c.in(t).get(path, "Authorization: Bearer "+p.AccessToken(claims)).body
	}
	roles := func(roles ...string) optest.Claims {
		return optest.Claims{"realm_access": map[string]any{"roles": roles}}
	}
	for _, test := range []struct {
		path    string
		claims  optest.Claims
		matches bool
	}{
		{"/member", optest.Claims{"groups": []string{"user", "admin"}}, true},
		{"/member", optest.Claims{"groups": []string{"user"}}, false},
		{"/member", optest.Claims{"groups": []string{}}, false},
		{"/member", optest.Claims{"groups": nil}, false},
		{"/member", optest.Claims{"groups": "admin"}, true},
		{"/member", optest.Claims{"groups": "administrator"}, false},
		{"/boss", roles("x", "boss"), true},
		{"/boss", roles("x"), false},
		{"/boss", nil, false},
		{"/senior", optest.Claims{"level": 3}, true},
		{"/senior", optest.Claims{"level": 10}, true},
		{"/senior", optest.Claims{"level": 2}, false},
		{"/scored", optest.Claims{"score": 0.75}, true},
		{"/scored", optest.Claims{"score": 0.25}, false},
		{"/verified", optest.Claims{"email_verified": true}, true},
		{"/verified", optest.Claims{"email_verified": false}, false},
		{"/alice", nil, true},
		{"/alice", optest.Claims{"sub": "bob"}, false},
	} {
		t.Run(test.path+" "+jsonOf(t, test.claims), func(t *testing.T) {
			want := map[bool]string{true: "yes", false: "no"}[test.matches]
			if got := ask(t, test.path, test.claims); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	t.Run("headers", func(t *testing.T) {
		takeLogs()
		r := c.in(t).get("/", "Authorization: Bearer "+p.AccessToken(optest.Claims{"groups": []string{"a", "b"}}),
			"X-By-Directive: forged", "X-Remote-User: forged")
		c.wantAllowed(t, r)
		header := c.last(t).Header
		for name, want := range map[string]string{"X-Remote-User": "alice", "X-Remote-Groups": "a,b", "X-By-Directive": "alice", "X-Issuer": p.Issuer()} {
			if got := header[name]; len(got) != 1 || got[0] != want {
				t.Errorf("%s %q, want %q", name, got, want)
			}
		}
		if got := r.Header.Get("X-Served-To"); got != "alice" {
			t.Errorf("X-Served-To %q", got)
		}
		wantAccessLog(t, "alice")
	})
	t.Run("anonymous", func(t *testing.T) {
		c.wantAllowed(t, c.in(t).get("/", "X-By-Directive: forged", "X-Remote-User: forged"))
		header := c.last(t).Header
		for _, name := range []string{"X-Remote-User", "X-Remote-Groups", "X-By-Directive", "X-Issuer"} {
			if got := header.Get(name); got != "" {
				t.Errorf("%s %q", name, got)
			}
		}
		wantAccessLog(t, "")
	})
	t.Run("S035 refused", func(t *testing.T) {
		r := c.in(t).get("/", "Authorization: Bearer "+p.AccessToken(optest.Claims{"sub": "mallory", "aud": "other"}))
		c.wantRefused(t, r, 401, "wrong_audience")
		if got := r.Header.Get("X-Served-To"); got != "" {
			t.Errorf("X-Served-To %q", got)
		}
		wantAccessLog(t, "")
	})
	t.Run("one group that is no list", func(t *testing.T) {
		c.wantAllowed(t, c.in(t).bearer(p.AccessToken(optest.Claims{"groups": "a, 100%"})))
		if got := c.last(t).Header.Get("X-Remote-Groups"); got != "a, 100%" {
			t.Errorf("X-Remote-Groups %q", got)
		}
	})
	t.Run("lists of anonymous requests", func(t *testing.T) {
		c := c.in(t)
		if got := c.get("/member").body + c.get("/boss").body; got != "nono" {
			t.Errorf("got %q", got)
		}
	})
}

// wantAccessLog checks the one line of the access log since the last time.
func wantAccessLog(t *testing.T, user string) {
	t.Helper()
	var lines []map[string]any
	waitUntil(t, func() bool { // the line is written after the response
		lines = append(lines, logLines(t, takeLogs(), "handled request")...)
		return len(lines) > 0
	})
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	line := lines[0]
	if line["user_id"] != user || line["who"] != user {
		t.Errorf("user_id %q, who %q, want %q", line["user_id"], line["who"], user)
	}
	if line["state"] != "" || line["variable"] != "" {
		t.Errorf("the state of the request is in the log: %q %q", line["state"], line["variable"])
	}
}

// Text that others control is never expanded: a claim that reads like a placeholder stays what it is (CVE-2026-30852).
func TestS032NothingIsExpandedTwice(t *testing.T) {
	const secret = "swordfish-4711"
	t.Setenv("OPENID_CONNECT_TEST_SECRET", secret)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	hostile := "{env.OPENID_CONNECT_TEST_SECRET} {file." + file + "} {http.request.header.X-Secret} {http.vars.secret} {$OPENID_CONNECT_TEST_SECRET}"
	p := optest.New(t)
	c := startCaddy(t, `
	vars secret `+secret+`
	log
	log_append name {http.auth.user.name}
	header >X-Name {http.auth.user.name}
	openid_connect `+p.Issuer()+` {
		bearer_only
		audience api
		claim_header X-Claim name
		claim_header X-Claim-Json name json
		unauth_action pass /public/*
		required_scopes read
	}
	handle /respond {
		respond "{http.auth.user.name} {http.auth.user.id} {http.auth.user.list}"
	}
	reverse_proxy $UPSTREAM {
		header_up X-Up {http.auth.user.name}
	}`)
	takeLogs()
	token := p.AccessToken(optest.Claims{"name": hostile, "sub": hostile, "list": []string{hostile}})
	authorization, secretHeader := "Authorization: Bearer "+token, "X-Secret: "+secret
	r := c.get("/x", authorization, secretHeader)
	c.wantAllowed(t, r)
	header := c.last(t).Header
	for _, name := range []string{"X-Up", "X-Claim"} {
		if got := header.Get(name); got != hostile {
			t.Errorf("%s %q, want it literally", name, got)
		}
	}
	if got := userinfo(t, header)["name"]; got != hostile {
		t.Errorf("X-Userinfo has %q", got)
	}
	if got := r.Header.Get("X-Name"); got != hostile {
		t.Errorf("X-Name %q, want it literally", got)
	}
	body := c.get("/respond", authorization, secretHeader).body
	if want := hostile + " " + hostile + " " + hostile; body != want {
		t.Errorf("respond %q, want %q", body, want)
	}
	replies := []*reply{r}
	escaped := strings.NewReplacer("{", "%7B", "}", "%7D", " ", "%20", "$", "%24", "/", "%2F").Replace(hostile)
	for _, path := range []string{"/public/" + escaped, "/" + escaped, "/x?" + escaped + "=" + escaped} {
		for _, headers := range [][]string{
			nil,
			{"Authorization: Bearer " + hostile},
			{"Authorization: " + hostile},
			{authorization},
			{"Authorization: Bearer " + p.AccessToken(optest.Claims{"aud": hostile})},
			{"Accept: text/html", "Referer: " + hostile},
			{"Authorization: Bearer " + p.AccessToken(optest.Claims{"scope": hostile, "sub": hostile})},
			{"Authorization: Bearer " + optest.Sign(p.Key("rs-1"), optest.Claims{"kid": hostile}, p.AccessClaims(nil))},
		} {
			replies = append(replies, c.get(path, headers...))
		}
	}
	for _, r := range replies {
		for name, values := range r.Header {
			if strings.Contains(strings.Join(values, " "), secret) {
				t.Errorf("the secret is in the header %s", name)
			}
		}
		if strings.Contains(r.body, secret) && r.StatusCode != http.StatusOK {
			t.Errorf("the secret is in the body of a refusal: %s", r.body)
		}
	}
	for line := range strings.Lines(takeLogs()) {
		line = strings.ReplaceAll(line, `"X-Secret":["`+secret+`"]`, "") // what the client sent
		if strings.Contains(line, secret) {
			t.Errorf("the secret is in the log: %s", line)
		}
	}
}
