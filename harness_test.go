package openidconnect

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// recorder is an upstream that records what reaches it and answers with the headers it got.
type recorder struct {
	mu       sync.Mutex
	received []arrival
	next     http.HandlerFunc
	admitted int // what reached it when an expectation was last met
}

// arrival is a request that reached the upstream, with its body read; its trailers are there.
type arrival struct {
	*http.Request
	body string
}

func (u *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	next := u.next
	u.mu.Unlock()
	if next != nil {
		u.record(arrival{Request: r})
		next(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	u.record(arrival{Request: r, body: string(body)})
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(r.Header)
}

func (u *recorder) record(a arrival) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.received = append(u.received, a)
}

// answer makes the upstream answer in another way; it then has to read the body itself.
func (u *recorder) answer(next http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next = next
}

// reached is the number of requests that got through to the upstream.
func (u *recorder) reached() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.received)
}

// last is the newest request that got through.
func (u *recorder) last(tb testing.TB) arrival {
	tb.Helper()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.received) == 0 {
		tb.Fatal("no request reached the upstream")
	}
	return u.received[len(u.received)-1]
}

// advance returns how many requests have got through since the last call.
func (u *recorder) advance() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.received) - u.admitted
	u.admitted = len(u.received)
	return n
}

// wantAllowed checks that the request of this reply, and no other since the last check, got through.
func (u *recorder) wantAllowed(tb testing.TB, r *reply) {
	tb.Helper()
	if r.StatusCode != http.StatusOK {
		tb.Errorf("status %d, want 200: %s", r.StatusCode, r.body)
	}
	if n := u.advance(); n != 1 {
		tb.Errorf("%d requests reached the upstream, want 1", n)
	}
}

// wantRefused checks that a request got this refusal in all that refusals have in common, and that nothing has reached the upstream
// since the last check.
func (u *recorder) wantRefused(tb testing.TB, r *reply, status int, reason string) {
	tb.Helper()
	if n := u.advance(); n != 0 {
		tb.Errorf("%d requests reached the upstream, want none", n)
	}
	if r.StatusCode != status {
		tb.Errorf("status %d, want %d (%s): %s", r.StatusCode, status, reason, r.body)
		return
	}
	if got := r.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
		tb.Errorf("Cache-Control %q, want no-store", got)
	}
	if got := r.Header.Values("Set-Cookie"); got != nil {
		tb.Errorf("Set-Cookie %q on a bearer answer", got)
	}
	if got := r.Header.Get("Location"); got != "" {
		tb.Errorf("redirected to %q", got)
	}
	wantChallenge(tb, r, status, reason)
	if r.Request != nil && r.Request.Method == http.MethodHead {
		return
	}
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		tb.Errorf("Content-Type %q, want JSON", got)
		return
	}
	if got := r.json(tb, "reason"); got != reason {
		tb.Errorf("reason %q, want %q", got, reason)
	}
	for _, name := range []string{"error", "error_description", "request_id"} {
		if r.json(tb, name) == "" {
			tb.Errorf("the body has no %s: %s", name, r.body)
		}
	}
}

// wantChallenge checks WWW-Authenticate and Retry-After (RFC 6750 section 3, RFC 9110 section 15.6.4).
func wantChallenge(tb testing.TB, r *reply, status int, reason string) {
	tb.Helper()
	challenges := r.Header.Values("WWW-Authenticate")
	code := map[int]string{http.StatusBadRequest: "invalid_request", http.StatusUnauthorized: "invalid_token"}[status]
	if reason == "insufficient_scope" {
		code = "insufficient_scope"
	}
	switch {
	case reason == "no_credentials":
		if len(challenges) != 1 || !strings.HasPrefix(challenges[0], "Bearer realm=") || strings.Contains(challenges[0], "error") ||
			strings.Contains(challenges[0], "scope") {
			tb.Errorf("challenge %q, want one without an error", challenges)
		}
	case code == "":
		if challenges != nil {
			tb.Errorf("challenge %q with status %d", challenges, status)
		}
	case len(challenges) != 1 || !strings.Contains(challenges[0], `, error="`+code+`", error_description="`):
		tb.Errorf("challenge %q, want error %q with a description", challenges, code)
	}
	if got := r.Header.Get("Retry-After"); (got != "") != (status == http.StatusServiceUnavailable) {
		tb.Errorf("Retry-After %q with status %d", got, status)
	}
}

// site is one handler in front of an upstream that records what reaches it, behind a real HTTP server.
type site struct {
	*recorder
	t       testing.TB
	handler *Handler
	server  *httptest.Server
	logs    *zapobserver.ObservedLogs
}

// provisioning keeps tests apart where Caddy sets globals of its own.
var provisioning sync.Mutex

// newContext is the context of a configuration load that has nothing but what every load has.
func newContext(tb testing.TB) caddy.Context {
	tb.Helper()
	provisioning.Lock()
	defer provisioning.Unlock()
	ctx, _ := newObservedContext(tb)
	return ctx
}

// newObservedContext also returns what is logged, at all levels, by those who get their logger before the next one is made. The caller
// holds the lock.
func newObservedContext(tb testing.TB) (caddy.Context, *zapobserver.ObservedLogs) {
	tb.Helper()
	core, logs := zapobserver.New(zapcore.DebugLevel)
	observedCore = core
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
			WriterRaw: json.RawMessage(`{"output": "discard"}`),
			CoreRaw:   json.RawMessage(`{"module": "openid_connect_test"}`),
			Level:     "DEBUG",
		}}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return ctx, logs
}

// observedCore is for the next logModule to be loaded.
var observedCore zapcore.Core

// logModule is a log core that a test looks into.
type logModule struct{ zapcore.Core }

func init() {
	caddy.RegisterModule(logModule{})
}

func (logModule) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.cores.openid_connect_test", New: func() caddy.Module { return &logModule{observedCore} }}
}

// parse reads the body of a directive, without its braces.
func parse(settings string) (*Handler, error) {
	h := new(Handler)
	err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(directive + " {\n" + settings + "\n}"))
	return h, err
}

// newSite starts a site whose directive holds the given settings.
func newSite(tb testing.TB, settings string) *site {
	tb.Helper()
	h, err := parse(settings)
	if err != nil {
		tb.Fatal(err)
	}
	return startSite(tb, h)
}

// newBearerSite starts a site that accepts bearer tokens of p; the settings name the audience.
func newBearerSite(tb testing.TB, p *optest.Provider, settings string) *site {
	tb.Helper()
	return newSite(tb, "issuer "+p.Issuer()+"\nbearer_only\n"+settings)
}

// startSite starts a site that speaks HTTP/1.1 and HTTP/2 without TLS.
func startSite(tb testing.TB, h *Handler) *site {
	tb.Helper()
	s := provisionSite(tb, h)
	s.server.Start()
	return s
}

// startTLSSite starts a site that asks clients for certificates and takes any, as Caddy does with client_auth mode request.
func startTLSSite(tb testing.TB, h *Handler) *site {
	tb.Helper()
	s := provisionSite(tb, h)
	s.server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	s.server.StartTLS()
	return s
}

func provisionSite(tb testing.TB, h *Handler) *site {
	tb.Helper()
	provisioning.Lock()
	ctx, logs := newObservedContext(tb)
	err := h.Provision(ctx)
	provisioning.Unlock()
	if err != nil {
		tb.Fatal(err)
	}
	s := &site{recorder: new(recorder), t: tb, handler: h, logs: logs}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Config.Protocols = new(http.Protocols)
	s.server.Config.Protocols.SetHTTP1(true)
	s.server.Config.Protocols.SetUnencryptedHTTP2(true)
	tb.Cleanup(func() {
		s.server.Close()
		if err := h.Cleanup(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, w, nil)
	err := s.handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s.recorder.ServeHTTP(w, r)
		return nil
	}))
	if err == nil {
		return
	}
	status := http.StatusInternalServerError
	if handlerError, ok := err.(caddyhttp.HandlerError); ok { //nolint:errorlint // Caddy itself does not wrap it
		status = handlerError.StatusCode
	}
	reason, _ := repl.GetString("http.openid_connect.reason")
	w.Header().Set("X-Handled-Reason", reason)
	w.WriteHeader(status)
	io.WriteString(w, "handle_errors: "+err.Error())
}

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

// in returns the site for the use of a subtest.
func (s *site) in(t testing.TB) *site {
	copied := *s
	copied.t = t
	return &copied
}

// get sends a GET with the given headers, as "Name: value".
func (s *site) get(path string, headers ...string) *reply {
	s.t.Helper()
	return s.do(newRequest(s.t, http.MethodGet, s.server.URL+path, nil, headers...))
}

// bearer sends a GET with a bearer token.
func (s *site) bearer(token string) *reply {
	s.t.Helper()
	return s.get("/", "Authorization: Bearer "+token)
}

func (s *site) do(request *http.Request) *reply {
	s.t.Helper()
	return roundTrip(s.t, http.DefaultTransport, request)
}

// allows checks that a bearer token gets through.
func (s *site) allows(token string) {
	s.t.Helper()
	s.wantAllowed(s.t, s.bearer(token))
}

// refuses checks that a bearer token does not get through, and why.
func (s *site) refuses(token string, status int, reason string) {
	s.t.Helper()
	s.wantRefused(s.t, s.bearer(token), status, reason)
}

// none is a client without a certificate.
var none tls.Certificate

// with sends a GET with a bearer token on a connection with a client certificate.
func (s *site) with(certificate tls.Certificate, token string, headers ...string) *reply {
	s.t.Helper()
	transport := s.server.Client().Transport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	if certificate.Certificate != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{certificate}
	}
	return roundTrip(s.t, transport, newRequest(s.t, http.MethodGet, s.server.URL, nil, append(headers, "Authorization: Bearer "+token)...))
}

// certificateThumbprint is the x5t#S256 of a certificate.
func certificateThumbprint(certificate tls.Certificate) string {
	sum := sha256.Sum256(certificate.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// jsonNull is a claim that is there and null.
var jsonNull = json.RawMessage("null")

type zapEntry = zapobserver.LoggedEntry

// setNow makes the handler believe that it is this time; the site must be idle.
func (s *site) setNow(now time.Time) { s.handler.runtime.now = func() time.Time { return now } }

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

// waitUntil polls a condition that comes true by itself, for ten seconds.
func waitUntil(tb testing.TB, done func() bool) {
	tb.Helper()
	poll, timeout := time.NewTicker(5*time.Millisecond), time.NewTimer(10*time.Second)
	defer poll.Stop()
	defer timeout.Stop()
	for !done() {
		select {
		case <-poll.C:
		case <-timeout.C:
			tb.Fatal("it did not happen within ten seconds")
		}
	}
}
