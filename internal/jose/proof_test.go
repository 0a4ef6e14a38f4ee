package jose

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// proof is a DPoP proof by the key with the JWK in its header.
func proof(key *optest.Key, jwk any, header optest.Claims) string {
	header = maps.Clone(header)
	if header == nil {
		header = optest.Claims{}
	}
	if _, ok := header["kid"]; !ok {
		header["kid"] = nil
	}
	header["jwk"] = jwk
	return optest.Sign(key, header, optest.Claims{"htm": "GET", "htu": "https://api.example/", "jti": "1", "iat": 1700000000})
}

func TestParseProof(t *testing.T) {
	t.Parallel()
	for alg, key := range asymmetricKeys(t) {
		for name, jwk := range map[string]map[string]any{
			"full":                 key.JWK(),
			"minimal":              changed(key.JWK(), map[string]any{"alg": nil, "use": nil, "kid": nil}),
			"with certificate":     changed(key.JWK(), map[string]any{"x5c": []string{"AAAA"}, "x5u": "http://169.254.169.254/"}),
			"with unknown members": changed(key.JWK(), map[string]any{"nbf": 1, "more": map[string]any{"a": []any{}}}),
		} {
			token, proven, err := ParseProof(proof(key, jwk, optest.Claims{"typ": "dpop+jwt"}), MaxClientToken)
			if err != nil {
				t.Errorf("%s, %s: %v", alg, name, err)
				continue
			}
			if token.Type != "dpop+jwt" || token.Claims["htm"] != "GET" || proven.Thumbprint() != plainThumbprint(t, key) {
				t.Errorf("%s, %s: type %q, claims %v, thumbprint %s", alg, name, token.Type, token.Claims, proven.Thumbprint())
			}
		}
	}
}

// S-058: the key in the header proves nothing but itself, and only a public key of a kind that signs can be there.
func TestParseProofRefuses(t *testing.T) {
	t.Parallel()
	key, other, rs := optest.NewKey(t, "ES256", "k1"), optest.NewKey(t, "ES256", "k1"), optest.NewKey(t, "RS256", "r1")
	if _, _, err := ParseProof(proof(key, key.JWK(), nil), MaxClientToken); err != nil {
		t.Fatalf("the good proof: %v", err)
	}
	secret := bytes.Repeat([]byte("s"), 32)
	oct := map[string]any{"kty": "oct", "k": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M"}
	weak := optest.NewRSAKey(t, "RS256", "", 1024)
	good := proof(key, key.JWK(), nil)
	input, signature := cut(t, good)
	tests := map[string]struct {
		raw  string
		want error
	}{
		"no jwk":               {optest.Sign(key, nil, nil), ErrMalformed},
		"jwk is null":          {proof(key, []byte(nil), nil), ErrMalformed},
		"jwk is a string":      {proof(key, string(marshal(t, key.JWK())), nil), ErrMalformed},
		"jwk is a list":        {proof(key, []any{key.JWK()}, nil), ErrMalformed},
		"jwk is a set":         {proof(key, map[string]any{"keys": []any{key.JWK()}}, nil), ErrMalformed},
		"jwk is empty":         {proof(key, map[string]any{}, nil), ErrMalformed},
		"private EC":           {proof(key, key.PrivateJWK(), nil), ErrMalformed},
		"private RSA":          {proof(rs, rs.PrivateJWK(), nil), ErrMalformed},
		"d that is null":       {optest.SignRaw(key, `{"alg":"ES256","jwk":`+strings.Replace(string(marshal(t, key.JWK())), "{", `{"d":null,`, 1)+`}`, `{}`), ErrMalformed},
		"secret":               {optest.HMAC("HS256", secret, optest.Claims{"jwk": oct}, nil), ErrMalformed},
		"HMAC by public key":   {optest.HMAC("HS256", []byte(rs.PEM()), optest.Claims{"jwk": rs.JWK()}, nil), ErrAlgorithm},
		"key of another":       {proof(key, other.JWK(), nil), ErrSignature},
		"of another type":      {proof(key, rs.JWK(), nil), ErrAlgorithm},
		"weak":                 {proof(weak, weak.JWK(), nil), ErrMalformed},
		"large":                {proof(rs, changed(rs.JWK(), map[string]any{"n": modulus(maxRSABits + 1)}), nil), ErrMalformed},
		"off its curve":        {proof(key, changed(key.JWK(), map[string]any{"x": other.JWK()["x"]}), nil), ErrMalformed},
		"for encryption":       {proof(key, changed(key.JWK(), map[string]any{"use": "enc"}), nil), ErrMalformed},
		"alg of the key":       {proof(rs, changed(rs.JWK(), map[string]any{"alg": "PS256"}), nil), ErrAlgorithm},
		"alg none":             {proof(key, key.JWK(), optest.Claims{"alg": "none"}), ErrAlgorithm},
		"critical":             {proof(key, key.JWK(), optest.Claims{"crit": []string{"jwk"}}), ErrCritical},
		"changed payload":      {input[:strings.IndexByte(input, '.')+1] + segment(`{"htm":"POST"}`) + good[len(input):], ErrSignature},
		"changed signature":    {input + "." + segment(string(reversed(signature))), ErrSignature},
		"too large":            {good + strings.Repeat("A", MaxClientToken), ErrTooLarge},
		"no token":             {"x", ErrMalformed},
		"two":                  {good + "," + good, ErrMalformed},
		"duplicate in the jwk": {optest.SignRaw(key, `{"alg":"ES256","jwk":`+strings.Replace(string(marshal(t, key.JWK())), "{", `{"kty":"EC",`, 1)+`}`, `{}`), ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token, proven, err := ParseProof(test.raw, MaxClientToken); !errors.Is(err, test.want) || token != nil || proven != nil {
				t.Errorf("ParseProof = %v, %v, %v, want %v", token, proven, err, test.want)
			}
		})
	}
}
