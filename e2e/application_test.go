package e2e

import (
	"encoding/base64"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// applicationTitle is that of every page of the site behind the gateway.
const applicationTitle = "The application"

var applicationPage = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en">
<title>` + applicationTitle + `</title>
<nav><a href="/next">Next</a> <a href="/oauth2/logout">Sign out</a></nav>
<pre id="received">{{.}}</pre>
<form method="post" action="/orders"><input name="order" value="7"><button>Order</button></form>
</html>
`))

// The links on each of its pages.
const (
	next    = "nav a[href='/next']"
	signOut = "nav a[href='/oauth2/logout']"
)

// received is what a page of the application says about the request for it.
type received struct {
	Method string      `json:"method"`
	URI    string      `json:"uri"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
	At     time.Time   `json:"at"`
}

// newApplication is the site behind the gateway. Each of its pages shows what reached it, and /received says that as JSON,
// after the time that its query names; /socket echoes, /events sends an event, and /nothing has no content, which leaves
// a browser where it is.
func newApplication() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/socket", websocket.Server{Handler: func(c *websocket.Conn) {
		var message string
		if websocket.Message.Receive(c, &message) == nil {
			_ = websocket.Message.Send(c, message) // whether it arrives is for the browser to say
		}
	}})
	mux.HandleFunc("/nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: tick\n\n"))
	})
	mux.HandleFunc("/received", func(w http.ResponseWriter, r *http.Request) {
		if pause, err := time.ParseDuration(r.FormValue("after")); err == nil {
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(describe(r))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = applicationPage.Execute(w, string(describe(r)))
	})
	return mux
}

func describe(r *http.Request) []byte {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	text, err := json.Marshal(received{r.Method, r.URL.RequestURI(), r.Header, string(body), time.Now()})
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// isApplication tells whether the tab shows a page of the application.
func isApplication(page browser.Page) bool { return page.Title == applicationTitle && page.Text != "" }

// landed waits for the application and returns what reached it.
func landed(t *testing.T, tab *browser.Tab) received {
	t.Helper()
	tab.Wait("a page of the application", isApplication)
	return reached(t, tab)
}

// reached returns what reached the application whose page the tab shows.
func reached(t *testing.T, tab *browser.Tab) received {
	t.Helper()
	var r received
	text := browser.Evaluate[string](tab, `document.querySelector("#received").textContent`)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

// claims are those in the X-Userinfo header.
func (r received) claims(t *testing.T) map[string]any {
	t.Helper()
	values := r.Header.Values("X-Userinfo")
	if len(values) != 1 {
		t.Fatalf("the application received X-Userinfo %d times, want once", len(values))
	}
	decoded, err := base64.StdEncoding.DecodeString(values[0])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(decoded, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// expect compares what reached the application with who asked for what.
func (r received) expect(t *testing.T, uri, subject string) {
	t.Helper()
	if r.URI != uri {
		t.Errorf("the application was asked for %s, want %s", r.URI, uri)
	}
	if got := r.claims(t)["sub"]; got != subject {
		t.Errorf("sub in X-Userinfo is %v, want %s", got, subject)
	}
}
