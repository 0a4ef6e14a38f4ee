package hydra

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/front"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// patience is how long Hydra may take to start.
const patience = 5 * time.Minute

// Hydra is a running server, with pages where people log in.
type Hydra struct {
	admin     string
	accounts  []Account
	directory string
	process   *subprocess.Process
	front     *front.Front
}

// Account is somebody who may log in.
type Account struct {
	Name, Password string
	// Claims go into ID tokens and the userinfo answer.
	Claims map[string]any
}

// Client is a confidential client, as Hydra's administration knows it.
type Client struct {
	ID             string   `json:"client_id"`
	Secret         string   `json:"client_secret"`
	GrantTypes     []string `json:"grant_types"`
	ResponseTypes  []string `json:"response_types,omitempty"`
	Scope          string   `json:"scope"`
	Audience       []string `json:"audience,omitempty"`
	RedirectURIs   []string `json:"redirect_uris,omitempty"`
	PostLogoutURIs []string `json:"post_logout_redirect_uris,omitempty"`

	BackchannelURI             string `json:"backchannel_logout_uri,omitempty"`
	BackchannelSessionRequired bool   `json:"backchannel_logout_session_required,omitempty"`

	// AccessTokenStrategy is "opaque" or "jwt". By itself Hydra issues opaque tokens.
	AccessTokenStrategy string `json:"access_token_strategy,omitempty"`
	// The lifetimes of access tokens, by how the client gets them. By itself Hydra lets them live for an hour.
	CodeTokenLifetime    string `json:"authorization_code_grant_access_token_lifespan,omitempty"`
	RenewedTokenLifetime string `json:"refresh_token_grant_access_token_lifespan,omitempty"`
}

type object map[string]any

// Start runs Hydra with these people and waits until it serves. It keeps all in memory.
func Start(accounts ...Account) (*Hydra, error) {
	binary, err := install()
	if err != nil {
		return nil, err
	}
	h := &Hydra{accounts: accounts, front: front.New()}
	if h.directory, err = os.MkdirTemp("", "hydra-*"); err != nil {
		return nil, err
	}
	if err := h.start(binary); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Hydra) start(binary string) error {
	public, err := subprocess.FreePort()
	if err != nil {
		return err
	}
	administration, err := subprocess.FreePort()
	if err != nil {
		return err
	}
	h.admin = fmt.Sprintf("http://127.0.0.1:%d", administration)
	h.servePages()
	h.front.Serve(fmt.Sprintf("127.0.0.1:%d", public), "/oauth2/token")
	config, err := json.Marshal(object{
		"dsn": "memory",
		"serve": object{
			"public":  object{"host": "127.0.0.1", "port": public},
			"admin":   object{"host": "127.0.0.1", "port": administration},
			"cookies": object{"same_site_mode": "Lax"},
		},
		"urls": object{
			"self":  object{"issuer": h.Issuer()},
			"login": h.Issuer() + loginPath, "consent": h.Issuer() + consentPath, "logout": h.Issuer() + logoutPath,
		},
		"secrets": object{"system": []string{rand.Text()}},
	})
	if err != nil {
		return err
	}
	file := filepath.Join(h.directory, "hydra.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	// --dev lets the issuer be http.
	if h.process, err = subprocess.Start(binary, "serve", "all", "--dev", "--sqa-opt-out", "--config", file); err != nil {
		return err
	}
	// Hydra makes its key when somebody asks for it, which takes a while.
	return h.process.Wait(h.Issuer()+"/.well-known/jwks.json", patience)
}

// Close ends Hydra and its pages.
func (h *Hydra) Close() (err error) {
	if h.process != nil {
		err = h.process.Close()
	}
	h.front.Close()
	return errors.Join(err, os.RemoveAll(h.directory))
}

// Issuer is where Hydra is, and its pages are.
func (h *Hydra) Issuer() string { return h.front.URL() }

// IntrospectionEndpoint is where resources ask about tokens. Hydra's metadata does not tell it, as it is a part of the administration,
// which asks nobody for a secret.
func (h *Hydra) IntrospectionEndpoint() string { return h.admin + "/admin/oauth2/introspect" }

// Grants counts refresh tokens, those that were redeemed and those that were refused.
func (h *Hydra) Grants() (given, refused int) { return h.front.Grants() }

// AddClient registers a client.
func (h *Hydra) AddClient(ctx context.Context, c Client) error {
	return h.call(ctx, http.MethodPost, "/admin/clients", c, nil)
}

// Rotate has Hydra sign with new keys. Those before them stay published.
func (h *Hydra) Rotate(ctx context.Context) error {
	for _, set := range []string{"hydra.openid.id-token", "hydra.jwt.access-token"} {
		key := object{"alg": "RS256", "use": "sig", "kid": rand.Text()}
		if err := h.call(ctx, http.MethodPost, "/admin/keys/"+set, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// call makes a request of the administration. Body and answer are JSON, if there are any.
func (h *Hydra) call(ctx context.Context, method, path string, body, answer any) error {
	var content bytes.Buffer
	if err := json.NewEncoder(&content).Encode(body); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, h.admin+path, &content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking Hydra to %s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("Hydra answers %s to %s %s: %s", resp.Status, method, strings.SplitN(path, "?", 2)[0], text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// request asks about, or decides on, a login, a consent or a logout.
func (h *Hydra) request(ctx context.Context, method, kind, action, challenge string, body, answer any) error {
	path := "/admin/oauth2/auth/requests/" + kind + action + "?" + url.Values{kind + "_challenge": {challenge}}.Encode()
	return h.call(ctx, method, path, body, answer)
}
