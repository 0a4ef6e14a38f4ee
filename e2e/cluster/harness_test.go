package cluster

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

const (
	appHost = "app.test"
	app     = "http://" + appHost
	// sharedSecret seals the sessions of all gateways of a cluster.
	sharedSecret = "a secret of the cluster's tests, longer than 32 bytes"
	// providerLatency is how long the token endpoint takes.
	providerLatency = 50 * time.Millisecond
	// tokenLifetime is that of access tokens in a storm.
	tokenLifetime = 2 * time.Second
	// renewedAfter is the earliest moment of a token's life at which it is renewed: a fifth before its end.
	renewedAfter = tokenLifetime * 4 / 5
)

// options are the lines of a configuration that a test is about.
type options struct {
	handler       []string // of openid_connect
	session       []string // of its session block
	sharedStorage bool     // of Caddy
	dataHome      string   // of Caddy's default storage, if that is used
	level         string   // of the log
}

// clusterTest is a site with everything around it.
type clusterTest struct {
	provider *optest.Provider
	upstream *Upstream
	front    *Front
	gateways []*Gateway
	storage  string   // of Caddy, where it is shared
	tolerate []string // parts of lines at the level ERROR
}

// newCluster starts a site with as many gateways as there are options.
func newCluster(t *testing.T, each ...options) *clusterTest {
	t.Helper()
	c := &clusterTest{provider: optest.New(t), upstream: StartUpstream(), front: NewFront(appHost), storage: filepath.Join(t.TempDir(), "storage")}
	newStorage(t, c.storage)
	t.Cleanup(c.upstream.Close)
	t.Cleanup(c.front.Close)
	c.provider.SetAccessLifetime(tokenLifetime)
	c.provider.SetTokenResponse(c.upstream.Issued)
	c.provider.Fail(optest.Token, optest.Fault{Delay: providerLatency})
	for _, o := range each {
		settings := GatewaySettings{Program: program, Directory: t.TempDir(), DataHome: o.dataHome, Level: o.level, Sites: c.site(o)}
		if o.sharedStorage {
			settings.Storage = c.storage
		}
		g, err := StartGateway(settings)
		if err != nil {
			t.Fatal(err)
		}
		c.gateways = append(c.gateways, g)
		t.Cleanup(func() {
			if err := g.Stop(); err != nil {
				t.Error(err)
			}
			c.inspectLog(t, g)
		})
	}
	c.front.Use(c.gateways...)
	return c
}

// site is the Caddyfile of a gateway, apart from the global options.
func (c *clusterTest) site(o options) string {
	handler := []string{"client_id client", "client_secret secret", "scope openid offline_access", "set_userinfo_header off"}
	handler = append(handler, o.handler...)
	if len(o.session) > 0 {
		handler = append(handler, "session {\n\t\t\t"+strings.Join(o.session, "\n\t\t\t")+"\n\t\t}")
	}
	return fmt.Sprintf(`%s {
	openid_connect %s {
		%s
	}
	reverse_proxy %s {
		header_up %s {http.auth.user.id}
	}
}`, app, c.provider.Issuer(), strings.Join(handler, "\n\t\t"), c.upstream.Address(), SubjectHeader)
}

// lockComplaint is CertMagic's own, where a lock in files is taken again while it looks whether it is still held.
const lockComplaint = "Keeping lock file fresh"

// inspectLog finds what no log may have.
func (c *clusterTest) inspectLog(t *testing.T, g *Gateway) {
	t.Helper()
	secrets := make(map[string]bool)
	for _, secret := range c.provider.Issued() {
		secrets[secret] = true
	}
	words := func(r rune) bool {
		return !strings.ContainsRune("-._~", r) && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}
	for _, entry := range g.Log.Entries() {
		for word := range strings.FieldsFuncSeq(entry.Text, words) {
			if secrets[word] {
				t.Errorf("the log holds a secret: %s", entry.Text)
			}
		}
		if (entry.Level == "panic" || entry.Level == "error") && !containsAny(entry.Text, append(c.tolerate, lockComplaint)) {
			t.Errorf("logged: %s", entry.Text)
		}
	}
	if t.Failed() {
		t.Logf("the log of %s:\n%s", g.Address(), shortened(g.Log.String()))
	}
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// shortened leaves the middle of a long text out.
func shortened(text string) string {
	const end = 6000
	if len(text) <= 2*end {
		return text
	}
	return text[:end] + "\n…\n" + text[len(text)-end:]
}

// newClient returns a browser without a session.
func (c *clusterTest) newClient() *Client { return NewClient(c.front, app) }

// signIn returns a browser in which a person is signed in.
func (c *clusterTest) signIn(t *testing.T, subject string) *Client {
	t.Helper()
	c.provider.SetUser(optest.Claims{"sub": subject})
	client := c.newClient()
	c.expectLogin(t, client, subject)
	return client
}

// expectLogin opens a page, which must take the browser to the provider and back.
func (c *clusterTest) expectLogin(t *testing.T, client *Client, subject string) {
	t.Helper()
	before := c.provider.Hits(optest.Authorize)
	answer, err := client.Navigate(t.Context(), "/start?view=1")
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != 200 || answer.Body != subject || answer.URL != app+"/start?view=1" {
		t.Fatalf("the login ends with status %d, body %.200q at %s; want 200 and %q", answer.Status, answer.Body, answer.URL, subject)
	}
	if logins := c.provider.Hits(optest.Authorize) - before; logins != 1 {
		t.Fatalf("%d authorization requests, want 1", logins)
	}
}

// expectFetch makes a request as a script, which must get this status.
func (c *clusterTest) expectFetch(t *testing.T, client *Client, status int) *Answer {
	t.Helper()
	answer, err := client.Fetch(t.Context(), "/api")
	if err != nil {
		t.Fatal(err)
	}
	if answer.Status != status {
		t.Fatalf("status %d, want %d: %s", answer.Status, status, answer.Body)
	}
	return answer
}

// until repeats a step, a few times a second, until it says that it is done.
func until(t *testing.T, what string, limit time.Duration, step func() (done bool)) time.Duration {
	t.Helper()
	began := time.Now()
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for !step() {
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
		<-pause.C
	}
	return time.Since(began)
}

// expectNoReuse tells of refresh tokens that were presented twice.
func (c *clusterTest) expectNoReuse(t *testing.T) {
	t.Helper()
	if n := c.provider.RefreshReuses(); n != 0 {
		t.Errorf("the provider got %d refresh tokens that were spent", n)
	}
}

// warnings counts the log's warnings with a text, by their message.
func (c *clusterTest) warnings(part string) map[string]int {
	found := make(map[string]int)
	for _, g := range c.gateways {
		for _, entry := range g.Log.Of("warn") {
			if strings.Contains(entry.Text, part) {
				found[entry.Message]++
			}
		}
	}
	return maps.Clone(found)
}

// newRedis starts a redis-server for one test.
func newRedis(t *testing.T, durable bool) *Redis {
	t.Helper()
	r, err := StartRedis(t.TempDir(), durable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Stop() })
	return r
}

// inRedis keeps sessions in the Redis at a port, with further subdirectives of that storage.
func inRedis(port int, settings ...string) options {
	settings = append([]string{"host 127.0.0.1", fmt.Sprintf("port %d", port)}, settings...)
	return options{
		handler: []string{"set_access_token_header"},
		session: []string{"secret \"" + sharedSecret + "\"", "storage redis {\n\t\t\t\t" + strings.Join(settings, "\n\t\t\t\t") + "\n\t\t\t}"},
	}
}

// inCookies keeps sessions in cookies.
func inCookies(handler ...string) options {
	return options{
		handler: append([]string{"set_access_token_header"}, handler...),
		session: []string{"secret \"" + sharedSecret + "\""},
	}
}

// shared are so many gateways with the same options, on one storage of Caddy.
func shared(n int, o options) []options {
	o.sharedStorage = true
	all := make([]options, n)
	for i := range all {
		all[i] = o
	}
	return all
}
