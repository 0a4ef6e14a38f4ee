package openidconnect

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
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
		Admin:      &caddy.AdminConfig{Disabled: true},
		StorageRaw: must(json.Marshal(map[string]string{"module": "file_system", "root": storageFolder(tb)})),
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

// storageFolder is a folder for Caddy's storage. Renewals go on when the answer that a test has waited for is there, and may write to it.
func storageFolder(tb testing.TB) string {
	tb.Helper()
	folder, err := os.MkdirTemp("", "openid-connect-*") //nolint:usetesting // as it says
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { waitUntil(tb, func() bool { return os.RemoveAll(folder) == nil }) })
	return folder
}

// rest waits until nothing of renewals is under way in a handler, but not for long: the provider may have been told to hang.
func (h *Handler) rest() {
	if h.runtime == nil || h.runtime.login == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h.runtime.login.renewals.settle(ctx)
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
		h.rest()
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
