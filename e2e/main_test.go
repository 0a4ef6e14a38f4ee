package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/gateway"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
	"github.com/caddy-openid-connect/caddy-openid-connect/demo/upstream"
	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// The Caddy and the upstream of this process.
var (
	inProcess   *gateway.Gateway
	application *httptest.Server
)

func TestMain(m *testing.M) {
	if os.Getenv(gatewayVariable) != "" {
		if err := serveGateway(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(commandVariable) != "" {
		caddycmd.Main() // ends by itself if the answer is not that all is well
		return
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if err := installNodeModules(); err != nil {
		return 0, err
	}
	application = httptest.NewServer(new(upstream.Handler))
	defer application.Close()
	if inProcess, err = gateway.New("ERROR"); err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, keycloakServer.close(), around.close(), inProcess.Close())
	}()
	// What runs at the same time waits for tokens and keys to become old, most of the time.
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// installNodeModules fetches what the lock file names, the first time.
func installNodeModules() error {
	if _, err := os.Stat(filepath.Join(nodeDirectory, "node_modules", ".package-lock.json")); err == nil {
		return nil
	}
	npm := func() *exec.Cmd { return exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts") }
	if output, err := subprocess.Fetch(nodeDirectory, npm); err != nil {
		return fmt.Errorf("installing oidc-provider with npm, which these tests need: %w\n%s", err, output)
	}
	return nil
}

// load runs a site that requires tokens of the issuer, with further subdirectives of openid_connect. It replaces the site
// before it.
func load(t *testing.T, issuer string, options ...string) *site {
	t.Helper()
	config := bearerSite(0, issuer, options...)
	if err := inProcess.LoadCaddyfile(config); err != nil {
		t.Fatalf("%v\n%s", err, config)
	}
	addresses, err := inProcess.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	if len(addresses) != 1 {
		t.Fatalf("Caddy listens on %q, want one address", addresses)
	}
	return &site{address: addresses[0]}
}

// bearerSite is the Caddyfile of such a site.
func bearerSite(port int, issuer string, options ...string) string {
	return fmt.Sprintf(`%s {
	bind 127.0.0.1
	openid_connect %s {
		bearer_only
		%s
	}
	reverse_proxy %s {
		header_up X-User {http.auth.user.id}
	}
}
`, siteAddress("http", port), issuer, strings.Join(options, "\n\t\t"), application.Listener.Addr())
}

// loadAlone runs such a site in a process of its own, so that other tests may run at the same time.
func loadAlone(t *testing.T, issuer string, options ...string) *site {
	t.Helper()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	newGateway(t).load(t, bearerSite(ports[0], issuer, options...))
	return &site{address: fmt.Sprintf("127.0.0.1:%d", ports[0])}
}

// site is what load runs.
type site struct{ address string }

func (s *site) request(token string) probe.Request {
	return probe.Request{Address: s.address, Host: siteHost, Path: "/orders", Token: token}
}

// get makes a request, with a token unless that is empty.
func (s *site) get(t *testing.T, token string) *probe.Answer {
	t.Helper()
	answer, err := s.request(token).Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// expect makes a request and compares what comes of it. The reason is that of a refusal.
func (s *site) expect(t *testing.T, what, token, outcome, reason string) *probe.Answer {
	t.Helper()
	answer := s.get(t, token)
	if got := answer.Outcome(); got != outcome {
		t.Errorf("%s: got %q, want %q\n%s", what, got, outcome, answer.Body)
	}
	if reason != "" {
		if got := answer.Reason(); got != reason {
			t.Errorf("%s: the reason is %q, want %q", what, got, reason)
		}
	}
	return answer
}
