package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// Userinfo asks the userinfo endpoint about the owner of an access token (OpenID Connect Core section 5.3). A signed answer is
// returned as the compact token jwt, unverified, with claims empty; any other as the text of a JSON object that has passed
// [jose.ParseObject]. Whose claims these are is for the caller to check. Errors wrap ErrUserinfo, or are what stopped discovery.
func (p *Provider) Userinfo(ctx context.Context, accessToken string) (claims, jwt string, err error) {
	metadata, err := p.Metadata(ctx)
	if err != nil {
		return "", "", err
	}
	if metadata.Userinfo == "" {
		return "", "", fmt.Errorf("%w: %w userinfo_endpoint", ErrUserinfo, ErrNoEndpoint)
	}
	release, err := p.acquire(ctx)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrUserinfo, err)
	}
	defer release()
	status, header, body, err := p.do(ctx, call{
		endpoint: "userinfo",
		url:      metadata.Userinfo,
		header:   http.Header{"Authorization": {"Bearer " + accessToken}},
		accept:   "application/json, application/jwt",
		secrets:  []string{accessToken},
	})
	if err == nil && status != http.StatusOK {
		err = statusError("userinfo", status, header, body, p.now())
	}
	if err == nil {
		claims, jwt, err = parseUserinfo(header, body)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrUserinfo, err)
	}
	return claims, jwt, nil
}

func parseUserinfo(header http.Header, body []byte) (claims, jwt string, err error) {
	text := string(body)
	switch {
	case isHTML(header):
		return "", "", errors.New("the answer is an HTML page")
	case mediaType(header) == "application/jwt":
		jwt = strings.TrimSpace(text)
		if jwt == "" || len(jwt) > jose.MaxProviderToken {
			return "", "", fmt.Errorf("the signed answer is empty or larger than %d bytes", jose.MaxProviderToken)
		}
		return "", jwt, nil
	}
	if _, err := jose.ParseObject(text); err != nil {
		return "", "", errors.New("the answer is not a JSON object without duplicate members")
	}
	return text, "", nil
}
