package apisix_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/apisix"
)

// combinations is how many plugins are made of what the other tests have one by one.
const combinations = 400

// TestCombinations: whatever attributes come together, what there is no error about loads.
func TestCombinations(t *testing.T) {
	keyFile := environment(t)
	cases := slices.Concat(providerCases(), bearerCases(), loginCases(), sessionCases(), otherCases())
	bases := []string{browser, introspect, verify, both, withKey, inRedis}
	random := rand.New(rand.NewPCG(1, 2))
	loaded := 0
	for range combinations {
		input := with(t, bases[random.IntN(len(bases))], "client_id", `"app"`)
		for range 2 + random.IntN(40) {
			test := cases[random.IntN(len(cases))]
			input = with(t, input, test.name, test.value)
		}
		conversion, err := apisix.Convert([]byte(input), apisix.Options{})
		if err != nil || strings.Contains(input, "$env://PRIVATE_KEY") {
			continue // which algorithm such a key takes is known to its owner
		}
		if _, err := tryLoad(t, keyFile, conversion.Caddyfile); err != nil {
			t.Fatalf("%s: %v\n%s", input, err, conversion.Caddyfile)
		}
		checkRemarks(t, conversion)
		checkSecrets(t, conversion)
		loaded++
	}
	if loaded < combinations*8/10 {
		t.Errorf("%d of %d only", loaded, combinations)
	}
}
