package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// benchmarkToken is a token of about one kilobyte with the claims that providers usually send, and the key set that it verifies with.
func benchmarkToken(b *testing.B, alg string) (raw string, set *KeySet, key *optest.Key) {
	b.Helper()
	key = optest.NewKey(b, alg, "2024-01-key")
	claims := optest.Claims{
		"iss": "https://login.example.com/realms/customers", "sub": "f3a1c9de-6f0e-4b7a-9a51-2f9f5f0a7b11", "aud": []string{"api", "account"},
		"azp": "web", "client_id": "web", "scope": "openid profile email orders:read", "iat": 1767225600, "nbf": 1767225600, "exp": 4102444800,
		"jti": "6a2f41b0-0b8e-44b4-9a43-c6b8a4de3b5f", "email": "alice@example.com", "email_verified": true, "name": "Alice Example",
		"realm_access": map[string]any{"roles": []string{"customer", "reviewer"}},
	}
	raw = optest.Sign(key, optest.Claims{"typ": "at+jwt"}, claims)
	if missing := 1024 - len(raw); missing > 0 {
		claims["filler"] = strings.Repeat("x", missing*3/4-13)
		raw = optest.Sign(key, optest.Claims{"typ": "at+jwt"}, claims)
	}
	return raw, keySet(b, key), key
}

// BenchmarkParse is the gate alone.
func BenchmarkParse(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			raw, _, _ := benchmarkToken(b, alg)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(raw, MaxClientToken); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAccept is all that this package does for one token: the gate, the choice of the key and the signature. Compare it with
// BenchmarkBareRS256 and BenchmarkBareES256.
func BenchmarkAccept(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			raw, set, _ := benchmarkToken(b, alg)
			b.ReportAllocs()
			for b.Loop() {
				if err := accept(set, raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify is the signature check of a parsed token.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range AsymmetricAlgorithms() {
		b.Run(alg, func(b *testing.B) {
			raw, set, _ := benchmarkToken(b, alg)
			benchmarkVerify(b, raw, set)
		})
	}
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		b.Run(alg, func(b *testing.B) {
			secret := []byte(strings.Repeat("s", MinSecretSize(alg)))
			set, err := SecretKeySet(secret)
			if err != nil {
				b.Fatal(err)
			}
			benchmarkVerify(b, optest.HMAC(alg, secret, nil, optest.Claims{"sub": "alice", "filler": strings.Repeat("x", 700)}), set)
		})
	}
}

func benchmarkVerify(b *testing.B, raw string, set *KeySet) {
	b.Helper()
	token, err := Parse(raw, MaxClientToken)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := token.Verify(set.keys[0]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareRS256 is the least that a verifier of the same token must do: hash and verify with the standard library.
func BenchmarkBareRS256(b *testing.B) {
	raw, _, key := benchmarkToken(b, "RS256")
	input, signature := cut(b, raw)
	public := key.Public().(*rsa.PublicKey)
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256([]byte(input))
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareES256 is BenchmarkBareRS256 for ES256.
func BenchmarkBareES256(b *testing.B) {
	raw, _, key := benchmarkToken(b, "ES256")
	input, signature := cut(b, raw)
	public := key.Public().(*ecdsa.PublicKey)
	b.ReportAllocs()
	for b.Loop() {
		sum := sha256.Sum256([]byte(input))
		if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			b.Fatal("the signature does not verify")
		}
	}
}

// BenchmarkBare is the same for the other algorithms.
func BenchmarkBare(b *testing.B) {
	for _, alg := range []string{"RS512", "PS256", "ES384", "ES512", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			raw, _, key := benchmarkToken(b, alg)
			input, signature := cut(b, raw)
			var verify func() bool
			switch public := key.Public().(type) {
			case *rsa.PublicKey:
				verify = func() bool { return verifyPlain(alg, public, input, signature) }
			case *ecdsa.PublicKey:
				hash := map[string]func([]byte) []byte{
					"ES384": func(b []byte) []byte { sum := sha512.Sum384(b); return sum[:] },
					"ES512": func(b []byte) []byte { sum := sha512.Sum512(b); return sum[:] },
				}[alg]
				half := len(signature) / 2
				verify = func() bool {
					return ecdsa.Verify(public, hash([]byte(input)), new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
				}
			case ed25519.PublicKey:
				verify = func() bool { return ed25519.Verify(public, []byte(input), signature) }
			}
			b.ReportAllocs()
			for b.Loop() {
				if !verify() {
					b.Fatal("the signature does not verify")
				}
			}
		})
	}
}

// BenchmarkParseKeySet is what a renewal of the keys costs.
func BenchmarkParseKeySet(b *testing.B) {
	for _, n := range []int{4, maxKeys} {
		b.Run(fmt.Sprintf("%d keys", n), func(b *testing.B) {
			keys := make([]*optest.Key, n)
			first := optest.NewKey(b, "RS256", "k")
			for i := range keys {
				keys[i] = first
			}
			text := optest.KeySet(keys...)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := ParseKeySet(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRefuse is what the cheapest attacks cost.
func BenchmarkRefuse(b *testing.B) {
	raw, _, _ := benchmarkToken(b, "RS256")
	for name, raw := range map[string]string{
		"dots":      strings.Repeat(".", 15_000),
		"nested":    compact(`{"alg":"RS256"}`, `{"a":`+strings.Repeat("[", 10_000)),
		"none":      compact(`{"alg":"none"}`, `{"sub":"admin"}`),
		"too large": strings.Repeat(raw, 20),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(raw, MaxClientToken); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
