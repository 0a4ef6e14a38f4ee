package optest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
)

// Key is a signing key with the name and algorithm it is published under.
type Key struct {
	ID        string
	Algorithm string
	private   crypto.Signer
}

// NewKey returns a key for RS256, RS384, RS512, PS256, PS384, PS512, ES256,
// ES384, ES512 or EdDSA (Ed25519). No two keys in use have the same private key,
// whatever their IDs; RSA keys of tests that ended are used again, because they
// are slow to make.
func NewKey(tb testing.TB, alg, kid string) *Key {
	tb.Helper()
	return NewRSAKey(tb, alg, kid, 2048)
}

// NewRSAKey is NewKey with the size of the RSA key (1024 bits or more), which
// other algorithms ignore.
func NewRSAKey(tb testing.TB, alg, kid string, bits int) *Key {
	tb.Helper()
	key, err := newKey(tb, alg, kid, bits)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newKey(tb testing.TB, alg, kid string, bits int) (*Key, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		private, err = borrowRSA(tb, bits)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA", "Ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("no key for algorithm %q", alg)
	}
	if err != nil {
		return nil, fmt.Errorf("making test key %s: %w", kid, err)
	}
	return &Key{ID: kid, Algorithm: alg, private: private}, nil
}

// unusedRSA keeps the keys of tests that ended, by size.
var unusedRSA = struct {
	sync.Mutex
	keys map[int][]*rsa.PrivateKey
}{keys: make(map[int][]*rsa.PrivateKey)}

// borrowRSA hands out a key that nothing else uses until the test ends. Sharing
// one more widely would let a forged token verify and a test pass for no reason.
func borrowRSA(tb testing.TB, bits int) (*rsa.PrivateKey, error) {
	unusedRSA.Lock()
	var key *rsa.PrivateKey
	if free := unusedRSA.keys[bits]; len(free) > 0 {
		key = free[len(free)-1]
		unusedRSA.keys[bits] = free[:len(free)-1]
	}
	unusedRSA.Unlock()
	if key == nil {
		var err error
		if key, err = rsa.GenerateKey(rand.Reader, bits); err != nil {
			return nil, err
		}
	}
	if tb != nil {
		tb.Cleanup(func() {
			unusedRSA.Lock()
			defer unusedRSA.Unlock()
			unusedRSA.keys[bits] = append(unusedRSA.keys[bits], key)
		})
	}
	return key, nil
}

// With returns the same private key under another algorithm and ID.
func (k *Key) With(alg, kid string) *Key {
	return &Key{ID: kid, Algorithm: alg, private: k.private}
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// Private returns the private key.
func (k *Key) Private() crypto.Signer { return k.private }

// PEM returns the public key as a PEM block "PUBLIC KEY".
func (k *Key) PEM() string {
	der := must(x509.MarshalPKIXPublicKey(k.Public()))
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// PrivatePEM returns the private key as a PEM block "PRIVATE KEY".
func (k *Key) PrivatePEM() string {
	der := must(x509.MarshalPKCS8PrivateKey(k.private))
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// JWK returns the public key as a JWK with kid, alg and use.
func (k *Key) JWK() map[string]any {
	jwk := map[string]any{"kid": k.ID, "alg": k.Algorithm, "use": "sig"}
	switch public := k.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"] = "RSA"
		jwk["n"] = encode(public.N.Bytes())
		jwk["e"] = encode(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point := must(public.Bytes())[1:]
		jwk["kty"] = "EC"
		jwk["crv"] = public.Params().Name
		jwk["x"] = encode(point[:len(point)/2])
		jwk["y"] = encode(point[len(point)/2:])
	case ed25519.PublicKey:
		jwk["kty"] = "OKP"
		jwk["crv"] = "Ed25519"
		jwk["x"] = encode(public)
	}
	return jwk
}

// PrivateJWK returns the private key as a JWK with kid and alg.
func (k *Key) PrivateJWK() map[string]any {
	jwk := k.JWK()
	delete(jwk, "use")
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		jwk["d"] = encode(private.D.Bytes())
		jwk["p"] = encode(private.Primes[0].Bytes())
		jwk["q"] = encode(private.Primes[1].Bytes())
		jwk["dp"] = encode(private.Precomputed.Dp.Bytes())
		jwk["dq"] = encode(private.Precomputed.Dq.Bytes())
		jwk["qi"] = encode(private.Precomputed.Qinv.Bytes())
	case *ecdsa.PrivateKey:
		jwk["d"] = encode(must(private.Bytes()))
	case ed25519.PrivateKey:
		jwk["d"] = encode(private.Seed())
	}
	return jwk
}

// KeySet returns the JWKS of these keys.
func KeySet(keys ...*Key) []byte {
	list := make([]map[string]any, 0, len(keys))
	for _, key := range keys {
		list = append(list, key.JWK())
	}
	return must(json.Marshal(map[string]any{"keys": list}))
}

// Sign returns the JWS signature of input by the key's algorithm.
func (k *Key) Sign(input []byte) []byte {
	if private, ok := k.private.(ed25519.PrivateKey); ok {
		return ed25519.Sign(private, input)
	}
	hash := hashOf(k.Algorithm)
	digest := hash.New()
	digest.Write(input)
	sum := digest.Sum(nil)
	switch private := k.private.(type) {
	case *rsa.PrivateKey:
		if strings.HasPrefix(k.Algorithm, "PS") {
			return must(rsa.SignPSS(rand.Reader, private, hash, sum, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, private, hash, sum))
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, private, sum)
		if err != nil {
			panic(err)
		}
		size := (private.Params().BitSize + 7) / 8
		signature := make([]byte, 2*size)
		r.FillBytes(signature[:size])
		s.FillBytes(signature[size:])
		return signature
	}
	panic(fmt.Sprintf("optest: cannot sign with %T", k.private))
}

func hashOf(alg string) crypto.Hash {
	switch {
	case strings.HasSuffix(alg, "256"):
		return crypto.SHA256
	case strings.HasSuffix(alg, "384"):
		return crypto.SHA384
	case strings.HasSuffix(alg, "512"):
		return crypto.SHA512
	}
	panic(fmt.Sprintf("optest: no hash for algorithm %q", alg))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// must is for what can only fail when a test is written wrongly.
func must[T any](value T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("optest: %v", err))
	}
	return value
}
