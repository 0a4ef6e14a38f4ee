package openidconnect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"index/suffixarray"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// loginLog is a log without what Caddy itself shows of a login: the addresses that the protocol sends things in, and the headers that
// the upstream is to have.
const loginLog = `log {
	output openid_connect_test
	level DEBUG
	format filter {
		request>uri query {
			delete code
			delete state
			delete error_description
			delete x
		}
		resp_headers>Location query {
			delete state
			delete nonce
		}
		request>headers>X-Access-Token delete
		request>headers>X-Refresh-Token delete
		request>headers>X-Raw-Id-Token delete
		wrap json
	}
}
`

// loginSites are the ways in which handlers differ in what they keep and pass on; each lives under a path of its own.
var loginSites = map[string]string{
	"plain": "",
	"headers": "scope openid profile email offline_access\nset_access_token_header\nset_id_token_header\nset_raw_id_token_header\n" +
		"set_refresh_token_header",
	"claims":  "userinfo on\nrequired_claim email\nclaim_header X-Email email\nid_token_signed_response_alg RS256",
	"refused": "required_claim groups admins\nerror_responses handle_errors",
	"secret":  "token_endpoint_auth_method client_secret_jwt",
	"post":    "token_endpoint_auth_method client_secret_post\nuse_pkce off\nmax_age 1h",
	"stored":  "session {\nstorage caddy\n}",
	"strict":  "session {\ncookie_same_site strict\n}",
}

// loginSitesAt has the sites wait for the provider for longer than the machine of the test can be busy.
func loginSitesAt(p *optest.Provider, clientSecret, sessionSecret string) string {
	var sites strings.Builder
	sites.WriteString("log\nlog_append who {http.auth.user.id}\nlog_append state {http.vars.openid_connect}\n")
	for _, name := range slices.Sorted(maps.Keys(loginSites)) {
		settings := loginSites[name]
		if !strings.Contains(settings, "session {") {
			settings += "\nsession {\n}"
		}
		settings = strings.Replace(settings, "session {", "session {\ncookie_name oidc-"+name+"\nsecret \""+sessionSecret+"\"", 1)
		fmt.Fprintf(&sites, `handle /%s/* {
			openid_connect %s {
				client_id client
				client_secret %s
				path_prefix /%s/oauth2
				timeout 30s
				%s
			}
			reverse_proxy $UPSTREAM
		}
		`, name, p.Issuer(), clientSecret, name, settings)
	}
	sites.WriteString("handle_errors {\nrespond \"{err.message} {http.openid_connect.reason}\"\n}\n")
	return sites.String()
}

// accidents are what a provider can do to a login.
func accidents(t *testing.T, p *optest.Provider) map[string]func() {
	const described = "what-the-provider-has-to-say-is-for-nobody"
	p.MarkSecret(described)
	claim := func(name string, value any) func() {
		return func() { p.SetIDTokenClaims(func(claims optest.Claims) { claims[name] = value }) }
	}
	answer := func(name string, value any) func() {
		return func() { p.SetTokenResponse(func(answer map[string]any) { answer[name] = value }) }
	}
	failure := func(endpoint string, status int, body string) func() {
		return func() { p.Fail(endpoint, optest.Fault{Status: status, Body: []byte(body)}) }
	}
	forger := optest.NewKey(t, "RS256", "rs-1")
	return map[string]func(){
		"nothing":        func() {},
		"denied":         func() { p.FailAuthorize("access_denied", described) },
		"unavailable":    func() { p.FailAuthorize("temporarily_unavailable", described) },
		"invalid_grant":  failure(optest.Token, 400, `{"error":"invalid_grant","error_description":"`+described+`"}`),
		"invalid_client": failure(optest.Token, 401, `{"error":"invalid_client","error_description":"`+described+`"}`),
		"odd error":      failure(optest.Token, 400, `{"error":"`+described+` "}`),
		"HTML":           failure(optest.Token, 500, "<h1>"+described+"</h1>"),
		"token dropped":  func() { p.Fail(optest.Token, optest.Fault{Drop: true}) },
		"no ID token":    answer("id_token", nil),
		"not an ID token": func() {
			p.SetTokenResponse(func(answer map[string]any) { answer["id_token"] = answer["access_token"] })
		},
		"broken ID token": func() {
			p.SetTokenResponse(func(answer map[string]any) { answer["id_token"] = answer["id_token"].(string) + "x" })
		},
		"token type":     answer("token_type", "mac"),
		"token a number": answer("access_token", 1),
		"nonce":          claim("nonce", "another"),
		"audience":       claim("aud", "another"),
		"issuer":         claim("iss", "https://another.example.com"),
		"expired":        claim("exp", 1),
		"nobody":         claim("sub", ""),
		"hash":           claim("at_hash", "another"),
		"too old":        claim("auth_time", 1),
		"in chunks":      func() { p.SetUser(optest.Claims{"groups": manyTexts(100)}) },
		"too large":      func() { p.SetUser(optest.Claims{"groups": manyTexts(400)}) },
		"forged": func() {
			p.SetIDTokenSigner(func(claims optest.Claims) string { return optest.Sign(forger, nil, claims) })
		},
		"unsigned": func() {
			p.SetIDTokenSigner(func(claims optest.Claims) string { return optest.Unsigned(nil, claims) })
		},
		"userinfo of another": func() { p.SetUserinfo(func(claims optest.Claims) { claims["sub"] = "mallory" }) },
		"userinfo failed":     failure(optest.Userinfo, 500, described),
		"userinfo broken":     failure(optest.Userinfo, 200, "{"+described),
	}
}

func manyTexts(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = randomText()
	}
	return texts
}

// mend undoes an accident.
func mend(p *optest.Provider) {
	p.FailAuthorize("", "")
	p.SetIDTokenClaims(nil)
	p.SetIDTokenSigner(nil)
	p.SetTokenResponse(nil)
	p.SetUserinfo(nil)
	p.SetUser(nil)
	p.Heal(optest.Token)
	p.Heal(optest.Userinfo)
}

// hostileAnswers are what a browser can bring to a callback.
var hostileAnswers = map[string]func(answer url.Values){
	"no state":      func(answer url.Values) { answer.Del("state") },
	"state cut":     func(answer url.Values) { answer.Set("state", answer.Get("state")[1:]) },
	"state changed": func(answer url.Values) { answer.Set("state", flipped(answer.Get("state"), 20)) },
	"state twice":   func(answer url.Values) { answer.Add("state", answer.Get("state")) },
	"no code":       func(answer url.Values) { answer.Del("code") },
	"code twice":    func(answer url.Values) { answer.Add("code", "x") },
	"code changed":  func(answer url.Values) { answer.Set("code", answer.Get("code")+"x") },
	"large code":    func(answer url.Values) { answer.Set("code", strings.Repeat(answer.Get("code"), 400)) },
	"and an error":  func(answer url.Values) { answer.Set("error", "access_denied") },
	"odd error":     func(answer url.Values) { answer.Set("error", "not a code "); answer.Del("code") },
	"another iss":   func(answer url.Values) { answer.Set("iss", "https://another.example.com") },
}

// teller collects what people and programs are told, and the cookies that they have been given.
type teller struct {
	told    strings.Builder
	cookies map[string]bool
	landed  map[int]int // by status
}

func (l *teller) hear(r *optest.Response) *optest.Response {
	fmt.Fprintln(&l.told, r.Body)
	for _, step := range r.Steps {
		l.landed[step.Status]++
		for _, cookie := range step.SetCookies {
			if cookie.Value != "" && !strings.HasSuffix(cookie.Name, "-loop") {
				l.cookies[cookie.Value] = true
			}
		}
	}
	return r
}

// run goes through everything that can happen at one site. It returns somebody who is signed in there.
func (l *teller) run(t *testing.T, c *caddySite, p *optest.Provider, name string) *optest.Browser {
	home := c.url("/" + name + "/page")
	for _, provoke := range accidents(t, p) {
		b := optest.NewBrowser(t)
		provoke()
		l.hear(b.Navigate(home))
		l.hear(b.Navigate(home))
		l.hear(b.Get(home, "Accept: application/json"))
		mend(p)
	}
	begin := func(b *optest.Browser) (callback string, answer url.Values) {
		r := l.hear(b.Get(home, typed...))
		u, err := url.Parse(r.Location())
		if err != nil || r.Status != http.StatusFound {
			t.Fatalf("got %d and %q: %v", r.Status, r.Location(), err)
		}
		return u.Query().Get("redirect_uri"), url.Values{"code": {p.NewCode(u.Query())}, "state": {u.Query().Get("state")}}
	}
	for _, change := range hostileAnswers {
		b := optest.NewBrowser(t)
		callback, answer := begin(b)
		change(answer)
		l.hear(b.Get(callback+"?"+answer.Encode(), linked...))
		l.hear(b.Get(callback+"?"+answer.Encode(), "Accept: application/json"))
		l.hear(b.Post(callback, answer, linked...))
	}

	// the good answer in all the ways that it must not be redeemed, then in the one that it must, then again
	b := optest.NewBrowser(t)
	callback, answer := begin(b)
	l.hear(optest.NewBrowser(t).Get(callback+"?"+answer.Encode(), linked...))
	l.hear(b.Do(http.MethodHead, callback+"?"+answer.Encode(), "", linked...))
	l.hear(b.Get(callback+"?"+answer.Encode(), append(slices.Clone(linked), "Sec-Purpose: prefetch")...))
	l.cancelled(t, c, p, b.Clone(), callback+"?"+answer.Encode())
	l.hear(b.Get(callback+"?"+answer.Encode(), linked...))
	l.hear(b.Get(callback+"?"+answer.Encode(), linked...))
	for _, path := range []string{"/oauth2/session", "/oauth2/login?return_to=/", "/oauth2/jwks.json", "/oauth2/logged-out", "/page"} {
		l.hear(b.Get(c.url("/"+name+path), typed...))
	}
	for _, cookie := range b.Cookies(home) {
		half := len(cookie.Value) / 2
		beside := cookie.Value + "; " + cookie.Name + ".1=" + cookie.Value
		for _, value := range []string{flipped(cookie.Value, half), cookie.Value[:half], beside} {
			l.hear(optest.NewBrowser(t).Get(home, append(slices.Clone(typed), "Cookie: "+cookie.Name+"="+value)...))
		}
		l.hear(b.Get(home+"?x="+cookie.Value, "Authorization: Bearer "+cookie.Value))
	}
	return b
}

// cancelled has a callback repeated by somebody who leaves before there is an answer, while the provider takes its time.
func (l *teller) cancelled(t *testing.T, c *caddySite, p *optest.Provider, b *optest.Browser, callback string) {
	release := make(chan struct{})
	p.Fail(optest.Token, optest.Fault{Wait: release, Times: 1})
	hits := p.Hits(optest.Token)
	first := make(chan *optest.Response, 1)
	go func() { first <- b.Get(callback, linked...) }()
	p.WaitForHits(t, optest.Token, hits+1)

	// Whoever leaves must have sent all of the request, or Caddy never sees it. Of an http.Transport that cannot be known: it reports a
	// request as written while that is in its buffer.
	request := newRequest(t, http.MethodGet, callback, nil, linked...)
	for _, cookie := range b.Cookies(callback) {
		request.AddCookie(cookie)
	}
	unanswered := func() int { return loggedLines(`"msg":"handled request"`, `"status":0,`) }
	logins := func() int { return loggedLines(`"msg":"login",`) }
	left, before := unanswered(), logins()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", c.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(request.Write(connection), connection.Close()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return unanswered() > left })
	close(release)
	if r := l.hear(<-first); logins() != before+1 {
		t.Errorf("whoever waited is not signed in but got %d: %s", r.Status, r.Body)
	}
}

// loggedLines is how many lines of the log hold all of these texts.
func loggedLines(texts ...string) int {
	capturedLogs.Lock()
	defer capturedLogs.Unlock()
	n := 0
	for line := range bytes.Lines(capturedLogs.Bytes()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(line, []byte(text)) }) {
			n++
		}
	}
	return n
}

// Logins good and bad, at the most talkative level, and no secret in anything that is said (S-261, S-263).
func TestS261NoSecretOfALoginIsEverTold(t *testing.T) {
	p := optest.New(t)
	const clientSecret = "the-secret-of-the-client-is-long-enough"
	const firstSecret, secondSecret = "the-first-secret-of-the-sessions-here", "the-second-secret-of-the-sessions-here"
	p.SetIntrospectionClient("client", clientSecret)
	p.MarkSecret(firstSecret, secondSecret)
	p.SetRefreshTokens(true)
	p.SetAssertionChecker(func(string) error { return nil })
	takeLogs()
	c := startCaddy(t, loginSitesAt(p, clientSecret, firstSecret))
	c.answer(func(w http.ResponseWriter, _ *http.Request) {})
	l := &teller{cookies: make(map[string]bool), landed: make(map[int]int)}

	// Without a filter Caddy's own log shows the code: the search finds what is there to be found.
	l.hear(optest.NewBrowser(t).Navigate(c.url("/plain/page")))
	if found := l.secretsIn(p, takeLogs()); len(found) == 0 {
		t.Error("nothing is found in a log that holds a code")
	}

	c.globals = strings.Replace(c.globals, "log {\noutput openid_connect_test\nformat json\nlevel DEBUG\n}", loginLog, 1)
	if err := c.load(loginSitesAt(p, clientSecret, firstSecret)); err != nil {
		t.Fatal(err)
	}
	visitors := make(map[string]*optest.Browser)
	for name := range loginSites {
		visitors[name] = l.run(t, c, p, name)
	}
	if err := c.load(loginSitesAt(p, clientSecret, secondSecret)); err != nil {
		t.Fatal(err)
	}
	for name, b := range visitors {
		l.hear(b.Get(c.url("/"+name+"/page"), "Accept: application/json"))
		l.hear(b.Navigate(c.url("/" + name + "/page")))
	}
	logs := takeLogs()
	for name := range series(t) {
		fmt.Fprintln(&l.told, name)
	}
	for message, least := range map[string]int{"handled request": 1000, "request refused": 200, "login started": 200, "login": 40} {
		if n := len(logLines(t, logs, message)); n < least {
			t.Errorf("only %d lines say %q", n, message)
		}
	}
	// Caddy logs the address with an error that a handler returns, whatever the filter of the access log.
	for line := range strings.Lines(logs) {
		if strings.Contains(line, `"logger":"http.log.error`) && strings.Contains(line, "/oauth2/") {
			t.Errorf("an endpoint returned an error: %s", line)
		}
	}
	for status, least := range map[int]int{200: 100, 302: 100, 400: 50, 401: 10, 403: 10, 502: 10} {
		if l.landed[status] < least {
			t.Errorf("only %d answers have status %d", l.landed[status], status)
		}
	}
	if len(l.cookies) < 500 || len(p.Issued()) < 1000 {
		t.Errorf("only %d cookies and %d other secrets to look for", len(l.cookies), len(p.Issued()))
	}
	for where, text := range map[string]string{"the logs": logs, "an answer": l.told.String()} {
		for _, found := range l.secretsIn(p, text) {
			t.Errorf("%s: %s", where, found)
		}
	}
}

// secretsIn looks for everything that the provider has issued or received, and for all cookies.
func (l *teller) secretsIn(p *optest.Provider, text string) (found []string) {
	index := suffixarray.New([]byte(text))
	for _, secret := range append(p.Issued(), slices.Collect(maps.Keys(l.cookies))...) {
		escaped, _ := json.Marshal(secret)
		forms := []string{secret, strings.Trim(string(escaped), `"`), url.QueryEscape(secret), signaturePart(secret)}
		for _, form := range slices.Compact(forms) {
			if at := index.Lookup([]byte(form), 1); len(at) > 0 && len(found) < 10 {
				found = append(found, fmt.Sprintf("%.60s… in …%s", secret, text[max(0, at[0]-500):min(len(text), at[0]+100)]))
				break
			}
		}
	}
	return found
}
