package jose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// FuzzParse: what the gate accepts is a token in the one way to write it, and is read the same each time.
func FuzzParse(f *testing.F) {
	for _, alg := range AsymmetricAlgorithms() {
		key := optest.NewKey(f, alg, "k1")
		f.Add(signedAs(alg, "k1", key.Sign))
		f.Add(proof(key, key.JWK(), nil))
	}
	f.Add(optest.HMAC("HS256", []byte("secret"), optest.Claims{"kid": "é"}, optest.Claims{"exp": 4102444800.5, "nbf": 0, "iat": -1}))
	f.Add(optest.Unsigned(nil, nil))
	for _, header := range []string{`{"alg":"ES256"}`, ` {"alg":"RS256","typ":"at+jwt","crit":["exp"]}`, `{"alg":"none"}`, `{"alg":"ES256","alg":"ES256"}`, `[]`, ``} {
		for _, payload := range []string{`{}`, `{"exp":1e999}`, `{"a":{"b":[1,-2.5e-3,true,null,"\ud83d\ude00"]}}`, "{\"a\":\"\xff\"}", `{"exp":"x"}`, `null`} {
			f.Add(compact(header, payload))
		}
	}
	for _, raw := range []string{"", "..", "a.b.c", "eyJ.e30.AA", "e30.e30.AB", "e30.e30.AA\n", "e30.e30.AA==", strings.Repeat(".", 100)} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		signed, encrypted := Shape(raw)
		if signed && encrypted || signed != LooksLikeJWT(raw) {
			t.Fatalf("%q is signed %v and encrypted %v", raw, signed, encrypted)
		}
		token, err := Parse(raw, MaxClientToken)
		if proven, key, proofErr := ParseProof(raw, MaxClientToken); proofErr == nil && (err != nil || !reflect.DeepEqual(proven, token) || token.Verify(key) != nil) {
			t.Fatalf("%q is a proof, but as a token %v", raw, err)
		}
		if err != nil {
			if token != nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrCritical) && !errors.Is(err, ErrAlgorithm) {
				t.Fatalf("Parse = %v, %v", token, err)
			}
			return
		}
		segments := strings.Split(raw, ".")
		if len(segments) != 3 || slices.Contains(segments, "") || len(raw) > MaxClientToken {
			t.Fatalf("accepted with %d segments and %d bytes", len(segments), len(raw))
		}
		again, err := Parse(raw, MaxClientToken)
		if err != nil || !reflect.DeepEqual(token, again) {
			t.Fatalf("the second time: %+v, %v, not %+v", again, err, token)
		}
		for i, segment := range segments {
			content, err := base64.RawURLEncoding.DecodeString(segment)
			if err != nil || base64.RawURLEncoding.EncodeToString(content) != segment {
				t.Fatalf("segment %d can be written in another way", i)
			}
		}
		if segment(token.Payload) != segments[1] || token.signingInput != segments[0]+"."+segments[1] {
			t.Fatalf("payload %q, input %q of %q", token.Payload, token.signingInput, raw)
		}
		header, _ := base64.RawURLEncoding.DecodeString(segments[0])
		if plain := plainObject(t, string(header)); plain["alg"] != token.Algorithm || !Known(token.Algorithm) || plain["crit"] != nil {
			t.Fatalf("header %s is read as %q", header, token.Algorithm)
		}
		if plain := plainObject(t, token.Payload); !reflect.DeepEqual(plain, token.Claims) {
			t.Fatalf("claims %v, not %v", token.Claims, plain)
		}
		if _, enc := plainObject(t, string(header))["enc"]; !signed && (!encrypted || !enc) {
			t.Fatalf("%q does not look like what it is", raw)
		}
		for name, date := range map[string]bool{"exp": token.Expiry.IsZero(), "nbf": token.NotBefore.IsZero(), "iat": token.IssuedAt.IsZero()} {
			if _, present := token.Claims[name]; present == date {
				t.Fatalf("%s is present: %v, but zero: %v", name, present, date)
			}
		}
	})
}

// FuzzParseObject: the parser accepts exactly what encoding/json reads in one way only, and reads the same.
func FuzzParseObject(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":{"b":{"c":[[],{},[1,"x",null,true,false]]}}}`, `{"a":-0.5e+10,"b":1E-1,"c":0,"d":123456789012345678901234567890}`,
		`{"\u0061":1,"b":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":"\ud800"}`, `{"a":"\u0000"}`,
		"{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}", "\ufeff{}", `{"a":01}`, `{"a":1.}`, `{"a":tru}`, `{"a":1,}`, `{"a":1}x`, `{}{}`, `[]`, `null`, `"a"`, ``,
		"{\"a\":\"\x01\"}", "{\"a\":\"\ufffd\"}", `{"a":"\ufffd"}`, "{\n\t\"a\" :\r[ 1 , 2 ]\n}", `{"A":1,"a":2}`, `{"a":NaN}`, `{"a":+1}`, `{"a":'x'}`,
		strings.Repeat(`{"a":`, maxDepth-1) + `{}` + strings.Repeat("}", maxDepth-1), strings.Repeat(`{"a":`, maxDepth) + `{}` + strings.Repeat("}", maxDepth),
		`{"a":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`, `{"a":` + strings.Repeat("[", 1000),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		object, err := ParseObject(text)
		if err != nil {
			if object != nil || !errors.Is(err, ErrMalformed) {
				t.Fatalf("ParseObject = %v, %v", object, err)
			}
			if ambiguous(text) == "" {
				t.Fatalf("%q is refused: %v", text, err)
			}
			return
		}
		if reason := ambiguous(text); reason != "" {
			t.Fatalf("%q is accepted: %s", text, reason)
		}
		if plain := plainObject(t, text); !reflect.DeepEqual(plain, object) {
			t.Fatalf("%q is read as %v, not %v", text, object, plain)
		}
	})
}

// plainObject is the document as encoding/json has it.
func plainObject(t *testing.T, text string) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		t.Fatalf("encoding/json does not read %q: %v", text, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("encoding/json finds more in %q", text)
	}
	return object
}

// ambiguous says why a document is not one object that can be read in one way only; it goes by the tokens of encoding/json.
func ambiguous(text string) string {
	if !json.Valid([]byte(text)) {
		return "not JSON"
	}
	if !utf8.ValidString(text) {
		return "invalid UTF-8"
	}
	if strings.TrimLeft(text, " \t\r\n")[0] != '{' {
		return "not an object"
	}
	// encoding/json puts U+FFFD for a lone surrogate; the text may also say it by itself, as a character or as an escape.
	replacements := strings.Count(text, "\ufffd") + strings.Count(strings.ToLower(strings.ReplaceAll(text, `\\`, "")), `\ufffd`)
	type level struct {
		names map[string]bool // nil in a list
		name  bool            // a name is next
	}
	var levels []level
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err.Error()
		}
		if token == json.Delim('}') || token == json.Delim(']') {
			levels = levels[:len(levels)-1]
			continue
		}
		if value, ok := token.(string); ok {
			if strings.ContainsRune(value, 0) {
				return "NUL"
			}
			replacements -= strings.Count(value, "\ufffd")
		}
		if n := len(levels); n > 0 && levels[n-1].names != nil {
			if levels[n-1].name {
				if levels[n-1].names[token.(string)] {
					return "duplicate member"
				}
				levels[n-1].names[token.(string)] = true
			}
			levels[n-1].name = !levels[n-1].name
		}
		if delimiter, ok := token.(json.Delim); ok {
			next := level{}
			if delimiter == '{' {
				next = level{names: make(map[string]bool), name: true}
			}
			if levels = append(levels, next); len(levels) > maxDepth {
				return "too deep"
			}
		}
	}
	if replacements < 0 {
		return "lone surrogate"
	}
	return ""
}

// FuzzParseKeySet: no document makes it panic, and no key that it accepts verifies what nobody has signed.
func FuzzParseKeySet(f *testing.F) {
	keys := asymmetricKeys(f)
	for _, alg := range AsymmetricAlgorithms() {
		f.Add(optest.KeySet(keys[alg]))
		jwk := keys[alg].PrivateJWK()
		f.Add(marshal(f, map[string]any{"keys": []any{jwk, changed(jwk, map[string]any{"x5c": []string{"AAAA"}, "key_ops": []string{"verify"}, "kid": nil})}}))
	}
	f.Add(optest.KeySet(keys["RS256"], keys["ES256"], keys["EdDSA"]))
	for _, text := range []string{
		``, `{}`, `{"keys":[]}`, `{"keys":null}`, `[]`, `{"keys":[null,1,"x",{}]}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`,
		`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"},{"kty":"OKP","crv":"X25519","x":"AA"},{"kty":"AKP","alg":"ML-DSA-44"}]}`,
		`{"keys":[{"kty":"RSA","n":"` + modulus(minRSABits) + `","e":"AQAB","use":"sig","alg":"PS256"}]}`,
	} {
		f.Add([]byte(text))
	}
	// Token by token what nobody signed: fixed bytes in the length that the algorithm asks for.
	var unsigned []*Token
	for alg, a := range algorithms {
		sizes := []int{a.signatureSize}
		if a.signatureSize == 0 {
			sizes = []int{256, 384, 512, 1024}
		}
		for _, size := range sizes {
			for _, fill := range []byte{0x00, 0x01, 0x5a} {
				raw := signedAs(alg, "", func([]byte) []byte { return bytes.Repeat([]byte{fill}, size) })
				token, err := Parse(raw, MaxClientToken)
				if err != nil {
					f.Fatal(err)
				}
				unsigned = append(unsigned, token)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		set, skipped, err := ParseKeySet(text)
		if !bytes.Equal(before, text) {
			t.Fatal("the document was changed")
		}
		if err != nil {
			if set != nil {
				t.Fatalf("a set with the error %v", err)
			}
			return
		}
		if set.Len() == 0 || set.Len()+len(skipped) > maxKeys {
			t.Fatalf("%d keys, %d skipped", set.Len(), len(skipped))
		}
		again, _, err := ParseKeySet(text)
		if err != nil || again.Len() != set.Len() {
			t.Fatalf("the second time: %v", err)
		}
		for i, key := range set.keys {
			if key.keyType == keySecret || key.Thumbprint() == "" || key.Thumbprint() != again.keys[i].Thumbprint() || !set.Contains(key.Thumbprint()) {
				t.Fatalf("key %d: type %s, thumbprint %q", i, key.keyType, key.Thumbprint())
			}
			for _, token := range unsigned {
				if err := token.Verify(key); err == nil {
					t.Fatalf("key %d verifies what nobody signed with %s", i, token.Algorithm)
				}
			}
		}
		for _, alg := range slices.Sorted(maps.Keys(algorithms)) {
			candidates, _ := set.Candidates("", alg)
			if Symmetric(alg) && len(candidates) > 0 || len(candidates) > maxCandidates {
				t.Fatalf("%d candidates for %s", len(candidates), alg)
			}
		}
	})
}
