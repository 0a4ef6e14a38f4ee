package jose

import (
	"bytes"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"hash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

func TestVerifyHMAC(t *testing.T) {
	t.Parallel()
	for alg, size := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		secret := bytes.Repeat([]byte("s"), size)
		set, err := SecretKeySet(secret)
		if err != nil || set.Len() != 1 {
			t.Fatal(err)
		}
		for _, header := range []optest.Claims{nil, {"kid": "any"}} {
			if err := accept(set, optest.HMAC(alg, secret, header, optest.Claims{"sub": "alice"})); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
		bad := map[string]string{
			"another secret":   optest.HMAC(alg, bytes.Repeat([]byte("t"), size), nil, optest.Claims{"sub": "alice"}),
			"a longer secret":  optest.HMAC(alg, append(bytes.Clone(secret), 's'), nil, optest.Claims{"sub": "alice"}),
			"a shorter secret": optest.HMAC(alg, secret[1:], nil, optest.Claims{"sub": "alice"}),
			"an empty secret":  optest.HMAC(alg, nil, nil, optest.Claims{"sub": "alice"}),
		}
		input, mac := cut(t, optest.HMAC(alg, secret, nil, optest.Claims{"sub": "alice"}))
		for n := 1; n < len(mac); n++ {
			bad["the first "+strconv.Itoa(n)+" bytes alone"] = input + "." + base64.RawURLEncoding.EncodeToString(mac[:n])
		}
		bad["one byte more"] = input + "." + base64.RawURLEncoding.EncodeToString(append(bytes.Clone(mac), 0))
		for name, raw := range bad {
			if err := accept(set, raw); !errors.Is(err, ErrSignature) {
				t.Errorf("%s with %s: %v", alg, name, err)
			}
		}
	}
}

// One HMAC algorithm is not another, and a secret is never the key of an asymmetric algorithm.
func TestVerifyHMACMixedUp(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("s"), 64)
	set, err := SecretKeySet(secret)
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	sign := func(alg string) func([]byte) []byte {
		return func(input []byte) []byte {
			mac := hmac.New(hashes[alg], secret)
			mac.Write(input)
			return mac.Sum(nil)
		}
	}
	for made := range hashes {
		for named := range hashes {
			if err := accept(set, signedAs(named, "", sign(made))); (err == nil) != (made == named) {
				t.Errorf("%s as %s: %v", made, named, err)
			}
		}
		for _, named := range AsymmetricAlgorithms() {
			raw := signedAs(named, "", sign(made))
			if candidates, _ := set.Candidates("", named); len(candidates) != 0 {
				t.Errorf("a secret is a candidate for %s", named)
			}
			token, err := Parse(raw, MaxClientToken)
			if err != nil {
				t.Fatal(err)
			}
			if err := token.Verify(set.keys[0]); !errors.Is(err, ErrAlgorithm) {
				t.Errorf("%s with a secret: %v", named, err)
			}
		}
	}
}

// S-051: the public key in every encoding, taken for an HMAC secret, signs nothing that its key set accepts.
func TestPublicKeyIsNoSecret(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "RS256", "k1")
	set := keySet(t, key, optest.NewKey(t, "ES256", "e1"), optest.NewKey(t, "EdDSA", "d1"))
	withoutAlg := key.JWK()
	delete(withoutAlg, "alg")
	plain, skipped, err := ParseKeySet(marshal(t, map[string]any{"keys": []any{withoutAlg}}))
	if err != nil || len(skipped) > 0 {
		t.Fatal(err, skipped)
	}
	fromPEM, err := ParsePEM([]byte(key.PEM()))
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string]*KeySet{"published": set, "without alg": plain, "PEM": fromPEM}
	for name, set := range sets {
		if err := accept(set, optest.Sign(key, nil, optest.Claims{"sub": "alice"})); err != nil {
			t.Fatalf("the good token, %s: %v", name, err)
		}
	}

	public := key.Public().(*rsa.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	certificate := rsaCertificate(t, key)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	minimal := map[string]any{"kty": "RSA", "n": key.JWK()["n"], "e": key.JWK()["e"]}
	secrets := map[string][]byte{
		"SPKI DER":        spki,
		"PKCS #1 DER":     pkcs1,
		"certificate DER": certificate,
		"SPKI base64":     []byte(base64.StdEncoding.EncodeToString(spki)),
		"JWK":             marshal(t, key.JWK()),
		"minimal JWK":     marshal(t, minimal),
		"key set":         optest.KeySet(key),
		"modulus":         public.N.Bytes(),
		"modulus with 0":  append([]byte{0}, public.N.Bytes()...),
		"modulus, base64": []byte(key.JWK()["n"].(string)),
		"modulus, text":   []byte(public.N.String()),
		"modulus, hex":    []byte(public.N.Text(16)),
		"thumbprint":      []byte(set.keys[0].Thumbprint()),
		"kid":             []byte("k1"),
		"empty":           {},
		"NUL":             {0},
	}
	for name, text := range map[string][]byte{
		"SPKI PEM": block("PUBLIC KEY", spki), "PKCS #1 PEM": block("RSA PUBLIC KEY", pkcs1), "certificate PEM": block("CERTIFICATE", certificate),
	} {
		secrets[name] = text
		secrets[name+" without the last newline"] = bytes.TrimSuffix(text, []byte("\n"))
		secrets[name+" with another newline"] = append(bytes.Clone(text), '\n')
		secrets[name+" with CRLF"] = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
		secrets[name+" on one line"] = []byte(strings.ReplaceAll(string(text), "\n", ""))
	}
	for name, secret := range secrets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, alg := range []string{"HS256", "HS384", "HS512"} {
				for _, header := range []optest.Claims{nil, {"kid": "k1"}, {"kid": "e1"}, {"kid": "unknown"}} {
					raw := optest.HMAC(alg, secret, header, optest.Claims{"sub": "admin"})
					token, err := Parse(raw, MaxClientToken)
					if err != nil {
						t.Fatal(err)
					}
					if len(secret) > 0 {
						// the signature as such is right
						own, err := SecretKeySet(secret)
						if err != nil {
							t.Fatal(err)
						}
						if err := accept(own, raw); err != nil {
							t.Fatalf("with the secret itself: %v", err)
						}
					}
					for kind, set := range sets {
						if candidates, _ := set.Candidates(token.KeyID, token.Algorithm); len(candidates) != 0 {
							t.Errorf("%s, %s: %d candidates", kind, alg, len(candidates))
						}
						for _, key := range set.keys {
							if err := token.Verify(key); !errors.Is(err, ErrAlgorithm) {
								t.Errorf("%s, %s: Verify: %v", kind, alg, err)
							}
						}
					}
				}
			}
		})
	}
}

// S-050: no secret at all is no secret.
func TestEmptySecret(t *testing.T) {
	t.Parallel()
	for _, secret := range [][]byte{nil, {}} {
		set, err := SecretKeySet(secret)
		if err != nil {
			continue // refusing it is as good as never matching
		}
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			if err := accept(set, optest.HMAC(alg, secret, nil, optest.Claims{"sub": "alice"})); !errors.Is(err, ErrSignature) {
				t.Errorf("%s with an empty secret: %v", alg, err)
			}
		}
	}
}

// S-062: a shared secret in a fetched key set is not loaded, whatever it calls itself.
func TestSecretInKeySet(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("s"), 64)
	good := optest.NewKey(t, "ES256", "k1")
	oct := map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(secret), "kid": "k1"}
	for _, extra := range []map[string]any{nil, {"alg": "HS256"}, {"use": "sig"}, {"alg": "ES256"}, {"key_ops": []string{"verify"}}} {
		member := maps.Clone(oct)
		maps.Copy(member, extra)
		set, skipped, err := ParseKeySet(marshal(t, map[string]any{"keys": []any{member, good.JWK()}}))
		if err != nil || set.Len() != 1 || len(skipped) != 1 || skipped[0].Index != 0 {
			t.Fatalf("%v: %v, skipped %v", extra, err, skipped)
		}
		if err := accept(set, optest.Sign(good, nil, nil)); err != nil {
			t.Errorf("%v: the other key: %v", extra, err)
		}
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			raw := optest.HMAC(alg, secret, optest.Claims{"kid": "k1"}, nil)
			if err := accept(set, raw); err == nil {
				t.Errorf("%v: %s by the fetched secret is accepted", extra, alg)
			}
		}
		if _, _, err := ParseKeySet(marshal(t, map[string]any{"keys": []any{member}})); err == nil {
			t.Errorf("%v: a set of secrets is a set of keys", extra)
		}
		if slices.ContainsFunc(skipped, func(s SkippedKey) bool { return strings.Contains(s.Reason.Error(), oct["k"].(string)) }) {
			t.Errorf("%v: the reason quotes the secret", extra)
		}
	}
}

func marshal(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
