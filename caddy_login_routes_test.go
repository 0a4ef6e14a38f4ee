package openidconnect

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Several handlers with logins in one configuration: which share a session, which do not, and which cannot live together.

func TestSection2DirectivesOfOneBlockShareTheSession(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "/admin/*", "scope openid email\nrequired_claim groups admins\nclaim_header X-Admin sub")+
		webapp(p, "/public/*", "scope openid email\nunauth_action pass")+webapp(p, "",
		"scope openid email\nset_userinfo_header off\nclaim_header X-Email email")+toUpstream)
	v := newCaddyVisitor(t, c, p)
	p.SetUser(optest.Claims{"email": "alice@example.com", "groups": "users"})
	p.SetThinIDTokens(true) // so that each needs what the others ask for
	v.signIn("/x")
	if header := c.last(t).Header; header.Get("X-Email") != "alice@example.com" || header.Get("X-Userinfo") != "" ||
		header.Get("X-Admin") != "" {
		t.Errorf("the upstream got %v", header)
	}
	before := hitsOf(p)
	v.wantPage(v.open("/admin/x"), 403, "claim_required")
	if r := v.open("/public/x", "X-Email: forged"); r.Status != http.StatusOK || userinfo(t, c.last(t).Header)["sub"] != "alice" {
		t.Errorf("/public: %d, %v", r.Status, c.last(t).Header)
	}
	c.advance()
	wantHits(t, p, before, hits{})
	p.SetUser(optest.Claims{"email": "root@example.com", "groups": "admins"})
	admin := newCaddyVisitor(t, c, p)
	admin.signIn("/admin/x")
	if header := c.last(t).Header; header.Get("X-Admin") != "alice" || header.Get("X-Email") != "" {
		t.Errorf("the upstream got %v", header)
	}
	if r := admin.open("/x"); r.Status != http.StatusOK || c.last(t).Header.Get("X-Email") != "root@example.com" {
		t.Errorf("/x: %d, %v", r.Status, c.last(t).Header)
	}
	c.advance()
	stranger := newCaddyVisitor(t, c, p)
	if r := stranger.open("/public/x"); r.Status != http.StatusOK || c.last(t).Header.Get("X-Userinfo") != "" {
		t.Errorf("a stranger at /public: %d", r.Status)
	}
	c.advance()
	stranger.begin("/admin/x")
	stranger.begin("/x")
}

// When handlers nest, the inner one decides anew, by the same session, and what the outer one has set is void.
func TestSection2NestedHandlersShareTheSession(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, `
	log
	log_append who {http.auth.user.id}
	log_append state {http.vars.openid_connect}
	log_append variable {http.vars.openid_connect}
	`+webapp(p, "", "scope openid email\nclaim_header X-Outer sub\nunauth_action pass /public/*")+`
	handle /admin/* {
		`+webapp(p, "", "scope openid email\nrequired_claim groups admins\nset_userinfo_header off\nclaim_header X-Inner email")+`
		reverse_proxy $UPSTREAM {
			header_up X-Who "{http.auth.user.id} {http.openid_connect.method} {http.openid_connect.issuer}"
		}
	}
	handle {
		reverse_proxy $UPSTREAM
	}`)
	p.SetUser(optest.Claims{"email": "alice@example.com", "groups": "admins"})
	v := newCaddyVisitor(t, c, p)
	v.signIn("/admin/x")
	header := c.last(t).Header
	if header.Get("X-Inner") != "alice@example.com" || header.Get("X-Who") != "alice session "+p.Issuer() ||
		header.Get("X-Outer") != "" || header.Get("X-Userinfo") != "" ||
		header.Get("Cookie") != "" {
		t.Errorf("the upstream got %v", header)
	}
	wantHits(t, p, hits{}, hits{authorize: 1, token: 1})
	if r := v.open("/x", "X-Inner: theirs"); r.Status != http.StatusOK || c.last(t).Header.Get("X-Outer") != "alice" ||
		c.last(t).Header.Get("Cookie") != "" {
		t.Errorf("/x: %d, %v", r.Status, c.last(t).Header)
	}
	takeLogs()
	v.open("/admin/x", "Cookie: other=1; "+cookieHeader(v))
	if got := c.last(t).Header.Get("Cookie"); got != "other=1" {
		t.Errorf("the upstream got the cookies %q", got)
	}
	wantAccessLog(t, "alice")
	c.advance()
	p.SetUser(optest.Claims{"groups": "users"})
	user := newCaddyVisitor(t, c, p)
	user.wantPage(user.Navigate(user.url("/admin/x")), 403, "claim_required")
	stranger := newCaddyVisitor(t, c, p)
	stranger.wantRefusal(stranger.Get(stranger.url("/admin/x")), 401, "no_credentials")
	stranger.begin("/admin/x")
	if r := stranger.open("/public/x"); r.Status != http.StatusOK || c.last(t).Header.Get("X-Outer") != "" {
		t.Errorf("a stranger at /public: %d", r.Status)
	}
}

// A login that the inner handler starts comes through the outer one, which lets nobody else set its cookies.
func TestSection2NestedHandlerLogsInBehindOneThatPasses(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "", "unauth_action pass")+"handle /admin/* {\n"+webapp(p, "",
		"")+toUpstream+"}\nhandle {\n"+toUpstream+"}")
	v := newCaddyVisitor(t, c, p)
	request := v.begin("/admin/x")
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/admin/x")
	for _, path := range []string{"/admin/x", "/x"} {
		if r := v.open(path); r.Status != http.StatusOK || userinfo(t, c.last(t).Header)["sub"] != "alice" ||
			r.Header.Get("Cache-Control") != "private" {
			t.Errorf("%s: %d, %v", path, r.Status, r.Header)
		}
	}
}

func TestSection3TwoProvidersWithDifferentPrefixes(t *testing.T) {
	staff, customers := optest.New(t), optest.New(t)
	customers.SetUser(optest.Claims{"sub": "carol"})
	c := startCaddy(t, webapp(staff, "/staff/*", "path_prefix /staff/auth")+webapp(customers, "", "")+toUpstream)
	atStaff, atShop := newCaddyVisitor(t, c, staff), newCaddyVisitor(t, c, customers)
	atShop.Browser = atStaff.Browser // one person, one browser
	atStaff.signIn("/staff/x")
	if got := userinfo(t, c.last(t).Header); got["sub"] != "alice" || got["iss"] != staff.Issuer() {
		t.Errorf("the upstream got %v", got)
	}
	atShop.signIn("/x")
	if got := userinfo(t, c.last(t).Header); got["sub"] != "carol" || got["iss"] != customers.Issuer() {
		t.Errorf("the upstream got %v", got)
	}
	if got := atStaff.session("/staff/auth/session"); got.Subject != "alice" {
		t.Errorf("staff: %+v", got)
	}
	if got := atStaff.session("/oauth2/session"); got.Subject != "carol" {
		t.Errorf("customers: %+v", got)
	}
	atStaff.open("/staff/x")
	if got := userinfo(t, c.last(t).Header)["sub"]; got != "alice" {
		t.Errorf("/staff/x is seen by %v", got)
	}
	c.advance()
	if n := len(atStaff.kept(isSessionName)); n != 2 {
		t.Errorf("the browser has %d sessions", n)
	}
	// the answer of one provider at the callback of the other
	staffRequest, shopRequest := atStaff.begin("/staff/auth/login?prompt=login"), atShop.begin("/oauth2/login?prompt=login")
	before := hitsOf(staff)
	mixed := atShop.answerTo(shopRequest)
	r := atStaff.arrive(staffRequest, mixed)
	atStaff.wantRedirect(r, "/") // there is a session, and nothing of the answer counts
	if len(sessionsIn(r)) != 0 {
		t.Errorf("Set-Cookie %q", r.Header.Values("Set-Cookie"))
	}
	wantHits(t, staff, before, hits{})
	atStaff.wantRedirect(atStaff.arrive(staffRequest, atStaff.answerTo(staffRequest)), "/")
}

func TestSection3AdapterRefusesWhatCannotLiveTogether(t *testing.T) {
	directive := func(matcher, issuer, settings string) string {
		return "openid_connect " + matcher + " https://" + issuer + " {\nclient_id app\nclient_secret secret\n" + settings + "\n}\n"
	}
	for _, test := range []struct {
		name, sites string
		wants       []string // in the error; none: it adapts
	}{
		{"two providers behind one prefix", "a.example {\n" + directive("/a/*", "id.example.com", "") + directive("/b/*",
			"other.example.com", "") + "}", []string{"Caddyfile:2", "path_prefix"}},
		{"two clients behind one prefix", "a.example {\n" + directive("/a/*", "id.example.com", "") + strings.Replace(directive("",
			"id.example.com", ""), "app", "other", 1) + "}", []string{"path_prefix"}},
		{"two providers with one callback", "a.example {\n" + directive("/a/*", "id.example.com", "redirect_uri /cb") + directive("",
			"other.example.com", "path_prefix /b\nredirect_uri /cb") + "}", []string{"path_prefix"}},
		{"other login settings", "a.example {\n" + directive("/a/*", "id.example.com", "scope openid") + directive("", "id.example.com",
			"scope openid email") + "}", []string{"scope", "Caddyfile:2"}},
		{"other session settings", "a.example {\n" + directive("/a/*", "id.example.com", "session {\ncookie_name a\n}") + directive("",
			"id.example.com", "") + "}", []string{"session"}},
		{"nested", "a.example {\n" + directive("", "id.example.com", "") + "handle /b/* {\n" + directive("", "other.example.com", "") +
			"}\n}", []string{"path_prefix"}},
		{"different prefixes", "a.example {\n" + directive("/a/*", "id.example.com", "") + directive("", "other.example.com",
			"path_prefix /b") + "}", nil},
		{"the same in all that counts", "a.example {\n" + directive("/a/*", "id.example.com", "required_claim groups a") + directive("",
			"id.example.com", "unauth_action pass") + "}", nil},
		{"different sites", "a.example {\n" + directive("", "id.example.com", "") + "}\nb.example {\n" + directive("", "other.example.com",
			"") + "}", nil},
		{"a bearer_only one beside it", "a.example {\n" + directive("/api/*", "other.example.com", "bearer_only") + directive("",
			"id.example.com", "") + "}", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := adaptCaddyfile(test.sites)
			if (err == nil) != (test.wants == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range test.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
		})
	}
}

// What to register with the provider stands in the log, once for each host.
func TestSection11RedirectURIsAreLoggedAtStart(t *testing.T) {
	p := optest.New(t)
	takeLogs()
	startCaddy(t, "http://a.example.test:$PORT, http://b.example.test:$PORT {\nbind 127.0.0.1\n"+webapp(p, "/x/*",
		"")+"handle_path /inner/* {\n"+
		webapp(p, "", "path_prefix /inner/sso")+"}\n}\nhttp://c.example.test:$PORT {\nbind 127.0.0.1\n"+webapp(p, "",
		"redirect_uri https://sso.example.test/done")+"}\n"+
		"http://d.example.test:$PORT {\nbind 127.0.0.1\n"+handler(p, "")+"}")
	var got []string
	waitUntil(t, func() bool {
		for _, line := range logLines(t, takeLogs(), "register this redirect URI with the provider") {
			got = append(got, fmt.Sprint(line["redirect_uri"]))
			if line["level"] != "info" || line["client_id"] != "client" || line["issuer"] != p.Issuer() {
				t.Errorf("line %v", line)
			}
		}
		return len(got) >= 5
	})
	slices.Sort(got)
	want := []string{ // the port is as configured
		"http://a.example.test:0/inner/sso/callback", "http://a.example.test:0/oauth2/callback",
		"http://b.example.test:0/inner/sso/callback", "http://b.example.test:0/oauth2/callback", "https://sso.example.test/done",
	}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// A handler in a named route is announced too, and the warning comes for handlers whose callback nobody answers: not where another
// directive of the site does.
func TestSection11RoutesThatLeadNowhereAreLoggedAtStart(t *testing.T) {
	p := optest.New(t)
	takeLogs()
	startCaddy(t, "&(login) {\n"+webapp(p, "", "")+"invoke again\n}\n&(again) {\ninvoke again\ninvoke again\n}\n"+
		"http://named.example.test:$PORT {\nbind 127.0.0.1\ninvoke login\n}\n"+
		"http://both.example.test:$PORT {\nbind 127.0.0.1\nhandle /a/* {\n"+webapp(p, "", "")+"}\nhandle {\n"+webapp(p, "", "")+"}\n}\n"+
		"http://nowhere.example.test:$PORT {\nbind 127.0.0.1\nhandle /a/* {\n"+webapp(p, "", "")+"}\n}")
	var registered, nowhere []string
	waitUntil(t, func() bool {
		logs := takeLogs()
		for _, line := range logLines(t, logs, "register this redirect URI with the provider") {
			registered = append(registered, fmt.Sprint(line["redirect_uri"]))
		}
		for _, line := range logLines(t, logs, "no login can end here: the route around openid_connect does not lead to its callback") {
			nowhere = append(nowhere, fmt.Sprint(line["origin"]))
		}
		return len(registered) >= 2 && len(nowhere) >= 1
	})
	slices.Sort(registered)
	if want := []string{"http://both.example.test:0/oauth2/callback", "http://named.example.test:0/oauth2/callback"}; !slices.Equal(registered, want) {
		t.Errorf("logged %q, want %q", registered, want)
	}
	if want := []string{"http://nowhere.example.test:0"}; !slices.Equal(nowhere, want) {
		t.Errorf("warned of %q, want %q", nowhere, want)
	}
}

// Text that users, providers and strangers control is never expanded, wherever a login brings it.
func TestS032LoginsExpandNothing(t *testing.T) {
	const secret = "swordfish-4712"
	t.Setenv("OPENID_CONNECT_TEST_SECRET", secret)
	hostile := "{env.OPENID_CONNECT_TEST_SECRET} {http.request.header.X-Secret} {http.vars.secret} {$OPENID_CONNECT_TEST_SECRET}"
	p := optest.New(t)
	p.SetUser(optest.Claims{"sub": hostile, "name": hostile, "preferred_username": hostile, "groups": []string{hostile}})
	takeLogs()
	c := startCaddy(t, "vars secret "+secret+"\nlog\nlog_append who {http.auth.user.name}\n"+
		webapp(p, "/denied/*", "scope openid profile\ndenied_claim sub \"nobody\"\nrequired_claim groups admins\nclaim_header X-Name name")+
		webapp(p, "", "scope openid profile\nclaim_header X-Name name")+toUpstream)
	var told strings.Builder
	note := func(r *optest.Response) *optest.Response {
		for _, step := range r.Steps {
			fmt.Fprintln(&told, step.Header)
		}
		if r.Status != http.StatusOK {
			fmt.Fprintln(&told, r.Body)
		}
		return r
	}
	v := newCaddyVisitor(t, c, p)
	v.Header = http.Header{"X-Secret": {secret}}
	escaped := url.QueryEscape(hostile)
	path := "/" + url.PathEscape(hostile) + "?" + escaped + "=" + hostile[:3] + escaped
	landed := note(v.Navigate(v.url(path)))
	if landed.Status != http.StatusOK || landed.URL != v.url(path) {
		t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, shown(landed))
	}
	if header := c.last(t).Header; header.Get("X-Name") != hostile || userinfo(t, header)["sub"] != hostile {
		t.Errorf("the upstream got %v", header)
	}
	if denied := note(v.open("/denied/x")); denied.Status != http.StatusForbidden || !strings.Contains(denied.Body,
		"{env.OPENID_CONNECT_TEST_SECRET}") {
		t.Errorf("got %d: %s", denied.Status, shown(denied))
	}
	for _, target := range []string{
		"/oauth2/login?prompt=login&return_to=" + url.QueryEscape("/"+escaped), "/oauth2/login?login_hint=" + escaped + "&iss=" +
			url.QueryEscape(p.Issuer()),
		"/oauth2/login?iss=" + escaped, "/oauth2/callback?error=" + escaped + "&error_description=" + escaped + "&state=" + escaped,
		"/oauth2/callback?iss=" + escaped, "/oauth2/callback?code=" + escaped + "&state=" + escaped, "/oauth2/logged-out?x=" + escaped,
	} {
		note(v.open(target))
		fmt.Fprintln(&told, note(v.open(target, "Cookie: x=y")).Location())
	}
	logs := strings.ReplaceAll(takeLogs(), `"X-Secret":["`+secret+`"]`, "") // what the client sent
	for where, text := range map[string]string{"the logs": logs, "an answer": told.String()} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("the secret is in %s: …%s", where, text[max(0, i-300):min(len(text), i+100)])
		}
	}
}
