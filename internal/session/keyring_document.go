package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// ringKey and ringLock are the names in the storage.
	ringKey  = "openid_connect/session_keys.json"
	ringLock = "openid_connect_session_keys"

	// ringKeySize is the length of a generated key, ringMaxSize that of the whole document.
	ringKeySize = 32
	ringMaxSize = 1 << 20

	// rotateAfter is the age of the newest key at which another one is made, publishDelay the time that others have to
	// read it before it seals, and keepFor how long a key stays after another one has taken over: as long as the longest
	// session, and a day.
	rotateAfter  = 30 * 24 * time.Hour
	publishDelay = 10 * time.Minute
	keepFor      = 401 * 24 * time.Hour
)

// The reasons for not using, and not overwriting, what the storage has. They say nothing of its content.
var (
	errRingCorrupt = errors.New("the stored session keys cannot be read; they are left as they are")
	errRingTooLong = errors.New("the stored session keys are too large; they are left as they are")
)

// generatedKey is a key of a ring.
type generatedKey struct {
	*key
	secret  []byte
	created time.Time
}

// generateKey makes a key whose id is not taken.
func generateKey(now time.Time, taken func(keyID) bool) (*generatedKey, error) {
	for {
		secret := make([]byte, ringKeySize)
		rand.Read(secret) // never fails
		k, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		if !taken(k.id) {
			return &generatedKey{k, secret, now.UTC().Truncate(time.Second)}, nil
		}
	}
}

// ringDocument is the ring as the storage has it. What another version of the module put in, this one leaves there.
type ringDocument struct {
	members map[string]json.RawMessage
	entries []ringEntry
	changed bool // not yet in the storage
}

type ringEntry struct {
	text json.RawMessage
	key  *generatedKey // nil if this version cannot use it
}

// storedKey is the form of an entry.
type storedKey struct {
	ID      string    `json:"id"`
	Key     []byte    `json:"key"`
	Created time.Time `json:"created"`
}

func parseRing(text []byte) (*ringDocument, error) {
	if len(text) > ringMaxSize {
		return nil, errRingTooLong
	}
	document := new(ringDocument)
	var entries []json.RawMessage
	if json.Unmarshal(text, &document.members) != nil || json.Unmarshal(document.members["keys"], &entries) != nil || entries == nil {
		return nil, errRingCorrupt
	}
	for _, entry := range entries {
		document.entries = append(document.entries, ringEntry{entry, parseRingEntry(entry)})
	}
	if len(entries) > 0 && len(document.keys()) == 0 {
		return nil, errRingCorrupt
	}
	return document, nil
}

// parseRingEntry returns nil for an entry that is not a key as this version knows them.
func parseRingEntry(text json.RawMessage) *generatedKey {
	var stored storedKey
	if json.Unmarshal(text, &stored) != nil || len(stored.Key) != ringKeySize || stored.Created.IsZero() {
		return nil
	}
	k, err := newKey(stored.Key)
	if err != nil || hex.EncodeToString(k.id[:]) != stored.ID {
		return nil
	}
	return &generatedKey{k, stored.Key, stored.Created}
}

// keys returns the usable keys, oldest first.
func (d *ringDocument) keys() []*generatedKey {
	var keys []*generatedKey
	for _, entry := range d.entries {
		if entry.key != nil {
			keys = append(keys, entry.key)
		}
	}
	slices.SortStableFunc(keys, func(a, b *generatedKey) int { return a.created.Compare(b.created) })
	return keys
}

func (d *ringDocument) has(id keyID) bool {
	return slices.ContainsFunc(d.entries, func(entry ringEntry) bool { return entry.key != nil && entry.key.id == id })
}

func (d *ringDocument) add(k *generatedKey) error {
	text, err := json.Marshal(storedKey{hex.EncodeToString(k.id[:]), k.secret, k.created})
	if err != nil {
		return err
	}
	d.entries = append(d.entries, ringEntry{text, k})
	return nil
}

// prune removes the keys that sealed nothing that could still be alive.
func (d *ringDocument) prune(now time.Time) {
	keys := d.keys()
	for i, k := range keys[:max(len(keys)-1, 0)] {
		if now.Sub(keys[i+1].created) > keepFor {
			d.entries = slices.DeleteFunc(d.entries, func(entry ringEntry) bool { return entry.key == k })
		}
	}
}

func (d *ringDocument) marshal() ([]byte, error) {
	texts := make([]json.RawMessage, len(d.entries))
	for i, entry := range d.entries {
		texts[i] = entry.text
	}
	keys, err := json.Marshal(texts)
	if err != nil {
		return nil, err
	}
	if d.members == nil {
		d.members = make(map[string]json.RawMessage)
	}
	d.members["keys"] = keys
	return json.MarshalIndent(d.members, "", "\t")
}

// rotationDue returns when another key is to be made; at once if there is none.
func rotationDue(keys []*generatedKey) time.Time {
	if len(keys) == 0 {
		return time.Time{}
	}
	return keys[len(keys)-1].created.Add(rotateAfter)
}

// loadRing reads the ring of a storage. Where there is none, the error is [fs.ErrNotExist].
func loadRing(ctx context.Context, storage certmagic.Storage) (*ringDocument, error) {
	text, err := storage.Load(ctx, ringKey)
	if err != nil {
		return nil, fmt.Errorf("loading the session keys: %w", err)
	}
	return parseRing(text)
}

// document returns the ring that a storage without one gets: what is known, so that sessions live on.
func (k *knownKeys) document() (*ringDocument, error) {
	known := k.stored
	if len(known) == 0 {
		known = k.retained[max(len(k.retained)-1, 0):]
	}
	document := new(ringDocument)
	for _, k := range known {
		if err := document.add(k); err != nil {
			return nil, err
		}
	}
	document.changed = len(known) > 0
	return document, nil
}

// renew adds a key if one is due, stores what has changed, and returns the keys that are in the storage then.
func (d *ringDocument) renew(ctx context.Context, storage certmagic.Storage, now time.Time) ([]*generatedKey, error) {
	var before []*generatedKey
	if !d.changed {
		before = d.keys()
	}
	if !now.Before(rotationDue(d.keys())) {
		k, err := generateKey(now, d.has)
		if err != nil {
			return before, err
		}
		if err := d.add(k); err != nil {
			return before, err
		}
		d.prune(now)
		d.changed = true
	}
	if !d.changed {
		return before, nil
	}
	text, err := d.marshal()
	if err != nil {
		return before, err
	}
	if err := storage.Store(ctx, ringKey, text); err != nil {
		return before, fmt.Errorf("storing the session keys: %w", err)
	}
	return d.keys(), nil
}
