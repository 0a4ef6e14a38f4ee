package redis

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// timely fails unless an operation ends within the limit, with some allowance for a busy machine. One that takes longer has a second try,
// since a machine that stood still for a moment does not do so every time.
func timely(t *testing.T, limit time.Duration, operation func() error) (err error) {
	t.Helper()
	var took time.Duration
	for range 2 {
		start := time.Now()
		err = operation()
		if took = time.Since(start); took <= limit+2*time.Second {
			return err
		}
	}
	t.Errorf("it took %v, more than %v", took, limit)
	return err
}

// expectService waits until a store does what it is for.
func expectService(t *testing.T, what string, s *Store) {
	t.Helper()
	var err error
	if !eventually(time.Minute, func() bool { err = exercise(t.Context(), s); return err == nil }) {
		t.Fatalf("%s: %v", what, err)
	}
}

func operations(s *Store) map[string]func(context.Context) error {
	ends := time.Now().Add(time.Minute)
	return map[string]func(context.Context) error{
		"Load":    func(ctx context.Context) error { _, err := s.Load(ctx, "halted"); return err },
		"Store":   func(ctx context.Context) error { return s.Store(ctx, "halted", []byte("s3aled"), ends) },
		"Delete":  func(ctx context.Context) error { return s.Delete(ctx, "halted") },
		"Lock":    func(ctx context.Context) error { _, err := s.Lock(ctx, "halted"); return err },
		"Add":     func(ctx context.Context) error { return s.Add(ctx, "halted", "s3aled", ends) },
		"Remove":  func(ctx context.Context) error { return s.Remove(ctx, "halted", "s3aled") },
		"Members": func(ctx context.Context) error { _, err := s.Members(ctx, "halted"); return err },
	}
}

func TestHaltedServer(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, settings{"port": server.port, "connect_timeout": 200, "send_timeout": 200, "read_timeout": 200})
	expectService(t, "at first", s)
	server.signal(t, syscall.SIGSTOP)
	for name, operation := range operations(s) {
		err := timely(t, s.patience(), func() error { return operation(t.Context()) })
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.DeadlineExceeded) ||
			strings.Contains(err.Error(), "s3aled") {
			t.Errorf("%s of a halted server: %v", name, err)
		}
		// of the context's end it is said that it was the context's
		err = timely(t, 50*time.Millisecond, func() error { return operation(within(t, 50*time.Millisecond)) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s of a halted server for a caller in a hurry: %v", name, err)
		}
	}
	server.signal(t, syscall.SIGCONT)
	expectService(t, "when the server goes on", s)
}

func TestLockTakenUnheard(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, settings{"port": server.port, "read_timeout": "20s"}) // nor does who drops it give up before the server goes on
	s.lease.length = time.Hour
	expectService(t, "at first", s)
	// the server gets the request while it is halted, and takes the lock when it goes on, of which nobody hears
	server.signal(t, syscall.SIGSTOP)
	if _, err := s.Lock(within(t, 100*time.Millisecond), "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	server.signal(t, syscall.SIGCONT)
	unlock, err := s.Lock(within(t, time.Minute), "key")
	if err != nil {
		t.Fatalf("the lock is held by nobody: %v", err)
	}
	unlock()
}

func TestRestartedServer(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, settings{"port": server.port})
	expectService(t, "at first", s)
	for range 2 {
		server.kill()
		for name, operation := range operations(s) {
			err := timely(t, s.patience(), func() error { return operation(t.Context()) })
			if _, refused := errors.AsType[*net.OpError](err); !refused {
				t.Errorf("%s of a server that is down: %v", name, err)
			}
		}
		if err := server.start(); err != nil {
			t.Fatal(err)
		}
		// the client asks a server that is down once a second alone; the new one has none of the scripts
		expectService(t, "after a restart", s)
		if _, err := s.Load(t.Context(), "key"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a value that the restart lost: %v", err)
		}
	}
}

func TestServerThatDropsConnections(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := newStore(t, patient(settings{"port": server.port}))
	if err := exercise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	dropped, err := server.client(t).ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Result()
	if err != nil || dropped == 0 {
		t.Fatal(dropped, err)
	}
	if err := exercise(t.Context(), s); err != nil {
		t.Errorf("the next operation: %v", err)
	}
}

func TestNothingIsOpenedAtStart(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections := make(chan struct{}, 100)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				close(connections)
				return
			}
			connections <- struct{}{}
			connection.Close()
		}
	}()
	address := listener.Addr().String()
	stores := []*Store{
		newStore(t, settings{"address": address}),
		newStore(t, settings{"address": address, "cluster": true}),
		newStore(t, settings{"address": []string{address, address}}),
		newStore(t, settings{"address": address, "master_name": "sessions"}),
	}
	select {
	case <-connections:
		t.Error("a connection was opened while the configuration was loaded")
	case <-time.After(200 * time.Millisecond):
	}
	for _, s := range stores { // the good case: the listener would have noticed
		if _, err := s.Load(t.Context(), "key"); err == nil {
			t.Error("a listener that hangs up stores nothing")
		}
		select {
		case <-connections:
		case <-time.After(time.Minute):
			t.Error("a session opens no connection")
		}
	}
	listener.Close()
}
