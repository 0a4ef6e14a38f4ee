package openidconnect

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Logins and sessions in a whole Caddy.

// webapp is a site that logs browsers in at p; matcher is that of the directive.
func webapp(p *optest.Provider, matcher, settings string) string {
	return fmt.Sprintf("openid_connect %s %s {\nclient_id client\nclient_secret secret\n%s\n}\n", matcher, p.Issuer(), settings)
}

const toUpstream = "reverse_proxy $UPSTREAM\n"

func TestSection3EndpointsAreReachableBesideTheMatcher(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "/admin/*", "claim_header X-Email email\nscope openid email")+toUpstream)
	v := newCaddyVisitor(t, c, p)
	if r := v.open("/public", "X-Email: theirs"); r.Status != http.StatusOK || c.last(t).Header.Get("X-Email") != "theirs" {
		t.Errorf("beside the matcher: %d, %v", r.Status, c.last(t).Header)
	}
	c.advance()
	v.wantRefusal(v.Get(v.url("/admin/x")), 401, "no_credentials")
	request := v.begin("/admin/x?y=z&w=%2F")
	if got := request.Get("redirect_uri"); got != v.url("/oauth2/callback") {
		t.Errorf("redirect_uri %q", got)
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/admin/x?y=z&w=%2F")
	if got := v.session("/oauth2/session?x=y"); !got.Authenticated {
		t.Errorf("%+v", got)
	}
	if r := v.open("/admin/x", "X-Email: forged"); r.Status != http.StatusOK || c.last(t).Header.Get("X-Email") != "alice@example.com" {
		t.Errorf("within the matcher: %d, %v", r.Status, c.last(t).Header)
	}
	c.advance()
	for _, path := range []string{"/oauth2/logged-out", "/oauth2/jwks.json", "/oauth2/login"} {
		if r := v.open(path); r.Status >= 400 || c.advance() != 0 {
			t.Errorf("%s: %d", path, r.Status)
		}
	}
	// what is not exactly an endpoint is none, and here that is the upstream's
	for _, path := range []string{
		"/oauth2/session/", "/oauth2/%73ession", "/oauth2/x", "/oauth2x/session", "/OAUTH2/session",
		"/x/oauth2/session", "//oauth2/session",
	} {
		if r := v.open(path); r.Status != http.StatusOK || c.advance() != 1 {
			t.Errorf("%s: %d", path, r.Status)
		}
	}
}

// In handle_path the path that the handler sees is not the one that browsers know: endpoints and return URLs go by the latter.
func TestSection3EndpointsInHandlePath(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "handle_path /app/* {\n"+webapp(p, "",
		"path_prefix /app/oauth2")+toUpstream+"}\nhandle {\nrespond elsewhere 404\n}")
	v := newCaddyVisitor(t, c, p)
	landed := v.Navigate(v.url("/app/deep/x?y=%2F"))
	if landed.Status != http.StatusOK || landed.URL != v.url("/app/deep/x?y=%2F") || c.advance() != 1 {
		t.Fatalf("landed on %s with %d: %s", landed.URL, landed.Status, shown(landed))
	}
	if got := c.last(t).RequestURI; got != "/deep/x?y=%2F" {
		t.Errorf("the upstream got %s", got)
	}
	if got := p.AuthorizeRequests()[0].Get("redirect_uri"); got != v.url("/app/oauth2/callback") {
		t.Errorf("redirect_uri %q", got)
	}
	if got := v.session("/app/oauth2/session"); !got.Authenticated || got.LoginURL != "/app/oauth2/login" {
		t.Errorf("%+v", got)
	}
	if r := v.open("/oauth2/session"); r.Status != http.StatusNotFound {
		t.Errorf("outside: %d", r.Status)
	}
	// a path that becomes that of an endpoint by rewriting is none
	if r := v.open("/app/app/oauth2/session"); r.Status != http.StatusOK || c.advance() != 1 {
		t.Errorf("rewritten to an endpoint: %d", r.Status)
	}
}

func TestSection3EndpointsBehindRewrites(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "rewrite /old/* /oauth2/session\nrewrite /oauth2/* /index.php\n"+webapp(p, "", "")+toUpstream)
	v := newCaddyVisitor(t, c, p)
	landed := v.Navigate(v.url("/old/x?y=z"))
	if landed.Status != http.StatusOK || landed.URL != v.url("/old/x?y=z") || c.last(t).URL.Path != "/oauth2/session" {
		t.Fatalf("landed on %s with %d; the upstream got %s", landed.URL, landed.Status, c.last(t).RequestURI)
	}
	c.advance()
	if got := v.session("/oauth2/session"); !got.Authenticated {
		t.Errorf("%+v", got)
	}
}

// What proxies say about the request counts if Caddy trusts them, and else not at all (S-033).
func TestS033PublicOrigin(t *testing.T) {
	p := optest.New(t)
	told := []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: app.example.com"}
	lies := []string{
		"X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: //evil",
		"Forwarded: host=evil.test;proto=https",
		"X_Forwarded_Host: evil.test", "X-Original-Host: evil.test", "X-Host: evil.test", "X-Forwarded-Server: evil.test",
		"X-Url-Scheme: https", "Front-End-Https: on",
	}
	t.Run("from anybody", func(t *testing.T) {
		c := startCaddy(t, webapp(p, "", "")+toUpstream)
		v := newCaddyVisitor(t, c, p)
		r := v.open("/x", lies...)
		request := v.wantLogin(r)
		if got := request.Get("redirect_uri"); got != v.url("/oauth2/callback") {
			t.Errorf("redirect_uri %q", got)
		}
		if cookie := r.Steps[0].SetCookies[0]; strings.HasPrefix(cookie.Name, "__") || cookie.Secure {
			t.Errorf("the transaction is %s", cookie)
		}
		v.wantRedirect(v.arrive(request, v.answerTo(request), lies...), "/x")
		if r := v.open("/x", lies...); r.Status != http.StatusOK {
			t.Errorf("afterwards: %d", r.Status)
		}
	})
	t.Run("from a trusted proxy", func(t *testing.T) {
		c := startCaddy(t, webapp(p, "", "")+toUpstream, "servers {\ntrusted_proxies static 127.0.0.1/32\n}")
		v := newCaddyVisitor(t, c, p)
		if got := v.begin("/x").Get("redirect_uri"); got != v.url("/oauth2/callback") {
			t.Errorf("redirect_uri %q without a word of the proxy", got)
		}
		r := v.open("/x", told...)
		request := v.wantLogin(r)
		if got := request.Get("redirect_uri"); got != "https://app.example.com/oauth2/callback" {
			t.Errorf("redirect_uri %q", got)
		}
		cookie := r.Steps[0].SetCookies[0]
		if !strings.HasPrefix(cookie.Name, "__Host-") || !cookie.Secure {
			t.Errorf("the transaction is %s", cookie)
		}
		// the browser speaks https to the proxy, and this is the proxy
		sent := append([]string{"Cookie: " + cookie.Name + "=" + cookie.Value}, told...)
		r = v.open("/oauth2/callback?"+v.answerTo(request).Encode(), sent...)
		if r.Status != http.StatusFound || r.Header.Get("Location") != "/x" {
			t.Fatalf("got %d, %v: %s", r.Status, r.Header, shown(r))
		}
		for _, cookie := range r.Steps[0].SetCookies {
			if isSessionName(cookie.Name) {
				sent[0] = "Cookie: " + cookie.Name + "=" + cookie.Value
			}
		}
		if r := v.open("/x", sent...); r.Status != http.StatusOK {
			t.Errorf("with the session: %d", r.Status)
		}
		c.advance()
		for _, host := range []string{
			"evil.test/path", "evil.test?x", "user@evil.test", "a b", `evil.test\x`, "evil.test#x",
			"%65vil.test",
		} {
			v.wantPage(v.open("/x", "X-Forwarded-Proto: https", "X-Forwarded-Host: "+host), 400, "invalid_host")
		}
	})
}

// The site draws the refusals itself, with what it may know, but for those of the callback, whose URIs hold codes.
func TestSection4HandleErrorsDrawsRefusals(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "", "error_responses handle_errors\ndenied_claim sub mallory")+toUpstream+
		"handle_errors {\nrespond \"{err.status_code} {http.openid_connect.error} {http.openid_connect.reason} {http.openid_connect.request_id} {http.auth.user.id}!\"\n}")
	v := newCaddyVisitor(t, c, p)
	drawn := func(r *optest.Response, status int, text string) {
		t.Helper()
		words := strings.Fields(r.Body)
		if r.Status != status || len(words) != 5 || strings.Join(words[:3], " ") != text || len(words[3]) != 36 || words[4] != "!" {
			t.Errorf("got %d: %s", r.Status, r.Body)
		}
		if r.Header.Get("Cache-Control") != "no-store" || (r.Header.Get("Www-Authenticate") != "") != (status == 401) {
			t.Errorf("headers %v", r.Header)
		}
		v.wantNothingGiven(r)
	}
	drawn(v.Get(v.url("/")), 401, "401 login_required no_credentials")
	request := v.begin("/")
	v.wantPage(v.arrive(request, url.Values{"error": {"access_denied"}, "state": request["state"]}), 403, "access_denied")
	p.SetUser(optest.Claims{"sub": "mallory"})
	drawn(v.Navigate(v.url("/")), 403, "403 access_denied claim_denied")
}

func TestWebSocketWithASession(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "", "")+toUpstream)
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	c.answer(func(w http.ResponseWriter, r *http.Request) {
		if userinfoSubject(r.Header) != "alice" {
			http.Error(w, "who are you?", http.StatusTeapot)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, _ := buffered.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	})
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAccept: text/html\r\n"
	conn := dial(t, c.address)
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: "+c.address+"\r\nCookie: "+cookieHeader(v)+"\r\n"+upgrade+"\r\nhello\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Cache-Control") != "private" {
		t.Fatalf("got %d, %v", response.StatusCode, response.Header)
	}
	if line, err := reader.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("the socket says %q, %v", line, err)
	}
	c.advance()
	c.wantRefused(t, exchange(t, c.address, "GET /socket HTTP/1.1\r\nHost: h\r\n"+upgrade+"\r\n"), 401, "no_credentials")
}

func TestS030UpstreamCannotSetOurCookies(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "", "unauth_action pass /public")+toUpstream)
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	name := v.kept(isSessionName)[0].Name
	c.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Set-Cookie"] = []string{
			"theirs=1; Path=/", name + "=evil; Path=/", name + ".0=evil", name + "-loop=evil", name + "-t-abcdefghij=evil", "__Host-" + name +
				"=evil; Secure; Path=/",
			" " + name + " =evil", name + "x=theirs too",
		}
		w.Header().Set("Cache-Control", "public")
	})
	for _, path := range []string{"/", "/public"} {
		r := v.open(path)
		if got := r.Header.Values("Set-Cookie"); !slices.Equal(got, []string{"theirs=1; Path=/", name + "x=theirs too"}) ||
			r.Header.Get("Cache-Control") != "public" {
			t.Errorf("%s: got %d, Set-Cookie %q, %v", path, r.Status, got, r.Header)
		}
	}
	c.answer(nil)
	v.wantSession(true)
}

// Many users at once, by session and by token, on connections that they share, and each is himself.
func TestS018SessionsNeverMix(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, webapp(p, "", "audience api\nclaim_header X-Email email\nscope openid email")+toUpstream,
		"servers {\n"+speakH2C+"\n}")
	const users, clients, requests = 6, 12, 60
	var credentials [users]string
	for i := range credentials {
		claims := optest.Claims{"sub": fmt.Sprintf("user-%d", i), "email": fmt.Sprintf("user-%d@example.com", i)}
		if i%3 == 2 {
			credentials[i] = "Authorization: Bearer " + p.AccessToken(claims)
			continue
		}
		p.SetUser(claims)
		v := newCaddyVisitor(t, c, p)
		v.signIn("/")
		credentials[i] = "Cookie: " + cookieHeader(v)
	}
	c.answer(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", userinfoSubject(r.Header), r.Header.Get("X-Email"))
	})
	transports := []http.RoundTripper{http.DefaultTransport, h2cTransport(t)}
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for i := range requests {
				user := (client*7 + i*3) % users
				request, _ := http.NewRequest(http.MethodGet, c.url("/"), nil)
				name, value, _ := strings.Cut(credentials[user], ": ")
				request.Header.Set(name, value)
				r := send(t, transports[(client+i)%2], request)
				if r == nil {
					return
				}
				if want := fmt.Sprintf("user-%d user-%[1]d@example.com", user); r.StatusCode != http.StatusOK || r.body != want {
					t.Errorf("%q got %d: %q", want, r.StatusCode, r.body)
				}
			}
		})
	}
	group.Wait()
}

// Nobody is logged out by a reload, nor by a restart: neither sessions nor logins under way are forgotten.
func TestSection8ReloadsAndRestartsKeepSessions(t *testing.T) {
	p := optest.New(t)
	site := func(n int) string { return fmt.Sprintf("header X-Load %d\n", n) + webapp(p, "", "") + toUpstream }
	c := startCaddy(t, site(0))
	v := newCaddyVisitor(t, c, p)
	v.signIn("/")
	request, spent := v.begin("/oauth2/login?prompt=login&return_to=/x"), v.begin("/oauth2/login?prompt=login&return_to=/spent")
	copied := v.clone()
	answer, spentAnswer := v.answerTo(request), v.answerTo(spent)
	v.wantRedirect(v.arrive(spent, spentAnswer), "/spent")
	before := hitsOf(p)
	load := func(site string) {
		t.Helper()
		if err := c.load(site); err != nil {
			t.Fatal(err)
		}
		v.origin, copied.origin = c.url(""), c.url("") // the port is another one, and the host the same
		request.Set("redirect_uri", v.url("/oauth2/callback"))
		spent.Set("redirect_uri", v.url("/oauth2/callback"))
	}
	for n := range 2 {
		load(site(n + 1))
		v.wantSession(true)
	}
	copied.wantRedirect(copied.arrive(spent, spentAnswer), "/spent")
	wantHits(t, p, before, hits{}) // it is known to be spent
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	load(site(3))
	v.wantSession(true)
	v.wantRedirect(v.arrive(request, answer), "/x")
	wantHits(t, p, before, hits{token: 1})

	t.Run("but other rules for logins do", func(t *testing.T) {
		load(webapp(p, "", "acr_values high") + toUpstream)
		v.wantSession(false)
	})
}
