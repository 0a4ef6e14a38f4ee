package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// Purpose keeps sealed things apart: each has a key of its own.
type Purpose byte

// What is sealed. The numbers are part of every sealed value: never change one.
const (
	PurposeSession Purpose = iota + 1
	PurposeTransaction
	PurposeState
	PurposeRecord
	purposeRenewal
	purposeSpent
)

// purposes have keys that are derived from a sealing key; for those after them there are others.
const purposes = int(PurposeRecord)

// Binding is what a sealed value belongs to. It opens under an equal one only.
type Binding struct {
	// CookieName is the name of the cookie that holds the value. For what no cookie holds it is a text that tells one kind from another, or
	// empty.
	CookieName string

	// Issuer and ClientID are the provider and the client.
	Issuer, ClientID string

	// Host is where the value may be used.
	Host string

	// Checks stands for what a login had to show.
	Checks string
}

// ErrSeal says that a sealed value does not open, and never why.
var ErrSeal = errors.New("sealed value does not open")

// ErrTooLarge says that something does not fit where it is to be kept.
var ErrTooLarge = errors.New("too large")

// The sealed form, before it is written as base64url: version, key id, nonce, ciphertext with its tag.
const (
	sealVersion   = 1
	sealNonce     = 1 + len(keyID{})
	sealText      = sealNonce + chacha20poly1305.NonceSizeX
	sealOverhead  = sealText + chacha20poly1305.Overhead
	maxSealedSize = maxWire + sealOverhead + 1
)

// One value has one text: bits left over at its end must be zero.
var sealEncoding = base64.RawURLEncoding.Strict()

// Sealer seals and opens with the keys of a source. It is safe for concurrent use.
type Sealer struct {
	keys KeySource

	// what compresses sessions, kept because it has tens of kilobytes of tables and more
	deflaters, inflaters sync.Pool

	buffers sync.Pool // of *[]byte: what is opened, until it has been read
}

// NewSealer returns a sealer that uses these keys.
func NewSealer(keys KeySource) *Sealer { return &Sealer{keys: keys} }

// Seal returns the text, base64url without padding, that opens as plaintext for the same purpose and binding. It fails when
// the context ends before there is a key, or when the plaintext is too large to be opened again.
func (s *Sealer) Seal(ctx context.Context, p Purpose, b Binding, plaintext []byte) (string, error) {
	if len(plaintext) > maxWire+1 {
		return "", ErrTooLarge
	}
	k, err := s.keys.sealing(ctx)
	if err != nil {
		return "", err
	}
	aead, err := k.aead(p)
	if err != nil {
		return "", err
	}
	sealed := make([]byte, sealText, len(plaintext)+sealOverhead)
	sealed[0] = sealVersion
	copy(sealed[1:], k.id[:])
	rand.Read(sealed[sealNonce:]) // never fails
	data := b.appendTo(make([]byte, 0, b.size()), p, k.id)
	return sealEncoding.EncodeToString(aead.Seal(sealed, sealed[sealNonce:], plaintext, data)), nil
}

// Open returns what was sealed. It reports too whether the key is the one that would seal now; if not, the value should be
// sealed again before the key is gone. The error is always [ErrSeal].
func (s *Sealer) Open(ctx context.Context, p Purpose, b Binding, sealed string) (plaintext []byte, current bool, err error) {
	return s.openIn(ctx, nil, p, &b, sealed)
}

// openIn is Open in memory of the caller's, if it is large enough.
func (s *Sealer) openIn(ctx context.Context, buf []byte, p Purpose, b *Binding, sealed string) (plaintext []byte, current bool, err error) {
	size := sealEncoding.DecodedLen(len(sealed))
	if size < sealOverhead || size > maxSealedSize || sealEncoding.EncodedLen(size) != len(sealed) {
		return nil, false, ErrSeal
	}
	// one piece of memory for the value and, after it, what it is bound to
	raw := slices.Grow(buf[:0], size+b.size())[:size]
	// the decoder passes over line breaks, which are no part of a sealed value
	if n, err := sealEncoding.Decode(raw, []byte(sealed)); err != nil || n != size || raw[0] != sealVersion {
		return nil, false, ErrSeal
	}
	k := s.keys.opening(ctx, keyID(raw[1:sealNonce]))
	if k == nil {
		return nil, false, ErrSeal
	}
	aead, err := k.aead(p)
	if err != nil {
		return nil, false, ErrSeal
	}
	data := b.appendTo(raw, p, k.id)[size:]
	plaintext, err = aead.Open(raw[sealText:sealText], raw[sealNonce:sealText], raw[sealText:size], data)
	if err != nil {
		return nil, false, ErrSeal
	}
	return plaintext, s.keys.current(k), nil
}

// size is how many bytes appendTo appends, at most.
func (b *Binding) size() int {
	return 2 + len(keyID{}) + 5*binary.MaxVarintLen32 + len(b.CookieName) + len(b.Issuer) + len(b.ClientID) + len(b.Host) + len(b.Checks)
}

// appendTo appends the associated data. Each text comes after its length, so that no two bindings give the same.
func (b *Binding) appendTo(dst []byte, p Purpose, id keyID) []byte {
	dst = append(dst, sealVersion, byte(p))
	dst = append(dst, id[:]...)
	for _, text := range [...]string{b.CookieName, b.Issuer, b.ClientID, b.Host, b.Checks} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	return dst
}
