package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The gateway under test has core 0 for itself; everything else runs on the others.
const gatewayCore = "0"

func otherCores() string {
	if last := runtime.NumCPU() - 1; last > 1 {
		return "1-" + strconv.Itoa(last)
	}
	return "1"
}

// process is a child that stops when told to.
type process struct {
	command *exec.Cmd
	address string
	output  bytes.Buffer // what it logged; read only after stop
}

func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(10*time.Second, func() { _ = p.command.Process.Kill() })
	defer timer.Stop()
	_ = p.command.Wait() // it was told to end: its exit code says nothing
}

// startUpstream starts this program again as the upstream, so that it can be kept off the gateway's core.
func startUpstream(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p := &process{address: address}
	p.command = exec.CommandContext(ctx, "taskset", "-c", otherCores(), self, "upstream", address)
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	return p, p.start()
}

// serveUpstream answers every request with a few bytes and, for the checks, with what it learned of the user: who it is, or the mark of
// the access token and when it came.
func serveUpstream(address string) error {
	server := &http.Server{
		Addr:              address,
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/userinfo":
				fmt.Fprint(w, r.Header.Get("X-Userinfo"))
			case "/token":
				fmt.Fprint(w, markOf(accessToken(r.Header)), " ", time.Now().UnixNano())
			default:
				fmt.Fprintln(w, "hello")
			}
		}),
	}
	return server.ListenAndServe()
}

// accessToken is what a gateway passes on, in the header that it has for it: this handler, oauth2-proxy and mod_auth_openidc.
func accessToken(header http.Header) string {
	return cmp.Or(header.Get("X-Access-Token"), header.Get("X-Forwarded-Access-Token"), header.Get("Oidc_access_token"))
}

// gateway is a process on a core of its own, which may have children.
type gateway struct {
	process
	admin string
	start time.Duration // from exec to the first accepted connection
}

// startGateway writes the configuration and runs Caddy with it. The text may name $PORT and $ADMIN.
func (r *run) startGateway(ctx context.Context, name, config string) (*gateway, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config = strings.NewReplacer("$ADMIN", admin, "$PORT", port).Replace(config)
	caddyfile := filepath.Join(r.dir, name+".Caddyfile")
	if err := os.WriteFile(caddyfile, []byte(config), 0o600); err != nil {
		return nil, err
	}
	// adapted beforehand: reading a Caddyfile is no part of what is measured
	adapted, err := exec.CommandContext(ctx, r.gateway, "adapt", "--adapter", "caddyfile", "--config", caddyfile).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("adapting %s: %w: %s", caddyfile, err, exit.Stderr)
		}
		return nil, fmt.Errorf("adapting %s: %w", caddyfile, err)
	}
	file := filepath.Join(r.dir, name+".json")
	if err := os.WriteFile(file, adapted, 0o600); err != nil {
		return nil, err
	}
	g := &gateway{process: process{address: address}, admin: admin}
	g.command = exec.CommandContext(ctx, "taskset", "-c", gatewayCore, r.gateway, "run", "--config", file)
	g.command.Env = append(os.Environ(),
		"GOMAXPROCS=1", "HOME="+r.dir, "XDG_DATA_HOME="+r.dir, "XDG_CONFIG_HOME="+r.dir)
	g.command.Stdout, g.command.Stderr = &g.output, &g.output
	began := time.Now()
	if err := g.process.start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	g.start = time.Since(began)
	return g, nil
}

// start runs the command and waits until it accepts connections.
func (p *process) start() error {
	if err := p.command.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		connection, err := net.DialTimeout("tcp", p.address, time.Second)
		if err == nil {
			connection.Close()
			return nil
		}
		if time.Now().After(deadline) {
			p.stop()
			return fmt.Errorf("%s never listened: %w\n%s", p.address, err, p.output.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// freeAddress finds a port on the loopback interface that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// resident is the gateway's resident set in bytes.
func (g *gateway) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	return kibibytesAfter(string(status), "VmRSS:")
}

// kibibytesAfter reads the number behind a label of /proc/…/status.
func kibibytesAfter(text, label string) (int64, error) {
	_, rest, found := strings.Cut(text, label)
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("no %s in the process status", label)
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	return n << 10, err
}

// ticksPerSecond is what the kernel reports processor time in, on every Linux that Go runs on.
const ticksPerSecond = 100

// processorTime is what the gateway has used of its core so far, with its children.
func (g *gateway) processorTime() (time.Duration, error) {
	return processorTimeBelow(strconv.Itoa(g.command.Process.Pid))
}

func processorTimeBelow(pid string) (time.Duration, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return 0, err
	}
	total, err := processorTimeOf(string(stat))
	if err != nil {
		return 0, err
	}
	// a child is listed with the thread that started it
	lists, err := filepath.Glob(filepath.Join("/proc", pid, "task", "*", "children"))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread is gone
		}
		if err != nil {
			return 0, err
		}
		for child := range strings.FieldsSeq(string(children)) {
			used, err := processorTimeBelow(child)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // it has ended since
				return 0, err
			}
			total += used
		}
	}
	return total, nil
}

// processorTimeOf reads utime and stime, the 14th and 15th field; the second, the name, may hold anything.
func processorTimeOf(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("the process statistics are too short")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticksPerSecond, err
}

// heap is what is alive on the gateway's heap after a garbage collection, in bytes.
func (g *gateway) heap() (int64, error) {
	response, err := http.Get("http://" + g.admin + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	profile, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(profile), "# HeapAlloc = ")
	fields := strings.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, errors.New("no HeapAlloc in the heap profile")
	}
	return strconv.ParseInt(fields[0], 10, 64)
}
