package jose

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// document is a JWKS of these members.
func document(t testing.TB, members ...any) []byte {
	t.Helper()
	return marshal(t, map[string]any{"keys": members})
}

// changed is a JWK with other members; nil removes one.
func changed(jwk map[string]any, changes map[string]any) map[string]any {
	jwk = maps.Clone(jwk)
	for name, value := range changes {
		if jwk[name] = value; value == nil {
			delete(jwk, name)
		}
	}
	return jwk
}

// modulus is an odd number of so many bits, which is all that can be seen of a modulus without factoring it.
func modulus(bits uint) string {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return base64.RawURLEncoding.EncodeToString(n.SetBit(n, 0, 1).Bytes())
}

func TestParseKeySet(t *testing.T) {
	t.Parallel()
	keys := asymmetricKeys(t)
	all := make([]*optest.Key, 0, len(keys))
	for _, alg := range AsymmetricAlgorithms() {
		all = append(all, keys[alg])
	}
	set := keySet(t, all...)
	if set.Len() != len(all) {
		t.Errorf("%d keys of %d", set.Len(), len(all))
	}
	for _, alg := range AsymmetricAlgorithms() {
		candidates, named := set.Candidates(alg, alg)
		if len(candidates) != 1 || !named || candidates[0].ID != alg || !set.Contains(candidates[0].Thumbprint()) {
			t.Errorf("%s: candidates %v, named %v", alg, candidates, named)
		}
		if err := accept(set, optest.Sign(keys[alg], nil, nil)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if set.Contains("") || set.Contains(keySet(t, optest.NewKey(t, "ES256", "RS256")).keys[0].Thumbprint()) {
		t.Error("the set contains a key that is not in it")
	}
	if candidates, named := set.Candidates("RS256", "none"); candidates != nil || named {
		t.Errorf("candidates for none: %v", candidates)
	}
}

// S-245 and forms of the document as a whole.
func TestParseKeySetRefuses(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	good := string(marshal(t, key.JWK()))
	if _, _, err := ParseKeySet([]byte(`{"extra":1,"keys":[` + good + `]}`)); err != nil {
		t.Fatalf("the good set: %v", err)
	}
	tests := map[string]string{
		"nothing":           ``,
		"HTML":              `<html><body>Bad gateway</body></html>`,
		"list":              `[` + good + `]`,
		"null":              `null`,
		"string":            `"keys"`,
		"number":            `1`,
		"one key":           good,
		"no keys":           `{}`,
		"null keys":         `{"keys":null}`,
		"keys is an object": `{"keys":` + good + `}`,
		"keys is a string":  `{"keys":"` + base64.RawURLEncoding.EncodeToString([]byte(good)) + `"}`,
		"empty list":        `{"keys":[]}`,
		"Keys":              `{"Keys":[` + good + `]}`,
		"nothing usable":    `{"keys":[null,1,"x",[],{},{"kty":"oct","k":"c2VjcmV0"}]}`,
		"data after":        `{"keys":[` + good + `]}x`,
		"cut":               `{"keys":[` + good,
		"byte order mark":   "\ufeff" + `{"keys":[` + good + `]}`,
		"duplicate keys":    `{"keys":[` + good + `],"keys":[` + good + `]}`,
		"200,000 deep":      `{"keys":[` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + `]}`,
		"200,000 deep aside": `{"a":` + strings.Repeat(`{"a":`, 200_000) + "1" + strings.Repeat("}", 200_000) +
			`,"keys":[` + good + `]}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if set, _, err := ParseKeySet([]byte(text)); err == nil || set != nil {
				t.Errorf("ParseKeySet = %v, %v", set, err)
			}
		})
	}
}

func TestParseKeySetLimit(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	members := slices.Repeat([]any{key.JWK()}, maxKeys)
	if set, _, err := ParseKeySet(document(t, members...)); err != nil || set.Len() != maxKeys {
		t.Errorf("%d keys: %v", maxKeys, err)
	}
	if _, _, err := ParseKeySet(document(t, append(members, key.JWK())...)); err == nil {
		t.Errorf("%d keys are accepted", maxKeys+1)
	}
	if _, _, err := ParseKeySet([]byte(`{"keys":[` + strings.Repeat("1,", 99_999) + `1]}`)); err == nil {
		t.Error("100,000 keys are accepted")
	}
}

// S-062, S-063, S-091: what cannot be used is skipped, with a reason, and the rest works.
func TestParseKeySetSkips(t *testing.T) {
	t.Parallel()
	rs, es, ed := optest.NewKey(t, "RS256", "r1"), optest.NewKey(t, "ES256", "e1"), optest.NewKey(t, "EdDSA", "d1")
	other := optest.NewKey(t, "ES256", "other")
	long, weak := optest.NewKey(t, "ES384", "e2"), optest.NewRSAKey(t, "RS256", "weak", 1024)
	even := new(big.Int).Lsh(rs.Public().(*rsa.PublicKey).N, 1)
	tests := map[string]any{
		"null":                       nil,
		"number":                     1,
		"string":                     "key",
		"list":                       []any{es.JWK()},
		"empty":                      map[string]any{},
		"no kty":                     changed(es.JWK(), map[string]any{"kty": nil}),
		"ML-DSA":                     map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "pub": "AAAA"},
		"kty ec":                     changed(es.JWK(), map[string]any{"kty": "ec"}),
		"kty is a number":            changed(es.JWK(), map[string]any{"kty": 2}),
		"kty of another":             changed(es.JWK(), map[string]any{"kty": "RSA"}),
		"secp256k1":                  changed(es.JWK(), map[string]any{"crv": "secp256k1", "alg": nil}),
		"P-224":                      changed(es.JWK(), map[string]any{"crv": "P-224", "alg": nil}),
		"P-256 of unknown case":      changed(es.JWK(), map[string]any{"crv": "p-256"}),
		"point of P-384 as P-256":    changed(long.JWK(), map[string]any{"crv": "P-256", "alg": nil}),
		"point of P-256 as P-384":    changed(es.JWK(), map[string]any{"crv": "P-384", "alg": nil}),
		"off its curve":              changed(es.JWK(), map[string]any{"x": es.JWK()["y"]}),
		"x of another key":           changed(es.JWK(), map[string]any{"x": other.JWK()["x"]}),
		"point at infinity":          changed(es.JWK(), map[string]any{"x": "AAAA", "y": "AAAA"}),
		"coordinate beyond":          changed(es.JWK(), map[string]any{"x": strings.Repeat("_", 43)}),
		"no x":                       changed(es.JWK(), map[string]any{"x": nil}),
		"no y":                       changed(es.JWK(), map[string]any{"y": nil}),
		"x is a number":              changed(es.JWK(), map[string]any{"x": 1}),
		"x is no base64":             changed(es.JWK(), map[string]any{"x": "***"}),
		"x is empty":                 changed(es.JWK(), map[string]any{"x": ""}),
		"Ed448":                      changed(ed.JWK(), map[string]any{"crv": "Ed448", "alg": nil}),
		"X25519":                     changed(ed.JWK(), map[string]any{"crv": "X25519", "alg": nil}),
		"Ed25519, 31 bytes":          changed(ed.JWK(), map[string]any{"x": base64.RawURLEncoding.EncodeToString(make([]byte, 31))}),
		"Ed25519, 33 bytes":          changed(ed.JWK(), map[string]any{"x": base64.RawURLEncoding.EncodeToString(make([]byte, 33))}),
		"RSA-1024":                   weak.JWK(),
		"RSA-2047":                   changed(rs.JWK(), map[string]any{"n": modulus(2047)}),
		"RSA-8193":                   changed(rs.JWK(), map[string]any{"n": modulus(8193)}),
		"RSA-16384":                  changed(rs.JWK(), map[string]any{"n": modulus(16384)}),
		"RSA of 100,000 bits":        changed(rs.JWK(), map[string]any{"n": modulus(100_000)}),
		"even modulus":               changed(rs.JWK(), map[string]any{"n": base64.RawURLEncoding.EncodeToString(even.Bytes())}),
		"empty n":                    changed(rs.JWK(), map[string]any{"n": ""}),
		"zero n":                     changed(rs.JWK(), map[string]any{"n": "AA"}),
		"no n":                       changed(rs.JWK(), map[string]any{"n": nil}),
		"n is a number":              changed(rs.JWK(), map[string]any{"n": json.Number("65537")}),
		"e=0":                        changed(rs.JWK(), map[string]any{"e": "AA"}),
		"e=1":                        changed(rs.JWK(), map[string]any{"e": "AQ"}),
		"e=2":                        changed(rs.JWK(), map[string]any{"e": "Ag"}),
		"even e":                     changed(rs.JWK(), map[string]any{"e": "AQAA"}),
		"empty e":                    changed(rs.JWK(), map[string]any{"e": ""}),
		"no e":                       changed(rs.JWK(), map[string]any{"e": nil}),
		"secret":                     map[string]any{"kty": "oct", "k": strings.Repeat("A", 86), "kid": "e1"},
		"for encryption":             changed(es.JWK(), map[string]any{"use": "enc"}),
		"use unknown":                changed(es.JWK(), map[string]any{"use": "tls"}),
		"use in upper case":          changed(es.JWK(), map[string]any{"use": "SIG"}),
		"use is a list":              changed(es.JWK(), map[string]any{"use": []string{"sig"}}),
		"key_ops without verify":     changed(es.JWK(), map[string]any{"key_ops": []string{"sign", "wrapKey"}}),
		"key_ops empty":              changed(es.JWK(), map[string]any{"key_ops": []string{}}),
		"key_ops is a string":        changed(es.JWK(), map[string]any{"key_ops": "verify"}),
		"alg of encryption":          changed(rs.JWK(), map[string]any{"alg": "RSA-OAEP"}),
		"alg none":                   changed(rs.JWK(), map[string]any{"alg": "none"}),
		"alg empty":                  changed(rs.JWK(), map[string]any{"alg": ""}),
		"alg is a number":            changed(rs.JWK(), map[string]any{"alg": 256}),
		"alg of a secret":            changed(rs.JWK(), map[string]any{"alg": "HS256"}),
		"alg of another type":        changed(rs.JWK(), map[string]any{"alg": "ES256"}),
		"alg of another curve":       changed(es.JWK(), map[string]any{"alg": "ES384"}),
		"kid is a number":            changed(es.JWK(), map[string]any{"kid": 7}),
		"duplicate member":           json.RawMessage(strings.Replace(string(marshal(t, es.JWK())), `{`, `{"kid":"x",`, 1)),
		"deep":                       json.RawMessage(`{"kty":"EC","a":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `}`),
		"NUL in kid":                 changed(es.JWK(), map[string]any{"kid": "e\x001"}),
		"private key that is broken": changed(es.PrivateJWK(), map[string]any{"d": 1}),
	}
	for name, member := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := ParseKeySet(document(t, member)); err == nil {
				t.Error("alone: it is accepted")
			}
			set, skipped, err := ParseKeySet(document(t, other.JWK(), member, long.JWK()))
			if err != nil {
				t.Fatal(err)
			}
			if set.Len() != 2 || len(skipped) != 1 || skipped[0].Index != 1 || skipped[0].Reason == nil {
				t.Fatalf("%d keys, skipped %v", set.Len(), skipped)
			}
			for _, key := range []*optest.Key{other, long} {
				if err := accept(set, optest.Sign(key, nil, nil)); err != nil {
					t.Errorf("the good key %s: %v", key.ID, err)
				}
			}
			for _, key := range []*optest.Key{rs, es, ed, weak} {
				if err := accept(set, optest.Sign(key, nil, nil)); err == nil {
					t.Errorf("the key %s verifies", key.ID)
				}
			}
		})
	}
}

// S-091, S-096: members that do not matter, certificates that are wrong, and sizes that are just allowed.
func TestParseKeySetKeeps(t *testing.T) {
	t.Parallel()
	rs, es, ed := optest.NewKey(t, "RS256", "r1"), optest.NewKey(t, "ES256", "e1"), optest.NewKey(t, "Ed25519", "d1")
	foreign := []string{base64.StdEncoding.EncodeToString(optest.NewCertificate(t, nil).Certificate[0])}
	tests := map[string]struct {
		key     *optest.Key
		changes map[string]any
	}{
		"as it is":               {rs, nil},
		"no kid":                 {rs, map[string]any{"kid": nil}},
		"no alg":                 {es, map[string]any{"alg": nil}},
		"no use":                 {ed, map[string]any{"use": nil}},
		"bare":                   {es, map[string]any{"alg": nil, "use": nil, "kid": nil}},
		"key_ops":                {rs, map[string]any{"key_ops": []string{"verify"}}},
		"key_ops with more":      {rs, map[string]any{"key_ops": []string{"sign", "verify", "x"}}},
		"use and key_ops":        {es, map[string]any{"use": "sig", "key_ops": []string{"verify"}}},
		"unknown members":        {es, map[string]any{"iss": "https://op.example", "nbf": 1, "exp": 1.5, "x": es.JWK()["x"], "more": []any{nil, true, map[string]any{"a": "b"}}}},
		"certificate, foreign":   {rs, map[string]any{"x5c": foreign}},
		"certificate, empty":     {rs, map[string]any{"x5c": []string{}}},
		"certificate, no list":   {rs, map[string]any{"x5c": "x"}},
		"certificate, garbage":   {es, map[string]any{"x5c": []string{"***"}}},
		"certificate, empty DER": {es, map[string]any{"x5c": []string{""}}},
		"certificate, number":    {es, map[string]any{"x5c": 1}},
		"digests, wrong":         {ed, map[string]any{"x5t": "AAAA", "x5t#S256": "***"}},
		"digests, numbers":       {rs, map[string]any{"x5t": 1, "x5t#S256": 2}},
		"certificate URL":        {rs, map[string]any{"x5u": "http://169.254.169.254/"}},
		"certificate URL, list":  {rs, map[string]any{"x5u": []any{}}},
		"name of Ed25519":        {ed, map[string]any{"alg": "EdDSA"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, skipped, err := ParseKeySet(document(t, changed(test.key.JWK(), test.changes)))
			if err != nil || len(skipped) != 0 || set.Len() != 1 {
				t.Fatalf("ParseKeySet: %v, skipped %v", err, skipped)
			}
			if err := accept(set, optest.Sign(test.key, nil, nil)); err != nil {
				t.Errorf("the token of the key: %v", err)
			}
			if err := accept(set, optest.Sign(optest.NewKey(t, test.key.Algorithm, test.key.ID), nil, nil)); !errors.Is(err, ErrSignature) {
				t.Errorf("the token of another key: %v", err)
			}
		})
	}
	for _, bits := range []uint{minRSABits, 3072, 4096, maxRSABits} {
		if _, _, err := ParseKeySet(document(t, changed(rs.JWK(), map[string]any{"n": modulus(bits)}))); err != nil {
			t.Errorf("RSA-%d: %v", bits, err)
		}
	}
}
