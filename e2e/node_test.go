package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const nodeDirectory = "oidc-provider"

// nodeProvider is oidc-provider on Node.js. It signs with ES256 and forgets keys and tokens when it is stopped.
type nodeProvider struct {
	url    string
	port   int
	node   *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr *bytes.Buffer
	login  *nodeLogin
}

// nodeLogin is who logs in, and where, at an oidc-provider that people use.
type nodeLogin struct {
	Client nodeClient                `json:"client"`
	People map[string]map[string]any `json:"people"`
}

type nodeClient struct {
	ID           string   `json:"id"`
	Secret       string   `json:"secret"`
	RedirectURIs []string `json:"redirectURIs"`

	PostLogoutURIs []string `json:"postLogoutURIs"`
	BackchannelURI string   `json:"backchannelURI"` // if empty, it is told of no logout

	// TokenLifetime is that of access tokens, in seconds. Zero is an hour.
	TokenLifetime int `json:"tokenLifetime"`
}

func newNodeProvider(t *testing.T) identityProvider {
	t.Helper()
	return newNodeProviderWith(t, nil)
}

// newNodeProviderWith starts one where people can log in too.
func newNodeProviderWith(t *testing.T, login *nodeLogin) *nodeProvider {
	t.Helper()
	ports, err := freePorts(1) // to which it can come back
	if err != nil {
		t.Fatal(err)
	}
	n := &nodeProvider{login: login, port: ports[0]}
	n.start(t)
	t.Cleanup(func() {
		if n.node != nil {
			n.stop(t)
		}
	})
	return n
}

func (n *nodeProvider) issuer() string { return n.url }

func (n *nodeProvider) start(t *testing.T) {
	t.Helper()
	n.stderr = new(bytes.Buffer)
	n.node = exec.Command("node", "server.mjs")
	n.node.Dir = nodeDirectory
	n.node.Stderr = n.stderr
	stdout, err := n.node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.stdout = bufio.NewReader(stdout)
	if n.stdin, err = n.node.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := n.node.Start(); err != nil {
		t.Fatalf("starting Node.js, which these tests need: %v", err)
	}
	options, err := json.Marshal(map[string]any{
		"port": n.port, "clients": clients, "resources": resources, "login": n.login,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.url = n.tell(t, string(options))
}

// stop closes the server's input, which is how it is told to end.
func (n *nodeProvider) stop(t *testing.T) {
	t.Helper()
	if err := n.stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := n.node.Wait(); err != nil {
		t.Errorf("oidc-provider: %v\n%s", err, n.stderr)
	}
	n.node = nil
}

func (n *nodeProvider) rotate(t *testing.T) {
	t.Helper()
	if answer := n.tell(t, "rotate"); answer != "rotated" {
		t.Fatalf("oidc-provider answers %q to a rotation", answer)
	}
}

// grants tells what became of refresh tokens.
func (n *nodeProvider) grants(t *testing.T) grants {
	t.Helper()
	var g grants
	if answer := n.tell(t, "grants"); json.Unmarshal([]byte(answer), &g) != nil {
		t.Fatalf("oidc-provider answers %q when asked about grants", answer)
	}
	return g
}

// tell sends a line to the server and reads the one that it answers.
func (n *nodeProvider) tell(t *testing.T, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(n.stdin, line); err != nil {
		t.Fatalf("telling oidc-provider: %v\n%s", err, n.stderr)
	}
	answer, err := n.stdout.ReadString('\n')
	if err != nil {
		_ = n.node.Wait() // so that all of its errors have arrived
		n.node = nil
		t.Fatalf("oidc-provider does not answer: %v\n%s", err, n.stderr)
	}
	return strings.TrimSpace(answer)
}
