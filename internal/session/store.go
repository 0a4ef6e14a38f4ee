package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"golang.org/x/crypto/chacha20poly1305"
)

// Reference is what the cookie holds of a session that is kept on the server. The session is sealed there with a key that
// nobody else has: who can read the store cannot read the sessions.
type Reference struct {
	ID      [16]byte
	Key     [32]byte
	Expires time.Time
}

// Tags of a reference's fields. They are written down in cookies: never change what one means.
const (
	tagReferenceID byte = iota + 1
	tagReferenceKey
	tagReferenceExpires
)

// Marshal returns the reference's wire form.
func (r *Reference) Marshal() []byte {
	e := newEncoder(64)
	e.bytes(tagReferenceID, r.ID[:])
	e.bytes(tagReferenceKey, r.Key[:])
	e.time(tagReferenceExpires, r.Expires)
	return e.buf
}

// ParseReference reads what [Reference.Marshal] wrote, in this version of the module or in another.
func ParseReference(data []byte) (*Reference, error) {
	d := newDecoder(data)
	r := new(Reference)
	for d.next() {
		switch d.tag {
		case tagReferenceID:
			d.fixed(r.ID[:])
		case tagReferenceKey:
			d.fixed(r.Key[:])
		case tagReferenceExpires:
			r.Expires = d.time()
		}
	}
	if d.err != nil || !d.has(tagReferenceID) || !d.has(tagReferenceKey) || !d.has(tagReferenceExpires) {
		return nil, fmt.Errorf("reading a session reference: %w", errMalformed)
	}
	return r, nil
}

// ErrNotFound says that a store has no such session: it never had, it has ended, or it is not the one that was saved.
var ErrNotFound = errors.New("no such session")

// Store keeps sessions on the server. Errors other than [ErrNotFound] say that the store failed.
type Store interface {
	Load(ctx context.Context, ref *Reference) (*Session, error)
	Save(ctx context.Context, ref *Reference, sess *Session) error
	Delete(ctx context.Context, ref *Reference) error
}

// sealRecord seals a session with the key of its reference.
func (r *Reference) sealRecord(sess *Session) ([]byte, error) {
	wire := sess.Marshal()
	if len(wire) > maxWire {
		return nil, ErrTooLarge
	}
	aead, err := chacha20poly1305.NewX(r.Key[:])
	if err != nil {
		return nil, err
	}
	record := make([]byte, 1+chacha20poly1305.NonceSizeX, 1+chacha20poly1305.NonceSizeX+len(wire)+chacha20poly1305.Overhead)
	record[0] = sealVersion
	rand.Read(record[1:]) // never fails
	return aead.Seal(record, record[1:], wire, r.recordData()), nil
}

// openRecord opens what sealRecord sealed, or something that somebody put in its place: [ErrNotFound] then.
func (r *Reference) openRecord(record []byte) (*Session, error) {
	const text = 1 + chacha20poly1305.NonceSizeX
	if len(record) < text || record[0] != sealVersion {
		return nil, ErrNotFound
	}
	aead, err := chacha20poly1305.NewX(r.Key[:])
	if err != nil {
		return nil, err
	}
	wire, err := aead.Open(nil, record[1:text], record[text:], r.recordData())
	if err != nil {
		return nil, ErrNotFound
	}
	sess, err := ParseSession(wire)
	if err != nil {
		return nil, ErrNotFound
	}
	return sess, nil
}

func (r *Reference) recordData() []byte {
	return append([]byte{sealVersion, byte(PurposeRecord)}, r.ID[:]...)
}

const (
	// recordPrefix is where the storage has the sessions: a folder for each day on which some of them expire.
	recordPrefix = "openid_connect/sessions"

	// sweepDelay is how long after its end a day is removed, for clocks that do not agree.
	sweepDelay = time.Hour
)

// CaddyStore is a [Store] in Caddy's storage.
type CaddyStore struct {
	now     func() time.Time
	backing atomic.Pointer[backing]
}

// backing is what a reload replaces.
type backing struct {
	storage certmagic.Storage
	logger  *zap.Logger
}

// NewCaddyStore returns the store that lives in this storage. It does not touch the storage.
func NewCaddyStore(storage certmagic.Storage, now func() time.Time, logger *zap.Logger) *CaddyStore {
	s := &CaddyStore{now: now}
	s.SetStorage(storage, logger)
	return s
}

// SetStorage replaces the storage, as a new configuration may.
func (s *CaddyStore) SetStorage(storage certmagic.Storage, logger *zap.Logger) {
	s.backing.Store(&backing{storage, logger})
}

// Load returns a session that has not expired.
func (s *CaddyStore) Load(ctx context.Context, ref *Reference) (*Session, error) {
	if !s.now().Before(ref.Expires) {
		return nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	record, err := s.backing.Load().storage.Load(ctx, recordKey(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("loading a session: %w", err)
	}
	return ref.openRecord(record)
}

// Save writes a session. The last one to be saved is the one that is loaded.
func (s *CaddyStore) Save(ctx context.Context, ref *Reference, sess *Session) error {
	record, err := ref.sealRecord(sess)
	if err != nil {
		return fmt.Errorf("saving a session: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	if err := s.backing.Load().storage.Store(ctx, recordKey(ref), record); err != nil {
		return fmt.Errorf("saving a session: %w", err)
	}
	return nil
}

// Delete removes a session, and nothing if there is none.
func (s *CaddyStore) Delete(ctx context.Context, ref *Reference) error {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	err := s.backing.Load().storage.Delete(ctx, recordKey(ref))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting a session: %w", err)
	}
	return nil
}

// Sweep removes the days that are past, with all sessions that expired on them.
func (s *CaddyStore) Sweep(ctx context.Context) error {
	b := s.backing.Load()
	keys, err := b.storage.List(ctx, recordPrefix, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing expired sessions: %w", err)
	}
	today := s.now().Add(-sweepDelay).UTC().Format(time.DateOnly)
	for _, key := range keys {
		day := path.Base(key)
		if _, err := time.Parse(time.DateOnly, day); err != nil || day >= today {
			continue
		}
		if err := removeAll(ctx, b.storage, recordPrefix+"/"+day); err != nil {
			return fmt.Errorf("deleting expired sessions: %w", err)
		}
		b.logger.Debug("deleted expired sessions", zap.String("day", day))
	}
	return nil
}

// removeAll deletes a folder. A storage should delete all that is below it, but some delete single keys only.
func removeAll(ctx context.Context, storage certmagic.Storage, folder string) error {
	if err := storage.Delete(ctx, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	left, err := storage.List(ctx, folder, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range left {
		if !strings.HasPrefix(key, folder+"/") {
			continue
		}
		if err := storage.Delete(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func recordKey(ref *Reference) string {
	name := sha256.Sum256(ref.ID[:])
	return recordPrefix + "/" + ref.Expires.UTC().Format(time.DateOnly) + "/" + hex.EncodeToString(name[:])
}
