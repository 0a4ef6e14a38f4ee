package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/e2e/subprocess"
)

// Redis is a redis-server in a process of its own.
type Redis struct {
	*Process

	directory string
	durable   bool
	port      int
}

// StartRedis starts redis-server and returns when it answers. A durable one has every write on disk before it answers, so that nothing
// is lost when it is killed; another one forgets everything.
func StartRedis(directory string, durable bool) (*Redis, error) {
	r := &Redis{directory: directory, durable: durable}
	for attempt := 1; ; attempt++ {
		var err error
		if r.port, err = subprocess.FreePort(); err != nil {
			return nil, err
		}
		if err = r.Start(); err == nil {
			return r, nil
		}
		if attempt == startAttempts || !strings.Contains(err.Error(), "in use") {
			return nil, err
		}
	}
}

// Port is where it listens, at 127.0.0.1.
func (r *Redis) Port() int { return r.port }

// Start runs it again, after Kill or Stop.
func (r *Redis) Start() error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("these tests need redis-server, which Debian has in the package of that name: %w", err)
	}
	arguments := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--dir", r.directory, "--save", ""}
	if r.durable {
		arguments = append(arguments, "--appendonly", "yes", "--appendfsync", "always")
	}
	command := exec.Command(program, arguments...)
	output := new(Log)
	command.Stdout, command.Stderr = output, output
	command.Env = os.Environ()
	if r.Process, err = startProcess(command); err != nil {
		return fmt.Errorf("starting redis-server: %w", err)
	}
	if err := r.ready(loopback(r.port)); err != nil {
		r.Kill()
		return fmt.Errorf("starting redis-server: %w\n%s", err, output)
	}
	return nil
}
