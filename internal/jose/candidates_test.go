package jose

import (
	"fmt"
	"slices"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/optest"
)

// A provider that publishes a private key by mistake gets its public part used, and nothing else kept.
func TestParseKeySetPrivate(t *testing.T) {
	t.Parallel()
	for alg, key := range asymmetricKeys(t) {
		set, skipped, err := ParseKeySet(document(t, key.PrivateJWK()))
		if err != nil || len(skipped) != 0 {
			t.Fatalf("%s: %v, skipped %v", alg, err, skipped)
		}
		if err := accept(set, optest.Sign(key, nil, nil)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if got, want := fmt.Sprintf("%T", set.keys[0].public), fmt.Sprintf("%T", key.Public()); got != want {
			t.Errorf("%s: the set keeps a %s, not a %s", alg, got, want)
		}
	}
}

// S-060, S-061: which keys are tried for a token.
func TestCandidates(t *testing.T) {
	t.Parallel()
	r1, r2, e1 := optest.NewKey(t, "RS256", "r1"), optest.NewKey(t, "RS256", "r2"), optest.NewKey(t, "ES256", "e1")
	bare, unnamed := optest.NewKey(t, "RS256", "x"), optest.NewKey(t, "RS256", "")
	sameKid := e1.With("ES256", "r1")
	noKid := changed(unnamed.JWK(), map[string]any{"kid": nil})
	tests := map[string]struct {
		members []any
		kid     string
		alg     string
		want    []*optest.Key
		named   bool
	}{
		"by kid":                       {[]any{r1.JWK(), r2.JWK(), e1.JWK()}, "r2", "RS256", []*optest.Key{r2}, true},
		"unknown kid":                  {[]any{r1.JWK(), r2.JWK(), e1.JWK()}, "r3", "RS256", nil, false},
		"kid of another case":          {[]any{r1.JWK(), r2.JWK()}, "R1", "RS256", nil, false},
		"kid of a key that misfits":    {[]any{r1.JWK(), e1.JWK()}, "e1", "RS256", nil, true},
		"kid, but alg of another size": {[]any{r1.JWK()}, "r1", "RS384", nil, true},
		"no kid, one":                  {[]any{r1.JWK(), e1.JWK()}, "", "RS256", []*optest.Key{r1}, false},
		"no kid, several":              {[]any{r1.JWK(), e1.JWK(), r2.JWK()}, "", "RS256", []*optest.Key{r1, r2}, false},
		"no kid, none":                 {[]any{r1.JWK(), r2.JWK()}, "", "ES256", nil, false},
		"key without kid":              {[]any{r1.JWK(), noKid}, "r1", "RS256", []*optest.Key{r1, unnamed}, true},
		"key without kid, unknown":     {[]any{r1.JWK(), noKid}, "r9", "RS256", []*optest.Key{unnamed}, false},
		"key with an empty kid":        {[]any{unnamed.JWK()}, "r9", "RS256", []*optest.Key{unnamed}, false},
		"one kid, RSA and EC: RSA":     {[]any{r1.JWK(), sameKid.JWK()}, "r1", "RS256", []*optest.Key{r1}, true},
		"one kid, RSA and EC: EC":      {[]any{r1.JWK(), sameKid.JWK()}, "r1", "ES256", []*optest.Key{sameKid}, true},
		"one kid, RSA and EC: other":   {[]any{r1.JWK(), sameKid.JWK()}, "r1", "ES384", nil, true},
		"one kid, old and new":         {[]any{r1.JWK(), r2.With("RS256", "r1").JWK()}, "r1", "RS256", []*optest.Key{r1, r2}, true},
		"key without alg":              {[]any{changed(bare.JWK(), map[string]any{"alg": nil})}, "x", "PS512", []*optest.Key{bare}, true},
		"HMAC":                         {[]any{r1.JWK(), e1.JWK(), noKid}, "r1", "HS256", nil, true},
		"HMAC without kid":             {[]any{r1.JWK(), e1.JWK(), noKid}, "", "HS256", nil, false},
		"unknown algorithm":            {[]any{r1.JWK()}, "r1", "ES256K", nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, _, err := ParseKeySet(document(t, test.members...))
			if err != nil {
				t.Fatal(err)
			}
			candidates, named := set.Candidates(test.kid, test.alg)
			if named != test.named || len(candidates) != len(test.want) {
				t.Fatalf("%d candidates, named %v", len(candidates), named)
			}
			for _, want := range test.want {
				public, err := NewKey(want.Public())
				if err != nil {
					t.Fatal(err)
				}
				if !slices.ContainsFunc(candidates, func(k *Key) bool { return k.Thumbprint() == public.Thumbprint() }) {
					t.Errorf("the key %q is not a candidate", want.ID)
				}
				header := optest.Claims{"alg": test.alg, "kid": test.kid}
				if err := accept(set, optest.Sign(want.With(test.alg, test.kid), header, nil)); err != nil {
					t.Errorf("the token of key %q: %v", want.ID, err)
				}
			}
		})
	}
}

// The work for a token that names no key is bounded, and unnamed keys do not crowd out the one that is named.
func TestManyCandidates(t *testing.T) {
	t.Parallel()
	named := optest.NewKey(t, "ES256", "named")
	members := make([]any, 0, maxKeys)
	for range maxKeys - 1 {
		members = append(members, changed(optest.NewKey(t, "ES256", "").JWK(), map[string]any{"kid": nil}))
	}
	set, _, err := ParseKeySet(document(t, append(members, named.JWK())...))
	if err != nil {
		t.Fatal(err)
	}
	for _, kid := range []string{"", "unknown", "named"} {
		if candidates, _ := set.Candidates(kid, "ES256"); len(candidates) != maxCandidates {
			t.Errorf("kid %q: %d candidates", kid, len(candidates))
		}
	}
	if err := accept(set, optest.Sign(named, nil, nil)); err != nil {
		t.Errorf("the named key, behind %d without a name: %v", len(members), err)
	}
}
