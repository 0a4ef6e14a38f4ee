package optest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const afterwards = "https://app.example.com/logged-out"

// leaving is a good logout request, changed by pairs; "" leaves out.
func leaving(hint string, pairs ...string) url.Values {
	values := url.Values{
		"id_token_hint": {hint}, "client_id": {"client"}, "post_logout_redirect_uri": {afterwards}, "state": {"the-state-of-the-logout"},
	}
	for i := 0; i < len(pairs); i += 2 {
		if values.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values
}

func leave(p *Provider, b *Browser, request url.Values) *Response {
	b.tb.Helper()
	return b.NavigateFrom("https://app.example.com/", p.Endpoint(EndSession)+"?"+request.Encode())
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]Option{
		"http": {WithEndSession()}, "TLS": {WithEndSession(), WithTLS()}, "path": {WithEndSession(), WithIssuerPath("/realms/demo")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t, options...)
			if got := p.Metadata(); got["end_session_endpoint"] != p.Endpoint(EndSession) || got["backchannel_logout_session_supported"] != true ||
				got["frontchannel_logout_session_supported"] != true {
				t.Errorf("metadata = %v", got)
			}
			p.SetPostLogoutRedirectURIs("https://app.example.com/other", afterwards)
			b, _ := visitor(t, p)
			for i, send := range []func(url.Values) *Response{
				func(request url.Values) *Response { return leave(p, b, request) },
				func(request url.Values) *Response {
					return b.Submit("https://app.example.com/", p.Endpoint(EndSession), request)
				},
			} {
				token, claims := come(t, p, b)
				request := leaving(token)
				r := send(request)
				if r.URL != afterwards+"?state=the-state-of-the-logout" || r.Status != http.StatusOK || len(r.Steps) != 2 {
					t.Fatalf("status %d at %s", r.Status, r.URL)
				}
				logouts := p.Logouts()
				if len(logouts) != i+1 {
					t.Fatalf("logouts = %+v", logouts)
				}
				got := logouts[i]
				if got.Method != []string{"GET", "POST"}[i] || got.Hint != token || got.ClientID != "client" || got.RedirectURI != afterwards ||
					got.State != "the-state-of-the-logout" || !got.HintValid || got.HintClaims["sub"] != "alice" || got.Refused != "" ||
					got.SID != claims["sid"] || got.Form.Encode() != request.Encode() {
					t.Errorf("logout = %+v", got)
				}
				// A post from another site brings no Lax cookie, which then stays behind.
				kept := name != "TLS" && i == 1
				if len(p.SSOSessions()) != 0 || (len(b.Cookies(p.URL())) != 0) != kept {
					t.Errorf("sessions = %v, cookies %v", p.SSOSessions(), b.Cookies(p.URL()))
				}
				if p.Prompts() != i+1 || p.Hits(EndSession) != i+1 {
					t.Errorf("%d prompts, %d requests", p.Prompts(), p.Hits(EndSession))
				}
			}
			if issued := p.Issued(); !slices.Contains(issued, "the-state-of-the-logout") {
				t.Error("the state is not a secret")
			}
		})
	}
}

func TestEndSessionChecks(t *testing.T) {
	t.Parallel()
	stranger := New(t)
	tests := map[string]struct {
		hint    func(p *Provider, token string) string // nil: as it was
		pairs   []string
		twice   string
		any     bool   // nothing is registered
		end     bool   // of the session
		valid   bool   // is the hint
		at      string // where it ends; "" is the provider
		refused string // a part of the reason
	}{
		"good":         {end: true, valid: true, at: afterwards + "?state=the-state-of-the-logout"},
		"no state":     {pairs: []string{"state", ""}, end: true, valid: true, at: afterwards},
		"no client_id": {pairs: []string{"client_id", "", "state", ""}, end: true, valid: true, at: afterwards},
		"no hint":      {pairs: []string{"id_token_hint", "", "state", ""}, end: true, at: afterwards},
		"nothing":      {pairs: []string{"id_token_hint", "", "client_id", "", "post_logout_redirect_uri", ""}, end: true},
		"no way back":  {pairs: []string{"post_logout_redirect_uri", ""}, end: true, valid: true},
		"with a query": {
			pairs: []string{"post_logout_redirect_uri", afterwards + "?a=b"},
			end:   true, valid: true, at: afterwards + "?a=b&state=the-state-of-the-logout",
		},
		"any": {
			pairs: []string{"post_logout_redirect_uri", "https://app.example.com/x"},
			any:   true, end: true, valid: true, at: "https://app.example.com/x?state=the-state-of-the-logout",
		},
		"not registered": {pairs: []string{"post_logout_redirect_uri", "https://app.example.com/x"}, valid: true, refused: "redirect"},
		"longer":         {pairs: []string{"post_logout_redirect_uri", afterwards + "/"}, valid: true, refused: "redirect"},
		"any, nobody's":  {pairs: []string{"id_token_hint", "", "client_id", ""}, any: true, refused: "neither"},
		"nobody's":       {pairs: []string{"id_token_hint", "", "client_id", ""}, refused: "neither"},
		"script":         {pairs: []string{"post_logout_redirect_uri", "javascript:alert(1)"}, any: true, valid: true, refused: "redirect"},
		"other client":   {pairs: []string{"client_id", "other"}, valid: true, refused: "client_id"},
		"twice":          {twice: "state", valid: true, refused: "twice"},
		"no token":       {hint: func(*Provider, string) string { return "no token" }, refused: "id_token_hint"},
		"other key": {
			hint:    func(p *Provider, _ string) string { return Sign(NewKey(t, "RS256", "rs-1"), nil, p.IDClaims(nil)) },
			refused: "id_token_hint",
		},
		"other issuer":   {hint: func(*Provider, string) string { return stranger.IDToken(nil) }, refused: "id_token_hint"},
		"wrong iss":      {hint: func(p *Provider, _ string) string { return p.IDToken(Claims{"iss": "https://x.test"}) }, refused: "id_token_hint"},
		"other audience": {hint: func(p *Provider, _ string) string { return p.IDToken(Claims{"aud": "other"}) }, refused: "id_token_hint"},
		"unsigned":       {hint: func(p *Provider, _ string) string { return Unsigned(nil, p.IDClaims(nil)) }, refused: "id_token_hint"},
		"another secret": {
			hint:    func(p *Provider, _ string) string { return HMAC("HS256", []byte("guess"), nil, p.IDClaims(nil)) },
			refused: "id_token_hint",
		},
		"by the secret": {
			hint: func(p *Provider, _ string) string { return HMAC("HS256", []byte("secret"), nil, p.IDClaims(nil)) },
			end:  true, valid: true, at: afterwards + "?state=the-state-of-the-logout",
		},
		"audiences": {
			hint: func(p *Provider, _ string) string { return p.IDToken(Claims{"aud": []string{"other", "client"}}) },
			end:  true, valid: true, at: afterwards + "?state=the-state-of-the-logout",
		},
		"of nobody here": {
			hint:  func(p *Provider, _ string) string { return p.IDToken(Claims{"sid": "gone"}) },
			valid: true, at: afterwards + "?state=the-state-of-the-logout",
		},
		"of somebody else": {
			hint:  func(p *Provider, _ string) string { return p.IDToken(Claims{"sub": "bob"}) },
			valid: true, at: afterwards + "?state=the-state-of-the-logout",
		},
		"expired": {
			hint: func(p *Provider, token string) string { p.Advance(48 * time.Hour); return token },
			end:  true, valid: true, at: afterwards + "?state=the-state-of-the-logout",
		},
		"earlier key": {
			hint: func(p *Provider, token string) string { p.Rotate(t); p.Rotate(t); return token },
			end:  true, valid: true, at: afterwards + "?state=the-state-of-the-logout",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := New(t, WithEndSession())
			if !test.any {
				p.SetPostLogoutRedirectURIs(afterwards, afterwards+"?a=b")
			}
			b, _ := visitor(t, p)
			token, _ := come(t, p, b)
			if test.hint != nil {
				token = test.hint(p, token)
			}
			request := leaving(token, test.pairs...)
			if test.twice != "" {
				request.Add(test.twice, "again")
			}
			r := leave(p, b, request)
			status := http.StatusOK
			if test.refused != "" {
				status = http.StatusBadRequest
			}
			if r.Status != status || r.URL != test.at && test.at != "" || test.at == "" && !strings.HasPrefix(r.URL, p.URL()) {
				t.Errorf("status %d at %s: %s", r.Status, r.URL, r.Body)
			}
			got := p.Logouts()[0]
			if got.HintValid != test.valid || (got.Refused != "") != (test.refused != "") || !strings.Contains(got.Refused, test.refused) {
				t.Errorf("logout = %+v", got)
			}
			if (len(p.SSOSessions()) == 0) != test.end || (got.SID != "") != test.end {
				t.Errorf("sessions = %v, logout of %q", p.SSOSessions(), got.SID)
			}
		})
	}
}

// A hint of another session ends that, and the browser's own stays.
func TestEndSessionOfAnotherBrowser(t *testing.T) {
	t.Parallel()
	p := New(t, WithEndSession())
	p.SetSIDs(func() string { return "the same" })
	first, _ := visitor(t, p)
	come(t, p, first)
	p.SetSIDs(nil)
	second, _ := visitor(t, p)
	token, claims := come(t, p, second)
	leave(p, first, leaving(token))
	if sessions := p.SSOSessions(); len(sessions) != 1 || p.Logouts()[0].SID != claims["sid"] || len(first.Cookies(p.URL())) != 1 {
		t.Errorf("sessions = %v, logout %+v", sessions, p.Logouts()[0])
	}
	// Of two sessions of one name it is the browser's own.
	p.SetSIDs(func() string { return "the same" })
	third, _ := visitor(t, p)
	token, _ = come(t, p, third)
	leave(p, third, leaving(token))
	if _, _ = come(t, p, first); p.Prompts() != 3 || len(third.Cookies(p.URL())) != 0 {
		t.Errorf("%d prompts, cookies %v", p.Prompts(), third.Cookies(p.URL()))
	}
}

func TestHostileEndSession(t *testing.T) {
	t.Parallel()
	p := New(t)
	p.SetEndSession(true)
	b, _ := visitor(t, p)
	token, _ := come(t, p, b)
	p.Fail(EndSession, Fault{Status: http.StatusServiceUnavailable, Times: 1})
	if r := leave(p, b, leaving(token)); r.Status != http.StatusServiceUnavailable || len(p.SSOSessions()) != 1 || len(p.Logouts()) != 0 ||
		p.Hits(EndSession) != 1 {
		t.Errorf("fault: status %d, %v", r.Status, p.SSOSessions())
	}
	tests := []struct{ sent, state, at string }{
		{"sent", "other", afterwards + "?state=other"},
		{"sent", "", afterwards},
		{"", "made up", afterwards + "?state=made+up"},
	}
	for _, test := range tests {
		var got string
		p.SetLogoutState(func(state string) string { got = state + p.Issuer(); return test.state })
		if r := leave(p, b, leaving(token, "state", test.sent)); r.URL != test.at || got != test.sent+p.Issuer() {
			t.Errorf("%+v: at %s, state was %q", test, r.URL, got)
		}
	}
	p.SetLogoutState(nil)
	token, _ = come(t, p, b)
	p.SetLogoutRedirect(false)
	if r := leave(p, b, leaving(token)); r.Status != http.StatusOK || !strings.HasPrefix(r.URL, p.URL()) || len(p.SSOSessions()) != 0 {
		t.Errorf("no way back: status %d at %s", r.Status, r.URL)
	}
	p.SetLogoutRedirect(true)
	if r := leave(p, b, leaving(token)); !strings.HasPrefix(r.URL, afterwards) {
		t.Errorf("way back: status %d at %s", r.Status, r.URL)
	}
	if r := b.Do(http.MethodPut, p.Endpoint(EndSession), ""); r.Status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: status %d", r.Status)
	}
	p.SetEndSession(false)
	if r := b.Get(p.Endpoint(EndSession)); r.Status != http.StatusNotFound {
		t.Errorf("without the endpoint: status %d", r.Status)
	}
}
