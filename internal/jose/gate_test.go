package jose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// segment is one part of a compact token.
func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// compact joins a header and a payload, as they are, with a signature that only looks like one.
func compact(header, payload string) string {
	return segment(header) + "." + segment(payload) + "." + segment(strings.Repeat("s", 64))
}

// keySet publishes the keys as a provider does and reads them back.
func keySet(tb testing.TB, keys ...*optest.Key) *KeySet {
	tb.Helper()
	set, skipped, err := ParseKeySet(optest.KeySet(keys...))
	if err != nil || len(skipped) > 0 {
		tb.Fatalf("ParseKeySet: %v, skipped %v", err, skipped)
	}
	return set
}

// accept takes a token through the gate and tries the keys of the set, as a verifier does.
func accept(set *KeySet, raw string) error {
	token, err := Parse(raw, 64<<10)
	if err != nil {
		return err
	}
	candidates, _ := set.Candidates(token.KeyID, token.Algorithm)
	err = errors.New("no candidate")
	for _, key := range candidates {
		if err = token.Verify(key); err == nil {
			return nil
		}
	}
	return err
}

func TestParse(t *testing.T) {
	t.Parallel()
	payload := `{"iss":"https://op.example","sub":"alice","aud":["api","web"],"big":12345678901234567890,"iat":1700000000,"nbf":1700000001.5,"exp":4102444800}`
	token, err := Parse(compact(`{"alg":"ES256","kid":"k1","typ":"at+jwt","jku":"https://evil.example","extra":{"a":[1]}}`, payload), MaxClientToken)
	if err != nil {
		t.Fatal(err)
	}
	if token.Algorithm != "ES256" || token.KeyID != "k1" || token.Type != "at+jwt" {
		t.Errorf("header = %q, %q, %q", token.Algorithm, token.KeyID, token.Type)
	}
	if token.Payload != payload || token.Claims["sub"] != "alice" || token.Claims["big"] != json.Number("12345678901234567890") {
		t.Errorf("payload = %s, claims = %v", token.Payload, token.Claims)
	}
	if !token.IssuedAt.Equal(time.Unix(1700000000, 0)) || !token.NotBefore.Equal(time.Unix(1700000001, 5e8)) || !token.Expiry.Equal(time.Unix(4102444800, 0)) {
		t.Errorf("dates = %v, %v, %v", token.IssuedAt, token.NotBefore, token.Expiry)
	}

	token, err = Parse(compact(`{"alg":"ES256"}`, `{}`), MaxClientToken)
	if err != nil {
		t.Fatal(err)
	}
	if token.KeyID != "" || token.Type != "" || !token.IssuedAt.IsZero() || !token.NotBefore.IsZero() || !token.Expiry.IsZero() {
		t.Errorf("an empty token has %+v", token)
	}
}

// The size is looked at before anything else.
func TestParseSize(t *testing.T) {
	t.Parallel()
	raw := compact(`{"alg":"ES256"}`, `{"filler":"`+strings.Repeat("x", 4096)+`"}`)
	if _, err := Parse(raw, len(raw)); err != nil {
		t.Errorf("a token of exactly the limit: %v", err)
	}
	if _, err := Parse(raw, len(raw)-1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a token one byte over the limit: %v", err)
	}
	if _, err := Parse(strings.Repeat("*", MaxClientToken+1), MaxClientToken); !errors.Is(err, ErrTooLarge) {
		t.Errorf("something large: %v", err)
	}
}

// S-049, S-056: nothing but the compact form of RFC 7515 section 7.1, in the one way to write it.
func TestParseForm(t *testing.T) {
	t.Parallel()
	key := optest.NewKey(t, "ES256", "k1")
	// The header makes "-" and "_" appear, and every segment has unused bits in its last character.
	good := optest.SignRaw(key, `{"alg":"ES256","kid":"k1","x":"~~~???" }`, `{"sub":"~?~?","p":100}`)
	set := keySet(t, key)
	if err := accept(set, good); err != nil {
		t.Fatalf("the good token: %v", err)
	}
	if !strings.ContainsAny(good, "-_") {
		t.Fatalf("the good token %s does not use the url alphabet", good)
	}
	parts := strings.Split(good, ".")
	header, payload, signature := parts[0], parts[1], parts[2]
	flattened, err := json.Marshal(map[string]any{"protected": header, "payload": payload, "signature": signature})
	if err != nil {
		t.Fatal(err)
	}
	general, err := json.Marshal(map[string]any{"payload": payload, "signatures": []any{map[string]any{"protected": header, "signature": signature}}})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"flattened JSON":            string(flattened),
		"general JSON":              string(general),
		"JSON with the dots":        `{"a":"` + good + `"}`,
		"empty":                     "",
		"dots alone":                "..",
		"no dot":                    header,
		"one dot":                   header + "." + payload,
		"three dots":                good + ".x",
		"four dots":                 header + "." + payload + "." + signature + "." + payload + "." + signature,
		"trailing dot":              good + ".",
		"leading dot":               "." + good,
		"empty header":              "." + payload + "." + signature,
		"empty payload":             header + ".." + signature,
		"empty signature":           header + "." + payload + ".",
		"standard alphabet":         strings.NewReplacer("-", "+", "_", "/").Replace(good),
		"padded header":             header + "=." + payload + "." + signature,
		"padded payload":            header + "." + payload + "=." + signature,
		"padded signature":          good + "==",
		"space before":              " " + good,
		"space after":               good + " ",
		"space within":              header + ". " + payload + "." + signature,
		"tab within":                header[:4] + "\t" + header[4:] + "." + payload + "." + signature,
		"newline before":            "\n" + good,
		"newline after":             good + "\n",
		"carriage return after":     good + "\r",
		"newline in the header":     header[:4] + "\n" + header[4:] + "." + payload + "." + signature,
		"newline in the payload":    header + "." + payload[:4] + "\r\n" + payload[4:] + "." + signature,
		"newline in the signature":  header + "." + payload + "." + signature[:4] + "\n" + signature[4:],
		"NUL after":                 good + "\x00",
		"trailing bits, header":     trailingBits(t, header) + "." + payload + "." + signature,
		"trailing bits, payload":    header + "." + trailingBits(t, payload) + "." + signature,
		"trailing bits, signature":  header + "." + payload + "." + trailingBits(t, signature),
		"one character left over":   header + "." + payload + "." + signature + "AAA",
		"characters outside base64": header + "." + payload + "." + strings.Repeat("*", 86),
		"non-ASCII digits":          header + "." + payload + "." + strings.Repeat("١", 43),
		"quoted":                    `"` + good + `"`,
		"with its scheme":           "Bearer " + good,
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token, err := Parse(raw, 64<<10); !errors.Is(err, ErrMalformed) || token != nil {
				t.Errorf("Parse = %v, %v", token, err)
			}
		})
	}
}

// trailingBits sets one of the bits that the last character of an unpadded segment does not use, so that a lax decoder reads
// the same bytes.
func trailingBits(t *testing.T, segment string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(segment)%4 == 0 {
		t.Fatalf("the segment %s has no unused bits", segment)
	}
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	changed := segment[:len(segment)-1] + string(alphabet[last|1])
	before, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := base64.RawURLEncoding.DecodeString(changed); err != nil || string(after) != string(before) || changed == segment {
		t.Fatalf("%s and %s are not two ways to write the same: %v", segment, changed, err)
	}
	return changed
}

func TestShape(t *testing.T) {
	t.Parallel()
	const (
		none      = "eyJhbGciOiJub25lIn0" // {"alg":"none"}
		opaque    = "opaque"
		signed    = "signed"
		encrypted = "encrypted"
	)
	jwe := segment(`{"alg":"dir","enc":"A256GCM"}`)
	tests := map[string]string{
		compact(`{"alg":"ES256"}`, `{}`):       signed,
		compact(`{ "alg":"ES256"}`, `{}`):      signed,
		compact(` {"alg":"ES256"}`, `{}`):      signed,
		compact("{\n\"alg\":\"ES256\"}", `{}`): signed,
		"eyJ..":                                signed,
		none + ".e30.":                         signed,

		// of another form, but by its header a token that a lenient reader may take for a signed one
		none + ".":                             signed,
		none + ".e30":                          signed,
		none + ".e30.x.y":                      signed,
		none + "==.e30.x.y":                    signed,
		none[:8] + "\n" + none[8:] + ".e30.x.": signed,
		none + strings.Repeat(".", 15_000):     signed,
		strings.NewReplacer("-", "+", "_", "/").Replace(segment(`{"alg":"ES256","kid":"~~~???"}`)) + ".x.y.z": signed,
		segment(`{"alg":"dir"}`) + ".k.i.c.t": signed,
		segment(`{"alg":1}`) + ".k.i.c.t":     signed,

		jwe + "..iv.ciphertext.tag":    encrypted,
		jwe + ".key.iv.ciphertext.tag": encrypted,
		jwe + ".x":                     encrypted,
		segment(`{"enc":"A256GCM","zip":"DEF"}`) + ".k.i.c.t": encrypted,
		segment(`{"alg":"A256GCMKW","enc":1}`) + ".k.i.c.t":   encrypted,

		"":                                     opaque,
		"e":                                    opaque,
		"ey":                                   opaque,
		"eyJ":                                  opaque,
		".":                                    opaque,
		none:                                   opaque, // nobody reads a header alone
		none + "*.e30.x.y":                     opaque,
		segment(`{"alg":"ES256"`) + ".k.i.c.t": opaque,
		"2YotnFZFEjr1zCsicMWpAA":               opaque,
		"opaque.with.dots":                     opaque,
		"eAAA.b.c":                             opaque,
		"e{.x.y":                               opaque,
		"E" + none[1:] + ".e30.x":              opaque,
		compact(`[]`, `{}`):                    opaque,
		compact(`"x"`, `{}`):                   opaque,
		compact(`null`, `{}`):                  opaque,
		strings.Repeat(".", 15_000):            opaque,
		"\xff\xfe.x.y":                         opaque,
	}
	for raw, want := range tests {
		got := opaque
		switch isSigned, isEncrypted := Shape(raw); {
		case isSigned && isEncrypted:
			got = "both"
		case isSigned:
			got = signed
		case isEncrypted:
			got = encrypted
		}
		if got != want {
			t.Errorf("%.60q is %s, want %s", raw, got, want)
		}
		if LooksLikeJWT(raw) != (want == signed) {
			t.Errorf("LooksLikeJWT(%.60q) = %v", raw, LooksLikeJWT(raw))
		}
	}
}

// S-244: what a stranger sends is refused without work that grows with it. (AllocsPerRun does not go with parallel tests.)
func TestParseDots(t *testing.T) {
	key := optest.NewKey(t, "ES256", "k1")
	good := optest.Sign(key, nil, optest.Claims{"sub": "alice"})
	for name, raw := range map[string]string{
		"dots":               strings.Repeat(".", 15_000),
		"dots after a token": good + strings.Repeat(".", 15_000),
		"segments":           strings.Repeat("e30.", 4_000),
		"one dot":            segment(`{"alg":"ES256"}`) + "." + strings.Repeat("A", 15_000),
		"no dot":             strings.Repeat("e", 15_000),
		"too large":          strings.Repeat(".", 1<<20),
	} {
		if _, err := Parse(raw, MaxClientToken); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if allocations := testing.AllocsPerRun(20, func() { _, _ = Parse(raw, MaxClientToken) }); allocations > 16 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
		if allocations := testing.AllocsPerRun(20, func() { Shape(raw) }); allocations > 32 {
			t.Errorf("%s: %v allocations to look at it", name, allocations)
		}
	}
}
