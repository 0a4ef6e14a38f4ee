package optest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
)

// verify checks a signature by an algorithm that Sign knows.
func verify(alg string, public crypto.PublicKey, input string, signature []byte) bool {
	if public, ok := public.(ed25519.PublicKey); ok {
		return ed25519.Verify(public, []byte(input), signature)
	}
	hash := hashOf(alg)
	digest := hash.New()
	digest.Write([]byte(input))
	sum := digest.Sum(nil)
	switch public := public.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(alg, "PS") {
			return rsa.VerifyPSS(public, hash, sum, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, sum, signature) == nil
	case *ecdsa.PublicKey:
		half := len(signature) / 2
		return ecdsa.Verify(public, sum, new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
	}
	return false
}

// ownIDToken returns the claims of an ID token of this provider for its client,
// however old it is and whichever key signed it, or nil.
func (p *Provider) ownIDToken(token string) Claims {
	input, encoded, _ := cutLast(token, ".")
	header, payload, _ := strings.Cut(input, ".")
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || !p.signed(decodeClaims(header), input, signature) {
		return nil
	}
	claims := decodeClaims(payload)
	p.mu.Lock()
	client := p.clientID
	p.mu.Unlock()
	audience, isList := claims["aud"].([]any)
	if !isList {
		audience = []any{claims["aud"]}
	}
	if claims["iss"] != p.Issuer() || !slices.Contains(audience, any(client)) {
		return nil
	}
	return claims
}

// signed tells whether a key of the provider's, now or earlier, or a secret of the
// client's made the signature.
func (p *Provider) signed(header Claims, input string, signature []byte) bool {
	alg, _ := header["alg"].(string)
	p.mu.Lock()
	known, secrets := slices.Clone(p.known), append(slices.Clone(p.clientSecrets), p.clientSecret)
	p.mu.Unlock()
	if slices.Contains([]string{"HS256", "HS384", "HS512"}, alg) {
		return slices.ContainsFunc(secrets, func(secret string) bool {
			mac := hmac.New(hashOf(alg).New, []byte(secret))
			mac.Write([]byte(input))
			return secret != "" && hmac.Equal(mac.Sum(nil), signature)
		})
	}
	return slices.ContainsFunc(known, func(key *Key) bool {
		return key.Algorithm == alg && verify(alg, key.Public(), input, signature)
	})
}

// cutLast is strings.Cut at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

// decodeClaims returns a part of a JWT, or nil.
func decodeClaims(part string) (claims Claims) {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return nil
	}
	return claims
}
