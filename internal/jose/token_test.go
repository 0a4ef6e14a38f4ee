package jose

import (
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// S-050, S-053, S-057 and the types of header parameters. A token with any of these headers and a good signature is refused.
func TestParseHeader(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	set := keySet(t, key)
	if err := accept(set, optest.SignRaw(key, `{"alg":"ES256","kid":"k1","typ":"JWT"}`, `{"sub":"alice"}`)); err != nil {
		t.Fatalf("the good header: %v", err)
	}
	tests := []struct {
		header string
		want   error
	}{
		{`{"alg":"none","kid":"k1"}`, ErrAlgorithm},
		{`{"alg":"None"}`, ErrAlgorithm},
		{`{"alg":"NONE"}`, ErrAlgorithm},
		{`{"alg":"nOnE"}`, ErrAlgorithm},
		{`{"alg":""}`, ErrAlgorithm},
		{`{}`, ErrAlgorithm},
		{`{"kid":"k1","typ":"JWT"}`, ErrAlgorithm},
		{`{"Alg":"ES256"}`, ErrAlgorithm},
		{`{"alg":"es256"}`, ErrAlgorithm},
		{`{"alg":"ES256 "}`, ErrAlgorithm},
		{`{"alg":"ES256K"}`, ErrAlgorithm},
		{`{"alg":"Ed448"}`, ErrAlgorithm},
		{`{"alg":"RS1"}`, ErrAlgorithm},
		{`{"alg":"HS1"}`, ErrAlgorithm},
		{`{"alg":"RSA-OAEP"}`, ErrAlgorithm},
		{`{"alg":"dir","enc":"A256GCM"}`, ErrAlgorithm},
		{`{"alg":"PBES2-HS256+A128KW","p2c":2147483647}`, ErrAlgorithm},
		{`{"alg":"ML-DSA-44"}`, ErrAlgorithm},
		{`{"alg":null}`, ErrMalformed},
		{`{"alg":["ES256"]}`, ErrMalformed},
		{`{"alg":256}`, ErrMalformed},
		{`{"alg":true}`, ErrMalformed},
		{`{"alg":{"ES256":1}}`, ErrMalformed},
		{`{"alg":"ES256","kid":1}`, ErrMalformed},
		{`{"alg":"ES256","kid":null}`, ErrMalformed},
		{`{"alg":"ES256","kid":["k1"]}`, ErrMalformed},
		{`{"alg":"ES256","typ":1}`, ErrMalformed},
		{`{"alg":"ES256","typ":null}`, ErrMalformed},
		{`{"alg":"ES256","crit":["bork"],"bork":1}`, ErrCritical},
		{`{"alg":"ES256","crit":[]}`, ErrCritical},
		{`{"alg":"ES256","crit":["alg"]}`, ErrCritical},
		{`{"alg":"ES256","crit":["exp"],"exp":1}`, ErrCritical},
		{`{"alg":"ES256","crit":"bork"}`, ErrCritical},
		{`{"alg":"ES256","crit":null}`, ErrCritical},
		{`{"alg":"ES256","crit":["b64"],"b64":false}`, ErrCritical},
		{`{"alg":"ES256","b64":false}`, ErrCritical},
		{`{"alg":"ES256","b64":true}`, ErrCritical},
		{`[]`, ErrMalformed},
		{`"ES256"`, ErrMalformed},
		{`null`, ErrMalformed},
		{`{"alg":"ES256"`, ErrMalformed},
		{`{"alg":"ES256"}{"alg":"none"}`, ErrMalformed},
		{"\ufeff" + `{"alg":"ES256"}`, ErrMalformed},
		{"{\"alg\":\"ES256\",\"x\":\"\xff\"}", ErrMalformed},
		{strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.header, func(t *testing.T) {
			t.Parallel()
			for name, raw := range map[string]string{
				"signed":             optest.SignRaw(key, test.header, `{"sub":"alice"}`),
				"arbitrary":          compact(test.header, `{"sub":"alice"}`),
				"one signature byte": segment(test.header) + "." + segment(`{"sub":"alice"}`) + "." + segment("s"),
			} {
				if token, err := Parse(raw, 64<<10); !errors.Is(err, test.want) || token != nil {
					t.Errorf("%s: Parse = %v, %v, want %v", name, token, err, test.want)
				}
			}
			unsigned := segment(test.header) + "." + segment(`{"sub":"alice"}`) + "."
			if _, err := Parse(unsigned, 64<<10); !errors.Is(err, ErrMalformed) {
				t.Errorf("without signature: %v", err)
			}
		})
	}
}

// S-066, S-068, S-069, S-072: a payload that is signed well, but can be read in two ways or is no set of claims, is refused.
func TestParsePayload(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	set := keySet(t, key)
	const header = `{"alg":"ES256","kid":"k1"}`
	if err := accept(set, optest.SignRaw(key, header, `{"iss":"a","aud":"b","sub":"c","exp":4102444800,"text":"é\ud83d\ude00\n"}`)); err != nil {
		t.Fatalf("the good payload: %v", err)
	}
	inner := optest.SignRaw(key, header, `{"sub":"alice"}`)
	tests := map[string]string{
		"duplicate iss":        `{"iss":"a","iss":"b"}`,
		"duplicate aud":        `{"aud":"a","x":1,"aud":["a"]}`,
		"duplicate sub":        `{"sub":"a","sub":"a"}`,
		"duplicate exp":        `{"exp":4102444800,"exp":4102444801}`,
		"duplicate, escaped":   `{"sub":"a","s\u0075b":"b"}`,
		"duplicate, nested":    `{"act":{"sub":"a","sub":"b"}}`,
		"duplicate in a list":  `{"list":[{"a":1,"a":2}]}`,
		"invalid UTF-8":        "{\"sub\":\"\xff\"}",
		"truncated UTF-8":      "{\"sub\":\"\xc3\"}",
		"encoded surrogate":    "{\"sub\":\"\xed\xa0\x80\"}",
		"overlong":             "{\"sub\":\"\xc0\xaf\"}",
		"lone high surrogate":  `{"sub":"\ud800"}`,
		"lone low surrogate":   `{"sub":"\udc00"}`,
		"two high surrogates":  `{"sub":"\ud800\ud800"}`,
		"NUL":                  `{"sub":"a\u0000b"}`,
		"raw NUL":              "{\"sub\":\"a\x00b\"}",
		"NUL in a name":        `{"su\u0000b":"a"}`,
		"byte order mark":      "\ufeff" + `{"sub":"a"}`,
		"UTF-16":               "\xfe\xff\x00{\x00}",
		"list":                 `[]`,
		"list of claims":       `[{"sub":"a"}]`,
		"string":               `"x"`,
		"number":               `1`,
		"null":                 `null`,
		"true":                 `true`,
		"spaces":               `   `,
		"a JWT":                inner,
		"a JWT, quoted":        `"` + inner + `"`,
		"two objects":          `{"sub":"a"}{"sub":"b"}`,
		"object and a comma":   `{"sub":"a"},`,
		"exp is text":          `{"exp":"4102444800"}`,
		"exp is null":          `{"exp":null}`,
		"nbf is RFC 3339":      `{"nbf":"2020-01-01T00:00:00Z"}`,
		"iat is true":          `{"iat":true}`,
		"exp is a list":        `{"exp":[4102444800]}`,
		"nbf is an object":     `{"nbf":{}}`,
		"exp is infinite":      `{"exp":1e999}`,
		"exp is minus endless": `{"exp":-1e999}`,
		"exp is hexadecimal":   `{"exp":0x7fffffff}`,
		"exp is NaN":           `{"exp":NaN}`,
		"exp has a leading 0":  `{"exp":04102444800}`,
	}
	for name, payload := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token, err := Parse(optest.SignRaw(key, header, payload), 64<<10); !errors.Is(err, ErrMalformed) || token != nil {
				t.Errorf("Parse = %v, %v", token, err)
			}
		})
	}
}

// S-066: the same for duplicate header parameters.
func TestParseDuplicateHeader(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	for _, header := range []string{
		`{"alg":"ES256","alg":"ES256"}`,
		`{"alg":"ES256","alg":"none"}`,
		`{"alg":"none","alg":"ES256"}`,
		`{"alg":"ES256","\u0061lg":"none"}`,
		`{"alg":"ES256","kid":"k1","kid":"k2"}`,
		`{"alg":"ES256","x":{"y":1,"y":1}}`,
	} {
		if _, err := Parse(optest.SignRaw(key, header, `{}`), 64<<10); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// S-067: names are compared exactly, so that neither other case nor look-alikes stand for a claim.
func TestParseNames(t *testing.T) {
	t.Parallel()
	payload := `{"sub":"alice","SUB":"admin","ISS":"https://evil.example","ſub":"admin","Exp":4102444800,"EXP":"x","Nbf":true}`
	token, err := Parse(compact(`{"alg":"ES256","KID":"k2","Typ":"at+jwt","CRIT":["x"],"B64":false}`, payload), MaxClientToken)
	if err != nil {
		t.Fatal(err)
	}
	if token.Claims["sub"] != "alice" || token.Claims["iss"] != nil || !token.Expiry.IsZero() || !token.NotBefore.IsZero() || token.KeyID != "" || token.Type != "" {
		t.Errorf("token = %+v", token)
	}
}

// S-058: a key that the token brings is not looked at; the signature is checked with ours.
func TestOwnKeyInHeader(t *testing.T) {
	t.Parallel()
	key, attacker := optest.NewKey(t, "RS256", "k1"), optest.NewKey(t, "RS256", "k1")
	set := keySet(t, key)
	if err := accept(set, optest.Sign(key, nil, optest.Claims{"sub": "alice"})); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	certificate := optest.NewCertificate(t, nil)
	for name, header := range map[string]optest.Claims{
		"none": nil,
		"jwk":  {"jwk": attacker.JWK()},
		"x5c":  {"x5c": []string{base64.StdEncoding.EncodeToString(certificate.Certificate[0])}},
		"jku":  {"jku": "https://169.254.169.254/keys"},
		"x5u":  {"x5u": "https://evil.example/certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := accept(set, optest.Sign(key, header, optest.Claims{"sub": "alice"})); err != nil {
				t.Errorf("with our signature: %v", err)
			}
			if err := accept(set, optest.Sign(attacker, header, optest.Claims{"sub": "alice"})); !errors.Is(err, ErrSignature) {
				t.Errorf("with the attacker's signature: %v", err)
			}
			withoutKid := maps.Clone(header)
			if withoutKid == nil {
				withoutKid = optest.Claims{}
			}
			withoutKid["kid"] = nil
			if err := accept(set, optest.Sign(attacker, withoutKid, optest.Claims{"sub": "alice"})); !errors.Is(err, ErrSignature) {
				t.Errorf("with the attacker's signature and no kid: %v", err)
			}
		})
	}
}
