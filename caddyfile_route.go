package openidconnect

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// parseDirective makes a route of the directive. Several directives in one block exclude each other, the most specific matcher first,
// as those of handle do.
//
// They do so by a route group. Caddy remembers the groups that a request has satisfied until its end, so a route in a group runs once
// in the life of a request. A named route may be invoked again, from another place or from handle_errors, and must not be passed
// over then: there the directive has no group, and stands once in a block.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matcherSet, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, h.WrapErr(err)
	}
	handler := new(Handler)
	h.Next() // the directive's name
	if err := handler.unmarshal(h.Dispenser, h.MatcherToken); err != nil {
		return nil, err
	}
	if h.IsNamedRoute() && len(matcherSet) == 0 {
		// Caddy merges routes that match alike and keeps but one handler of a named route that has one route without a matcher. A
		// matcher that always matches keeps ours out of both.
		matcherSet = caddy.ModuleMap{"path": caddyconfig.JSON(caddyhttp.MatchPath{"*"}, nil)}
	}
	values := h.NewRoute(matcherSet, handler)
	if len(matcherSet) > 0 && handler.ProtectedResource != nil {
		// The metadata must be found even where the matcher does not lead to it. The handler looks at the path itself once more.
		var paths []string
		for _, path := range handler.ProtectedResource.metadataPaths() {
			paths = append(paths, regexp.QuoteMeta(path))
		}
		wellKnown := caddy.ModuleMap{"vars_regexp": caddyconfig.JSON(map[string]any{
			"{http.request.orig_uri}": map[string]string{"pattern": "^(?:" + strings.Join(paths, "|") + `)(?:\?|$)`},
		}, nil)}
		values = append(values, h.NewRoute(wellKnown, handler)...)
	}
	group, first, err := blockGroup(h, matcherSet)
	switch {
	case err != nil:
		return nil, err
	case h.IsNamedRoute() && !first:
		return nil, h.Errf("%s stands twice in a block of a named route; put each into a handle block of its own", directive)
	case h.IsNamedRoute():
		return values, nil
	}
	for i := range values {
		if route, ok := values[i].Value.(caddyhttp.Route); ok {
			route.Group = group
			values[i].Value = route
		}
	}
	return values, nil
}

// blockGroup returns the route group of the block that the directive stands in, and whether this is the block's first directive. No
// other block on the way of a request may have the same group. A nested block inherits a copy of its parent's state, so the state's
// own identity tells blocks apart. Two directives with one matcher are an error: Caddy would merge them into a route that runs both.
func blockGroup(h httpcaddyfile.Helper, matcherSet caddy.ModuleMap) (name string, first bool, err error) {
	type group struct {
		block    map[string]any // kept, so that its address is not used again
		name     string
		matchers map[string]bool // as JSON
	}
	matcher := string(caddyconfig.JSON(matcherSet, nil))
	nested := h.BlockState != nil && reflect.ValueOf(h.BlockState).Pointer() != reflect.ValueOf(h.State).Pointer()
	groups, _ := h.State[directive].([]group)
	block := reflect.ValueOf(h.BlockState).Pointer()
	for _, g := range groups {
		if reflect.ValueOf(g.block).Pointer() == block {
			if nested && g.matchers[matcher] {
				return "", false, h.Errf("two %s directives with the same matcher in one block", directive)
			}
			g.matchers[matcher] = true
			return g.name, false, nil
		}
	}
	name = directive + "_" + strconv.Itoa(len(groups))
	h.State[directive] = append(groups, group{block: h.BlockState, name: name, matchers: map[string]bool{matcher: true}})
	return name, true, nil
}
