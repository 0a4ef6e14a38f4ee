// Package probe makes requests through a gateway and reads what came of them: the refusal, or what the upstream received.
package probe

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/upstream"
)

// Request is a GET to a site.
type Request struct {
	Address string // where the gateway listens, as host:port
	Host    string // which of its sites; default: Address
	Path    string
	Token   string // sent as bearer token unless empty

	// Header is sent with its names spelt as they are.
	Header http.Header
}

// Answer is what a request got.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	err error // why there is none
}

// Do makes the request.
func (r Request) Do(ctx context.Context) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Address+r.Path, nil)
	if err != nil {
		return nil, err
	}
	req.Host = r.Host
	if r.Header != nil {
		req.Header = r.Header.Clone()
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

var errorParameter = regexp.MustCompile(`(?:^|[ ,])error="([^"]*)"`)

// Outcome is the status, followed by the error code of the challenge if there is one: "401 invalid_token".
func (a *Answer) Outcome() string {
	if a.err != nil {
		return "no answer: " + a.err.Error()
	}
	outcome := fmt.Sprint(a.Status)
	challenge := a.Header.Get("Www-Authenticate")
	if a.Status == http.StatusUnauthorized && !strings.HasPrefix(challenge, "Bearer ") {
		return outcome + " without a Bearer challenge"
	}
	if match := errorParameter.FindStringSubmatch(challenge); match != nil {
		outcome += " " + match[1]
	}
	return outcome
}

// Reason is the stable code in the JSON body of a refusal.
func (a *Answer) Reason() string {
	var body struct {
		Reason    string `json:"reason"`
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return "no JSON: " + err.Error()
	}
	if body.RequestID == "" {
		return body.Reason + " without a request_id"
	}
	return body.Reason
}

// Field is a member of the JSON body, as text.
func (a *Answer) Field(name string) string {
	var body map[string]any
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return "no JSON: " + err.Error()
	}
	return fmt.Sprint(body[name])
}

// UpstreamHeaders are those that the upstream received; none if the request did not reach it.
func (a *Answer) UpstreamHeaders() http.Header {
	var received upstream.Received
	if json.Unmarshal(a.Body, &received) != nil {
		return nil
	}
	return received.Headers
}

// UpstreamHeader is the value of a header that the upstream received exactly once.
func (a *Answer) UpstreamHeader(name string) string {
	values := a.UpstreamHeaders().Values(name)
	if len(values) != 1 {
		return fmt.Sprintf("received %d times", len(values))
	}
	return values[0]
}

// Claim is a claim in the X-Userinfo header that the upstream received, as text.
func (a *Answer) Claim(name string) string {
	decoded, err := base64.StdEncoding.DecodeString(a.UpstreamHeader("X-Userinfo"))
	if err != nil {
		return "not base64: " + err.Error()
	}
	var claims map[string]any
	if err := json.Unmarshal(decoded, &claims); err != nil {
		return "no JSON: " + err.Error()
	}
	return fmt.Sprint(claims[name])
}
