package openidconnect

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"
	zapobserver "go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// listUp is the value of revocation_list_up; -1 if there is none.
func (s *site) listUp() float64 {
	s.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s.handler.runtime.metrics.revocationListUp); err != nil {
		s.t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	if len(families) == 0 {
		return -1
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

// While the list cannot be read the last one that is known holds: nobody who is out gets in, and nobody else is turned away. The operator
// is told by a metric, and by one line a minute.
func TestListThatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	a := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret("timeout 5s")))
	a.separate(a.site)
	b := a.at(a.separate(newSiteOn(t, storage, p, sealedWithSecret("timeout 5001ms"))))
	ended, later, other := a.signIn("alice", "1"), a.signIn("alice", "2"), a.signIn("bob", "t")
	b.wantDone(p.LogoutToken(optest.BySID("1")))
	a.pass(learnedWithin)
	wantEnded(t, ended)
	waitUntil(t, func() bool { return a.site.listUp() == 1 })

	storage.broken.Store(true)
	broken := a.now()
	for n := range 12 {
		a.pass(learnedWithin)
		wantEnded(t, ended)
		wantAlive(t, later, other)
		waitUntil(t, func() bool { return a.site.listUp() == 0 })
		if lines := a.site.lines(listFailing); lines > 1 {
			t.Fatalf("%d lines within %s", lines, a.now().Sub(broken))
		}
		if n == 0 {
			a.site.logged(zapcore.WarnLevel, listFailing, map[string]string{"error": errStorage.Error(), "issuer": p.Issuer()})
		}
	}
	a.pass(2 * time.Minute)
	wantAlive(t, later)
	waitUntil(t, func() bool { return a.site.lines(listFailing) == 2 })

	storage.broken.Store(false)
	b.wantDone(p.LogoutToken(optest.BySID("2")))
	waitUntil(t, func() bool {
		a.pass(learnedWithin)
		return later.Get(later.url("/"), "Accept: application/json").Status == http.StatusUnauthorized
	})
	waitUntil(t, func() bool { return a.site.listUp() == 1 })
	wantAlive(t, other)
}

// An instance that starts while the list cannot be read lets people in all the same, since it would have to turn all of them away; it says
// so, and learns of the logouts as soon as it can.
func TestListThatCannotBeReadAtStart(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	a := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret("timeout 5s")))
	ended, other := a.signIn("alice", "1"), a.signIn("bob", "t")
	a.wantDone(p.LogoutToken(optest.BySID("1")))
	storage.broken.Store(true)
	b := a.at(a.separate(newSiteOn(t, storage, p, sealedWithSecret("timeout 5001ms"))))
	wantAlive(t, other.at(b.site))
	waitUntil(t, func() bool { return b.site.lines(listFailing) == 1 && b.site.listUp() == 0 })
	storage.broken.Store(false)
	a.pass(2 * learnedWithin)
	wantEnded(t, ended.at(b.site))
	wantAlive(t, other.at(b.site))
	waitUntil(t, func() bool { return b.site.listUp() == 1 })
}

// A storage that hangs holds requests up for a moment, once, and not each of them.
func TestListWhileTheStorageHangs(t *testing.T) {
	t.Parallel()
	a, b, storage := newBackchannels(t, "")
	ended, other := a.signIn("alice", "1"), a.signIn("bob", "t")
	b.wantDone(b.p.LogoutToken(optest.BySID("1")))
	a.pass(learnedWithin)
	wantEnded(t, ended)
	storage.hang()
	a.pass(learnedWithin)
	wantAlive(t, other)
	start := time.Now()
	for range 50 {
		wantAlive(t, other)
	}
	wantEnded(t, ended)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("52 requests took %s", took)
	}
	storage.answer()
}

// That logouts do not reach other instances is said at start where it is so, and where there may be some: with keys that they can have in
// common, and nothing else.
func TestWarningOfLogoutsThatStayHere(t *testing.T) {
	t.Parallel()
	const warning = "logouts end sessions on this instance alone; another one with the same secret would go on taking their cookies"
	folder := json.RawMessage(`{"module": "file_system", "root": "` + t.TempDir() + `"}`)
	const secret = "session {\nsecret \"" + sessionSecret + "\"\n}"
	const stored = "session {\nsecret \"" + sessionSecret + "\"\nstorage caddy\n}"
	for name, test := range map[string]struct {
		storage  json.RawMessage
		settings string
		warns    bool
	}{
		"by default":                               {nil, "", false}, // whoever opens the cookies has the keys of this folder, and its list
		"a secret":                                 {nil, secret, true},
		"a secret, auto":                           {nil, secret + "\nrefresh_coordination auto", true},
		"a secret, local":                          {nil, secret + "\nrefresh_coordination local", true},
		"no secret, local":                         {nil, "refresh_coordination local", true},
		"a secret, told to share":                  {nil, secret + "\nrefresh_coordination storage", false},
		"no secret, told to share":                 {nil, "refresh_coordination storage", false},
		"another storage":                          {folder, "", false},
		"another storage, a secret":                {folder, secret, false},
		"another storage, local":                   {folder, "refresh_coordination local", true},
		"another storage, a secret, local":         {folder, secret + "\nrefresh_coordination local", true},
		"sessions in the storage":                  {nil, stored, false},
		"sessions in the storage, local":           {nil, stored + "\nrefresh_coordination local", false},
		"sessions in another storage":              {folder, stored, false},
		"no renewals, a secret":                    {nil, secret + "\nrenew_access_token_on_expiry off", true},
		"no renewals, a secret, another storage":   {folder, secret + "\nrenew_access_token_on_expiry off", false},
		"no renewals, a secret, and told to share": {nil, secret + "\nrenew_access_token_on_expiry off\nrefresh_coordination storage", false},
		"bearer_only":                              {nil, "bearer_only\naudience api", false},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := parse("issuer https://id.example.com\nclient_id client\n" + test.settings)
			if err != nil {
				t.Fatal(err)
			}
			core, logs := zapobserver.New(zapcore.DebugLevel)
			err = func() error {
				provisioning.Lock()
				defer provisioning.Unlock()
				observedCore = core
				ctx, err := caddy.ProvisionContext(&caddy.Config{
					Admin: &caddy.AdminConfig{Disabled: true}, StorageRaw: test.storage,
					Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
						WriterRaw: json.RawMessage(`{"output": "discard"}`), CoreRaw: json.RawMessage(`{"module": "openid_connect_test"}`),
					}}}},
				})
				if err != nil {
					return err
				}
				return h.Provision(ctx)
			}()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := h.Cleanup(); err != nil {
					t.Error(err)
				}
			}()
			lines := logs.FilterMessage(warning).All()
			if got := len(lines) == 1; got != test.warns || len(lines) > 1 {
				t.Fatalf("%d warnings, want one: %t", len(lines), test.warns)
			}
			if len(lines) == 1 {
				fields := lines[0].ContextMap()
				if hint, _ := fields["hint"].(string); lines[0].Level != zapcore.WarnLevel || !strings.Contains(hint, "refresh_coordination storage") {
					t.Errorf("%s: %v", lines[0].Level, fields)
				}
			}
		})
	}
}

// Where the storage of sessions is that of the list, requests fail before it would be read; that it cannot be read comes out all the same.
func TestListWhileSessionsCannotBeRead(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	a := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret("session {\nstorage caddy\n}")))
	v := a.signIn("alice", "1")
	wantAlive(t, v)
	waitUntil(t, func() bool { return a.site.listUp() == 1 })
	a.pass(max(learnedWithin, storedSessionLifetime))
	storage.broken.Store(true)
	v.wantRefusal(v.Get(v.url("/")), 503, "store_unavailable")
	unavailable := a.site.handler.runtime.metrics.requests.WithLabelValues(methodSession, resultUnavailable)
	if n := valueOf(t, unavailable, methodSession); n != 1 {
		t.Errorf("%v requests with a session are counted as unavailable", n)
	}
	waitUntil(t, func() bool { return a.site.listUp() == 0 && a.site.lines(listFailing) == 1 })
	storage.broken.Store(false)
	a.pass(learnedWithin)
	wantAlive(t, v)
	waitUntil(t, func() bool { return a.site.listUp() == 1 })
}
