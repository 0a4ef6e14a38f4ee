package provider

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const revokedToken = "rt-Zq8Wm3.Kd7Pv2Tn5Xc9Lb4Hf6Jg1Rs_QyBzDwFkGx~Nu/Ea+Io=="

// revocationAt makes a place that is none of the test provider's own endpoints its revocation endpoint; it answers as op.Fail says.
func revocationAt(op *optest.Provider) string {
	const path = "/tokens/revocation"
	op.SetMetadata(func(m map[string]any) { m["revocation_endpoint"] = op.URL() + path })
	op.Fail(optest.Other, optest.Fault{Status: http.StatusOK})
	return op.URL() + path
}

// RFC 7009 section 2.1: one POST with the token, what it is, and the client's authentication as for any other endpoint.
func TestRevoke(t *testing.T) {
	t.Parallel()
	private, err := jose.ParsePrivateKey(optest.NewKey(t, "ES256", "our-key").PrivatePEM(), "", "our-key")
	if err != nil {
		t.Fatal(err)
	}
	assertion := []string{"client_assertion", "client_assertion_type", "client_id"}
	for method, adds := range map[string][]string{
		ClientSecretBasic: nil, ClientSecretPost: {"client_id", "client_secret"}, PrivateKeyJWT: assertion, None: {"client_id"},
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			op := optest.New(t)
			revocationAt(op)
			p := newProvider(t, op, nil)
			observer := &events{}
			defer p.Observe("test", observer)()
			client := &ClientAuthentication{Method: method, ClientID: "client", ClientSecret: "secret", Signer: private, AssertionLifetime: time.Minute}
			for _, hint := range []string{HintRefreshToken, HintAccessToken, ""} {
				if err := p.Revoke(t.Context(), client, revokedToken, hint); err != nil {
					t.Fatal(err)
				}
				requests := op.Requests(optest.Other)
				request := requests[len(requests)-1]
				want := append([]string{"token"}, adds...)
				if hint != "" {
					want = append(want, "token_type_hint")
				}
				slices.Sort(want)
				if got := slices.Sorted(maps.Keys(request.Form)); !slices.Equal(got, want) || request.Form.Get("token") != revokedToken || request.Form.Get("token_type_hint") != hint {
					t.Errorf("hint %q: form %v", hint, request.Form)
				}
				if request.Method != http.MethodPost || request.URL.RawQuery != "" || request.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
					request.Header.Get("Authorization") != "" != (method == ClientSecretBasic) {
					t.Errorf("%s %v, %v", request.Method, request.URL, request.Header)
				}
			}
			if calls, _, _ := observer.take(); op.Hits(optest.Other) != 3 || strings.Count(fmt.Sprint(calls), "revocation 200") != 3 {
				t.Errorf("%d requests, observed %v", op.Hits(optest.Other), calls)
			}
			if op.Hits(optest.Token) != 0 || op.Hits(optest.Introspection) != 0 {
				t.Error("another endpoint was asked")
			}
		})
	}
}

// S-217, RFC 7009 section 2.2: the status decides. Each answer costs one request, and the text of none is repeated.
func TestRevokeAnswers(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	revocationAt(op)
	p := newProvider(t, op, nil)
	const page, quoted = "text/html; charset=utf-8", "quoted"
	tests := []struct {
		status     int
		media      string // empty: JSON
		body       string
		retryAfter string
		text       string // of the error; empty: none
		code       string // of the [OAuthError]; empty: there is none
		wait       time.Duration
	}{
		{status: 200},
		{status: 204},
		{status: 200, body: `{}`},
		{status: 200, body: `{"error":"invalid_token"}`}, // the client ignores the body
		{status: 200, body: `quoted "`},
		{status: 200, media: "text/plain", body: "OK"},
		{status: 200, media: page}, // the default of some languages
		{status: 200, media: page, body: " \n"},
		{status: 200, media: page, body: `{"status":"ok"}`},

		{status: 200, media: page, body: " <html>quoted</html>", text: "the answer is an HTML page"},
		{status: 200, media: "application/xhtml+xml", body: "<html>quoted</html>", text: "the answer is an HTML page"},
		{status: 400, body: `{"error":"unsupported_token_type","error_description":"quoted"}`, text: "status 400 and error unsupported_token_type", code: "unsupported_token_type"},
		{status: 400, media: page, body: `{"error":"unsupported_token_type"}`, text: "status 400 and error unsupported_token_type", code: "unsupported_token_type"},
		{status: 400, body: `{"error":"invalid_request"}`, text: "status 400 and error invalid_request", code: "invalid_request"},
		{status: 401, body: `{"error":"invalid_client"}`, text: "status 401 and error invalid_client", code: "invalid_client"},
		{status: 503, body: `{"error":"temporarily_unavailable"}`, retryAfter: "7", text: "status 503 and error temporarily_unavailable", code: "temporarily_unavailable", wait: 7 * time.Second},
		{status: 503, retryAfter: "9", text: "status 503", wait: 9 * time.Second},
		{status: 503, retryAfter: "99999999", text: "status 503", wait: maxRetryAfter},
		{status: 503, retryAfter: quoted, text: "status 503"},
		{status: 429, retryAfter: "5", text: "status 429", wait: 5 * time.Second},
		{status: 400, retryAfter: "5", text: "status 400"},
		{status: 400, body: `{"error":"quoted <b>"}`, text: "status 400 and an error", code: "quoted <b>"},
		{status: 400, body: `{"error":"quoted","error":"x"}`, text: "status 400"},
		{status: 401, media: page, body: "<html>quoted</html>", text: "status 401"},
		{status: 403, text: "status 403"},
		{status: 404, media: page, body: "<html>quoted</html>", text: "status 404"},
		{status: 405, text: "status 405"},
		{status: 500, body: quoted, text: "status 500"},
		{status: 201, text: "status 201"},
		{status: 202, text: "status 202"},
		{status: 206, text: "status 206"},
		{status: 302, text: "status 302"},
		{status: 307, text: "status 307"},
	}
	for _, test := range tests {
		name := fmt.Sprintf("%d %s %s", test.status, test.media, test.body)
		fault := optest.Fault{Status: test.status, Body: []byte(test.body), Header: http.Header{"Content-Type": {"application/json"}}}
		if test.media != "" {
			fault.Header.Set("Content-Type", test.media)
		}
		if test.retryAfter != "" {
			fault.Header.Set("Retry-After", test.retryAfter)
		}
		if test.status/100 == 3 {
			fault.Header.Set("Location", op.Endpoint(optest.Userinfo)+"?quoted")
		}
		op.Fail(optest.Other, fault)
		before := op.Hits(optest.Other)
		err := p.Revoke(t.Context(), basic, revokedToken, HintRefreshToken)
		if hits := op.Hits(optest.Other) - before; hits != 1 || op.Hits(optest.Userinfo) != 0 {
			t.Errorf("%s: %d requests, %d elsewhere", name, hits, op.Hits(optest.Userinfo))
		}
		if test.text == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, ErrRevocation) || errors.Is(err, ErrNoEndpoint) || errors.Is(err, ErrBusy) || RetryAfterOf(err) != test.wait {
			t.Errorf("%s: %v, wait %v", name, err, RetryAfterOf(err))
			continue
		}
		if text := err.Error(); !strings.HasSuffix(text, test.text) || strings.Contains(text, quoted) || strings.Contains(text, "token endpoint") {
			t.Errorf("%s: %v", name, err)
		}
		if answer, ok := errors.AsType[*OAuthError](err); ok != (test.code != "") || ok && (answer.Code != test.code || answer.Status != test.status) {
			t.Errorf("%s: %+v", name, answer)
		}
	}
}

// An answer that is more than a megabyte says nothing, and one that goes on for ever ends there.
func TestRevokeEndlessAnswer(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	revocationAt(op)
	p := newProvider(t, op, nil)
	op.Fail(optest.Other, optest.Fault{Body: []byte(revokedToken), Endless: true})
	if err := p.Revoke(t.Context(), basic, revokedToken, ""); !errors.Is(err, ErrRevocation) || !strings.Contains(err.Error(), "1 MiB") || strings.Contains(err.Error(), "rt-") {
		t.Errorf("got %v", err)
	}
}

// A connection that ends may have carried the request, so it is not sent again.
func TestRevokeOnce(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	revocationAt(op)
	p := newProvider(t, op, nil)
	if err := p.Revoke(t.Context(), basic, revokedToken, ""); err != nil {
		t.Fatal(err)
	}
	op.Fail(optest.Other, optest.Fault{Drop: true})
	before := op.Hits(optest.Other)
	if err := p.Revoke(t.Context(), basic, revokedToken, ""); !errors.Is(err, ErrRevocation) || op.Hits(optest.Other) != before+1 {
		t.Errorf("%v after %d requests", err, op.Hits(optest.Other)-before)
	}
}

// Without an endpoint, or anything to revoke, there is nothing to ask; the caller can tell one from the other and from a provider that is down.
func TestRevokeWithoutEndpoint(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	address := revocationAt(op)
	p := newProvider(t, op, nil)
	if err := p.Revoke(t.Context(), basic, "", HintRefreshToken); !errors.Is(err, ErrRevocation) || errors.Is(err, ErrNoEndpoint) {
		t.Errorf("without a token: %v", err)
	}
	op.SetMetadata(func(m map[string]any) { delete(m, "revocation_endpoint") })
	p = newProvider(t, op, nil)
	err := p.Revoke(t.Context(), basic, revokedToken, HintRefreshToken)
	if !errors.Is(err, ErrRevocation) || !errors.Is(err, ErrNoEndpoint) || err.Error() != ErrRevocation.Error()+": the metadata names no revocation_endpoint" {
		t.Errorf("without an endpoint: %v", err)
	}
	if p.KnownMetadata().Revocation != "" || op.Hits(optest.Other) != 0 {
		t.Errorf("%d requests", op.Hits(optest.Other))
	}
	configured := newProvider(t, op, func(c *Config) { c.Endpoints = Endpoints{Revocation: address} })
	if err := configured.Revoke(t.Context(), basic, revokedToken, HintRefreshToken); err != nil || op.Hits(optest.Other) != 1 {
		t.Errorf("with a configured one: %v", err)
	}
	op.Fail(optest.Discovery, optest.Fault{Status: 500})
	if err := newProvider(t, op, nil).Revoke(t.Context(), basic, revokedToken, HintRefreshToken); !errors.Is(err, ErrDiscovery) || errors.Is(err, ErrNoEndpoint) {
		t.Errorf("without metadata: %v", err)
	}
}

// RFC 8705 section 5: a client that authenticates with its certificate is sent to the alias, also where there is nothing else.
func TestRevokeMutualTLS(t *testing.T) {
	t.Parallel()
	certificate := optest.NewCertificate(t, nil)
	op, mutual := optest.New(t, optest.WithTLS()), optest.New(t, optest.WithTLS())
	mutual.SetClientCertificate(certificate.Leaf)
	address, alias := revocationAt(op), revocationAt(mutual)
	for _, metadata := range []map[string]any{
		{"revocation_endpoint": address, "mtls_endpoint_aliases": map[string]any{"revocation_endpoint": alias}},
		{"mtls_endpoint_aliases": map[string]any{"revocation_endpoint": alias}},
	} {
		op.SetMetadata(func(m map[string]any) {
			delete(m, "revocation_endpoint")
			maps.Copy(m, metadata)
		})
		p := newProvider(t, op, func(c *Config) {
			c.RootCAs, c.Certificates = poolOf(op.Certificate(), mutual.Certificate()), []tls.Certificate{certificate}
		})
		plain, aliased := op.Hits(optest.Other), mutual.Hits(optest.Other)
		if err := p.Revoke(t.Context(), &ClientAuthentication{Method: TLSClientAuth, ClientID: "client"}, revokedToken, HintRefreshToken); err != nil {
			t.Error(err)
		}
		if op.Hits(optest.Other) != plain || mutual.Hits(optest.Other) != aliased+1 {
			t.Error("the request went elsewhere")
		}
		err := p.Revoke(t.Context(), basic, revokedToken, HintRefreshToken)
		if _, ok := metadata["revocation_endpoint"]; ok && (err != nil || op.Hits(optest.Other) != plain+1) || !ok && !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("with a secret: %v", err)
		}
	}
	requests := mutual.Requests(optest.Other)
	if form := requests[0].Form; len(requests) != 2 || len(requests[0].PeerCertificates) != 1 || fmt.Sprint(form) != fmt.Sprint(url.Values{
		"client_id": {"client"}, "token": {revokedToken}, "token_type_hint": {"refresh_token"},
	}) {
		t.Errorf("%d requests, form %v", len(requests), form)
	}
}
