package e2e

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/browser"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/keycloak"
)

// webClient is the client by which the site is known at every provider. Its secret is that of all clients.
const webClient = "web"

// person has an account at every provider.
type person struct {
	name   string
	groups []string
}

var (
	alice  = person{"alice", []string{"staff", "admins"}}
	bob    = person{"bob", []string{"staff"}}
	carol  = person{"carol", manyGroups(300)}
	people = []person{alice, bob, carol}
)

// manyGroups has names that look like the identifiers which directories give to groups, and are as hard to compress.
func manyGroups(n int) []string {
	groups := make([]string, n)
	for i := range groups {
		sum := sha256.Sum256(fmt.Append(nil, i))
		groups[i] = fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	}
	return groups
}

// loginProvider is a provider where people log in.
type loginProvider struct {
	name    string
	issuer  string
	subject func(person) string
	// client is the one by which the site is known.
	client string
	// user is somebody whose account no other test changes.
	user person

	// origin is that of the provider's pages.
	origin string
	// scopes beyond openid and profile, to learn somebody's groups.
	scopes string
	// adminRule is a subdirective of openid_connect that only an admin satisfies.
	adminRule string

	// Where the name and the password go in the login form, and what sends it.
	nameField, passwordField, submit string
	// choose is a button in the login form that logs somebody in without a password; nil where one is asked for.
	choose func(person) string
	// consent is a button that the provider shows after the login; empty if it shows none.
	consent string
	// endSession is the path of the endpoint for logouts. confirmation is a button that it shows if nobody vouches for the request by
	// an ID token, and asksAlways says that it shows it in any case.
	endSession, confirmation string
	asksAlways               bool
	// restart is what somebody clicks in the login form to log in as somebody else; empty where the form takes anybody.
	restart string
	// node is the process of an oidc-provider.
	node *nodeProvider
	// admin changes a realm of Keycloak that a test has for itself.
	admin *keycloak.Admin
	// sessionCookie is that of a provider whose login form watches for it, and goes on by itself; empty for the others.
	sessionCookie string
	// What it takes to get a refresh token: a further scope, and a subdirective of openid_connect.
	offlineScope, offlineOption string
	// introspectionEndpoint is where a provider answers about tokens whose metadata does not tell that.
	introspectionEndpoint string
	// grants tells what became of refresh tokens.
	grants func(*testing.T) grants
}

// loginOptions are what providers have to know of the site.
type loginOptions struct {
	redirectURIs   []string
	postLogoutURIs []string
	// backchannelURI is where the provider is to send logout tokens, and frontchannelURI what it is to show in a frame. They are for
	// providers that know such logouts.
	backchannelURI, frontchannelURI string
	// bySubject has logouts name the person alone.
	bySubject bool
	// tokenLifetime is that of access tokens, in whole seconds. Zero leaves it to the provider.
	tokenLifetime time.Duration
}

// grants counts refresh tokens, those that the provider has redeemed and those that it has refused.
type grants struct {
	Given   int `json:"given"`
	Refused int `json:"refused"`
}

// eachLoginProvider runs a test against every provider where people log in.
func eachLoginProvider(t *testing.T, test func(t *testing.T, p *loginProvider)) {
	for _, one := range []struct {
		name  string
		start func(*testing.T) *loginProvider
	}{
		{"zitadel", newZitadelLogin},
		{"oidc-provider", newNodeLogin},
		{"keycloak", newKeycloakLogin},
	} {
		t.Run(one.name, func(t *testing.T) { test(t, one.start(t)) })
	}
}

func newNodeLogin(t *testing.T) *loginProvider {
	t.Helper()
	return newNodeLoginWith(t, around.get(t).registration())
}

func newNodeLoginWith(t *testing.T, o loginOptions) *loginProvider {
	t.Helper()
	login := &nodeLogin{
		Client: nodeClient{
			ID: webClient, Secret: secret, RedirectURIs: o.redirectURIs, TokenLifetime: int(o.tokenLifetime.Seconds()),
			PostLogoutURIs: o.postLogoutURIs, BackchannelURI: o.backchannelURI,
		},
		People: make(map[string]map[string]any),
	}
	for _, p := range people {
		login.People[p.name] = map[string]any{
			"name": p.name, "preferred_username": p.name, "email": p.name + "@e2e.localhost", "groups": p.groups,
		}
	}
	node := newNodeProviderWith(t, login)
	return &loginProvider{
		name:          "oidc-provider",
		client:        webClient,
		user:          alice,
		node:          node,
		issuer:        node.issuer(),
		origin:        node.issuer(),
		subject:       func(p person) string { return p.name },
		scopes:        "groups",
		adminRule:     "required_claim groups admins",
		nameField:     "input[name=login]",
		passwordField: "input[name=password]",
		submit:        "button[type=submit]",
		endSession:    "/session/end",
		confirmation:  "button[name=logout]",
		asksAlways:    true,
		consent:       "form:has(input[name=prompt][value=consent]) button[type=submit]",
		offlineScope:  "offline_access",
		offlineOption: "prompt consent",
		grants:        node.grants,
	}
}

// keycloakServer serves all tests, as it takes long to start. Each test has a browser without cookies.
var keycloakServer = shared[*keycloak.Keycloak]{start: startKeycloak}

// keycloakRealm is the one that tests share unless they need another.
const keycloakRealm = "e2e"

func startKeycloak() (*keycloak.Keycloak, error) {
	s, err := around.load()
	if err != nil {
		return nil, err
	}
	realm := keycloak.Realm{
		Name:    keycloakRealm,
		Clients: []keycloak.Client{keycloakClient(webClient, s.registration())},
	}
	for _, p := range people {
		user := keycloakUser(p)
		user.ID = keycloakSubject(p)
		realm.Users = append(realm.Users, user)
	}
	return keycloak.Start(realm)
}

func keycloakSubject(p person) string { return "keycloak-" + p.name }

func keycloakUser(p person) keycloak.User {
	user := keycloak.User{Name: p.name, Password: password, Groups: p.groups}
	if slices.Contains(p.groups, "admins") {
		user.Roles = []string{"admin"}
	}
	return user
}

func keycloakClient(id string, o loginOptions) keycloak.Client {
	return keycloak.Client{
		ID: id, Secret: secret, RedirectURIs: o.redirectURIs, AccessTokenLifetime: o.tokenLifetime,
		Logout: keycloak.Logout{
			PostLogoutRedirectURIs: o.postLogoutURIs, SessionRequired: !o.bySubject,
			BackchannelURI: o.backchannelURI, FrontchannelURI: o.frontchannelURI,
		},
	}
}

func newKeycloakLogin(t *testing.T) *loginProvider {
	t.Helper()
	return keycloakLogin(keycloakServer.get(t), keycloakRealm)
}

func keycloakLogin(k *keycloak.Keycloak, realm string) *loginProvider {
	return &loginProvider{
		name:          "keycloak",
		client:        webClient,
		user:          alice,
		issuer:        k.Issuer(realm),
		origin:        strings.TrimSuffix(k.Issuer(realm), "/realms/"+realm),
		subject:       keycloakSubject,
		adminRule:     "required_claim realm_access.roles admin",
		nameField:     "#username",
		passwordField: "#password",
		submit:        "#kc-login",
		endSession:    "/protocol/openid-connect/logout",
		confirmation:  "#kc-logout",
		restart:       "#reset-login",
		sessionCookie: "KEYCLOAK_SESSION",
	}
}

// endSessionURL is the address of that endpoint.
func (p *loginProvider) endSessionURL() string { return p.issuer + p.endSession }

// asks tells whether the tab shows a login form that has not been sent yet.
func (p *loginProvider) asks(tab *browser.Tab) bool {
	return tab.Has("html:not([data-sent]) " + p.nameField)
}

// asksWho waits for the login form.
func (p *loginProvider) asksWho(tab *browser.Tab) {
	tab.Wait("the login form", func(page browser.Page) bool {
		return strings.HasPrefix(page.URL, p.origin) && p.asks(tab)
	})
}

// signIn fills in the login form and sends it.
func (p *loginProvider) signIn(tab *browser.Tab, who person) {
	if p.choose != nil {
		p.asksWho(tab)
		tab.Click(p.choose(who))
		return
	}
	p.fillIn(tab, who)
	p.send(tab)
}

func (p *loginProvider) fillIn(tab *browser.Tab, who person) {
	p.asksWho(tab)
	tab.Fill(p.nameField, who.name)
	tab.Fill(p.passwordField, password)
}

// send sends a login form that is filled in, and gives the consent that the provider may ask for.
func (p *loginProvider) send(tab *browser.Tab) {
	browser.Evaluate[string](tab, `document.documentElement.dataset.sent = "yes"`)
	tab.Click(p.submit)
	if p.consent == "" {
		return
	}
	tab.Wait("the consent page or the site", func(page browser.Page) bool {
		return !strings.HasPrefix(page.URL, p.origin) || tab.Has(p.consent)
	})
	if tab.Has(p.consent) {
		tab.Click(p.consent)
	}
}
