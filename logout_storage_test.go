package openidconnect

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Logouts and what instances share.

// What ends on one instance has ended on the others within five seconds.
func TestLogoutOnAnotherInstance(t *testing.T) {
	t.Parallel()
	for name, settings := range coordinated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _ := newInstances(t, settings)
			a.provider.SetEndSession(true)
			phone := a.welcome(t, a.visitor.site)
			copied, kept := a.cookie(), phone.cookie()
			a.wantAlive(copied)
			b.wantAlive(copied)
			if r := a.signOut(); r.Status != http.StatusOK && r.Status != http.StatusFound {
				t.Fatalf("got %d", r.Status)
			}
			a.wantDead(copied)
			a.pass(5 * time.Second)
			b.wantDead(copied)
			b.at(b.visitor.site).wantAlive(kept)

			// and the other way round, with a session that both have renewed
			phone.pass(tokenLife)
			phone.wantServed(1)
			renewed := phone.cookie()
			there := phone.at(b.visitor.site)
			there.wantAlive(renewed)
			there.signOut()
			there.wantDead(renewed)
			phone.pass(5 * time.Second)
			for _, cookies := range []string{kept, renewed, copied} {
				phone.wantDead(cookies)
				there.wantDead(cookies)
			}
		})
	}
}

// A storage that fails, or hangs, keeps nobody signed in: this process knows of the logout, and tells the others when it can.
func TestLogoutWhileTheStorageFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings string
		fail     func(s *sharedFolder)
		heal     func(s *sharedFolder)
	}{
		"not written": {
			"", func(s *sharedFolder) { s.noStore.Store(true) }, func(s *sharedFolder) { s.noStore.Store(false) },
		},
		"neither read nor written": {
			"", func(s *sharedFolder) { s.noStore.Store(true); s.noLoad.Store(true) }, func(s *sharedFolder) { s.noStore.Store(false); s.noLoad.Store(false) },
		},
		"hanging": {"", (*sharedFolder).hang, (*sharedFolder).answer},
		"sessions in it, not written": {
			"session {\nstorage caddy\n}", func(s *sharedFolder) { s.noStore.Store(true) }, func(s *sharedFolder) { s.noStore.Store(false) },
		},
		"sessions in it, not read": {
			"session {\nstorage caddy\n}", func(s *sharedFolder) { s.noLoad.Store(true) }, func(s *sharedFolder) { s.noLoad.Store(false) },
		},
		"sessions in it, hanging": {"session {\nstorage caddy\n}", (*sharedFolder).hang, (*sharedFolder).answer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := logoutTimeline(t)
			storage := newSharedFolder(t)
			r := l.welcome(t, l.instance(t, storage, withToken+"timeout 5s\n"+test.settings))
			copied := r.cookie()
			r.wantAlive(copied)
			r.pass(rereadAfter) // the store has to be asked who this is
			test.fail(storage)
			began := time.Now()
			answer := r.signOut()
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			if answer.Status != http.StatusFound && answer.Status != http.StatusOK {
				t.Fatalf("got %d: %s", answer.Status, shown(answer))
			}
			r.wantEndOf(answer)
			refused := r.clone().ask("Cookie: " + copied)
			if refused.Status == http.StatusOK || refused.set != "" {
				t.Errorf("while it fails: got %d, Set-Cookie %q", refused.Status, refused.set)
			}
			r.upstream.advance()
			test.heal(storage)
			r.wantDead(copied)
			r.site.settle()
			r.pass(tokenLife)
			r.forgetOpened()
			r.wantDead(copied)

			// what could not be told has been told by now
			other := l.instance(t, storage, withToken+"timeout 5001ms\n"+test.settings)
			there := r.at(other)
			l.welcome(t, other) // somebody else signs in there
			there.wantDead(copied)
		})
	}
}

// A logout tells other instances of nothing but that a session is over.
func TestLogoutLeavesNothingInTheStorage(t *testing.T) {
	t.Parallel()
	l := logoutTimeline(t)
	storage := newSharedFolder(t)
	r := l.welcome(t, l.instance(t, storage, withToken+"session {\nstorage caddy\n}"))
	r.pass(tokenLife)
	r.wantServed(1)
	r.site.settle()
	before := storage.files(t, "openid_connect/sessions")
	if len(before) != 1 {
		t.Fatalf("%d sessions are stored", len(before))
	}
	copied := r.cookie()
	r.wantLogout(r.signOut())
	r.site.settle()
	if after := storage.files(t, "openid_connect/sessions"); len(after) != 0 {
		t.Errorf("%d sessions are stored after the logout", len(after))
	}
	for name, content := range storage.files(t, "openid_connect") {
		for _, secret := range append(l.issuer.Issued(), copied, "alice") {
			if strings.Contains(name, secret) || strings.Contains(content, secret) {
				t.Errorf("%.40s can be read in the storage", secret)
			}
		}
	}
	r.wantDead(copied)
}
