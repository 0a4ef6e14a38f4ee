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
	// maxUntold bounds what is kept for that.
	maxUntold = 10_000
)

// untold is what other instances have yet to learn of sessions, the newest of each. It is told as soon as the storage is back, by one
// goroutine for all.
type untold struct {
	mu      sync.Mutex
	news    map[[16]byte]*piece
	telling bool
}

// piece is a piece of news.
type piece struct {
	tell  func(context.Context) bool
	until time.Time
}

// add has the news about a session told later, in the place of any older.
func (u *untold) add(id [16]byte, tell func(context.Context) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.news == nil {
		u.news = make(map[[16]byte]*piece)
	}
	if u.news[id] == nil && len(u.news) >= maxUntold {
		return
	}
	u.news[id] = &piece{tell, time.Now().Add(retryFor)}
	if !u.telling {
		u.telling = true
		go u.tellAll()
	}
}

// tellAll tells everything, as fast as the storage takes it, and waits for longer and longer while it does not.
func (u *untold) tellAll() {
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

// take returns any piece that is worth telling still; when there is none the telling ends.
func (u *untold) take() (id [16]byte, next *piece, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	for id, next := range u.news {
		if now.Before(next.until) {
			return id, next, true
		}
		delete(u.news, id)
	}
	u.telling = false
	return id, nil, false
}

// drop takes out a piece that was told, if nothing newer has taken its place.
func (u *untold) drop(id [16]byte, told *piece) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.news[id] == told {
		delete(u.news, id)
	}
}
