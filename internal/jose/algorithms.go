package jose

import (
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// keyType says which keys an algorithm can use; a curve is part of it, so that no algorithm meets a key of another size.
type keyType string

const (
	keyRSA     keyType = "RSA"
	keyP256    keyType = "P-256"
	keyP384    keyType = "P-384"
	keyP521    keyType = "P-521"
	keyEd25519 keyType = "Ed25519"
	keySecret  keyType = "oct"
)

// algorithm describes one signature algorithm of RFC 7518, RFC 8037 or RFC 9864.
type algorithm struct {
	keyType       keyType
	signatureSize int // bytes; 0 where the key decides
	minSecretSize int // bytes; RFC 7518 section 3.2
	name          jwa.SignatureAlgorithm
	verifier      jws.Verifier
}

// algorithms is the allow-list of the gate: a name that is not in it is refused before anything else of the token is read. "none"
// has no place here, and neither has any algorithm that we could not verify.
var algorithms = map[string]*algorithm{
	"RS256": {keyType: keyRSA, name: jwa.RS256},
	"RS384": {keyType: keyRSA, name: jwa.RS384},
	"RS512": {keyType: keyRSA, name: jwa.RS512},
	"PS256": {keyType: keyRSA, name: jwa.PS256},
	"PS384": {keyType: keyRSA, name: jwa.PS384},
	"PS512": {keyType: keyRSA, name: jwa.PS512},
	"ES256": {keyType: keyP256, name: jwa.ES256, signatureSize: 64},
	"ES384": {keyType: keyP384, name: jwa.ES384, signatureSize: 96},
	"ES512": {keyType: keyP521, name: jwa.ES512, signatureSize: 132},
	"EdDSA": {keyType: keyEd25519, name: jwa.EdDSA, signatureSize: 64},
	// RFC 9864 gives Ed25519 a name of its own; the signature is the same.
	"Ed25519": {keyType: keyEd25519, name: jwa.EdDSA, signatureSize: 64},
	"HS256":   {keyType: keySecret, name: jwa.HS256, signatureSize: 32, minSecretSize: 32},
	"HS384":   {keyType: keySecret, name: jwa.HS384, signatureSize: 48, minSecretSize: 48},
	"HS512":   {keyType: keySecret, name: jwa.HS512, signatureSize: 64, minSecretSize: 64},
}

func init() {
	for name, a := range algorithms {
		verifier, err := jws.NewVerifier(a.name)
		if err != nil {
			panic(fmt.Sprintf("jose: no verifier for %s: %v", name, err))
		}
		a.verifier = verifier
	}
}

// AsymmetricAlgorithms are the signature algorithms accepted unless a configuration names others.
func AsymmetricAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
}

// Known reports whether name is a signature algorithm that this package verifies.
func Known(name string) bool { return algorithms[name] != nil }

// Symmetric reports whether name is an HMAC algorithm, keyed with a shared secret.
func Symmetric(name string) bool {
	a := algorithms[name]
	return a != nil && a.keyType == keySecret
}

// MinSecretSize is the least length of the secret for an HMAC algorithm, in bytes (RFC 7518 section 3.2); 0 for others.
func MinSecretSize(name string) int {
	if a := algorithms[name]; a != nil {
		return a.minSecretSize
	}
	return 0
}

// Verify reports with ErrSignature whether key did not sign the token. The key must fit the token's algorithm, as the ones from
// [KeySet.Candidates] do.
func (t *Token) Verify(key *Key) error {
	a := algorithms[t.Algorithm]
	if a == nil || !key.fits(t.Algorithm, a) {
		return fmt.Errorf("%w: the key is for another algorithm", ErrAlgorithm)
	}
	if a.signatureSize != 0 && len(t.signature) != a.signatureSize {
		return fmt.Errorf("%w: wrong length", ErrSignature)
	}
	if err := a.verifier.Verify([]byte(t.signingInput), t.signature, key.public); err != nil {
		return ErrSignature
	}
	return nil
}
