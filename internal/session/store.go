package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// ErrNotFound says that a store has no such session: it never had, it has ended, or it is not the one that was saved.
var ErrNotFound = errors.New("no such session")

// ErrSuperseded says that nothing was written, because what is there belongs to a later generation of the session.
var ErrSuperseded = errors.New("a later generation of the session is there")

// Store keeps sessions on the server. Errors other than [ErrNotFound], [ErrSuperseded] and [ErrTooLarge] say that the backend
// failed. It is safe for concurrent use.
type Store struct {
	backend bounded
	now     func() time.Time
}

// NewStore returns the store of the sessions in this backend. It does not touch the backend.
func NewStore(b Backend, now func() time.Time) *Store {
	return &Store{bounded{b}, now}
}

// Load returns a session that has not expired.
func (s *Store) Load(ctx context.Context, ref *Reference) (*Session, error) {
	if !s.now().Before(ref.Expires) {
		return nil, ErrNotFound
	}
	record, err := s.backend.Load(ctx, ref.recordKey())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("loading a session: %w", err)
	}
	return ref.openRecord(record)
}

// Save writes a session, whatever is there. The last one to be saved is the one that is loaded.
func (s *Store) Save(ctx context.Context, ref *Reference, sess *Session) error {
	record, err := ref.sealRecord(sess)
	if err == nil {
		err = s.backend.Store(ctx, ref.recordKey(), record, ref.Expires)
	}
	if err != nil {
		return fmt.Errorf("saving a session: %w", err)
	}
	return nil
}

// Replace writes a session in the place of the same session as it was before. It writes nothing if that has ended meanwhile,
// [ErrNotFound], or is of a later generation, [ErrSuperseded].
func (s *Store) Replace(ctx context.Context, ref *Reference, sess *Session) error {
	known, err := s.Load(ctx, ref)
	switch {
	case err != nil:
		return err
	case known.Generation > sess.Generation:
		return ErrSuperseded
	}
	return s.Save(ctx, ref, sess)
}

// Delete removes a session, then its entries in the index; there may be none. The session may be nil when it is not known: its
// entries then stay until it would have expired, and lead to nothing.
func (s *Store) Delete(ctx context.Context, owner Owner, ref *Reference, sess *Session) error {
	if err := s.backend.Delete(ctx, ref.recordKey()); err != nil {
		return fmt.Errorf("deleting a session: %w", err)
	}
	if sess == nil {
		return nil
	}
	member := indexMember(ref, sess)
	var err error
	for _, set := range owner.sets(sess) {
		err = errors.Join(err, s.backend.Remove(ctx, set, member))
	}
	if err != nil {
		return fmt.Errorf("deleting a session's index entries: %w", err)
	}
	return nil
}
