package openidconnect

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A WebSocket is opened with a token that lives, and its 101 brings the cookie: there is no other answer that could.
func TestSection9WebSocket(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	first := r.wantServed(0)
	r.upstream.answer(func(w http.ResponseWriter, request *http.Request) {
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
		io.WriteString(conn, line+request.Header.Get("X-Access-Token")+"\n")
	})
	old := r.cookie()
	r.pass(tokenLife)
	conn := dial(t, r.origin)
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: "+r.site.host()+"\r\nCookie: "+old+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nhello\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	set, _ := cookiesOf(response.Header)
	if response.StatusCode != http.StatusSwitchingProtocols || set == "" || set == old || response.Header.Get("Cache-Control") != "private, no-store" {
		t.Fatalf("got %d %v", response.StatusCode, response.Header)
	}
	said, _ := reader.ReadString('\n')
	token, err := reader.ReadString('\n')
	if said != "hello\n" || len(token) < 100 || token == first.token+"\n" || err != nil {
		t.Errorf("the socket says %q and %.20q, %v", said, token, err)
	}
	r.upstream.answer(nil)
	if got := r.wantServed(1, "Cookie: "+set); got.token+"\n" != token {
		t.Error("the cookie of the 101 is of another generation")
	}

	t.Run("without a session", func(t *testing.T) {
		r.provider.RevokeRefreshTokens()
		r.pass(tokenLife)
		got := r.Get(r.url("/socket"), "Cookie: "+set, "Connection: Upgrade", "Upgrade: websocket", "Sec-Fetch-Mode: websocket")
		r.upstream.advance()
		r.in(t).wantRefusal(got, http.StatusUnauthorized, "no_credentials")
	})
}

// A stream begins after the renewal, with the cookie in its headers, and is not held up by anything that happens later.
func TestSection9EventStream(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken)
	first := r.wantServed(0)
	next := make(chan struct{})
	r.upstream.answer(func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: "+request.Header.Get("X-Access-Token")+"\n\n")
		http.NewResponseController(w).Flush()
		<-next
		io.WriteString(w, "data: two\n\n")
	})
	old := r.cookie()
	r.pass(tokenLife)
	request := newRequest(t, http.MethodGet, r.url("/events"), nil, "Accept: text/event-stream", "Cookie: "+old)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	set, _ := cookiesOf(response.Header)
	if response.StatusCode != http.StatusOK || set == "" || set == old {
		t.Errorf("got %d %v", response.StatusCode, response.Header)
	}
	reader := bufio.NewReader(response.Body)
	event, err := reader.ReadString('\n')
	if len(event) < 100 || strings.Contains(event, first.token) || err != nil {
		t.Errorf("the first event is %.20q, %v", event, err)
	}
	r.pass(2 * tokenLife) // the stream goes on beyond its token
	r.provider.RevokeRefreshTokens()
	close(next)
	if rest, err := io.ReadAll(reader); string(rest) != "\ndata: two\n\n" || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	r.wantGrants(1)
}

// What a request is for, and what it brings along, is the same to its renewal: the upstream gets it once, whole, and after the renewal.
func TestRenewalBeforeAnyRequest(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			r := newRenewing(t, withToken)
			r.wantServed(0)
			first := r.site.last(t).Header.Get("X-Access-Token")
			held := make(chan struct{})
			r.provider.FailRefresh(optest.Fault{Wait: held})
			r.pass(tokenLife)
			r.upstream.advance()
			sent := ""
			if method != "GET" && method != "HEAD" {
				sent = body
			}
			answer := make(chan *optest.Response, 1)
			go func() { answer <- r.Do(method, r.url("/form"), sent, "Content-Type: text/plain") }()
			r.provider.WaitForHits(t, optest.Token, 2)
			if n := r.upstream.advance(); n != 0 {
				t.Errorf("%d requests have reached the upstream before the renewal", n)
			}
			close(held)
			got := <-answer
			if got.Status != http.StatusOK || len(sessionsIn(got)) != 1 {
				t.Errorf("got %d, Set-Cookie %q", got.Status, got.Header.Values("Set-Cookie"))
			}
			if n := r.upstream.advance(); n != 1 {
				t.Fatalf("%d requests have reached the upstream", n)
			}
			last := r.site.last(t)
			if last.Method != method || last.body != sent {
				t.Errorf("the upstream got %s with %d bytes", last.Method, len(last.body))
			}
			if token := last.Header.Get("X-Access-Token"); token == "" || token == first {
				t.Error("the upstream got the old token")
			}
			if got.Body == "" != (method == "HEAD") {
				t.Errorf("the answer has %d bytes", len(got.Body))
			}
			r.wantGrants(1)
		})
	}
}

// The renewal of a session is nothing to requests that do not need the session.
func TestWhatNeedsNoRenewal(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	r := newRenewingAt(t, newLoginSite(t, p, withToken+"refresh_coordination local\naudience api"), p)
	r.pass(tokenLife)
	quiet := func(what string, answer *optest.Response, status int) {
		t.Helper()
		if set, forgot := cookiesOf(answer.Header); answer.Status != status || set != "" || forgot {
			t.Errorf("%s: got %d, Set-Cookie %q", what, answer.Status, answer.Header.Values("Set-Cookie"))
		}
		r.wantGrants(0)
	}
	session := func() map[string]any {
		t.Helper()
		answer := r.Get(r.url("/oauth2/session"))
		quiet("/session", answer, http.StatusOK)
		return jsonMembers(t, answer.Body)
	}
	if members := session(); members["authenticated"] != true || members["expires_in"] != float64(24*60*60-5*60) {
		t.Errorf("/session says %v", members)
	}
	quiet("/login", r.open("/oauth2/login?return_to=/page"), http.StatusFound)
	quiet("/logged-out", r.open("/oauth2/logged-out"), http.StatusOK)
	quiet("/jwks.json", r.Get(r.url("/oauth2/jwks.json")), http.StatusOK)
	quiet("a bearer token", r.Get(r.url("/"), "Authorization: Bearer "+p.AccessToken(nil)), http.StatusOK)
	quiet("a bad bearer token", r.Get(r.url("/"), "Authorization: Bearer nonsense"), http.StatusUnauthorized)
	quiet("two of them", r.Get(r.url("/"), "Authorization: Bearer a", "Authorization: Bearer b"), http.StatusBadRequest)
	r.wantServed(1)

	t.Run("and of a late cookie", func(t *testing.T) {
		late := r.clone()
		r.pass(tokenLife)
		r.wantServed(2)
		r = late.in(t)
		answer := r.Get(r.url("/oauth2/session"))
		if set, _ := cookiesOf(answer.Header); set != "" || !strings.Contains(answer.Body, `"authenticated":true`) {
			t.Errorf("within the grace /session says %s and sets %q", answer.Body, set)
		}
		r.pass(defaultRefreshGrace)
		answer = r.Get(r.url("/oauth2/session"))
		if set, forgot := cookiesOf(answer.Header); set != "" || forgot || !strings.Contains(answer.Body, `"authenticated":false`) {
			t.Errorf("after it /session says %s and sets %q", answer.Body, answer.Header.Values("Set-Cookie"))
		}
		r.wantGrants(2)
	})
}

// Exceptions for those without a session change nothing for those with one; where the session is over they hold.
func TestRenewalUnderUnauthRules(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"unauth_action pass /public/*\nunauth_action deny /api/*\nallow_preflight")
	for n, path := range []string{"/public/x", "/api/x", "/"} {
		r.pass(tokenLife)
		answer := servedOf(t, r.Get(r.url(path)))
		if answer.Status != http.StatusOK || answer.token == "" || answer.set == "" {
			t.Errorf("%s: got %d (%s), Set-Cookie %q", path, answer.Status, answer.reason, answer.Header.Values("Set-Cookie"))
		}
		r.wantGrants(n + 1)
	}
	r.pass(tokenLife)
	r.provider.RevokeRefreshTokens()
	old := r.clone()
	for path, status := range map[string]int{"/public/x": http.StatusOK, "/api/x": http.StatusUnauthorized, "/": http.StatusUnauthorized} {
		answer := servedOf(t, old.Get(r.url(path), "Sec-Fetch-Mode: cors"))
		if answer.Status != status || answer.token != "" || answer.set != "" {
			t.Errorf("%s: got %d (%s)", path, answer.Status, answer.reason)
		}
	}
	preflight := old.Do(http.MethodOptions, r.url("/api/x"), "", "Access-Control-Request-Method: PUT", "Origin: https://example.com")
	if preflight.Status != http.StatusOK {
		t.Errorf("a preflight: got %d", preflight.Status)
	}
	if n := r.provider.RefreshAttempts(); n != 4 {
		t.Errorf("%d attempts", n)
	}
}

// A rule is judged by the claims of the renewed session, and a refusal brings the new cookie along (S-197).
func TestS197RulesAfterARenewal(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	p.SetUser(optest.Claims{"groups": []string{"staff"}})
	r := newRenewingAt(t, newLoginSite(t, p, withToken+"refresh_coordination local\nrequired_claim groups staff\nclaim_header X-Groups groups"), p)
	r.wantServed(0)
	p.SetUser(optest.Claims{"groups": []string{"guests"}})
	r.wantServed(0)
	r.pass(tokenLife)
	r.upstream.advance()
	refused := r.ask()
	if refused.Status != http.StatusForbidden || refused.reason != "claim_required" || r.upstream.advance() != 0 {
		t.Errorf("without the group: got %d (%s)", refused.Status, refused.reason)
	}
	if refused.set == "" {
		t.Error("the refusal brings no cookie")
	}
	r.wantGrants(1)
	p.SetUser(optest.Claims{"groups": []string{"staff", "new"}})
	r.pass(tokenLife)
	r.wantServed(2)
	r.site.wantHeaders(map[string]string{"X-Groups": "staff,new"})
}

// A renewed session is spoken of in the log as it is: once, without anything secret; wantSilence looks for that.
func TestRenewalsInTheLog(t *testing.T) {
	t.Parallel()
	r := newRenewing(t, withToken+"set_refresh_token_header\nset_raw_id_token_header")
	for n := range 3 {
		r.pass(tokenLife)
		r.wantServed(n + 1)
		if lines := r.site.lines("session renewed"); lines != n+1 {
			t.Errorf("%d lines about %d renewals", lines, n+1)
		}
	}
	if n := r.site.troubles(); n != 1 { // set_refresh_token_header, which is told at start
		t.Errorf("%d lines of trouble", n)
	}
	for _, form := range r.provider.TokenRequests() {
		r.provider.MarkSecret(form.Get("refresh_token"))
	}
	if got := r.site.counted("succeeded"); got != 3 {
		t.Errorf("%v renewals are counted", got)
	}
	r.pass(time.Second)
	r.wantServed(3)
}
