package openidconnect

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// learnedWithin is how long another instance may take to learn of a logout.
const learnedWithin = 5 * time.Second

// listFailing is the line about a list that cannot be read or written.
const listFailing = "the list of ended sessions cannot be read or written for now; what is known of it stays in force"

// brokenStorage is a storage that can be told to fail at everything.
type brokenStorage struct {
	folderStorage
	broken atomic.Bool
}

func newBrokenStorage(t *testing.T) *brokenStorage {
	t.Helper()
	s := new(brokenStorage)
	s.Path = storageFolder(t)
	return s
}

func (s *brokenStorage) err() error {
	if s.broken.Load() {
		return errStorage
	}
	return nil
}

func (s *brokenStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.folderStorage.Load(ctx, key)
}

func (s *brokenStorage) Store(ctx context.Context, key string, value []byte) error {
	return errors.Join(s.err(), s.unless(func() error { return s.folderStorage.Store(ctx, key, value) }))
}

func (s *brokenStorage) Delete(ctx context.Context, key string) error {
	return errors.Join(s.err(), s.unless(func() error { return s.folderStorage.Delete(ctx, key) }))
}

func (s *brokenStorage) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.folderStorage.List(ctx, path, recursive)
}

func (s *brokenStorage) unless(do func() error) error {
	if s.broken.Load() {
		return nil
	}
	return do()
}

// separate has a site know nothing of the other sites of this process, as if it ran in its own.
func (l *timeline) separate(s *site) *site {
	login := s.handler.runtime.login
	login.renewals, login.memory, login.logouts = newRenewals(), newLoginMemory(), newLogoutMemory()
	pool.Delete(runtimeKey(s.handler.runtime.number))
	return l.rule(s)
}

// newBackchannels starts two instances of a site on one storage.
func newBackchannels(t *testing.T, settings string) (first, second *backchannel, storage *sharedFolder) {
	t.Helper()
	p := optest.New(t)
	storage = newSharedFolder(t)
	first = newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret(settings+"\ntimeout 5s")))
	first.separate(first.site)
	second = first.at(first.separate(newSiteOn(t, storage, p, sealedWithSecret(settings+"\ntimeout 5001ms"))))
	return first, second, storage
}

// Other instances learn of a logout within seconds, and one that is started later at once (S-226).
func TestS226OtherInstancesLearnOfLogouts(t *testing.T) {
	t.Parallel()
	for where, settings := range map[string]string{
		"in cookies": "", "in cookies, told to share": "refresh_coordination storage\n", "in the storage": keptWhere["in the storage"],
	} {
		for name, edit := range map[string]func(optest.Claims){
			"by sid": optest.BySID("s"), "by sub": optest.BySub("alice"), "by both": optest.BySIDAndSub("s", "alice"),
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				a, b, storage := newBackchannels(t, settings)
				victim, other := a.signIn("alice", "s"), a.signIn("bob", "t")
				wantAlive(t, victim.at(b.site), other.at(b.site), victim, other)
				b.wantDone(b.p.LogoutToken(edit))
				wantEnded(t, victim.at(b.site))
				a.pass(learnedWithin)
				wantEnded(t, victim)
				wantAlive(t, other, other.at(b.site))

				c := a.at(a.separate(newSiteOn(t, storage, a.p, sealedWithSecret(settings+"\ntimeout 5002ms"))))
				wantEnded(t, victim.at(c.site))
				wantAlive(t, other.at(c.site))
				a.pass(2 * time.Second)
				again := c.signIn("alice", "s")
				a.pass(learnedWithin)
				wantAlive(t, again, again.at(a.site), again.at(b.site))
			})
		}
	}
}

// Handlers of one client at one provider are told once, wherever each of them has its sessions; other clients and providers do not notice.
func TestOneLogoutForAllHandlersOfAClient(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(optest.Claims){"by sid": optest.BySID("s"), "by sub": optest.BySub("alice")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := optest.New(t)
			sites := []*backchannel{newBackchannelAt(t, p, newLoginSite(t, p, ""))}
			for _, settings := range []string{"", keptWhere["in the storage"], keptWhere["in the storage"], "session {\nabsolute_timeout 2h\n}"} {
				sites = append(sites, sites[0].at(newLoginSite(t, p, settings)))
			}
			for _, told := range sites {
				var victims, others []*visitor
				for _, b := range sites {
					victims, others = append(victims, b.signIn("alice", "s")), append(others, b.signIn("bob", "t"))
				}
				wantAlive(t, append(victims, others...)...)
				told.wantDone(p.LogoutToken(edit))
				wantEnded(t, victims...)
				wantAlive(t, others...)
				told.pass(2 * time.Second)
			}
		})
	}
}

// A store that fails is no reason to let somebody in: this process has the session ended all the same, the provider hears that it should
// try again, and that works.
func TestBackchannelWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	b := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret(keptWhere["in the storage"])))
	victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
	token := p.LogoutToken(optest.BySID("s"))
	b.wantDone(p.LogoutToken(optest.BySID("nobody"))) // the good case
	listed := b.site.listed()
	storage.broken.Store(true)
	answered := make(chan optest.BackchannelAnswer, 1)
	go func() { answered <- p.SendLogout(t, b.uri, token) }()
	waitUntil(t, func() bool { return b.site.listed() > listed })
	if r := victim.Get(victim.url("/"), "Accept: application/json"); r.Status != http.StatusUnauthorized {
		t.Errorf("the session that was to end gets %d", r.Status)
	}
	if r := other.Get(other.url("/"), "Accept: application/json"); r.Status != http.StatusOK {
		t.Errorf("another session gets %d", r.Status)
	}
	if n := len(storage.files(t, "openid_connect/sessions")); n != 2 {
		t.Fatalf("%d sessions are stored", n)
	}
	storage.broken.Store(false)
	b.wantRefusal(<-answered, http.StatusBadRequest, "store_unavailable")
	b.site.logged(zapcore.ErrorLevel, "request refused", map[string]string{"reason": "store_unavailable", "error": errStorage.Error()})
	b.wantDone(token)
	if n := len(storage.files(t, "openid_connect/sessions")); n != 1 {
		t.Errorf("%d sessions are stored", n)
	}
	wantEnded(t, victim)
	wantAlive(t, other)
}

// With sessions in cookies there is nothing to be found in a store; what could not be written is written later.
func TestBackchannelWhileTheListCannotBeWritten(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	storage := newBrokenStorage(t)
	b := newBackchannelAt(t, p, newSiteOn(t, storage, p, sealedWithSecret("timeout 5s")))
	b.separate(b.site)
	victim, other := b.signIn("alice", "s"), b.signIn("bob", "t")
	storage.broken.Store(true)
	answered := make(chan optest.BackchannelAnswer, 1)
	go func() { answered <- b.p.SendLogout(t, b.uri, p.LogoutToken(optest.BySID("s"))) }()
	waitUntil(t, func() bool { return b.site.listed() == 1 })
	wantEnded(t, victim) // before the provider has its answer
	wantAlive(t, other)
	waitUntil(t, func() bool { return b.site.lines(listFailing) > 0 })
	storage.broken.Store(false)
	wantDone(t, <-answered)
	wantEnded(t, victim)
	// the next instance gets to know it
	next := b.at(b.separate(newSiteOn(t, storage, p, sealedWithSecret("timeout 5001ms"))))
	wantEnded(t, victim.at(next.site))
	wantAlive(t, other.at(next.site))
}
