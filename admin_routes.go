package openidconnect

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

var (
	errNoHandler    = errors.New("no openid_connect is reached")
	errNoPlace      = fmt.Errorf("%w by any route", errNoHandler)
	errManyHandlers = errors.New("several openid_connect could be meant")
)

// maxRouteDepth and maxRouteLists bound routes in routes: named routes can invoke themselves.
const (
	maxRouteDepth = 64
	maxRouteLists = 10_000
)

// matching is whether a request with a given host and path gets through matchers. The order is that of certainty.
type matching int

const (
	matchesNever matching = iota
	matchesOpen           // it depends on the host or the path, which was not given
	matchesMaybe          // it depends on something else of the request
	matchesAlways
)

// place is where a handler stands.
type place struct {
	handler  *Handler
	matching matching
	names    []string // of it, for people
}

// routeSearch follows a request of which at most host and path are known through the routes of a server, as far as that is enough.
type routeSearch struct {
	server               *caddyhttp.Server
	request              *http.Request
	knowsHost, knowsPath bool
	groups               map[string]bool // that the request has satisfied
	depth, lists         int
	found                []place
}

// handlersAt finds the handlers that a request for a host and a path meets, outermost first; each may be left out where that does not
// matter. The app may be running or only provisioned. The note says what was left aside.
func handlersAt(app *caddyhttp.App, host, path string) (handlers []*Handler, note string, err error) {
	target := new(url.URL)
	if path != "" {
		if target, err = url.ParseRequestURI(path); err != nil || !strings.HasPrefix(path, "/") {
			return nil, "", errors.New("the path must begin with a slash, as in a request")
		}
	}
	var everywhere, found []place
	for _, server := range serversFor(app, host) {
		everywhere = append(everywhere, searchRoutes(server, "", nil)...)
		met := searchRoutes(server, host, target)
		if len(found) > 0 && len(met) > 0 && !slices.EqualFunc(distinctHandlers(found), distinctHandlers(met), sameJudgement) {
			// which server is asked depends on the port
			for _, places := range [][]place{found, met} {
				for i := range places {
					places[i].matching = matchesOpen
				}
			}
		}
		found = append(found, met...)
	}
	switch {
	case len(everywhere) == 0:
		return nil, "", errNoPlace
	case len(found) == 0:
		return nil, "", fmt.Errorf("%w with this host and path; there are: %s", errNoHandler, namesOfPlaces(everywhere))
	default:
		return choose(found)
	}
}

// choose makes one decision of all places that a request may get to.
func choose(found []place) (handlers []*Handler, note string, err error) {
	all := distinctHandlers(found)
	certain := distinctHandlers(slices.DeleteFunc(slices.Clone(found), func(p place) bool { return p.matching != matchesAlways }))
	open := slices.ContainsFunc(found, func(p place) bool { return p.matching == matchesOpen })
	switch {
	case len(certain) == len(all), len(all) == 1 && open:
		return all, "", nil
	case len(all) == 1:
		return all, noteMaybeMet, nil
	case open:
		return nil, "", fmt.Errorf("%w; give the host, or the host and the path, of one: %s", errManyHandlers, namesOfPlaces(found))
	case len(certain) > 0:
		return certain, noteMaybeOther, nil
	default:
		return nil, "", fmt.Errorf("%w, and which one depends on more than host and path: %s", errManyHandlers, namesOfPlaces(found))
	}
}

// What is said of handlers that were found by less than a request shows.
const (
	noteMaybeMet   = "whether a request gets to this handler depends on more than its host and path"
	noteMaybeOther = "another handler is there for requests that differ in more than host and path"
)

// distinctHandlers returns the handlers of these places, those that judge alike once.
func distinctHandlers(places []place) (handlers []*Handler) {
	for i := range places {
		if h := places[i].handler; !slices.ContainsFunc(handlers, func(other *Handler) bool { return sameJudgement(h, other) }) {
			handlers = append(handlers, h)
		}
	}
	return handlers
}

// sameJudgement reports whether two handlers have the same settings, as the several routes of one directive do.
func sameJudgement(a, b *Handler) bool {
	settings := keys(jsonFields(reflect.TypeFor[Handler]()))
	return a == b || a.runtime.provider == b.runtime.provider && differentSetting(a, b, settings) == ""
}

// serversFor returns the servers that listen at the port of a host, all of them if none does or none is given, in a fixed order.
func serversFor(app *caddyhttp.App, host string) []*caddyhttp.Server {
	all, listening := make([]*caddyhttp.Server, 0, len(app.Servers)), []*caddyhttp.Server(nil)
	_, text, _ := net.SplitHostPort(host)
	port, _ := strconv.ParseUint(text, 10, 16)
	for _, name := range sortedKeys(app.Servers) {
		server := app.Servers[name]
		all = append(all, server)
		if slices.ContainsFunc(server.Listen, func(listen string) bool {
			address, err := caddy.ParseNetworkAddress(listen)
			return err == nil && port != 0 && uint64(address.StartPort) <= port && port <= uint64(address.EndPort)
		}) {
			listening = append(listening, server)
		}
	}
	if len(listening) > 0 {
		return listening
	}
	return all
}

// searchRoutes returns the places of a server that a request may get to. Without a host, or a path, it may have any.
func searchRoutes(server *caddyhttp.Server, host string, target *url.URL) []place {
	s := &routeSearch{server: server, knowsHost: host != "", knowsPath: target != nil && target.Path != "", groups: make(map[string]bool)}
	copied := url.URL{Path: "/"}
	if s.knowsPath {
		copied = *target
	}
	request := &http.Request{
		Method: http.MethodGet, Host: or(host, "localhost"), URL: &copied, RequestURI: copied.RequestURI(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), RemoteAddr: "127.0.0.1:0",
	}
	s.request = caddyhttp.PrepareRequest(request, caddy.NewReplacer(), nil, server)
	s.follow(server.Routes, surroundings{}, nil, matchesAlways)
	return s.found
}

// follow goes through routes in their order, and reports whether no request gets beyond them.
func (s *routeSearch) follow(routes caddyhttp.RouteList, around surroundings, paths []string, outer matching) (ends bool) {
	s.depth++
	defer func() { s.depth-- }()
	if s.lists++; s.depth > maxRouteDepth || s.lists > maxRouteLists {
		return true
	}
	for i := range routes {
		route := &routes[i]
		if route.Group != "" && s.groups[route.Group] {
			continue
		}
		matches := s.matchesAny(route.MatcherSets)
		if matches == matchesNever {
			continue
		}
		if route.Group != "" && matches == matchesAlways {
			s.groups[route.Group] = true
		}
		inner, innerPaths := around, paths
		if hosts := hostsOf(route.MatcherSets); len(hosts) > 0 {
			inner.hosts = hosts
		}
		if own := pathsOf(route.MatcherSets); len(own) > 0 {
			innerPaths = own
		}
		before, uri, groups := *s.request.URL, s.request.RequestURI, maps.Clone(s.groups)
		ended := s.handle(route.Handlers, inner, innerPaths, min(outer, matches))
		if matches != matchesAlways {
			// what follows is for requests that do not come by here
			*s.request.URL, s.request.RequestURI, s.groups = before, uri, groups
		} else if ended || route.Terminal {
			return true
		}
	}
	return false
}

// handle goes through the handlers of a route.
func (s *routeSearch) handle(
	handlers []caddyhttp.MiddlewareHandler, around surroundings, paths []string, matches matching,
) (ends bool) {
	for _, handler := range handlers {
		switch handler := handler.(type) {
		case *Handler:
			s.found = append(s.found, place{handler, matches, s.namesOf(around, paths)})
		case *caddyhttp.Subroute:
			ends = s.follow(handler.Routes, around, paths, matches)
		case *caddyhttp.Invoke:
			if route := s.server.NamedRoutes[handler.Name]; route != nil {
				ends = s.follow(caddyhttp.RouteList{*route}, around, paths, matches)
			}
		case *rewrite.Rewrite:
			if repl, ok := s.request.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok && s.knowsPath {
				handler.Rewrite(s.request, repl)
			}
		case *caddyhttp.StaticResponse:
			ends = true
		}
		if ends {
			return true
		}
	}
	return false
}

func (s *routeSearch) matchesAny(sets caddyhttp.MatcherSets) matching {
	if len(sets) == 0 {
		return matchesAlways
	}
	most := matchesNever
	for _, set := range sets {
		most = max(most, s.matchesAll(set))
	}
	return most
}

func (s *routeSearch) matchesAll(set caddyhttp.MatcherSet) matching {
	least := matchesAlways
	for _, matcher := range set {
		least = min(least, s.matches(matcher))
	}
	return least
}

// matches judges the matchers that look at nothing but the host and the path.
func (s *routeSearch) matches(matcher any) matching {
	known := s.knowsPath
	switch matcher := matcher.(type) {
	case *caddyhttp.MatchHost:
		known = s.knowsHost
	case *caddyhttp.MatchPath:
		if slices.Equal(*matcher, caddyhttp.MatchPath{"*"}) {
			return matchesAlways
		}
	case *caddyhttp.MatchPathRE:
	case *caddyhttp.MatchVarsRE:
		for variable := range *matcher {
			if variable != "{http.request.orig_uri}" && variable != "{http.request.orig_uri.path}" {
				return matchesMaybe
			}
		}
	case *caddyhttp.MatchNot:
		none := matchesAlways
		for _, set := range matcher.MatcherSets {
			switch matches := s.matchesAll(set); matches {
			case matchesAlways:
				return matchesNever
			case matchesMaybe, matchesOpen:
				none = min(none, matches)
			case matchesNever:
			}
		}
		return none
	default:
		return matchesMaybe
	}
	if !known {
		return matchesOpen
	}
	if match, ok := matcher.(caddyhttp.RequestMatcherWithError); ok {
		if matches, err := match.MatchWithError(s.request); err != nil || !matches {
			return matchesNever
		}
	}
	return matchesAlways
}

// namesOf says where a handler stands, in words that can be given back.
func (s *routeSearch) namesOf(around surroundings, paths []string) (names []string) {
	for _, site := range around.origins(s.server, "/") {
		names = append(names, strings.TrimSpace(site.origin+" "+strings.Join(paths, " ")))
	}
	return names
}

func pathsOf(sets caddyhttp.MatcherSets) (paths []string) {
	for _, set := range sets {
		for _, matcher := range set {
			if match, ok := matcher.(*caddyhttp.MatchPath); ok {
				paths = append(paths, *match...)
			}
		}
	}
	return paths
}

func namesOfPlaces(places []place) string {
	var names []string
	for i := range places {
		names = append(names, places[i].names...)
	}
	return strings.Join(sortedOnce(names), ", ")
}
