// Package jose is the gate that every token and key from outside passes, and the only importer of the JOSE library.
//
// The gate comes first: compact serialisation only, strict base64url, strict JSON without duplicate members, bounded sizes. Only
// what has passed it reaches the library, which is used for key parsing and signature primitives and for nothing else. Claims are
// judged by the caller; this package says what a token is and whether a key signed it.
package jose

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Errors of the gate. They are wrapped with a detail that is safe to log: it never holds a part of the token.
var (
	ErrMalformed = errors.New("malformed token")
	ErrTooLarge  = errors.New("token too large")
	ErrCritical  = errors.New("unsupported critical header parameter")
	ErrAlgorithm = errors.New("unsupported algorithm")
	ErrSignature = errors.New("signature does not verify")
)

// MaxClientToken is the largest compact token that a client may send, in bytes.
const MaxClientToken = 16 << 10

// MaxProviderToken is the largest token that the provider may send, in bytes.
const MaxProviderToken = 64 << 10

// Token is a compact JWS that has passed the gate. Its signature is NOT verified: call [Token.Verify] with a key before anything
// in it is believed.
type Token struct {
	// Algorithm, KeyID and Type are the header parameters alg, kid and typ; empty when absent.
	Algorithm, KeyID, Type string

	// Claims is the payload, and Payload its text as signed.
	Claims  map[string]any
	Payload string

	// NotBefore, IssuedAt and Expiry are the numeric dates; zero when absent.
	NotBefore, IssuedAt, Expiry time.Time

	signingInput string
	signature    []byte
}

var encoding = base64.RawURLEncoding.Strict()

// Parse passes raw through the gate. Errors wrap ErrMalformed, ErrTooLarge, ErrCritical or ErrAlgorithm.
func Parse(raw string, maxSize int) (*Token, error) {
	token, _, err := parse(raw, maxSize)
	return token, err
}

// ParseProof passes a token that brings its own key through the gate, as DPoP proofs do (RFC 9449 section 4.2), and verifies it with
// that key. What the key proves is for the caller to decide: everybody can make one.
func ParseProof(raw string, maxSize int) (*Token, *Key, error) {
	token, header, err := parse(raw, maxSize)
	if err != nil {
		return nil, nil, err
	}
	members, ok := header["jwk"].(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("%w: no jwk in the header", ErrMalformed)
	}
	if _, private := members["d"]; private {
		return nil, nil, fmt.Errorf("%w: the jwk is a private key", ErrMalformed)
	}
	key, err := keyOf(members)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the jwk is %w", ErrMalformed, err)
	}
	if err := token.Verify(key); err != nil {
		return nil, nil, err
	}
	return token, key, nil
}

func parse(raw string, maxSize int) (*Token, map[string]any, error) {
	if len(raw) > maxSize {
		return nil, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(raw), maxSize)
	}
	headerEnd := strings.IndexByte(raw, '.')
	payloadEnd := strings.LastIndexByte(raw, '.')
	if headerEnd <= 0 || payloadEnd <= headerEnd+1 || payloadEnd == len(raw)-1 ||
		strings.IndexByte(raw[headerEnd+1:payloadEnd], '.') >= 0 {
		return nil, nil, fmt.Errorf("%w: not three non-empty segments", ErrMalformed)
	}
	// The base64 decoder skips line breaks even when strict.
	if strings.ContainsAny(raw, "\r\n") {
		return nil, nil, fmt.Errorf("%w: line break", ErrMalformed)
	}
	t := &Token{signingInput: raw[:payloadEnd]}
	header, err := t.parseHeader(raw[:headerEnd])
	if err != nil {
		return nil, nil, err
	}
	payload, err := encoding.DecodeString(raw[headerEnd+1 : payloadEnd])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: payload is not base64url", ErrMalformed)
	}
	if t.signature, err = encoding.DecodeString(raw[payloadEnd+1:]); err != nil {
		return nil, nil, fmt.Errorf("%w: signature is not base64url", ErrMalformed)
	}
	t.Payload = string(payload)
	if t.Claims, err = ParseObject(t.Payload); err != nil {
		return nil, nil, err
	}
	if t.Expiry, err = Date(t.Claims, "exp"); err != nil {
		return nil, nil, err
	}
	if t.NotBefore, err = Date(t.Claims, "nbf"); err != nil {
		return nil, nil, err
	}
	if t.IssuedAt, err = Date(t.Claims, "iat"); err != nil {
		return nil, nil, err
	}
	return t, header, nil
}

func (t *Token) parseHeader(segment string) (map[string]any, error) {
	text, err := encoding.DecodeString(segment)
	if err != nil {
		return nil, fmt.Errorf("%w: header is not base64url", ErrMalformed)
	}
	header, err := ParseObject(string(text))
	if err != nil {
		return nil, err
	}
	// No extension is implemented, so every critical one is unknown (RFC 7515 section 4.1.11); b64 changes what is signed
	// (RFC 7797) and is refused even where crit forgets it.
	for _, name := range []string{"crit", "b64"} {
		if _, ok := header[name]; ok {
			return nil, fmt.Errorf("%w: %s", ErrCritical, name)
		}
	}
	if t.Algorithm, err = headerString(header, "alg"); err != nil {
		return nil, err
	}
	if t.KeyID, err = headerString(header, "kid"); err != nil {
		return nil, err
	}
	if t.Type, err = headerString(header, "typ"); err != nil {
		return nil, err
	}
	if _, ok := algorithms[t.Algorithm]; !ok {
		return nil, fmt.Errorf("%w in the header", ErrAlgorithm)
	}
	return header, nil
}

func headerString(header map[string]any, name string) (string, error) {
	value, ok := header[name]
	if !ok {
		return "", nil
	}
	text, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("%w: header parameter %s is not a string", ErrMalformed, name)
	}
	return text, nil
}

// LooksLikeJWT reports whether a token claims to be a signed JWT; see [Shape].
func LooksLikeJWT(raw string) bool {
	signed, _ := Shape(raw)
	return signed
}

// Shape tells what a token claims to be: a signed JWT, an encrypted one, or neither and so opaque. It decides how a token is judged,
// never whether it is accepted. The header alone counts, in any spelling that a lenient reader would understand: who adds a dot to a
// signed token must not have it judged as an opaque one.
func Shape(raw string) (signed, encrypted bool) {
	if strings.HasPrefix(raw, "eyJ") && strings.Count(raw, ".") == 2 {
		return true, false // the usual case needs no second look
	}
	header, _, dotted := strings.Cut(raw, ".")
	if !dotted {
		return false, false
	}
	header = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(header)
	text, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return false, false
	}
	members, err := ParseObject(string(text))
	if err != nil {
		return false, false
	}
	_, encrypted = members["enc"]
	return !encrypted, encrypted
}

// latestDate keeps arithmetic on dates from overflowing; it is the last second that RFC 3339 can write.
const latestDate = 253402300799

// Date returns the numeric date (RFC 7519 section 2) of the given name, or the zero time when there is none. A value that is not
// a finite JSON number is an error wrapping ErrMalformed; one beyond the year 9999 counts as its end.
func Date(claims map[string]any, name string) (time.Time, error) {
	value, ok := claims[name]
	if !ok {
		return time.Time{}, nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return time.Time{}, fmt.Errorf("%w: %s is not a number", ErrMalformed, name)
	}
	seconds, err := number.Float64()
	if err != nil || math.IsInf(seconds, 0) || math.IsNaN(seconds) {
		return time.Time{}, fmt.Errorf("%w: %s is not a finite number", ErrMalformed, name)
	}
	seconds = min(max(seconds, -1), latestDate)
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), nil
}
