package glewlwyd

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"time"
)

// Settings are who and what Glewlwyd knows.
type Settings struct {
	// AccessTokenLifetime is in whole seconds.
	AccessTokenLifetime time.Duration
	// Scopes beyond openid.
	Scopes  []string
	Users   []User
	Clients []Client
}

// User is somebody with an account. Everybody has profile beside openid.
type User struct {
	Name, Password string
	Groups         []string
}

// Client is a confidential client.
type Client struct {
	ID     string
	Secret string
	// GrantTypes are what Glewlwyd calls authorization types: code, refresh_token, client_credentials.
	GrantTypes    []string
	RedirectURIs  []string
	PostLogoutURI string

	BackchannelURI string
	// Scopes are those that it gets for itself.
	Scopes []string
	// Resources are what its tokens may be for.
	Resources []string
}

// postLogoutURIs is the property of clients with the addresses where a logout may lead. By itself Glewlwyd has no place for it.
const postLogoutURIs = "post_logout_redirect_uris"

type object map[string]any

// key is a signing key.
type key struct {
	id      string
	private *rsa.PrivateKey
}

func newKey() (key, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	return key{rand.Text(), private}, err
}

func (k key) jwk() object {
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	p := k.private.Precomputed
	return object{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": k.id,
		"n": number(k.private.N), "e": number(big.NewInt(int64(k.private.E))), "d": number(k.private.D),
		"p": number(k.private.Primes[0]), "q": number(k.private.Primes[1]),
		"dp": number(p.Dp), "dq": number(p.Dq), "qi": number(p.Qinv),
	}
}

// setUp does what an administrator does in the pages of Glewlwyd.
func (g *Glewlwyd) setUp() error {
	ctx := context.Background()
	steps := []func() error{
		func() error {
			return g.call(ctx, http.MethodPost, "/auth/", object{"username": administrator, "password": administratorPassword})
		},
		func() error { return g.addProperty(ctx, "user", "groups") },
		func() error { return g.addProperty(ctx, "client", postLogoutURIs) },
	}
	for _, name := range append([]string{"profile"}, g.settings.Scopes...) {
		steps = append(steps, func() error {
			return g.call(ctx, http.MethodPost, "/scope/", object{"name": name, "display_name": name, "password_required": false, "scheme": object{}})
		})
	}
	steps = append(steps, func() error { return g.addPlugin(ctx, http.MethodPost, "") })
	for _, user := range g.settings.Users {
		steps = append(steps, func() error { return g.call(ctx, http.MethodPost, "/user/", user.representation()) })
	}
	for _, client := range g.settings.Clients {
		steps = append(steps, func() error { return g.call(ctx, http.MethodPost, "/client/", client.representation()) })
	}
	for _, user := range g.settings.Users {
		steps = append(steps, func() error { return g.grant(ctx, user) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// grant has somebody let the clients that log people in know about the account, as the pages of Glewlwyd ask for once.
func (g *Glewlwyd) grant(ctx context.Context, user User) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	self := http.Client{Jar: jar}
	if err := g.callAs(ctx, &self, http.MethodPost, "/auth/", object{"username": user.Name, "password": user.Password}, nil); err != nil {
		return err
	}
	for _, client := range g.settings.Clients {
		if len(client.RedirectURIs) == 0 {
			continue
		}
		if err := g.callAs(ctx, &self, http.MethodPut, "/auth/grant/"+client.ID, object{"scope": "openid profile"}, nil); err != nil {
			return err
		}
	}
	return nil
}

// addProperty lets users, or clients, have several values of a property, beside those that Glewlwyd knows by itself.
func (g *Glewlwyd) addProperty(ctx context.Context, kind, name string) error {
	address := "/mod/" + kind + "/database"
	var backend struct {
		Name        string `json:"name"`
		Module      string `json:"module"`
		DisplayName string `json:"display_name"`
		Order       int    `json:"order_rank"`
		ReadOnly    bool   `json:"readonly"`
		Parameters  object `json:"parameters"`
	}
	if err := g.callAs(ctx, &g.admin, http.MethodGet, address, nil, &backend); err != nil {
		return err
	}
	format, ok := backend.Parameters["data-format"].(map[string]any)
	if !ok {
		return fmt.Errorf("Glewlwyd does not say what a %s may have", kind)
	}
	format[name] = object{"multiple": true, "read": true, "write": true, "profile-read": true, "profile-write": false}
	if err := g.call(ctx, http.MethodPut, address, backend); err != nil {
		return err
	}
	return g.call(ctx, http.MethodPut, address+"/reset", nil)
}

// Rotate has Glewlwyd sign with a new key. Those before it stay published.
func (g *Glewlwyd) Rotate(ctx context.Context) error {
	if err := g.addPlugin(ctx, http.MethodPut, plugin); err != nil {
		return err
	}
	return g.call(ctx, http.MethodPut, "/mod/plugin/"+plugin+"/reset", nil)
}

// addPlugin describes the provider, with one more key than before.
func (g *Glewlwyd) addPlugin(ctx context.Context, method, name string) error {
	k, err := newKey()
	if err != nil {
		return err
	}
	g.keys = append([]key{k}, g.keys...)
	var jwks struct {
		Keys []object `json:"keys"`
	}
	for _, k := range g.keys {
		jwks.Keys = append(jwks.Keys, k.jwk())
	}
	private, err := json.Marshal(jwks)
	if err != nil {
		return err
	}
	return g.call(ctx, method, "/mod/plugin/"+name, object{
		"module": "oidc", "name": plugin, "display_name": plugin, "enabled": true,
		"parameters": object{
			"iss": g.Issuer(), "jwks-private": string(private), "jwks-show": true, "oauth-as-iss-id": true,
			"access-token-duration": int(g.settings.AccessTokenLifetime.Seconds()), "refresh-token-duration": 3600, "code-duration": 60,
			"refresh-token-rolling": true, "refresh-token-one-use": "always",
			"allow-non-oidc": true, "auth-type-code-enabled": true, "auth-type-client-enabled": true, "auth-type-refresh-enabled": true,
			"name-claim": "mandatory", "allowed-scope": []string{"openid", "profile"},
			"claims":                           []object{{"name": "groups", "user-property": "groups", "type": "string", "mandatory": true, "scope": []string{}}},
			"pkce-allowed":                     true,
			"introspection-revocation-allowed": true, "introspection-revocation-allow-target-client": true,
			"session-management-allowed": true, "session-cookie-name": "GLEWLWYD2_OIDC_SID", "session-cookie-expiration": 3600,
			"back-channel-logout-allowed": true, "front-channel-logout-allowed": true,
			"resource-allowed": true, "resource-client-property": "resource", "resource-scope": object{},
		},
	})
}

func (u User) representation() object {
	return object{
		"username": u.Name, "name": u.Name, "email": u.Name + "@e2e.localhost", "password": u.Password, "enabled": true,
		"scope": []string{"openid", "profile", "g_profile"}, "groups": u.Groups,
	}
}

func (c Client) representation() object {
	client := object{
		"client_id": c.ID, "name": c.ID, "enabled": true, "confidential": true, "client_secret": c.Secret,
		"authorization_type": c.GrantTypes, "token_endpoint_auth_method": []string{"client_secret_basic"},
		// Glewlwyd takes no null for an empty list.
		"redirect_uri": append([]string{}, c.RedirectURIs...), "scope": append([]string{}, c.Scopes...),
		"resource": append([]string{}, c.Resources...),
	}
	if c.PostLogoutURI != "" {
		client[postLogoutURIs] = []string{c.PostLogoutURI}
	}
	if c.BackchannelURI != "" {
		client["backchannel_logout_uri"] = c.BackchannelURI
	}
	return client
}

// call makes a request of the administration, with a body of JSON.
func (g *Glewlwyd) call(ctx context.Context, method, path string, body any) error {
	return g.callAs(ctx, &g.admin, method, path, body, nil)
}

// callAs makes a request of somebody with a session. The answer is JSON, if there is any.
func (g *Glewlwyd) callAs(ctx context.Context, who *http.Client, method, path string, body, answer any) error {
	var content bytes.Buffer
	if err := json.NewEncoder(&content).Encode(body); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, g.front.URL()+"/api"+path, &content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := who.Do(req)
	if err != nil {
		return fmt.Errorf("asking Glewlwyd to %s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("Glewlwyd answers %s to %s %s: %s", resp.Status, method, path, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
