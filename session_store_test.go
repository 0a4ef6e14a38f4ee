package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// withStorage is what a site needs to keep sessions in Caddy's storage.
const withStorage = "session {\nsecret \"" + sessionSecret + "\"\nstorage caddy\n}\n"

// rereadAfter is more than a stored session is believed before it is read again.
const rereadAfter = storedSessionLifetime + time.Second

// With storage caddy the cookie is a short reference, and what it refers to can be read by nobody who has the storage alone.
func TestStoredSessions(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	p.SetUser(optest.Claims{"sub": "alice-in-the-storage", "groups": manyGroups(1000)})
	s := newSiteOn(t, storage, p, withStorage+"set_access_token_header\nset_userinfo_header off\nclaim_header X-User sub")
	v := newVisitor(t, s, p)
	v.signIn("/")
	cookies := v.kept(isSessionName)
	if len(cookies) != 1 || len(cookies[0].Value) > 300 {
		t.Fatalf("%d cookies, the first with %d bytes", len(cookies), len(cookies[0].Value))
	}
	files := storage.files(t, "openid_connect/sessions")
	if len(files) != 1 {
		t.Errorf("%d sessions are stored", len(files))
	}
	for name, content := range files {
		for _, secret := range append(p.Issued(), "alice", cookies[0].Value) {
			if strings.Contains(content, secret) || strings.Contains(name, secret) {
				t.Errorf("%.40s can be read in the storage", secret)
			}
		}
	}
	v.later(rereadAfter)
	v.wantSession(true)
	s.wantHeaders(map[string]string{"X-User": "alice-in-the-storage"})

	t.Run("another login replaces it", func(t *testing.T) {
		earlier := v.clone()
		request := v.wantLogin(v.open("/oauth2/login?prompt=login"))
		v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
		if n := len(storage.files(t, "openid_connect/sessions")); n != 1 {
			t.Errorf("%d sessions are stored", n)
		}
		v.later(rereadAfter)
		earlier.Now = v.Now
		earlier.wantSession(false)
		v.wantSession(true)
	})
	t.Run("somebody else's record in its place", func(t *testing.T) {
		other := newVisitor(t, s, p)
		other.Now = v.Now
		other.signIn("/")
		files := storage.files(t, "openid_connect/sessions")
		if len(files) != 2 {
			t.Fatalf("%d sessions are stored", len(files))
		}
		var names []string
		for name := range files {
			names = append(names, name)
		}
		writeFile(t, names[0], files[names[1]])
		v.later(rereadAfter)
		other.Now = v.Now
		signedIn := 0
		for _, somebody := range []*visitor{v, other} {
			if somebody.Get(s.server.URL+"/", "Accept: application/json").Status == http.StatusOK {
				signedIn++
			}
		}
		if signedIn != 1 {
			t.Errorf("%d of two are signed in, want the one whose record is his own", signedIn)
		}
		s.advance()
	})
}

// A session ends when its record is gone, and by its own clocks.
func TestStoredSessionsEnd(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	s := newSiteOn(t, storage, p, strings.Replace(withStorage, "storage caddy", "storage caddy\nidling_timeout 30m\nabsolute_timeout 2h", 1))
	t.Run("the record is gone", func(t *testing.T) {
		v := newVisitor(t, s, p)
		v.signIn("/")
		removeFolder(t, storage.Path+"/openid_connect/sessions")
		v.later(rereadAfter)
		v.wantSession(false)
		v.wantLogin(v.open("/"))
		if n := len(v.kept(isSessionName)); n != 0 {
			t.Errorf("%d cookies of the session are left", n)
		}
		s.logged(zapcore.DebugLevel, "request refused", map[string]string{"reason": "session_expired"})
	})
	t.Run("unused", func(t *testing.T) {
		p.Advance(rereadAfter)
		v := newVisitor(t, s, p)
		v.later(0)
		v.signIn("/")
		v.later(29 * time.Minute)
		v.wantSession(true)
		v.later(29 * time.Minute) // it was used half an hour ago
		v.wantSession(true)
		v.later(31 * time.Minute)
		v.wantSession(false)
	})
	t.Run("too old", func(t *testing.T) {
		p.Advance(89 * time.Minute)
		v := newVisitor(t, s, p)
		v.later(0)
		v.signIn("/")
		for range 7 {
			v.later(17 * time.Minute)
			v.wantSession(true)
		}
		v.later(time.Minute + time.Second)
		v.wantSession(false)
	})
}

// While the storage fails nobody is logged out and nobody is let in unseen; when it works again everything is as before.
func TestTheStoreFails(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	s := newSiteOn(t, storage, p, withStorage)
	v := newVisitor(t, s, p)
	v.signIn("/")

	storage.noLoad.Store(true)
	v.later(rereadAfter)
	before := hitsOf(p)
	v.wantStoreFailure()
	wantHits(t, p, before, hits{})
	s.logged(zapcore.ErrorLevel, "request refused", map[string]string{"reason": "store_unavailable", "error": errStorage.Error()})
	anonymous := newVisitor(t, s, p)
	anonymous.wantLogin(anonymous.open("/")) // who has no session needs none to be read
	storage.noLoad.Store(false)
	v.wantSession(true)

	t.Run("by a panic", func(t *testing.T) {
		storage.panics.Store(true)
		defer storage.panics.Store(false)
		v.later(rereadAfter)
		v.wantStoreFailure()
		storage.panics.Store(false)
		v.wantSession(true)
	})
	t.Run("at the end of a login", func(t *testing.T) {
		storage.noStore.Store(true)
		defer storage.noStore.Store(false)
		before := hitsOf(p)
		v := newVisitor(t, s, p)
		v.later(0)
		failed := v.Navigate(v.url("/page"))
		v.wantPage(failed, http.StatusServiceUnavailable, "store_unavailable")
		wantHits(t, p, before, hits{authorize: 1, token: 1})
		storage.noStore.Store(false)
		if landed := v.NavigateFrom(v.url("/"), v.wayOut(failed)); landed.Status != http.StatusOK || landed.URL != v.url("/page") {
			t.Errorf("then landed on %s with %d", landed.URL, landed.Status)
		}
		s.advance()
	})
	t.Run("when a session is reissued", func(t *testing.T) {
		v := newVisitor(t, s, p)
		v.later(0)
		v.signIn("/")
		storage.noStore.Store(true)
		defer storage.noStore.Store(false)
		v.later(6 * time.Minute)
		stored := storage.stored.Load()
		v.upstream.advance()
		r := v.Get(v.url("/"), "Accept: application/json")
		if r.Status != http.StatusOK || len(sessionsIn(r)) != 1 || v.upstream.advance() != 1 {
			t.Errorf("got %d and %q, want a new cookie", r.Status, r.Header.Values("Set-Cookie"))
		}
		if n := storage.stored.Load() - stored; n != 0 {
			t.Errorf("%d writes: that a session was used is for its cookie alone to say", n)
		}
	})
}

// Caddy's storage forgets nothing by itself, so what is past is removed, and nothing else.
func TestExpiredSessionsAreRemoved(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	now := time.Now().UTC()
	past := []string{
		"openid_connect/sessions/2020-02-29/a", "openid_connect/sessions/2020-02-29/b",
		"openid_connect/sessions/" + now.AddDate(0, 0, -2).Format(time.DateOnly) + "/c",
	}
	kept := []string{
		"openid_connect/sessions/" + now.Format(time.DateOnly) + "/d", "openid_connect/sessions/" + now.AddDate(0, 0, 2).Format(time.DateOnly) + "/e",
		"openid_connect/sessions/other/f", "openid_connect/2020-02-29/g", "certificates/2020-02-29/h",
	}
	for _, key := range slices.Concat(past, kept) {
		if err := storage.Store(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	s := newSiteOn(t, storage, p, withStorage)
	v := newVisitor(t, s, p)
	v.signIn("/")
	waitUntil(t, func() bool {
		return !slices.ContainsFunc(past, func(key string) bool { return storage.Exists(t.Context(), key) })
	})
	for _, key := range kept {
		if !storage.Exists(t.Context(), key) {
			t.Errorf("%s is gone", key)
		}
	}
	v.later(rereadAfter)
	v.wantSession(true)
}

// Sessions outlive reloads and restarts, in the cookie and in the storage, with keys that Caddy has made itself.
func TestSessionsOutliveCaddy(t *testing.T) {
	p := optest.New(t)
	for _, kind := range []string{"cookie", "caddy"} {
		t.Run(kind, func(t *testing.T) {
			site := func(settings string) string {
				return "openid_connect " + p.Issuer() + " {\nclient_id client\nclient_secret secret\nsession {\nstorage " + kind + "\n}\n" + settings +
					"\n}\nreverse_proxy $UPSTREAM"
			}
			c := startCaddy(t, site(""))
			browser := optest.NewBrowser(t)
			if landed := browser.Navigate(c.url("/")); landed.Status != http.StatusOK {
				t.Fatalf("got %d: %s", landed.Status, landed.Body)
			}
			before := hitsOf(p)
			want := func(when string) {
				t.Helper()
				if r := browser.Get(c.url("/"), "Accept: application/json"); r.Status != http.StatusOK {
					t.Errorf("%s: got %d", when, r.Status)
				}
			}
			want("at first")
			for _, settings := range []string{"claim_header X-User sub", ""} {
				if err := c.load(site(settings)); err != nil {
					t.Fatal(err)
				}
				want("after a reload")
			}
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := c.load(site("")); err != nil {
				t.Fatal(err)
			}
			want("after a restart")
			wantHits(t, p, before, hits{})
			if r := optest.NewBrowser(t).Get(c.url("/"), "Accept: application/json"); r.Status != http.StatusUnauthorized {
				t.Errorf("without a session: got %d", r.Status)
			}
		})
	}
}
