package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/caddyserver/caddy/v2"
)

// shared is a server that tests may use at the same time; each has a prefix of its own there.
var shared *redisServer

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	directory, err := os.MkdirTemp("", "redis")
	if err == nil {
		defer os.RemoveAll(directory)
		shared, err = startServer(directory)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.kill()
	return m.Run()
}

// redisServer is a redis-server of the tests' own, on 127.0.0.1 and on a Unix socket.
type redisServer struct {
	port      int
	socket    string
	directory string
	args      []string
	process   *os.Process
	ended     chan struct{}
}

// startServer starts a server on a free port, and again on another one if somebody else was faster.
func startServer(directory string, args ...string) (*redisServer, error) {
	var err error
	for range 5 {
		s := &redisServer{directory: directory, socket: filepath.Join(directory, "socket"), args: args}
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.start(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// freePort returns a port that nobody uses. It lies below those that the system gives away by itself: a server that is killed and started
// again finds it free still.
func freePort() (int, error) {
	for range 100 {
		port := 15_000 + rand.IntN(17_000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port between 15000 and 32000")
}

func newServer(t *testing.T, args ...string) *redisServer {
	t.Helper()
	directory, err := os.MkdirTemp("", "redis") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	s, err := startServer(directory, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// start starts the server, for the first time or again, and waits until it answers.
func (s *redisServer) start() error {
	log, err := os.Create(filepath.Join(s.directory, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--unixsocket", s.socket, "--dir", s.directory, "--save", "",
		"--appendonly", "no",
	}, s.args...)
	if len(s.args) > 0 && filepath.IsAbs(s.args[0]) { // a sentinel, with a file of settings in front
		args = append([]string{s.args[0], "--port", strconv.Itoa(s.port), "--unixsocket", s.socket}, s.args[1:]...)
	}
	command := exec.Command("redis-server", args...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("these tests need redis-server in the PATH: %w", err)
	}
	s.process, s.ended = command.Process, make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = command.Wait()
	}()
	client := goredis.NewClient(&goredis.Options{Network: "unix", Addr: s.socket, Protocol: 2, MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	var answer error
	if !eventually(time.Minute, func() bool {
		select {
		case <-s.ended:
			return true
		default:
		}
		answer = client.Ping(context.Background()).Err()
		_, replied := errors.AsType[goredis.Error](answer)
		return answer == nil || replied && !goredis.IsLoadingError(answer) // NOAUTH is an answer
	}) {
		s.kill()
		return fmt.Errorf("redis-server does not answer: %w", answer)
	}
	select {
	case <-s.ended:
		text, _ := os.ReadFile(filepath.Join(s.directory, "log"))
		return fmt.Errorf("redis-server has ended: %s", text)
	default:
		return nil
	}
}

// kill ends the server at once, with all it knows.
func (s *redisServer) kill() {
	_ = s.process.Kill()
	<-s.ended
}

func (s *redisServer) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := s.process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

func (s *redisServer) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// client speaks to the server past the store.
func (s *redisServer) client(t *testing.T) *goredis.Client {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Network: "unix", Addr: s.socket, Protocol: 2})
	t.Cleanup(func() { client.Close() })
	return client
}

// settings are a module's configuration in JSON.
type settings map[string]any

// with returns the settings and further ones.
func (s settings) with(further settings) settings {
	all := maps.Clone(s)
	maps.Copy(all, further)
	return all
}

// patient are settings for tests that are not about time: no pause of a busy machine is a server that does not answer.
func patient(s settings) settings {
	return s.with(settings{"connect_timeout": "20s", "send_timeout": "20s", "read_timeout": "20s"})
}

// at are the settings for a server, with a prefix that no other test has and nothing behind it in the end.
func at(t *testing.T, s *redisServer) settings {
	t.Helper()
	client := s.client(t)
	t.Cleanup(func() {
		for _, key := range client.Keys(context.Background(), t.Name()+":*").Val() {
			client.Del(context.Background(), key)
		}
	})
	return patient(settings{"port": s.port, "prefix": t.Name()})
}

// load loads a store as Caddy does, and unloads it after the test.
func load(t *testing.T, config settings) (*Store, error) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	loaded, err := ctx.LoadModuleByID("http.openid_connect.session_stores.redis", text)
	if err != nil {
		return nil, err
	}
	return loaded.(*Store), nil
}

func newStore(t *testing.T, config settings) *Store {
	t.Helper()
	s, err := load(t, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually asks until the condition holds, or the time is over.
func eventually(limit time.Duration, condition func() bool) bool {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := time.After(limit)
	for {
		if condition() {
			return true
		}
		select {
		case <-ticker.C:
		case <-end:
			return condition() // the pause may have been that of a machine that stood still
		}
	}
}

// within returns a context that ends after a time.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
