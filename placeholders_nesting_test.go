package openidconnect

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What an earlier handler has set about the user does not shine through.
func TestBasicAuthDoesNotShineThrough(t *testing.T) {
	p := optest.New(t)
	// the password is "pw"
	const users = "basic_auth {\nbob $2a$04$.HpR5dxJDSG9S3O.5CiwOuT2aBO1gtfX.KK2VJZFcorlzrAmsdDY2\n}\n"
	c := startCaddy(t, "route {\n"+users+handler(p, "unauth_action pass\nbearer_token_from header X-Token")+show+"\n}\n")
	basic := "Authorization: Basic Ym9iOnB3"
	if r := c.get("/"); r.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Fatalf("basic_auth is not there: %d %v", r.StatusCode, r.Header)
	}
	if got := c.get("/", basic).body; !strings.HasPrefix(got, "id= email=") {
		t.Errorf("anonymous to us, and yet %s", got)
	}
	if got := c.get("/", basic, "X-Token: "+p.AccessToken(optest.Claims{"email": "alice@example.com"})).body; !strings.HasPrefix(got,
		"id=alice email=alice@example.com") {
		t.Error(got)
	}
	r := c.get("/", basic, "X-Token: nonsense")
	if r.StatusCode != http.StatusUnauthorized || r.json(t, "reason") != "malformed_token" {
		t.Errorf("got %d %s", r.StatusCode, r.body)
	}
	// the other way round the last one to decide is basic_auth
	if err := c.load("route {\n" + handler(p, "unauth_action pass") + users + show + "\n}\n"); err != nil {
		t.Fatal(err)
	}
	if got := c.get("/", basic).body; !strings.HasPrefix(got, "id=bob ") {
		t.Error(got)
	}
}

// When handlers nest the inner one decides anew.
func TestNestedHandlersDecideAnew(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, `
	route {
		openid_connect `+p.Issuer()+` {
			bearer_only
			audience api
			bearer_token_from cookie token
			claim_header X-Outer email
			unauth_action pass /open/*
		}
		handle /inner/* {
			openid_connect `+p.Issuer()+` {
				bearer_only
				audience api
				username_claim email
				required_scopes write
				set_userinfo_header off
				claim_header X-Inner email
			}
			reverse_proxy $UPSTREAM {
				header_up X-Id {http.auth.user.id}
			}
		}
		handle /pass/* {
			openid_connect `+p.Issuer()+` {
				bearer_only
				audience api
				unauth_action pass
			}
			reverse_proxy $UPSTREAM {
				header_up X-Id {http.auth.user.id}
			}
		}
		handle {
			reverse_proxy $UPSTREAM {
				header_up X-Id {http.auth.user.id}
			}
		}
	}`)
	reader := "Authorization: Bearer " + p.AccessToken(optest.Claims{"email": "alice@example.com"})
	writer := "Authorization: Bearer " + p.AccessToken(optest.Claims{"email": "alice@example.com", "scope": "write"})
	t.Run("outer alone", func(t *testing.T) {
		c.wantAllowed(t, c.in(t).get("/x", reader))
		header := c.last(t).Header
		if header.Get("X-Id") != "alice" || header.Get("X-Outer") != "alice@example.com" || header["X-Userinfo"] == nil {
			t.Errorf("the upstream sees %v", header)
		}
	})
	t.Run("inner refuses", func(t *testing.T) {
		c := c.in(t)
		c.wantRefused(t, c.get("/inner/", reader), 403, "insufficient_scope")
		c.wantRefused(t, c.get("/inner/"), 401, "no_credentials")
		c.wantRefused(t, c.get("/open/../inner/", reader), 403, "insufficient_scope")
	})
	t.Run("inner accepts", func(t *testing.T) {
		r := c.in(t).get("/inner/", writer, "X-Inner: forged", "X-Outer: forged")
		c.wantAllowed(t, r)
		header := c.last(t).Header
		if header.Get("X-Id") != "alice@example.com" || header.Get("X-Inner") != "alice@example.com" || header["X-Userinfo"] != nil {
			t.Errorf("the upstream sees %v", header)
		}
		if got := r.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "private" {
			t.Errorf("Cache-Control %q", got)
		}
	})
	t.Run("anonymous to the inner one", func(t *testing.T) {
		// the outer one finds the token in the cookie, where the inner one does not look
		c.wantAllowed(t, c.in(t).get("/pass/", "Cookie: "+strings.Replace(reader, "Authorization: Bearer ", "token=", 1)))
		header := c.last(t).Header
		if header.Get("X-Id") != "" || header["X-Userinfo"] != nil {
			t.Errorf("the upstream sees %v", header)
		}
		if header["X-Outer"] != nil {
			t.Errorf("anonymous to the handler that decides, and yet X-Outer is %q", header["X-Outer"])
		}
	})
}
