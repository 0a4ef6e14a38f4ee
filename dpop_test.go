package openidconnect

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// boundToken is an access token bound to a key, with what makes proofs for it.
type boundToken struct {
	site  *site
	key   *optest.Key
	token string
}

func newBoundToken(t *testing.T, p *optest.Provider, s *site, alg string) *boundToken {
	t.Helper()
	key := optest.NewKey(t, alg, "")
	public, err := jose.NewKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	token := p.AccessToken(optest.Claims{"cnf": map[string]any{"jkt": public.Thumbprint()}})
	return &boundToken{site: s, key: key, token: token}
}

// proof makes a valid proof for GET / but for the changes; a nil value removes a member.
func (b *boundToken) proof(header, claims optest.Claims) string {
	hash := sha256.Sum256([]byte(b.token))
	jwk := b.key.JWK()
	delete(jwk, "kid")
	fullHeader := optest.Claims{"typ": "dpop+jwt", "kid": nil, "jwk": jwk}
	fullClaims := optest.Claims{
		"htm": http.MethodGet, "htu": b.site.server.URL + "/", "iat": time.Now().Unix(), "jti": rand.Text(),
		"ath": base64.RawURLEncoding.EncodeToString(hash[:]),
	}
	maps.Copy(fullHeader, header)
	maps.Copy(fullClaims, claims)
	return optest.Sign(b.key, fullHeader, fullClaims)
}

func (b *boundToken) send(path string, proofs ...string) *reply {
	headers := make([]string, 0, 1+len(proofs))
	headers = append(headers, "Authorization: DPoP "+b.token)
	for _, proof := range proofs {
		headers = append(headers, "Dpop: "+proof)
	}
	return b.site.get(path, headers...)
}

func TestDPoPProvesPossession(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			s := newBearerSite(t, p, "audience api")
			b := newBoundToken(t, p, s, alg)
			if r := b.send("/", b.proof(nil, nil)); r.StatusCode != http.StatusOK {
				t.Fatalf("a proven token: got %d %s", r.StatusCode, r.body)
			}
			if r := b.send("/?query=is&not=part", b.proof(nil, nil)); r.StatusCode != http.StatusOK {
				t.Fatalf("with a query: got %d %s", r.StatusCode, r.body)
			}
		})
	}
}

// TestS254ProofsAreChecked sends one valid proof, then proofs with one thing wrong each. The token is in the cache by then (S-258).
func TestS254ProofsAreChecked(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	b := newBoundToken(t, p, s, "ES256")
	if r := b.send("/", b.proof(nil, nil)); r.StatusCode != http.StatusOK {
		t.Fatalf("the good proof: got %d %s", r.StatusCode, r.body)
	}
	other := optest.NewKey(t, "ES256", "")
	now := time.Now()
	for name, proofs := range map[string][]string{
		"missing":         nil,
		"empty":           {""},
		"twice":           {b.proof(nil, nil), b.proof(nil, nil)},
		"not a JWT":       {"nonsense"},
		"wrong typ":       {b.proof(optest.Claims{"typ": "JWT"}, nil)},
		"no typ":          {b.proof(optest.Claims{"typ": nil}, nil)},
		"alg none":        {optest.Unsigned(optest.Claims{"typ": "dpop+jwt", "jwk": b.key.JWK()}, nil)},
		"HMAC":            {optest.HMAC("HS256", []byte(strings.Repeat("k", 32)), optest.Claims{"typ": "dpop+jwt", "jwk": map[string]any{"kty": "oct", "k": "a2tr"}}, nil)},
		"no jwk":          {b.proof(optest.Claims{"jwk": nil}, nil)},
		"private jwk":     {b.proof(optest.Claims{"jwk": b.key.PrivateJWK()}, nil)},
		"another jwk":     {b.proof(optest.Claims{"jwk": other.JWK()}, nil)},
		"another key":     {(&boundToken{site: s, key: other, token: b.token}).proof(nil, nil)},
		"crit":            {b.proof(optest.Claims{"crit": []string{"x"}}, nil)},
		"another method":  {b.proof(nil, optest.Claims{"htm": "POST"})},
		"no method":       {b.proof(nil, optest.Claims{"htm": nil})},
		"another path":    {b.proof(nil, optest.Claims{"htu": s.server.URL + "/other"})},
		"another host":    {b.proof(nil, optest.Claims{"htu": "http://other.example/"})},
		"another scheme":  {b.proof(nil, optest.Claims{"htu": strings.Replace(s.server.URL, "http:", "https:", 1) + "/"})},
		"no target":       {b.proof(nil, optest.Claims{"htu": nil})},
		"another token":   {b.proof(nil, optest.Claims{"ath": "x"})},
		"no token hash":   {b.proof(nil, optest.Claims{"ath": nil})},
		"old":             {b.proof(nil, optest.Claims{"iat": now.Add(-3 * time.Minute).Unix()})},
		"from the future": {b.proof(nil, optest.Claims{"iat": now.Add(3 * time.Minute).Unix()})},
		"no iat":          {b.proof(nil, optest.Claims{"iat": nil})},
		"no jti":          {b.proof(nil, optest.Claims{"jti": nil})},
	} {
		r := b.send("/", proofs...)
		challenge := r.Header.Get("WWW-Authenticate")
		if r.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(challenge, "DPoP ") ||
			!strings.Contains(challenge, `error="invalid_dpop_proof"`) || !strings.Contains(challenge, `algs="`) {
			t.Errorf("%s: got %d %q %s", name, r.StatusCode, challenge, r.body)
		}
	}
	if s.reached() != 1 {
		t.Errorf("%d requests reached the upstream, want the good one alone", s.reached())
	}
	// Forwarded headers of a stranger do not change what a proof is for.
	r := s.get("/", "Authorization: DPoP "+b.token, "X-Forwarded-Host: other.example", "Dpop: "+b.proof(nil, optest.Claims{"htu": "http://other.example/"}))
	if r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a proof for a forwarded host: got %d", r.StatusCode)
	}
}

func TestS252BoundTokenIsNoBearer(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s := newBearerSite(t, p, "audience api")
	b := newBoundToken(t, p, s, "ES256")
	if r := b.send("/", b.proof(nil, nil)); r.StatusCode != http.StatusOK {
		t.Fatalf("the good case: got %d %s", r.StatusCode, r.body)
	}
	for name, r := range map[string]*reply{
		"as plain Bearer":                            s.bearer(b.token),
		"as Bearer with its proof":                   s.get("/", "Authorization: Bearer "+b.token, "Dpop: "+b.proof(nil, nil)),
		"S-253: DPoP with a token that is not bound": s.get("/", "Authorization: DPoP "+p.AccessToken(nil), "Dpop: "+b.proof(nil, nil)),
		"bound in an unknown way":                    s.bearer(p.AccessToken(optest.Claims{"cnf": map[string]any{"kid": "x"}})),
		"cnf that is no object":                      s.bearer(p.AccessToken(optest.Claims{"cnf": "x"})),
	} {
		if r.StatusCode != http.StatusUnauthorized || r.json(t, "reason") != "unbound" || !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: got %d %s", name, r.StatusCode, r.body)
		}
	}
}

func TestS256ProofIsGoodOnce(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	s, sibling := newBearerSite(t, p, "audience api"), newBearerSite(t, p, "audience api\nrealm sibling")
	b := newBoundToken(t, p, s, "ES256")
	proof := b.proof(nil, nil)
	if r := b.send("/", proof); r.StatusCode != http.StatusOK {
		t.Fatalf("first use: got %d %s", r.StatusCode, r.body)
	}
	if r := b.send("/", proof); r.StatusCode != http.StatusUnauthorized || r.json(t, "reason") != "proof_replayed" {
		t.Errorf("second use: got %d %s", r.StatusCode, r.body)
	}
	// Sites of one provider share the memory, as a proof for a host that two of them serve is good once all the same.
	request, err := http.NewRequest(http.MethodGet, sibling.server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = strings.TrimPrefix(s.server.URL, "http://")
	request.Header = http.Header{"Authorization": {"DPoP " + b.token}, "Dpop": {proof}}
	if r := sibling.do(request); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("at a sibling: got %d %s", r.StatusCode, r.body)
	}
}

func TestDPoPModes(t *testing.T) {
	t.Parallel()
	p := optest.New(t)
	required := newBearerSite(t, p, "audience api\ndpop_bound required")
	b := newBoundToken(t, p, required, "ES256")
	if r := b.send("/", b.proof(nil, nil)); r.StatusCode != http.StatusOK {
		t.Fatalf("required: got %d %s", r.StatusCode, r.body)
	}
	if r := required.bearer(p.AccessToken(nil)); r.StatusCode != http.StatusUnauthorized || r.json(t, "reason") != "unbound" {
		t.Errorf("required, plain token: got %d %s", r.StatusCode, r.body)
	}
	if r := required.get("/"); !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "DPoP ") {
		t.Errorf("required, anonymous: challenge is %q", r.Header.Get("WWW-Authenticate"))
	}
	off := newBearerSite(t, p, "audience api\ndpop_bound off")
	if r := off.bearer(b.token); r.StatusCode != http.StatusOK {
		t.Errorf("off: got %d %s", r.StatusCode, r.body)
	}
	if r := off.get("/", "Authorization: DPoP "+b.token); r.StatusCode != http.StatusUnauthorized || r.json(t, "reason") != "no_credentials" {
		t.Errorf("off, another scheme is no credential: got %d %s", r.StatusCode, r.body)
	}
}

func TestProofMemory(t *testing.T) {
	t.Parallel()
	const lifetime = time.Minute
	start := time.Unix(1_800_000_000, 0)
	m := newProofMemory(lifetime)
	a, b := tokenDigest{1}, tokenDigest{2}
	for _, step := range []struct {
		proof tokenDigest
		after time.Duration
		first bool
	}{
		{a, 0, true},
		{a, time.Second, false},
		{b, 59 * time.Second, true},
		{a, 61 * time.Second, false}, // of the generation before
		{b, 90 * time.Second, false},
		{b, 118 * time.Second, false},
		{a, 121 * time.Second, true}, // longer ago than it could be used
		{a, 400 * time.Second, true},
	} {
		if got := m.first(step.proof, "key", start.Add(step.after)); got != step.first {
			t.Errorf("%v after %s: got %v", step.proof[0], step.after, got)
		}
	}
}

func TestSameTarget(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"https://a.example/x", "https://A.example:443/x", true},
		{"HTTP://a.example:80", "http://a.example/", true},
		{"https://a.example/x?y=1#z", "https://a.example/x", true},
		{"https://a.example/x", "https://a.example/x/", false},
		{"https://a.example:8443/x", "https://a.example/x", false},
		{"https://a.example/X", "https://a.example/x", false},
		{"https://a.example/%2e", "https://a.example/.", false},
		{"https://a.example/%7Ex%41", "https://a.example/~xA", true},
		{"https://a.example/%c3%bc%2f", "https://a.example/%C3%BC%2F", true},
		{"https://a.example/a%2Fb", "https://a.example/a/b", false},
		{"https://a.example/%257E", "https://a.example/%7E", false},
		{"%zz", "%zz", false},
		{"", "https://a.example/", false},
	} {
		if got := sameTarget(test.a, test.b); got != test.same {
			t.Errorf("%q and %q: got %v", test.a, test.b, got)
		}
	}
}
