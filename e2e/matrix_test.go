package e2e

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
)

// writeMatrix has TestMatrix write what it finds out: go test . -run TestMatrix -args -write-matrix
var writeMatrix = flag.Bool("write-matrix", false, "write docs/provider-matrix.json, and the table in docs/provider-matrix.md")

// What a check says, unless it fails or there is more to tell.
const (
	works = "works"
	fails = "fails"
)

// matrixChecks are tried in this order. Keys change at last.
var matrixChecks = []struct {
	name string
	try  func(*matrixVisit, *testing.T) (outcome string)
}{
	{"inspect", (*matrixVisit).inspect},
	{"login", (*matrixVisit).login},
	{"identity headers", (*matrixVisit).headers},
	{"refresh", (*matrixVisit).refresh},
	{"logout", (*matrixVisit).logout},
	{"back-channel logout", (*matrixVisit).backchannel},
	{"bearer JWT", (*matrixVisit).jwt},
	{"introspection", (*matrixVisit).introspect},
	{"key rotation", (*matrixVisit).rotation},
}

// TestMatrix tries all of that with every provider. The page about it must tell what comes of it.
func TestMatrix(t *testing.T) {
	t.Parallel()
	providers := matrixProviders(t)
	observed := newMatrixRecord(providers)
	t.Run("with", func(t *testing.T) {
		for i, m := range providers {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				v := newMatrixVisit(t, m)
				observed[i].Caddyfile = m.documentedCaddyfile(v.provider)
				for _, check := range matrixChecks {
					outcome := "" // left out by -run
					t.Run(check.name, func(t *testing.T) {
						outcome = fails
						if said := check.try(v.anew(t), t); !t.Failed() {
							outcome = said
						}
					})
					if outcome != "" {
						observed[i].Checks[check.name] = outcome
					}
				}
			})
		}
	})
	if *writeMatrix {
		observed.write(t)
	} else {
		observed.compare(t)
	}
}

// matrixVisit is a visit of a site behind a provider, which has two more addresses for bearer tokens.
type matrixVisit struct {
	*renewing
	matrix                *matrixProvider
	jwtSite, introspected *site
}

// newMatrixVisit starts the provider and the sites.
func newMatrixVisit(t *testing.T, m *matrixProvider) *matrixVisit {
	t.Helper()
	ports, err := freePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	at := siteAddress("http", ports[0])
	p := m.start(t, m, loginOptions{
		redirectURIs: []string{at.callback()}, postLogoutURIs: []string{at.loggedOut()}, tokenLifetime: tokenLifetime,
		backchannelURI: string(at.numeric()) + "/oauth2/backchannel-logout",
	})
	p.scopes = strings.TrimSpace(p.scopes + " " + p.offlineScope)
	s := around.get(t)
	v := &visit{surroundings: s, at: at, provider: p, gateway: newGateway(t)}
	// The last two are for the test to see the tokens.
	options := append(m.loginSettings(p), "set_refresh_token_header on", "set_raw_id_token_header on")
	v.gateway.load(t, s.caddyfile(at, p, options...), bearerSite(ports[1], p.issuer, m.tokenSettings()...),
		bearerSite(ports[2], p.issuer, m.introspectionSettings(p)...))
	t.Cleanup(func() {
		if t.Failed() {
			v.explain(t)
		}
	})
	address := func(port int) *site { return &site{address: fmt.Sprintf("127.0.0.1:%d", port)} }
	r := &renewing{visit: v}
	r.connect(t, ports[0])
	return &matrixVisit{renewing: r, matrix: m, jwtSite: address(ports[1]), introspected: address(ports[2])}
}

// anew is the same with a browser that nobody has used before.
func (v *matrixVisit) anew(t *testing.T) *matrixVisit {
	t.Helper()
	visiting, renewing, visit := *v, *v.renewing, *v.visit
	visit.Person = v.browser.NewPerson(t)
	renewing.visit = &visit
	visiting.renewing = &renewing
	t.Cleanup(func() {
		visit.expectDiscretion(t)
		renewing.expectPeace(t)
	})
	return &visiting
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// inspect runs the command that looks at a provider from outside.
func (v *matrixVisit) inspect(t *testing.T) string {
	command := exec.CommandContext(t.Context(), os.Args[0], "openid-connect", "inspect", "--json", v.provider.issuer)
	command.Env = append(os.Environ(), commandVariable+"=1")
	var complaints strings.Builder
	command.Stderr = &complaints
	answer, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, answer, &complaints)
	}
	var found struct {
		Issuer string `json:"issuer"`
		Usable bool   `json:"usable"`
	}
	decode(t, answer, &found)
	if found.Issuer != v.provider.issuer || !found.Usable {
		t.Errorf("the command says %s", answer)
	}
	return works
}

// login follows a page to the provider and back.
func (v *matrixVisit) login(t *testing.T) string {
	tab := v.logsIn(t, "/orders?page=2&path=%2F")
	if got := reached(t, tab).Header.Get("Cookie"); got != "" {
		t.Errorf("the application got the cookies %q", got)
	}
	v.expectNoErrors(t, tab)
	return works
}

// headers has a page claim to be somebody else.
func (v *matrixVisit) headers(t *testing.T) string {
	tab := v.logsIn(t, "/orders")
	expect := func(got received) {
		t.Helper()
		if who := got.claims(t)["sub"]; who != v.subject() {
			t.Errorf("sub in X-Userinfo is %v, want %s", who, v.subject())
		}
		if groups := got.Header.Values("X-Groups"); len(groups) != 1 || !sameElements(strings.Split(groups[0], ","), v.provider.user.groups) {
			t.Errorf("X-Groups is %q, want %q", groups, v.provider.user.groups)
		}
		if token := got.Header.Values("X-Access-Token"); len(token) != 1 || len(token[0]) < 20 {
			t.Errorf("X-Access-Token is there %d times", len(token))
		}
	}
	expect(reached(t, tab))
	var forged received
	decode(t, []byte(browser.Evaluate[string](tab, `fetch("/received", {headers: {
		"X-Userinfo": "e30=", "X_Userinfo": "e30=", "X-Groups": "root", "X-Access-Token": "mine",
	}}).then(r => r.text())`)), &forged)
	expect(forged)
	return works
}

func sameElements(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// refresh waits for the end of the access token.
func (v *matrixVisit) refresh(t *testing.T) string {
	v.logsIn(t, "/orders")
	login := v.session()
	before := v.get(t, login)
	for range 2 {
		before = v.renewsForAll(t, 6, login, before)
	}
	return works
}

// logout clicks on the link of the site.
func (v *matrixVisit) logout(t *testing.T) string {
	tab := v.logsIn(t, "/orders")
	copied := v.session()
	v.expectCopy(t, copied, http.StatusOK, http.StatusOK)
	tab.Click(signOut)
	v.leaves(t, tab, true)
	v.expectCopy(t, copied, http.StatusUnauthorized, http.StatusFound)
	tab.Open(v.url("/again"))
	v.provider.asksWho(tab) // nobody is signed in there any more
	return works
}

// backchannel ends the session at the provider.
func (v *matrixVisit) backchannel(t *testing.T) string {
	first := &seat{visit: v.visit, tab: v.logsIn(t, "/orders")}
	first.copied = v.session()
	other := v.atAnotherBrowser(t)
	second := &seat{visit: other, tab: other.signedIn(t, bob, "/orders")}
	second.copied = other.session()
	first.expect(t, "at first", true)
	second.expect(t, "at first", true)

	outcome, before := works, 0
	if v.matrix.refusedFor == "" {
		before = v.logouts(t, "backchannel")
	}
	if v.matrix.signOut != nil {
		v.matrix.signOut(t, v.provider.user)
		outcome += ", by `sub`"
	} else {
		hint := ""
		if v.matrix.hinted {
			hint = reached(t, first.tab).Header.Get("X-Raw-ID-Token")
		}
		first.endsThereWith(t, hint)
	}
	if missing := v.matrix.refusedFor; missing != "" {
		eventually(t, "a refused logout token", 30*time.Second, func() bool {
			return strings.Contains(v.gateway.log(t), `"reason":"logout_token_invalid","expected":"`+missing+`","got":"nothing"`)
		})
		return fails + ": its logout tokens have no `" + missing + "`"
	}
	// Some providers answer the browser before they tell the site.
	eventually(t, "a logout token", 30*time.Second, func() bool { return v.logouts(t, "backchannel") > before })
	first.expect(t, "logged out at the provider", false)
	second.expect(t, "somebody else logged out", true)
	return outcome
}

// token gets one for a service.
func (v *matrixVisit) token(t *testing.T, c client) string {
	t.Helper()
	token, err := fetchWith(t.Context(), v.provider.issuer, c, maps.Clone(v.matrix.tokenParameters))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// jwt sends one as it is, and changed.
func (v *matrixVisit) jwt(t *testing.T) string {
	token := v.token(t, v.matrix.service)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatal("the access token is no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	decode(t, payload, &claims)
	answer := v.jwtSite.expect(t, "a token", token, "200", "")
	if got := answer.UpstreamHeader("X-User"); got != claims.Subject || got == "" {
		t.Errorf("the upstream's X-User is %q, want %q", got, claims.Subject)
	}
	parts[2] = strings.Repeat("A", len(parts[2]))
	v.jwtSite.expect(t, "a token with another signature", strings.Join(parts, "."), "401 invalid_token", "bad_signature")
	v.jwtSite.expect(t, "nothing", "", "401", "no_credentials")
	return works
}

// introspect has the provider asked about a token that lives, and about one that was revoked before anybody used it.
func (v *matrixVisit) introspect(t *testing.T) string {
	live, revoked := v.token(t, v.matrix.asks), v.token(t, v.matrix.asks)
	v.introspected.expect(t, "a token", live, "200", "")
	revoke(t, v.provider.issuer, v.matrix.asks, revoked)
	v.introspected.expect(t, "a revoked token", revoked, "401 invalid_token", "inactive")
	if strings.Count(live, ".") == 2 {
		return works + ", of JWTs"
	}
	return works + ", of opaque tokens"
}

// rotation changes the keys, of which the gateway learns by the tokens.
func (v *matrixVisit) rotation(t *testing.T) string {
	idTokenKey := func(tab *browser.Tab) string {
		t.Helper()
		id, err := keyID(reached(t, tab).Header.Get("X-Raw-ID-Token"))
		if err != nil || id == "" {
			t.Fatalf("the ID token has the key %q, %v", id, err)
		}
		return id
	}
	old := v.token(t, v.matrix.service)
	v.jwtSite.expect(t, "a token before it all", old, "200", "")
	oldLogin := idTokenKey(v.logsIn(t, "/before"))

	v.matrix.rotate(t)
	renewed := v.token(t, v.matrix.service)
	if before, err := keyID(old); err != nil {
		t.Error(err)
	} else if after, err := keyID(renewed); err != nil || before == after {
		t.Errorf("tokens are signed with the key %s, and then with %s, %v", before, after, err)
	}
	v.jwtSite.expect(t, "a token of the new key", renewed, "200", "")
	v.jwtSite.expect(t, "a token of the old key", old, "200", "")
	other := v.atAnotherBrowser(t)
	tab := other.signedIn(t, bob, "/after")
	if idTokenKey(tab) == oldLogin {
		t.Error("the ID token of the second login has the key of the first")
	}
	other.expectNoErrors(t, tab)
	return works
}
