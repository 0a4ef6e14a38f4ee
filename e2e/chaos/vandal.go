package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// vandal sends one request after the other, over a connection of its own.
type vandal struct {
	site   *site
	loot   *loot
	random *rand.Rand

	conn   net.Conn
	reader *bufio.Reader
}

// largeBody is what a server may refuse before it has read it, whose answer may then be lost.
const largeBody = 64 << 10

// wireRequest is a request as it is written, whether it is one or not.
type wireRequest struct {
	method, target string
	headers        [][2]string // in this order
	body           string
}

func (r *wireRequest) add(name, value string) { r.headers = append(r.headers, [2]string{name, value}) }

func (r *wireRequest) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\n", r.method, r.target)
	for _, header := range r.headers {
		fmt.Fprintf(&text, "%s: %s\r\n", header[0], header[1])
	}
	text.WriteString("\r\n" + r.body)
	return text.String()
}

// strike sends one request of garbage and judges the answer.
func (v *vandal) strike(ctx context.Context) {
	r := v.request()
	text := r.String()
	q := &question{
		method: r.method, own: isOwnEndpoint(r.target), mayEnter: v.loot.held(text),
		navigates: strings.Contains(text, "navigate") || strings.Contains(text, "text/html"),
		oddHost:   !strings.Contains(text, "\r\nHost: "+host+"\r\n"),
		provider:  v.site.provider.URL(), mark: v.site.application.mark,
	}
	var a *answer
	var err error
	switch {
	case v.random.IntN(8) == 0:
		q.broken = true
		v.sendBroken(ctx, q, v.breakUp(text))
		return
	case v.random.IntN(3) == 0 && r.isHTTP():
		a, err = v.sendByClient(ctx, r)
	default:
		// what of this is not HTTP is told so by Go's server
		q.broken = !r.isHTTP()
		a, err = v.sendRaw(ctx, r.method, text)
	}
	if err != nil {
		// Go's server resets the connection when there is more to read of what it has refused, and its answer is lost then.
		if !q.broken && len(r.body) < largeBody {
			v.site.tally.violation("garbage: no answer: %v: %.300q", err, text)
		}
		v.site.tally.answer(garbage, 0, 0)
		return
	}
	v.inspect(q, a, garbage, text)
}

// inspect counts and judges an answer.
func (v *vandal) inspect(q *question, a *answer, who, text string) {
	v.site.tally.answer(who, a.status, a.took)
	if told := a.refusal(); told.Reason != "" {
		v.site.tally.reason(told.Reason)
	}
	if (q.mayEnter || strings.Contains(strings.ToLower(text), "open")) && !a.entered(q.mark) {
		// the application's server has not understood it, or Caddy could not read the body to its end
		if a.header.Get("Via") != "" || q.broken && a.status == http.StatusBadGateway && len(a.body) == 0 {
			return
		}
	}
	if problem := q.judge(a); problem != "" {
		v.site.tally.violation("%s: %s: %.500q", who, problem, text)
	}
	if location, err := url.Parse(a.header.Get("Location")); err == nil && location.Query().Has("state") {
		for _, line := range a.header["Set-Cookie"] {
			if pair, _, _ := strings.Cut(line, ";"); strings.Contains(pair, "-t-") {
				v.loot.noteLogin(begunLogin{location.Query().Get("state"), pair})
			}
		}
	}
}

// isOwnEndpoint reports whether a target is one of the module's own endpoints, to the letter.
func isOwnEndpoint(target string) bool {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	name, ok := strings.CutPrefix(u.EscapedPath(), "/oauth2/")
	return ok && slices.Contains(endpoints, name)
}

// isHTTP reports whether Go's client would send the request.
func (r *wireRequest) isHTTP() bool {
	u, err := url.ParseRequestURI(r.target)
	if err != nil || !strings.HasPrefix(r.target, "/") || u.RequestURI() != r.target || strings.ContainsAny(r.target, " #") {
		return false
	}
	hosts := 0
	for _, header := range r.headers {
		if header[0] == "Host" {
			hosts++
			if parsed, err := url.Parse("http://" + header[1]); err != nil || parsed.Host != header[1] || !httpguts.ValidHostHeader(header[1]) {
				return false
			}
		}
		if !httpguts.ValidHeaderFieldName(header[0]) || !httpguts.ValidHeaderFieldValue(header[1]) || slices.Contains(framing, header[0]) {
			return false
		}
	}
	return hosts == 1 && httpguts.ValidHeaderFieldName(r.method) && r.method != http.MethodConnect && len(r.String()) < 12<<10
}

// framing are the headers that Go's client sets by itself.
var framing = []string{"Transfer-Encoding", "Trailer", "Expect", "Upgrade"}

func (v *vandal) sendByClient(ctx context.Context, r *wireRequest) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.method, "http://"+v.site.gateways[0].Address()+r.target, strings.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for _, header := range r.headers {
		switch header[0] {
		case "Host":
			request.Host = header[1]
		case "Content-Length":
		default:
			request.Header[header[0]] = append(request.Header[header[0]], header[1])
		}
	}
	request.Close = true
	began := time.Now()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return &answer{response.StatusCode, response.Header, body, time.Since(began)}, err
}

// sendRaw writes a request to the connection, a new one where the server has closed the last.
func (v *vandal) sendRaw(ctx context.Context, method, text string) (a *answer, err error) {
	for fresh := false; ; {
		if v.conn == nil {
			if v.conn, err = v.dial(ctx); err != nil {
				return nil, err
			}
			fresh = true
			v.reader = bufio.NewReader(v.conn)
		}
		a, err = v.exchange(method, text)
		if err == nil {
			return a, nil
		}
		v.leave()
		if fresh {
			return nil, err
		}
	}
}

func (v *vandal) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: answerLimit}
	return dialer.DialContext(ctx, "tcp", v.site.gateways[0].Address())
}

// leave closes the connection.
func (v *vandal) leave() {
	if v.conn != nil {
		_ = v.conn.Close()
		v.conn = nil
	}
}

// exchange writes a request and reads the answer. The server may answer and close before it has read all.
func (v *vandal) exchange(method, text string) (*answer, error) {
	began := time.Now()
	if err := v.conn.SetDeadline(began.Add(answerLimit)); err != nil {
		return nil, err
	}
	_, written := io.WriteString(v.conn, text)
	for {
		response, err := http.ReadResponse(v.reader, &http.Request{Method: method})
		if err != nil {
			return nil, errors.Join(err, written)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return nil, err
		}
		if response.StatusCode < http.StatusOK {
			continue
		}
		if response.Close || written != nil || method == http.MethodConnect {
			v.leave()
		}
		return &answer{response.StatusCode, response.Header, body, time.Since(began)}, nil
	}
}

// sendBroken writes bytes to a connection of their own, and judges whatever comes back until that is closed.
func (v *vandal) sendBroken(ctx context.Context, q *question, text string) {
	q.mayEnter = v.loot.held(text)
	conn, err := v.dial(ctx)
	if err != nil {
		v.site.tally.violation("%s: %v", broken, err)
		return
	}
	defer conn.Close()
	began := time.Now()
	_ = conn.SetDeadline(began.Add(answerLimit))
	_, _ = io.WriteString(conn, text) // the server may have had enough of it
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	got, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		v.site.tally.violation("%s: neither an answer nor an end: %.300q", broken, text)
		return
	}
	if bytes.Contains(got, []byte(q.mark)) && !q.mayEnter {
		v.site.tally.violation("%s: the application was reached without credentials: %.400q", broken, text)
	}
	reader := bufio.NewReader(bytes.NewReader(got))
	if _, err := reader.Peek(1); err != nil {
		v.site.tally.answer(broken, 0, time.Since(began)) // closed without a word
		return
	}
	for {
		response, err := http.ReadResponse(reader, &http.Request{Method: q.method})
		if err != nil {
			return
		}
		body, _ := io.ReadAll(response.Body) // what is cut off was cut off
		_ = response.Body.Close()
		if response.StatusCode >= http.StatusOK {
			v.inspect(q, &answer{response.StatusCode, response.Header, body, time.Since(began)}, broken, text)
		}
	}
}
