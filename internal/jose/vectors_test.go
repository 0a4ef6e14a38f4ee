package jose

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

// rfc7515Payload is the payload of RFC 7515, appendix A.1 to A.3 and A.5, with its line breaks.
const rfc7515Payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

// The examples of RFC 7515 appendix A that are JWTs.
func TestRFC7515(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		alg, typ string
		set      func(t *testing.T) *KeySet
		raw      string
	}{
		"A.1": {
			alg: "HS256", typ: "JWT",
			set: func(t *testing.T) *KeySet {
				secret, err := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
				if err != nil {
					t.Fatal(err)
				}
				set, err := SecretKeySet(secret)
				if err != nil {
					t.Fatal(err)
				}
				return set
			},
			raw: "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + rfc7515Payload + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		},
		"A.2": {
			alg: "RS256",
			set: published(`{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}`),
			raw: "eyJhbGciOiJSUzI1NiJ9." + rfc7515Payload + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
		},
		"A.3": {
			alg: "ES256",
			set: published(`{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`),
			raw: "eyJhbGciOiJFUzI1NiJ9." + rfc7515Payload + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := test.set(t)
			if err := accept(set, test.raw); err != nil {
				t.Fatal(err)
			}
			token, err := Parse(test.raw, MaxClientToken)
			if err != nil {
				t.Fatal(err)
			}
			if token.Algorithm != test.alg || token.Type != test.typ || token.KeyID != "" {
				t.Errorf("header = %q, %q, %q", token.Algorithm, token.Type, token.KeyID)
			}
			if token.Claims["iss"] != "joe" || token.Claims["http://example.com/is_root"] != true || !token.Expiry.Equal(time.Unix(1300819380, 0)) {
				t.Errorf("claims = %v, expiry %v", token.Claims, token.Expiry)
			}
			forged := strings.Replace(test.raw, rfc7515Payload, strings.Replace(rfc7515Payload, "joe", "job", 1), 1)
			if forged == test.raw {
				forged = strings.Replace(test.raw, rfc7515Payload, segment(`{"iss":"jim"}`), 1)
			}
			if err := accept(set, forged); !errors.Is(err, ErrSignature) {
				t.Errorf("another payload: %v", err)
			}
		})
	}
}

// The examples whose payload is no JSON, and the unsecured one, do not pass the gate.
func TestRFC7515Refused(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"RFC 7515 A.4": "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
		"RFC 7515 A.5": "eyJhbGciOiJub25lIn0." + rfc7515Payload + ".",
		"RFC 7515 A.6": `{"payload":"` + rfc7515Payload + `","signatures":[{"protected":"eyJhbGciOiJFUzI1NiJ9","signature":"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"}]}`,
		"RFC 8037 A.4": "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
	} {
		if token, err := Parse(raw, MaxClientToken); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, %v", name, token, err)
		}
	}
}

// RFC 7638 section 3.1 and RFC 8037 appendix A.3. What else a JWK says does not change its thumbprint.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	const modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	tests := map[string]string{
		`{"kty":"RSA","n":"` + modulus + `","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`:           "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		`{"e":"AQAB","use":"sig","n":"` + modulus + `","kty":"RSA"}`:                                "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`:           "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
		`{"kty":"OKP","kid":"a","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
	}
	for jwk, want := range tests {
		set := published(jwk)(t)
		if got := set.keys[0].Thumbprint(); got != want || !set.Contains(want) {
			t.Errorf("the thumbprint of %.40s… is %s, want %s", jwk, got, want)
		}
	}
}

// published reads a key set of one key.
func published(jwk string) func(t *testing.T) *KeySet {
	return func(t *testing.T) *KeySet {
		t.Helper()
		set, skipped, err := ParseKeySet([]byte(`{"keys":[` + jwk + `]}`))
		if err != nil {
			t.Fatal(err, skipped)
		}
		return set
	}
}
