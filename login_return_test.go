package openidconnect

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Where a login ends: where it began, byte for byte.

func TestSection7ReturnURLIsWhatTheClientSent(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	host := strings.TrimPrefix(s.server.URL, "http://")
	long := strings.Repeat("x", 1010)
	for sent, want := range map[string]string{
		"/": "/", "/?": "/?", "/x?y=z&y=%7A": "/x?y=z&y=%7A", "/a%2Fb%2fc": "/a%2Fb%2fc", "/%61%62": "/%61%62", "/a;b=c;d": "/a;b=c;d",
		"/x?a=%zz&b":           "/x?a=%zz&b",
		"/~a/!$&'()*+,;=:@-._": "/~a/!$&'()*+,;=:@-._", "/x??a=/?b": "/x??a=/?b",
		"/x?a=http://elsewhere.example/%2F#": "/x?a=http://elsewhere.example/%2F#",
		"/%C3%A4?%C3%A4":                     "/%C3%A4?%C3%A4", "/x?{env.HOME}=\"<>": "/x?{env.HOME}=\"<>", "/x?\xc3\xa4": "/x?%C3%A4",
		"/x?a=b%0d%0aX:y": "/x?a=b%0d%0aX:y",
		"//x/y?z":         s.server.URL + "//x/y?z", "/./x": s.server.URL + "/./x", "/a/../x?y": s.server.URL + "/a/../x?y",
		"/" + long + "?y": "/" + long + "?y", "/" + long + "?y=" + long: "/" + long, "/" + long + long + "?y": "/", "/short?y=" + long +
			long: "/short",
		"http://" + host + "/x?y": "/x?y",
	} {
		r := exchange(t, host, "GET "+sent+" HTTP/1.1\r\nHost: "+host+"\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
		location, err := url.Parse(r.Header.Get("Location"))
		if err != nil || r.StatusCode != http.StatusFound {
			t.Errorf("%.100s: got %d, %v", sent, r.StatusCode, r.Header)
			continue
		}
		v := newVisitor(t, s, p)
		for _, cookie := range r.Cookies() {
			if size := len(cookie.Name) + len(cookie.Value); size > 2000 {
				t.Errorf("%.100s: a transaction of %d bytes", sent, size)
			}
			v.SetCookie(v.url("/"), cookie)
		}
		request := location.Query()
		if n := len(request.Get("state")); n > 1000 {
			t.Errorf("%.100s: a state of %d bytes", sent, n)
		}
		if got := v.arrive(request, v.answerTo(request)).Header.Get("Location"); got != want {
			t.Errorf("%.100s leads to %.100s, want %.100s", sent, got, want)
		}
	}
}

// Somebody's form is not repeated: what is returned to after a login that something else than a page asks for is the root.
func TestSection7ReturnURLIsThatOfANavigation(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	v := newVisitor(t, newLoginSite(t, p, ""), p)
	for _, headers := range [][]string{nil, {"Sec-Fetch-Mode: cors"}, {"Accept: application/json"}} {
		r := v.Get(v.url("/api?x=y"), headers...)
		v.wantRefusal(r, 401, "no_credentials")
		if !strings.Contains(r.Body, `"login_url":"/oauth2/login"`) { // to which the caller appends return_to
			t.Errorf("body %s", r.Body)
		}
	}
	request := v.begin("/oauth2/login?return_to=%2Fpage")
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/page")
}

// One redirect_uri serves all hosts of a domain: the session is theirs, and each login leads back to its own.
func TestSection2CookieDomain(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newSecureLoginSite(t, p, "redirect_uri https://sso.example.com/oauth2/callback\nsession {\ncookie_domain example.com\n}")
	v := newVisitor(t, s, p)
	v.TrustAll()
	for _, host := range []string{
		"a.example.com", "b.example.com", "sso.example.com", "example.com", "notexample.com",
		"example.com.evil.test",
	} {
		v.Resolve(host, s.server.Listener.Addr().String())
	}
	v.origin = "https://a.example.com"
	r := v.open("/x?y=z")
	request := v.wantLogin(r)
	if got := request.Get("redirect_uri"); got != "https://sso.example.com/oauth2/callback" {
		t.Errorf("redirect_uri %q", got)
	}
	if cookie := r.Steps[0].SetCookies[0]; !strings.HasPrefix(cookie.Name, "__Secure-oidc-") || cookie.Domain != "example.com" {
		t.Errorf("the transaction is %s", cookie)
	}
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/x?y=z")
	for _, host := range []string{"a.example.com", "b.example.com", "sso.example.com", "example.com"} {
		v.origin = "https://" + host
		v.wantSession(true)
	}
	v.origin = "https://b.example.com"
	request = v.begin("/oauth2/login?prompt=login&return_to=" + url.QueryEscape("https://a.example.com/x"))
	v.wantRedirect(v.arrive(request, v.answerTo(request)), "/") // its own origin alone
	if len(v.Dropped) != 0 {
		t.Errorf("browsers drop %v", v.Dropped)
	}
	for _, host := range []string{"notexample.com", "example.com.evil.test"} {
		v.origin = "https://" + host
		v.wantPage(v.open("/x"), 400, "invalid_host")
		v.wantSession(false)
	}
}

// The cookie of a session that is carried on travels with whatever answer there is, also with that of an upgrade.
func TestSection8ReissuedCookieTravelsWithTheUpgrade(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newLoginSite(t, p, "")
	v := newVisitor(t, s, p)
	v.signIn("/")
	s.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "hello\n")
		conn.Close()
	})
	v.later(6 * time.Minute)
	old := v.kept(isSessionName)[0]
	conn := dial(t, s.server.URL)
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: "+strings.TrimPrefix(s.server.URL, "http://")+"\r\nCookie: "+cookieHeader(v)+
		"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	cookies := response.Cookies()
	if response.StatusCode != http.StatusSwitchingProtocols || len(cookies) != 1 || cookies[0].Name != old.Name ||
		cookies[0].Value == old.Value ||
		response.Header.Get("Cache-Control") != "private, no-store" {
		t.Fatalf("got %d, %v", response.StatusCode, response.Header)
	}
	if line, err := reader.ReadString('\n'); line != "hello\n" {
		t.Errorf("the socket says %q, %v", line, err)
	}
	s.answer(nil)
	v.SetCookie(v.url("/"), cookies[0])
	v.wantSession(true)
}
