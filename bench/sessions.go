package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// loginsAtOnce is how many users log in side by side.
	loginsAtOnce = 4

	// sessionSecret seals the sessions of all gateways, so that they open each other's.
	sessionSecret = "nothing but measurements depends on this"
)

// sessionDirective lets users log in. What is sealed at one gateway opens at another with the same client, whatever else is in the
// block. No session is reissued while it is measured: a browser would get that answer once in five minutes, the load generator, which
// keeps no cookies, with every request.
func (r *run) sessionDirective(who population, block string) string {
	storage := ""
	if who.storage != "" {
		storage = "\t\t\tstorage " + who.storage + "\n"
	}
	return fmt.Sprintf(`	openid_connect %s {
		client_id %s
		client_secret secret
		scope openid profile email
		session {
			secret %q
			reissue_interval 12h
%s		}
%s	}
`, r.provider.issuer, who.client, sessionSecret, storage, block)
}

// population is users who have logged in by a client, and where their sessions live if not in cookies.
type population struct{ client, storage string }

// keepTokens makes a session of the claims and the access token: about 2 KB in a cookie.
const keepTokens = "\t\tsession_contents user id_token access_token\n"

// sessions returns the cookies of n users. Those that are missing log in, at a gateway of their own.
func (r *run) sessions(ctx context.Context, who population, n int) (credentials, error) {
	known := r.loggedIn[who]
	if missing := n - len(known); missing > 0 {
		g, err := r.startGateway(ctx, "logins", r.site(r.sessionDirective(who, keepTokens)))
		if err != nil {
			return credentials{}, err
		}
		defer g.stop()
		cookies, err := g.logins(ctx, missing)
		if err != nil {
			return credentials{}, err
		}
		known = append(known, cookies...)
		r.loggedIn[who] = known
		fmt.Fprintf(r.progress, "%d users of the client %s have logged in\n", missing, who.client)
	}
	return credentials{"Cookie", known[:n]}, nil
}

// logins logs n users in, a few at once, and returns what their browsers send in Cookie from then on.
func (g *gateway) logins(ctx context.Context, n int) ([]string, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: loginsAtOnce}
	defer transport.CloseIdleConnections()
	cookies := make([]string, n)
	failures := make([]error, loginsAtOnce)
	var group sync.WaitGroup
	for worker := range loginsAtOnce {
		group.Go(func() {
			for i := worker; i < n && failures[worker] == nil; i += loginsAtOnce {
				cookies[i], failures[worker] = g.login(ctx, transport)
			}
		})
	}
	group.Wait()
	return cookies, cmp.Or(failures...)
}

// login opens a page as a browser without cookies does, goes where it is sent until the page is there, and returns the session's
// cookies.
func (g *gateway) login(ctx context.Context, transport *http.Transport) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	site := &url.URL{Scheme: "http", Host: g.address, Path: "/"}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, site.String(), http.NoBody)
	if err != nil {
		return "", err
	}
	request.Header.Set("Accept", "text/html")
	status, body, err := answer(&http.Client{Transport: transport, Jar: jar, Timeout: 10 * time.Second}, request)
	if err != nil {
		return "", err
	}
	var kept []string
	for _, cookie := range jar.Cookies(site) {
		if !strings.HasSuffix(cookie.Name, "-loop") { // it is gone after a minute
			kept = append(kept, cookie.Name+"="+cookie.Value)
		}
	}
	switch {
	case status != http.StatusOK:
		return "", fmt.Errorf("a login ended with %d: %s", status, body)
	case len(kept) == 0:
		return "", errors.New("a login left no session cookie")
	}
	return strings.Join(kept, "; "), nil
}

// cookieSizes tells what a session takes in each request, by what it keeps of the same login.
func (r *run) cookieSizes(ctx context.Context, report *strings.Builder) error {
	if !r.cases.MatchString("cookies") {
		return nil
	}
	report.WriteString("\n### Session cookies, by what the session keeps\n\n| kept | cookies | bytes in a request |\n|---|--:|--:|\n")
	for _, kind := range []struct{ what, clientID, block string }{
		{"claims", loginClient, ""},
		{"claims, access token (the cases named session)", loginClient, keepTokens},
		{"claims, access token, ID token", loginClient, "\t\tsession_contents user id_token access_token enc_id_token\n"},
		{fmt.Sprintf("claims with %d groups", manyGroups), groupsClient, ""},
		{"the same, access token (the cases named session-groups)", groupsClient, keepTokens},
	} {
		g, err := r.startGateway(ctx, "cookies", r.site(r.sessionDirective(population{client: kind.clientID}, kind.block)))
		if err != nil {
			return fmt.Errorf("case cookies: %w", err)
		}
		cookies, err := g.logins(ctx, 1)
		g.stop()
		if err != nil {
			return fmt.Errorf("case cookies, %s: %w", kind.what, err)
		}
		fmt.Fprintf(report, "| %s | %d | %d |\n", kind.what, strings.Count(cookies[0], "; ")+1, len(cookies[0]))
	}
	fmt.Fprintf(r.progress, "cookies done\n")
	return nil
}
