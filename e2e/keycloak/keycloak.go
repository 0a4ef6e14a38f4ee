package keycloak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// patience is how long Keycloak may take to start.
const patience = 6 * time.Minute

// Keycloak ends, and removes itself, when its input does: so it does not outlive a test that is killed, not even while it is
// suspended.
const script = `
trap 'rm -rf "$PWD"' EXIT
bin/kc.sh "$@" </dev/null &
echo $! >` + processFile + `
read -r _
kill -CONT $(pgrep -P $!)
kill $!
wait $!
`

// processFile names the process whose child is the server.
const processFile = "process"

// Keycloak is a running server.
type Keycloak struct {
	url       string
	directory string
	command   *exec.Cmd
	stdin     io.Closer
	output    bytes.Buffer
	admin     *http.Client
}

// Start runs Keycloak with a realm and waits until it serves that.
func Start(realm Realm) (*Keycloak, error) {
	home, err := install()
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "keycloak-*")
	if err != nil {
		return nil, err
	}
	k := &Keycloak{directory: directory}
	if err := k.start(home, realm); err != nil {
		_ = os.RemoveAll(directory)
		return nil, err
	}
	if err := k.wait(realm.Name); err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("%w\n%s", err, &k.output)
	}
	return k, nil
}

func (k *Keycloak) start(home string, realm Realm) error {
	if err := os.CopyFS(k.directory, os.DirFS(home)); err != nil {
		return fmt.Errorf("copying Keycloak: %w", err)
	}
	imports := filepath.Join(k.directory, "data", "import")
	if err := os.MkdirAll(imports, 0o700); err != nil {
		return err
	}
	definition, err := json.Marshal(realm.representation())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(imports, "realm.json"), definition, 0o600); err != nil {
		return err
	}
	port, err := subprocess.FreePort()
	if err != nil {
		return err
	}
	k.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	account := newAdminAccount()
	k.admin = account.client(k.url)

	k.command = exec.Command("sh", "-c", script, "sh", "start", "--optimized", "--import-realm", "--cache=local",
		"--http-enabled=true", "--http-host=127.0.0.1", fmt.Sprintf("--http-port=%d", port), "--hostname="+k.url)
	k.command.Dir = k.directory
	k.command.Env = append(os.Environ(), "JAVA_OPTS_KC_HEAP=-Xms64m -Xmx400m", "JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1",
		"KC_BOOTSTRAP_ADMIN_CLIENT_ID="+account.id, "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET="+account.secret)
	k.command.Stdout, k.command.Stderr = &k.output, &k.output
	if k.stdin, err = k.command.StdinPipe(); err != nil {
		return err
	}
	if err := k.command.Start(); err != nil {
		return fmt.Errorf("starting Keycloak: %w", err)
	}
	return nil
}

// wait returns once the realm is served.
func (k *Keycloak) wait(realm string) error {
	client := http.Client{Timeout: 5 * time.Second}
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		resp, err := client.Get(k.Issuer(realm) + "/.well-known/openid-configuration")
		if err != nil {
			last = err
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		last = fmt.Errorf("it answers %s", resp.Status)
	}
	return fmt.Errorf("Keycloak does not serve its realm within %s: %w", patience, last)
}

// Issuer is that of a realm.
func (k *Keycloak) Issuer(realm string) string { return k.url + "/realms/" + realm }

// Suspend has the server do nothing at all until Resume: it keeps its connections, and the system accepts more for it.
func (k *Keycloak) Suspend() error { return k.signal(syscall.SIGSTOP) }

// Resume has a suspended server go on.
func (k *Keycloak) Resume() error { return k.signal(syscall.SIGCONT) }

func (k *Keycloak) signal(signal os.Signal) error {
	parent, err := os.ReadFile(filepath.Join(k.directory, processFile))
	if err != nil {
		return err
	}
	server, err := exec.Command("pgrep", "-P", strings.TrimSpace(string(parent))).Output()
	if err != nil {
		return fmt.Errorf("finding the process of Keycloak: %w", err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(string(server)))
	if err != nil {
		return fmt.Errorf("finding the process of Keycloak: %w", err)
	}
	process, err := os.FindProcess(id)
	if err != nil {
		return err
	}
	return process.Signal(signal)
}

// Close stops Keycloak. Nothing of what it knew is kept.
func (k *Keycloak) Close() error {
	if err := k.stdin.Close(); err != nil {
		return err
	}
	if err := k.command.Wait(); err != nil && k.command.ProcessState.ExitCode() != 143 { // ended by SIGTERM
		return fmt.Errorf("stopping Keycloak: %w\n%s", err, &k.output)
	}
	return nil
}
