package main

import (
	"context"
	"fmt"
	"slices"
)

// oauth2ProxyServer is oauth2-proxy in front of the upstream. Nothing is logged.
func oauth2ProxyServer(at surroundings, client string) []string {
	return []string{
		"--http-address=" + at.listen,
		"--upstream=http://" + at.upstream + "/",
		"--provider=oidc",
		"--oidc-issuer-url=" + at.issuer,
		"--client-id=" + client,
		"--client-secret=secret",
		"--scope=openid profile email",
		"--redirect-url=http://" + at.listen + "/oauth2/callback",
		"--code-challenge-method=S256",
		"--email-domain=*",
		"--skip-provider-button",
		"--cookie-secure=false",
		"--cookie-secret=measurements-and-nothing-besides",
		"--pass-basic-auth=false",
		"--pass-user-headers=false",
		"--request-logging=false",
		"--auth-logging=false",
		"--standard-logging=false",
	}
}

// oauth2ProxyBearer lets bearer tokens in.
func oauth2ProxyBearer() []string {
	return []string{"--skip-jwt-bearer-tokens", "--bearer-token-login-fallback=false", "--oidc-extra-audience=" + audience}
}

// oauth2ProxySession keeps in the cookie who the user is, and no tokens.
func oauth2ProxySession() []string { return []string{"--session-cookie-minimal"} }

// oauth2ProxyStorm renews tokens, and passes them on. Their age is reckoned in whole seconds.
func oauth2ProxyStorm(redis string) []string {
	args := []string{"--pass-access-token", "--cookie-refresh=1s"}
	if redis != "" {
		args = append(args, "--session-store-type=redis", "--redis-connection-url=redis://"+redis)
	}
	return args
}

// startOAuth2Proxy runs it with the options that tell what it guards.
func (r *run) startOAuth2Proxy(ctx context.Context, name, client string, guard []string) (*gateway, error) {
	at, err := r.surroundings()
	if err != nil {
		return nil, err
	}
	if r.oauth2Proxy == "" {
		return nil, fmt.Errorf("%s is not installed", oauth2ProxyModule)
	}
	return r.startPeer(ctx, name, at.listen, slices.Concat([]string{r.oauth2Proxy}, oauth2ProxyServer(at, client), guard)...)
}
