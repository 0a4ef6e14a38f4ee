package openidconnect

import (
	"net/http"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A handler that is passed over opens everything behind it, and in routes there are many ways to be passed over: Caddy merges routes
// that match alike, keeps one handler of a simple named route, and skips a group that the request has satisfied elsewhere. Each
// configuration here must let a good token through to the upstream and nobody else.
func TestNoRoutePassesTheHandlerOver(t *testing.T) {
	p := optest.New(t)
	directive := handler(p, "")
	const upstream = "\nreverse_proxy $UPSTREAM\n"
	for name, config := range map[string]string{
		"a named route that is the handler alone":  "&(auth) {\n" + directive + "\n}\nhttp://:$PORT {\nbind 127.0.0.1\nroute {\ninvoke auth" + upstream + "}\n}",
		"a named route with a directive before it": "&(auth) {\nheader X-Frame-Options DENY\n" + directive + "\n}\nhttp://:$PORT {\nbind 127.0.0.1\nroute {\ninvoke auth" + upstream + "}\n}",
		"a named route with the upstream in it":    "&(app) {\n" + directive + upstream + "}\nhttp://:$PORT {\nbind 127.0.0.1\ninvoke app\n}",
		"a named route with all of them":           "&(app) {\nheader X-Frame-Options DENY\nvars a b\n" + directive + upstream + "}\nhttp://:$PORT {\nbind 127.0.0.1\ninvoke app\n}",
		"a named route behind another directive of the site": "&(app) {\n" + directive + upstream + "}\nhttp://:$PORT {\nbind 127.0.0.1\n" +
			directive + "\ninvoke app\n}",
		"a named route behind a handle of the site": "&(app) {\n" + directive + upstream + "}\nhttp://:$PORT {\nbind 127.0.0.1\n" +
			"handle /public/* {\nrespond open\n}\nhandle {\ninvoke app\n}\n}",
		"a named route invoked twice": "&(auth) {\n" + directive + "\n}\nhttp://:$PORT {\nbind 127.0.0.1\nroute {\ninvoke auth\ninvoke auth" + upstream + "}\n}",
		"a named route invoked again for errors": "&(app) {\n" + handler(p, "error_responses handle_errors\nunauth_action pass /login.html") + upstream +
			"}\nhttp://:$PORT {\nbind 127.0.0.1\ninvoke app\nhandle_errors {\ninvoke app\n}\n}",
		"nested handles":      "http://:$PORT {\nbind 127.0.0.1\nhandle {\nhandle {\n" + directive + upstream + "}\n}\n}",
		"beside its siblings": "http://:$PORT {\nbind 127.0.0.1\nheader A b\n" + directive + "\nheader B c" + upstream + "}",
		"a stricter one for some paths": "http://:$PORT {\nbind 127.0.0.1\n" + handler(p, "") + "\nopenid_connect /admin/* " + p.Issuer() +
			" {\nbearer_only\naudience admin\n}" + upstream + "}",
		"one in a handle below one of the site": "http://:$PORT {\nbind 127.0.0.1\n" + handler(p, "unauth_action pass") + "\nhandle {\n" + directive + upstream + "}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			c := startCaddy(t, config)
			c.allows(p.AccessToken(nil))
			for _, headers := range [][]string{nil, {"Authorization: Bearer x.y.z"}, {"Authorization: Bearer " + p.AccessToken(optest.Claims{"aud": "other"})}} {
				for _, path := range []string{"/", "/secret", "/admin/x"} {
					c.advance()
					if r := c.get(path, headers...); r.StatusCode != http.StatusUnauthorized {
						t.Errorf("%s with %.30q: status %d", path, headers, r.StatusCode)
					}
					if n := c.advance(); n != 0 {
						t.Errorf("%s with %.30q: %d requests reached the upstream", path, headers, n)
					}
				}
			}
		})
	}
}

// The metadata of a resource is found beside the directive's matcher, and the route for it lends nothing else to anybody: an encoded
// spelling of its path belongs to the stricter handler.
func TestMetadataRouteOpensNothing(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "openid_connect /pub/* "+p.Issuer()+" {\nbearer_only\naudience api\nunauth_action pass\nprotected_resource {\nresource /pub\n}\n}\n"+
		handler(p, "")+"\nreverse_proxy $UPSTREAM")
	for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/pub", "/.well-known/oauth-protected-resource?a=b"} {
		if r := c.get(path); r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: status %d, %v", path, r.StatusCode, r.Header)
		}
	}
	absolute := exchange(t, c.url(""), "GET "+c.url("/.well-known/oauth-protected-resource")+" HTTP/1.1\r\nHost: "+c.address+"\r\nConnection: close\r\n\r\n")
	if absolute.StatusCode != http.StatusOK || absolute.Header.Get("Content-Type") != "application/json" {
		t.Errorf("in absolute form: status %d, %v", absolute.StatusCode, absolute.Header)
	}
	c.advance()
	for _, path := range []string{
		"/.well-known/oauth%2dprotected-resource", "/.well-known/oauth-protected-resource%2fpub", "/.well-known/oauth-protected-resource/pub/x",
		"/.well-known/oauth-protected-resourcex", "//.well-known/oauth-protected-resource", "/x/../.well-known/oauth-protected-resource",
	} {
		if r := c.get(path); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d", path, r.StatusCode)
		}
	}
	if n := c.advance(); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}
