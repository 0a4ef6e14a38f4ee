package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
)

// opaqueHost names a site beside the one that the demo shows, on the same listener.
const opaqueHost = "opaque.demo.localhost"

// result compares one thing that was seen with what should be.
type result struct{ name, expected, got string }

type results []result

func (r *results) add(name, expected, got string) { *r = append(*r, result{name, expected, got}) }

// report prints a line for each result, and fails if one is not as expected.
func (r results) report(out io.Writer) error {
	failed := 0
	for _, one := range r {
		verdict := "ok  "
		if one.got != one.expected {
			verdict = "FAIL"
			failed++
		}
		fmt.Fprintf(out, "%s  %-52s expected: %-22s got: %s\n", verdict, one.name, one.expected, one.got)
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", len(r)-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d answers differ", failed, len(r))
	}
	return nil
}

// verify makes the requests of the demo, and a few more.
func (s *stack) verify(ctx context.Context) (results, error) {
	address, err := chooseAddress(0)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	sites := s.mainSite(address) + s.opaqueSite(net.JoinHostPort(opaqueHost, port))
	if err := s.load(sites); err != nil {
		return nil, err
	}
	var r results
	for _, part := range []func(context.Context, *results) error{s.verifyJWT, s.verifyForgedHeaders, s.verifyOpaque} {
		if err := part(ctx, &r); err != nil {
			return nil, err
		}
	}
	login := loginChecks{site: "http://" + address, issuer: s.issuer, upstream: s.upstream, results: &r}
	if err := login.verify(ctx, func() error { return s.load(sites) }); err != nil {
		return nil, err
	}
	renewal := renewalChecks{
		loginChecks: login, provider: s.provider,
		tokensLive: func(lifetime time.Duration) { s.register(address, lifetime) },
	}
	if err := renewal.verify(ctx); err != nil {
		return nil, err
	}
	logout := logoutChecks{loginChecks: login, provider: s.provider}
	if err := logout.verify(ctx); err != nil {
		return nil, err
	}
	return r, s.verifyJSON(ctx, &r)
}

func (s *stack) verifyJWT(ctx context.Context, r *results) error {
	reader, err := s.token(ctx, ordersReader)
	if err != nil {
		return err
	}
	visitor, err := s.token(ctx, guest)
	if err != nil {
		return err
	}
	other, err := s.token(ctx, otherReader)
	if err != nil {
		return err
	}
	bad, err := tamper(reader)
	if err != nil {
		return err
	}

	accepted, err := s.get(ctx, "", reader, nil)
	if err != nil {
		return err
	}
	r.add("JWT", "200", accepted.Outcome())
	r.add("JWT: X-Userinfo names the subject", ordersReader, accepted.Claim("sub"))
	r.add("JWT: X-Userinfo has the scope", ordersScope, accepted.Claim("scope"))
	r.add("JWT: X-Client-Id is the client", ordersReader, accepted.UpstreamHeader("X-Client-Id"))

	passed := s.upstream.Count()
	for _, refusal := range []struct{ name, token, outcome, reason string }{
		{"no token", "", "401", "no_credentials"},
		{"JWT with a wider scope", bad, "401 invalid_token", "bad_signature"},
		{"guest's JWT", visitor, "403 insufficient_scope", "insufficient_scope"},
		{"JWT for another API", other, "401 invalid_token", "wrong_audience"},
		{"not a token", "nonsense", "401 invalid_token", "malformed_token"},
	} {
		a, err := s.get(ctx, "", refusal.token, nil)
		if err != nil {
			return err
		}
		r.add(refusal.name, refusal.outcome, a.Outcome())
		r.add(refusal.name+": reason in the JSON body", refusal.reason, a.Reason())
	}
	r.add("refused requests that the upstream saw", "0", fmt.Sprint(s.upstream.Count()-passed))
	return nil
}

// verifyForgedHeaders claims to be somebody else.
func (s *stack) verifyForgedHeaders(ctx context.Context, r *results) error {
	reader, err := s.token(ctx, ordersReader)
	if err != nil {
		return err
	}
	headers := forge("X-Client-Id", "X_Client_Id")
	headers["X-Other"] = []string{"stays"}

	a, err := s.get(ctx, "", reader, headers)
	if err != nil {
		return err
	}
	r.add("forged identity headers", "200", a.Outcome())
	r.add("forged headers that the upstream saw", "none", forgedHeaders(a))
	r.add("X-Userinfo beside a forged one", ordersReader, a.Claim("sub"))
	r.add("X-Client-Id beside a forged one", ordersReader, a.UpstreamHeader("X-Client-Id"))
	r.add("a header that is not ours", "stays", a.UpstreamHeader("X-Other"))
	return nil
}

func (s *stack) verifyOpaque(ctx context.Context, r *results) error {
	reader, err := s.token(ctx, opaqueOrdersReader)
	if err != nil {
		return err
	}
	visitor, err := s.token(ctx, opaqueGuest)
	if err != nil {
		return err
	}
	revoked, err := s.token(ctx, opaqueOrdersReader)
	if err != nil {
		return err
	}
	if err := s.revoke(ctx, opaqueOrdersReader, revoked); err != nil {
		return err
	}
	for _, request := range []struct{ name, token, outcome string }{
		{"opaque token", reader, "200"},
		{"guest's opaque token", visitor, "403 insufficient_scope"},
		{"revoked opaque token", revoked, "401 invalid_token"},
		{"made-up opaque token", "nonsense", "401 invalid_token"},
	} {
		a, err := s.get(ctx, opaqueHost, request.token, nil)
		if err != nil {
			return err
		}
		r.add(request.name, request.outcome, a.Outcome())
		if request.outcome == "200" {
			r.add(request.name+": X-Client-Id", opaqueOrdersReader, a.UpstreamHeader("X-Client-Id"))
		}
	}
	return nil
}

// verifyJSON loads the shortest configuration in JSON: the API is a client, whose ID is the audience.
func (s *stack) verifyJSON(ctx context.Context, r *results) error {
	handler := map[string]any{
		"handler":       "openid_connect",
		"client_id":     apiClient,
		"client_secret": s.secret,
		"discovery":     s.issuer + "/.well-known/openid-configuration",
		"scope":         "openid profile email",
		"bearer_only":   true,
	}
	proxy := map[string]any{
		"handler":   "reverse_proxy",
		"upstreams": []any{map[string]string{"dial": s.upstreamAddress}},
	}
	server := map[string]any{
		"listen": []string{"127.0.0.1:0"},
		"routes": []any{map[string]any{"handle": []any{handler, proxy}}},
	}
	config, err := json.Marshal(map[string]any{
		"apps": map[string]any{"http": map[string]any{"servers": map[string]any{"api": server}}},
	})
	if err != nil {
		return err
	}
	if err := s.gateway.LoadJSON(config); err != nil {
		return err
	}
	for _, request := range []struct{ name, client, outcome string }{
		{"JSON: no token", "", "401"},
		{"JSON: JWT", ordersReader, "200"},
		{"JSON: opaque token", opaqueOrdersReader, "200"},
	} {
		token := ""
		if request.client != "" {
			if token, err = s.token(ctx, request.client); err != nil {
				return err
			}
		}
		a, err := s.get(ctx, "", token, nil)
		if err != nil {
			return err
		}
		r.add(request.name, request.outcome, a.Outcome())
	}
	return nil
}

// revoke ends a token at the provider, as the client that it was issued to.
func (s *stack) revoke(ctx context.Context, client, token string) error {
	form := url.Values{"token": {token}, "client_id": {client}, "client_secret": {s.secret}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.issuer+"/revoke", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("revoking a token: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("revoking a token: %s", resp.Status)
	}
	return nil
}

// get asks a site for something, with a token unless that is empty. Without a host it is the site that the demo shows.
func (s *stack) get(ctx context.Context, host, token string, header http.Header) (*probe.Answer, error) {
	address, err := s.address()
	if err != nil {
		return nil, err
	}
	return probe.Request{Address: address, Host: host, Path: "/orders", Token: token, Header: header}.Do(ctx)
}
