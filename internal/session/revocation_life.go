package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"
)

// A session may live for longer on another instance, or by an earlier setting, than this process knows of. What names sessions that it has
// not seen has to be kept for that long.

func (o Owner) lifeKey() string { return "life/" + o.hash("") }

// NoteLife has all instances know how long sessions live at most. It is never lowered: cookies may exist that were made by it.
func (r *Revocations) NoteLife(ctx context.Context, owner Owner, life time.Duration, now time.Time) error {
	if !r.shared {
		return nil
	}
	known, err := r.Life(ctx, owner)
	if err == nil {
		err = r.patient.store(ctx, owner.lifeKey(), strconv.AppendInt(nil, int64(max(known, life)/time.Second), 10), now.Add(2*longestSession))
	}
	if err != nil {
		return fmt.Errorf("noting the life of sessions: %w", err)
	}
	return nil
}

// Life is the longest life that was noted, 0 where none was.
func (r *Revocations) Life(ctx context.Context, owner Owner) (time.Duration, error) {
	if !r.shared {
		return 0, nil
	}
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
