package optest

import (
	"crypto/hmac"
	"crypto/rand"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Claims are the members of a token's header or payload, or of an introspection
// answer. Where claims are given to this package a nil value removes the member;
// json.RawMessage("null") sends a null.
type Claims = map[string]any

// AccessClaims returns the claims of a good access token, changed by claims:
// iss, sub "alice", aud "api", client_id "client", scope "read", iat, exp in
// five minutes and a random jti.
func (p *Provider) AccessClaims(claims Claims) Claims {
	now := p.now()
	return merge(Claims{
		"iss":       p.Issuer(),
		"sub":       "alice",
		"aud":       "api",
		"client_id": "client",
		"scope":     "read",
		"iat":       now.Unix(),
		"exp":       now.Add(5 * time.Minute).Unix(),
		"jti":       rand.Text(),
	}, claims)
}

// IDClaims returns the claims of a good ID token, changed by claims: iss, sub
// "alice", aud "client", iat and exp in five minutes.
func (p *Provider) IDClaims(claims Claims) Claims {
	now := p.now()
	return merge(Claims{
		"iss": p.Issuer(),
		"sub": "alice",
		"aud": "client",
		"iat": now.Unix(),
		"exp": now.Add(5 * time.Minute).Unix(),
	}, claims)
}

// AccessToken issues an access token of type at+jwt with [Provider.AccessClaims].
// Introspection answers its claims, whatever they say, until it is revoked.
func (p *Provider) AccessToken(claims Claims) string {
	claims = p.AccessClaims(claims)
	token := Sign(p.signingKey(), Claims{"typ": "at+jwt"}, claims)
	p.register(token, merge(Claims{"active": true, "token_type": "Bearer"}, claims))
	return token
}

// IDToken issues an ID token with [Provider.IDClaims].
func (p *Provider) IDToken(claims Claims) string {
	token := Sign(p.signingKey(), nil, p.IDClaims(claims))
	p.MarkSecret(token)
	return token
}

// OpaqueToken issues a random token for which introspection answers response,
// with "active": true unless response says otherwise.
func (p *Provider) OpaqueToken(response Claims) string {
	token := rand.Text()
	p.register(token, merge(Claims{"active": true}, response))
	return token
}

// Revoke makes introspection answer that the token is not active.
func (p *Provider) Revoke(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tokens, token)
}

// Issued returns every code and token the provider issued, every client secret
// set, every client assertion received, the states, nonces and PKCE verifiers
// received and what MarkSecret added: nothing that a log may show. The client
// secret of the start is not among them, since "secret" is an ordinary word; nor
// are received values of less than 16 characters, which no client makes. Of all but
// the client secrets only the newest few thousand are kept.
func (p *Provider) Issued() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.clientSecrets, p.issued)
}

// MarkSecret adds values to Issued, such as tokens made by Sign.
func (p *Provider) MarkSecret(values ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mark(values...)
}

// SetIntrospectionClient sets the one client that the introspection and token
// endpoints know; at first it is "client" with "secret".
func (p *Provider) SetIntrospectionClient(id, secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clientID, p.clientSecret, p.login.public = id, secret, false
	if secret != "" {
		p.clientSecrets = append(p.clientSecrets, secret)
	}
}

// SetAssertionChecker lets the client authenticate by an assertion that check
// returns nil for; without a checker assertions are refused.
func (p *Provider) SetAssertionChecker(check func(assertion string) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkAssertion = check
}

// Assertions returns the client assertions received, oldest first, at most the last
// thousand.
func (p *Provider) Assertions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.assertions)
}

// SetClientCertificate lets the client authenticate by its client_id and this
// certificate; nil ends that.
func (p *Provider) SetClientCertificate(certificate *x509.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clientCertificate = certificate
}

func (p *Provider) signingKey() *Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signing
}

func (p *Provider) register(token string, response Claims) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens[token] = response
	p.mark(token)
}

// Sign returns a compact JWS of the claims by the key's algorithm. The header
// gets alg and kid of the key and typ "JWT" where it does not have its own, so
// that it may also say something else than the signature does.
func Sign(key *Key, header, claims Claims) string {
	header = merge(Claims{"alg": key.Algorithm, "kid": key.ID, "typ": "JWT"}, header)
	return SignRaw(key, marshal(header), marshal(merge(nil, claims)))
}

// SignRaw signs these bytes as they are, JSON or not.
func SignRaw(key *Key, headerJSON, payloadJSON string) string {
	input := encode([]byte(headerJSON)) + "." + encode([]byte(payloadJSON))
	return input + "." + encode(key.Sign([]byte(input)))
}

// HMAC returns a compact JWS authenticated with the secret by HS256, HS384 or
// HS512. The header gets alg and typ "JWT" where it does not have its own.
func HMAC(alg string, secret []byte, header, claims Claims) string {
	header = merge(Claims{"alg": alg, "typ": "JWT"}, header)
	input := encode([]byte(marshal(header))) + "." + encode([]byte(marshal(merge(nil, claims))))
	mac := hmac.New(hashOf(alg).New, secret)
	mac.Write([]byte(input))
	return input + "." + encode(mac.Sum(nil))
}

// Unsigned returns a JWT with an empty signature. The header gets alg "none" and
// typ "JWT" where it does not have its own.
func Unsigned(header, claims Claims) string {
	header = merge(Claims{"alg": "none", "typ": "JWT"}, header)
	return encode([]byte(marshal(header))) + "." + encode([]byte(marshal(merge(nil, claims)))) + "."
}

// merge returns the defaults with the changes applied; nil removes a member.
func merge(defaults, changes Claims) Claims {
	merged := make(Claims, len(defaults)+len(changes))
	maps.Copy(merged, defaults)
	for name, value := range changes {
		if value == nil {
			delete(merged, name)
			continue
		}
		merged[name] = value
	}
	return merged
}

func marshal(claims Claims) string { return string(must(json.Marshal(claims))) }
