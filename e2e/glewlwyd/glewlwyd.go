// Package glewlwyd runs a Glewlwyd on 127.0.0.1 for tests. It needs Debian's package of it, and sqlite3, which comes with that.
package glewlwyd

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/front"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// patience is how long Glewlwyd may take to start.
const patience = 3 * time.Minute

// schema makes an empty database, in which there is an administrator.
const schema = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3"

// The pages, and their settings.
const (
	pages        = "/usr/share/glewlwyd/webapp"
	pageSettings = "/usr/share/glewlwyd/templates/config.json"
)

// The name and the password of that administrator.
const administrator, administratorPassword = "admin", "password"

// plugin is the name of the part that is an OpenID provider. It is in the path of each of its endpoints.
const plugin = "oidc"

// Glewlwyd is a running server.
type Glewlwyd struct {
	directory string
	front     *front.Front
	process   *subprocess.Process
	admin     http.Client // has the session of the administrator
	keys      []key       // the newest first
	settings  Settings
}

// configuration has no name or password in it. The address is that of the front.
const configuration = `port = %d
bind_address = "127.0.0.1"
external_url = "%s"
login_url = "login.html"
api_prefix = "api"
static_files_path = "%s/"
static_files_mime_types = (
	{ extension = ".html", mime_type = "text/html", compress = 0 },
	{ extension = ".css", mime_type = "text/css", compress = 0 },
	{ extension = ".js", mime_type = "application/javascript", compress = 0 },
	{ extension = ".json", mime_type = "application/json", compress = 0 }
)
log_mode = "console"
log_level = "INFO"
cookie_secure = 0
cookie_domain = "127.0.0.1"
session_key = "GLEWLWYD2_SESSION_ID"
user_module_path = "/usr/lib/glewlwyd/user"
client_module_path = "/usr/lib/glewlwyd/client"
user_auth_scheme_module_path = "/usr/lib/glewlwyd/scheme"
plugin_module_path = "/usr/lib/glewlwyd/plugin"
hash_algorithm = "SHA512"
database = { type = "sqlite3", path = "%s" }
`

// Start runs Glewlwyd and sets it up.
func Start(settings Settings) (*Glewlwyd, error) {
	g := &Glewlwyd{front: front.New(), settings: settings}
	var err error
	if g.directory, err = os.MkdirTemp("", "glewlwyd-*"); err != nil {
		return nil, err
	}
	if g.admin.Jar, err = cookiejar.New(nil); err != nil {
		return nil, err
	}
	if err = g.start(); err == nil {
		err = g.setUp()
	}
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Glewlwyd) start() error {
	port, err := subprocess.FreePort()
	if err != nil {
		return err
	}
	file := filepath.Join(g.directory, "glewlwyd.conf")
	if err := newDatabase(g.database()); err != nil {
		return err
	}
	static := filepath.Join(g.directory, "pages")
	if err := copyPages(static); err != nil {
		return err
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, configuration, port, g.front.URL(), static, g.database()), 0o600); err != nil {
		return err
	}
	g.front.Serve(fmt.Sprintf("127.0.0.1:%d", port), "/api/"+plugin+"/token")
	if g.process, err = subprocess.Start("glewlwyd", "--config-file="+file); err != nil {
		return err
	}
	return g.process.Wait(g.front.URL()+"/config", patience)
}

func newDatabase(file string) error {
	tables, err := os.Open(schema)
	if err != nil {
		return fmt.Errorf("these tests need Debian's package glewlwyd: %w", err)
	}
	defer tables.Close()
	command := exec.Command("sqlite3", file)
	command.Stdin = tables
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("making the database of Glewlwyd: %w\n%s", err, output)
	}
	return nil
}

// copyPages makes a copy in which there are no links: Glewlwyd does not follow those of the package to the libraries that the pages use,
// and the one to their settings leads to a directory.
func copyPages(directory string) error {
	if output, err := exec.Command("cp", "-RL", pages, directory).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the pages of Glewlwyd: %w\n%s", err, output)
	}
	settings, err := os.ReadFile(pageSettings)
	if err != nil {
		return err
	}
	file := filepath.Join(directory, "config.json")
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	return os.WriteFile(file, settings, 0o600)
}

// Version is that of the package.
func Version() (string, error) {
	output, err := exec.Command("glewlwyd", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("these tests need Debian's package glewlwyd: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}

// Issuer is what its tokens say.
func (g *Glewlwyd) Issuer() string { return g.front.URL() + "/api/" + plugin }

// Origin is where its pages are.
func (g *Glewlwyd) Origin() string { return g.front.URL() }

// Subject is the sub of somebody who has logged in before: Glewlwyd chooses it at that time.
func (g *Glewlwyd) Subject(name string) (string, error) {
	query := "SELECT gposi_sub FROM gpo_subject_identifier WHERE gposi_username = '" + name + "'"
	output, err := exec.Command("sqlite3", "-readonly", g.database(), query).Output()
	if err != nil {
		return "", fmt.Errorf("asking for the subject of %s: %w", name, err)
	}
	return strings.TrimSpace(string(output)), nil
}

func (g *Glewlwyd) database() string { return filepath.Join(g.directory, "database") }

// Grants counts refresh tokens, those that were redeemed and those that were refused.
func (g *Glewlwyd) Grants() (given, refused int) { return g.front.Grants() }

// Close ends Glewlwyd. Nothing of what it knew is kept.
func (g *Glewlwyd) Close() (err error) {
	if g.process != nil {
		err = g.process.Close()
	}
	g.front.Close()
	return errors.Join(err, os.RemoveAll(g.directory))
}
