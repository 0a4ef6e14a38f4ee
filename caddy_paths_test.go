package openidconnect

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// readAs returns every path that some upstream may read a request target as: decoded once or more, backslashes taken for slashes,
// path parameters dropped, dot segments resolved, in any case.
func readAs(target string) []string {
	target, _, _ = strings.Cut(target, "?")
	if rest, ok := strings.CutPrefix(target, "http://"); ok {
		_, target, _ = strings.Cut(rest, "/")
		target = "/" + target
	}
	var readings []string
	for range 8 {
		for _, form := range []string{target, strings.ReplaceAll(target, `\`, "/")} {
			segments := strings.Split(form, "/")
			for i := range segments {
				segments[i], _, _ = strings.Cut(segments[i], ";")
			}
			for _, whole := range []string{form, strings.Join(segments, "/")} {
				readings = append(readings, strings.ToLower(path.Clean("/"+whole)))
			}
		}
		target = decodeLeniently(target)
	}
	return readings
}

func readsAsAdmin(target string) bool {
	for _, reading := range readAs(target) {
		if reading == "/admin" || strings.HasPrefix(reading, "/admin/") {
			return true
		}
	}
	return false
}

// Raw targets that are to look public to us and protected to somebody behind us.
var hostileTargets = []string{
	"/public/../admin", "/public/%2e%2e/admin", "/public/%252e%252e/admin", "/public/..%2fadmin", "/public%2f..%2fadmin",
	"/public/..;/admin", "/public/..;x=y/admin", "/public/.;/../admin", `/public/..\admin`, "/public/..%5cadmin", "/admin?x=/public/",
	"/admin#/public", "/admin%23/public", "/admin;/public/", "//admin", "/./admin", "/%61dmin", "/ADMIN", "/admin/", "/admin%2f",
	"//public/../admin", "/public//../admin", "/public/./../admin", "/public/%2e%2e%2fadmin", "/public/%2e%2e%5cadmin",
	"/public/.%2e/admin", "/public/%2e./admin", "/public/x/../../admin", "/public/..%00/admin", "/public/..%0d/admin", "/public/%c0%ae%c0%ae/admin",
	"/public/%25%32%65%25%32%65/admin", "/public/..%252f..%252fadmin", "/public/%%32%65%%32%65/admin", "/%70ublic/../admin",
	"/public/..%2Fadmin", "/public/%2E%2E/admin", "/public/..", "/public/..;", "/Public/../Admin",
	"http://h/public/../admin", "http://h/admin", "http://h/public/%2e%2e/admin", "http://h/public/..;/admin",
}

// manyTargets adds every way to write "/public/../admin" out of these.
func manyTargets() []string {
	targets := slices.Clone(hostileTargets)
	dots := []string{".", "%2e", "%252e", "%25252e"}
	separators := []string{"/", "%2f", "%252f", `\`, "%5c", "%255c", "/;/", "//"}
	for _, first := range dots {
		for _, second := range dots {
			for _, before := range separators {
				for _, after := range separators {
					targets = append(targets, "/public"+before+first+second+after+"admin")
				}
			}
		}
	}
	return targets
}

// An exception for public paths must not open what lies beside them (CVE-2025-54576 and others): a target that anybody behind us could
// read as another path gets what the default says.
func TestS007ExceptionsOpenNothingElse(t *testing.T) {
	p := optest.New(t)
	targets := manyTargets()
	for _, site := range []struct{ name, caddyfile, prefix string }{
		{"plain", "", ""},
		{"behind uri strip_prefix", "uri strip_prefix /app\n", "/app"},
		{"in handle_path", "handle_path /app/* {\n", "/app"},
	} {
		t.Run(site.name, func(t *testing.T) {
			text := site.caddyfile + api(p, "unauth_action pass /public/*")
			if strings.HasPrefix(site.caddyfile, "handle") {
				text += "}\nhandle {\nrespond 404\n}"
			}
			c := startCaddy(t, text)
			send := func(target string, headers ...string) *reply {
				if rest, ok := strings.CutPrefix(target, "http://h"); ok {
					target = "http://h" + site.prefix + rest
				} else {
					target = site.prefix + target
				}
				return exchange(t, c.address, "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+strings.Join(headers, "\r\n")+"\r\n")
			}
			c.wantAllowed(t, send("/public/index.html"))
			c.wantAllowed(t, send("/public/a;b=c/%C3%A4%20%25?x=../admin"))
			c.wantAllowed(t, send("/admin", "Authorization: Bearer "+p.AccessToken(nil), ""))
			c.wantRefused(t, send("/admin"), 401, "no_credentials")
			for _, target := range targets {
				r := send(target)
				n := c.advance()
				switch {
				case n > 1:
					t.Fatalf("%s reached the upstream %d times", target, n)
				case n == 1:
					// it passed as public, so it must be nothing else to anybody
					if arrived := c.last(t).RequestURI; readsAsAdmin(arrived) || readsAsAdmin(target) {
						t.Errorf("%s reached the upstream as %s without a token", target, arrived)
					}
				case r.StatusCode != http.StatusUnauthorized && r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusNotFound:
					t.Errorf("%s got %d", target, r.StatusCode)
				}
			}
		})
	}
}

// Where all is public but for exceptions, nobody gets at these by another name.
func TestS007ExceptionsStayClosed(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, "unauth_action pass\nunauth_action deny /admin*"))
	send := func(target string, headers ...string) *reply {
		return exchange(t, c.address, "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+strings.Join(headers, "\r\n")+"\r\n")
	}
	c.wantAllowed(t, send("/"))
	c.wantAllowed(t, send("/a/b.c/%C3%A4%20?x=../admin"))
	c.wantAllowed(t, send("/admin/x", "Authorization: Bearer "+p.AccessToken(nil), ""))
	c.wantRefused(t, send("/admin/x"), 401, "no_credentials")
	for _, target := range append(manyTargets(), "/x;y/../admin", "/;/admin", "/%2561dmin", "/admin%00", "/%c0%afadmin", "/.;/admin",
		"/ad%6Din/x", "/x/..%2fadmin/") {
		send(target)
		if c.advance() > 0 && readsAsAdmin(target) {
			t.Errorf("%s reached the upstream as %s without a token", target, c.last(t).RequestURI)
		}
	}
}

// What a proxy writes down about the original request is no reason to let this one in, whoever says it (CVE-2026-40575).
func TestS008NobodyRenamesTheRequest(t *testing.T) {
	for _, trust := range []struct{ name, globals string }{
		{"untrusted", ""},
		{"trusted proxy", "servers {\ntrusted_proxies static 127.0.0.1/32\n}"},
	} {
		t.Run(trust.name, func(t *testing.T) {
			p := optest.New(t)
			c := startCaddy(t, "@read method GET\n@post method POST\n"+
				api(p, "unauth_action deny /admin\nunauth_action pass /public/*\nunauth_action pass @post"), trust.globals)
			c.wantAllowed(t, c.get("/public/x"))
			for _, header := range []string{
				"X-Forwarded-Uri: /public/x", "X-Original-Url: /public/x", "X-Rewrite-Url: /public/x", "X-Replaced-Path: /public/x",
				"X-Envoy-Original-Path: /public/x", "X-Forwarded-Prefix: /public", "X-Forwarded-Path: /public/x", "X-Original-Uri: /public/x",
				"X-Forwarded-Method: POST", "X-Http-Method-Override: POST", "X-Method-Override: POST", "X-Original-Method: POST",
				"Forwarded: for=127.0.0.1;host=public", "X-Forwarded-Host: public", "Referer: http://" + c.address + "/public/x",
			} {
				c.wantRefused(t, c.get("/other", header), 401, "no_credentials")
				c.wantRefused(t, c.get("/admin?/public/x", header), 401, "no_credentials")
			}
		})
	}
}

// By whatever name a site is called, it is protected.
func TestS012HostNames(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, "http://app.example.test:$PORT {\nbind 127.0.0.1\n"+api(p, "")+"}\nhttp://:$PORT {\nbind 127.0.0.1\nrespond 404\n}")
	send := func(target, host string, headers ...string) *reply {
		return exchange(t, c.address, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+strings.Join(headers, "\r\n")+"\r\n")
	}
	authorization := "Authorization: Bearer " + p.AccessToken(nil)
	c.wantAllowed(t, send("/", "app.example.test", authorization, ""))
	c.wantAllowed(t, send("/", "APP.Example.Test:80", authorization, ""))
	c.wantRefused(t, send("/", "app.example.test"), 401, "no_credentials")
	for _, host := range []string{
		"APP.EXAMPLE.TEST", "app.example.test.", "app.example.test:443", "app.example.test@evil.test", "evil.test", "аpp.example.test",
		"", "app.example.test,evil.test",
		"app.example.test evil.test", "[::1]", "app%2Eexample.test", "x.app.example.test",
	} {
		for _, target := range []string{"/", "http://app.example.test/", "http://evil.test/", "http://user@app.example.test/"} {
			if r := send(target, host); r.StatusCode < 400 || r.StatusCode > 404 {
				t.Errorf("%s of %q got %d", target, host, r.StatusCode)
			}
			if c.advance() != 0 {
				t.Errorf("%s of %q reached the upstream", target, host)
			}
		}
	}
}

// Health checkers are clients like any other (CVE-2026-34457).
func TestS009NoUserAgentIsTrusted(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	s.allows(p.AccessToken(nil))
	for _, agent := range []string{"GoogleHC/1.0", "kube-probe/1.31", "ELB-HealthChecker/2.0", "Consul Health Check", ""} {
		for _, path := range []string{"/", "/ping", "/health", "/ready", "/.well-known/health"} {
			s.wantRefused(t, s.get(path, "User-Agent: "+agent), 401, "no_credentials")
		}
	}
}

// Rules that look at the client's address see the one that Caddy has found out, not the one that somebody claims (CVE-2024-21494).
func TestS034AddressesAreCaddysOwn(t *testing.T) {
	p := optest.New(t)
	site := "@internal client_ip 10.0.0.0/8\n" + api(p, "unauth_action pass @internal")
	claims := []string{
		"X-Forwarded-For: 10.1.2.3", "X-Real-Ip: 10.1.2.3", "Forwarded: for=10.1.2.3", "X-Client-Ip: 10.1.2.3",
		"Cf-Connecting-Ip: 10.1.2.3",
	}
	t.Run("from a trusted proxy", func(t *testing.T) {
		c := startCaddy(t, site, "servers {\ntrusted_proxies static 127.0.0.1/32\n}")
		c.wantAllowed(t, c.get("/", claims[0]))
		c.wantRefused(t, c.get("/", "X-Forwarded-For: 192.0.2.1"), 401, "no_credentials")
		for _, claim := range claims[1:] {
			c.wantRefused(t, c.get("/", claim), 401, "no_credentials")
		}
	})
	t.Run("from anybody else", func(t *testing.T) {
		c := startCaddy(t, site)
		for _, claim := range claims {
			c.wantRefused(t, c.get("/", claim), 401, "no_credentials")
		}
	})
}
