package openidconnect

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
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
	token := h.Token()
	if err := handler.unmarshal(h.Dispenser, h.MatcherToken); err != nil {
		return nil, err
	}
	if h.IsNamedRoute() && len(matcherSet) == 0 {
		// Caddy merges routes that match alike and keeps but one handler of a named route that has one route without a matcher. A
		// matcher that always matches keeps ours out of both.
		matcherSet = caddy.ModuleMap{"path": caddyconfig.JSON(caddyhttp.MatchPath{"*"}, nil)}
	}
	if err := checkSiblings(h, handler, token); err != nil {
		return nil, err
	}
	values := h.NewRoute(matcherSet, handler)
	if len(matcherSet) > 0 {
		// The handler's own endpoints must be found even where the matcher does not lead to them. The handler looks at the path itself once
		// more.
		own, err := handler.ownPaths()
		if err != nil {
			return nil, h.WrapErr(err)
		}
		if len(own) > 0 {
			for i, path := range own {
				own[i] = regexp.QuoteMeta(path)
			}
			endpoints := caddy.ModuleMap{"vars_regexp": caddyconfig.JSON(map[string]any{
				"{http.request.orig_uri}": map[string]string{"pattern": "^(?:[A-Za-z]+://[^/?#]*)?(?:" + strings.Join(own, "|") + `)(?:\?|$)`},
			}, nil)}
			values = append(values, h.NewRoute(endpoints, handler)...)
		}
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
// own identity tells blocks apart; site blocks have one state together. Two directives with one matcher are an error: Caddy would merge them
// into a route that runs both.
func blockGroup(h httpcaddyfile.Helper, matcherSet caddy.ModuleMap) (name string, first bool, err error) {
	type group struct {
		block    map[string]any // kept, so that its address is not used again
		name     string
		matchers map[string]bool // as JSON, after the site
	}
	site := siteOf(h)
	matcher := site + string(caddyconfig.JSON(matcherSet, nil))
	nested := h.BlockState != nil && reflect.ValueOf(h.BlockState).Pointer() != reflect.ValueOf(h.State).Pointer()
	groups, _ := h.State[directive].([]group)
	block := reflect.ValueOf(h.BlockState).Pointer()
	for _, g := range groups {
		if reflect.ValueOf(g.block).Pointer() == block {
			if (nested || site != "") && g.matchers[matcher] {
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

// ownPaths are the paths that the handler answers itself, wherever it stands.
func (h *Handler) ownPaths() ([]string, error) {
	var paths []string
	const needsItNow = "a directive with a matcher needs it without placeholders, to find its own endpoints"
	if h.ProtectedResource != nil {
		if strings.Contains(h.ProtectedResource.Resource, "{") {
			return nil, fieldError("protected_resource.resource", needsItNow)
		}
		paths = h.ProtectedResource.metadataPaths()
	}
	if h.BearerOnly {
		return paths, nil
	}
	for _, setting := range []struct{ field, value string }{
		{"redirect_uri", h.RedirectURI}, {"path_prefix", h.PathPrefix}, {"logout_path", h.LogoutPath},
	} {
		if strings.Contains(setting.value, "{") {
			return nil, fieldError(setting.field, needsItNow)
		}
	}
	return append(paths, h.endpointPaths()...), nil
}

// checkSiblings refuses what cannot live together on one host: two providers behind the same endpoints, and logins that share a session
// but not the settings that it was made by. Only directives of one site block are known to share their hosts.
func checkSiblings(h httpcaddyfile.Helper, handler *Handler, token caddyfile.Token) error {
	type sibling struct {
		handler *Handler
		file    string
		line    int
	}
	site := siteOf(h)
	if handler.BearerOnly || site == "" {
		return nil
	}
	at := caddyfile.NewDispenser([]caddyfile.Token{token})
	at.Next()
	key := directive + " logins of " + site
	siblings, _ := h.State[key].([]sibling)
	for _, other := range siblings {
		sameEndpoints := or(other.handler.PathPrefix, defaultPathPrefix) == or(handler.PathPrefix, defaultPathPrefix) ||
			other.handler.callbackPath() == handler.callbackPath() || other.handler.logoutEndpoint() == handler.logoutEndpoint()
		sameClient := other.handler.Issuer == handler.Issuer && other.handler.Discovery == handler.Discovery &&
			other.handler.ClientID == handler.ClientID
		switch {
		case sameEndpoints && !sameClient:
			return at.Errf("another %s of this site (%s:%d) has its endpoints at the same place for another provider or client; give one of them "+
				"another path_prefix", directive, other.file, other.line)
		case sameEndpoints:
			if name := differentSetting(other.handler, handler, loginSettings); name != "" {
				return at.Errf("%s differs from that of %s:%d, which shares the session; directives of one provider on one site need the same "+
					"client, login, session and logout settings, or another path_prefix and session cookie_name", name, other.file, other.line)
			}
		case sameClient && other.handler.cookieIdentity() == handler.cookieIdentity():
			if name := differentSetting(other.handler, handler, sealSettings); name != "" {
				return at.Errf("%s differs from that of %s:%d, and both would write the same session cookie; give one of them a cookie_name of its "+
					"own in session", name, other.file, other.line)
			}
		}
	}
	h.State[key] = append(siblings, sibling{handler, token.File, token.Line})
	return nil
}

// siteOf names the site block that a directive stands in, "" when that cannot be told. Caddy does not say it to directives, so it is
// read from where the helper keeps it; should that change, the check above ends, and nothing else.
func siteOf(h httpcaddyfile.Helper) string {
	keys := reflect.ValueOf(h).FieldByName("parentBlock")
	if keys.IsValid() && keys.Kind() == reflect.Struct {
		keys = keys.FieldByName("Keys")
	}
	if !keys.IsValid() || keys.Kind() != reflect.Slice {
		return ""
	}
	var b strings.Builder
	for i := range keys.Len() {
		for _, name := range []string{"File", "Line", "Text"} {
			field := keys.Index(i).FieldByName(name)
			switch {
			case !field.IsValid():
			case field.Kind() == reflect.String:
				b.WriteString(field.String() + ";")
			case field.CanInt():
				b.WriteString(strconv.FormatInt(field.Int(), 10) + ";")
			}
		}
	}
	return b.String()
}

// cookieIdentity tells session cookies of one provider and client apart.
func (h *Handler) cookieIdentity() [3]string {
	if h.Session == nil {
		return [3]string{"", "", "/"}
	}
	return [3]string{h.Session.CookieName, h.Session.CookieDomain, or(h.Session.CookiePath, "/")}
}

// differentSetting names one of these settings that two handlers do not share, "" when there is none.
func differentSetting(a, b *Handler, names []string) string {
	values := [2]reflect.Value{reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()}
	for i := range values[0].NumField() {
		name, _, _ := strings.Cut(values[0].Type().Field(i).Tag.Get("json"), ",")
		if !slices.Contains(names, name) {
			continue
		}
		if !reflect.DeepEqual(values[0].Field(i).Interface(), values[1].Field(i).Interface()) {
			return name
		}
	}
	return ""
}

// loginSettings are those by which a session is made.
var loginSettings = []string{
	"client_id", "client_secret", "token_endpoint_auth_method", "client_private_key", "client_rsa_private_key", "client_private_key_id",
	"client_jwt_assertion_alg", "client_jwt_assertion_expires_in", "client_jwt_assertion_audience", "client_assertion_file",
	"tenants", "scope", "redirect_uri", "path_prefix", "use_pkce", "use_nonce", "authorization_params", "token_params", "prompt", "max_age", "acr_values",
	"resource", "display", "ui_locales", "response_mode", "id_token_signed_response_alg", "trusted_audiences", "userinfo",
	"session", "session_contents", "refresh_coordination", "revocation_endpoint_auth_method", "logout_path", "post_logout_redirect_uri",
	"revoke_tokens_on_logout", "backchannel_logout", "frontchannel_logout",
}

// sealSettings are those without which a session does not open, or is renewed by two at a time.
var sealSettings = []string{"tenants", "max_age", "acr_values", "id_token_signed_response_alg", "session", "refresh_coordination"}
