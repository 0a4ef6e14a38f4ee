// Package subprocess runs servers for tests that must not outlive them.
package subprocess

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// A server ends when the input of the shell around it does, which is also the case once a test is killed.
const script = `
"$@" </dev/null &
read -r _
kill $!
wait $!
`

// terminated is the exit code of a shell whose last command was ended by SIGTERM.
const terminated = 143

// Process is a server that runs.
type Process struct {
	name    string
	command *exec.Cmd
	stdin   io.Closer
	output  output
}

// output is what a server prints.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// Start runs a command.
func Start(name string, arguments ...string) (*Process, error) {
	p := &Process{name: name}
	p.command = exec.Command("sh", append([]string{"-c", script, "sh", name}, arguments...)...)
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	stdin, err := p.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// Output is what it has printed so far.
func (p *Process) Output() string {
	p.output.mu.Lock()
	defer p.output.mu.Unlock()
	return p.output.text.String()
}

// Wait returns once the process answers at an address with the status 200.
func (p *Process) Wait(url string, patience time.Duration) error {
	client := http.Client{Timeout: time.Minute} // some make a key first
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		resp, err := client.Get(url)
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
	return fmt.Errorf("%s does not serve within %s: %w\n%s", p.name, patience, last, p.Output())
}

// Close ends the process.
func (p *Process) Close() error {
	if err := p.stdin.Close(); err != nil {
		return err
	}
	err := p.command.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == terminated {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stopping %s: %w\n%s", p.name, err, p.Output())
	}
	return nil
}

// Fetch runs a command in a directory that fetches something, and up to twice more if it fails: networks have their moments.
func Fetch(directory string, command func() *exec.Cmd) (output []byte, err error) {
	for attempt := range 3 {
		time.Sleep(time.Duration(attempt) * 10 * time.Second)
		c := command()
		c.Dir = directory
		if output, err = c.CombinedOutput(); err == nil {
			return output, nil
		}
	}
	return output, err
}

// given are the ports that FreePort has returned so far.
var given sync.Map

// FreePort is one at which nobody listens now, and which is never returned again: who gets it may take a while to listen there. It lies below
// those that the system gives away by itself, so that a server that is stopped and started again finds it free still.
func FreePort() (int, error) {
	for range 100 {
		port := 15_000 + rand.IntN(17_000)
		if _, taken := given.LoadOrStore(port, nil); taken {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no free port between 15000 and 32000")
}
