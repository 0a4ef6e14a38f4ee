package cluster

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// tap is a connection to Redis that can be held up at a command.
type tap struct {
	listener net.Listener
	target   string
	closing  sync.WaitGroup

	mu       sync.Mutex
	matches  func(command []byte) bool
	through  bool          // the command that matches is still let through
	reached  chan struct{} // closed when the command was there
	released chan struct{} // closed when everything goes on
	discard  bool          // what was held up is never sent on
	all      map[net.Conn]struct{}
}

func newTap(t *testing.T, redis *Redis) *tap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{listener: listener, target: loopback(redis.Port()), all: make(map[net.Conn]struct{})}
	p.closing.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.release(true)
		p.mu.Lock()
		for conn := range p.all {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.closing.Wait()
	})
	return p
}

// port is where clients of Redis connect to.
func (p *tap) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// hold stops all traffic at the next command that matches, after it or before. The channel is closed when that is there.
func (p *tap) hold(after bool, matches func(command []byte) bool) (reached <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.matches, p.through, p.discard = matches, after, false
	p.reached, p.released = make(chan struct{}), make(chan struct{})
	return p.reached
}

// release lets the traffic go on, or discards what was held up.
func (p *tap) release(discard bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.matches, p.discard = nil, discard
	if p.released != nil {
		close(p.released)
		p.released = nil
	}
}

func (p *tap) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.all[client], p.all[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.closing.Go(func() {
			_, _ = io.Copy(client, server)
			p.end(client, server)
		})
		p.closing.Go(func() {
			p.forward(client, server)
			p.end(client, server)
		})
	}
}

func (p *tap) end(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(p.all, conn)
	}
}

// forward copies commands, which arrive in one piece each.
func (p *tap) forward(client, server net.Conn) {
	piece := make([]byte, 64<<10)
	for {
		n, err := client.Read(piece)
		if err != nil || !p.pass(piece[:n]) {
			return
		}
		if _, err := server.Write(piece[:n]); err != nil {
			return
		}
	}
}

// pass waits until a command may go on, and reports whether it may.
func (p *tap) pass(command []byte) bool {
	p.mu.Lock()
	held := p.released
	if held != nil {
		select {
		case <-p.reached:
		default:
			if p.matches == nil || !p.matches(command) {
				held = nil
				break
			}
			close(p.reached)
			if p.through {
				held = nil
			}
		}
	}
	p.mu.Unlock()
	if held == nil {
		return true
	}
	<-held
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.discard
}

// takesLock finds the script that takes a lock or extends one, which has one more argument than the one that drops it.
func takesLock(command []byte) bool {
	return bytes.HasPrefix(command, []byte("*6\r\n")) && bytes.Contains(command, []byte(":lock\r\n"))
}

// storesResult finds the command that tells other instances what has come of a renewal: the first about renewals after the one that
// stores the session.
func storesResult() func(command []byte) bool {
	stored := false
	return func(command []byte) bool {
		if !bytes.HasPrefix(bytes.ToLower(command[:min(len(command), 16)]), []byte("*5\r\n$3\r\nset\r\n")) {
			return false
		}
		stored = stored || bytes.Contains(command, []byte(":sessions/"))
		return stored && bytes.Contains(command, []byte(":renewals/"))
	}
}
