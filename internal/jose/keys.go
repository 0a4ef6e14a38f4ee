package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// Limits of a key set and its keys.
const (
	maxKeys    = 100
	minRSABits = 2048
	// maxRSABits bounds the time that one verification can take.
	maxRSABits = 8192
	// maxCandidates bounds the signatures tried for a token that names no key.
	maxCandidates = 16
)

// Key is a verification key.
type Key struct {
	// ID is the kid, empty when the key has none.
	ID string

	algorithm  string // the key's own alg, empty when it states none
	keyType    keyType
	thumbprint string
	public     any
}

// Thumbprint is the RFC 7638 SHA-256 thumbprint, base64url: the identity of the key material, whatever its kid.
func (k *Key) Thumbprint() string { return k.thumbprint }

// Algorithm is the key's own alg, empty when it states none.
func (k *Key) Algorithm() string { return k.algorithm }

// Type is the kty of the key and, where there are several, its curve (RFC 7518 section 6, RFC 8037 section 2).
func (k *Key) Type() (kty, curve string) {
	switch k.keyType {
	case keyP256, keyP384, keyP521:
		return "EC", string(k.keyType)
	case keyEd25519:
		return "OKP", string(k.keyType)
	default:
		return string(k.keyType), ""
	}
}

func (k *Key) fits(name string, a *algorithm) bool {
	if k.keyType != a.keyType {
		return false
	}
	// The two names of Ed25519 mean one algorithm.
	return k.algorithm == "" || k.algorithm == name || k.keyType == keyEd25519
}

// KeySet is an immutable set of verification keys.
type KeySet struct {
	keys []*Key
}

// Len is the number of usable keys.
func (s *KeySet) Len() int { return len(s.keys) }

// All yields the usable keys in the order of the set.
func (s *KeySet) All() iter.Seq[*Key] { return slices.Values(s.keys) }

// Contains reports whether the key material with this thumbprint is in the set.
func (s *KeySet) Contains(thumbprint string) bool {
	return slices.ContainsFunc(s.keys, func(k *Key) bool { return k.thumbprint == thumbprint })
}

// Candidates returns the keys that may have signed a token with this kid and alg. A kid selects the keys of that name and those
// without any name; without a kid every key that fits the algorithm is a candidate. named reports whether a key has this kid,
// whether it fits or not: a token whose kid is unknown may be signed by a key that is not known yet.
func (s *KeySet) Candidates(kid, alg string) (candidates []*Key, named bool) {
	a := algorithms[alg]
	if a == nil {
		return nil, false
	}
	var unnamed []*Key
	for _, key := range s.keys {
		switch {
		case kid != "" && key.ID == kid:
			named = true
			if key.fits(alg, a) {
				candidates = append(candidates, key)
			}
		case (kid == "" || key.ID == "") && key.fits(alg, a):
			unnamed = append(unnamed, key)
		}
	}
	// those with the name first, so that no number of others crowds them out
	candidates = append(candidates, unnamed...)
	return candidates[:min(len(candidates), maxCandidates)], named
}

// ErrOtherUse says that a key is published for something else than signatures, as many providers do.
var ErrOtherUse = errors.New("not for signatures (use)")

// SkippedKey is a member of a JWKS that cannot be used, and why.
type SkippedKey struct {
	Index  int
	Reason error
}

// ParseKeySet reads a JWKS (RFC 7517 section 5). Keys are decoded one by one: one that cannot be used (unknown type or curve, weak,
// for encryption, symmetric) is skipped and reported, and does not touch the others. A set without any usable key is an error.
func ParseKeySet(text []byte) (*KeySet, []SkippedKey, error) {
	members, err := splitKeySet(text)
	if err != nil {
		return nil, nil, err
	}
	if len(members) > maxKeys {
		return nil, nil, fmt.Errorf("the key set has %d keys, more than %d", len(members), maxKeys)
	}
	set := new(KeySet)
	var skipped []SkippedKey
	for i, member := range members {
		key, err := parseJWK(member)
		if err != nil {
			skipped = append(skipped, SkippedKey{Index: i, Reason: err})
			continue
		}
		set.keys = append(set.keys, key)
	}
	if len(set.keys) == 0 {
		return nil, skipped, errors.New("the key set has no usable signature key")
	}
	return set, skipped, nil
}

// splitKeySet returns the texts of the keys. Only the outer object is looked at here, so that a malformed key is only its own loss.
func splitKeySet(text []byte) ([]json.RawMessage, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("the key set is not a JSON object")
	}
	var keys []json.RawMessage
	found := false
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errors.New("the key set is not a JSON object")
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, errors.New("the key set is not a JSON object")
		}
		if name != "keys" {
			continue
		}
		if found {
			return nil, errors.New("the key set has two members named keys")
		}
		found = true
		if err := json.Unmarshal(value, &keys); err != nil {
			return nil, errors.New("the key set has no list named keys")
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, errors.New("the key set is not a JSON object")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the key set has data after the object")
	}
	if !found {
		return nil, errors.New("the key set has no list named keys")
	}
	return keys, nil
}

func parseJWK(text []byte) (*Key, error) {
	members, err := ParseObject(string(text))
	if err != nil {
		return nil, errors.New("not a JSON object without duplicate members")
	}
	return keyOf(members)
}

func keyOf(members map[string]any) (*Key, error) {
	if members["kty"] == "oct" {
		return nil, errors.New("a symmetric key is never taken from a key set")
	}
	if use, ok := members["use"]; ok && use != "sig" {
		return nil, ErrOtherUse
	}
	if operations, ok := members["key_ops"]; ok {
		if list, _ := operations.([]any); !slices.Contains(list, any("verify")) {
			return nil, errors.New("not for verification (key_ops)")
		}
	}
	alg, ok := members["alg"].(string)
	if _, present := members["alg"]; present && (!ok || algorithms[alg] == nil) {
		return nil, errors.New("for an algorithm that is not supported")
	}
	kid, ok := members["kid"].(string)
	if _, present := members["kid"]; present && !ok {
		return nil, errors.New("kid is not a string")
	}
	// Certificates and their digests are not what a signature is checked with, and a broken one must not cost us the key.
	members = maps.Clone(members)
	for _, name := range []string{"x5c", "x5t", "x5t#S256", "x5u"} {
		delete(members, name)
	}
	plain, err := json.Marshal(members)
	if err != nil {
		return nil, errors.New("cannot be written again")
	}
	parsed, err := jwk.ParseKey(plain)
	if err != nil {
		return nil, errors.New("cannot be parsed")
	}
	public, err := parsed.PublicKey()
	if err != nil {
		return nil, errors.New("has no public part")
	}
	var raw any
	if err := public.Raw(&raw); err != nil {
		return nil, errors.New("is of a type or on a curve that is not supported")
	}
	key, err := NewKey(raw)
	if err != nil {
		return nil, err
	}
	if alg != "" && algorithms[alg].keyType != key.keyType {
		return nil, errors.New("alg and key type contradict each other")
	}
	key.ID, key.algorithm = kid, alg
	return key, nil
}

// NewKey makes a key of a public key as the standard library has it, refusing weak and malformed ones.
func NewKey(public crypto.PublicKey) (*Key, error) {
	key := &Key{public: public}
	switch public := public.(type) {
	case *rsa.PublicKey:
		key.keyType = keyRSA
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return nil, fmt.Errorf("RSA key of %d bits, not between %d and %d", bits, minRSABits, maxRSABits)
		}
		if public.N.Bit(0) == 0 || public.E < 3 || public.E%2 == 0 {
			return nil, errors.New("RSA modulus or exponent is not valid")
		}
	case *ecdsa.PublicKey:
		switch name := public.Curve.Params().Name; keyType(name) {
		case keyP256, keyP384, keyP521:
			key.keyType = keyType(name)
		default:
			return nil, errors.New("elliptic curve that is not supported")
		}
		if _, err := public.ECDH(); err != nil {
			return nil, errors.New("point is not on its curve")
		}
	case ed25519.PublicKey:
		key.keyType = keyEd25519
		if len(public) != ed25519.PublicKeySize {
			return nil, errors.New("Ed25519 key of the wrong size")
		}
	default:
		return nil, errors.New("key type that is not supported")
	}
	thumbprint, err := thumbprint(public)
	if err != nil {
		return nil, err
	}
	key.thumbprint = thumbprint
	return key, nil
}

func thumbprint(raw any) (string, error) {
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return "", errors.New("cannot be written as a JWK")
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", errors.New("has no thumbprint")
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// SecretKeySet is the key set of one shared secret, for HMAC algorithms. No fetched key ever gets there.
func SecretKeySet(secret []byte) (*KeySet, error) {
	thumbprint, err := thumbprint(secret)
	if err != nil {
		return nil, err
	}
	return &KeySet{keys: []*Key{{keyType: keySecret, public: secret, thumbprint: thumbprint}}}, nil
}

// ParsePEM reads one or more public keys or certificates in PEM. A private key is refused: it has no business in a verifier.
func ParsePEM(text []byte) (*KeySet, error) {
	set := new(KeySet)
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := parsePEMBlock(block)
		if err != nil {
			return nil, err
		}
		key, err := NewKey(public)
		if err != nil {
			return nil, err
		}
		set.keys = append(set.keys, key)
	}
	if len(set.keys) == 0 {
		return nil, errors.New("no PEM block found")
	}
	if bytes.Count(text, []byte("-----BEGIN ")) != len(set.keys) {
		return nil, errors.New("a PEM block cannot be read")
	}
	return set, nil
}

func parsePEMBlock(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	default:
		return nil, fmt.Errorf("a PEM block of type %q is not a public key", block.Type)
	}
}
