package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// A session may live for longer on another instance, or by an earlier setting, than this process knows of. What names sessions that it has
// not seen has to be kept for that long.

// lifeInterval is how often it is asked for.
const lifeInterval = time.Minute

// sessionLives is what is known of that.
type sessionLives struct {
	noting singleflight.Group // by owner and life

	mu sync.Mutex
	of map[Owner]sessionLife
}

type sessionLife struct {
	life time.Duration
	at   time.Time // when the backend said so
}

// known returns what the backend said last, and whether that was a short while ago.
func (l *sessionLives) known(owner Owner) (life time.Duration, ok, fresh bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.of[owner]
	return known.life, ok, ok && time.Since(known.at) < lifeInterval
}

func (l *sessionLives) note(owner Owner, life time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[Owner]sessionLife)
	}
	l.of[owner] = sessionLife{life, time.Now()}
}

func (o Owner) lifeKey() string { return "life/" + o.hash("") }

// NoteLife has all instances know how long sessions live at most. It is never lowered: cookies may exist that were made by it.
func (r *Revocations) NoteLife(ctx context.Context, owner Owner, life time.Duration, now time.Time) error {
	if !r.shared {
		return nil
	}
	// the handlers of a configuration start together, and one of them is enough to write it
	_, err, _ := r.lives.noting.Do(owner.lifeKey()+" "+life.String(), func() (any, error) {
		if known, _, fresh := r.lives.known(owner); fresh && known >= life {
			return nil, nil
		}
		return nil, r.noteLife(ctx, owner, life, now)
	})
	return err
}

func (r *Revocations) noteLife(ctx context.Context, owner Owner, life time.Duration, now time.Time) error {
	unlock, err := r.patient.lock(ctx, "locks/"+owner.lifeKey(), lockWait)
	if err != nil {
		return fmt.Errorf("noting the life of sessions: %w", err)
	}
	defer unlock()
	known, err := r.readLife(ctx, owner)
	if err == nil && known >= life {
		r.lives.note(owner, known)
		return nil
	}
	if err == nil {
		life = min(max(known, life), longestSession)
		err = r.patient.store(ctx, owner.lifeKey(), strconv.AppendInt(nil, int64(life/time.Second), 10), now.Add(2*longestSession))
	}
	if err != nil {
		return fmt.Errorf("noting the life of sessions: %w", err)
	}
	r.lives.note(owner, life)
	return nil
}

// Life is the longest life that was noted, 0 where none was.
func (r *Revocations) Life(ctx context.Context, owner Owner) (time.Duration, error) {
	if !r.shared {
		return 0, nil
	}
	known, ok, fresh := r.lives.known(owner)
	if fresh {
		return known, nil
	}
	life, err := r.readLife(ctx, owner)
	switch {
	case err == nil:
		r.lives.note(owner, life)
	case ok:
		return known, nil // it has not become shorter
	}
	return life, err
}

func (r *Revocations) readLife(ctx context.Context, owner Owner) (time.Duration, error) {
	text, err := r.patient.load(ctx, owner.lifeKey())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return longestSession, nil // as nobody knows
	}
	return min(time.Duration(seconds)*time.Second, longestSession), nil
}
