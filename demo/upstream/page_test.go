package upstream

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// visit asks for a page, as a browser does.
func visit(t *testing.T, path, userinfo string) (status int, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if userinfo != "" {
		r.Header.Set("X-Userinfo", userinfo)
	}
	w := httptest.NewRecorder()
	new(Handler).ServeHTTP(w, r)
	if w.Code == http.StatusOK && w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%s is %q", path, w.Header().Get("Content-Type"))
	}
	return w.Code, w.Body.String()
}

func userinfo(claims string) string { return base64.StdEncoding.EncodeToString([]byte(claims)) }

func TestPage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, userinfo string
		want           []string
	}{
		{"anonymous", "", []string{"You are not signed in.", `href="/oauth2/login?return_to=/"`, `href="/admin"`}},
		{
			"everything known",
			userinfo(`{"sub":"1","name":"Alice Anders","email":"alice@demo.localhost","groups":["staff","admins"]}`),
			[]string{
				"<strong>Alice Anders</strong>, alice@demo.localhost, in the groups staff, admins.", "X-Userinfo</th>",
				`<a href="/oauth2/logout">Sign out</a>`,
			},
		},
		{"subject only", userinfo(`{"sub":"1"}`), []string{"You are <strong>1</strong>."}},
		{"markup", userinfo(`{"sub":"1","name":"<script>"}`), []string{"<strong>&lt;script&gt;</strong>"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status, body := visit(t, "/account?tab=1", test.userinfo)
			if status != http.StatusOK {
				t.Fatalf("got %d: %s", status, body)
			}
			for _, want := range append(test.want, "<code>/account?tab=1</code>") {
				if !strings.Contains(body, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
		})
	}
}

func TestIdentityHeadersComeFirst(t *testing.T) {
	t.Parallel()
	_, body := visit(t, "/", userinfo(`{"sub":"1"}`))
	identity, other := strings.Index(body, "X-Userinfo</th>"), strings.Index(body, "Accept</th>")
	if identity < 0 || other < identity {
		t.Errorf("X-Userinfo stands at %d, Accept at %d", identity, other)
	}
}

func TestUnreadableUserinfo(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"not base64!", userinfo("not JSON")} {
		if status, body := visit(t, "/", value); status != http.StatusBadGateway {
			t.Errorf("%q: got %d: %s", value, status, body)
		}
	}
}
