package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a process may take until it answers; the machine may be busy with other tests.
	startTimeout = time.Minute
	// stopTimeout is how long one that is told to end may take.
	stopTimeout = 30 * time.Second
	// startAttempts is how often a process is started when somebody else was faster to take its port.
	startAttempts = 5
)

// Process is a program that runs beside this one.
type Process struct {
	command *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // why it has, once it has
}

func startProcess(command *exec.Cmd) (*Process, error) {
	dieWithParent(command)
	command.WaitDelay = stopTimeout
	if err := command.Start(); err != nil {
		return nil, err
	}
	p := &Process{command: command, done: make(chan struct{})}
	go func() {
		p.err = command.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the number of the process.
func (p *Process) PID() int { return p.command.Process.Pid }

// Kill ends the process as a crash of the machine would.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.done
}

// Stop tells the process to end and waits until it has.
func (p *Process) Stop() error {
	// one that is paused would not hear it
	err := errors.Join(p.signal(syscall.SIGTERM), p.signal(syscall.SIGCONT))
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("process %d did not end when it was told to", p.PID())
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Pause stops the process in its tracks.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets a process go on that was paused.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s os.Signal) error { return p.command.Process.Signal(s) }

// Descriptors counts the files and connections that the process has open.
func (p *Process) Descriptors() (int, error) {
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.PID()), "fd"))
	return len(entries), err
}

// ResidentSize is how many bytes of memory the process takes.
func (p *Process) ResidentSize() (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID()), "statm"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm says %q", text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// ready waits until the process accepts connections.
func (p *Process) ready(address string) error {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-poll.C:
		case <-p.done:
			return fmt.Errorf("it has ended: %w", cmp.Or(p.err, io.EOF))
		case <-timeout.C:
			return fmt.Errorf("nothing answers at %s after %s", address, startTimeout)
		}
	}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
