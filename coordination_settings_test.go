package openidconnect

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// refresh_coordination says who agrees on renewals through what; by default nobody writes to the folder that Caddy uses without being told.
func TestWhatIsCoordinated(t *testing.T) {
	t.Parallel()
	folder := json.RawMessage(`{"module": "file_system", "root": "` + t.TempDir() + `"}`)
	for name, test := range map[string]struct {
		storage  json.RawMessage
		settings string
		stores   bool
		shares   bool
	}{
		"by default":                                 {nil, "", false, false},
		"auto on the default storage":                {nil, "refresh_coordination auto", false, false},
		"local on the default storage":               {nil, "refresh_coordination local", false, false},
		"storage on the default storage":             {nil, "refresh_coordination storage", false, true},
		"auto on another storage":                    {folder, "refresh_coordination auto", false, true},
		"another storage":                            {folder, "", false, true},
		"local on another storage":                   {folder, "refresh_coordination local", false, false},
		"sessions in the default storage":            {nil, "session {\nstorage caddy\n}", true, true},
		"local, with sessions there":                 {nil, "refresh_coordination local\nsession {\nstorage caddy\n}", true, false},
		"sessions elsewhere":                         {nil, "session {\nstorage memory_test\n}", true, true},
		"no renewals":                                {folder, "renew_access_token_on_expiry off\nrefresh_coordination storage", false, false},
		"no renewals of sessions that are kept here": {folder, "renew_access_token_on_expiry off\nsession {\nstorage caddy\n}", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := parse(sealedWithSecret("issuer https://id.example.com\nclient_id client\n" + test.settings))
			if err != nil {
				t.Fatal(err)
			}
			provisioning.Lock()
			ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, StorageRaw: test.storage})
			if err == nil {
				err = h.Provision(ctx)
			}
			provisioning.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := h.Cleanup(); err != nil {
					t.Error(err)
				}
			}()
			l := h.runtime.login
			if stores, shares := l.store != nil, l.shared != nil; stores != test.stores || shares != test.shares {
				t.Errorf("sessions on the server: %t; renewals shared: %t", stores, shares)
			}
		})
	}
}

// Renewals that are not coordinated write nothing; those that are write no more than their result.
func TestWhatRenewalsWrite(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		files    bool
	}{
		"local":   {"refresh_coordination local", false},
		"storage": {"refresh_coordination storage", true},
		"auto":    {"", true}, // for this folder is not Caddy's own
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			p.SetRefreshTokens(true)
			l := newTimeline(p)
			storage := newSharedFolder(t)
			r := l.welcome(t, l.instance(t, storage, withToken+test.settings))
			for range 10 {
				r.wantServed(0)
			}
			if n := len(storage.files(t, "openid_connect")); n != 0 {
				t.Errorf("%d files before the first renewal", n)
			}
			r.pass(tokenLife)
			r.wantServed(1)
			waitUntil(t, storage.isIdle)
			files := storage.files(t, "openid_connect")
			if test.files != (len(files) > 0) || len(files) > 2 {
				t.Errorf("%d files", len(files))
			}
			cookie := r.cookie()
			for name, content := range files {
				for _, secret := range append(p.Issued(), "alice", cookie, cookie[strings.Index(cookie, "=")+1:]) {
					if strings.Contains(content, secret) || strings.Contains(name, secret) {
						t.Errorf("%.40s can be read in the storage", secret)
					}
				}
			}
		})
	}
}

// The lock of somebody who died without giving it back keeps nobody from using a token that lives, nor for ever from a new one.
func TestLockThatNobodyGivesBack(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	l := newTimeline(p)
	storage := newSharedFolder(t)
	r := l.welcome(t, l.instance(t, storage, withToken+"refresh_coordination storage"))
	first := r.wantServed(0)
	storage.beforeLock(func(string) error { return context.DeadlineExceeded }) // as after a long wait
	r.pass(tokenDue)
	if got := r.ask(); got.Status != http.StatusOK || got.token != first.token {
		t.Errorf("while the token lives: got %d (%s)", got.Status, got.reason)
	}
	r.pass(defaultLeeway)
	r.wantUnavailable()
	if n := p.RefreshAttempts(); n != 0 {
		t.Errorf("%d attempts without the lock", n)
	}
	const warning = "renewals are coordinated within this process alone, as the storage fails"
	if n := r.site.lines(warning); n != 0 {
		t.Errorf("%d warnings while the other may be slow", n)
	}
	for range int((stuckLock + maxPause) / (5 * time.Second)) {
		r.pass(5 * time.Second)
		r.ask()
	}
	r.wantServed(1)
	r.site.logged(zapcore.WarnLevel, warning, map[string]string{"error": "deadline"})
	storage.beforeLock(nil)
	r.pass(tokenLife)
	r.wantServed(2)
}

// isIdle reports whether nobody holds a lock, or waits for one.
func (s *sharedFolder) isIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locks == 0
}
