package openidconnect

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// segments splits a compact token.
func segments(token string) (header, payload, signature string) {
	parts := strings.Split(token, ".")
	return parts[0], parts[1], parts[2]
}

func base64url(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func jsonOf(tb testing.TB, value any) string {
	tb.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// Only the compact form is a token.
func TestS049OnlyTheCompactSerialisation(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api\nbearer_token_from cookie token")
	good := p.AccessToken(nil)
	s.allows(good)
	header, payload, signature := segments(good)
	flattened := fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, payload, header, signature)
	general := fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, payload, header, signature)
	s.refuses(header+"."+payload+"=."+signature, 400, "malformed_authorization")
	for _, form := range []string{flattened, general} {
		s.refuses(form, 400, "malformed_authorization")
		s.refuses(base64url(form), 401, "malformed_token")
	}
	for _, form := range []string{
		header + "." + payload, payload + "." + signature, header + "." + payload + ".", "." + payload + "." + signature,
		header + ".." + signature, good + ".", "." + good, good + "." + signature, header + "." + payload + "." + signature + ".a.b",
		"..", ".", "....", strings.Repeat(".", 15_000), header, good + good, good + "=",
		strings.ReplaceAll(good, "_", "/"), strings.ReplaceAll(strings.ReplaceAll(good, "_", "/"), "-", "+") + "==",
	} {
		if form == good {
			continue // nothing in it to replace
		}
		s.refuses(form, 401, "malformed_token")
	}
}

func TestS050UnsignedTokens(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	good := p.AccessToken(nil)
	s.allows(good)
	_, _, signature := segments(good)
	payload := jsonOf(t, p.AccessClaims(nil))
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"None"}`, `{"alg":"NONE"}`, `{"alg":"nOnE"}`, `{"alg":""}`, `{}`, `{"alg":null}`, `{"alg":["RS256"]}`,
		`{"alg":"none","typ":"at+jwt"}`, `{"alg":"none","kid":"rs-1"}`, `{"alg":" none"}`, `{"alg":"rs256","kid":"rs-1"}`, `{"alg":0}`,
		`{"typ":"at+jwt","kid":"rs-1"}`,
	} {
		for _, end := range []string{"", signature, base64url("arbitrary"), base64url("\x00")} {
			r := s.bearer(base64url(header) + "." + base64url(payload) + "." + end)
			reason := r.json(t, "reason")
			if reason != "malformed_token" && reason != "unsupported_algorithm" {
				t.Errorf("%s: reason %s", header, reason)
			}
			s.wantRefused(t, r, 401, reason)
		}
	}
}

// A public key is no secret: whoever knows it could sign for everybody, were it taken for the key of an HMAC.
func TestS051PublicKeysAreNoSecrets(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	withSecret := newBearerSite(t, p, "audience api\nclient_id client\nclient_secret secret\nintrospection off")
	static := newSite(t, "issuer "+p.Issuer()+"\nbearer_only\naudience api\npublic_key \""+p.Key("rs-1").PEM()+"\"")
	for _, good := range []*site{s, withSecret, static} {
		good.allows(p.AccessToken(nil))
	}
	public := p.Key("rs-1").Public().(*rsa.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	certificate := optest.NewCertificate(t, nil)
	spki := p.Key("rs-1").PEM()
	secrets := map[string][]byte{
		"SPKI PEM": []byte(spki), "SPKI PEM without newline": []byte(strings.TrimSpace(spki)),
		"SPKI PEM with CRLF": []byte(strings.ReplaceAll(spki, "\n", "\r\n")),
		"PKCS#1 PEM":         pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"certificate PEM":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}),
		"DER":                der, "PKCS#1 DER": pkcs1, "JWK": []byte(jsonOf(t, p.Key("rs-1").JWK())), "JWKS": optest.KeySet(p.Key("rs-1"), p.Key("es-1")),
		"modulus": public.N.Bytes(), "modulus base64url": []byte(base64url(string(public.N.Bytes()))), "empty": {}, "client secret": []byte("secret"),
		"exponent": big.NewInt(int64(public.E)).Bytes(),
	}
	for name, secret := range secrets {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			for _, kid := range []any{nil, "rs-1"} {
				token := optest.HMAC(alg, secret, optest.Claims{"kid": kid, "typ": "at+jwt"}, p.AccessClaims(nil))
				for _, target := range []*site{s, withSecret, static} {
					r := target.bearer(token)
					target.wantRefused(t, r, 401, "unsupported_algorithm")
					if t.Failed() {
						t.Fatalf("%s keyed with %s", alg, name)
					}
				}
			}
		}
	}
}

// With an HMAC algorithm configured the secret is the only key there is.
func TestHMACTokensOnlyWhereConfigured(t *testing.T) {
	t.Parallel()
	const secret = "a secret of at least thirty-two bytes"
	p := optest.New(t)
	s := newSite(t, "issuer "+p.Issuer()+"\nbearer_only\naudience api\nclient_id client\nclient_secret \""+secret+"\"\ntoken_signing_alg_values_expected HS256")
	claims := p.AccessClaims(nil)
	s.allows(optest.HMAC("HS256", []byte(secret), nil, claims))
	s.refuses(optest.HMAC("HS256", []byte(secret+" "), nil, claims), 401, "bad_signature")
	s.refuses(optest.HMAC("HS384", []byte(secret), nil, claims), 401, "unsupported_algorithm")
	s.refuses(p.AccessToken(nil), 401, "unsupported_algorithm")
	s.refuses(optest.Unsigned(nil, claims), 401, "malformed_token")
	if n := p.Hits(optest.JWKS); n != 0 {
		t.Errorf("%d key sets fetched", n)
	}
}

func TestS053AlgorithmsAreConfigured(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	keys := map[string]*optest.Key{"RS256": p.Key("rs-1"), "ES256": p.Key("es-1")}
	for _, alg := range []string{"PS256", "ES384", "EdDSA"} {
		keys[alg] = optest.NewKey(t, alg, "key of "+alg)
		p.AddKey(keys[alg])
	}
	all := newBearerSite(t, p, "audience api")
	some := newBearerSite(t, p, "audience api\ntoken_signing_alg_values_expected ES256 PS256")
	for alg, key := range keys {
		token := optest.Sign(key, optest.Claims{"typ": "at+jwt"}, p.AccessClaims(nil))
		all.allows(token)
		for range 2 {
			if alg == "ES256" || alg == "PS256" {
				some.allows(token)
			} else {
				some.refuses(token, 401, "unsupported_algorithm")
			}
		}
	}
	// RFC 9864 has another name for what EdDSA with that key is
	all.allows(optest.Sign(keys["EdDSA"], optest.Claims{"alg": "Ed25519"}, p.AccessClaims(nil)))
}

// A signature is checked by the algorithm of the key, not by the one that the token wishes for.
func TestS054LabelsAreNotBelieved(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	rs := p.Key("rs-1")
	free := optest.NewKey(t, "RS256", "without alg")
	jwk := free.JWK()
	delete(jwk, "alg")
	p.SetJWKS([]byte(jsonOf(t, map[string]any{"keys": []any{rs.JWK(), jwk}})))
	s := newBearerSite(t, p, "audience api")
	s.allows(p.AccessToken(nil))
	s.allows(optest.Sign(free, nil, p.AccessClaims(nil)))
	s.allows(optest.Sign(free.With("PS256", free.ID), nil, p.AccessClaims(nil)))

	s.refuses(optest.Sign(free, optest.Claims{"alg": "PS256"}, p.AccessClaims(nil)), 401, "bad_signature")
	s.refuses(optest.Sign(free.With("PS256", free.ID), optest.Claims{"alg": "RS256"}, p.AccessClaims(nil)), 401, "bad_signature")
	s.refuses(optest.Sign(free, optest.Claims{"alg": "RS512"}, p.AccessClaims(nil)), 401, "bad_signature")
	s.refuses(optest.Sign(free, optest.Claims{"alg": "ES256"}, p.AccessClaims(nil)), 401, "unsupported_algorithm")
	s.refuses(optest.Sign(rs.With("PS256", rs.ID), nil, p.AccessClaims(nil)), 401, "unsupported_algorithm")
}

func TestS057CriticalExtensions(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	key, payload := p.Key("rs-1"), jsonOf(t, p.AccessClaims(nil))
	sign := func(extra string) string {
		return optest.SignRaw(key, `{"alg":"RS256","kid":"rs-1"`+extra+`}`, payload)
	}
	s.allows(sign(""))
	s.allows(sign(`,"bork":1`)) // not critical, so of no interest
	for _, extra := range []string{
		`,"crit":["bork"],"bork":1`, `,"crit":["bork"]`, `,"crit":[]`, `,"crit":["alg"]`, `,"crit":"b64"`, `,"crit":null`, `,"crit":{}`,
		`,"crit":["b64"],"b64":false`, `,"b64":false`, `,"b64":true`, `,"crit":["b64"],"b64":true`, `,"crit":["exp"],"exp":1`,
	} {
		s.refuses(sign(extra), 401, "unsupported_critical")
	}
	s.refuses(sign(`,"crit":["bork"],"crit":[]`), 401, "malformed_token")
}

// A token may bring its own key, or say where to fetch it; nobody listens.
func TestS058TokensDoNotBringTheirKeys(t *testing.T) {
	t.Parallel()
	p, evil := optest.New(t), optest.New(t)
	s := newBearerSite(t, p, "audience api")
	s.allows(p.AccessToken(nil))
	key := optest.NewKey(t, "RS256", "rs-1") // not the one that is published by that name
	certificate := optest.NewCertificate(t, nil)
	for _, kid := range []string{"rs-1", "evil"} {
		for name, value := range map[string]any{
			"none": nil,
			"jwk":  key.JWK(),
			"jku":  evil.Endpoint(optest.JWKS),
			"x5u":  evil.URL() + "/certificate",
			"x5c":  []string{base64.StdEncoding.EncodeToString(certificate.Certificate[0])},
			"x5t":  base64url("thumbprint"),
			"iss":  evil.Issuer(),
		} {
			token := optest.Sign(key, optest.Claims{"kid": kid, name: value}, p.AccessClaims(nil))
			r := s.bearer(token)
			s.wantRefused(t, r, 401, map[string]string{"rs-1": "bad_signature", "evil": "unknown_key"}[kid])
		}
	}
	for _, address := range []string{"http://169.254.169.254/latest/meta-data", "file:///etc/passwd", p.URL() + "/evil"} {
		s.refuses(optest.Sign(key, optest.Claims{"jku": address, "x5u": address}, p.AccessClaims(nil)), 401, "bad_signature")
	}
	for _, endpoint := range []string{optest.JWKS, optest.Other, optest.Discovery} {
		if n := evil.Hits(endpoint); n != 0 {
			t.Errorf("%d requests to %s of the attacker", n, endpoint)
		}
	}
	if n := p.Hits(optest.Other); n != 0 {
		t.Errorf("%d requests to a place that a token named", n)
	}
}

// JSON that two readers could read in two ways is refused, however well it is signed.
func TestS066ToS069StrictJSON(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	key := p.Key("rs-1")
	const header = `{"alg":"RS256","kid":"rs-1","typ":"at+jwt"}`
	now := time.Now().Unix()
	common := fmt.Sprintf(`"iss":%q,"aud":"api","exp":%d,"iat":%d,"client_id":"client"`, p.Issuer(), now+300, now)
	good := `{` + common + `,"sub":"alice"}`
	s.allows(optest.SignRaw(key, header, good))

	for _, test := range []struct{ name, header, payload string }{
		{"S066 alg twice", `{"alg":"RS256","kid":"rs-1","alg":"RS256"}`, good},
		{"S066 alg none first", `{"alg":"none","kid":"rs-1","alg":"RS256"}`, good},
		{"S066 kid twice", `{"alg":"RS256","kid":"other","kid":"rs-1"}`, good},
		{"S066 iss twice", header, `{` + common + fmt.Sprintf(`,"sub":"alice","iss":%q}`, p.Issuer())},
		{"S066 aud twice", header, `{` + common + `,"sub":"alice","aud":"other"}`},
		{"S066 sub twice", header, `{` + common + `,"sub":"alice","sub":"admin"}`},
		{"S066 sub twice, once escaped", header, `{` + common + `,"sub":"alice","\u0073ub":"admin"}`},
		{"S066 exp twice", header, `{` + common + `,"sub":"alice","exp":1}`},
		{"S066 twice at depth", header, `{` + common + `,"sub":"alice","realm_access":{"roles":[],"roles":["admin"]}}`},
		{"S068 invalid UTF-8", header, `{` + common + ",\"sub\":\"al\xffice\"}"},
		{"S068 overlong UTF-8", header, `{` + common + ",\"sub\":\"al\xc0\xafice\"}"},
		{"S068 lone surrogate", header, `{` + common + `,"sub":"al\ud800ice"}`},
		{"S068 surrogates in the wrong order", header, `{` + common + `,"sub":"\udc00\ud800"}`},
		{"S068 byte order mark", header, "\ufeff" + good},
		{"S068 NUL", header, `{` + common + `,"sub":"al\u0000ice"}`},
		{"S068 control character", header, `{` + common + ",\"sub\":\"al\nice\"}"},
		{"S068 invalid UTF-8 in the header", "{\"alg\":\"RS256\",\"kid\":\"rs-1\",\"x\":\"\xff\"}", good},
		{"S069 a list", header, `[` + good + `]`},
		{"S069 text", header, `"alice"`},
		{"S069 number", header, `1`},
		{"S069 null", header, `null`},
		{"S069 only spaces", header, ` `},
		{"S069 a token in a token", header, p.AccessToken(nil)},
		{"S069 a token as text", header, `"` + p.AccessToken(nil) + `"`},
		{"S069 header is a list", `[]`, good},
		{"more than one object", header, good + good},
		{"comments", header, `{` + common + `,"sub":"alice"/**/}`},
		{"trailing comma", header, `{` + common + `,"sub":"alice",}`},
		{"single quotes", header, `{` + common + `,'sub':'alice'}`},
		{"nested without end", header, `{` + common + `,"sub":"alice","x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.in(t).refuses(optest.SignRaw(key, test.header, test.payload), 401, "malformed_token")
		})
	}
	t.Run("S069 empty payload", func(t *testing.T) {
		s.in(t).refuses(optest.SignRaw(key, header, ""), 401, "malformed_token")
	})
	t.Run("S067 names are compared exactly", func(t *testing.T) {
		s := s.in(t)
		s.allows(optest.SignRaw(key, header, `{`+common+`,"sub":"alice","SUB":"admin","Sub":"admin","ſub":"admin","ISS":"x","Exp":1,"AUD":"x","NBF":9999999999}`))
		if got := userinfo(t, s.last(t).Header)["sub"]; got != "alice" {
			t.Errorf("the user is %v", got)
		}
		s.refuses(optest.SignRaw(key, header, `{"ISS":`+fmt.Sprintf("%q",
			p.Issuer())+`,"aud":"api","exp":9999999999,"sub":"alice","client_id":"c"}`), 401, "wrong_issuer")
		s.refuses(optest.SignRaw(key, header, fmt.Sprintf(`{"iss":%q,"aud":"api","Exp":9999999999,"sub":"alice","client_id":"c"}`,
			p.Issuer())), 401, "missing_claim")
	})
}

// Every kind of token that the provider signs, sent as an access token. The audience is the worst one for us each time.
func TestS070EveryTokenHasItsUse(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	key := p.Key("rs-1")
	now := time.Now().Unix()
	claims := func(claims optest.Claims) optest.Claims {
		base := optest.Claims{"iss": p.Issuer(), "sub": "alice", "aud": "client", "iat": now, "exp": now + 300, "jti": "j"}
		maps.Copy(base, claims)
		return base
	}
	sites := map[string]*site{
		"client": newBearerSite(t, p, "client_id client"),
		"api":    newBearerSite(t, p, "client_id client\naudience api"),
		"both":   newBearerSite(t, p, "client_id client\naudience api client"),
		"any":    newBearerSite(t, p, "client_id client\naudience any"),
		"at+jwt": newBearerSite(t, p, "client_id client\naudience api client\ntoken_type at+jwt"),
	}
	for name, s := range sites {
		audience := "client"
		if name == "api" {
			audience = "api"
		}
		s.allows(p.AccessToken(optest.Claims{"aud": audience}))
		if name != "at+jwt" {
			s.allows(optest.Sign(key, optest.Claims{"typ": nil}, claims(optest.Claims{"aud": audience, "scope": "read"})))
			s.allows(optest.Sign(key, nil, claims(optest.Claims{"aud": audience, "azp": "app", "typ": "Bearer"}))) // as Keycloak has it
		}
	}
	logout := map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}
	for _, kind := range []struct {
		name  string
		token string
	}{
		{"ID token", p.IDToken(nil)},
		{"ID token with nonce", p.IDToken(optest.Claims{"nonce": "n", "scope": "read", "aud": "api"})},
		{"ID token with at_hash", p.IDToken(optest.Claims{"at_hash": "x", "aud": []string{"api", "client"}, "azp": "client"})},
		{"ID token with c_hash", p.IDToken(optest.Claims{"c_hash": "x", "client_id": "client"})},
		{"ID token that says so", p.IDToken(optest.Claims{"typ": "ID", "azp": "client", "aud": "api"})},
		{"ID token of Cognito", p.IDToken(optest.Claims{"token_use": "id", "aud": "api"})},
		{"refresh token", optest.Sign(key, nil, claims(optest.Claims{"typ": "Refresh", "aud": "api", "scope": "read"}))},
		{"offline token", optest.Sign(key, nil, claims(optest.Claims{"typ": "Offline", "aud": "api", "scope": "read"}))},
		{"logout token", optest.Sign(key, optest.Claims{"typ": "logout+jwt"}, claims(optest.Claims{"events": logout, "aud": "api"}))},
		{"logout token without typ", optest.Sign(key, optest.Claims{"typ": nil}, claims(optest.Claims{"events": logout, "aud": "api"}))},
		{"logout token of Keycloak", optest.Sign(key, nil, claims(optest.Claims{"typ": "Logout", "aud": "api"}))},
		{"security event token", optest.Sign(key, optest.Claims{"typ": "secevent+jwt"}, claims(optest.Claims{"aud": "api"}))},
		{"proof of possession", optest.Sign(key, optest.Claims{"typ": "dpop+jwt", "jwk": key.JWK()}, claims(optest.Claims{"aud": "api", "htm": "GET"}))},
		{"userinfo", optest.Sign(key, nil, claims(optest.Claims{"email": "alice@example.com"}))},
		{"userinfo without dates", optest.Sign(key, nil, claims(optest.Claims{"exp": nil, "iat": nil, "aud": "api"}))},
		{"introspection answer", optest.Sign(key, optest.Claims{"typ": "token-introspection+jwt"}, claims(optest.Claims{"aud": "api"}))},
		{"authorization response", optest.Sign(key, nil, optest.Claims{"iss": p.Issuer(), "aud": "client", "exp": now + 300, "code": "c", "state": "s"})},
		{"client assertion", optest.Sign(key, nil, claims(optest.Claims{"iss": "client", "sub": "client", "aud": p.Issuer()}))},
		{"client assertion for us", optest.Sign(key, optest.Claims{"typ": "client-authentication+jwt"}, claims(optest.Claims{"aud": "api"}))},
		{"request object", optest.Sign(key, optest.Claims{"typ": "oauth-authz-req+jwt"}, claims(optest.Claims{"aud": "api"}))},
		{"entity statement", optest.Sign(key, optest.Claims{"typ": "entity-statement+jwt"}, claims(optest.Claims{"aud": "api"}))},
		{"encrypted token", strings.Join([]string{base64url(`{"alg":"RSA-OAEP","enc":"A256GCM"}`), "a2V5", "aXY", "dGV4dA", "dGFn"}, ".")},
	} {
		t.Run(kind.name, func(t *testing.T) {
			for name, s := range sites {
				r := s.in(t).bearer(kind.token)
				if n := s.advance(); n != 0 || r.StatusCode != http.StatusUnauthorized {
					t.Errorf("site %q: status %d, %d requests reached the upstream: %s", name, r.StatusCode, n, r.body)
				}
			}
		})
	}
}
