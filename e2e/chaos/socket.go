package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// handshakes is how many are under way at a time.
	handshakes = 64
	// echoed is how many of the open WebSockets carry something when they are tried.
	echoed = 500
)

// owner is somebody whose WebSockets are open.
type owner struct {
	*browser
	subject string
	next    atomic.Int64 // gateway
}

// handshake opens one. It is nil where the gateway refuses.
func (o *owner) handshake(ctx context.Context, who string) (net.Conn, int) {
	t := o.site
	began := time.Now()
	gateway := t.gateways[int(o.next.Add(1))%len(t.gateways)]
	conn, answer, err := o.dial(ctx, gateway.Address())
	if err != nil {
		t.tally.answer(who, 0, time.Since(began))
		t.tally.violation("%s: %v", who, err)
		return nil, 0
	}
	t.tally.answer(who, answer.status, time.Since(began))
	if answer.status == http.StatusSwitchingProtocols {
		if got := answer.header.Get(subjectHeader); got != o.subject {
			t.tally.violation("%s: a WebSocket of %s is taken for one of %q", who, o.subject, got)
		}
		return conn, answer.status
	}
	_ = conn.Close()
	q := question{method: http.MethodGet, provider: t.provider.URL(), mark: t.application.mark}
	if problem := q.judge(answer); problem != "" {
		t.tally.violation("%s: %s", who, problem)
	}
	return nil, answer.status
}

func (o *owner) dial(ctx context.Context, address string) (net.Conn, *answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	deadline, _ := ctx.Deadline()
	err = errors.Join(conn.SetDeadline(deadline), o.ask101(conn))
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	// the application says nothing before it is spoken to, so nothing of the WebSocket itself is kept back here
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	a := &answer{status: response.StatusCode, header: response.Header}
	o.jar.SetCookies(&url.URL{Scheme: "http", Host: host, Path: "/"}, response.Cookies())
	if a.status != http.StatusSwitchingProtocols {
		a.body, err = io.ReadAll(response.Body)
	}
	_ = response.Body.Close()
	return conn, a, errors.Join(err, conn.SetDeadline(time.Time{}))
}

func (o *owner) ask101(conn net.Conn) error {
	_, err := fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nCookie: %s\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host, origin, o.cookie())
	return err
}

// openAll opens all WebSockets, as many for each session.
func (t *site) openAll(ctx context.Context, owners []*owner) []net.Conn {
	var mu sync.Mutex
	var all []net.Conn
	var next atomic.Int64
	var workers sync.WaitGroup
	for range handshakes {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(t.sockets) && ctx.Err() == nil; i = next.Add(1) - 1 {
				conn, status := owners[int(i)%len(owners)].handshake(ctx, "handshakes")
				switch {
				case conn != nil:
					mu.Lock()
					all = append(all, conn)
					mu.Unlock()
				case status != 0:
					t.tally.violation("status %d for a handshake with a session", status)
				}
			}
		})
	}
	workers.Wait()
	return all
}

// echo sends something through some of the WebSockets and expects it back.
func (t *site) echo(all []net.Conn) {
	for i := 0; i < len(all); i += max(1, len(all)/echoed) {
		began := time.Now()
		sent := fmt.Sprintf("message %08d", i)
		got := make([]byte, len(sent))
		err := all[i].SetDeadline(began.Add(answerLimit))
		if err == nil {
			_, err = io.WriteString(all[i], sent)
		}
		if err == nil {
			_, err = io.ReadFull(all[i], got)
		}
		if err != nil || string(got) != sent {
			t.tally.violation("an open WebSocket sends %q back, %v", got, err)
			continue
		}
		t.tally.answer("messages through WebSockets", http.StatusOK, time.Since(began))
	}
}

// closeAll closes half of them as browsers do, and the other half as a cut line does.
func closeAll(all []net.Conn) {
	for i, conn := range all {
		if tcp, ok := conn.(*net.TCPConn); ok && i%2 == 0 {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
}

// startSocketApplication starts this program again as the application, which has as many connections as the browsers here.
func startSocketApplication(ctx context.Context) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	command := exec.CommandContext(ctx, self, "-application")
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		cancel()
		return "", nil, err
	}
	stop = func() {
		cancel()
		_ = command.Wait() // it was killed
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("the application does not start: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

// serveSockets is the application: it sends back what comes, byte by byte, whatever that means to WebSockets.
func serveSockets(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{ReadHeaderTimeout: answerLimit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.Header.Get("X-Subject")
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set(subjectHeader, subject)
			w.Header().Set(markHeader, "page")
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s: %s\r\n\r\n",
			subjectHeader, subject)
		for piece := make([]byte, 256); ; {
			n, err := conn.Read(piece)
			if err != nil {
				return
			}
			if _, err := conn.Write(piece[:n]); err != nil {
				return
			}
		}
	})}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	return server.Serve(listener)
}
