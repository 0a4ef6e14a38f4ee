package openidconnect

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Whatever somebody wishes for, the browser stays on the site, and a wish that was granted once is granted again.
func FuzzSafeReturnURL(f *testing.F) {
	const origin = "https://app.example.com:8443"
	for _, wish := range append(hostileReturnURLs(f, "app.example.com:8443"), harmlessReturnURLs...) {
		f.Add(wish)
	}
	f.Fuzz(func(t *testing.T, wish string) {
		granted := safeReturnURL(wish, origin)
		wantOnSite(t, origin, location(granted, origin))
		if again := safeReturnURL(granted, origin); again != granted {
			t.Errorf("%q becomes %q, and that %q", wish, granted, again)
		}
		if len(granted) > maxReturnURL || !strings.HasPrefix(granted, "/") {
			t.Errorf("%q becomes %q", wish, granted)
		}
		wantOnSite(t, origin, location(stateReturnURL(granted), origin))

		// the same as the target of a request
		request, err := http.NewRequest(http.MethodGet, origin, nil)
		if err != nil {
			t.Fatal(err)
		}
		if request.URL, err = url.ParseRequestURI(wish); err == nil {
			wantOnSite(t, origin, location(requestedURL(request), origin))
		}
	})
}

func wantOnSite(t *testing.T, origin, location string) {
	t.Helper()
	target, err := optest.ResolveLocation(origin+"/oauth2/callback", location)
	if err != nil || !strings.HasPrefix(target, origin+"/") {
		t.Errorf("%q leads to %q: %v", location, target, err)
	}
	if strings.ContainsFunc(location, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("Location %q", location)
	}
}

// What is read of the loop breaker's cookie is bounded and young, and is written as it was read.
func FuzzLoop(f *testing.F) {
	now := time.Unix(1_700_000_000, 0)
	for _, text := range []string{
		"", "-", ".", "a.1700000000", "00ff00ff.1700000000-r.1699999990", "r.1699999941", "r.1699999940", "a.1700000001", "a.-1",
		"a.99999999999999999999",
		"too-long-a-mark.1700000000", strings.Repeat("a.1700000000-", 50), "\x00.1700000000", "a.1700000000.1", "a. 1700000000",
		"a.+1700000000",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries := parseLoop(text, now)
		if len(entries) > 2*loopLogins {
			t.Fatalf("%d entries", len(entries))
		}
		for _, entry := range entries {
			if age := now.Unix() - entry.at; age < 0 || age >= 60 || entry.mark == "" || len(entry.mark) > 8 {
				t.Errorf("%q has the entry %v", text, entry)
			}
		}
		if again := parseLoop(formatLoop(entries), now); !slices.Equal(again, entries) {
			t.Errorf("%q is read as %v, and then as %v", text, entries, again)
		}
	})
}

// A callback that nobody has asked for redeems nothing and makes no session, whatever it says.
func FuzzCallbackQuery(f *testing.F) {
	p := optest.New(f)
	query := newLoginSite(f, p, "")
	form := newSecureLoginSite(f, p, "response_mode form_post")
	for _, text := range []string{
		"", "?", "code=x&state=y", "code=x&code=x&state=y", "state=y&state=y", "error=access_denied&state=y",
		"error=temporarily_unavailable", "code=&state=",
		"code[]=x&state[]=y", "code=x;state=y", "code=%zz&state=%", "iss=" + url.QueryEscape(p.Issuer()) + "&code=x", "iss=x&iss=y",
		"iss=x", "response=x.y.z",
		strings.Repeat("a=b&", 200), "code=" + strings.Repeat("x", 9000), "state=" + strings.Repeat("x", 5000),
		"error=x&code=y&state=z", "error_description=authentication_expired&error=x",
	} {
		f.Add(text, "")
		f.Add(text, query.handler.runtime.login.cookies.TransactionName(false, [32]byte{})+"="+strings.Repeat("A", 100))
	}
	f.Fuzz(func(t *testing.T, text, cookies string) {
		byQuery := httptest.NewRequest(http.MethodGet, "/oauth2/callback", nil)
		byQuery.URL.RawQuery = text
		byForm := httptest.NewRequest(http.MethodPost, "/oauth2/callback", strings.NewReader(text))
		for _, test := range []struct {
			site    *site
			request *http.Request
		}{{query, byQuery}, {form, byForm}} {
			r := test.request
			r.Header["Sec-Fetch-Mode"] = []string{"navigate"}
			r.Header["Content-Type"] = []string{"application/x-www-form-urlencoded"}
			if cookies != "" {
				r.Header["Cookie"] = []string{cookies}
			}
			w := httptest.NewRecorder()
			test.site.ServeHTTP(w, r)
			switch w.Code {
			case http.StatusFound, http.StatusSeeOther:
				if location := w.Header().Get("Location"); !strings.HasPrefix(location, p.Endpoint(optest.Authorize)+"?") {
					t.Errorf("redirected to %q", location)
				}
			case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			default:
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
			for _, cookie := range w.Result().Cookies() {
				if isSessionName(cookie.Name) && cookie.MaxAge >= 0 {
					t.Errorf("a session was made: %s", cookie.Name)
				}
			}
			if n := p.Hits(optest.Token); n != 0 || test.site.reached() != 0 {
				t.Fatalf("%d codes were redeemed, %d requests reached the upstream", n, test.site.reached())
			}
			test.site.logs.TakeAll()
		}
	})
}
