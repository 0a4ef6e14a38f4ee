package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// verifyPlain checks a signature with nothing but the standard library.
func verifyPlain(alg string, public crypto.PublicKey, input string, signature []byte) bool {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	var sum []byte
	if hash != 0 {
		digest := hash.New()
		digest.Write([]byte(input))
		sum = digest.Sum(nil)
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		if alg[0] == 'P' {
			return rsa.VerifyPSS(public, hash, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, sum, signature) == nil
	case *ecdsa.PublicKey:
		size := (public.Params().BitSize + 7) / 8
		return len(signature) == 2*size &&
			ecdsa.Verify(public, sum, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	case ed25519.PublicKey:
		return ed25519.Verify(public, []byte(input), signature)
	}
	return false
}

// opened is what a compact token says, read with nothing but the standard library.
func opened(t *testing.T, raw string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		t.Fatalf("%d segments", len(parts))
	}
	for i, target := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, target); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	keys := asymmetricKeys(t)
	usual := map[string]string{
		"RS256": "RS256", "RS384": "RS256", "RS512": "RS256", "PS256": "RS256", "PS384": "RS256", "PS512": "RS256",
		"ES256": "ES256", "ES384": "ES384", "ES512": "ES512", "EdDSA": "EdDSA", "Ed25519": "EdDSA",
	}
	for _, alg := range AsymmetricAlgorithms() {
		key := keys[alg]
		withKid := key.PrivateJWK()
		withoutKid := changed(withKid, map[string]any{"kid": nil, "alg": nil})
		forms := map[string]struct{ text, kid string }{
			"PKCS #8":        {key.PrivatePEM(), ""},
			"text around":    {"the key\n" + key.PrivatePEM() + "\nend", ""},
			"CRLF":           {strings.ReplaceAll(key.PrivatePEM(), "\n", "\r\n"), ""},
			"JWK":            {string(marshal(t, withKid)), key.ID},
			"JWK, no kid":    {" \n" + string(marshal(t, withoutKid)) + "\n", ""},
			"JWK, empty kid": {string(marshal(t, changed(withKid, map[string]any{"kid": ""}))), ""},
		}
		switch private := key.Private().(type) {
		case *rsa.PrivateKey:
			forms["PKCS #1"] = struct{ text, kid string }{pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private)), ""}
		case *ecdsa.PrivateKey:
			der, err := x509.MarshalECPrivateKey(private)
			if err != nil {
				t.Fatal(err)
			}
			forms["SEC 1"] = struct{ text, kid string }{pemBlock("EC PRIVATE KEY", der), ""}
		}
		for name, form := range forms {
			t.Run(alg+", "+name, func(t *testing.T) {
				t.Parallel()
				variants := []struct{ alg, want, keyID string }{{alg, alg, ""}, {"", usual[alg], ""}, {alg, alg, "chosen"}}
				if name != "PKCS #8" && name != "JWK" {
					variants = variants[:1] // how the key is written has nothing to do with the rest
				}
				for _, test := range variants {
					signer, err := ParsePrivateKey(form.text, test.alg, test.keyID)
					if err != nil {
						t.Fatal(err)
					}
					wantKid := test.keyID
					if wantKid == "" {
						wantKid = form.kid
					}
					if wantKid == "" {
						wantKid = plainThumbprint(t, key)
					}
					if kid := checkSigner(t, signer, test.want, key); kid != wantKid {
						t.Errorf("kid %v, want %s", kid, wantKid)
					}
				}
			})
		}
	}
}

// checkSigner checks a token that the signer makes, and returns the kid that it names.
func checkSigner(t *testing.T, signer *Signer, alg string, key *optest.Key) any {
	t.Helper()
	claims := map[string]any{"iss": "client", "aud": "https://op.example/?a=1&b=<2>", "text": "é\n😀", "list": []any{"a", nil, true}}
	raw, err := signer.Sign("some+jwt", claims)
	if err != nil {
		t.Fatal(err)
	}
	header, got := opened(t, raw)
	if header["alg"] != alg || header["typ"] != "some+jwt" || !reflect.DeepEqual(got, claims) {
		t.Errorf("header %v, claims %v", header, got)
	}
	input, signature := cut(t, raw)
	if !verifyPlain(alg, key.Public(), input, signature) || verifyPlain(alg, key.Public(), input+"x", signature) {
		t.Error("the signature is not good")
	}
	// what we send would also pass our own gate
	if err := accept(keySet(t, key.With(alg, header["kid"].(string))), raw); err != nil {
		t.Errorf("our own gate: %v", err)
	}
	return header["kid"]
}

// plainThumbprint is RFC 7638 with nothing but the standard library: the required members, sorted, without space.
func plainThumbprint(t *testing.T, key *optest.Key) string {
	t.Helper()
	jwk := key.JWK()
	for _, name := range []string{"kid", "alg", "use"} {
		delete(jwk, name)
	}
	sum := sha256.Sum256(marshal(t, jwk))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// A number with leading zeros still fills its half of an elliptic curve signature.
func TestSignECDSALength(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	signer, err := ParsePrivateKey(key.PrivatePEM(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	short := 0
	for n := 0; n < 2000 && short == 0; n++ {
		raw, err := signer.Sign("JWT", map[string]any{"n": n})
		if err != nil {
			t.Fatal(err)
		}
		input, signature := cut(t, raw)
		if !verifyPlain("ES256", key.Public(), input, signature) {
			t.Fatalf("signature %x is not good", signature)
		}
		if signature[0] == 0 || signature[32] == 0 {
			short++
		}
	}
	if short == 0 {
		t.Error("no signature with a leading zero came up")
	}
}

// The file that "openssl ecparam -genkey" writes names the curve before the key.
func TestParsePrivateKeyWithParameters(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	der, err := x509.MarshalECPrivateKey(key.Private().(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	parameters := pemBlock("EC PARAMETERS", []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
	signer, err := ParsePrivateKey(parameters+pemBlock("EC PRIVATE KEY", der), "", "")
	if err != nil {
		t.Fatal(err)
	}
	checkSigner(t, signer, "ES256", key)
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	t.Parallel()
	rs, es, ed := optest.NewKey(t, "RS256", "r1"), optest.NewKey(t, "ES256", "e1"), optest.NewKey(t, "EdDSA", "d1")
	if _, err := ParsePrivateKey(rs.PrivatePEM(), "PS384", ""); err != nil {
		t.Fatalf("the good key: %v", err)
	}
	pkcs8 := func(private any) string {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return pemBlock("PRIVATE KEY", der)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(key *optest.Key, changes map[string]any) string {
		return string(marshal(t, changed(key.PrivateJWK(), changes)))
	}
	other, otherEC, otherEd := optest.NewKey(t, "RS256", "r2"), optest.NewKey(t, "ES256", ""), optest.NewKey(t, "EdDSA", "")
	tests := map[string]struct{ text, alg string }{
		"nothing":               {"", ""},
		"junk":                  {"secret", ""},
		"brace":                 {"{", ""},
		"empty JWK":             {"{}", ""},
		"public PEM":            {rs.PEM(), ""},
		"public JWK":            {string(marshal(t, rs.JWK())), ""},
		"public EC JWK":         {string(marshal(t, es.JWK())), ""},
		"certificate":           {pemBlock("CERTIFICATE", rsaCertificate(t, rs)), ""},
		"encrypted":             {pemBlock("ENCRYPTED PRIVATE KEY", []byte("junk")), ""},
		"OpenSSH":               {pemBlock("OPENSSH PRIVATE KEY", []byte("junk")), ""},
		"junk in PKCS #8":       {pemBlock("PRIVATE KEY", []byte("junk")), ""},
		"junk in PKCS #1":       {pemBlock("RSA PRIVATE KEY", []byte("junk")), ""},
		"junk in SEC 1":         {pemBlock("EC PRIVATE KEY", []byte("junk")), ""},
		"empty block":           {pemBlock("PRIVATE KEY", nil), ""},
		"secret JWK":            {`{"kty":"oct","k":"` + strings.Repeat("A", 86) + `"}`, ""},
		"secret JWK, HS256":     {`{"kty":"oct","k":"` + strings.Repeat("A", 86) + `"}`, "HS256"},
		"key set":               {`{"keys":[` + jwk(rs, nil) + `]}`, ""},
		"weak":                  {optest.NewRSAKey(t, "RS256", "", 1024).PrivatePEM(), ""},
		"P-224":                 {pkcs8(p224), ""},
		"X25519":                {pkcs8(x25519), ""},
		"EC JWK, d is no text":  {jwk(es, map[string]any{"d": 1}), ""},
		"EC JWK, off its curve": {jwk(es, map[string]any{"x": es.JWK()["y"]}), ""},
		"Ed JWK, short d":       {jwk(ed, map[string]any{"d": "AAAA"}), ""},
		"Ed JWK, empty d":       {jwk(ed, map[string]any{"d": ""}), ""},
		"RSA, no prime":         {jwk(rs, map[string]any{"p": "", "q": ""}), ""},
		"RSA, primes of other":  {jwk(rs, map[string]any{"p": other.PrivateJWK()["p"], "q": other.PrivateJWK()["q"]}), ""},
		"RSA, modulus of other": {jwk(rs, map[string]any{"n": other.JWK()["n"]}), ""},
		"EC, point of other":    {jwk(es, map[string]any{"x": otherEC.JWK()["x"], "y": otherEC.JWK()["y"]}), ""},
		"Ed25519, x of other":   {jwk(ed, map[string]any{"x": otherEd.JWK()["x"]}), ""},
		"RSA with ES256":        {rs.PrivatePEM(), "ES256"},
		"RSA with EdDSA":        {rs.PrivatePEM(), "EdDSA"},
		"RSA with HS256":        {rs.PrivatePEM(), "HS256"},
		"RSA with none":         {rs.PrivatePEM(), "none"},
		"RSA with rs256":        {rs.PrivatePEM(), "rs256"},
		"P-256 with RS256":      {es.PrivatePEM(), "RS256"},
		"P-256 with ES384":      {es.PrivatePEM(), "ES384"},
		"P-256 with ES512":      {es.PrivatePEM(), "ES512"},
		"Ed25519 with ES256":    {ed.PrivatePEM(), "ES256"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signer, err := ParsePrivateKey(test.text, test.alg, "")
			if err == nil {
				_, signErr := signer.Sign("JWT", nil)
				t.Fatalf("accepted, and Sign says: %v", signErr)
			}
			for _, part := range strings.FieldsFunc(test.text, func(r rune) bool { return strings.ContainsRune("\n\":, -", r) }) {
				if len(part) > 20 && strings.Contains(err.Error(), part) {
					t.Errorf("the error quotes the key: %v", err)
				}
			}
		})
	}
}

func TestSecretSigner(t *testing.T) {
	t.Parallel()
	for alg, size := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		for _, short := range [][]byte{nil, {}, bytes.Repeat([]byte("s"), size-1)} {
			if _, err := NewSecretSigner(short, alg); err == nil {
				t.Errorf("%s with %d bytes is accepted", alg, len(short))
			}
		}
		secret := bytes.Repeat([]byte("s"), size)
		signer, err := NewSecretSigner(secret, alg)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := signer.Sign("JWT", map[string]any{"iss": "client"})
		if err != nil {
			t.Fatal(err)
		}
		if want := optest.HMAC(alg, secret, nil, optest.Claims{"iss": "client"}); raw != want {
			t.Errorf("%s: signed %s, want %s", alg, raw, want)
		}
	}
	secret := bytes.Repeat([]byte("s"), 32)
	signer, err := NewSecretSigner(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.Sign("JWT", map[string]any{"iss": "client"})
	if err != nil {
		t.Fatal(err)
	}
	input, signature := cut(t, raw)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(input))
	if header, _ := opened(t, raw); !hmac.Equal(mac.Sum(nil), signature) || header["alg"] != "HS256" || header["kid"] != nil {
		t.Errorf("by default: header %v", header)
	}
	for _, alg := range slices.Concat(AsymmetricAlgorithms(), []string{"none", "hs256", "HS1", "dir"}) {
		if _, err := NewSecretSigner(bytes.Repeat([]byte("s"), 64), alg); err == nil {
			t.Errorf("%s with a secret is accepted", alg)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	signer, err := NewSecretSigner(bytes.Repeat([]byte("s"), 32), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign("JWT", map[string]any{"n": 1}); err != nil {
		t.Fatalf("good claims: %v", err)
	}
	for _, value := range []any{make(chan int), func() {}, fmt.Errorf} {
		if raw, err := signer.Sign("JWT", map[string]any{"n": value}); err == nil {
			t.Errorf("signed %T as %s", value, raw)
		}
	}
}
