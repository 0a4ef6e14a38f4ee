package keycloak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// patience is how long Keycloak may take to start.
const patience = 3 * time.Minute

// Keycloak ends, and removes itself, when its input does: so it does not outlive a test that is killed.
const script = `
trap 'rm -rf "$PWD"' EXIT
bin/kc.sh "$@" </dev/null &
read -r _
kill $!
wait $!
`

// Keycloak is a running server with one realm.
type Keycloak struct {
	issuer  string
	command *exec.Cmd
	stdin   io.Closer
	output  bytes.Buffer
}

// Start runs Keycloak with a realm and waits until it answers.
func Start(realm Realm) (*Keycloak, error) {
	home, err := install()
	if err != nil {
		return nil, err
	}
	directory, err := os.MkdirTemp("", "keycloak-*")
	if err != nil {
		return nil, err
	}
	k := new(Keycloak)
	if err := k.start(home, directory, realm); err != nil {
		_ = os.RemoveAll(directory)
		return nil, err
	}
	if err := k.wait(); err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("%w\n%s", err, &k.output)
	}
	return k, nil
}

func (k *Keycloak) start(home, directory string, realm Realm) error {
	if err := os.CopyFS(directory, os.DirFS(home)); err != nil {
		return fmt.Errorf("copying Keycloak: %w", err)
	}
	imports := filepath.Join(directory, "data", "import")
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
	port, err := freePort()
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	k.issuer = url + "/realms/" + realm.Name

	k.command = exec.Command("sh", "-c", script, "sh", "start", "--optimized", "--import-realm", "--cache=local",
		"--http-enabled=true", "--http-host=127.0.0.1", fmt.Sprintf("--http-port=%d", port), "--hostname="+url)
	k.command.Dir = directory
	k.command.Env = append(os.Environ(), "JAVA_OPTS_KC_HEAP=-Xms64m -Xmx400m", "JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1")
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
func (k *Keycloak) wait() error {
	client := http.Client{Timeout: 5 * time.Second}
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		resp, err := client.Get(k.issuer + "/.well-known/openid-configuration")
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

// Issuer is that of the realm.
func (k *Keycloak) Issuer() string { return k.issuer }

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

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
