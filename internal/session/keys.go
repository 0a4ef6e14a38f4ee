package session

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySource gives a [Sealer] its keys. See [Secrets] and [KeyRing].
type KeySource interface {
	// sealing returns the key that seals now. It may wait for it.
	sealing(ctx context.Context) (*key, error)

	// opening returns the key of that id, nil if there is none. It may wait to find an unknown one.
	opening(ctx context.Context, id keyID) *key

	// current says whether a value sealed under the key need not be sealed again.
	current(k *key) bool
}

// keyID tells keys apart. It is derived from the key and no secret.
type keyID [4]byte

// key is a sealing key: for each purpose, one derived from it.
type key struct {
	id    keyID
	aeads [purposes]cipher.AEAD
}

var errPurpose = errors.New("unknown purpose")

func (k *key) aead(p Purpose) (cipher.AEAD, error) {
	if p < 1 || int(p) > purposes {
		return nil, errPurpose
	}
	return k.aeads[p-1], nil
}

// The texts that keys are derived with. What was sealed opens for as long as they stay.
const (
	labelID      = "openid_connect sealing key id"
	labelPurpose = "openid_connect sealing key for purpose "
	stretchSalt  = "openid_connect session secret"
	stretchTimes = 600_000
)

// newKey makes a sealing key of a secret that cannot be guessed.
func newKey(secret []byte) (*key, error) {
	k := new(key)
	id, err := hkdf.Key(sha256.New, secret, nil, labelID, len(k.id))
	if err != nil {
		return nil, fmt.Errorf("deriving a sealing key: %w", err)
	}
	copy(k.id[:], id)
	for i := range k.aeads {
		derived, err := hkdf.Key(sha256.New, secret, nil, labelPurpose+string(rune('1'+i)), chacha20poly1305.KeySize)
		if err != nil {
			return nil, fmt.Errorf("deriving a sealing key: %w", err)
		}
		if k.aeads[i], err = chacha20poly1305.NewX(derived); err != nil {
			return nil, fmt.Errorf("deriving a sealing key: %w", err)
		}
	}
	return k, nil
}

// The lengths of a configured secret: the least there may be, and the least that is used as it is.
const (
	MinSecret  = 16
	FullSecret = 32
)

// secrets are keys from the configuration. The first seals, all open.
type secrets []*key

// Secrets returns the keys of configured secrets: the first seals, all open. One under [MinSecret] bytes is an error. One
// under [FullSecret] bytes is stretched, which takes a good part of a second of computing: keep the result.
func Secrets(texts []string) (KeySource, error) {
	if len(texts) == 0 {
		return nil, errors.New("no session secret")
	}
	keys := make(secrets, 0, len(texts))
	for i, text := range texts {
		if len(text) < MinSecret {
			return nil, fmt.Errorf("session secret %d has %d bytes, it needs at least %d", i+1, len(text), MinSecret)
		}
		secret := []byte(text)
		if len(secret) < FullSecret {
			stretched, err := pbkdf2.Key(sha256.New, text, []byte(stretchSalt), stretchTimes, FullSecret)
			if err != nil {
				return nil, fmt.Errorf("stretching session secret %d: %w", i+1, err)
			}
			secret = stretched
		}
		k, err := newKey(secret)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (s secrets) sealing(context.Context) (*key, error) { return s[0], nil }

func (s secrets) opening(_ context.Context, id keyID) *key {
	for _, k := range s {
		if k.id == id {
			return k
		}
	}
	return nil
}

func (s secrets) current(k *key) bool { return k == s[0] }
