package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// signedAs is a token whose header names alg, with a signature that sign made of it.
func signedAs(alg, kid string, sign func(input []byte) []byte) string {
	header := `{"alg":"` + alg + `","kid":"` + kid + `"}`
	if kid == "" {
		header = `{"alg":"` + alg + `"}`
	}
	input := segment(header) + "." + segment(`{"iss":"https://op.example","sub":"alice"}`)
	return input + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(input)))
}

// asymmetricKeys are a key for each algorithm, named like it; those of the RSA algorithms are one.
func asymmetricKeys(tb testing.TB) map[string]*optest.Key {
	tb.Helper()
	keys := make(map[string]*optest.Key)
	rsa := optest.NewKey(tb, "RS256", "RS256")
	for _, alg := range AsymmetricAlgorithms() {
		if keys[alg] = rsa.With(alg, alg); alg[0] == 'E' {
			keys[alg] = optest.NewKey(tb, alg, alg)
		}
	}
	return keys
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, alg := range AsymmetricAlgorithms() {
		if !Known(alg) || Symmetric(alg) || MinSecretSize(alg) != 0 {
			t.Errorf("%s: known %v, symmetric %v, secret %d", alg, Known(alg), Symmetric(alg), MinSecretSize(alg))
		}
	}
	for alg, size := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		if !Known(alg) || !Symmetric(alg) || MinSecretSize(alg) != size || slices.Contains(AsymmetricAlgorithms(), alg) {
			t.Errorf("%s: known %v, symmetric %v, secret %d", alg, Known(alg), Symmetric(alg), MinSecretSize(alg))
		}
	}
	for _, alg := range []string{"", "none", "None", "hs256", "rs256", "RS1", "ES256K", "Ed448", "dir", "A128KW"} {
		if Known(alg) || Symmetric(alg) || MinSecretSize(alg) != 0 {
			t.Errorf("%q is known", alg)
		}
	}
	if len(algorithms) != len(AsymmetricAlgorithms())+3 {
		t.Errorf("%d algorithms, of which %d asymmetric", len(algorithms), len(AsymmetricAlgorithms()))
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	keys, others := asymmetricKeys(t), asymmetricKeys(t)
	for _, alg := range AsymmetricAlgorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key := keys[alg]
			set := keySet(t, key)
			good := signedAs(alg, alg, key.Sign)
			if err := accept(set, good); err != nil {
				t.Fatalf("the good signature: %v", err)
			}
			input, signature := cut(t, good)
			bad := map[string][]byte{
				"one byte":         {0},
				"one byte less":    signature[:len(signature)-1],
				"one byte more":    append(slices.Clone(signature), 0),
				"a zero in front":  append([]byte{0}, signature...),
				"twice":            append(slices.Clone(signature), signature...),
				"zeros":            make([]byte, len(signature)),
				"ones":             slices.Repeat([]byte{0xff}, len(signature)),
				"reversed":         reversed(signature),
				"of another key":   others[alg].Sign([]byte(input)),
				"of other content": key.Sign([]byte(input + "x")),
			}
			for i := 0; i < len(signature); i += 13 {
				flipped := slices.Clone(signature)
				flipped[i] ^= 1 << (i % 8)
				bad["flipped bit in byte "+strconv.Itoa(i)] = flipped
			}
			for name, signature := range bad {
				if err := accept(set, input+"."+base64.RawURLEncoding.EncodeToString(signature)); !errors.Is(err, ErrSignature) {
					t.Errorf("signature %s: %v", name, err)
				}
			}
			otherPayload := strings.Replace(good, segment(`{"iss":"https://op.example","sub":"alice"}`), segment(`{"iss":"https://op.example","sub":"admin"}`), 1)
			otherHeader := segment(`{"alg":"`+alg+`","kid":"`+alg+`","typ":"at+jwt"}`) + good[strings.IndexByte(good, '.'):]
			for name, raw := range map[string]string{"payload": otherPayload, "header": otherHeader} {
				if err := accept(set, raw); raw == good || !errors.Is(err, ErrSignature) {
					t.Errorf("changed %s: %v", name, err)
				}
			}
		})
	}
}

// cut separates what is signed from the signature.
func cut(tb testing.TB, raw string) (input string, signature []byte) {
	tb.Helper()
	i := strings.LastIndexByte(raw, '.')
	signature, err := base64.RawURLEncoding.DecodeString(raw[i+1:])
	if err != nil {
		tb.Fatal(err)
	}
	return raw[:i], signature
}

func reversed(b []byte) []byte {
	b = slices.Clone(b)
	slices.Reverse(b)
	return b
}

// S-054, S-055: a signature made by one algorithm never passes as that of another, even when the keys do not state theirs. The
// two names of Ed25519 are the one exception.
func TestVerifyMixedUp(t *testing.T) {
	t.Parallel()
	keys := asymmetricKeys(t)
	for _, made := range AsymmetricAlgorithms() {
		for _, named := range AsymmetricAlgorithms() {
			same := made == named || strings.HasPrefix(made, "Ed") && strings.HasPrefix(named, "Ed")
			t.Run(made+" as "+named, func(t *testing.T) {
				t.Parallel()
				raw := signedAs(named, "", keys[made].Sign)
				// the very key, without its own alg
				public, err := NewKey(keys[made].Public())
				if err != nil {
					t.Fatal(err)
				}
				if err := accept(&KeySet{keys: []*Key{public}}, raw); (err == nil) != same {
					t.Errorf("with the key alone: %v", err)
				}
				token, err := Parse(raw, MaxClientToken)
				if err != nil {
					t.Fatal(err)
				}
				switch err := token.Verify(public); {
				case same && err != nil:
					t.Errorf("Verify: %v", err)
				case !same && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrAlgorithm):
					t.Errorf("Verify: %v", err)
				}
				// all keys, each with its own alg
				set := keySet(t, keys[made], keys[named])
				if err := accept(set, raw); (err == nil) != same {
					t.Errorf("with the published keys: %v", err)
				}
			})
		}
	}
}

// S-054 by name: the key says PS256, the signature is RS256, and the other way around.
func TestKeyPinsItsAlgorithm(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "RS256", "k1")
	for _, test := range []struct{ published, used string }{{"RS256", "PS256"}, {"PS256", "RS256"}, {"RS256", "RS512"}, {"PS384", "PS512"}} {
		if err := accept(keySet(t, key.With(test.published, "k1")), signedAs(test.published, "k1", key.With(test.published, "k1").Sign)); err != nil {
			t.Errorf("%s: %v", test.published, err)
		}
		set := keySet(t, key.With(test.published, "k1"))
		raw := signedAs(test.used, "k1", key.With(test.used, "k1").Sign)
		candidates, named := set.Candidates("k1", test.used)
		if len(candidates) != 0 || !named {
			t.Errorf("a key for %s is a candidate for %s", test.published, test.used)
		}
		token, err := Parse(raw, MaxClientToken)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(set.keys[0]); !errors.Is(err, ErrAlgorithm) {
			t.Errorf("a key for %s verifies %s: %v", test.published, test.used, err)
		}
	}
}

// S-055: forms of an elliptic curve signature that are not the one of RFC 7518 section 3.4.
func TestVerifyECDSA(t *testing.T) {
	t.Parallel()
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key := optest.NewKey(t, alg, "k1")
			set := keySet(t, key)
			size := (curve.Params().BitSize + 7) / 8
			order := curve.Params().N
			join := func(r, s *big.Int) []byte {
				return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
			}
			split := func(input []byte) (r, s *big.Int) {
				signature := key.Sign(input)
				return new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
			}
			if err := accept(set, signedAs(alg, "k1", func(input []byte) []byte { return join(split(input)) })); err != nil {
				t.Fatalf("the good signature: %v", err)
			}
			zero := new(big.Int)
			tests := map[string]func(input []byte) []byte{
				"DER": func(input []byte) []byte {
					r, s := split(input)
					der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
					if err != nil {
						t.Error(err)
					}
					return der
				},
				"ASN.1 of the library": func(input []byte) []byte {
					digest := crypto.SHA256.New()
					digest.Write(input)
					der, err := ecdsa.SignASN1(rand.Reader, key.Private().(*ecdsa.PrivateKey), digest.Sum(nil))
					if err != nil {
						t.Error(err)
					}
					return der
				},
				"r=0 s=0":  func([]byte) []byte { return join(zero, zero) },
				"r=0":      func(input []byte) []byte { _, s := split(input); return join(zero, s) },
				"s=0":      func(input []byte) []byte { r, _ := split(input); return join(r, zero) },
				"r=n s=n":  func([]byte) []byte { return join(order, order) },
				"r=n":      func(input []byte) []byte { _, s := split(input); return join(order, s) },
				"s=n":      func(input []byte) []byte { r, _ := split(input); return join(r, order) },
				"r=1 s=1":  func([]byte) []byte { return join(big.NewInt(1), big.NewInt(1)) },
				"swapped":  func(input []byte) []byte { r, s := split(input); return join(s, r) },
				"r alone":  func(input []byte) []byte { r, _ := split(input); return r.FillBytes(make([]byte, size)) },
				"one byte": func([]byte) []byte { return []byte{1} },
				"huge":     func([]byte) []byte { return make([]byte, 4096) },
				"padded halves": func(input []byte) []byte {
					r, s := split(input)
					return append(r.FillBytes(make([]byte, size+1)), s.FillBytes(make([]byte, size+1))...)
				},
			}
			for _, length := range []int{1, 63, 64, 65, 95, 96, 97, 131, 132, 133, 2*size - 2, 2*size + 2} {
				if length != 2*size {
					tests["of "+strconv.Itoa(length)+" bytes"] = func(input []byte) []byte { return slices.Repeat(key.Sign(input), 3)[:length] }
				}
			}
			for name, sign := range tests {
				if err := accept(set, signedAs(alg, "k1", sign)); !errors.Is(err, ErrSignature) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// S-055: Ed25519 signatures of the length of Ed448, and ones whose scalar was not reduced.
func TestVerifyEd25519(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "EdDSA", "k1")
	order, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	order.Add(order, new(big.Int).Lsh(big.NewInt(1), 252))
	set := keySet(t, key)
	for _, alg := range []string{"EdDSA", "Ed25519"} {
		if err := accept(set, signedAs(alg, "k1", key.Sign)); err != nil {
			t.Fatalf("the good signature as %s: %v", alg, err)
		}
		if err := accept(keySet(t, key.With(alg, "k1")), signedAs("EdDSA", "k1", key.Sign)); err != nil {
			t.Fatalf("a key published for %s: %v", alg, err)
		}
		for name, sign := range map[string]func(input []byte) []byte{
			"Ed448 length": func(input []byte) []byte { return append(key.Sign(input), make([]byte, 114-ed25519.SignatureSize)...) },
			"pre-hashed": func(input []byte) []byte {
				digest := crypto.SHA512.New()
				digest.Write(input)
				signature, err := key.Private().Sign(rand.Reader, digest.Sum(nil), &ed25519.Options{Hash: crypto.SHA512})
				if err != nil {
					t.Error(err)
				}
				return signature
			},
			"scalar not reduced": func(input []byte) []byte {
				signature := key.Sign(input)
				scalar := new(big.Int).SetBytes(reversed(signature[32:]))
				scalar.Add(scalar, order)
				return append(slices.Clone(signature[:32]), reversed(scalar.FillBytes(make([]byte, 32)))...)
			},
		} {
			if err := accept(set, signedAs(alg, "k1", sign)); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %s: %v", alg, name, err)
			}
		}
	}
}

// Verification is used by many requests at a time, with one key.
func TestVerifyConcurrently(t *testing.T) {
	t.Parallel()
	keys := asymmetricKeys(t)
	set := keySet(t, keys["RS256"], keys["PS256"], keys["ES256"], keys["EdDSA"])
	var wait sync.WaitGroup
	for _, alg := range []string{"RS256", "PS256", "ES256", "EdDSA"} {
		good := signedAs(alg, alg, keys[alg].Sign)
		forged := signedAs(alg, alg, func(input []byte) []byte { return keys[alg].Sign(append(input, 'x')) })
		for range 4 {
			wait.Go(func() {
				for range 20 {
					if err := accept(set, good); err != nil {
						t.Errorf("%s, good: %v", alg, err)
					}
					if err := accept(set, forged); !errors.Is(err, ErrSignature) {
						t.Errorf("%s, forged: %v", alg, err)
					}
				}
			})
		}
	}
	wait.Wait()
}
