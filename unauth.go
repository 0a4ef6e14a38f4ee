package openidconnect

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// What unauthenticated requests get.
const (
	unauthDeny = "deny"
	unauthPass = "pass"
)

// unauth decides on requests without credentials.
type unauth struct {
	pass  bool // the default
	rules []unauthRule
}

type unauthRule struct {
	matchers caddyhttp.MatcherSet
	pass     bool
}

// passes reports whether the request goes on, anonymous. The first rule that matches wins. A rule that passes never applies to a path
// that somebody behind us may read as another one: a public prefix must not open what lies beside it.
func (u *unauth) passes(r *http.Request) (bool, error) {
	for i := range u.rules {
		rule := &u.rules[i]
		matches, err := rule.matchers.MatchWithError(r)
		if err != nil {
			return false, err
		}
		if !matches {
			continue
		}
		if rule.pass && (ambiguousPath(r.URL) || ambiguousPath(originalURL(r))) {
			continue
		}
		return rule.pass, nil
	}
	return u.pass, nil
}
