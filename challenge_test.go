package openidconnect

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// Whatever sort of client asks without a token hears 401, without an error, a redirect or a cookie.
func TestS002AndS036NoCredentials(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	s.allows(p.AccessToken(nil))
	for _, headers := range [][]string{
		nil,
		{"Accept: application/json"},
		{"Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/html"},
		{"X-Requested-With: XMLHttpRequest", "Accept: text/html"},
		{"Upgrade: websocket", "Connection: Upgrade", "Accept: text/html"},
		{"Accept: text/event-stream", "Sec-Fetch-Dest: empty"},
		{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Accept: text/html"},
		{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Purpose: prefetch", "Accept: text/html"},
		{"Sec-Fetch-Dest: image", "Sec-Fetch-Mode: no-cors"},
		{"Authorization: "},
		{"Authorization: Basic YTpi"},
		{"Authorization: Negotiate abc"},
		{"Authorization: BearerX abc"},
		{"Authorization: Bear er abc"},
		{"Authorization: nonsense"},
	} {
		r := s.get("/x", headers...)
		s.wantRefused(t, r, 401, "no_credentials")
		if got := r.Header.Get("WWW-Authenticate"); got != `Bearer realm="openid_connect"` {
			t.Errorf("%q: challenge %s", headers, got)
		}
		if got := r.json(t, "error"); got != "login_required" {
			t.Errorf("%q: error %s", headers, got)
		}
	}
	for _, method := range []string{
		http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions,
		http.MethodTrace, "PROPFIND",
	} {
		s.wantRefused(t, s.do(newRequest(t, method, s.server.URL, nil, "Accept: text/html")), 401, "no_credentials")
	}
}

// A browser gets a page to read instead, which holds nothing of the request.
func TestS263ThePage(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nrealm \"<b>realm\"")
	uuid := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	for _, test := range []struct {
		authorization, challenge string
		status                   int
		reason                   string
	}{
		{"", `Bearer realm="<b>realm"`, 401, "no_credentials"},
		{"Bearer <script>", `error="invalid_request"`, 400, "malformed_authorization"},
		{"Bearer " + p.AccessToken(optest.Claims{"aud": "<script>alert(1)</script>"}), `error="invalid_token"`, 401, "wrong_audience"},
		{"Bearer " + p.AccessToken(optest.Claims{"sub": nil}), "", 403, "claim_required"},
	} {
		for _, accept := range [][]string{
			{"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"},
			{"Accept: */*", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: cross-site"},
		} {
			headers := append([]string{"Referer: https://evil.example/<script>"}, accept...)
			if test.authorization != "" {
				headers = append(headers, "Authorization: "+test.authorization)
			}
			r := s.get("/%3Cscript%3E?x=<script>", headers...)
			if r.StatusCode != test.status || !strings.Contains(r.Header.Get("WWW-Authenticate"), test.challenge) {
				t.Errorf("status %d, challenge %s", r.StatusCode, r.Header.Get("WWW-Authenticate"))
			}
			for name, want := range map[string]string{
				"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
				"Referrer-Policy": "no-referrer", "Location": "", "Set-Cookie": "",
			} {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s %q, want %q", name, got, want)
				}
			}
			if policy := r.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") ||
				!strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("Content-Security-Policy %q", policy)
			}
			if !strings.Contains(r.body, test.reason) || !uuid.MatchString(r.body) {
				t.Errorf("the page has no reason or request id: %s", r.body)
			}
			for _, leaked := range []string{"script>", "evil.example", "alert", p.Issuer(), "goroutine", ".go:"} {
				if strings.Contains(r.body, leaked) {
					t.Errorf("the page has %q", leaked)
				}
			}
			if n := s.advance(); n != 0 {
				t.Errorf("%d requests reached the upstream", n)
			}
		}
	}
}

// Challenges have configured and fixed text only (CVE-2022-29266).
func TestS044NothingIsEchoed(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nbearer_token_from query token\nbearer_token_from header X-Token")
	key := p.Key("rs-1")
	evil := `", realm="evil`
	challenge := regexp.MustCompile(`^Bearer( [a-z_]+="[ !\x23-\x5b\x5d-\x7e]*",?)+$`)
	for _, headers := range [][]string{
		{`Authorization: Bearer x", realm="evil`},
		{`Authorization: Bearer x%0d%0aX-Evil: 1`},
		{`X-Token: x", realm="evil`},
		{"Authorization: Bearer " + optest.Sign(key, optest.Claims{"kid": evil}, p.AccessClaims(nil))},
		{"Authorization: Bearer " + optest.Sign(key, optest.Claims{"typ": evil}, p.AccessClaims(nil))},
		{"Authorization: Bearer " + optest.Sign(key, optest.Claims{"alg": evil}, p.AccessClaims(nil))},
		{"Authorization: Bearer " + p.AccessToken(optest.Claims{"iss": evil})},
		{"Authorization: Bearer " + p.AccessToken(optest.Claims{"aud": evil})},
		{"Authorization: Bearer " + p.AccessToken(optest.Claims{"sub": nil, "evil": evil})},
		{"Authorization: Bearer " + p.AccessToken(optest.Claims{"exp": evil})},
		{"Authorization: Bearer " + p.AccessToken(optest.Claims{"cnf": evil})},
		{"Authorization: Bearer " + base64url(`{"alg":"RS256`+evil) + ".e30.eA"},
	} {
		r := s.get("/?token=&evil="+"%22evil", headers...)
		if n := s.advance(); n != 0 || r.StatusCode < 400 || r.StatusCode > 403 {
			t.Errorf("%q: status %d, %d requests reached the upstream", headers, r.StatusCode, n)
		}
		got := r.Header.Get("WWW-Authenticate")
		if r.StatusCode != 403 && !challenge.MatchString(got) {
			t.Errorf("challenge %s", got)
		}
		if strings.Contains(fmt.Sprint(r.Header), "evil") || strings.Contains(r.body, "evil") {
			t.Errorf("%q: echoed in %v %s", headers, r.Header, r.body)
		}
	}
}

// Preflights have no credentials. By default they get what everybody gets; let through, they are stripped like everybody.
func TestS011Preflights(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	preflight := func(s *site, headers ...string) *reply {
		headers = append(headers, "Origin: https://app.example", "X-Userinfo: forged", "X-Access-Token: forged", "Connection: X-Userinfo")
		return s.do(newRequest(t, http.MethodOptions, s.server.URL, nil, headers...))
	}
	off := newBearerSite(t, p, "audience api")
	off.wantRefused(t, preflight(off, "Access-Control-Request-Method: POST"), 401, "no_credentials")

	on := newBearerSite(t, p, "audience api\nallow_preflight\nstrip_authorization")
	on.wantAllowed(t, preflight(on, "Access-Control-Request-Method: POST"))
	header := on.last(t).Header
	if header["X-Userinfo"] != nil || header["X-Access-Token"] != nil || header["Connection"] != nil {
		t.Errorf("the upstream sees %v", header)
	}
	on.wantAllowed(t, preflight(on, "Access-Control-Request-Method: POST", "Authorization: Bearer "+p.AccessToken(nil)))
	on.wantRefused(t, preflight(on), 401, "no_credentials")
	on.wantRefused(t, preflight(on, "Access-Control-Request-Method: POST", "Authorization: Bearer nonsense"), 401, "malformed_token")
	on.wantRefused(t, on.get("/", "Access-Control-Request-Method: POST", "Origin: https://app.example"), 401, "no_credentials")
}

// Refusals of every status have the same body over HTTP/1.1 and HTTP/2.
func TestS275RefusalsOverHTTP2(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nrequired_scopes read")
	transport := h2cTransport(t)
	for _, test := range []struct {
		headers []string
		status  int
		reason  string
	}{
		{nil, 401, "no_credentials"},
		{[]string{"Authorization: Bearer a b"}, 400, "malformed_authorization"},
		{[]string{"Authorization: Bearer a", "Authorization: Bearer b"}, 400, "ambiguous_credentials"},
		{[]string{"Authorization: Bearer nonsense"}, 401, "malformed_token"},
		{[]string{"Authorization: Bearer " + p.AccessToken(optest.Claims{"scope": "x"})}, 403, "insufficient_scope"},
	} {
		r := roundTrip(t, transport, newRequest(t, http.MethodGet, s.server.URL, nil, test.headers...))
		if r.ProtoMajor != 2 {
			t.Fatalf("protocol %s", r.Proto)
		}
		s.wantRefused(t, r, test.status, test.reason)
	}
	r := roundTrip(t, transport, newRequest(t, http.MethodGet, s.server.URL, nil, "Authorization: Bearer "+p.AccessToken(nil)))
	s.wantAllowed(t, r)
}

// A refusal is one whole response: the connection goes on after it.
func TestRefusalsLeaveTheConnectionUsable(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	conn := dial(t, s.server.URL)
	reader := bufio.NewReader(conn)
	for range 3 {
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		s.wantRefused(t, readReply(t, reader), 401, "no_credentials")
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
		s.wantRefused(t, readReply(t, reader), 401, "no_credentials")
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+p.AccessToken(nil)+"\r\n\r\n")
		s.wantAllowed(t, readReply(t, reader))
	}
}

// What is refused for want of a restriction that says something (S-014); the full grammar is tested with the parser.
func TestS014EmptyRestrictionsDoNotStart(t *testing.T) {
	t.Parallel()
	base := `"issuer":"https://id.example.com","bearer_only":true`
	for _, test := range []struct{ settings, field string }{
		{base, "audience"},
		{base + `,"audience":[]`, "audience"},
		{base + `,"audience":""`, "audience"},
		{base + `,"audience":[""," "]`, "audience"},
		{base + `,"audience":["any","api"]`, "audience"},
		{base + `,"audience":"api","required_scopes":[]`, "required_scopes"},
		{base + `,"audience":"api","required_scopes":["read write"]`, "required_scopes"},
		{base + `,"audience":"api","required_claims":[{"claim":"groups","values":[]}]`, "required_claims"},
		{base + `,"audience":"api","required_claims":[{"claim":"groups","values":[""]}]`, "required_claims"},
		{base + `,"audience":"api","required_claims":[{"claim":""}]`, "required_claims"},
		{base + `,"audience":"api","denied_claims":[{"claim":"groups"}]`, "denied_claims"},
		{base + `,"audience":"api","valid_issuers":[]`, "valid_issuers"},
		{base + `,"audience":"api","tenants":[]`, "tenants"},
		{base + `,"audience":"api","token_signing_alg_values_expected":[]`, "token_signing_alg_values_expected"},
		{base + `,"audience":"api","token_signing_alg_values_expected":"none"`, "token_signing_alg_values_expected"},
		{base + `,"audience":"api","introspection_endpoint":"https://id.example.com/i"`, "introspection_endpoint"},
		{base + `,"audience":"api","unauth_rules":[{"action":"pass"}]`, "unauth_rules"},
		{base + `,"audience":"api","required_scope":"read"`, "required_scope"},
		{`"issuer":"https://id.example.com","audience":"api"`, "bearer_only"},
		{`"bearer_only":true,"audience":"api"`, "issuer"},
	} {
		var h Handler
		err := json.Unmarshal([]byte("{"+test.settings+"}"), &h)
		if err == nil {
			if err = h.Provision(newContext(t)); err == nil {
				h.Cleanup()
			}
		}
		if err == nil || !strings.Contains(err.Error(), test.field) {
			t.Errorf("%s: %v, want an error that names %s", test.settings, err, test.field)
		}
	}
}
