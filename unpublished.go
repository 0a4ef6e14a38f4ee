package openidconnect

import (
	"context"
	"sync"
	"time"
)

const (
	// retryEvery, retryAtMost and retryFor are how what others must know gets into a storage that fails.
	retryEvery  = 500 * time.Millisecond
	retryAtMost = 10 * time.Second
	retryFor    = 10 * time.Minute
	// maxUnpublished bounds what is kept for that.
	maxUnpublished = 10_000
)

// unpublished is what other instances have yet to be told of sessions, the newest notice for each, because the storage failed. One goroutine
// publishes all of it as soon as the storage is back. A process that ends before loses it: nobody waits for that goroutine.
type unpublished struct {
	mu      sync.Mutex
	notices map[[16]byte]*notice
	running bool
}

// notice is what is to be told of one session.
type notice struct {
	tell  func(context.Context) bool
	until time.Time
}

// add has a notice about a session published later, in the place of any older.
func (u *unpublished) add(id [16]byte, tell func(context.Context) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.notices == nil {
		u.notices = make(map[[16]byte]*notice)
	}
	if u.notices[id] == nil && len(u.notices) >= maxUnpublished {
		return
	}
	u.notices[id] = &notice{tell, time.Now().Add(retryFor)}
	if !u.running {
		u.running = true
		go u.publishAll()
	}
}

// publishAll tells everything, as fast as the storage takes it, and waits for longer and longer while it does not.
func (u *unpublished) publishAll() {
	pause := retryEvery
	again := time.NewTimer(pause)
	defer again.Stop()
	for {
		<-again.C
		id, next, ok := u.take()
		if !ok {
			return
		}
		if next.tell(context.Background()) {
			u.drop(id, next)
			pause = retryEvery
			again.Reset(0)
			continue
		}
		again.Reset(pause)
		pause = min(2*pause, retryAtMost)
	}
}

// take returns any notice that is worth telling still; when there is none the telling ends.
func (u *unpublished) take() (id [16]byte, next *notice, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for id, next := range u.notices {
		if now.Before(next.until) {
			return id, next, true
		}
		delete(u.notices, id)
	}
	u.running = false
	return id, nil, false
}

// drop takes out a notice that was told, if nothing newer has taken its place.
func (u *unpublished) drop(id [16]byte, told *notice) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.notices[id] == told {
		delete(u.notices, id)
	}
}
