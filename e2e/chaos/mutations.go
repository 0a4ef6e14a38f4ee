package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// What requests are made of.
var (
	endpoints = []string{
		"callback", "login", "logout", "logged-out", "session", "jwks.json", "backchannel-logout", "frontchannel-logout",
	}
	methods = []string{
		"GET", "GET", "GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get",
		"G@T", "FOO-BAR", "CONNECT",
	}
	hosts = []string{
		host, "APP.TEST", "app.test.", "app.test:80", "other.test", "evil.test", "127.0.0.1", "[::1]", "[::1", "app.test:99999",
		"app.test:", "app.test@evil.test", "evil.test/..", "app test", "", "xn--app-.test", "äpp.test",
		strings.Repeat("a.", 300) + "test", "app.test,evil.test",
		"app.test\tevil.test", "-", "..", "{env.HOME}", "app.test\\evil.test", "app.test?x", "app.test#x", "%61pp.test",
	}
	paths = []string{
		"/", "/api", "/page?a=b&c=d", "/open/a", "/open/", "/open", "/open/../api", "/open/%2e%2e/api", "/open/..;/api",
		"/open/..%2fapi", "/open/..%5capi",
		"/open\\..\\api", "/open/.%2e/api", "/open//../api", "/open/%252e%252e/api", "/open/a/..;x=y/../api", "//open/a",
		"/OPEN/a", "/api/../open/a", "/open/..",
		"/open/%2e%2e%2fapi", "/open/a;/../../api", "/open/..%00/api", "/%6fpen/../api", "/open/%c0%ae%c0%ae/api", "/oauth2",
		"/oauth2/", "//oauth2/callback",
		"/oauth2//callback", "/oauth2/%63allback", "/oauth2/../oauth2/session", "/oauth2/session/", "/oauth2/session;x",
		"/oauth2/Callback", "/oauth2/session%00",
		"/%zz", "/%", "/a b", "*", "http://app.test/api", "http://evil.test/api", "http://app.test/oauth2/session", "//evil.test/",
		"/\\evil.test", "?", "",
		"/{env.HOME}", "/{http.auth.user.id}", "/" + strings.Repeat("a/", 4000), "/api?" + strings.Repeat("a=b&", 2000),
		"/api?access_token=", "/api#x", "/ä",
	}
	names = []string{
		"X-Userinfo", "x-userinfo", "X_Userinfo", "X.Userinfo", "X-USERINFO", "X-Access-Token", "X_ACCESS_TOKEN", "x.access.token",
		"X-ID-Token", "X-Id_Token",
		"X-Raw-ID-Token", "X-Refresh-Token", "X-Subject", "x-subject", "X_Subject", "X-subject",
	}
	noNames = []string{"X-Userinfo ", "X-Userinf\xc5\x8f", " X-Subject", "X-Subject\x00", ""}
	odd     = []string{"\x00", "\x7f", "\xff", "\r", "\n", "\r\n", "\t", " ", ":", ";", ",", "\"", "=", "%", "{", "}", "\\", "\u202e", "é"}
)

// one returns one of several.
func one[T any](v *vandal, of []T) T { return of[v.random.IntN(len(of))] }

// chance is true once in n times.
func (v *vandal) chance(n int) bool { return v.random.IntN(n) == 0 }

// request makes one that has something wrong with it, mostly.
func (v *vandal) request() *wireRequest {
	r := &wireRequest{method: one(v, methods), target: one(v, paths)}
	if v.chance(5) {
		r.add("Host", one(v, hosts))
		if v.chance(8) {
			r.add("Host", one(v, hosts))
		}
	} else {
		r.add("Host", host)
	}
	switch v.random.IntN(4) {
	case 0:
		for name, values := range page() {
			r.add(name, values[0])
		}
	case 1:
		for name, values := range script() {
			r.add(name, values[0])
		}
	case 2:
		r.add("Accept", "text/html")
	}
	if v.chance(2) {
		v.endpoint(r)
	}
	if v.chance(2) {
		r.add(one(v, []string{"Authorization", "authorization", "AUTHORIZATION", "Authorization", "Proxy-Authorization"}), v.authorization())
		if v.chance(12) {
			r.add("Authorization", v.authorization())
		}
	} else if v.chance(20) {
		r.target = "/api?access_token=" + url.QueryEscape(v.token())
	}
	if v.chance(2) {
		v.cookies(r)
	}
	if v.chance(2) {
		v.forge(r)
	}
	v.body(r)
	return r
}

// endpoint is for one of the module's own.
func (v *vandal) endpoint(r *wireRequest) {
	name := one(v, endpoints)
	begun := v.loot.login(v.random)
	query := url.Values{}
	switch name {
	case "callback":
		query = url.Values{"state": {begun.state}, "code": {"code-of-nobody"}}
		for range v.random.IntN(3) {
			switch v.random.IntN(8) {
			case 0:
				query.Add("state", v.mangle(begun.state))
			case 1:
				query.Set("state", v.mangle(begun.state))
			case 2:
				query.Add("code", strings.Repeat("c", v.random.IntN(9000)))
			case 3:
				query.Set("error", one(v, []string{"access_denied", "login_required", "temporarily_unavailable", "<script>", ""}))
			case 4:
				query.Set("iss", one(v, []string{v.site.provider.Issuer(), "http://evil.test", ""}))
			case 5:
				query.Del("state")
			case 6:
				query.Del("code")
			case 7:
				query.Set("response", one(v, v.loot.useless))
			}
		}
		if v.chance(2) {
			r.add("Cookie", begun.cookie)
		}
	case "login", "logout":
		query.Set(one(v, []string{"return_to", "target_link_uri", "post_logout_redirect_uri"}),
			one(v, []string{
				"/a", "//evil.test", "http://evil.test/", "/\\evil.test", "javascript:alert(1)", "/oauth2/logout", "http://app.test/x", "\t//evil.test",
			}))
		if v.chance(3) {
			query.Set("iss", one(v, []string{v.site.provider.Issuer(), "http://evil.test"}))
			query.Set("login_hint", strings.Repeat("h", v.random.IntN(1000)))
		}
	case "logged-out":
		query.Set("state", v.mangle(begun.state))
	case "frontchannel-logout":
		query = url.Values{"iss": {v.site.provider.Issuer()}, "sid": {fmt.Sprint("session-of-nobody-", v.random.IntN(1000))}}
	}
	r.target = "/oauth2/" + name
	if len(query) > 0 {
		r.target += "?" + query.Encode()
	}
	if v.chance(20) {
		r.target += one(v, odd)
	}
}

// forge claims to be somebody.
func (v *vandal) forge(r *wireRequest) {
	for range 1 + v.random.IntN(4) {
		value := forged
		if v.chance(2) {
			value = base64.StdEncoding.EncodeToString([]byte(`{"sub":"` + forged + `"}`))
		}
		name := one(v, names)
		if v.chance(40) {
			name = one(v, noNames)
		}
		r.add(name, value)
	}
	if v.chance(4) {
		r.add("Connection", one(v, []string{
			"X-Userinfo, X-Subject, X-Access-Token", "close, x-subject", "keep-alive, Authorization, Cookie", "X_Userinfo",
		}))
	}
	if v.chance(6) {
		r.add(one(v, []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Original-URL", "X-HTTP-Method-Override"}), "evil.test")
	}
}

// body is that of a form, or of nothing.
func (v *vandal) body(r *wireRequest) {
	isLogout := strings.HasPrefix(r.target, "/oauth2/backchannel-logout")
	if isLogout && !v.chance(4) {
		r.method = http.MethodPost
	}
	if r.method != http.MethodPost && r.method != http.MethodPut && r.method != http.MethodPatch {
		return
	}
	r.add("Content-Type", one(v, []string{
		"application/x-www-form-urlencoded", "application/x-www-form-urlencoded",
		"application/x-www-form-urlencoded; charset=utf-8", "application/json",
		"multipart/form-data", "text/plain", "", ";", "application/x-www-form-urlencoded; charset",
	}))
	form := "logout_token=" + url.QueryEscape(v.token())
	switch v.random.IntN(8) {
	case 0:
		form += "&" + form
	case 1:
		form = strings.Repeat("a", v.random.IntN(100_000))
	case 2:
		form = "%zz=&;" + form
	case 3:
		form = ""
	case 4:
		form = `{"logout_token":"` + v.token() + `"}`
	case 5:
		form = "code=a&state=" + url.QueryEscape(v.loot.login(v.random).state)
	}
	if v.chance(4) { // with trailers, which come after what was checked
		r.add("Transfer-Encoding", "chunked")
		r.add("Trailer", "X-Userinfo, X-Subject")
		r.body = fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Userinfo: forged\r\nX-Subject: forged\r\n\r\n", len(form), form)
		if form == "" {
			r.body = "0\r\nX-Subject: forged\r\n\r\n"
		}
		return
	}
	r.add("Content-Length", fmt.Sprint(len(form)))
	r.body = form
}

// breakUp makes something of a request that is not HTTP, or not that of one request.
func (v *vandal) breakUp(text string) string {
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	switch v.random.IntN(16) {
	case 0, 1, 2:
		return v.mangle(text)
	case 3:
		return strings.ReplaceAll(text, "\r\n", "\n")
	case 4:
		return strings.ReplaceAll(head, "\r\n", "\r\n ") + "\r\n\r\n" + body
	case 5:
		return strings.Replace(head, ": ", " : ", 2) + "\r\n\r\n" + body
	case 6:
		return head + "\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + body
	case 7:
		return head + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + text
	case 8:
		coding := one(v, []string{"xchunked", "chunked, identity", " chunked", "\vchunked", "gzip"})
		return head + "\r\nTransfer-Encoding: " + coding + "\r\n\r\n" + body
	case 9:
		chunk := one(v, []string{"-1\r\n", "ffffffffffffffffff\r\n", "5\r\nab", "zz\r\n", "5;a=b\r\nabcde\r\n0\r\n"})
		return head + "\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
	case 10:
		return strings.Replace(text, "HTTP/1.1", one(v, []string{"HTTP/0.9", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "HTTP", "", "http/1.1"}), 1)
	case 11:
		return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + text
	case 12:
		return "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + text
	case 13:
		return text + v.mangle(text) // one after the other
	case 14:
		return head + "\r\nX-Large: " + strings.Repeat("x", v.random.IntN(2<<20)) + "\r\n\r\n" + body
	default:
		return text[:v.random.IntN(len(text))]
	}
}
