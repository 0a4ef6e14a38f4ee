package openidconnect

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// reply is a response with its body read.
type reply struct {
	*http.Response
	body string
}

// json returns a member of the JSON body.
func (r *reply) json(t testing.TB, name string) string {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("body is not JSON: %v: %q", err, r.body)
	}
	text, _ := body[name].(string)
	return text
}

// newRequest makes a request with the given headers, as "Name: value". Names are sent as they are written.
func newRequest(tb testing.TB, method, target string, body io.Reader, headers ...string) *http.Request {
	tb.Helper()
	request, err := http.NewRequest(method, target, body)
	if err != nil {
		tb.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header[name] = append(request.Header[name], value)
	}
	return request
}

func roundTrip(tb testing.TB, transport http.RoundTripper, request *http.Request) *reply {
	tb.Helper()
	response, err := transport.RoundTrip(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return &reply{Response: response, body: string(body)}
}

// h2cTransport speaks HTTP/2 without TLS.
func h2cTransport(tb testing.TB) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	tb.Cleanup(transport.CloseIdleConnections)
	return transport
}

// dial opens a TCP connection that ends with the test, at the latest in ten seconds.
func dial(tb testing.TB, address string) net.Conn {
	tb.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// exchange sends a request byte for byte, on a connection of its own, and reads one response.
func exchange(tb testing.TB, address, request string) *reply {
	tb.Helper()
	conn := dial(tb, address)
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		tb.Fatal(err)
	}
	return readReply(tb, bufio.NewReader(conn))
}

func readReply(tb testing.TB, reader *bufio.Reader) *reply {
	tb.Helper()
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return &reply{Response: response, body: string(body)}
}

// userinfo is the claims in the X-Userinfo header of a request that reached the upstream.
func userinfo(tb testing.TB, header http.Header) map[string]any {
	tb.Helper()
	values := header["X-Userinfo"]
	if len(values) != 1 {
		tb.Fatalf("X-Userinfo %q, want one value", values)
	}
	text, err := base64.StdEncoding.DecodeString(values[0])
	if err != nil {
		tb.Fatalf("X-Userinfo is not base64: %v", err)
	}
	var claims map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&claims); err != nil {
		tb.Fatalf("X-Userinfo is not JSON: %v: %s", err, text)
	}
	return claims
}

// userinfoSubject is the sub of X-Userinfo, or what is wrong with it.
func userinfoSubject(header http.Header) string {
	text, err := base64.StdEncoding.DecodeString(header.Get("X-Userinfo"))
	if err != nil {
		return err.Error()
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return err.Error()
	}
	return claims.Subject
}

// waitUntil polls a condition that comes true by itself, for a minute.
func waitUntil(tb testing.TB, done func() bool) {
	tb.Helper()
	poll, timeout := time.NewTicker(5*time.Millisecond), time.NewTimer(time.Minute)
	defer poll.Stop()
	defer timeout.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-timeout.C:
			tb.Fatal("it did not happen within a minute")
		}
	}
}
