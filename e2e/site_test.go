package e2e

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

const (
	siteHost = "site.e2e.localhost"
	// embedderHost is another site to a browser.
	embedderHost = "embedder.localhost"
)

// surroundings are what the tests with a browser have in common, besides the providers.
type surroundings struct {
	browser     *browser.Browser
	application *httptest.Server
	directory   string
	plain, tls  address
	embedder    address
}

// address is where a site is, as URL without a path. Providers know those of the site from their start.
type address string

func siteAddress(scheme string, port int) address {
	return address(fmt.Sprintf("%s://%s:%d", scheme, siteHost, port))
}

func (a address) callback() string  { return string(a) + "/oauth2/callback" }
func (a address) loggedOut() string { return string(a) + "/oauth2/logged-out" }

// numeric is the same address for a program that cannot resolve the name of the site, such as a provider.
func (a address) numeric() address {
	return address(strings.Replace(string(a), siteHost, "127.0.0.1", 1))
}

// freePorts are such that nobody listens at now, or gets by another call.
func freePorts(n int) (ports []int, err error) {
	for range n {
		port, err := subprocess.FreePort()
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

var around = shared[*surroundings]{start: newSurroundings}

func newSurroundings() (*surroundings, error) {
	s := new(surroundings)
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s.plain, s.tls = siteAddress("http", ports[0]), siteAddress("https", ports[1])
	s.embedder = address(fmt.Sprintf("http://%s:%d", embedderHost, ports[2]))
	if s.directory, err = os.MkdirTemp("", "e2e-*"); err != nil {
		return nil, err
	}
	if err := writeCertificate(s.certificate(), s.key()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.directory))
	}
	if s.browser, err = browser.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.directory))
	}
	s.application = httptest.NewServer(newApplication())
	return s, nil
}

// Close ends the browser and the application.
func (s *surroundings) Close() error {
	s.application.Close()
	return errors.Join(s.browser.Close(), os.RemoveAll(s.directory))
}

func (s *surroundings) certificate() string { return filepath.Join(s.directory, "certificate.pem") }
func (s *surroundings) key() string         { return filepath.Join(s.directory, "key.pem") }

// registration is what providers have to know of the site.
func (s *surroundings) registration() loginOptions {
	return loginOptions{
		redirectURIs:   []string{s.plain.callback(), s.tls.callback()},
		postLogoutURIs: []string{s.plain.loggedOut(), s.tls.loggedOut()},
	}
}

// caddyfile is that of the site at one of its addresses, behind a provider. The options are subdirectives of openid_connect.
func (s *surroundings) caddyfile(at address, p *loginProvider, options ...string) string {
	return s.caddyfileWith("", at, p, options...)
}

// caddyfileWith has a further directive of the site.
func (s *surroundings) caddyfileWith(directive string, at address, p *loginProvider, options ...string) string {
	if strings.HasPrefix(string(at), "https:") {
		directive += "\n\ttls " + s.certificate() + " " + s.key()
	}
	return fmt.Sprintf(`%s, %s {
	bind 127.0.0.1
	%s
	openid_connect %s {
		client_id %s
		client_secret %s
		scope openid profile %s
		%s
	}
	reverse_proxy %s
}
`, at, at.numeric(), directive, p.issuer, p.client, secret, p.scopes, strings.Join(options, "\n\t\t"), s.application.Listener.Addr())
}

// visit is a test of the site with somebody at a browser.
type visit struct {
	*surroundings
	*browser.Person
	at       address
	provider *loginProvider
	gateway  *gatewayProcess
	config   string   // the Caddyfile of the site
	tokens   []string // that nobody may find in the log
}

// newVisit starts the site behind a provider, with further subdirectives of openid_connect.
func newVisit(t *testing.T, p *loginProvider, options ...string) *visit {
	t.Helper()
	return newVisitAt(t, around.get(t).plain, p, options...)
}

// newVisitAt chooses the address of the site.
func newVisitAt(t *testing.T, at address, p *loginProvider, options ...string) *visit {
	t.Helper()
	s := around.get(t)
	v := &visit{surroundings: s, Person: s.browser.NewPerson(t), at: at, provider: p, gateway: newGateway(t)}
	v.config = s.caddyfile(at, p, options...)
	v.gateway.load(t, v.config)
	t.Cleanup(func() {
		v.expectDiscretion(t)
		if t.Failed() {
			v.explain(t)
		}
	})
	return v
}

// url is the address of a page of the site.
func (v *visit) url(path string) string { return string(v.at) + path }

// open opens a page of the site in a new tab.
func (v *visit) open(path string) *browser.Tab {
	tab := v.NewTab()
	tab.Open(v.url(path))
	return tab
}

// signedIn opens a page of the site in a new tab and logs somebody in for it.
func (v *visit) signedIn(t *testing.T, who person, path string) *browser.Tab {
	t.Helper()
	tab := v.open(path)
	v.provider.signIn(tab, who)
	landed(t, tab).expect(t, path, v.provider.subject(who))
	return tab
}

// siteCookies are those of the gateway that the browser keeps for the site.
func (v *visit) siteCookies() []browser.Cookie {
	var cookies []browser.Cookie
	for _, c := range v.Cookies() {
		if c.Domain == siteHost && strings.Contains(c.Name, "oidc-") {
			cookies = append(cookies, c)
		}
	}
	return cookies
}

// forget deletes every cookie of the site.
func (v *visit) forget(tab *browser.Tab) {
	for _, c := range v.siteCookies() {
		tab.DeleteCookie(c)
	}
}

// cookies are those of a session, by name.
type cookies map[string]string

var sessionCookie = regexp.MustCompile(`oidc-[0-9a-f]{6}(\.[0-9]+)?$`)

// session is what the browser has of it.
func (v *visit) session() cookies {
	kept := make(cookies)
	for _, c := range v.siteCookies() {
		if sessionCookie.MatchString(c.Name) {
			kept[c.Name] = c.Value
		}
	}
	return kept
}

// finish gets a tab that is at the provider, or on its way, to the application.
func (v *visit) finish(t *testing.T, tab *browser.Tab, who person) received {
	t.Helper()
	asked, consents := false, false
	tab.Wait("the login form or the application", func(page browser.Page) bool {
		atProvider := strings.HasPrefix(page.URL, v.provider.origin)
		asked = atProvider && v.provider.asks(tab) && !v.moves()
		consents = atProvider && v.provider.consent != "" && tab.Has(v.provider.consent)
		return asked || consents || isApplication(page)
	})
	switch {
	case asked:
		v.provider.signIn(tab, who)
	case consents:
		tab.Click(v.provider.consent)
	}
	return landed(t, tab)
}

// moves tells whether a tab that shows the login form goes on by itself, because another tab has finished a login.
func (v *visit) moves() bool {
	return v.provider.sessionCookie != "" && slices.ContainsFunc(v.Cookies(), func(c browser.Cookie) bool {
		return c.Name == v.provider.sessionCookie
	})
}

// expectNoProvider fails if the tab ever went to the provider.
func (v *visit) expectNoProvider(t *testing.T, tab *browser.Tab) {
	t.Helper()
	for _, answer := range tab.Answers() {
		if strings.HasPrefix(answer.URL, v.provider.origin) {
			t.Errorf("the tab went to the provider: %s", answer.URL)
		}
	}
}

// expectNoErrors fails if the site ever answered the tab with an error.
func (v *visit) expectNoErrors(t *testing.T, tab *browser.Tab) {
	t.Helper()
	for _, answer := range tab.Answers() {
		if strings.HasPrefix(answer.URL, string(v.at)) && answer.Status >= 400 {
			t.Errorf("the site answered with %d to %s", answer.Status, answer.URL)
		}
	}
}

// explain shows what the handler logged.
func (v *visit) explain(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(v.gateway.log(t)) {
		if strings.Contains(line, `"logger":"http.handlers.openid_connect"`) {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// expectDiscretion fails if the log holds what must not be known: a code, a state, a cookie or a secret.
func (v *visit) expectDiscretion(t *testing.T) {
	t.Helper()
	log := v.gateway.log(t)
	if log == "" {
		t.Error("the gateway logged nothing")
	}
	var own strings.Builder // Caddy's reverse_proxy logs what it sends upstream, at the level debug, and that has the tokens
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"logger":"http.handlers.reverse_proxy"`) {
			own.WriteString(line)
		}
	}
	hidden := map[string]string{"client secret": secret, "password": password}
	for _, answer := range v.Answers() {
		parsed, err := url.Parse(answer.URL)
		if err != nil {
			t.Error(err)
			continue
		}
		if hint := parsed.Query().Get("id_token_hint"); hint != "" && strings.Contains(own.String(), hint) {
			t.Error("the log holds the id_token_hint")
		}
		for _, name := range []string{"code", "state", "nonce", "code_challenge"} {
			if value := parsed.Query().Get(name); value != "" {
				hidden[name+" "+value] = value
			}
		}
	}
	for _, c := range v.siteCookies() {
		hidden["cookie "+c.Name] = c.Value
	}
	for _, token := range v.tokens {
		if strings.Contains(own.String(), token) {
			t.Error("the log holds a token")
			break
		}
	}
	for what, value := range hidden {
		if strings.Contains(log, value) {
			t.Errorf("the log holds the %s", what)
		}
	}
}
