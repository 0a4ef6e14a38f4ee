package openidconnect

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A token where it is not looked for is no token, good or not.
func TestS005OnlyConfiguredPlacesCount(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	good := p.AccessToken(nil)
	s.allows(good)
	for _, token := range []string{good, "x"} {
		for _, query := range []string{"access_token", "token", "bearer_token", "jwt", "authorization"} {
			s.wantRefused(t, s.get("/?"+query+"="+token), 401, "no_credentials")
			s.wantRefused(t, s.get("/", "Cookie: "+query+"="+token), 401, "no_credentials")
		}
		for _, name := range []string{
			"X-Access-Token", "X-Userinfo", "X-Auth-Token", "X-Forwarded-Access-Token", "Proxy-Authorization",
			"Access-Token", "X-Authorization", "Token",
		} {
			s.wantRefused(t, s.get("/", name+": "+token), 401, "no_credentials")
			s.wantRefused(t, s.get("/", name+": Bearer "+token), 401, "no_credentials")
		}
		s.wantRefused(t, s.get("/?access_token="+token, "Authorization: Basic YTpi"), 401, "no_credentials")
	}
	t.Run("S042 never the body", func(t *testing.T) {
		for _, form := range []string{"access_token=" + good, "a=b&access_token=" + good + "&access_token=" + good} {
			request := newRequest(t, http.MethodPost, s.server.URL, strings.NewReader(form), "Content-Type: application/x-www-form-urlencoded")
			s.wantRefused(t, s.do(request), 401, "no_credentials")
			request = newRequest(t, http.MethodPost, s.server.URL, strings.NewReader(form),
				"Content-Type: application/x-www-form-urlencoded", "Authorization: Bearer "+good)
			s.wantAllowed(t, s.do(request))
			if got := s.last(t).body; got != form {
				t.Errorf("the upstream got the body %q", got)
			}
		}
	})
}

// What is not exactly a scheme, spaces and a token is refused before anything is looked at.
func TestS037MalformedAuthorization(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	good := p.AccessToken(nil)
	for _, header := range []string{
		"Bearer", "Bearer ", "Bearer a b", "Bearer ,x", "Bearer x,Bearer y", "Bearer " + good + ", Bearer " + good, `Bearer "x"`, "Bearer ü",
		"Bearer\t" + good, "Bearer \t" + good, "Bearer " + good + "\tx", "Bearer =", "Bearer ==", "Bearer a=b", "Bearer <x>", "Bearer x;y",
		"Bearer x%20", "Bearer {x}", "Bearer: " + good, "Bearer," + good, `Bearer realm="x"`, "Bearer \xff", "bearer", "Bearer/" + good, "Bearer@x",
		`Bearer token="` + good + `"`,
	} {
		r := exchange(t, s.server.URL, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: "+header+"\r\nConnection: close\r\n\r\n")
		s.wantRefused(t, r, 400, "malformed_authorization")
		if t.Failed() {
			t.Fatalf("with %q", header)
		}
	}
	if n := p.Hits(optest.Discovery) + p.Hits(optest.JWKS); n != 0 {
		t.Errorf("%d calls to the provider for tokens that are none", n)
	}
	for _, header := range []string{
		"Bearer " + good, "bearer " + good, "BEARER " + good, "bEaReR " + good, "Bearer    " + good,
		"Bearer " + good + "  ",
	} {
		s.wantAllowed(t, exchange(t, s.server.URL, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: "+header+"\r\nConnection: close\r\n\r\n"))
	}
}

// Of several credentials none is picked.
func TestS039AndS040OneCredential(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nunauth_action pass\nbearer_token_from header X-Token\nbearer_token_from cookie token\nbearer_token_from query access_token")
	good, bad := p.AccessToken(nil), "bad"
	for _, pair := range [][2]string{
		{"Bearer " + good, "Bearer " + good},
		{"Bearer " + good, "Bearer " + bad},
		{"Bearer " + bad, "Bearer " + good},
		{"Basic YTpi", "Bearer " + good},
		{"Bearer " + good, "Basic YTpi"},
		{"DPoP x", "Bearer " + good},
		{"Basic YTpi", "Basic YTpi"},
		{"", "Bearer " + good},
		{"Bearer " + good, ""},
	} {
		s.wantRefused(t, s.get("/", "Authorization: "+pair[0], "Authorization: "+pair[1]), 400, "ambiguous_credentials")
		s.wantRefused(t, exchange(t, s.server.URL, "GET / HTTP/1.1\r\nHost: h\r\nauthorization: "+pair[0]+"\r\nAUTHORIZATION: "+pair[1]+"\r\nConnection: close\r\n\r\n"),
			400, "ambiguous_credentials")
	}
	places := []struct{ path, header string }{
		{"/", "Authorization: Bearer " + good}, {"/", "X-Token: " + good}, {"/", "Cookie: a=b; token=" + good}, {"/?a=b&access_token=" + good, ""},
	}
	request := func(all ...int) *reply {
		path, headers := "/", []string(nil)
		for _, i := range all {
			if places[i].path != "/" {
				path = places[i].path
			}
			if places[i].header != "" {
				headers = append(headers, places[i].header)
			}
		}
		return s.get(path, headers...)
	}
	for i := range places {
		s.wantAllowed(t, request(i))
		if got := s.last(t).RequestURI; strings.Contains(got, "access_token") {
			t.Errorf("the upstream sees %s", got)
		}
		for j := range i {
			s.wantRefused(t, request(i, j), 400, "ambiguous_credentials")
			for k := range j {
				s.wantRefused(t, request(i, j, k), 400, "ambiguous_credentials")
			}
		}
	}
	s.wantRefused(t, s.get("/?access_token="+good+"&access_token="+good), 400, "ambiguous_credentials")
	s.wantRefused(t, s.get("/?access_token="+good+"&%61ccess_token="+bad), 400, "ambiguous_credentials")
	s.wantRefused(t, s.get("/", "X-Token: "+good, "X-Token: "+good), 400, "ambiguous_credentials")
	s.wantRefused(t, s.get("/", "Cookie: token="+good+"; token="+good), 400, "ambiguous_credentials")
	s.wantRefused(t, s.get("/", "X-Token: "+good, "Authorization: Bearer"), 400, "malformed_authorization")
	s.wantRefused(t, s.get("/?access_token=a+b"), 400, "malformed_authorization")
	s.wantRefused(t, s.get("/", "X-Token: a b"), 400, "malformed_authorization")
	// credentials for somebody else are no second token
	s.wantAllowed(t, s.get("/", "X-Token: "+good, "Authorization: Basic YTpi"))
	s.wantAllowed(t, s.get("/", "X-Token: Bearer "+good))
	s.wantAllowed(t, s.get("/?access_token=&a=b", "Authorization: Bearer "+good))
}

// A token in the query is looked for only where the operator says so, and goes no further.
func TestS041TokensInTheQuery(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	good := p.AccessToken(nil)
	s := newBearerSite(t, p, "audience api\nbearer_token_from query access_token")
	for _, test := range []struct{ query, want string }{
		{"access_token=" + good, "/x"},
		{"a=1&access_token=" + good + "&b=%20;2&a=+3", "/x?a=1&b=%20;2&a=+3"},
		{"access_token=" + good + "&&c", "/x?&c"},
		{"%61ccess%5Ftoken=" + good + "&z", "/x?z"},
		{"ACCESS_TOKEN=kept&access_token=" + good, "/x?ACCESS_TOKEN=kept"},
		{"x=%zz&access_token=" + good, "/x?x=%zz"},
	} {
		r := exchange(t, s.server.URL, "GET /x?"+test.query+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		s.wantAllowed(t, r)
		arrived := s.last(t)
		if arrived.RequestURI != test.want || arrived.URL.RequestURI() != test.want {
			t.Errorf("%s arrived as %s (%s), want %s", test.query, arrived.RequestURI, arrived.URL.RequestURI(), test.want)
		}
		if got := r.Header.Get("Cache-Control"); got != "private" {
			t.Errorf("Cache-Control %q", got)
		}
	}
	s.wantRefused(t, s.get("/x?access_token=nonsense"), 401, "malformed_token")
	if got := s.logs.FilterMessageSnippet("tokens in URLs").Len(); got != 1 {
		t.Errorf("%d warnings at start, want 1", got)
	}
	off := newBearerSite(t, p, "audience api\nunauth_action pass")
	off.wantAllowed(t, off.get("/x?access_token="+good))
	arrived := off.last(t)
	if arrived.Header["X-Userinfo"] != nil || arrived.RequestURI != "/x?access_token="+good {
		t.Errorf("arrived %s with %v", arrived.RequestURI, arrived.Header)
	}
}
