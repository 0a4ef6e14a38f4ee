package openidconnect

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// sharedFolder is a folder that instances have in common. It knows which locks are held, and can be told to misbehave.
type sharedFolder struct {
	folderStorage
	hanging atomic.Pointer[chan struct{}] // what all calls wait for, without a look at their context

	mu     sync.Mutex
	locks  int                    // under way or held
	onLock func(key string) error // before a lock is taken
}

// newSharedFolder returns one that is removed when nothing goes on in it any more.
func newSharedFolder(t *testing.T) *sharedFolder {
	t.Helper()
	s := new(sharedFolder)
	s.Path = storageFolder(t)
	t.Cleanup(func() {
		s.answer()
		waitUntil(t, s.isIdle)
	})
	return s
}

// hang makes all calls hang from now on, as on a dead network mount, until answer.
func (s *sharedFolder) hang() { s.hanging.Store(new(make(chan struct{}))) }

func (s *sharedFolder) answer() {
	if waiting := s.hanging.Swap(nil); waiting != nil {
		close(*waiting)
	}
}

func (s *sharedFolder) await() {
	if waiting := s.hanging.Load(); waiting != nil {
		<-*waiting
	}
}

func (s *sharedFolder) Load(ctx context.Context, key string) ([]byte, error) {
	s.await()
	return s.folderStorage.Load(ctx, key)
}

func (s *sharedFolder) Store(ctx context.Context, key string, value []byte) error {
	s.await()
	return s.folderStorage.Store(ctx, key, value)
}

func (s *sharedFolder) Lock(ctx context.Context, key string) error {
	s.mu.Lock()
	s.locks++
	before := s.onLock
	s.mu.Unlock()
	held := false
	defer func() {
		if !held {
			s.released()
		}
	}()
	s.await()
	if before != nil {
		if err := before(key); err != nil {
			return err
		}
	}
	err := s.folderStorage.Lock(ctx, key)
	held = err == nil
	return err
}

func (s *sharedFolder) Unlock(ctx context.Context, key string) error {
	defer s.released()
	return s.folderStorage.Unlock(ctx, key)
}

func (s *sharedFolder) released() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locks--
}

// beforeLock is told of each lock that is wanted from now on, and may refuse it.
func (s *sharedFolder) beforeLock(f func(key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onLock = f
}

// newInstances signs somebody in at the first of two instances of a site, which have a storage and keys in common, and nothing else. The
// browser takes both for one.
func newInstances(t *testing.T, settings string) (a, b *renewing, storage *sharedFolder) {
	t.Helper()
	p := optest.New(t)
	p.SetRefreshTokens(true)
	storage = newSharedFolder(t)
	l := newTimeline(p)
	t.Cleanup(func() { wantNoReuse(t, p) })
	first := l.instance(t, storage, settings+"\ntimeout 5s")
	second := l.instance(t, storage, settings+"\ntimeout 5001ms")
	a = l.welcome(t, first)
	return a, a.at(second), storage
}

// instance starts a site on a storage, as in a process of its own: those with other settings have nothing in common but that.
func (l *timeline) instance(t *testing.T, storage *sharedFolder, settings string) *site {
	t.Helper()
	return l.process(newSiteOn(t, storage, l.issuer, sealedWithSecret(settings)))
}

// process has a site go by this time, and by what it knows itself: all sites of a process know of the same renewals.
func (l *timeline) process(s *site) *site {
	s.handler.runtime.login.renewals = newRenewals()
	return l.rule(s)
}

// sealedWithSecret are settings with a secret of the session in them, so that no keys have to be made in the storage.
func sealedWithSecret(settings string) string {
	const block = "session {\n"
	if !strings.Contains(settings, block) {
		settings += "\n" + block + "}"
	}
	return strings.Replace(settings, block, block+"secret \""+sessionSecret+"\"\n", 1)
}

// at is the same browser at another instance.
func (r *renewing) at(s *site) *renewing { return &renewing{r.visitor.at(s), r.timeline} }

// settle waits until nothing of renewals is under way in a site.
func (s *site) settle() {
	s.t.Helper()
	known := s.handler.runtime.login.renewals
	waitUntil(s.t, func() bool {
		known.mu.Lock()
		defer known.mu.Unlock()
		return known.busy == 0
	})
}
