package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// Signer signs the JWTs that we send to the provider.
type Signer struct {
	algorithm string
	keyID     string
	key       any
	signer    jws.Signer
}

// ParsePrivateKey makes a signer of a private key in PEM or JWK. alg chooses the algorithm; empty takes the usual one for the key
// (RS256, ES256, ES384, ES512 or EdDSA). keyID is the kid header; empty takes the key's own, else its thumbprint.
func ParsePrivateKey(text, alg, keyID string) (*Signer, error) {
	raw, kid, err := parsePrivate(text)
	if err != nil {
		return nil, err
	}
	var public any
	switch private := raw.(type) {
	case *rsa.PrivateKey:
		public = &private.PublicKey
	case *ecdsa.PrivateKey:
		public = &private.PublicKey
	case ed25519.PrivateKey:
		public = private.Public()
	default:
		return nil, errors.New("not an RSA, P-256, P-384, P-521 or Ed25519 private key")
	}
	key, err := NewKey(public)
	if err != nil {
		return nil, err
	}
	if alg == "" {
		alg = usualAlgorithm[key.keyType]
	}
	a := algorithms[alg]
	if a == nil || a.keyType != key.keyType {
		return nil, fmt.Errorf("%w: %q does not fit a key of type %s", ErrAlgorithm, alg, key.keyType)
	}
	signer, err := jws.NewSigner(a.name)
	if err != nil {
		return nil, fmt.Errorf("making a signer: %w", err)
	}
	// a JWK can hold a private part that is not that of its public part
	probe := []byte("probe")
	if signature, err := signer.Sign(probe, raw); err != nil || a.verifier.Verify(probe, signature, public) != nil {
		return nil, errors.New("the private and the public part of the key do not belong together")
	}
	switch {
	case keyID != "":
	case kid != "":
		keyID = kid
	default:
		keyID = key.thumbprint
	}
	return &Signer{algorithm: alg, keyID: keyID, key: raw, signer: signer}, nil
}

var usualAlgorithm = map[keyType]string{
	keyRSA: "RS256", keyP256: "ES256", keyP384: "ES384", keyP521: "ES512", keyEd25519: "EdDSA",
}

func parsePrivate(text string) (key any, kid string, err error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		parsed, err := jwk.ParseKey([]byte(text))
		if err != nil {
			return nil, "", errors.New("not a JWK")
		}
		var raw any
		if err := parsed.Raw(&raw); err != nil {
			return nil, "", errors.New("not a JWK of a supported type")
		}
		return raw, parsed.KeyID(), nil
	}
	block, rest := pem.Decode([]byte(text))
	if block != nil && block.Type == "EC PARAMETERS" {
		block, _ = pem.Decode(rest) // openssl writes them before the key
	}
	if block == nil {
		return nil, "", errors.New("neither PEM nor a JWK")
	}
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, "", fmt.Errorf("a PEM block of type %q is not an unencrypted private key", block.Type)
	}
	if err != nil {
		// the library's text could quote key material
		return nil, "", fmt.Errorf("the PEM block %q cannot be parsed", block.Type)
	}
	return key, "", nil
}

// NewSecretSigner makes a signer with a shared secret; alg is HS256 when empty.
func NewSecretSigner(secret []byte, alg string) (*Signer, error) {
	if alg == "" {
		alg = "HS256"
	}
	if !Symmetric(alg) {
		return nil, fmt.Errorf("%w: %q does not use a shared secret", ErrAlgorithm, alg)
	}
	if least := MinSecretSize(alg); len(secret) < least {
		return nil, fmt.Errorf("%s needs a secret of at least %d bytes", alg, least)
	}
	signer, err := jws.NewSigner(algorithms[alg].name)
	if err != nil {
		return nil, fmt.Errorf("making a signer: %w", err)
	}
	return &Signer{algorithm: alg, key: secret, signer: signer}, nil
}

// Sign returns a compact JWS of the claims, with the given typ.
func (s *Signer) Sign(typ string, claims map[string]any) (string, error) {
	header := map[string]string{"alg": s.algorithm, "typ": typ}
	if s.keyID != "" {
		header["kid"] = s.keyID
	}
	headerText, err := json.Marshal(header)
	if err != nil {
		return "", fmt.Errorf("encoding header: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	input := encoding.EncodeToString(headerText) + "." + encoding.EncodeToString(payload)
	signature, err := s.signer.Sign([]byte(input), s.key)
	if err != nil {
		return "", errors.New("signing failed")
	}
	return input + "." + encoding.EncodeToString(signature), nil
}

// PublicKeySet is the JWK Set (RFC 7517 section 5) of the public key, for others to verify with. A shared secret has none.
func (s *Signer) PublicKeySet() ([]byte, error) {
	private, ok := s.key.(crypto.Signer)
	if !ok {
		return []byte(`{"keys":[]}`), nil
	}
	key, err := jwk.FromRaw(private.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	for name, value := range map[string]string{jwk.KeyIDKey: s.keyID, jwk.AlgorithmKey: s.algorithm, jwk.KeyUsageKey: "sig"} {
		if err := key.Set(name, value); err != nil {
			return nil, fmt.Errorf("encoding the public key: %w", err)
		}
	}
	return json.Marshal(map[string]any{"keys": []any{key}})
}
