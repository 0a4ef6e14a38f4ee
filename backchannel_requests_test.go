package openidconnect

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Only a form in the body of a POST ends a session (S-221; C-078).
func TestS221RequestsOfLogout(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	token := b.p.LogoutToken(optest.BySID("s"))
	form := logoutForm(token)
	const boundary = "multipart/form-data; boundary=x"
	multipart := "--x\r\nContent-Disposition: form-data; name=\"logout_token\"\r\n\r\n" + token + "\r\n--x--\r\n"
	padded := func(size int) string { return form + "&x=" + strings.Repeat("a", size-len(form)-len("&x=")) }
	for name, test := range map[string]struct {
		method, query, contentType, body string
		status                           int
	}{
		"GET":                           {http.MethodGet, "", "", "", 405},
		"GET with it in the query":      {http.MethodGet, "?" + form, "", "", 405},
		"GET with a body":               {http.MethodGet, "", formType, form, 405},
		"HEAD":                          {http.MethodHead, "?" + form, "", "", 405},
		"PUT":                           {http.MethodPut, "", formType, form, 405},
		"PATCH":                         {http.MethodPatch, "", formType, form, 405},
		"DELETE":                        {http.MethodDelete, "?" + form, formType, form, 405},
		"OPTIONS":                       {http.MethodOptions, "", "", "", 405},
		"post":                          {"post", "", formType, form, 405},
		"JSON":                          {http.MethodPost, "", "application/json", `{"logout_token":"` + token + `"}`, 400},
		"a form that is called JSON":    {http.MethodPost, "", "application/json", form, 400},
		"the token alone":               {http.MethodPost, "", "application/logout+jwt", token, 400},
		"the token as text":             {http.MethodPost, "", "text/plain", form, 400},
		"multipart":                     {http.MethodPost, "", boundary, multipart, 400},
		"a form that is called nothing": {http.MethodPost, "", "", form, 400},
		"another kind of form":          {http.MethodPost, "", "application/x-www-form-urlencoded-x", form, 400},
		"two media types":               {http.MethodPost, "", formType + ", application/json", form, 400},
		"a media type that is broken":   {http.MethodPost, "", formType + "; charset", form, 400},
		"no body":                       {http.MethodPost, "", formType, "", 400},
		"it is in the query":            {http.MethodPost, "?" + form, formType, "", 400},
		"it is in the query, with more": {http.MethodPost, "?" + form, formType, "x=y", 400},
		"empty":                         {http.MethodPost, "", formType, "logout_token=", 400},
		"no value":                      {http.MethodPost, "", formType, "logout_token", 400},
		"another name":                  {http.MethodPost, "", formType, "logout_tokens=" + token, 400},
		"the name in another case":      {http.MethodPost, "", formType, "Logout_Token=" + token, 400},
		"the name of a list":            {http.MethodPost, "", formType, "logout_token[]=" + token, 400},
		"twice":                         {http.MethodPost, "", formType, form + "&" + form, 400},
		"twice, one empty":              {http.MethodPost, "", formType, form + "&logout_token=", 400},
		"twice, one in escapes":         {http.MethodPost, "", formType, form + "&%6Cogout_token=x", 400},
		"semicolons":                    {http.MethodPost, "", formType, form + ";x=y", 400},
		"broken escapes":                {http.MethodPost, "", formType, form + "&x=%zz", 400},
		"one byte too many":             {http.MethodPost, "", formType, padded(maxLogoutBody + 1), 413},
		"1 MB":                          {http.MethodPost, "", formType, padded(1 << 20), 413},
		"1 MB of nothing":               {http.MethodPost, "", formType, strings.Repeat("&", 1<<20), 413},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			b.wantUntouched(func() {
				var answer optest.BackchannelAnswer
				if len(test.body) > 2*maxLogoutBody {
					answer = b.pour(test.body)
				} else {
					answer = b.p.SendLogoutRequest(t, test.method, b.uri+test.query, test.contentType, test.body)
				}
				if test.status == http.StatusMethodNotAllowed {
					if answer.Status != test.status || answer.Header.Get("Allow") != http.MethodPost || answer.Body != "" {
						t.Errorf("got %d, Allow %q: %s", answer.Status, answer.Header.Get("Allow"), answer.Body)
					}
					wantBackchannelHeaders(t, answer)
					return
				}
				b.wantRefusal(answer, test.status, "")
			}, victim)
		})
	}
	wantDone(t, b.p.SendLogoutRequest(t, http.MethodPost, b.uri, formType, form)) // all of them had a good token
	wantEnded(t, victim)
}

// What a request has beside the token does not matter (C-078), neither does who is said to have caused it (S-222).
func TestS222RequestsThatAreGood(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	padded := func(form string) string {
		return form + "&x=" + strings.Repeat("a", maxLogoutBody-len(form)-len("&x="))
	}
	as := func(form string) string { return form }
	for name, test := range map[string]struct {
		query, contentType string
		body               func(form string) string
		headers            []string
	}{
		"as it is":                  {"", formType, as, nil},
		"charset":                   {"", formType + "; charset=UTF-8", as, nil},
		"the type in capitals":      {"", strings.ToUpper(formType), as, nil},
		"unknown parameters":        {"", formType, func(form string) string { return "a=b&" + form + "&c=d&c=d&client_id=other" }, nil},
		"unknown ones in the query": {"?iss=x&sid=y&realm=z", formType, as, nil},
		"another one in the query":  {"?logout_token=x", formType, as, nil}, // only the body counts
		"as large as can be":        {"", formType, padded, nil},
		"an Origin":                 {"", formType, as, []string{"Origin: https://evil.example"}},
		"Fetch Metadata":            {"", formType, as, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: empty"}},
		"of a page":                 {"", formType, as, []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"}},
		"a prefetch":                {"", formType, as, []string{"Sec-Purpose: prefetch"}},
		"credentials of the client": {"", formType, as, []string{"Authorization: Basic Y2xpZW50OnNlY3JldA=="}},
		"two bearer tokens":         {"", formType, as, []string{"Authorization: Bearer a", "Authorization: Bearer b"}},
		"a cookie that is rubbish":  {"", formType, as, []string{"Cookie: oidc-x=y; oidc-x.0=z"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			victim, other := b.signIn("alice", "session of "+name), b.signIn("alice", "another of "+name)
			form := test.body(logoutForm(b.p.LogoutToken(optest.BySID("session of " + name))))
			wantDone(t, b.p.SendLogoutRequest(t, http.MethodPost, b.uri+test.query, test.contentType, form, test.headers...))
			wantEnded(t, victim)
			wantAlive(t, other)
		})
	}
}

// A browser that is made to post a token is not logged out by that, nor is its cookie looked at (S-222).
func TestS222CookiesAreIgnored(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	named, bystander := b.signIn("alice", "s"), b.signIn("bob", "t")
	post := func(token, header string) optest.BackchannelAnswer {
		return b.p.SendLogoutRequest(t, http.MethodPost, b.uri, formType, logoutForm(token), header)
	}
	b.wantUntouched(func() {
		b.wantRefusal(post(b.p.LogoutToken(optest.BySID("t"), set("aud", "x")), "Cookie: "+cookieHeader(bystander)), 400, "wrong_audience")
		b.wantRefusal(post(b.p.LogoutToken(), "Cookie: "+cookieHeader(bystander)), 400, "missing_claim")
	}, named, bystander)
	wantDone(t, post(b.p.LogoutToken(optest.BySID("s")), "Cookie: "+cookieHeader(bystander)))
	wantEnded(t, named)
	wantAlive(t, bystander)

	page := bystander.Fetch("https://evil.example/", http.MethodPost, b.uri, logoutForm("x"))
	if page.Status != 400 || page.Header.Get("Access-Control-Allow-Origin") != "" || len(page.Header.Values("Set-Cookie")) != 0 {
		t.Errorf("a script of another site got %d, %v", page.Status, page.Header)
	}
	submitted := bystander.Submit("https://evil.example/", b.uri, url.Values{"logout_token": {b.p.LogoutToken(optest.BySID("unknown"))}})
	if submitted.Status != 200 || len(submitted.Header.Values("Set-Cookie")) != 0 {
		t.Errorf("a form of another site got %d, %v", submitted.Status, submitted.Header)
	}
	wantAlive(t, bystander)
}

// Who sends without an end is not listened to without an end, and holds up nobody.
func TestS221EndlessRequests(t *testing.T) {
	t.Parallel()
	b := newBackchannel(t, "")
	victim := b.signIn("alice", "s")
	head := "POST /oauth2/backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Type: " + formType + "\r\n"
	b.wantUntouched(func() {
		for name, start := range map[string]string{
			"chunks":         head + "Transfer-Encoding: chunked\r\n\r\n",
			"a large length": head + "Content-Length: 1073741824\r\n\r\n",
			"asked before":   head + "Expect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n",
		} {
			conn := dial(t, b.site.server.URL)
			answered := make(chan *reply, 1)
			go func() { answered <- finalReply(t, conn) }()
			sent := flood(conn, start, strings.Contains(start, "chunked"))
			if response := <-answered; response != nil && (response.StatusCode != http.StatusRequestEntityTooLarge || !response.Close) {
				t.Errorf("%s: got %d, close %t", name, response.StatusCode, response.Close)
			}
			if sent > 64<<20 {
				t.Errorf("%s: %d bytes were taken", name, sent)
			}
		}
	}, victim)

	// a body that never comes keeps its own connection busy, nothing else
	slow := dial(t, b.site.server.URL)
	if _, err := io.WriteString(slow, head+"Content-Length: 100\r\n\r\nlogout_"); err != nil {
		t.Fatal(err)
	}
	b.wantDone(b.p.LogoutToken(optest.BySID("s")))
	wantEnded(t, victim)
	cut := dial(t, b.site.server.URL)
	if _, err := io.WriteString(cut, head+"Content-Length: 100\r\n\r\nlogout_token="); err != nil {
		t.Fatal(err)
	}
	cut.Close()
}

// pour posts a form that the site may hang up on, and takes the answer in the meantime.
func (b *backchannel) pour(body string) optest.BackchannelAnswer {
	b.t.Helper()
	conn := dial(b.t, b.site.server.URL)
	defer conn.Close()
	head := fmt.Sprintf("POST /oauth2/backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", formType, len(body))
	go io.WriteString(conn, head+body)
	got := finalReply(b.t, conn)
	if got == nil {
		return optest.BackchannelAnswer{}
	}
	return optest.BackchannelAnswer{Status: got.StatusCode, Header: got.Header, Body: got.body}
}

// finalReply reads the answer of a connection, after what only says to go on; nil when there is none.
func finalReply(t testing.TB, conn net.Conn) *reply {
	reader := bufio.NewReader(conn)
	for {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Error(err)
			return nil
		}
		body, _ := io.ReadAll(response.Body) // the connection may be cut off after it
		response.Body.Close()
		if response.StatusCode != http.StatusContinue {
			return &reply{Response: response, body: string(body)}
		}
	}
}

// flood sends until the connection is closed, 128 MiB at most, and returns how much was sent.
func flood(conn net.Conn, start string, chunked bool) (sent int) {
	text := strings.Repeat("x=aaaaaa&", 8<<10)
	if chunked {
		text = fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
	}
	if _, err := io.WriteString(conn, start); err != nil {
		return 0
	}
	for sent < 128<<20 {
		n, err := io.WriteString(conn, text)
		sent += n
		if err != nil {
			break
		}
	}
	return sent
}
