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
	pass   bool // the default
	denies bool // by an exception
	rules  []unauthRule
}

type unauthRule struct {
	matchers caddyhttp.MatcherSet
	pass     bool
}

// passes reports whether the request goes on, anonymous. The first rule that matches wins. A rule that passes never applies to a path
// that somebody behind us may read as another one: a public prefix must not open what lies beside it. And where everything is public
// but for exceptions, such a path is not: it may be one of them.
func (u *unauth) passes(r *http.Request) (bool, error) {
	ambiguous := (u.denies || !u.pass && len(u.rules) > 0) && (ambiguousPath(r.URL) || ambiguousPath(originalURL(r)))
	if u.pass && u.denies && (ambiguous || layeredPath(r.URL) || layeredPath(originalURL(r))) {
		return false, nil
	}
	for i := range u.rules {
		rule := &u.rules[i]
		matches, err := rule.matchers.MatchWithError(r)
		if err != nil {
			return false, err
		}
		if !matches {
			continue
		}
		if rule.pass && ambiguous {
			continue
		}
		return rule.pass, nil
	}
	return u.pass, nil
}
