package openidconnect

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// site is one handler in front of an upstream that records what reaches it, behind a real HTTP server.
type site struct {
	t       testing.TB
	handler *Handler
	server  *httptest.Server
	logs    *zapobserver.ObservedLogs

	mu       sync.Mutex
	received []*http.Request
	next     http.HandlerFunc
}

// newContext is the context of a configuration load that has nothing but what every load has.
func newContext(tb testing.TB) caddy.Context {
	tb.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}})
	if err != nil {
		tb.Fatal(err)
	}
	return ctx
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

// newBearerSite starts a site that accepts the tokens of p for the audience "api".
func newBearerSite(tb testing.TB, p *optest.Provider, settings string) *site {
	tb.Helper()
	return newSite(tb, "issuer "+p.Issuer()+"\nbearer_only\n"+settings)
}

func startSite(tb testing.TB, h *Handler) *site {
	tb.Helper()
	if err := h.Provision(newContext(tb)); err != nil {
		tb.Fatal(err)
	}
	s := &site{t: tb, handler: h}
	core, logs := zapobserver.New(zapcore.DebugLevel)
	h.runtime.logger = zap.New(core)
	s.logs = logs
	s.server = httptest.NewServer(s)
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
	err := s.handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(s.upstream))
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

// upstream records the request as it arrived and answers with its headers.
func (s *site) upstream(w http.ResponseWriter, r *http.Request) error {
	io.Copy(io.Discard, r.Body)
	s.mu.Lock()
	s.received = append(s.received, r)
	next := s.next
	s.mu.Unlock()
	if next != nil {
		next(w, r)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(r.Header)
}

// reached is the number of requests that got through to the upstream.
func (s *site) reached() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.received)
}

// last is the newest request that got through.
func (s *site) last() *http.Request {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.received) == 0 {
		s.t.Fatal("no request reached the upstream")
	}
	return s.received[len(s.received)-1]
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

// get sends a GET with the given headers, as "Name: value".
func (s *site) get(path string, headers ...string) *reply {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodGet, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header[name] = append(request.Header[name], value)
	}
	return s.do(request)
}

// bearer sends a GET with a bearer token.
func (s *site) bearer(token string) *reply {
	s.t.Helper()
	return s.get("/", "Authorization: Bearer "+token)
}

func (s *site) do(request *http.Request) *reply {
	s.t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return &reply{Response: response, body: string(body)}
}
