package openidconnect

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// What a Caddy in a process of its own is told by the environment.
const (
	childConfig = "OPENID_CONNECT_TEST_CONFIG" // file with JSON
	childRuns   = "OPENID_CONNECT_TEST_RUN"    // run it, rather than validate it
)

// TestValidateTouchesNothing: "caddy validate" opens no connection and writes no file, whatever is configured, so that it works
// offline and on the machine of whoever writes the configuration. The same configuration, run, does both, or else the test could not
// tell.
func TestValidateTouchesNothing(t *testing.T) {
	if file := os.Getenv(childConfig); file != "" {
		validateOrRun(t, readFile(t, file), os.Getenv(childRuns) != "")
		return
	}
	t.Parallel()
	listener := newCountedListener(t)
	authority := optest.NewCertificate(t, nil)
	certificatePEM, keyPEM := optest.CertificatePEM(t, authority)
	files := t.TempDir()
	for name, content := range map[string][]byte{"certificate.pem": certificatePEM, "key.pem": keyPEM, "client.pem": []byte(privateKeyPEM)} {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	site := func(address string) string {
		return strings.NewReplacer("$SITE", address, "$ISSUER", "http://"+listener.Addr().String(), "$DIR", filepath.ToSlash(files)).Replace(`
		$SITE {
			bind 127.0.0.1
			openid_connect $ISSUER {
				bearer_only
				audience api
				protected_resource
			}
			openid_connect /always/* $ISSUER {
				bearer_only
				client_id my-api
				client_private_key $DIR/client.pem
				introspection always
				unauth_action pass /always/open/*
			}
			openid_connect /keys/* $ISSUER {
				bearer_only
				audience api
				jwks_uri $ISSUER/keys
				timeout 1s
				jwk_expires_in 1m
			}
			openid_connect /tls/* $ISSUER {
				bearer_only
				client_id my-api
				client_secret secret
				introspection_endpoint $ISSUER/introspect
				tls_trust_pool file $DIR/certificate.pem
				tls_client_certificate $DIR/certificate.pem $DIR/key.pem
				network_proxy none
			}
			openid_connect /discovery/* {
				discovery $ISSUER/.well-known/openid-configuration
				bearer_only
				audience any
			}
			openid_connect /login/* $ISSUER {
				client_id my-app
				client_secret secret
				path_prefix /login/oauth2
				session {
					secret 0123456789abcdef0123456789abcdef
				}
			}
			openid_connect /generated/* $ISSUER {
				client_id my-other-app
				client_private_key $DIR/client.pem
				path_prefix /generated/oauth2
				session {
					storage caddy
				}
			}
		}
		`)
	}
	t.Run("validate", func(t *testing.T) {
		child := startChild(t, "{\nadmin off\n}\n"+site("http://:0")+site("api.example.com"), false)
		child.wait()
		if n := listener.connections(); n != 0 {
			t.Errorf("%d connections to the provider", n)
		}
		if written := child.written(); len(written) > 0 {
			t.Errorf("wrote %v", written)
		}
	})
	t.Run("run", func(t *testing.T) {
		child := startChild(t, "{\nadmin off\n}\n"+site("http://:0"), true)
		select {
		case <-listener.accepted:
		case <-child.done:
			t.Error("ended before it called the provider")
		case <-time.After(time.Minute):
			t.Error("does not call the provider")
		}
		child.wait()
		if len(child.written()) == 0 {
			t.Error("wrote nothing")
		}
	})
}

// validateOrRun is what the child does.
func validateOrRun(t *testing.T, config string, run bool) {
	if !run {
		var cfg *caddy.Config
		if err := caddy.StrictUnmarshalJSON([]byte(config), &cfg); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(cfg); err != nil {
			t.Fatal(err)
		}
		fmt.Println("child has validated")
		return
	}
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until the parent has seen enough
		t.Fatal(err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}

// child is this test in a process of its own, in empty directories.
type child struct {
	t     *testing.T
	home  string
	stdin io.Closer
	done  chan struct{}
	err   error
	text  strings.Builder
}

func startChild(t *testing.T, config string, run bool) *child {
	t.Helper()
	adapted, err := adaptStrictly(t, string(caddyfile.Format([]byte(config))))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, adapted, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, home: t.TempDir(), done: make(chan struct{})}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestValidateTouchesNothing$", "-test.count=1")
	command.Dir = c.home
	command.Env = []string{childConfig + "=" + file, "PATH=" + os.Getenv("PATH"), "SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "TMPDIR", "AppData", "TMP"} {
		command.Env = append(command.Env, name+"="+c.home)
	}
	if run {
		command.Env = append(command.Env, childRuns+"=1")
	}
	command.Stdout, command.Stderr = &c.text, &c.text
	if c.stdin, err = command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.err = command.Wait()
		close(c.done)
	}()
	return c
}

// wait ends the child and makes sure that it has done what it was told.
func (c *child) wait() {
	c.t.Helper()
	c.stdin.Close()
	<-c.done
	if c.err != nil || !strings.Contains(c.text.String(), "PASS") {
		c.t.Fatalf("%v\n%s", c.err, &c.text)
	}
}

// written returns everything that is in the child's directories.
func (c *child) written() []string {
	c.t.Helper()
	var names []string
	err := filepath.WalkDir(c.home, func(path string, _ fs.DirEntry, err error) error {
		if path != c.home {
			names = append(names, strings.TrimPrefix(path, c.home))
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return names
}

// countedListener is a provider that counts who connects, and answers nothing.
type countedListener struct {
	net.Listener
	t        *testing.T
	accepted chan struct{} // one for each connection by others
	marked   chan struct{} // one for each of our own
}

const countedMarker = "count\n"

func newCountedListener(t *testing.T) *countedListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &countedListener{Listener: listener, t: t, accepted: make(chan struct{}, 1000), marked: make(chan struct{}, 1)}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			if line, _ := bufio.NewReader(connection).ReadString('\n'); line == countedMarker {
				l.marked <- struct{}{}
			} else {
				l.accepted <- struct{}{}
			}
			connection.Close()
		}
	}()
	return l
}

// connections returns how many there were by now: they are accepted in the order in which they were made, so all that came before
// our own have been counted when that has.
func (l *countedListener) connections() int {
	l.t.Helper()
	connection, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, countedMarker); err != nil {
		l.t.Fatal(err)
	}
	<-l.marked
	return len(l.accepted)
}
