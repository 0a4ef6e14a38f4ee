package suggestion

import "testing"

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"scope", "scope", 0},
		{"scpe", "scope", 1},
		{"scoppe", "scope", 1},
		{"skope", "scope", 1},
		{"csope", "scope", 2},
		{"kitten", "sitting", 3},
	} {
		if got := Distance(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
