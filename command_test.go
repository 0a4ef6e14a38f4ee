package openidconnect

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// childCommand has this program be Caddy's command, with the arguments that follow.
const childCommand = "OPENID_CONNECT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(childCommand) != "" {
		os.Args[0] = "caddy"
		caddycmd.Main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ran is what became of a command.
type ran struct {
	code           int
	stdout, stderr string
}

// runCommand runs "caddy openid-connect" in a process of its own.
func runCommand(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), append([]string{"openid-connect"}, args...)...)
	cmd.Env = append(os.Environ(), childCommand+"=1", "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); err != nil && !ok { //nolint:errorlint // Run returns it as it is
		t.Fatal(err)
	} else if ok && exit.ExitCode() < 0 {
		t.Fatal(exit)
	}
	for _, written := range must(filepath.Glob(filepath.Join(home, "*", "*"))) {
		t.Errorf("caddy openid-connect %s has written %s", args[0], written)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (r ran) want(t *testing.T, code int, stdout, stderr []string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	for _, part := range stdout {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("%q is not in\n%s", part, r.stdout)
		}
	}
	for _, part := range stderr {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("%q is not in what is told as an error:\n%s", part, r.stderr)
		}
	}
}

func TestCommandsSayHowTheyAreUsed(t *testing.T) {
	t.Parallel()
	runCommand(t, "").want(t, 0, []string{"inspect", "explain", "convert-apisix", "secret", "exit code 0"}, nil)
	for _, name := range []string{"inspect", "explain", "convert-apisix", "secret"} {
		runCommand(t, "", name, "--help").want(t, 0, []string{"caddy openid-connect " + name, "Examples:"}, nil)
	}
	runCommand(t, "", "inspekt").want(t, 1, nil, []string{"inspekt"})
	runCommand(t, "", "inspect").want(t, 1, nil, []string{"the issuer", "is missing", "--help"})
	runCommand(t, "", "inspect", "a", "b").want(t, 1, nil, []string{"one argument too many"})
	runCommand(t, "", "inspect", "--tokn", "x").want(t, 1, nil, []string{"unknown flag: --tokn"})
	runCommand(t, "", "secret", "x").want(t, 1, nil, []string{"x"})
}

func TestCommandSecret(t *testing.T) {
	t.Parallel()
	first, second := runCommand(t, "", "secret"), runCommand(t, "", "secret")
	first.want(t, 0, nil, nil)
	secret := strings.TrimSuffix(first.stdout, "\n")
	if len(secret) != 43 || strings.ContainsAny(secret, " \t\n{}\"") || first.stdout == second.stdout {
		t.Errorf("%q and %q", first.stdout, second.stdout)
	}
	var object map[string]string
	if err := json.Unmarshal([]byte(runCommand(t, "", "secret", "--json").stdout), &object); err != nil || len(object["secret"]) != 43 {
		t.Errorf("%v, %v", object, err)
	}
	// long enough to be used as it is
	h := must(parse("issuer https://id.example.com\nclient_id c\nsession {\nsecret " + secret + "\n}"))
	if warnings := h.warnings(); len(warnings) > 0 {
		t.Error(warnings)
	}
}

// explainFile writes a configuration with two sites.
func explainFile(t *testing.T, p *optest.Provider) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := `
https://internal.example.com {
	tls internal
	acme_server
	respond ok
}
http://api.example.com {
	openid_connect ` + p.Issuer() + ` {
		bearer_only
		audience api
		required_scopes orders:read
	}
	respond ok
}
http://app.example.com {
	openid_connect ` + p.Issuer() + ` {
		client_id app
		ignore_bearer
	}
	respond ok
}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCommandExplain(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	file := explainFile(t, p)
	good := p.AccessToken(optest.Claims{"scope": "orders:read"})
	at := func(token string, more ...string) []string {
		return append(append([]string{"explain", "--config", file, "--site", "api.example.com"}, more...), token)
	}
	for _, test := range []struct {
		name, stdin    string
		args           []string
		code           int
		stdout, stderr []string
	}{
		{"accepted", "", at(good), 0, []string{"accepted", "signature", p.Issuer()}, nil},
		{"from the standard input", "Bearer " + good + "\n", at("-"), 0, []string{"accepted"}, nil},
		{"as a header", "\"Authorization: Bearer " + good + "\"\r\n", at("-"), 0, []string{"accepted"}, nil},
		{"two words", good[:40] + "\n" + good[40:], at("-"), 1, nil, []string{"more than one word"}},
		{"beginning with a hyphen", "", at("-Zsecret"), 1, nil, []string{"-- goes before"}},
		{"adapter named", "", at(good, "--adapter", "caddyfile"), 0, []string{"accepted"}, nil},
		{
			"another audience", "", at(p.AccessToken(optest.Claims{"aud": "others"})), 2,
			[]string{"refused: wrong_audience (status 401)", "failed    audience", "expected  api", "got       others", "hint "},
			nil,
		},
		{"no scope", "", at(p.AccessToken(nil)), 2, []string{"insufficient_scope (status 403)", "orders:read", "signature"}, nil},
		{"no call", "", at(good, "--offline"), 1, []string{"discovery_failed", "was not made", "without --offline"}, nil},
		{"bearer tokens left aside", "", []string{"explain", "-c", file, "--site", "app.example.com", good}, 2, []string{"not judged", "ignore_bearer"}, nil},
		{"JSON", "", at("nonsense", "--json"), 2, []string{`"accepted": false`, `"reason": "malformed_token"`, `"failed": "form"`}, nil},
		{"which site", "", []string{"explain", "-c", file, good}, 1, nil, []string{"--site", "http://api.example.com", "http://app.example.com"}},
		{"no such site", "", []string{"explain", "-c", file, "--site", "x.example.com", good}, 1, nil, []string{"no openid_connect is reached"}},
		{"no configuration", "", []string{"explain", good}, 1, nil, []string{"--config is missing"}},
		{"no such file", "", []string{"explain", "-c", file + "x", good}, 1, nil, []string{"no such file"}},
		{"no such adapter", "", at(good, "--adapter", "x"), 1, nil, []string{`no config adapter "x"`}},
		{"empty token", "\n", at("-"), 1, nil, []string{"the token is empty"}},
		{"no token", "", []string{"explain", "-c", file}, 1, nil, []string{"the token", "is missing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			answer := runCommand(t, test.stdin, test.args...)
			answer.want(t, test.code, test.stdout, test.stderr)
			if told := answer.stdout + answer.stderr; strings.Contains(told, signaturePart(good)) {
				t.Errorf("the token is told:\n%s", told)
			}
		})
	}
}

// A provider that is down is the answer, not a failure of the command.
func TestCommandExplainWithoutProvider(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	file, token := explainFile(t, p), p.AccessToken(optest.Claims{"scope": "orders:read"})
	p.Down()
	runCommand(t, "", "explain", "-c", file, "--site", "api.example.com", token).
		want(t, 1, []string{"refused: discovery_failed (status 503)", "cause "}, nil)
}

func TestCommandExplainReadsJSON(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	adapted := must(adaptCaddyfile(readFile(t, explainFile(t, p))))
	token := p.AccessToken(optest.Claims{"scope": "orders:read"})
	file := filepath.Join(t.TempDir(), "caddy.json")
	for _, test := range []struct {
		config string
		code   int
		stdout []string
		stderr []string
	}{
		{string(adapted), 0, []string{"accepted"}, nil},
		{"null", 1, nil, []string{"is empty"}},
		{"{}", 1, nil, []string{"there are no sites"}},
		{"{", 1, nil, []string{"caddy.json"}},
		{strings.ReplaceAll(string(adapted), `"audience"`, `"audienze"`), 1, nil, []string{"audienze"}},
		{strings.ReplaceAll(string(adapted), `"bearer_only":true`, `"bearer_only":true,"client_id":"c","client_secret":"{env.NO_SUCH_VARIABLE}"`), 1, nil, []string{"NO_SUCH_VARIABLE", "environment variables of the service"}},
	} {
		if err := os.WriteFile(file, []byte(test.config), 0o600); err != nil {
			t.Fatal(err)
		}
		runCommand(t, "", "explain", "-c", file, "--site", "api.example.com", token).want(t, test.code, test.stdout, test.stderr)
	}
}

// Of two things that are wrong with a token, the one of the earlier step is told, so what is said to be passed has been passed.
func TestStepsAreInOrder(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	forger := optest.NewKey(t, "RS256", "rs-1")
	key := p.Key("rs-1")
	type fault struct {
		step           string
		claims, header optest.Claims
	}
	faults := []fault{
		{step: "form", header: optest.Claims{"crit": []string{"x"}}},
		{step: "type", header: optest.Claims{"typ": "dpop+jwt"}},
		{step: "issuer", claims: optest.Claims{"iss": "https://other.example.com"}},
		{step: "dates", claims: optest.Claims{"exp": 1}},
		{step: "audience", claims: optest.Claims{"aud": "others"}},
		{step: "key", header: optest.Claims{"kid": "none"}},
		{step: "signature"},
		{step: "proof", claims: optest.Claims{"cnf": map[string]any{"unknown": "x"}}},
		{step: "rules", claims: optest.Claims{"scope": "nothing"}},
	}
	for _, settings := range []string{
		"issuer " + p.Issuer(),
		"discovery " + p.Issuer() + "/.well-known/openid-configuration",
	} {
		s := newSite(t, settings+"\nbearer_only\naudience api\nrequired_scopes orders:read")
		good := s.explains(p.AccessToken(optest.Claims{"scope": "orders:read"}), true)
		if !good.Accepted || good.Failed != "" {
			t.Fatalf("%+v", good)
		}
		for i, first := range faults {
			for _, second := range faults[i:] {
				claims, header := optest.Claims{"scope": "orders:read"}, optest.Claims{}
				signer := key
				for _, wrong := range []fault{first, second} {
					maps.Copy(claims, wrong.claims)
					maps.Copy(header, wrong.header)
					if wrong.step == "signature" {
						signer = forger
					}
				}
				explained := s.explains(optest.Sign(signer, header, p.AccessClaims(claims)), true)
				if explained.Accepted || explained.Failed != first.step {
					t.Errorf("%s and %s are wrong: %+v", first.step, second.step, explained)
				}
				at := slices.Index(good.Passed, first.step)
				if at < 0 || !slices.Equal(explained.Passed, good.Passed[:at]) {
					t.Errorf("%s is wrong, of %v: %v is said to be passed", first.step, good.Passed, explained.Passed)
				}
			}
		}
	}
}
