package e2e

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/provider"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/glewlwyd"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/hydra"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/keycloak"
)

// matrixProvider is a column of the matrix: a provider where people log in and services get tokens.
type matrixProvider struct {
	name, version string
	// documented is the issuer as the page names it.
	documented string
	// documentedIntrospection is the introspection endpoint likewise, if it is not in the metadata.
	documentedIntrospection string
	// start runs the provider.
	start func(*testing.T, *matrixProvider, loginOptions) *loginProvider

	// service is a client that gets JWTs, and tokenParameters are those of its request.
	service         client
	tokenParameters url.Values
	// asks is the client whose tokens are introspected, and introspection what a site needs for that.
	asks          client
	introspection func(*loginProvider) []string
	// refusedFor is what the logout tokens of the provider lack, so that they are refused.
	refusedFor string
	// hinted says that the page for logouts at the provider wants an ID token.
	hinted bool
	// rotate has the provider sign with a new key.
	rotate func(*testing.T)
	// signOut ends somebody's session at the provider; nil if there is a page for it.
	signOut func(*testing.T, person)
}

// matrixProviders are all of them.
func matrixProviders(t *testing.T) []*matrixProvider {
	t.Helper()
	distribution, err := glewlwyd.Version()
	if err != nil {
		t.Fatal(err)
	}
	asResource := func(*loginProvider) []string {
		return []string{"client_id " + api.ID, "client_secret " + secret}
	}
	asReader := func(*loginProvider) []string {
		return []string{"client_id " + reader.ID, "client_secret " + secret, "introspection always"}
	}
	scopeless := client{reader.ID, secret, nil, apiAudience, false}
	return []*matrixProvider{
		{
			name: "zitadel/oidc", version: moduleVersion(t, "github.com/zitadel/oidc/v3"), documented: "https://id.example.com",
			start: startMatrixZitadel, service: reader, asks: opaqueReader, introspection: asResource,
		},
		{
			name: "oidc-provider", version: packageVersion(t, "oidc-provider"), documented: "https://id.example.com",
			start: startMatrixNode, service: reader, asks: opaqueReader, introspection: asResource,
		},
		{
			name: "Keycloak", version: keycloak.Version, documented: "https://id.example.com/realms/example",
			start: startMatrixKeycloak, service: scopeless, asks: scopeless, introspection: asReader,
		},
		{
			name: "ORY Hydra", version: hydra.Version, documented: "https://id.example.com",
			documentedIntrospection: "http://127.0.0.1:4445/admin/oauth2/introspect",
			start:                   startMatrixHydra, refusedFor: "exp", service: reader, asks: opaqueReader, tokenParameters: url.Values{"audience": {apiAudience}},
			introspection: func(p *loginProvider) []string {
				return append(asResource(p), "introspection_endpoint "+p.introspectionEndpoint)
			},
		},
		{
			name: "Glewlwyd", version: distribution, documented: "https://id.example.com/api/oidc",
			start: startMatrixGlewlwyd, hinted: true, refusedFor: "exp", service: reader, asks: reader, tokenParameters: url.Values{"resource": {apiAudience}},
			introspection: asReader,
		},
	}
}

// moduleVersion is the version of a module that this one is built with.
func moduleVersion(t *testing.T, module string) string {
	t.Helper()
	output, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

// packageVersion is that of a package on Node.js.
func packageVersion(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(nodeDirectory, "node_modules", name, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Version string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	return manifest.Version
}

// startMatrixZitadel starts the provider of the demo, which is the op package with a login page that asks for no password. It sends its
// logout tokens itself, as the package leaves that to those who use it.
func startMatrixZitadel(t *testing.T, m *matrixProvider, o loginOptions) *loginProvider {
	t.Helper()
	z := newZitadelProvider(t).(*zitadelProvider)
	z.provider.Register(provider.Application{
		ID: webClient, Secret: secret, RedirectURIs: o.redirectURIs, PostLogoutRedirectURIs: o.postLogoutURIs,
		BackchannelLogoutURI: o.backchannelURI, Scopes: []string{"groups"}, TokenLifetime: o.tokenLifetime,
	})
	subject := func(who person) string {
		for _, p := range provider.People() {
			if p.Username == who.name {
				return p.Subject
			}
		}
		return ""
	}
	m.rotate = z.rotate
	m.signOut = func(t *testing.T, who person) {
		t.Helper()
		if err := z.provider.SignOut(t.Context(), subject(who)); err != nil {
			t.Fatal(err)
		}
	}
	return &loginProvider{
		name: "zitadel", client: webClient, user: alice, issuer: z.issuer(), origin: z.issuer(), subject: subject,
		scopes: "groups", offlineScope: "offline_access", endSession: "/end_session",
		nameField: "button[name=person]",
		choose:    func(who person) string { return "button[name=person][value=" + who.name + "]" },
		grants: func(*testing.T) grants {
			renewals := z.provider.Renewals()
			return grants{renewals.Granted, renewals.Reused}
		},
	}
}

func startMatrixNode(t *testing.T, m *matrixProvider, o loginOptions) *loginProvider {
	t.Helper()
	p := newNodeLoginWith(t, o)
	m.rotate = p.node.rotate
	return p
}

// startMatrixKeycloak starts a realm, as its keys change.
func startMatrixKeycloak(t *testing.T, m *matrixProvider, o loginOptions) *loginProvider {
	t.Helper()
	services := keycloak.Client{ID: reader.ID, Secret: secret, ServiceAccount: true, Audience: apiAudience}
	web := keycloakClient(webClient, o)
	realm := keycloak.Realm{Name: "matrix", Clients: []keycloak.Client{web, services}}
	for _, who := range []person{alice, bob} {
		user := keycloakUser(who)
		user.ID = "matrix-" + who.name
		realm.Users = append(realm.Users, user)
	}
	k := keycloakServer.get(t)
	admin, err := k.AddRealm(t.Context(), realm)
	if err != nil {
		t.Fatal(err)
	}
	p := keycloakLogin(k, realm.Name)
	p.admin = admin
	p.is("")
	p.subject = func(who person) string { return "matrix-" + who.name }
	m.rotate = func(t *testing.T) {
		t.Helper()
		if err := admin.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func startMatrixHydra(t *testing.T, m *matrixProvider, o loginOptions) *loginProvider {
	t.Helper()
	var accounts []hydra.Account
	for _, p := range []person{alice, bob} {
		accounts = append(accounts, hydra.Account{Name: p.name, Password: password, Claims: map[string]any{"groups": p.groups}})
	}
	h, err := hydra.Start(accounts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	lifetime := o.tokenLifetime.String()
	registered := []hydra.Client{{
		ID: webClient, Secret: secret, GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		Scope: "openid profile offline_access", RedirectURIs: o.redirectURIs, PostLogoutURIs: o.postLogoutURIs,
		BackchannelURI: o.backchannelURI, BackchannelSessionRequired: true, CodeTokenLifetime: lifetime, RenewedTokenLifetime: lifetime,
	}}
	for _, c := range []client{reader, opaqueReader} {
		strategy := "jwt"
		if c.Opaque {
			strategy = "opaque"
		}
		registered = append(registered, hydra.Client{
			ID: c.ID, Secret: c.Secret, GrantTypes: []string{"client_credentials"}, Scope: strings.Join(c.Scopes, " "),
			Audience: []string{c.Audience}, AccessTokenStrategy: strategy,
		})
	}
	for _, c := range registered {
		if err := h.AddClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	m.rotate = func(t *testing.T) {
		t.Helper()
		if err := h.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return &loginProvider{
		name: "hydra", client: webClient, user: alice, issuer: h.Issuer(), origin: h.Issuer(),
		subject:      func(who person) string { return hydra.Subject(who.name) },
		offlineScope: "offline_access", endSession: "/oauth2/sessions/logout", confirmation: "#sign-out",
		nameField: "#name", passwordField: "#password", submit: "#sign-in",
		introspectionEndpoint: h.IntrospectionEndpoint(),
		grants: func(*testing.T) (g grants) {
			g.Given, g.Refused = h.Grants()
			return g
		},
	}
}

func startMatrixGlewlwyd(t *testing.T, m *matrixProvider, o loginOptions) *loginProvider {
	t.Helper()
	settings := glewlwyd.Settings{
		AccessTokenLifetime: o.tokenLifetime, Scopes: reader.Scopes,
		Clients: []glewlwyd.Client{
			{
				ID: webClient, Secret: secret, GrantTypes: []string{"code", "refresh_token", "client_credentials"},
				RedirectURIs: o.redirectURIs, PostLogoutURI: o.postLogoutURIs[0], BackchannelURI: o.backchannelURI,
			},
			{
				ID: reader.ID, Secret: secret, GrantTypes: []string{"client_credentials"},
				Scopes: reader.Scopes, Resources: []string{apiAudience},
			},
		},
	}
	for _, p := range []person{alice, bob} {
		settings.Users = append(settings.Users, glewlwyd.User{Name: p.name, Password: password, Groups: p.groups})
	}
	g, err := glewlwyd.Start(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	m.rotate = func(t *testing.T) {
		t.Helper()
		if err := g.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return &loginProvider{
		name: "glewlwyd", client: webClient, user: alice, issuer: g.Issuer(), origin: g.Origin(),
		subject: func(who person) string {
			subject, err := g.Subject(who.name)
			if err != nil {
				t.Error(err)
			}
			return subject
		},
		endSession: "/end_session", confirmation: ".btn-group > .btn-danger:first-child", asksAlways: true,
		nameField: "#username", passwordField: "#password", submit: "button[name=loginbut]",
		consent: "button.btn-success", // which goes on
		grants: func(*testing.T) (gr grants) {
			gr.Given, gr.Refused = g.Grants()
			return gr
		},
	}
}
