package session

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Reference is what the cookie holds of a session that is kept on the server. The session is sealed there with a key that
// nobody else has: who can read the store cannot read the sessions.
type Reference struct {
	ID      [16]byte
	Key     [32]byte
	Expires time.Time

	// LastUsed is when the cookie was last reissued, which leaves the session on the server as it is. Zero says that the
	// session's own is the last.
	LastUsed time.Time
}

// Tags of a reference's fields. They are written down in cookies: never change what one means.
const (
	tagReferenceID byte = iota + 1
	tagReferenceKey
	tagReferenceExpires
	tagReferenceLastUsed
)

// Marshal returns the reference's wire form.
func (r *Reference) Marshal() []byte {
	e := newEncoder(72)
	e.bytes(tagReferenceID, r.ID[:])
	e.bytes(tagReferenceKey, r.Key[:])
	e.time(tagReferenceExpires, r.Expires)
	e.time(tagReferenceLastUsed, r.LastUsed)
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
		case tagReferenceLastUsed:
			r.LastUsed = d.time()
		}
	}
	if d.err != nil || !d.has(tagReferenceID) || !d.has(tagReferenceKey) || !d.has(tagReferenceExpires) {
		return nil, fmt.Errorf("reading a session reference: %w", errMalformed)
	}
	return r, nil
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
	return sealRecord(aead, wire, r.recordData()), nil
}

// openRecord opens what sealRecord sealed, or something that somebody put in its place: [ErrNotFound] then.
func (r *Reference) openRecord(record []byte) (*Session, error) {
	aead, err := chacha20poly1305.NewX(r.Key[:])
	if err != nil {
		return nil, err
	}
	wire, ok := openRecord(aead, record, r.recordData())
	if !ok {
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

// recordKey is where the session is kept: in a folder for the day on which it expires, so that days can be removed as a whole.
func (r *Reference) recordKey() string {
	return recordKey(r.Expires.UTC().Format(time.DateOnly), r.recordName())
}

func (r *Reference) recordName() string {
	name := sha256.Sum256(r.ID[:])
	return hex.EncodeToString(name[:])
}

func recordKey(day, name string) string { return folderSessions + "/" + day + "/" + name }
