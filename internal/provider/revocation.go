package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// What a token is, for the provider to look in the right place first (RFC 7009 section 2.1).
const (
	HintAccessToken  = "access_token"
	HintRefreshToken = "refresh_token"
)

// Revoke tells the provider that a token is not needed any more (RFC 7009); hint says what it is, empty if that is not known. That the
// provider does not know the token is a success. It sends one request, and takes no longer than one call may, the waiting for metadata and
// for a place included. Errors wrap ErrRevocation, with ErrNoEndpoint where the provider has no such endpoint and an [*OAuthError] where it
// gives its reason, or are what stopped discovery. None holds anything of the token.
func (p *Provider) Revoke(ctx context.Context, client *ClientAuthentication, token, hint string) error {
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	metadata, err := p.Metadata(ctx)
	if err != nil {
		return err
	}
	if err := p.revoke(ctx, metadata, client, token, hint); err != nil {
		return fmt.Errorf("%w: %w", ErrRevocation, err)
	}
	return nil
}

func (p *Provider) revoke(ctx context.Context, metadata *Metadata, client *ClientAuthentication, token, hint string) error {
	c := call{
		endpoint: "revocation",
		url:      metadata.endpointsFor(client).Revocation,
		form:     url.Values{"token": {token}},
		header:   make(http.Header),
		once:     true,
	}
	if c.url == "" {
		return fmt.Errorf("%w revocation_endpoint", ErrNoEndpoint)
	}
	if token == "" {
		return errors.New("there is no token")
	}
	if hint != "" {
		c.form.Set("token_type_hint", hint)
	}
	release, err := waitFor(ctx, p.revocations)
	if err != nil {
		return err
	}
	defer release()
	if err := client.apply(&c, metadata, p.now()); err != nil {
		return err
	}
	status, header, body, err := p.do(ctx, c)
	if err != nil {
		return err
	}
	err = checkRevocation(status, header, body, p.now())
	if answer, ok := errors.AsType[*OAuthError](err); ok {
		answer.secret = c.echoes(answer.Code)
	}
	return err
}

// checkRevocation reads an answer of the revocation endpoint. The status alone decides (RFC 7009 section 2.2), unless a page shows that
// somebody else has answered.
func checkRevocation(status int, header http.Header, body []byte, now time.Time) error {
	if status == http.StatusOK || status == http.StatusNoContent {
		if isHTML(header) && bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
			return errors.New("the answer is an HTML page")
		}
		return nil
	}
	if document, err := jose.ParseObject(string(body)); err == nil {
		if refusal := oauthErrorOf("revocation", status, document); refusal != nil {
			refusal.retryAfter = retryAfter(status, header, now)
			return refusal
		}
	}
	return statusError("revocation", status, header, body, now)
}
