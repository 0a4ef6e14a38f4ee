package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/keycloak"
)

// tokenLifetime is that of access tokens in the tests of renewals.
const tokenLifetime = 4 * time.Second

// newProvider starts a provider where people log in.
type newProvider func(*testing.T, loginOptions) *loginProvider

// newKeycloakAccount has Keycloak know a client and a user for one test.
func newKeycloakAccount(t *testing.T, o loginOptions) *loginProvider {
	t.Helper()
	k := keycloakServer.get(t)
	p := keycloakLogin(k, keycloakRealm)
	p.client, p.user = rand.Text(), person{strings.ToLower(rand.Text()), alice.groups}
	p.admin = k.Admin(keycloakRealm)
	id, err := p.admin.Add(t.Context(), keycloakClient(p.client, o), keycloakUser(p.user))
	if err != nil {
		t.Fatal(err)
	}
	p.is(id)
	return p
}

// newKeycloakRealm has Keycloak serve a realm for one test, where nobody stays signed in for longer than this.
func newKeycloakRealm(sessionMax time.Duration) newProvider {
	return func(t *testing.T, o loginOptions) *loginProvider {
		t.Helper()
		realm := keycloak.Realm{Name: rand.Text(), Clients: []keycloak.Client{keycloakClient(webClient, o)}, SessionMax: sessionMax}
		user := keycloakUser(alice)
		user.ID = realm.Name
		realm.Users = []keycloak.User{user}
		k := keycloakServer.get(t)
		admin, err := k.AddRealm(t.Context(), realm)
		if err != nil {
			t.Fatal(err)
		}
		p := keycloakLogin(k, realm.Name)
		p.admin = admin
		p.is(user.ID)
		return p
	}
}

// is says who the user is to Keycloak, and what became of the refresh tokens of the client.
func (p *loginProvider) is(subject string) {
	p.subject = func(who person) string {
		if who.name == p.user.name {
			return subject
		}
		return keycloakSubject(who)
	}
	p.grants = func(t *testing.T) (g grants) {
		t.Helper()
		var err error
		if g.Given, g.Refused, err = p.admin.Grants(t.Context(), p.client); err != nil {
			t.Fatal(err)
		}
		return g
	}
}

// renewing is a visit of a site whose access tokens live for seconds. It is at an address of its own.
type renewing struct {
	*visit
	client http.Client
	stored bool // the cookies only refer to the session
}

// newRenewing starts a site behind a provider that passes all tokens on, with further subdirectives of openid_connect.
func newRenewing(t *testing.T, start newProvider, options ...string) *renewing {
	t.Helper()
	return newRenewingAlone(t, start, append([]string{"set_access_token_header on", "set_refresh_token_header on"}, options...)...)
}

// newRenewingAlone starts one that passes no token on.
func newRenewingAlone(t *testing.T, start newProvider, options ...string) *renewing {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	at := siteAddress("https", ports[0])
	p := start(t, loginOptions{redirectURIs: []string{at.callback()}, tokenLifetime: tokenLifetime})
	p.scopes += " " + p.offlineScope
	r := &renewing{visit: newVisitAt(t, at, p, append(options, p.offlineOption)...), stored: slices.Contains(options, "storage caddy")}
	t.Cleanup(func() { r.expectPeace(t) })
	r.connect(t, ports[0])
	return r
}

// connect has the client reach the site at its port, whatever its name is, as a browser does.
func (r *renewing) connect(t *testing.T, port int) {
	t.Helper()
	certificate, err := os.ReadFile(r.certificate())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	r.client.Transport = &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", port))
		},
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
	}
	r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(r.client.CloseIdleConnections)
}

// logsIn opens a page in a new tab and logs in for it.
func (r *renewing) logsIn(t *testing.T, path string) *browser.Tab {
	t.Helper()
	return r.signedIn(t, r.provider.user, path)
}

// subject is who has logged in.
func (r *renewing) subject() string { return r.provider.subject(r.provider.user) }

// pass lets some time pass.
func pass(t *testing.T, some time.Duration) {
	t.Helper()
	select {
	case <-time.After(some):
	case <-t.Context().Done():
		t.Fatal("the test is over")
	}
}

// expire waits until no access token that has been issued so far lives.
func expire(t *testing.T) {
	t.Helper()
	pass(t, tokenLifetime+100*time.Millisecond)
}

// after is what a browser that has these cookies has of them after an answer.
func (c cookies) after(header http.Header) cookies {
	kept := maps.Clone(c)
	for _, line := range header["Set-Cookie"] {
		set, err := http.ParseSetCookie(line)
		switch {
		case err != nil || !sessionCookie.MatchString(set.Name):
		case set.MaxAge < 0:
			delete(kept, set.Name)
		default:
			kept[set.Name] = set.Value
		}
	}
	return kept
}

// scriptAnswer is what a script gets of the site.
type scriptAnswer struct {
	status int
	header http.Header
	body   []byte
	received
	kept cookies // what a browser would have of the session
}

// fetch asks as a script does that runs in a page of the site, in a browser with these cookies.
func (r *renewing) fetch(ctx context.Context, path string, with cookies) (*scriptAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url(path), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range with {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Sec-Fetch-Dest", "empty")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &scriptAnswer{status: resp.StatusCode, header: resp.Header, kept: with.after(resp.Header)}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if a.status == http.StatusOK {
		if err := json.Unmarshal(a.body, &a.received); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, a.body)
		}
	}
	return a, nil
}

// get fetches /received.
func (r *renewing) get(t *testing.T, with cookies) *scriptAnswer {
	t.Helper()
	return r.getAll(t, with)[0]
}

// getAll fetches /received many times at once, with the cookies of each.
func (r *renewing) getAll(t *testing.T, with ...cookies) []*scriptAnswer {
	t.Helper()
	type result struct {
		index int
		*scriptAnswer
		error
	}
	results := make(chan result, len(with))
	for i, c := range with {
		go func() {
			answer, err := r.fetch(t.Context(), "/received", c)
			results <- result{i, answer, err}
		}()
	}
	answers := make([]*scriptAnswer, len(with))
	for range with {
		got := <-results
		if got.error != nil {
			t.Fatal(got.error)
		}
		answers[got.index] = got.scriptAnswer
		r.note(got.received)
	}
	return answers
}

// note remembers the tokens that reached the application.
func (r *renewing) note(got received) {
	for _, name := range []string{"X-Access-Token", "X-Refresh-Token"} {
		if token := got.Header.Get(name); token != "" {
			r.tokens = append(r.tokens, token)
		}
	}
}

// renews takes a step that follows the end of the access token, and expects that the provider was asked once for all that it did.
func (r *renewing) renews(t *testing.T, step func()) {
	t.Helper()
	before, began := r.provider.grants(t), time.Now()
	step()
	took := time.Since(began)
	after := r.provider.grants(t)
	most := 1 + int(took/(tokenLifetime*4/5)) // a slow machine may see a token end within the step
	if given := after.Given - before.Given; given < 1 || given > most {
		t.Errorf("%d refresh tokens were redeemed within %s, want 1", given, took)
	}
	if refused := after.Refused - before.Refused; refused != 0 {
		t.Errorf("%d refresh tokens were refused", refused)
	}
}

// expectPeace fails if the gateway met what it calls an error.
func (r *renewing) expectPeace(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(r.gateway.log(t)) {
		if strings.Contains(line, `"level":"error"`) || strings.Contains(line, "panic") {
			t.Errorf("the gateway says %s", line)
		}
	}
}
