package openidconnect

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// The first secret seals and all open: nobody notices that a new one has been put in front of the old, until the old one is dropped.
func TestSecretsAreReplaced(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	with := func(secrets string) *site {
		s := newSite(t, "issuer "+p.Issuer()+"\nclient_id client\nclient_secret secret\nsession {\nsecret "+secrets+"\n}")
		t.Cleanup(func() { wantSilence(t, p, s) })
		return s
	}
	const older, newer = "the-older-secret-of-this-test-is-long", "a-newer-secret" // and short, at 16 bytes
	before, both, after := with(older), with(newer+"-2 "+older), with(newer+"-2")

	v := newVisitor(t, before, p)
	v.signIn("/")
	underWay := v.clone()
	request := v.begin("/oauth2/login?prompt=login") // a login that is finished after the change
	earlier := v.clone()
	renewed := v.at(both).open("/")
	if names := sessionsIn(renewed); len(names) != 1 {
		t.Fatalf("a session under an older secret is not sealed anew: %q", names)
	}
	if n := both.advance(); n != 1 {
		t.Errorf("%d requests reached the upstream", n)
	}
	if got := renewed.Header.Get("Cache-Control"); got != "private, no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	again := v.at(both).open("/")
	if names := sessionsIn(again); len(names) != 0 {
		t.Errorf("it is sealed again and again: %q", names)
	}
	both.advance()
	v.at(after).wantSession(true)

	t.Run("a login under way", func(t *testing.T) {
		v := v.clone()
		v.at(both).wantRedirect(v.at(both).finishAt(both, request), "/")
	})
	t.Run("once the older is dropped", func(t *testing.T) {
		earlier := earlier.clone().at(after)
		earlier.wantSession(false)
		landed := earlier.Navigate(earlier.url("/page"))
		if landed.Status != http.StatusOK || landed.URL != earlier.url("/page") {
			t.Errorf("landed on %s with %d", landed.URL, landed.Status)
		}
		after.advance()
		earlier.wantSession(true)
	})
	t.Run("a login under way when the older is dropped", func(t *testing.T) {
		v := underWay.clone().at(before)
		v.lose(isSessionName)
		request := v.begin("/page")
		v = v.at(after)
		restarted := v.finishAt(after, request)
		request = v.wantLogin(restarted) // not the code of an unknown login, but another login
		v.wantRedirect(v.arrive(request, v.answerTo(request)), "/")
	})
	after.logged(zapcore.DebugLevel, "request refused", map[string]string{"reason": "session_invalid", "hint": "another secret"})
}

// generated is a site that leaves the keys to Caddy. Each has a timeout of its own, so that they are like instances on several machines.
func generated(t *testing.T, storage *folderStorage, p *optest.Provider, timeout, settings string) *site {
	t.Helper()
	if settings != "" {
		settings = "session {\n" + settings + "\n}"
	}
	return newSiteOn(t, storage, p, "timeout "+timeout+"\n"+settings)
}

const keyFile = "openid_connect/session_keys.json"

// Instances on one storage share the keys that the first of them has made, when it was needed first, and thereby all sessions.
func TestInstancesShareGeneratedKeys(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"cookie", "caddy"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			storage, elsewhere := newFolderStorage(t), newFolderStorage(t)
			one, two := generated(t, storage, p, "5s", "storage "+kind), generated(t, storage, p, "6s", "storage "+kind)
			foreign := generated(t, elsewhere, p, "7s", "storage "+kind)
			if n := len(storage.files(t, "")); n != 0 {
				t.Errorf("%d files before any login", n)
			}
			v := newVisitor(t, one, p)
			v.signIn("/")
			v.at(two).wantSession(true)
			if n := len(storage.files(t, keyFile)); n != 1 {
				t.Errorf("%d files of keys", n)
			}
			three := generated(t, storage, p, "8s", "storage "+kind) // one that starts later
			v.at(three).wantSession(true)

			request := newVisitor(t, one, p)
			begun := request.begin("/page")
			request.at(two).wantRedirect(request.at(two).finishAt(two, begun), "/page")
			request.at(three).wantSession(true)

			v.at(foreign).wantSession(false)
			landed := v.at(foreign).Navigate(foreign.server.URL + "/page")
			if landed.Status != http.StatusOK {
				t.Errorf("on another storage: landed on %s with %d", landed.URL, landed.Status)
			}
			foreign.advance()
		})
	}
}

// Instances that start together make one key, not each its own.
func TestInstancesStartTogether(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	var sites []*site
	for _, timeout := range []string{"5s", "6s", "7s", "8s"} {
		sites = append(sites, generated(t, storage, p, timeout, ""))
	}
	visitors := make([]*visitor, len(sites))
	var group sync.WaitGroup
	for i, s := range sites {
		visitors[i] = newVisitor(t, s, p)
		group.Go(func() {
			if landed := visitors[i].Navigate(visitors[i].url("/")); landed.Status != http.StatusOK {
				t.Errorf("got %d: %s", landed.Status, landed.Body)
			}
		})
	}
	group.Wait()
	for _, s := range sites {
		s.advance()
	}
	for _, v := range visitors {
		for _, s := range sites {
			v.at(s).wantSession(true)
		}
	}
	for _, content := range storage.files(t, keyFile) {
		if n := strings.Count(content, `"created"`); n != 1 {
			t.Errorf("%d keys were made", n)
		}
	}
}

// Two handlers of one process use one ring and one session.
func TestHandlersShareGeneratedKeys(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	one := generated(t, storage, p, "5s", "")
	two := newSiteOn(t, storage, p, "timeout 5s\nrequired_claim tenant acme")
	v := newVisitor(t, one, p)
	v.signIn("/")
	v.at(two).wantPage(v.at(two).open("/"), http.StatusForbidden, "claim_required")
	if n := storage.stored.Load(); n != 1 {
		t.Errorf("the storage was written to %d times", n)
	}
}

// Without a storage that works there are logins all the same, which end with the process, and a warning says so.
func TestGeneratedKeysWithoutStorage(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	storage.noLoad.Store(true)
	storage.noStore.Store(true)
	s := generated(t, storage, p, "5s", "")
	v := newVisitor(t, s, p)
	v.signIn("/")
	v.wantSession(true)
	const warning = "the session keys in the storage cannot be used; sessions go on with keys that only this process knows"
	s.logged(zapcore.WarnLevel, warning, map[string]string{"error": errStorage.Error()})
	for range 5 {
		newVisitor(t, s, p).signIn("/")
	}
	if n := s.logs.FilterMessage(warning).Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// A key that is a month old gets a successor, and the sessions that it has sealed go on.
func TestGeneratedKeysRotate(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newFolderStorage(t)
	const lifetime = "absolute_timeout 90d"
	one := generated(t, storage, p, "5s", lifetime)
	v := newVisitor(t, one, p)
	v.signIn("/")
	files := storage.files(t, keyFile)
	if len(files) != 1 {
		t.Fatalf("%d files of keys", len(files))
	}
	for name, content := range files { // as if the month had passed
		year := time.Now().UTC().Format("2006-")
		if !strings.Contains(content, `"created": "`+year) {
			t.Fatalf("no date in %s", name)
		}
		writeFile(t, name, strings.Replace(content, `"created": "`+year, `"created": "2020-`, 1))
	}
	two := generated(t, storage, p, "6s", lifetime)
	newVisitor(t, two, p).signIn("/")
	waitUntil(t, func() bool {
		return slices.ContainsFunc(contents(storage.files(t, keyFile)), func(text string) bool { return strings.Count(text, `"created"`) == 2 })
	})
	v.at(two).wantSession(true)
	v.at(one).wantSession(true)
}

func contents(files map[string]string) (all []string) {
	for _, content := range files {
		all = append(all, content)
	}
	return all
}
