package provider

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func TestUserinfo(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	observer := &events{}
	defer p.Observe("test", observer)()
	tokens, err := p.Exchange(t.Context(), basic, newGrant(op))
	if err != nil {
		t.Fatal(err)
	}
	claims, jwt, err := p.Userinfo(t.Context(), tokens.AccessToken)
	if err != nil || jwt != "" {
		t.Fatalf("Userinfo = %q, %q, %v", claims, jwt, err)
	}
	if members, err := jose.ParseObject(claims); err != nil || members["sub"] != "alice" {
		t.Errorf("claims = %s, %v", claims, err)
	}
	request := op.Requests(optest.Userinfo)[0]
	if request.Method != http.MethodGet || request.URL.RawQuery != "" || len(request.Body) != 0 ||
		!slices.Equal(request.Header["Authorization"], []string{"Bearer " + tokens.AccessToken}) ||
		request.Header.Get("Accept") != "application/json, application/jwt" || request.Header.Get("User-Agent") != "test-agent" {
		t.Errorf("%s %s %v, body %s", request.Method, request.URL, request.Header, request.Body)
	}

	// a signed answer is handed on as it is
	op.SetUserinfoJWT(func(claims optest.Claims) string { return optest.Sign(op.Key("es-1"), nil, claims) })
	claims, jwt, err = p.Userinfo(t.Context(), tokens.AccessToken)
	keys, keysErr := p.Keys(t.Context())
	if err != nil || keysErr != nil || claims != "" || !signed(t, keys, jwt) {
		t.Errorf("signed: %q, %q, %v, %v", claims, jwt, err, keysErr)
	}

	for _, token := range []string{"unknown", "un known", "a\r\nX-Injected: 1", "\x00", "é"} {
		claims, jwt, err := p.Userinfo(t.Context(), token)
		if !errors.Is(err, ErrUserinfo) || claims != "" || jwt != "" || strings.Contains(err.Error(), "Injected") || strings.Contains(err.Error(), "un known") {
			t.Errorf("token %q: %q, %q, %v", token, claims, jwt, err)
		}
	}
	for _, request := range op.Requests(optest.Userinfo) {
		if request.Header.Get("X-Injected") != "" {
			t.Error("a token became a header")
		}
	}
	if calls, _, _ := observer.take(); !slices.Contains(calls, "userinfo 200") || !slices.Contains(calls, "userinfo 401") {
		t.Errorf("observed %v", calls)
	}
}

// S-159, S-168: an answer is one JSON object or one token; a page or anything that can be read in two ways is neither.
func TestUserinfoAnswers(t *testing.T) {
	t.Parallel()
	const json, signedJWT = "application/json", "application/jwt"
	largest := strings.Repeat("x", jose.MaxProviderToken)
	tests := []struct {
		media, body string
		claims, jwt string // both empty: refused
	}{
		{json, `{"sub":"alice"}`, `{"sub":"alice"}`, ""},
		{json + "; charset=utf-8", ` {"sub":"alice","n":1.0} `, ` {"sub":"alice","n":1.0} `, ""},
		{"", `{"sub":"alice"}`, `{"sub":"alice"}`, ""},
		{"text/plain", `{"sub":"alice"}`, `{"sub":"alice"}`, ""},
		{json, `{}`, `{}`, ""},
		{signedJWT, "a.b.c", "", "a.b.c"},
		{"Application/JWT; charset=utf-8", "a.b.c\n", "", "a.b.c"},
		{signedJWT, largest, "", largest},

		{signedJWT, "", "", ""},
		{signedJWT, " \n", "", ""},
		{signedJWT, largest + "x", "", ""},
		{json, "a.b.c", "", ""},
		{"", "a.b.c", "", ""},
		{"text/html", `{"sub":"alice"}`, "", ""},
		{"text/html", "a.b.c", "", ""},
		{"text/html; charset=utf-8", "<html>", "", ""},
		{"application/xhtml+xml", `{"sub":"alice"}`, "", ""},
		{json, `[]`, "", ""},
		{json, `[{"sub":"alice"}]`, "", ""},
		{json, `null`, "", ""},
		{json, `"alice"`, "", ""},
		{json, ``, "", ""},
		{json, `{"sub":"alice","sub":"bob"}`, "", ""},
		{json, `{"sub":"alice","\u0073ub":"bob"}`, "", ""},
		{json, `{"sub":"alice"}{"sub":"bob"}`, "", ""},
		{json, `{"sub":"alice","a":{"b":1,"b":2}}`, "", ""},
		{json, "{\"sub\":\"\xff\"}", "", ""},
		{json, `{"sub":"` + "\x00" + `"}`, "", ""},
	}
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for _, test := range tests {
		op.Fail(optest.Userinfo, optest.Fault{Status: http.StatusOK, Body: []byte(test.body), Header: http.Header{"Content-Type": {test.media}}})
		claims, jwt, err := p.Userinfo(t.Context(), "token")
		short := test.body[:min(len(test.body), 80)]
		refused := test.claims == "" && test.jwt == ""
		if claims != test.claims || jwt != test.jwt || refused != errors.Is(err, ErrUserinfo) || (err == nil) == refused {
			t.Errorf("%s, %s: %.80q, %.80q, %v", test.media, short, claims, jwt, err)
		}
		if err != nil && (strings.Contains(err.Error(), "alice") || strings.Contains(err.Error(), "xxxx")) {
			t.Errorf("%s, %s: the error quotes the answer: %v", test.media, short, err)
		}
	}
	for _, status := range []int{201, 204, 400, 401, 403, 404, 429, 500} {
		op.Fail(optest.Userinfo, optest.Fault{Status: status, Body: []byte(`{"sub":"alice"}`)})
		if claims, jwt, err := p.Userinfo(t.Context(), "token"); !errors.Is(err, ErrUserinfo) || claims != "" || jwt != "" {
			t.Errorf("status %d: %q, %q, %v", status, claims, jwt, err)
		}
	}
}

// Without an endpoint there is nothing to ask, and the token stays here.
func TestUserinfoWithoutEndpoint(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	op.SetMetadata(func(m map[string]any) { delete(m, "userinfo_endpoint") })
	if _, _, err := newProvider(t, op, nil).Userinfo(t.Context(), "token"); !errors.Is(err, ErrUserinfo) || !strings.Contains(err.Error(), "userinfo_endpoint") {
		t.Errorf("Userinfo: %v", err)
	}
	op.Fail(optest.Discovery, optest.Fault{Status: 500})
	if _, _, err := newProvider(t, op, nil).Userinfo(t.Context(), "token"); !errors.Is(err, ErrDiscovery) {
		t.Errorf("without metadata: %v", err)
	}
	if hits := op.Hits(optest.Userinfo); hits != 0 {
		t.Errorf("%d requests", hits)
	}
	p := newProvider(t, op, func(c *Config) {
		c.Endpoints = Endpoints{JWKSURI: op.Endpoint(optest.JWKS), Userinfo: op.Endpoint(optest.Userinfo)}
	})
	if _, _, err := p.Userinfo(t.Context(), op.OpaqueToken(optest.Claims{"sub": "alice", "scope": "openid"})); err != nil {
		t.Errorf("with a configured endpoint: %v", err)
	}
}
