package provider

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// exchangeFor exchanges a code for the given answer.
func exchangeFor(t *testing.T, op *optest.Provider, p *Provider, fault optest.Fault) (*Tokens, error) {
	t.Helper()
	before := op.Hits(optest.Token)
	op.Fail(optest.Token, fault)
	tokens, err := p.Exchange(t.Context(), basic, newGrant(op))
	if hits := op.Hits(optest.Token) - before; hits != 1 {
		t.Errorf("%d requests", hits)
	}
	return tokens, err
}

// S-152, S-153: what an answer must hold, what it may, and what is read into it.
func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	good := Tokens{AccessToken: "at", TokenType: "Bearer"}
	with := func(edit func(tokens *Tokens)) *Tokens { tokens := good; edit(&tokens); return &tokens }
	largest, tooLarge := strings.Repeat("x", jose.MaxProviderToken), strings.Repeat("x", jose.MaxProviderToken+1)
	tests := map[string]*Tokens{ // to the members of the answer; nil: refused
		`"access_token":"at","token_type":"Bearer"`:                                           &good,
		`"access_token":"at","token_type":"bearer"`:                                           with(func(tokens *Tokens) { tokens.TokenType = "bearer" }),
		`"access_token":"at","token_type":"bEARER"`:                                           with(func(tokens *Tokens) { tokens.TokenType = "bEARER" }),
		`"access_token":"at","token_type":"Bearer","error":null,"unknown":{"a":[1]}`:          &good,
		`"access_token":"at","token_type":"Bearer","error":""`:                                &good,
		`"access_token":"a t~!","token_type":"Bearer"`:                                        with(func(tokens *Tokens) { tokens.AccessToken = "a t~!" }),
		`"access_token":"` + largest + `","token_type":"Bearer"`:                              with(func(tokens *Tokens) { tokens.AccessToken = largest }),
		`"access_token":"at","token_type":"Bearer","refresh_token":"rt","id_token":"it"`:      with(func(tokens *Tokens) { tokens.RefreshToken, tokens.IDToken = "rt", "it" }),
		`"access_token":"at","token_type":"Bearer","refresh_token":null,"id_token":null`:      &good,
		`"access_token":"at","token_type":"Bearer","refresh_token":"","id_token":""`:          &good,
		`"access_token":"at","token_type":"Bearer","scope":"openid email"`:                    with(func(tokens *Tokens) { tokens.Scope = "openid email" }),
		`"access_token":"at","token_type":"Bearer","scope":["openid","email"]`:                with(func(tokens *Tokens) { tokens.Scope = "openid email" }),
		`"access_token":"at","token_type":"Bearer","scope":[]`:                                &good,
		`"access_token":"at","token_type":"Bearer","scope":null`:                              &good,
		`"access_token":"at","token_type":"Bearer","ACCESS_TOKEN":"other","Token_Type":"mac"`: &good,

		``:                                                                             nil,
		`"access_token":"at"`:                                                          nil,
		`"token_type":"Bearer"`:                                                        nil,
		`"id_token":"it","token_type":"Bearer"`:                                        nil,
		`"access_token":"at","token_type":""`:                                          nil,
		`"access_token":"at","token_type":null`:                                        nil,
		`"access_token":"at","token_type":"mac"`:                                       nil,
		`"access_token":"at","token_type":"N_A"`:                                       nil,
		`"access_token":"at","token_type":"DPoP"`:                                      nil,
		`"access_token":"at","token_type":"Bearer "`:                                   nil,
		`"access_token":"at","token_type":"Bearers"`:                                   nil,
		`"access_token":"at","token_type":"bea\u0155er"`:                               nil,
		`"access_token":"at","token_type":["Bearer"]`:                                  nil,
		`"access_token":"at","token_type":true`:                                        nil,
		`"access_token":"","token_type":"Bearer"`:                                      nil,
		`"access_token":null,"token_type":"Bearer"`:                                    nil,
		`"access_token":1,"token_type":"Bearer"`:                                       nil,
		`"access_token":["at"],"token_type":"Bearer"`:                                  nil,
		`"access_token":"a\r\nX: t","token_type":"Bearer"`:                             nil,
		`"access_token":"a\u0000t","token_type":"Bearer"`:                              nil,
		`"access_token":"a\tt","token_type":"Bearer"`:                                  nil,
		`"access_token":"é","token_type":"Bearer"`:                                     nil,
		`"access_token":"` + tooLarge + `","token_type":"Bearer"`:                      nil,
		`"access_token":"at","token_type":"Bearer","refresh_token":"` + tooLarge + `"`: nil,
		`"access_token":"at","token_type":"Bearer","id_token":"` + tooLarge + `"`:      nil,
		`"access_token":"at","token_type":"Bearer","refresh_token":1`:                  nil,
		`"access_token":"at","token_type":"Bearer","refresh_token":"r\nt"`:             nil,
		`"access_token":"at","token_type":"Bearer","id_token":{}`:                      nil,
		`"access_token":"at","token_type":"Bearer","scope":["openid",1]`:               nil,
		`"access_token":"at","token_type":"Bearer","scope":{}`:                         nil,
		`"access_token":"at","token_type":"Bearer","access_token":"other"`:             nil,
		`"access_token":"at","token_type":"Bearer","\u0061ccess_token":"at"`:           nil,
		`"access_token":"at","token_type":"Bearer","error":"invalid_grant"`:            nil,
		`"access_token":"at","token_type":"Bearer","error":true`:                       nil,
		`"access_token":"at","token_type":"Bearer","error":{"code":1}`:                 nil,
	}
	for members, want := range tests {
		tokens, err := exchangeFor(t, op, p, optest.Fault{Body: []byte("{" + members + "}")})
		short := members[:min(len(members), 80)]
		switch {
		case want != nil && (err != nil || !reflect.DeepEqual(tokens, want)):
			t.Errorf("%s: %.200v, %v", short, tokens, err)
		case want == nil && (!errors.Is(err, ErrToken) || tokens != nil):
			t.Errorf("%s: %.200v, %v", short, tokens, err)
		case want == nil && (strings.Contains(err.Error(), "xxxx") || len(err.Error()) > 200):
			t.Errorf("%s: the error quotes the answer: %v", short, err)
		}
	}
}

// S-153: a lifetime that makes no sense is not known; none is without end.
func TestExpiresIn(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for value, want := range map[string]time.Duration{
		`3600`:                               time.Hour,
		`"3600"`:                             time.Hour,
		`"0003600"`:                          time.Hour,
		`3600.5`:                             time.Hour + time.Second/2,
		`3.6e3`:                              time.Hour,
		`1`:                                  time.Second,
		`315360000`:                          maxExpiresIn,
		`315360001`:                          unclearLifetime,
		`0`:                                  unclearLifetime,
		`-0`:                                 unclearLifetime,
		`-1`:                                 unclearLifetime,
		`1e308`:                              unclearLifetime,
		`1e999`:                              unclearLifetime,
		`1e-300`:                             unclearLifetime,
		`9223372036854775807`:                unclearLifetime,
		`18446744073709551617`:               unclearLifetime,
		`null`:                               0,
		`true`:                               unclearLifetime,
		`[3600]`:                             unclearLifetime,
		`{"a":3600}`:                         unclearLifetime,
		`""`:                                 unclearLifetime,
		`" 3600"`:                            unclearLifetime,
		`"-1"`:                               unclearLifetime,
		`"+3600"`:                            unclearLifetime,
		`"1e3"`:                              unclearLifetime,
		`"0x10"`:                             unclearLifetime,
		`"1_000"`:                            unclearLifetime,
		`"Inf"`:                              unclearLifetime,
		`"NaN"`:                              unclearLifetime,
		`"soon"`:                             unclearLifetime,
		`"99999999999999999999"`:             unclearLifetime,
		`"` + strings.Repeat("9", 400) + `"`: unclearLifetime,
	} {
		tokens, err := exchangeFor(t, op, p, optest.Fault{Body: []byte(`{"access_token":"at","token_type":"Bearer","expires_in":` + value + `}`)})
		if err != nil || tokens.ExpiresIn != want {
			t.Errorf("expires_in %s: %+v, %v, want %v", value, tokens, err, want)
		}
	}
	if tokens, err := exchangeFor(t, op, p, optest.Fault{Body: []byte(`{"access_token":"at","token_type":"Bearer"}`)}); err != nil || tokens.ExpiresIn != 0 {
		t.Errorf("no expires_in: %+v, %v", tokens, err)
	}
}

// S-154: the error answers, of which the status and a plain code are told and nothing else.
func TestTokenErrors(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	code := strings.Repeat("a", 64)
	tests := []struct {
		status  int
		body    string
		code    string // "-": no [OAuthError]
		refused bool
		text    string // of the error, behind ErrToken
	}{
		{400, `{"error":"invalid_grant","error_description":"quoted"}`, "invalid_grant", true, "status 400 and error invalid_grant"},
		{401, `{"error":"invalid_grant"}`, "invalid_grant", true, "status 401 and error invalid_grant"},
		{200, `{"error":"invalid_grant"}`, "invalid_grant", true, "status 200 and error invalid_grant"},
		{200, `{"error":"x","access_token":"at","token_type":"Bearer"}`, "x", false, "status 200 and error x"},
		{429, `{"error":"invalid_grant"}`, "invalid_grant", false, "status 429 and error invalid_grant"},
		{500, `{"error":"invalid_grant"}`, "invalid_grant", false, "status 500 and error invalid_grant"},
		{400, `{"error":"Invalid_Grant"}`, "Invalid_Grant", false, "status 400 and error Invalid_Grant"},
		{400, `{"error":"invalid_client"}`, "invalid_client", false, "status 400 and error invalid_client"},
		{401, `{"error":"invalid_client"}`, "invalid_client", false, "status 401 and error invalid_client"},
		{400, `{"error":"` + code + `"}`, code, false, "status 400 and error " + code},
		{400, `{"error":"` + code + `a"}`, code + "a", false, "status 400 and an error"},
		{400, `{"error":"quoted <b>"}`, "quoted <b>", false, "status 400 and an error"},
		{400, `{"error":"quoted\nlevel=error"}`, "quoted\nlevel=error", false, "status 400 and an error"},
		{400, `{"error":"quoté"}`, "quoté", false, "status 400 and an error"},
		{400, `{"error":{"quoted":1}}`, "", false, "status 400 and an error"},
		{200, `{"error":1}`, "", false, "status 200 and an error"},
		{503, `{"error":"temporarily_unavailable"}`, "temporarily_unavailable", false, "status 503 and error temporarily_unavailable"},
		{400, `{"error":""}`, "-", false, "status 400"},
		{400, `{"error_description":"quoted"}`, "-", false, "status 400"},
		{400, `{"error":"invalid_grant","error":"quoted"}`, "-", false, "status 400"},
		{400, `{"access_token":"at","token_type":"Bearer"}`, "-", false, "status 400"},
		{400, `error=invalid_grant`, "-", false, "status 400"},
		{401, ``, "-", false, "status 401"},
		{201, `{"access_token":"at","token_type":"Bearer"}`, "-", false, "status 201"},
		{204, ``, "-", false, "status 204"},
		{500, `<html>quoted</html>`, "-", false, "status 500"},
		{502, ``, "-", false, "status 502"},
	}
	for _, test := range tests {
		name := fmt.Sprintf("%d %s", test.status, test.body)
		tokens, err := exchangeFor(t, op, p, optest.Fault{Status: test.status, Body: []byte(test.body)})
		if !errors.Is(err, ErrToken) || tokens != nil {
			t.Errorf("%s: %v, %v", name, tokens, err)
			continue
		}
		if got, want := err.Error(), ErrToken.Error()+": the token endpoint answered with "+test.text; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		refusal, ok := errors.AsType[*OAuthError](err)
		if ok != (test.code != "-") || ok && (refusal.Code != test.code || refusal.Status != test.status || refusal.Refused() != test.refused) {
			t.Errorf("%s: %+v", name, refusal)
		}
	}
	_, err := exchangeFor(t, op, p, optest.Fault{Status: 400, Body: []byte(`{"error":"invalid_grant","error_description":"expired"}`)})
	if refusal, ok := errors.AsType[*OAuthError](err); !ok || refusal.Description != "expired" {
		t.Errorf("the description is lost: %v", err)
	}
}

// S-154: the type of a good answer does not matter, unless it is a page: somebody else has answered then.
func TestTokenContentType(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	for media, good := range map[string]bool{
		"application/json":                true,
		"application/json; charset=utf-8": true,
		"APPLICATION/JSON":                true,
		"application/vnd.token+json":      true,
		"text/plain":                      true,
		"text/javascript":                 true,
		"":                                true,
		"text/html":                       false,
		"text/html; charset=utf-8":        false,
		" Text/HTML ;x":                   false,
		"application/xhtml+xml":           false,
	} {
		tokens, err := exchangeFor(t, op, p, optest.Fault{
			Body: []byte(`{"access_token":"at","token_type":"Bearer"}`), Header: http.Header{"Content-Type": {media}},
		})
		if good && err != nil || !good && (!errors.Is(err, ErrToken) || tokens != nil) {
			t.Errorf("%q: %v, %v", media, tokens, err)
		}
	}
}
