package provider

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// C-014: a connection that ends after the request was sent may have carried it, so a code is not sent again. A question about a
// token is, which shows that the connection is one that net/http would give a second try.
func TestExchangeOnce(t *testing.T) {
	t.Parallel()
	op := optest.New(t)
	p := newProvider(t, op, nil)
	reuse := func() {
		t.Helper()
		if _, _, err := p.NewIntrospector(basic).Introspect(t.Context(), "token", nil); err != nil {
			t.Fatal(err)
		}
	}
	reuse()
	introspections := op.Hits(optest.Introspection)
	op.Fail(optest.Introspection, optest.Fault{Drop: true, Times: 1})
	reuse()
	if hits := op.Hits(optest.Introspection) - introspections; hits != 2 {
		t.Fatalf("%d introspections: the connection was a new one, so this test shows nothing", hits)
	}
	for range 5 {
		reuse()
		before := op.Hits(optest.Token)
		op.Fail(optest.Token, optest.Fault{Drop: true, Times: 1})
		grant := newGrant(op)
		if tokens, err := p.Exchange(t.Context(), basic, grant); !errors.Is(err, ErrToken) || tokens != nil {
			t.Errorf("Exchange: %v, %v", tokens, err)
		}
		if hits := op.Hits(optest.Token) - before; hits != 1 {
			t.Errorf("the code was sent %d times", hits)
		}
	}
}

// The same over HTTP/2, where the provider can end one request as broken: net/http repeats what it can rewind, a code or a refresh
// token it must not.
func TestExchangeOnceHTTP2(t *testing.T) {
	t.Parallel()
	certificate := optest.NewCertificate(t, nil)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var requests atomic.Int64
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { resetRequests(connection, &requests) })
		}
	})
	defer listener.Close()
	base := "https://" + listener.Addr().String()
	p := New(Config{
		Issuer: base, StaticKeys: new(jose.KeySet), Timeout: 10 * time.Second, RootCAs: poolOf(certificate.Leaf),
		Endpoints: Endpoints{Token: base + "/token", Introspection: base + "/introspect", Revocation: base + "/revoke"},
	})
	defer p.Close()
	if _, _, err := p.NewIntrospector(basic).Introspect(t.Context(), "token", nil); !errors.Is(err, ErrIntrospection) {
		t.Errorf("Introspect: %v", err)
	}
	if n := requests.Swap(0); n < 2 {
		t.Fatalf("%d introspections: net/http did not repeat the request, so this test shows nothing", n)
	}
	if _, err := p.Exchange(t.Context(), basic, CodeGrant{Code: "code", RedirectURI: callback, Verifier: verifier}); !errors.Is(err, ErrToken) {
		t.Errorf("Exchange: %v", err)
	}
	if n := requests.Swap(0); n != 1 {
		t.Errorf("the code was sent %d times", n)
	}
	p.client.CloseIdleConnections()
	if _, err := p.Refresh(t.Context(), basic, RefreshGrant{RefreshToken: "rt"}); !errors.Is(err, ErrToken) || RefreshRefused(err) {
		t.Errorf("Refresh: %v", err)
	}
	if n := requests.Swap(0); n != 1 {
		t.Errorf("the refresh token was sent %d times", n)
	}
	p.client.CloseIdleConnections()
	if err := p.Revoke(t.Context(), basic, "rt", HintRefreshToken); !errors.Is(err, ErrRevocation) {
		t.Errorf("Revoke: %v", err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("the revocation was sent %d times", n)
	}
}

// resetRequests speaks HTTP/2 as far as needed (RFC 9113 section 6) to end each request with a protocol error when it has come whole,
// and the connection after the second.
func resetRequests(connection net.Conn, requests *atomic.Int64) {
	const data, headers, reset, settings, endStream, acknowledged = 0, 1, 3, 4, 1, 1
	defer connection.Close()
	send := func(kind, flags byte, stream uint32, payload []byte) {
		frame := append([]byte{0, 0, byte(len(payload)), kind, flags}, binary.BigEndian.AppendUint32(nil, stream)...)
		_, _ = connection.Write(append(frame, payload...))
	}
	if _, err := io.CopyN(io.Discard, connection, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	send(settings, 0, 0, nil)
	for header := make([]byte, 9); ; {
		if _, err := io.ReadFull(connection, header); err != nil {
			return
		}
		size := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		if _, err := io.CopyN(io.Discard, connection, size); err != nil {
			return
		}
		kind, flags, stream := header[3], header[4], binary.BigEndian.Uint32(header[5:])
		switch {
		case kind == settings && flags&acknowledged == 0:
			send(settings, acknowledged, 0, nil)
		case (kind == headers || kind == data) && flags&endStream != 0:
			if requests.Add(1) >= 2 {
				return
			}
			send(reset, 0, stream, []byte{0, 0, 0, 1})
		}
	}
}

// logins are the calls that a login makes, and the errors that they wrap.
var logins = map[string]struct {
	call func(ctx context.Context, p *Provider) error
	want error
}{
	"token": {func(ctx context.Context, p *Provider) error {
		_, err := p.Exchange(ctx, basic, CodeGrant{Code: "code"})
		return err
	}, ErrToken},
	"userinfo": {func(ctx context.Context, p *Provider) error { _, _, err := p.Userinfo(ctx, "token"); return err }, ErrUserinfo},
}

// Logins and introspection have one bound together; the excess is told apart, as it has done no harm and may come again.
func TestLoginCallsBound(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
		if _, err := p.Metadata(t.Context()); err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		held := func(body string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				<-release
				_, _ = io.WriteString(w, body)
			}
		}
		op.set(&op.introspection, held(`{"active":true}`))
		op.set(&op.token, held(`{"access_token":"at","token_type":"Bearer"}`))
		op.set(&op.userinfo, held(`{"sub":"alice"}`))
		introspector := p.NewIntrospector(basic)
		var wait sync.WaitGroup
		for i := range maxConcurrentCalls {
			wait.Go(func() {
				var err error
				switch i % 3 {
				case 0:
					_, err = introspector.introspectOnce(t)
				case 1:
					err = logins["token"].call(t.Context(), p)
				default:
					err = logins["userinfo"].call(t.Context(), p)
				}
				if err != nil {
					t.Errorf("within the bound: %v", err)
				}
			})
		}
		synctest.Wait()
		start, tokens, userinfos := time.Now(), op.count("token"), op.count("userinfo")
		for name, login := range logins {
			if err := login.call(t.Context(), p); !errors.Is(err, login.want) || !errors.Is(err, ErrBusy) {
				t.Errorf("%s beyond the bound: %v", name, err)
			}
		}
		if _, err := introspector.introspectOnce(t); !errors.Is(err, ErrBusy) {
			t.Errorf("introspection beyond the bound: %v", err)
		}
		if time.Since(start) != 0 || op.count("token") != tokens || op.count("userinfo") != userinfos {
			t.Errorf("waited %v, %d and %d requests", time.Since(start), op.count("token")-tokens, op.count("userinfo")-userinfos)
		}
		close(release)
		wait.Wait()
		for name, login := range logins {
			if err := login.call(t.Context(), p); err != nil {
				t.Errorf("%s when there is room again: %v", name, err)
			}
		}
	})
}

// S-154, S-168: what hangs or drips costs a login the timeout, once, and frees its place.
func TestLoginTimeout(t *testing.T) {
	t.Parallel()
	for name, login := range logins {
		for fault, handler := range map[string]http.HandlerFunc{"hang": hang, "drip": drip} {
			t.Run(name+", "+fault, func(t *testing.T) {
				t.Parallel()
				inBubble(t, nil, func(t *testing.T, p *Provider, op *memory) {
					op.set(&op.token, handler)
					op.set(&op.userinfo, handler)
					start := time.Now()
					err := login.call(t.Context(), p)
					if !errors.Is(err, login.want) || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrBusy) {
						t.Errorf("got %v", err)
					}
					if waited := time.Since(start); waited != p.config.Timeout || op.count(name) != 1 {
						t.Errorf("waited %v for %d requests", waited, op.count(name))
					}
					if len(p.calls) != 0 {
						t.Errorf("%d places are taken", len(p.calls))
					}
					// a caller that goes earlier is not kept
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					start = time.Now()
					if err := login.call(ctx, p); !errors.Is(err, login.want) || time.Since(start) != time.Second {
						t.Errorf("cancelled after %v: %v", time.Since(start), err)
					}
				})
			})
		}
	}
}
