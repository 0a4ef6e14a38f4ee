package keycloak

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"golang.org/x/oauth2/clientcredentials"
)

// adminAccount is the client that a new Keycloak lets change everything.
type adminAccount struct{ id, secret string }

func newAdminAccount() adminAccount { return adminAccount{"admin", rand.Text()} }

// client fetches its own tokens.
func (a adminAccount) client(server string) *http.Client {
	config := clientcredentials.Config{
		ClientID:     a.id,
		ClientSecret: a.secret,
		TokenURL:     server + "/realms/master/protocol/openid-connect/token",
	}
	return config.Client(context.Background())
}

// call makes a request of the admin API. Body and answer are JSON, if there are any.
func (k *Keycloak) call(ctx context.Context, method, path string, body, answer any) error {
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, k.url+"/admin/realms"+path, &content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := k.admin.Do(req)
	if err != nil {
		return fmt.Errorf("asking Keycloak to %s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("Keycloak answers %s to %s %s: %s", resp.Status, method, path, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// Admin changes a realm, and knows what happened in it.
type Admin struct {
	keycloak *Keycloak
	realm    string
}

// Admin is that of a realm which the server has.
func (k *Keycloak) Admin(realm string) *Admin { return &Admin{k, realm} }

// AddRealm adds a realm to those that the server has.
func (k *Keycloak) AddRealm(ctx context.Context, realm Realm) (*Admin, error) {
	return k.Admin(realm.Name), k.call(ctx, http.MethodPost, "", realm.representation(), nil)
}

// Add adds a client and a user, whose roles and groups there must be already. It returns the ID of the user.
func (a *Admin) Add(ctx context.Context, client Client, user User) (id string, err error) {
	body := object{"ifResourceExists": "FAIL", "clients": []object{client.representation()}, "users": []object{user.representation()}}
	if err := a.call(ctx, http.MethodPost, "/partialImport", body, nil); err != nil {
		return "", err
	}
	var users []named
	query := url.Values{"username": {user.Name}, "exact": {"true"}}
	if err := a.call(ctx, http.MethodGet, "/users?"+query.Encode(), nil, &users); err != nil {
		return "", err
	}
	if len(users) != 1 {
		return "", fmt.Errorf("there are %d users with the name %s, want 1", len(users), user.Name)
	}
	return users[0].ID, nil
}

func (a *Admin) call(ctx context.Context, method, path string, body, answer any) error {
	return a.keycloak.call(ctx, method, "/"+a.realm+path, body, answer)
}

// Rotate has the realm sign with a new key. Those before it stay published.
func (a *Admin) Rotate(ctx context.Context) error {
	var realm named
	if err := a.call(ctx, http.MethodGet, "", nil, &realm); err != nil {
		return err
	}
	return a.call(ctx, http.MethodPost, "/components", object{
		"name": rand.Text(), "parentId": realm.ID, "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
		// Keycloak signs with the key of the highest priority. Those that it makes by itself have 100.
		"config": object{"priority": []string{"200"}, "algorithm": []string{"RS256"}},
	}, nil)
}

// Disable closes somebody's account. It ends no session by itself.
func (a *Admin) Disable(ctx context.Context, id string) error {
	var account object
	if err := a.call(ctx, http.MethodGet, "/users/"+id, nil, &account); err != nil {
		return err
	}
	account["enabled"] = false
	return a.call(ctx, http.MethodPut, "/users/"+id, account, nil)
}

type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Sessions tells how many sessions somebody has.
func (a *Admin) Sessions(ctx context.Context, id string) (int, error) {
	sessions, err := a.sessions(ctx, id)
	return len(sessions), err
}

func (a *Admin) sessions(ctx context.Context, id string) (sessions []named, err error) {
	err = a.call(ctx, http.MethodGet, "/users/"+id+"/sessions", nil, &sessions)
	return sessions, err
}

// RemoveSessions ends all sessions that somebody has.
func (a *Admin) RemoveSessions(ctx context.Context, id string) error {
	sessions, err := a.sessions(ctx, id)
	if err != nil {
		return err
	}
	for _, session := range sessions {
		if err := a.RemoveSession(ctx, session.ID); err != nil {
			return err
		}
	}
	return nil
}

// RemoveSession ends one session, and returns once the clients that have a part in it were told by the back channel.
func (a *Admin) RemoveSession(ctx context.Context, session string) error {
	return a.call(ctx, http.MethodDelete, "/sessions/"+session, nil, nil)
}

// SignOut ends all sessions that somebody has, as the button in the admin console does, and tells the clients likewise.
func (a *Admin) SignOut(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodPost, "/users/"+id+"/logout", nil, nil)
}

// LeaveGroup takes somebody out of a group.
func (a *Admin) LeaveGroup(ctx context.Context, id, group string) error {
	var groups []named
	if err := a.call(ctx, http.MethodGet, "/users/"+id+"/groups", nil, &groups); err != nil {
		return err
	}
	for _, g := range groups {
		if g.Name == group {
			return a.call(ctx, http.MethodDelete, "/users/"+id+"/groups/"+g.ID, nil, nil)
		}
	}
	return fmt.Errorf("%s is not in the group %s", id, group)
}

// GiveRole gives somebody a role of the realm.
func (a *Admin) GiveRole(ctx context.Context, id, role string) error {
	return a.changeRole(ctx, http.MethodPost, id, role)
}

// TakeRole takes it away.
func (a *Admin) TakeRole(ctx context.Context, id, role string) error {
	return a.changeRole(ctx, http.MethodDelete, id, role)
}

func (a *Admin) changeRole(ctx context.Context, method, id, role string) error {
	var found named
	if err := a.call(ctx, http.MethodGet, "/roles/"+role, nil, &found); err != nil {
		return err
	}
	return a.call(ctx, method, "/users/"+id+"/role-mappings/realm", []named{found}, nil)
}

// Grants counts the refresh tokens of a client, those that were redeemed and those that were refused.
func (a *Admin) Grants(ctx context.Context, client string) (given, refused int, err error) {
	var events []struct {
		Type string `json:"type"`
	}
	query := url.Values{"client": {client}, "type": {refreshed, notRenewed}, "max": {"1000"}}
	if err := a.call(ctx, http.MethodGet, "/events?"+query.Encode(), nil, &events); err != nil {
		return 0, 0, err
	}
	for _, event := range events {
		if event.Type == refreshed {
			given++
		} else {
			refused++
		}
	}
	return given, refused, nil
}
