package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
)

// printPages shows what to open in a browser.
func printPages(out io.Writer, site, issuer string) {
	fmt.Fprintf(out, "Open this in a browser, and sign in as Alice or as Bob. There are no passwords.\n\n  %s/\n\n", site)
	for _, page := range []struct{ path, what string }{
		{"/", "open to everyone"},
		{"/account?tab=1", "for everyone who signs in; shows what the upstream got"},
		{"/admin", "for Alice; Bob is told that he may not"},
		{"/oauth2/session", "the session, as JSON for scripts"},
		{"/oauth2/logout", "the way out; each page has a link to it"},
	} {
		fmt.Fprintf(out, "    %-16s %s\n", page.path, page.what)
	}
	fmt.Fprintf(out, "\nTheir access tokens live for %.0f seconds. Reload a page later than that: X-Access-Token is another one, and nobody has noticed.\n\n",
		tokenLifetime.Seconds())
	fmt.Fprintf(out, "The provider can sign somebody out as well, in all browsers:\n\n  curl -d person=alice %s%s\n\n",
		issuer, provider.SignOutPath)
}

// tokens are those that the printed requests use.
type tokens struct {
	reader, tampered, guest string
}

// printRequests shows the configuration and the requests to try, each with what it will answer.
func printRequests(out io.Writer, site, url string, t tokens) {
	fmt.Fprintf(out, "Caddy runs with this Caddyfile:\n\n%s\n", indent(site))
	fmt.Fprintf(out, "Three access tokens. Paste them into a shell:\n\n  TOKEN=%s\n\n  TAMPERED=%s\n\n  GUEST=%s\n\n",
		t.reader, t.tampered, t.guest)
	fmt.Fprintf(out, "Then try:\n")
	for _, request := range []struct{ variable, answer string }{
		{"", "401: no token, so a challenge without an error code"},
		{"TOKEN", "200: the upstream shows what it got, with X-Userinfo and X-Client-Id added"},
		{"TAMPERED", `401, error="invalid_token": somebody widened its scope, so the signature does not fit`},
		{"GUEST", `403, error="insufficient_scope": a good token, but without ` + ordersScope},
	} {
		header := ""
		if request.variable != "" {
			header = fmt.Sprintf(` -H "Authorization: Bearer $%s"`, request.variable)
		}
		fmt.Fprintf(out, "\n  # %s\n  curl -i%s %s\n", request.answer, header, url)
	}
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n  ") + "\n"
}

// tamper widens the scope of a signed token, leaving the signature as it is.
func tamper(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("the token has %d parts, not the 3 of a signed JWT", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("decoding the token: %w", err)
	}
	widened := strings.Replace(string(payload), ordersScope, ordersScope+" orders:write", 1)
	if widened == string(payload) {
		return "", errors.New("the token has no scope to widen")
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(widened))
	return strings.Join(parts, "."), nil
}
