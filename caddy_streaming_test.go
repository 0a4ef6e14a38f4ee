package openidconnect

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func TestWebSocketPassesThrough(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, ""))
	c.answer(func(w http.ResponseWriter, r *http.Request) {
		if userinfoSubject(r.Header) != "alice" {
			http.Error(w, "who are you?", http.StatusTeapot)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, _ := buffered.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	})
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	conn := dial(t, c.address)
	io.WriteString(conn, "GET /socket HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "+p.AccessToken(nil)+"\r\n"+upgrade+"\r\nhello\n")
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("got %d %v", response.StatusCode, response.Header)
	}
	if got := response.Header.Get("Cache-Control"); got != "private" {
		t.Errorf("Cache-Control %q", got)
	}
	if line, err := reader.ReadString('\n'); line != "echo hello\n" {
		t.Errorf("the socket says %q, %v", line, err)
	}
	c.advance()

	t.Run("S002 not without a token", func(t *testing.T) {
		c.wantRefused(t, exchange(t, c.address, "GET /socket HTTP/1.1\r\nHost: h\r\n"+upgrade+"\r\n"), 401, "no_credentials")
	})
}

// Each event of a stream is there when it is sent, and not when the stream ends.
func TestServerSentEventsAreNotHeldBack(t *testing.T) {
	p := optest.New(t)
	for _, flush := range []string{"reverse_proxy $UPSTREAM {\nflush_interval -1\n}", "reverse_proxy $UPSTREAM", "encode\nreverse_proxy $UPSTREAM"} {
		t.Run(flush, func(t *testing.T) {
			c := startCaddy(t, strings.Replace(api(p, ""), "reverse_proxy $UPSTREAM", flush, 1))
			seen := make(chan struct{})
			c.answer(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "data: one\n\n")
				http.NewResponseController(w).Flush()
				select {
				case <-seen:
				case <-r.Context().Done():
				}
				io.WriteString(w, "data: two\n\n")
			})
			response, err := http.DefaultTransport.RoundTrip(newRequest(t, http.MethodGet, c.url("/events"), nil, "Authorization: Bearer "+p.AccessToken(nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			reader := bufio.NewReader(response.Body)
			first, err := reader.ReadString('\n')
			close(seen)
			if first != "data: one\n" {
				t.Errorf("first event %q, %v", first, err)
			}
			rest, err := io.ReadAll(reader)
			if string(rest) != "\ndata: two\n\n" || err != nil {
				t.Errorf("the rest of the stream is %q, %v", rest, err)
			}
			if response.Header.Get("Cache-Control") != "private" {
				t.Errorf("headers %v", response.Header)
			}
		})
	}
}

func TestHeadRequests(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, ""))
	head := func(headers ...string) *reply {
		return roundTrip(t, http.DefaultTransport, newRequest(t, http.MethodHead, c.url("/"), nil, headers...))
	}
	r := head("Authorization: Bearer " + p.AccessToken(nil))
	c.wantAllowed(t, r)
	if r.body != "" || r.Header.Get("Cache-Control") != "private" {
		t.Errorf("body %q, headers %v", r.body, r.Header)
	}
	r = head()
	c.wantRefused(t, r, 401, "no_credentials")
	if r.body != "" || r.ContentLength == 0 {
		t.Errorf("body %q, Content-Length %d", r.body, r.ContentLength)
	}
	// on a connection that goes on, a body would be taken for the next response
	conn := dial(t, c.address)
	io.WriteString(conn, "HEAD / HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	reader := bufio.NewReader(conn)
	first, err := http.ReadResponse(reader, &http.Request{Method: http.MethodHead})
	if err != nil || first.StatusCode != http.StatusUnauthorized {
		t.Fatalf("HEAD got %v, %v", first, err)
	}
	defer first.Body.Close()
	c.wantRefused(t, readReply(t, reader), 401, "no_credentials")
}

// Who may not enter is told so before his upload is read.
func TestS274RefusedUploadsAreNotRead(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, ""))
	const headers = "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n"
	t.Run("with a token the client is asked to go on", func(t *testing.T) {
		arrived := make(chan struct{})
		c.answer(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			io.ReadFull(r.Body, make([]byte, 4))
		})
		conn := dial(t, c.address)
		io.WriteString(conn, headers+"Authorization: Bearer "+p.AccessToken(nil)+"\r\n\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 100 ") {
			t.Errorf("got %q, %v", line, err)
		}
		<-arrived
		c.advance()
	})
	for _, authorization := range []string{"", "Authorization: Bearer nonsense\r\n", "Authorization: Bearer a b\r\n"} {
		conn := dial(t, c.address)
		io.WriteString(conn, headers+authorization+"\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 40") {
			t.Errorf("with %q the first line is %q, %v", authorization, line, err)
		}
		if n := c.advance(); n != 0 {
			t.Errorf("%d requests reached the upstream", n)
		}
	}
}

// An upload goes on to the upstream as it comes, with a known length and without.
func TestS274UploadsAreNotBuffered(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, ""))
	for _, test := range []struct {
		name   string
		length int64
	}{{"Content-Length", 8 << 20}, {"chunked", -1}} {
		t.Run(test.name, func(t *testing.T) {
			const size = 8 << 20
			arrived := make(chan struct{})
			c.answer(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadFull(r.Body, make([]byte, 1024)); err != nil {
					t.Errorf("reading the beginning: %v", err)
				}
				close(arrived)
				n, err := io.Copy(io.Discard, r.Body)
				if n != size-1024 || err != nil {
					t.Errorf("the rest has %d bytes, %v", n, err)
				}
			})
			reader, writer := io.Pipe()
			go func() {
				writer.Write(make([]byte, 1024))
				<-arrived // only then is there more
				io.Copy(writer, bytes.NewReader(make([]byte, size-1024)))
				writer.Close()
			}()
			request := newRequest(t, http.MethodPost, c.url("/upload"), reader, "Authorization: Bearer "+p.AccessToken(nil))
			request.ContentLength = test.length
			c.wantAllowed(t, roundTrip(t, http.DefaultTransport, request))
		})
	}
}

// What one user was shown is not for a shared cache, unless the upstream says something about caching itself.
func TestCacheControlOfAnswers(t *testing.T) {
	p := optest.New(t)
	c := startCaddy(t, api(p, "unauth_action pass /public/*"))
	token := p.AccessToken(nil)
	for _, test := range []struct {
		name, path string
		answer     http.HandlerFunc
		want       string
	}{
		{"none of its own", "/", func(http.ResponseWriter, *http.Request) {}, "private"},
		{"its own", "/", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "public, max-age=60") }, "public, max-age=60"},
		{"not modified", "/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "private"},
		{"error", "/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "private"},
		{"a body without WriteHeader", "/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "body") }, "private"},
		{"early hints first", "/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Cache-Control", "max-age=5")
			w.WriteHeader(http.StatusOK)
		}, "max-age=5"},
		{"anonymous", "/public/", func(http.ResponseWriter, *http.Request) {}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.answer(test.answer)
			var headers []string
			if test.path == "/" {
				headers = append(headers, "Authorization: Bearer "+token)
			}
			r := c.in(t).get(test.path, headers...)
			if got := strings.Join(r.Header.Values("Cache-Control"), " | "); got != test.want {
				t.Errorf("status %d, Cache-Control %q, want %q", r.StatusCode, got, test.want)
			}
			if c.advance() != 1 {
				t.Error("the upstream was not asked once")
			}
		})
	}
}
