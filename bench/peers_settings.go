package main

import (
	"fmt"
	"strings"
)

// settings are how each gateway was set up, as it was: only the addresses are others.
func (c comparison) settings() string {
	at := surroundings{listen: "127.0.0.1:8080", upstream: "127.0.0.1:9000", issuer: "http://127.0.0.1:9001", secure: "https://127.0.0.1:9002", certificate: "/etc/ssl/provider.pem"}
	here := &run{
		options:  options{tokenCache: -1},
		provider: &provider{issuer: at.issuer},
		upstream: &process{address: at.upstream},
	}
	var text strings.Builder
	text.WriteString("\n### Settings\n\nThe addresses of the gateway, the upstream and the provider were others in each run.\n")
	for _, one := range []struct{ what, directive string }{
		{"Bearer tokens", here.peerDirective(false)},
		{"Sessions", here.peerDirective(true)},
		{"The storm", here.stormDirective(stormClient)},
	} {
		site := strings.NewReplacer("\tadmin $ADMIN\n", "", "$PORT", "8080").Replace(here.site(one.directive))
		fmt.Fprintf(&text, "\n%s with `openid_connect` (plain Caddy has the same without the directive):\n\n```caddyfile\n%s```\n", one.what, site)
	}
	fmt.Fprintf(&text, "\nApache as a proxy, for all cases:\n\n```text\n%s```\n", apacheServer(at))
	keyInFile := fmt.Sprintf("Bearer tokens, here with the key in a file (where it is fetched, the line with it is `%s`)",
		strings.ReplaceAll(strings.TrimSpace(keysFetched(at)), "\n", "` and `"))
	inCookieHere := fmt.Sprintf("Sessions, here in the cookie (in shared memory they have `OIDCSessionType %s`, and 1,000 of them `%s`)", inMemory,
		strings.TrimSpace(apacheRoom(inMemory, 1000)))
	for _, one := range []struct{ what, lines string }{
		{keyInFile, apacheBearer(at, keysInFile(at))},
		{inCookieHere, apacheLogin(at, loginClient, inCookie, apachePassesNothing)},
		{"The storm, here in the cookie", apacheLogin(at, stormClient, inCookie, apachePassesTokens)},
	} {
		fmt.Fprintf(&text, "\n%s with mod_auth_openidc:\n\n```text\n%s```\n", one.what, one.lines)
	}
	fmt.Fprintf(&text, "\noauth2-proxy, for all cases:\n\n```text\n%s\n```\n", strings.Join(oauth2ProxyServer(at, loginClient), "\n"))
	text.WriteString("\n| besides, for | options |\n|---|---|\n")
	for _, one := range []struct {
		what    string
		options []string
	}{
		{"bearer tokens", oauth2ProxyBearer()},
		{"sessions", oauth2ProxySession()},
		{"the storm", oauth2ProxyStorm("")},
		{"the storm with Redis", oauth2ProxyStorm("127.0.0.1:6379")},
	} {
		fmt.Fprintf(&text, "| %s | `%s` |\n", one.what, strings.Join(one.options, "` `"))
	}
	return text.String()
}
