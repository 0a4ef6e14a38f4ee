package apisix

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
)

// The kinds of keys that openid_connect signs and verifies with.
const (
	keyUnknown = "unknown" // it stands elsewhere
	keyRSA     = "RSA"
)

var pemBegin = []byte("-----BEGIN ")

// kindOfKey is the kind of a public key, "" when it cannot be used.
func kindOfKey(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= 2048 && bits <= 8192 && key.N.Bit(0) == 1 && key.E >= 3 && key.E%2 == 1 {
			return keyRSA
		}
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil {
			return ""
		}
		switch name := key.Curve.Params().Name; name {
		case "P-256", "P-384", "P-521":
			return name
		}
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return ""
}

// firstPublicKey returns the first key or certificate of a text in PEM, written anew, so that nothing else of the text is left, and whether
// something follows that begins as PEM does. It is nil unless the first can be used.
func firstPublicKey(text []byte) (written []byte, more bool) {
	block, rest := pem.Decode(text)
	if block == nil || bytes.Count(text[:len(text)-len(rest)], pemBegin) != 1 {
		return nil, false // what comes first is broken
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	default:
		return nil, false // a private key, perhaps
	}
	if err != nil || kindOfKey(key) == "" {
		return nil, false
	}
	return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}), bytes.Contains(rest, pemBegin)
}

// privateKeyKind is the kind of a private key in PEM, "" when it cannot be used.
func privateKeyKind(text string) string {
	if isReference(text) {
		return keyUnknown
	}
	block, rest := pem.Decode([]byte(text))
	if block != nil && block.Type == "EC PARAMETERS" {
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return ""
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return ""
	}
	private, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return ""
	}
	return kindOfKey(private.Public())
}

// signs reports whether a key of that kind signs by an algorithm.
func signs(kind, algorithm string) bool {
	switch kind {
	case keyRSA:
		return isOneOf(algorithm, "RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
	case "P-256":
		return algorithm == "ES256"
	case "P-384":
		return algorithm == "ES384"
	case "P-521":
		return algorithm == "ES512"
	case "Ed25519":
		return isOneOf(algorithm, "EdDSA", "Ed25519")
	case keyUnknown:
		return isOneOf(algorithm, asymmetric...)
	default:
		return false
	}
}

var asymmetric = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
}

func isOneOf(text string, all ...string) bool { return slices.Contains(all, text) }

func isHMAC(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }
