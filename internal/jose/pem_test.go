package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// rsaCertificate is a self-signed certificate, in DER, that has expired.
func rsaCertificate(t testing.TB, key *optest.Key) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.Private())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemBlock(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestParsePEM(t *testing.T) {
	t.Parallel()
	keys := asymmetricKeys(t)
	rs, es := keys["RS256"], keys["ES256"]
	pkcs1 := pemBlock("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(rs.Public().(*rsa.PublicKey)))
	certificate := pemBlock("CERTIFICATE", rsaCertificate(t, rs))
	tests := map[string]struct {
		text string
		keys []*optest.Key
	}{
		"RSA":                 {rs.PEM(), []*optest.Key{rs, keys["PS256"], rs.With("RS512", "")}},
		"P-256":               {es.PEM(), []*optest.Key{es}},
		"P-384":               {keys["ES384"].PEM(), []*optest.Key{keys["ES384"]}},
		"P-521":               {keys["ES512"].PEM(), []*optest.Key{keys["ES512"]}},
		"Ed25519":             {keys["EdDSA"].PEM(), []*optest.Key{keys["EdDSA"], keys["EdDSA"].With("Ed25519", "")}},
		"PKCS #1":             {pkcs1, []*optest.Key{rs}},
		"certificate":         {certificate, []*optest.Key{rs}},
		"several":             {rs.PEM() + es.PEM() + keys["EdDSA"].PEM(), []*optest.Key{rs, es, keys["EdDSA"]}},
		"kinds mixed":         {certificate + es.PEM(), []*optest.Key{rs, es}},
		"two of one type":     {es.PEM() + optest.NewKey(t, "ES256", "").PEM(), []*optest.Key{es}},
		"text around":         {"the key of 2024:\n" + rs.PEM() + "\nand of 2025:\n" + es.PEM() + "end\n", []*optest.Key{rs, es}},
		"CRLF":                {strings.ReplaceAll(rs.PEM(), "\n", "\r\n"), []*optest.Key{rs}},
		"no newline at end":   {strings.TrimSuffix(rs.PEM(), "\n"), []*optest.Key{rs}},
		"white space":         {"\n\n  \n" + rs.PEM() + "\n\n", []*optest.Key{rs}},
		"with block headers":  {strings.Replace(es.PEM(), "-----\n", "-----\nComment: a key\n\n", 1), []*optest.Key{es}},
		"expired certificate": {certificate, []*optest.Key{rs}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := ParsePEM([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := set.Len(), strings.Count(test.text, "-----BEGIN"); got != want {
				t.Errorf("%d keys of %d", got, want)
			}
			for _, key := range test.keys {
				for _, kid := range []any{"any", nil} {
					if err := accept(set, optest.Sign(key, optest.Claims{"kid": kid}, nil)); err != nil {
						t.Errorf("a token of the %s key with kid %v: %v", key.Algorithm, kid, err)
					}
				}
				if err := accept(set, optest.Sign(optest.NewKey(t, key.Algorithm, ""), nil, nil)); err == nil {
					t.Errorf("a token of another %s key is accepted", key.Algorithm)
				}
			}
		})
	}
}

func TestParsePEMRefuses(t *testing.T) {
	t.Parallel()
	rs, es := optest.NewKey(t, "RS256", ""), optest.NewKey(t, "ES256", "")
	if _, err := ParsePEM([]byte(rs.PEM() + es.PEM())); err != nil {
		t.Fatalf("the good keys: %v", err)
	}
	spki := func(public crypto.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return pemBlock("PUBLIC KEY", der)
	}
	sec1, err := x509.MarshalECPrivateKey(es.Private().(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	offCurve, err := x509.MarshalPKIXPublicKey(es.Public())
	if err != nil {
		t.Fatal(err)
	}
	offCurve[len(offCurve)-1] ^= 1
	small := optest.NewRSAKey(t, "RS256", "", 1024)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, es.Private())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(rs.PEM()))
	tests := map[string]string{
		"nothing":                  "",
		"white space":              " \n",
		"junk":                     "not a key",
		"DER":                      string(block.Bytes),
		"base64 of the DER alone":  strings.Join(strings.Split(strings.TrimSpace(rs.PEM()), "\n")[1:8], "\n"),
		"JWK":                      string(marshal(t, rs.JWK())),
		"cut":                      rs.PEM()[:200],
		"empty block":              pemBlock("PUBLIC KEY", nil),
		"junk in the block":        pemBlock("PUBLIC KEY", []byte("junk")),
		"junk in the certificate":  pemBlock("CERTIFICATE", []byte("junk")),
		"junk in PKCS #1":          pemBlock("RSA PUBLIC KEY", []byte("junk")),
		"data after the key":       pemBlock("PUBLIC KEY", append(bytes.Clone(block.Bytes), 0)),
		"SPKI as PKCS #1":          pemBlock("RSA PUBLIC KEY", block.Bytes),
		"PKCS #8":                  rs.PrivatePEM(),
		"PKCS #8 after a good one": es.PEM() + rs.PrivatePEM(),
		"PKCS #1 private":          pemBlock("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs.Private().(*rsa.PrivateKey))),
		"SEC 1 private":            pemBlock("EC PRIVATE KEY", sec1),
		"private, encrypted":       pemBlock("ENCRYPTED PRIVATE KEY", []byte("junk")),
		"private as public":        pemBlock("PUBLIC KEY", sec1),
		"certificate request":      pemBlock("CERTIFICATE REQUEST", request),
		"OpenSSH":                  pemBlock("OPENSSH PRIVATE KEY", []byte("junk")),
		"lower case":               pemBlock("public key", block.Bytes),
		"RSA-1024":                 small.PEM(),
		"RSA-1024 among good ones": rs.PEM() + small.PEM() + es.PEM(),
		"certificate of RSA-1024":  pemBlock("CERTIFICATE", rsaCertificate(t, small)),
		"P-224":                    spki(p224.Public()),
		"X25519":                   spki(x25519.Public()),
		"off its curve":            pemBlock("PUBLIC KEY", offCurve),
		"a good one, one cut":      rs.PEM() + es.PEM()[:len(es.PEM())-20],
		"a good one, one broken":   rs.PEM() + strings.Replace(es.PEM(), "\n", "\n*", 1),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := ParsePEM([]byte(text))
			if err == nil {
				t.Fatalf("accepted, %d keys", set.Len())
			}
			for line := range strings.SplitSeq(text, "\n") {
				if len(line) > 20 && strings.Contains(err.Error(), line) {
					t.Errorf("the error quotes the key: %v", err)
				}
			}
		})
	}
}

// The standard library's keys that no document of ours can describe are refused too.
func TestNewKeyRefuses(t *testing.T) {
	t.Parallel()
	rs := optest.NewKey(t, "RS256", "").Public().(*rsa.PublicKey)
	if _, err := NewKey(rs); err != nil {
		t.Fatalf("the good key: %v", err)
	}
	for name, public := range map[string]crypto.PublicKey{
		"nil":             nil,
		"secret":          []byte(strings.Repeat("s", 64)),
		"string":          "key",
		"RSA by value":    *rs,
		"RSA private":     optest.NewKey(t, "RS256", "").Private(),
		"EC private":      optest.NewKey(t, "ES256", "").Private(),
		"RSA, e=1":        &rsa.PublicKey{N: rs.N, E: 1},
		"RSA, e=-3":       &rsa.PublicKey{N: rs.N, E: -3},
		"RSA, N=0":        &rsa.PublicKey{N: new(big.Int), E: 65537},
		"RSA, N<0":        &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(-1), 10), E: 65537},
		"P-256, no point": &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int), Y: new(big.Int)}, //nolint:staticcheck // no parser would make it
	} {
		if key, err := NewKey(public); err == nil {
			t.Errorf("%s: accepted as %v", name, key.keyType)
		}
	}
}

func TestSecretKeySet(t *testing.T) {
	t.Parallel()
	secret := []byte(strings.Repeat("s", 32))
	set, err := SecretKeySet(secret)
	if err != nil {
		t.Fatal(err)
	}
	again, err := SecretKeySet(slices.Clone(secret))
	if err != nil {
		t.Fatal(err)
	}
	other, err := SecretKeySet([]byte(strings.Repeat("t", 32)))
	if err != nil {
		t.Fatal(err)
	}
	if set.keys[0].Thumbprint() != again.keys[0].Thumbprint() || set.keys[0].Thumbprint() == other.keys[0].Thumbprint() {
		t.Error("the thumbprint does not identify the secret")
	}
	for alg, want := range map[string]int{"HS256": 1, "HS384": 1, "HS512": 1, "RS256": 0, "ES256": 0, "EdDSA": 0, "none": 0} {
		for _, kid := range []string{"", "any"} {
			if candidates, named := set.Candidates(kid, alg); len(candidates) != want || named {
				t.Errorf("%s, kid %q: %d candidates", alg, kid, len(candidates))
			}
		}
	}
}
