package optest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"
)

// LogoutEvent is the member of events that makes a token one of logout.
const LogoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutType is the typ that OpenID Connect Back-Channel Logout recommends.
const logoutType = "logout+jwt"

// BySID makes a logout token name a session alone.
func BySID(sid string) func(Claims) {
	return func(claims Claims) {
		delete(claims, "sub")
		claims["sid"] = sid
	}
}

// BySub makes a logout token name all sessions of a user.
func BySub(sub string) func(Claims) {
	return func(claims Claims) {
		delete(claims, "sid")
		claims["sub"] = sub
	}
}

// BySIDAndSub makes a logout token name a session and its user.
func BySIDAndSub(sid, sub string) func(Claims) {
	return func(claims Claims) { claims["sid"], claims["sub"] = sid, sub }
}

// LogoutClaims returns the claims of a logout token, changed by edits: iss, aud with
// the client, iat, exp in two minutes, a random jti and events. They name nobody, so
// that a good token takes [BySID], [BySub], [BySIDAndSub] or an edit of one's own.
func (p *Provider) LogoutClaims(edits ...func(claims Claims)) Claims {
	now := p.now()
	p.mu.Lock()
	client := p.clientID
	p.mu.Unlock()
	claims := Claims{
		"iss":    p.Issuer(),
		"aud":    client,
		"iat":    now.Unix(),
		"exp":    now.Add(2 * time.Minute).Unix(),
		"jti":    rand.Text(),
		"events": Claims{LogoutEvent: Claims{}},
	}
	for _, edit := range edits {
		if edit != nil {
			edit(claims)
		}
	}
	return claims
}

// LogoutToken issues a logout token with [Provider.LogoutClaims].
func (p *Provider) LogoutToken(edits ...func(claims Claims)) string {
	return p.LogoutTokenWithHeader(nil, edits...)
}

// LogoutTokenWithHeader is LogoutToken with a header changed like claims; its typ is
// logout+jwt otherwise. For another signature there are Sign, HMAC and Unsigned with
// [Provider.LogoutClaims], and [Provider.ForgedLogoutTokens].
func (p *Provider) LogoutTokenWithHeader(header Claims, edits ...func(claims Claims)) string {
	// The nil of a removed member has to reach Sign.
	changed := Claims{"typ": logoutType}
	maps.Copy(changed, header)
	token := Sign(p.signingKey(), changed, p.LogoutClaims(edits...))
	p.MarkSecret(token)
	return token
}

// ForgedLogoutTokens returns logout tokens that are good but for their signature, by
// what is wrong with that. A client whose ID tokens are to be HS256 may take the one
// with the client secret.
func (p *Provider) ForgedLogoutTokens(tb testing.TB, edits ...func(claims Claims)) map[string]string {
	tb.Helper()
	key, claims := p.signingKey(), p.LogoutClaims(edits...)
	p.mu.Lock()
	secret := p.clientSecret
	p.mu.Unlock()
	header := func(pairs Claims) Claims { return merge(Claims{"typ": logoutType, "kid": key.ID}, pairs) }
	other := NewKey(tb, key.Algorithm, key.ID)
	good := Sign(key, header(nil), claims)
	input, signature, _ := cutLast(good, ".")
	head, _, _ := strings.Cut(input, ".")
	forged := map[string]string{
		"alg none":                   Unsigned(header(nil), claims),
		"alg None":                   Unsigned(header(Claims{"alg": "None"}), claims),
		"no signature":               input + ".",
		"HS256 by the client secret": HMAC("HS256", []byte(secret), header(nil), claims),
		"HS256 by the public key":    HMAC("HS256", []byte(key.PEM()), header(nil), claims),
		"HS256 by the DER":           HMAC("HS256", must(x509.MarshalPKIXPublicKey(key.Public())), header(nil), claims),
		"HS256 by the JWK":           HMAC("HS256", must(json.Marshal(key.JWK())), header(nil), claims),
		"another key":                Sign(other, header(nil), claims),
		"another EC key":             Sign(NewKey(tb, "ES256", "es-1"), Claims{"typ": logoutType}, claims),
		"unknown key":                Sign(other, header(Claims{"kid": "nobody"}), claims),
		"jwk header":                 Sign(other, header(Claims{"jwk": other.JWK()}), claims),
		"jku header":                 Sign(other, header(Claims{"jku": p.URL() + "/another-jwks"}), claims),
		"x5c header":                 Sign(other, header(Claims{"x5c": []string{selfSigned(other)}}), claims),
		"crit header":                Sign(key, header(Claims{"crit": []string{"optest"}, "optest": true}), claims),
		"changed claims":             head + "." + encode([]byte(marshal(p.LogoutClaims(edits...)))) + "." + signature,
		"changed signature":          input + "." + changed(signature),
	}
	if _, isRSA := key.Public().(*rsa.PublicKey); isRSA && key.Algorithm == "RS256" {
		forged["RS512"] = Sign(key.With("RS512", key.ID), header(nil), claims)
		forged["PS256"] = Sign(key.With("PS256", key.ID), header(nil), claims)
	}
	for _, token := range forged {
		p.MarkSecret(token)
	}
	return forged
}

// selfSigned returns a certificate of the key as x5c has it.
func selfSigned(key *Key) string {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "optest"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	return base64.StdEncoding.EncodeToString(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.Private())))
}

// changed returns a signature with one bit turned.
func changed(signature string) string {
	raw := must(base64.RawURLEncoding.DecodeString(signature))
	raw[len(raw)/2] ^= 1
	return encode(raw)
}
