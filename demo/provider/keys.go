package provider

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"sync"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const signingAlgorithm = jose.RS256

// keyRing holds the signing keys, the one in use last.
type keyRing struct {
	mu   sync.RWMutex
	keys []*signingKey
}

func newKeyRing() (*keyRing, error) {
	k := new(keyRing)
	return k, k.rotate()
}

func (k *keyRing) rotate() error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("generating a signing key: %w", err)
	}
	key := &signingKey{id: rand.Text(), private: private}

	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
	return nil
}

func (k *keyRing) current() *signingKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[len(k.keys)-1]
}

func (k *keyRing) published() []op.Key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	published := make([]op.Key, len(k.keys))
	for i, key := range k.keys {
		published[i] = publicKey{key}
	}
	return published
}

// signingKey implements op.SigningKey.
type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return signingAlgorithm }
func (k *signingKey) Key() any                                    { return k.private }

// publicKey implements op.Key.
type publicKey struct{ *signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return signingAlgorithm }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return &k.private.PublicKey }

// Interface guards
var (
	_ op.SigningKey = (*signingKey)(nil)
	_ op.Key        = publicKey{}
)
