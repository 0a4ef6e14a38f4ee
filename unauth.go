package openidconnect

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// What unauthenticated requests get, besides [unauthAuth].
const (
	unauthDeny = "deny"
	unauthPass = "pass"
)

// unauth decides on requests without credentials.
type unauth struct {
	action  string // the default
	guarded string // what the strictest exception does where the default is to pass; empty without one
	rules   []unauthRule
}

type unauthRule struct {
	matchers caddyhttp.MatcherSets
	action   string
}

// actionFor says what the request gets. The first rule that matches wins. A rule that passes never applies to a path that somebody
// behind us may read as another one: a public prefix must not open what lies beside it. And where everything is public but for
// exceptions, such a path is not: it may be one of them.
func (u *unauth) actionFor(r *http.Request) (string, error) {
	passes := u.action == unauthPass
	ambiguous := (u.guarded != "" || !passes && len(u.rules) > 0) && (ambiguousPath(r.URL) || ambiguousPath(originalURL(r)))
	if passes && u.guarded != "" && (ambiguous || layeredPath(r.URL) || layeredPath(originalURL(r))) {
		return u.guarded, nil
	}
	for i := range u.rules {
		rule := &u.rules[i]
		matches, err := rule.matchers.AnyMatchWithError(r)
		if err != nil {
			return "", err
		}
		if !matches || rule.action == unauthPass && ambiguous {
			continue
		}
		return rule.action, nil
	}
	return u.action, nil
}
