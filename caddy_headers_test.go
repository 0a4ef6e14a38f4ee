package openidconnect

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// ourHeaders are all headers that the site of identitySite could set.
var ourHeaders = []string{"X-Userinfo", "X-Access-Token", "X-Id-Token", "X-Raw-Id-Token", "X-Refresh-Token", "X-Email"}

const identitySettings = "claim_header X-Email email\nunauth_action pass /public/*"

// foreign returns the headers or trailers that an upstream could take for ours, besides X-Userinfo and X-Email with these values.
func foreign(header http.Header, userinfo, email string) []string {
	var found []string
	for name, values := range header {
		for _, ours := range ourHeaders {
			folded := strings.NewReplacer("_", "-", ".", "-").Replace(name)
			if !strings.EqualFold(folded, ours) {
				continue
			}
			want := map[string]string{"X-Userinfo": userinfo, "X-Email": email}[name]
			if want == "" || len(values) != 1 || values[0] != want {
				found = append(found, fmt.Sprintf("%s: %q", name, values))
			}
		}
	}
	return found
}

// protocols are the versions of HTTP that Caddy speaks without TLS.
func protocols(tb testing.TB) map[string]http.RoundTripper {
	return map[string]http.RoundTripper{"h1": http.DefaultTransport, "h2c": h2cTransport(tb)}
}

const speakH2C = "protocols h1 h2c"

// wantNothingForeign checks that the last request to get through has X-Userinfo and X-Email only as the token says, or not at all.
func wantNothingForeign(t *testing.T, a arrival, email string) {
	t.Helper()
	ours := a.Header.Get("X-Userinfo")
	if email != "" {
		if claims := userinfo(t, a.Header); claims["sub"] != "alice" {
			t.Errorf("X-Userinfo has %v", claims)
		}
	}
	if email == "" && ours != "" && userinfo(t, a.Header)["sub"] != "alice" {
		t.Errorf("X-Userinfo is not ours: %q", ours)
	}
	if found := foreign(a.Header, ours, email); found != nil {
		t.Errorf("the upstream sees %q", found)
	}
	if found := foreign(a.Trailer, "", ""); found != nil {
		t.Errorf("the upstream sees the trailers %q", found)
	}
}

// Whoever can send an identity header is whoever he says. Removal is unconditional, also where the claim is absent (CVE-2026-30851).
func TestS019IdentityHeadersAreOursAlone(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, identitySettings), "servers {\n"+speakH2C+"\n}")
	with, without := p.AccessToken(optest.Claims{"email": "alice@example.com"}), p.AccessToken(nil)
	var forged []string
	for _, name := range ourHeaders {
		forged = append(forged, name+": forged", strings.ToLower(name)+": forged too")
	}
	for protocol, transport := range protocols(t) {
		send := func(t *testing.T, path, token string) *reply {
			headers := forged
			if token != "" {
				headers = append([]string{"Authorization: Bearer " + token}, forged...)
			}
			return roundTrip(t, transport, newRequest(t, http.MethodGet, c.url(path), nil, headers...))
		}
		t.Run(protocol+"/good token without forgery", func(t *testing.T) {
			c.wantAllowed(t, roundTrip(t, transport, newRequest(t, http.MethodGet, c.url("/"), nil, "Authorization: Bearer "+with)))
			a := c.last(t)
			if got := a.Header["X-Email"]; len(got) != 1 || got[0] != "alice@example.com" {
				t.Errorf("X-Email %q", got)
			}
			wantNothingForeign(t, a, "alice@example.com")
		})
		t.Run(protocol+"/exempt path", func(t *testing.T) {
			c.wantAllowed(t, send(t, "/public/", ""))
			a := c.last(t)
			if found := foreign(a.Header, "", ""); found != nil {
				t.Errorf("the upstream sees %q", found)
			}
		})
		t.Run(protocol+"/unauthenticated", func(t *testing.T) {
			c.wantRefused(t, send(t, "/", ""), 401, "no_credentials")
		})
		t.Run(protocol+"/claim absent", func(t *testing.T) {
			c.wantAllowed(t, send(t, "/", without))
			wantNothingForeign(t, c.last(t), "")
		})
		t.Run(protocol+"/claim present", func(t *testing.T) {
			c.wantAllowed(t, send(t, "/", with))
			wantNothingForeign(t, c.last(t), "alice@example.com")
		})
	}
}

// Some upstreams read X_Userinfo and X.Userinfo as X-Userinfo. Caddy drops such names by itself, unless it is told to expect them.
func TestS020SpellingsThatUpstreamsFold(t *testing.T) {
	p := optest.New(t)
	aliases := []string{
		"X_Userinfo", "x_userinfo", "X.Userinfo", "x.USERINFO", "X_User.info", "X-Userinfo.", "X_Access_Token", "X.Access-Token", "X-Access_Token",
		"X_Email", "x.email", "X_Id_Token", "X-Raw_Id.Token", "X_Refresh_Token",
	}
	for _, setup := range []struct{ name, globals string }{
		{"as Caddy is", "servers {\n" + speakH2C + "\n}"},
		{"with expected_underscore_headers", "servers {\n" + speakH2C + "\nexpected_underscore_headers X_*\n}"},
		{"with expected_dot_headers", "servers {\n" + speakH2C + "\nexpected_dot_headers X.*\n}"},
	} {
		t.Run(setup.name, func(t *testing.T) {
			c := startCaddy(t, api(p, identitySettings), setup.globals)
			token := p.AccessToken(optest.Claims{"email": "alice@example.com"})
			for protocol, transport := range protocols(t) {
				for _, alias := range append(aliases, "X_Harmless") {
					for _, path := range []string{"/public/", "/"} {
						request := newRequest(t, http.MethodGet, c.url(path), nil, alias+": forged")
						email := ""
						if path == "/" {
							request.Header.Set("Authorization", "Bearer "+token)
							email = "alice@example.com"
						}
						c.wantAllowed(t, roundTrip(t, transport, request))
						a := c.last(t)
						if found := foreign(a.Header, a.Header.Get("X-Userinfo"), email); found != nil || path == "/public/" && a.Header.Get("X-Userinfo") != "" {
							t.Errorf("%s %s %s: the upstream sees %q", protocol, path, alias, found)
						}
						if alias == "X_Harmless" && strings.Contains(setup.name, "underscore") && a.Header["X_harmless"] == nil {
							t.Errorf("%s: the header that Caddy was told to expect is gone: %v", protocol, a.Header)
						}
					}
				}
			}
		})
	}
}

// Names in Connection make the proxy delete headers, after we have set them (CVE-2024-45410).
func TestS022ConnectionCannotDeleteOurHeaders(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, identitySettings))
	token := p.AccessToken(optest.Claims{"email": "alice@example.com"})
	for _, lines := range []string{
		"Connection: close",
		"Connection: close, X-Userinfo",
		"connection: x-userinfo, close",
		"Connection: close\r\nConnection: X-Userinfo",
		"Connection: X-Userinfo\r\nConnection: X-Email, close",
		"Connection: close,x-email ,\tX-UserInfo\t,",
		"Connection: Authorization, close",
		"Connection: Cookie, authorization, X-Access-Token, close",
		"Connection: close\r\nKeep-Alive: X-Userinfo",
		"Connection: close\r\nProxy-Connection: X-Userinfo",
		"Connection: X_Userinfo, close",
		"Connection: Upgrade, X-Userinfo\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Connection: X-Userinfo, X-Email\r\nConnection: Upgrade\r\nUpgrade: websocket",
	} {
		r := exchange(t, c.address, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+token+"\r\nCookie: a=b\r\n"+lines+"\r\n\r\n")
		if r.StatusCode == http.StatusBadRequest {
			continue
		}
		c.wantAllowed(t, r)
		a := c.last(t)
		wantNothingForeign(t, a, "alice@example.com")
		if a.Header.Get("X-Email") != "alice@example.com" || a.Header.Get("Authorization") != "Bearer "+token || a.Header.Get("Cookie") != "a=b" {
			t.Errorf("%q: the upstream sees X-Email %q, Authorization %q, Cookie %q", lines, a.Header["X-Email"],
				a.Header["Authorization"], a.Header["Cookie"])
		}
		if strings.Contains(lines, "Upgrade") && a.Header.Get("Upgrade") != "websocket" {
			t.Errorf("%q: the upgrade is gone: %v", lines, a.Header)
		}
	}
	t.Run("what else is named there goes no further", func(t *testing.T) {
		c.wantAllowed(t, exchange(t, c.address, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+token+
			"\r\nX-Hop: 1\r\nConnection: X-Hop, X-Userinfo, close\r\n\r\n"))
		if got := c.last(t).Header["X-Hop"]; got != nil {
			t.Errorf("a hop-by-hop header reached the upstream: %q", got)
		}
	})
}

func TestS022ConnectionCannotDeleteWhatLaterDirectivesSet(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "request_header X-Remote-User {http.auth.user.id}\n"+api(p, ""))
	for _, connection := range []string{"close", "X-Remote-User, close"} {
		c.wantAllowed(t, exchange(t, c.address, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+p.AccessToken(nil)+
			"\r\nX-Remote-User: forged\r\nConnection: "+connection+"\r\n\r\n"))
		if got := c.last(t).Header["X-Remote-User"]; len(got) != 1 || got[0] != "alice" {
			t.Errorf("X-Remote-User %q", got)
		}
	}
}

// Trailers arrive after the body, when headers have long been looked at; Caddy hands them on.
func TestS023TrailersBringNoIdentity(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, identitySettings), "servers {\n"+speakH2C+"\n}")
	token := p.AccessToken(optest.Claims{"email": "alice@example.com"})
	const forged = "X-Userinfo: admin\r\nx-email: admin@example.com\r\nX_Userinfo: admin\r\nX.Access.Token: admin\r\nX-Checksum: 123\r\n"
	for _, test := range []struct {
		name, announced string
		checksum        bool // arrives
	}{
		{"none announced", "", false},
		{"all announced", "Trailer: X-Userinfo, X-Email, X_Userinfo, X.Access.Token, X-Checksum\r\n", true},
		{"one announced, others not", "Trailer: X-Checksum\r\n", true},
		{"announced in two lines", "Trailer: X-Checksum\r\nTrailer: X-Userinfo\r\n", true},
	} {
		for _, path := range []string{"/", "/public/"} {
			t.Run("h1/"+test.name+path, func(t *testing.T) {
				authorization, email := "", ""
				if path == "/" {
					authorization, email = "Authorization: Bearer "+token+"\r\n", "alice@example.com"
				}
				c.wantAllowed(t, exchange(t, c.address, "POST "+path+" HTTP/1.1\r\nHost: h\r\n"+authorization+test.announced+
					"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n"+forged+"\r\n"))
				a := c.last(t)
				if a.body != "body" {
					t.Errorf("the upstream got the body %q", a.body)
				}
				wantNothingForeign(t, a, email)
				if got := a.Trailer.Get("X-Checksum"); test.checksum && got != "123" {
					t.Errorf("the trailer that is nobody's business to remove is %q", got)
				}
			})
		}
	}
	transport := h2cTransport(t)
	for _, path := range []string{"/", "/public/"} {
		t.Run("h2c"+path, func(t *testing.T) {
			request := newRequest(t, http.MethodPost, c.url(path), io.NopCloser(strings.NewReader("body")))
			email := ""
			if path == "/" {
				request.Header.Set("Authorization", "Bearer "+token)
				email = "alice@example.com"
			}
			request.Trailer = http.Header{"X-Userinfo": {"admin"}, "X-Email": {"admin"}, "X_userinfo": {"admin"}, "X-Checksum": {"123"}}
			c.wantAllowed(t, roundTrip(t, transport, request))
			a := c.last(t)
			wantNothingForeign(t, a, email)
			if a.body != "body" || a.Trailer.Get("X-Checksum") != "123" {
				t.Errorf("the upstream got the body %q and trailers %v", a.body, a.Trailer)
			}
		})
	}
}

// Many users at once, on connections that they share, and each is himself.
func TestS018IdentitiesNeverMix(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, "claim_header X-Email email\nclient_id client\nclient_secret secret"), "servers {\n"+speakH2C+"\n}")
	const users, clients, requests = 8, 16, 150
	var tokens [users]string
	for i := range tokens {
		claims := optest.Claims{"sub": fmt.Sprintf("user-%d", i), "email": fmt.Sprintf("user-%d@example.com", i)}
		if tokens[i] = p.AccessToken(claims); i%4 == 3 {
			tokens[i] = p.OpaqueToken(p.AccessClaims(claims))
		}
	}
	transports := []http.RoundTripper{http.DefaultTransport, h2cTransport(t)}
	c.answer(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", userinfoSubject(r.Header), r.Header.Get("X-Email"))
	})
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			for i := range requests {
				user := (client*7 + i*3) % (users + 1)
				request, _ := http.NewRequest(http.MethodGet, c.url("/"), nil)
				want := ""
				if user < users {
					request.Header.Set("Authorization", "Bearer "+tokens[user])
					want = fmt.Sprintf("user-%d user-%[1]d@example.com", user)
				}
				response, err := transports[(client+i)%2].RoundTrip(request)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(response.Body)
				response.Body.Close()
				if user == users {
					if response.StatusCode != http.StatusUnauthorized {
						t.Errorf("a request without a token got %d: %s", response.StatusCode, body)
					}
				} else if response.StatusCode != http.StatusOK || string(body) != want {
					t.Errorf("%q got %d: %q", want, response.StatusCode, body)
				}
			}
		})
	}
	group.Wait()
}
