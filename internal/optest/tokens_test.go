package optest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestTokensVerify(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key := NewKey(t, alg, "k1")
			header, claims := open(t, Sign(key, Claims{"typ": nil, "extra": 1}, Claims{"sub": "bob", "gone": nil}), key)
			if header["alg"] != alg || header["kid"] != "k1" || header["extra"] != 1.0 || len(header) != 3 {
				t.Errorf("header = %v", header)
			}
			if claims["sub"] != "bob" || len(claims) != 1 {
				t.Errorf("claims = %v", claims)
			}
			forged := Sign(NewKey(t, alg, "k1"), nil, nil)
			input, signature := split(t, forged)
			if verify(alg, key.Public(), input, signature) {
				t.Error("two keys of one ID are the same key")
			}
			block, _ := pem.Decode([]byte(key.PEM()))
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
				t.Errorf("PEM does not hold the key: %v", err)
			}
		})
	}
}

func TestSignExactly(t *testing.T) {
	t.Parallel()
	key := NewKey(t, "RS256", "k1")
	input, signature := split(t, SignRaw(key, `{"alg":"RS256","alg":"none"}`, "not json"))
	if !verify("RS256", key.Public(), input, signature) {
		t.Error("raw token does not verify")
	}
	if want := encode([]byte(`{"alg":"RS256","alg":"none"}`)) + "." + encode([]byte("not json")); input != want {
		t.Errorf("input = %q, want %q", input, want)
	}
	input, signature = split(t, Sign(key.With("PS256", "k1"), Claims{"alg": "RS256"}, nil))
	if !verify("PS256", key.Public(), input, signature) || verify("RS256", key.Public(), input, signature) {
		t.Error("the header decided about the signature")
	}
	input, signature = split(t, HMAC("HS256", []byte("shared"), nil, Claims{"sub": "x"}))
	mac := hmac.New(sha256.New, []byte("shared"))
	mac.Write([]byte(input))
	if !hmac.Equal(mac.Sum(nil), signature) {
		t.Error("HMAC does not verify")
	}
	if token := Unsigned(Claims{"alg": "nOnE"}, nil); !strings.HasSuffix(token, ".") || strings.Count(token, ".") != 2 {
		t.Errorf("unsigned token = %q", token)
	}
}

func TestAccessAndIDToken(t *testing.T) {
	t.Parallel()
	p := New(t)
	token := p.AccessToken(Claims{"aud": []string{"a", "b"}, "jti": nil, "exp": json.RawMessage("null")})
	header, claims := open(t, token, p.Key("rs-1"))
	if header["typ"] != "at+jwt" || claims["iss"] != p.Issuer() || claims["sub"] != "alice" || claims["scope"] != "read" || claims["client_id"] != "client" {
		t.Errorf("header = %v, claims = %v", header, claims)
	}
	if _, ok := claims["jti"]; ok {
		t.Error("jti was not removed")
	}
	if exp, ok := claims["exp"]; !ok || exp != nil {
		t.Errorf("exp = %v, want null", exp)
	}
	header, claims = open(t, p.IDToken(nil), p.Key("rs-1"))
	if header["typ"] != "JWT" || claims["aud"] != "client" || claims["exp"].(float64) <= claims["iat"].(float64) {
		t.Errorf("header = %v, claims = %v", header, claims)
	}
	if !slices.Contains(p.Issued(), token) || len(p.Issued()) != 2 {
		t.Error("Issued does not list both tokens")
	}
}

func TestPrivateForms(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		key := NewKey(t, alg, "k1")
		block, _ := pem.Decode([]byte(key.PrivatePEM()))
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil || !key.Private().(interface{ Equal(crypto.PrivateKey) bool }).Equal(private) {
			t.Errorf("%s: PEM does not hold the key: %v", alg, err)
		}
		jwk := key.PrivateJWK()
		d, err := base64.RawURLEncoding.DecodeString(jwk["d"].(string))
		if err != nil {
			t.Fatal(err)
		}
		same := false
		switch private := private.(type) {
		case *rsa.PrivateKey:
			same = new(big.Int).SetBytes(d).Cmp(private.D) == 0
		case *ecdsa.PrivateKey:
			parsed, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
			same = err == nil && parsed.Equal(private)
		case ed25519.PrivateKey:
			same = ed25519.NewKeyFromSeed(d).Equal(private)
		}
		if !same {
			t.Errorf("%s: JWK does not hold the key", alg)
		}
	}
}

func split(t *testing.T, token string) (input string, signature []byte) {
	t.Helper()
	dot := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	return token[:dot], signature
}

// open verifies a token by what the key's JWK says and returns its parts.
func open(t *testing.T, token string, key *Key) (header, claims Claims) {
	t.Helper()
	input, signature := split(t, token)
	if !verify(key.Algorithm, fromJWK(t, key.JWK()), input, signature) {
		t.Fatalf("token does not verify: %s", token)
	}
	first, second, _ := strings.Cut(input, ".")
	for part, into := range map[string]*Claims{first: &header, second: &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func fromJWK(t *testing.T, jwk map[string]any) crypto.PublicKey {
	t.Helper()
	member := func(name string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(jwk[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	switch jwk["kty"] {
	case "RSA":
		return &rsa.PublicKey{N: new(big.Int).SetBytes(member("n")), E: int(new(big.Int).SetBytes(member("e")).Int64())}
	case "EC":
		curve := map[any]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[jwk["crv"]]
		public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, member("x"), member("y")))
		if err != nil {
			t.Fatal(err)
		}
		return public
	}
	return ed25519.PublicKey(member("x"))
}
