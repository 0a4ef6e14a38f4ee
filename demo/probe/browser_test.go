package probe

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// serve answers on a few paths as sites with a login do.
func serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /start", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1", Path: "/"})
		http.Redirect(w, r, "/form?a=1", http.StatusFound)
	})
	mux.HandleFunc("GET /form", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<a href="/echo?x=1&amp;y=2" class="b">Use another&#39;s account</a>
<form method="post" action="/answer"><input type="hidden" name="id" value="&lt;7&gt;"><button name="b" value="1">B</button></form>`)
	})
	mux.HandleFunc("POST /answer", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/echo?id="+url.QueryEscape(r.PostFormValue("id"))+"&b="+r.PostFormValue("b"), http.StatusSeeOther)
	})
	mux.HandleFunc("GET /echo", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"mode":%q,"site":%q,"cookie":%q,"x":%q}`, r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Site"),
			r.Header.Get("Cookie"), r.Header.Get("X-Forged"))
	})
	mux.HandleFunc("GET /loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func TestBrowser(t *testing.T) {
	t.Parallel()
	site, browser := serve(t), NewBrowser()

	first := browser.Open(t.Context(), site+"/start", nil)
	if first.Outcome() != "302" {
		t.Errorf("the first answer: %s", first.Outcome())
	}
	form := browser.Follow(t.Context(), first)
	if form.Outcome() != "200" || form.URL.String() != site+"/form?a=1" {
		t.Fatalf("followed to %s: %s", form.URL, form.Outcome())
	}
	if got := strings.TrimSpace(form.Text()); got != "Use another's account\nB" {
		t.Errorf("the text of the page is %q", got)
	}
	if r := form.Redirect("/start"); r != first {
		t.Errorf("came by %v, want the first answer", r)
	}
	if r := form.Redirect("/form"); r != nil {
		t.Errorf("came by %v, which is the page itself", r)
	}

	pressed := browser.Press(t.Context(), form, "b", "1")
	if pressed.URL.RequestURI() != "/echo?id=%3C7%3E&b=1" {
		t.Errorf("pressed the button and got to %s", pressed.URL)
	}
	if pressed.Field("mode") != "navigate" || pressed.Field("site") != "same-origin" || pressed.Field("cookie") != "seen=1" {
		t.Errorf("the server saw %s", pressed.Body)
	}
	if clicked := browser.Click(t.Context(), form, "use another's account"); clicked.URL.RequestURI() != "/echo?x=1&y=2" {
		t.Errorf("clicked the link and got to %s", clicked.URL)
	}
	if typed := browser.Visit(t.Context(), site+"/echo"); typed.Field("site") != "none" {
		t.Errorf("the server saw %s", typed.Body)
	}
	fetched := browser.Fetch(t.Context(), site+"/echo", http.Header{"X-Forged": {"f"}})
	if fetched.Field("mode") != "cors" || fetched.Field("x") != "f" {
		t.Errorf("the server saw %s", fetched.Body)
	}
	posted := browser.Post(t.Context(), site+"/answer", url.Values{"id": {"7"}, "b": {"1"}}, http.Header{"X-Forged": {"f"}})
	if got := posted.Header.Get("Location"); got != "/echo?id=7&b=1" {
		t.Errorf("posted and was sent to %s", got)
	}

	at, err := url.Parse(site)
	if err != nil {
		t.Fatal(err)
	}
	browser.SetCookies(at, []*http.Cookie{{Name: "seen", Value: "2", Path: "/"}})
	if cookies := browser.Cookies(at); len(cookies) != 1 || cookies[0].Value != "2" {
		t.Errorf("the cookies: %v", cookies)
	}
}

func TestBrowserWithoutAnswer(t *testing.T) {
	t.Parallel()
	site, browser := serve(t), NewBrowser()
	form := browser.Visit(t.Context(), site+"/form")
	if form.Outcome() != "200" {
		t.Fatalf("the form: %s", form.Outcome())
	}
	echo := browser.Visit(t.Context(), site+"/echo")
	for what, page := range map[string]*Page{
		"for ever": browser.Visit(t.Context(), site+"/loop"),
		"no link":  browser.Click(t.Context(), form, "nothing"),
		"no form":  browser.Press(t.Context(), echo, "b", "1"),
		"connect":  browser.Visit(t.Context(), "http://127.0.0.1:1/"),
		"no URL":   browser.Visit(t.Context(), "%"),
	} {
		if got := page.Outcome(); !strings.HasPrefix(got, "no answer: ") {
			t.Errorf("%s: got %q", what, got)
		}
		if page.URL == nil {
			t.Errorf("%s: the page has no URL", what)
		}
	}
}
