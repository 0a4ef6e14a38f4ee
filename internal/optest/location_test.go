package optest

import "testing"

// The expectations are what browsers do; most can be read in the WHATWG URL
// Standard and its tests.
func TestResolveLocation(t *testing.T) {
	t.Parallel()
	const base = "https://app.example.com:8443/a/b?c=1#d"
	for _, test := range []struct{ location, want string }{
		{"https://app.example.com:8443/x", "https://app.example.com:8443/x"},
		{"/x?y=1#z", "https://app.example.com:8443/x?y=1#z"},
		{"x", "https://app.example.com:8443/a/x"},
		{"x:y", ""},
		{"./x:y", "https://app.example.com:8443/a/x:y"},
		{"?q", "https://app.example.com:8443/a/b?q"},
		{"../../x", "https://app.example.com:8443/x"},
		{" /x\t", "https://app.example.com:8443/x"},
		{"/%zz%", "https://app.example.com:8443/%25zz%25"},
		{"/caf%C3%A9?x=%2F", "https://app.example.com:8443/caf%C3%A9?x=%2F"},
		{"/?next=//evil.example", "https://app.example.com:8443/?next=//evil.example"},
		{`/?next=\\evil.example`, `https://app.example.com:8443/?next=\\evil.example`},
		{"//evil.example/x", "https://evil.example/x"},
		{`/\evil.example`, "https://evil.example"},
		{`\\evil.example`, "https://evil.example"},
		{`\/evil.example/x`, "https://evil.example/x"},
		{"///evil.example", "https://evil.example"},
		{"////evil.example", "https://evil.example"},
		{"/\t/evil.example", "https://evil.example"},
		{"\n//evil.example", "https://evil.example"},
		{"\x01//evil.example", "https://evil.example"},
		{"https:evil.example", "https://app.example.com:8443/a/evil.example"},
		{"https:/evil.example", "https://app.example.com:8443/evil.example"},
		{"https:///evil.example", "https://evil.example"},
		{`https:\\evil.example`, "https://evil.example"},
		{"ht\ntps://evil.example", "https://evil.example"},
		{"HTTPS://EVIL.example/X", "https://evil.example/X"},
		{"http:evil.example", "http://evil.example"},
		{"http:/evil.example", "http://evil.example"},
		{"http://app.example.com", "http://app.example.com"},
		{"https://app.example.com@evil.test", "https://evil.test"},
		{"//app.example.com%40evil.test", ""},
		{"//evil%2Etest", "https://evil.test"},
		{"//evil.test%2Fx", ""},
		{`//evil.test\@app.example.com`, "https://evil.test/@app.example.com"},
		{"//evil.test?@app.example.com", "https://evil.test?@app.example.com"},
		{"//a:b@evil.test:99/x", "https://evil.test:99/x"},
		{"//evil.test:port/", ""},
		{"//[::1]:80/", "https://[::1]:80/"},
		{"//:80/", ""},
		{"//", ""},
		{"https://", ""},
		{"http:", ""},
		{"javascript:alert(1)", ""},
		{"JavaScript:alert(1)", ""},
		{"data:text/html,x", ""},
		{"mailto:a@example.com", ""},
		{"/.//evil.example", "https://app.example.com:8443//evil.example"},
		{"1http://evil.example", "https://app.example.com:8443/a/1http://evil.example"},
		{"https://evil.example/\\..\\x", "https://evil.example/x"},
		{"https://app.example.com.evil.test/", "https://app.example.com.evil.test/"},
	} {
		got, err := ResolveLocation(base, test.location)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%q: %q, %v; want %q", test.location, got, err, test.want)
		}
	}
	if got, err := ResolveLocation("http://%zz/", "/"); err == nil {
		t.Errorf("wrong base: %q", got)
	}
}
