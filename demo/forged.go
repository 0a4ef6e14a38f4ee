package main

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/demo/probe"
)

// forgedValue is what a client claims to be, in headers that only the gateway may set.
const forgedValue = "Zm9yZ2Vk"

// forge returns the identity headers that every handler sets, and further ones, all forged: in the spellings that backends take for
// the same header, and named in Connection, which makes proxies drop what they added themselves.
func forge(names ...string) http.Header {
	headers := http.Header{"Connection": {"X-Userinfo, " + strings.Join(names, ", ")}}
	for _, name := range append(names,
		"X-Userinfo", "x-userinfo", "X_Userinfo", "X.Userinfo",
		"X-Access-Token", "X-Id-Token", "X-ID-Token", "X-Raw-ID-Token", "X-Refresh-Token") {
		headers[name] = []string{forgedValue}
	}
	return headers
}

// forgedHeaders names the forged headers that reached the upstream.
func forgedHeaders(a *probe.Answer) string {
	received := a.UpstreamHeaders()
	if len(received) == 0 {
		return "no answer of the upstream"
	}
	var through []string
	for name, values := range received {
		if slices.Contains(values, forgedValue) {
			through = append(through, name)
		}
	}
	slices.Sort(through)
	return cmp.Or(strings.Join(through, ", "), "none")
}
