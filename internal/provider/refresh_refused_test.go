package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-194, S-195: which answers end a session, and which are no reason to. The text of none is repeated.
func TestRefreshRefused(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	const page = "text/html; charset=utf-8"
	tests := []struct {
		status  int
		media   string // empty: JSON
		body    string
		refused bool
	}{
		// RFC 6749 section 5.2, as it should be and as it is
		{400, "", `{"error":"invalid_grant"}`, true},
		{400, "", `{"error":"invalid_grant","error_description":"quoted: try again later"}`, true},
		{400, page, `{"error":"invalid_grant"}`, true}, // the default of some languages
		{400, "text/plain", `{"error":"invalid_grant"}`, true},
		{401, "", `{"error":"invalid_grant"}`, true},
		{403, "", `{"error":"invalid_grant"}`, true},
		{404, "", `{"error":"invalid_grant"}`, true},
		{422, "", `{"error":"invalid_grant"}`, true},
		{200, "", `{"error":"invalid_grant"}`, true},
		{200, "", `{"error":"invalid_grant","access_token":"quoted","token_type":"Bearer"}`, true},
		{400, "", `{"error":"invalid_client"}`, true},
		{401, "", `{"error":"invalid_client"}`, true},
		{400, "", `{"error":"unauthorized_client"}`, true},
		{400, "", `{"error":"unsupported_grant_type"}`, true},
		{400, "", `{"error":"invalid_scope"}`, true},
		{400, "", `{"error":"invalid_request"}`, true},
		{400, "", `{"error":"invalid_target"}`, true},
		{403, "", `{"error":"access_denied"}`, true},
		{400, "", `{"error":"interaction_required","suberror":"basic_action"}`, true},
		{400, "", `{"error":"login_required"}`, true},
		{400, "", `{"error":"consent_required"}`, true},
		{403, "", `{"error":"mfa_required","error_description":"quoted"}`, true},

		// status 401 says it by itself
		{401, "", ``, true},
		{401, "", `{}`, true},
		{401, "", `{"message":"quoted"}`, true},
		{401, "", `{"error":"quoted_unknown"}`, true},
		{401, "text/plain", `quoted`, true},
		{401, page, `<html>quoted</html>`, true},

		// in other words
		{400, "", `{"error":"Refresh token is invalid or expired"}`, true}, // Pocket ID
		{401, "", `{"error":"Refresh token is invalid or expired"}`, true},
		{403, "", `{"error":"Refresh token is invalid or expired"}`, true},
		{200, "", `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired."}`, true}, // GitHub
		{400, "", `{"code":400,"error_code":"refresh_token_not_found","msg":"quoted"}`, true},                                    // Supabase
		{400, "", `{"code":400,"msg":"Invalid Refresh Token: Refresh Token Not Found"}`, true},
		{400, "", `{"error":"odd_code","error_description":"Unknown or invalid refresh token."}`, true}, // Auth0
		{400, "", `{"message":"REFRESH TOKEN REVOKED"}`, true},
		{400, "application/problem+json", `{"type":"about:blank","title":"quoted","detail":"The session was not found."}`, true},
		{400, "", `{"error":{"code":400,"message":"INVALID_REFRESH_TOKEN"}}`, true},
		{400, "", `{"error":"InvalidGrant"}`, true},
		{400, "", `{"error":"Invalid_Grant"}`, true},
		{400, "text/plain", `invalid_grant`, true}, // Apereo CAS
		{400, "text/plain", "\n Refresh token already used\n", true},
		{400, "", `"Refresh token is invalid"`, true},
		{400, "", `["The refreshToken has expired"]`, true},
		{400, "application/x-www-form-urlencoded", `error=invalid_grant&error_description=quoted`, true},
		{403, "", `Token revoked`, true},

		// the provider asks for another attempt
		{400, "", `{"error":"temporarily_unavailable"}`, false},
		{401, "", `{"error":"temporarily_unavailable"}`, false},
		{400, "", `{"error":"server_error","error_description":"quoted: session not found"}`, false},
		{400, "", `{"error":"slow_down"}`, false},
		{400, "", `{"error":"authorization_pending"}`, false},
		{200, "", `{"error":"server_error"}`, false},
		{408, "", `{"error":"invalid_grant"}`, false},
		{425, "", `{"error":"invalid_grant"}`, false},
		{429, "", `{"error":"invalid_grant"}`, false},
		{429, "", `{"error":"access_denied","error_description":"Too many requests"}`, false},
		{429, "", ``, false},
		{400, "", `{"message":"Too many attempts with an invalid refresh token"}`, false},
		{403, "", `{"message":"Rate limit: token expired"}`, false},

		// or fails itself
		{500, "", `{"error":"invalid_grant"}`, false},
		{500, "", `{"error":"Refresh token is invalid or expired"}`, false},
		{502, page, `<html>quoted</html>`, false},
		{503, "", `{"error":"temporarily_unavailable"}`, false},
		{504, "", ``, false},
		{530, "", `{"error":"invalid_client"}`, false},

		// or it is somebody else who answers
		{407, "", `{"error":"access_denied"}`, false},
		{403, page, `<html>quoted: invalid session token</html>`, false},
		{403, "text/plain", `<!doctype html><p>quoted: invalid session token`, false},
		{403, page, `quoted: session expired`, false},
		{403, "", `{"message":"Forbidden"}`, false},
		{403, "", `{"error":"forbidden"}`, false},
		{403, "", `{"message":"CSRF token invalid"}`, false},
		{404, page, `<html>quoted</html>`, false},
		{404, "", `{"message":"no token route found"}`, false},
		{404, "text/plain", `404 page not found`, false},
		{404, "", `{"status":404,"error":"Not Found","path":"/token"}`, false},
		{404, "", `{"message":"session not found"}`, false},
		{405, "", `{"error":"method_not_allowed"}`, false},
		{413, page, ``, false},
		{200, page, `<html>quoted: refresh token expired</html>`, false},
		{200, "", `refresh token expired`, false},
		{200, "", `{"message":"refresh token expired"}`, false},
		{200, "", ``, false},
		{201, "", `{"error":"invalid_grant"}`, false},
		{204, "", ``, false},
		{302, "", `{"error":"invalid_grant"}`, false},

		// or nobody knows what it means
		{400, "", ``, false},
		{400, "", `{}`, false},
		{400, "", `null`, false},
		{400, "", `{"error":""}`, false},
		{400, "", `{"error":1}`, false},
		{400, "", `{"error":["invalid_grant"]}`, false},
		{400, "", `{"error":"unknown_error"}`, false},
		{400, "", `{"error":"quoted_unknown","error_description":"unknown error while looking for the token"}`, false},
		{400, "", `{"error_uri":"https://op.example/errors#refresh-token-expired"}`, false},
		{400, "", `{"message":["refresh token expired"]}`, false},
		{400, "", `{"error":"invalid_grant","error":"invalid_grant"}`, false},
		{400, "", `{"error":"invalid_grant"`, false},
		{400, "text/plain", strings.Repeat(" .", maxErrorText) + `refresh token expired`, false},
		{400, "", `{"message":"` + strings.Repeat(" .", maxErrorText) + `refresh token expired"}`, false},
	}
	for _, test := range tests {
		name := fmt.Sprintf("%d %.80s", test.status, test.body)
		header := http.Header{"Content-Type": {"application/json"}}
		if test.media != "" {
			header.Set("Content-Type", test.media)
		}
		before := op.Hits(optest.Token)
		op.Fail(optest.Token, optest.Fault{Status: test.status, Body: []byte(test.body), Header: header})
		tokens, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "a-refresh-token"})
		if !errors.Is(err, ErrToken) || tokens != nil || op.Hits(optest.Token) != before+1 {
			t.Errorf("%s: %v, %v, %d requests", name, tokens, err, op.Hits(optest.Token)-before)
			continue
		}
		if RefreshRefused(err) != test.refused || RefreshRefused(fmt.Errorf("wrapped: %w", err)) != test.refused {
			t.Errorf("%s: refused %t, want %t: %v", name, !test.refused, test.refused, err)
		}
		if text := err.Error(); strings.Contains(strings.ReplaceAll(text, "quoted_unknown", ""), "quoted") || strings.Contains(strings.ToLower(text), "expired") {
			t.Errorf("%s: the error quotes the answer: %v", name, err)
		}
	}
}

// What is no answer of the token endpoint refuses nothing.
func TestRefreshRefusedElsewhere(t *testing.T) {
	t.Parallel()
	refusal := &OAuthError{Status: 400, Code: "invalid_grant"}
	if !RefreshRefused(fmt.Errorf("%w: %w", ErrToken, refusal)) {
		t.Fatal("a refusal is none")
	}
	for _, err := range []error{
		nil, ErrToken, ErrBusy, refusal, context.DeadlineExceeded, fmt.Errorf("%w: %w", ErrToken, ErrBusy),
		fmt.Errorf("%w: %w", ErrDiscovery, &callError{endpoint: "discovery", status: 401}),
		fmt.Errorf("%w: %w", ErrUserinfo, &callError{endpoint: "userinfo", status: 401}),
		fmt.Errorf("%w: %w", ErrToken, &callError{endpoint: "token", cause: errors.New("refresh token expired")}),
	} {
		if RefreshRefused(err) {
			t.Errorf("%v is a refusal", err)
		}
	}
	// over the wire: nobody there, and a certificate that is not trusted
	op := optest.New(t, optest.WithTLS())
	endpoints := func(c *Config) {
		c.Endpoints = Endpoints{Token: op.Endpoint(optest.Token), JWKSURI: op.Endpoint(optest.JWKS)}
	}
	for name, p := range map[string]*Provider{
		"certificate": newProvider(t, op, func(c *Config) { endpoints(c); c.RootCAs = poolOf() }),
		"nobody":      newProvider(t, op, func(c *Config) { endpoints(c); c.Endpoints.Token = "https://127.0.0.1:1/token" }),
		"no host":     newProvider(t, op, func(c *Config) { endpoints(c); c.Endpoints.Token = "https://op.invalid/token" }),
	} {
		if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "a-refresh-token"}); !errors.Is(err, ErrToken) || RefreshRefused(err) || RetryAfterOf(err) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Texts in which providers say that a refresh token is of no use any more, and others in which they do not.
func TestDeadGrantTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"Refresh token is invalid or expired":                    true,
		"refresh token expired":                                  true,
		"Refresh-Token has been REVOKED!":                        true,
		"The refresh token was not found":                        true,
		"refresh token could not be found":                       true,
		"The provided refresh token isn't valid.":                true,
		"The refresh token is no longer valid":                   true,
		"This refresh token does not exist":                      true,
		"Refresh token doesn't exist":                            true,
		"The refresh token has already been used":                true,
		"refresh token already used":                             true,
		"Refresh token reuse detected":                           true,
		"refresh_token_expired":                                  true,
		"RefreshTokenExpired":                                    true,
		"invalidRefreshToken":                                    true,
		"invalid_refresh_token":                                  true,
		"invalid_token":                                          true,
		"expired_token":                                          true,
		"Token is inactive":                                      true,
		"Token is not active":                                    true,
		"Session not active":                                     true,
		"Session expired":                                        true,
		"The session of this user has expired":                   true,
		"unknown refresh token":                                  true,
		"Unknown, invalid or expired refresh token":              true,
		"Invalid or missing refresh token":                       true,
		"The refresh token is unknown":                           true,
		"malformed refresh token":                                true,
		"AADSTS70008: The refresh token has expired":             true,
		"the grant was revoked":                                  true,
		"Grant not found":                                        true,
		"":                                                       false,
		"refresh token":                                          false,
		"invalid":                                                false,
		"expired":                                                false,
		"Unauthorized":                                           false,
		"Forbidden":                                              false,
		"Bad Request":                                            false,
		"tokenexpired":                                           false,
		"the certificate has expired":                            false,
		"invalid host header":                                    false,
		"unknown error while refreshing the token":               false,
		"unknown grant type":                                     false,
		"invalid CSRF token":                                     false,
		"captcha token expired":                                  false,
		"too many refresh tokens: session expired":               false,
		"token service temporarily unavailable: session unknown": false,
		"the session store is unavailable, token not found":      false,
		"a token was sent to a host that this gateway has no route for and the name is unknown": false,
	} {
		if got := namesDeadGrant(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

// A code that repeats the refresh token is no code to show.
func TestRefreshErrorEchoes(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	const token = "tGzv3JOkF0XG5Qx2TlKWIA"
	for code, shown := range map[string]bool{"invalid_grant": true, "odd_code": true, token: false, "bad-" + token: false, token + "_expired": false} {
		op.Fail(optest.Token, optest.Fault{Status: 400, Body: []byte(`{"error":"` + code + `"}`)})
		_, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: token})
		if !errors.Is(err, ErrToken) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), code) != shown {
			t.Errorf("%s: %v", code, err)
		}
	}
	op.Fail(optest.Token, optest.Fault{Status: 400, Body: []byte(`{"error":"rt"}`)})
	if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); !errors.Is(err, ErrToken) || strings.Contains(err.Error(), "error rt") {
		t.Errorf("a short one: %v", err)
	}
	// parts of words are no secret
	op.Fail(optest.Token, optest.Fault{Status: 400, Body: []byte(`{"error":"invalid_grant"}`)})
	if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "grant"}); err == nil || !strings.Contains(err.Error(), "invalid_grant") || !RefreshRefused(err) {
		t.Errorf("part of a word: %v", err)
	}
}

// S-195: how long the provider wants to be left alone, for whatever error document it sends along.
func TestRefreshRetryAfter(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	p.now = func() time.Time { return now }
	for _, test := range []struct {
		status int
		value  string
		want   time.Duration
	}{
		{429, "30", 30 * time.Second},
		{503, "120", 2 * time.Minute},
		{500, "5", 5 * time.Second},
		{503, "86400", 10 * time.Minute},
		{429, "Wed, 02 Jan 2030 03:05:05 GMT", time.Minute},
		{429, "Thu, 03 Jan 2030 03:05:05 GMT", 10 * time.Minute},
		{429, "Wed, 02 Jan 2030 03:00:00 GMT", 0},
		{429, "0", 0},
		{429, "-30", 0},
		{429, "soon", 0},
		{429, "1e3", 0},
		{429, "99999999999999999999999", 0},
		{429, "", 0},
		{400, "30", 0},
		{401, "30", 0},
		{302, "30", 0},
		{200, "30", 0},
	} {
		for _, body := range []string{``, `{"error":"slow_down"}`, `<html>`} {
			op.Fail(optest.Token, optest.Fault{Status: test.status, Body: []byte(body), Header: http.Header{"Retry-After": {test.value}}})
			_, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "a-refresh-token"})
			if got := RetryAfterOf(err); err == nil || got != test.want {
				t.Errorf("%d, %q, %s: %v, want %v: %v", test.status, test.value, body, got, test.want, err)
			}
		}
	}
	if RetryAfterOf(nil) != 0 || RetryAfterOf(ErrToken) != 0 {
		t.Error("somebody has asked for something")
	}
}
