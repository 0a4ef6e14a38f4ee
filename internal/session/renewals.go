package session

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Renewals are the entries by which instances tell each other of the renewals of sessions. Whoever reads the backend learns
// nothing from them: names and keys are derived from the session's ID, which is sealed in its cookie. They are safe for
// concurrent use.
//
// A session's end, which all calls for it must agree on, is part of the names. There are two entries: one with all that is
// known, which is short-lived, and one which says until that end which generations have been spent.
type Renewals struct {
	backend bounded
	now     func() time.Time
}

// NewRenewals returns the entries in this backend. It does not touch the backend.
func NewRenewals(b Backend, now func() time.Time) *Renewals {
	return &Renewals{bounded{b}, now}
}

// The texts that names and keys are derived with. What was written is read for as long as they stay.
const (
	labelRenewalName = "openid_connect name of a session's renewals "
	labelRenewalKey  = "openid_connect renewal key for purpose "
)

func renewalName(id [16]byte) string {
	name := sha256.Sum256(append([]byte(labelRenewalName), id[:]...))
	return hex.EncodeToString(name[:])
}

// renewalEntry is one of a session's two entries.
type renewalEntry struct {
	key  string
	aead cipher.AEAD
	data []byte
}

func newRenewalEntry(id [16]byte, end time.Time, p Purpose) (*renewalEntry, error) {
	folder := folderRenewals
	if p == purposeSpent {
		folder = folderSpent
	}
	secret, err := hkdf.Key(sha256.New, id[:], nil, labelRenewalKey+string(rune('0'+p)), chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(secret)
	if err != nil {
		return nil, err
	}
	key := folder + "/" + end.UTC().Format(time.DateOnly) + "/" + renewalName(id)
	return &renewalEntry{key, aead, append([]byte{sealVersion, byte(p)}, key...)}, nil
}

// entries returns the one that has everything, and the one of the spent generations.
func entries(id [16]byte, end time.Time) (renewal, spent *renewalEntry, err error) {
	if renewal, err = newRenewalEntry(id, end, purposeRenewal); err != nil {
		return nil, nil, fmt.Errorf("deriving the keys of a renewal: %w", err)
	}
	if spent, err = newRenewalEntry(id, end, purposeSpent); err != nil {
		return nil, nil, fmt.Errorf("deriving the keys of a renewal: %w", err)
	}
	return renewal, spent, nil
}

// load returns nil where there is nothing, or nothing that was sealed for this place.
func (e *renewalEntry) load(ctx context.Context, b bounded) (*Renewal, error) {
	value, err := b.Load(ctx, e.key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	wire, ok := openRecord(e.aead, value, e.data)
	if !ok {
		return nil, nil
	}
	r, err := parseRenewal(wire)
	if err != nil {
		return nil, nil
	}
	return r, nil
}

func (e *renewalEntry) store(ctx context.Context, b bounded, r *Renewal, expires time.Time) error {
	wire := r.marshal()
	if len(wire) > maxWire {
		return ErrTooLarge
	}
	return b.Store(ctx, e.key, sealRecord(e.aead, wire, e.data), expires)
}

// Load returns what is known of a session's renewals, nil if nothing is.
func (r *Renewals) Load(ctx context.Context, id [16]byte, end time.Time) (*Renewal, error) {
	everything, spent, err := entries(id, end)
	if err != nil {
		return nil, err
	}
	known, err := everything.load(ctx, r.backend)
	if err != nil {
		return nil, fmt.Errorf("loading a renewal: %w", err)
	}
	remembered, err := spent.load(ctx, r.backend)
	if err != nil {
		return nil, fmt.Errorf("loading a spent generation: %w", err)
	}
	merged := merge(known, remembered)
	if merged == nil {
		return nil, nil
	}
	return merged.current(r.now()), nil
}

// Save writes a renewal, with what is known and not yet past of bearers of older generations. If another instance has written a
// later generation, it writes nothing and the error is [ErrSuperseded].
func (r *Renewals) Save(ctx context.Context, id [16]byte, end time.Time, renewal *Renewal) error {
	known, err := r.Load(ctx, id, end)
	if err != nil {
		return err
	}
	if known != nil {
		if known.Over && !renewal.Over || known.Generation > renewal.Generation && !renewal.Over {
			return ErrSuperseded
		}
		renewal = renewal.following(known)
	}
	now := r.now()
	renewal = renewal.current(now)
	everything, spent, err := entries(id, end)
	if err != nil {
		return err
	}
	// in this order: whoever dies in between has told the others what they need now
	if err := everything.store(ctx, r.backend, renewal, renewal.expires(now)); err != nil {
		return fmt.Errorf("saving a renewal: %w", err)
	}
	if err := spent.store(ctx, r.backend, &Renewal{Generation: renewal.Generation, Ended: renewal.Ended, Over: renewal.Over}, end); err != nil {
		return fmt.Errorf("saving a spent generation: %w", err)
	}
	return nil
}

// Lock waits until no instance holds the lock for renewing this generation, and takes it. It is held until unlock, also when the
// context ends before.
func (r *Renewals) Lock(ctx context.Context, id [16]byte, generation uint64) (unlock func(), err error) {
	unlock, err = r.backend.Lock(ctx, "locks/"+renewalName(id)+"."+strconv.FormatUint(generation, 10))
	if err != nil {
		return nil, fmt.Errorf("locking a renewal: %w", err)
	}
	return unlock, nil
}
