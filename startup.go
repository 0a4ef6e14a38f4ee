package openidconnect

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// siteOrigin is an origin that a handler stands in.
type siteOrigin struct {
	origin  string
	reached bool // the callback gets to the handler
}

// originsOfHandlers finds the origins of the sites that handlers stand in, as far as their hosts are written in the configuration. It may
// run only after Caddy has started: nothing here changes what is running.
func originsOfHandlers(ctx caddy.Context) map[*Handler][]siteOrigin {
	origins := make(map[*Handler][]siteOrigin)
	loaded, err := ctx.AppIfConfigured("http")
	if err != nil {
		return origins
	}
	app, ok := loaded.(*caddyhttp.App)
	if !ok {
		return origins
	}
	for _, server := range app.Servers {
		surroundings{named: server.NamedRoutes, lists: new(maxRouteLists)}.walk(server.Routes, func(h *Handler, around surroundings) {
			origins[h] = append(origins[h], around.origins(server, h.callbackPath())...)
		})
	}
	shareCallbacks(origins)
	for h, found := range origins {
		slices.SortFunc(found, func(a, b siteOrigin) int {
			// a place that is reached counts: the handler may stand in several
			if a.origin == b.origin && a.reached != b.reached && a.reached {
				return -1
			}
			return strings.Compare(a.origin, b.origin)
		})
		origins[h] = slices.CompactFunc(found, func(a, b siteOrigin) bool { return a.origin == b.origin })
	}
	return origins
}

// shareCallbacks has a login that ends at one handler end for all that have the same callback, provider and client at an origin.
func shareCallbacks(origins map[*Handler][]siteOrigin) {
	type callback struct {
		origin, path, client string
		provider             *sharedProvider
	}
	of := func(h *Handler, site siteOrigin) callback {
		return callback{site.origin, h.callbackPath(), h.ClientID, h.runtime.provider}
	}
	reached := make(map[callback]bool)
	for h, found := range origins {
		for _, site := range found {
			if site.reached && !h.BearerOnly {
				reached[of(h, site)] = true
			}
		}
	}
	for h, found := range origins {
		for i := range found {
			found[i].reached = found[i].reached || reached[of(h, found[i])]
		}
	}
}

// surroundings are what the routes around a handler say.
type surroundings struct {
	named   map[string]*caddyhttp.Route // of the server
	invoked []string                    // the named routes that this is in
	lists   *int                        // of routes that may still be walked through, as named routes may invoke each other

	hosts     []string                // of the innermost route that names any
	matchers  []caddyhttp.MatcherSets // outermost first
	rewritten bool                    // the path is another one from here on
}

// walk calls visit for each handler in these routes.
func (s surroundings) walk(routes caddyhttp.RouteList, visit func(*Handler, surroundings)) {
	if *s.lists--; *s.lists < 0 {
		return
	}
	for i := range routes {
		route := &routes[i]
		inner := s
		if hosts := hostsOf(route.MatcherSets); len(hosts) > 0 {
			inner.hosts = hosts
		}
		if !s.rewritten && len(route.MatcherSets) > 0 {
			inner.matchers = append(slices.Clip(s.matchers), route.MatcherSets)
		}
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				visit(handler, inner)
			case *caddyhttp.Subroute:
				inner.walk(handler.Routes, visit)
			case *caddyhttp.Invoke:
				if route := s.named[handler.Name]; route != nil && !slices.Contains(s.invoked, handler.Name) {
					within := inner
					within.invoked = append(slices.Clip(s.invoked), handler.Name)
					within.walk(caddyhttp.RouteList{*route}, visit)
				}
			case *rewrite.Rewrite:
				s.rewritten, inner.rewritten = true, true
			}
		}
	}
}

func hostsOf(sets caddyhttp.MatcherSets) (hosts []string) {
	for _, set := range sets {
		for _, matcher := range set {
			if match, ok := matcher.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *match...)
			}
		}
	}
	return hosts
}

// origins are those of a server and the hosts, and whether requests for a path get here, as far as path matchers tell.
func (s surroundings) origins(server *caddyhttp.Server, path string) (origins []siteOrigin) {
	scheme, standard := "http", caddyhttp.DefaultHTTPPort
	if len(server.TLSConnPolicies) > 0 {
		scheme, standard = "https", caddyhttp.DefaultHTTPSPort
	}
	request := caddyhttp.PrepareRequest(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}}, caddy.NewReplacer(), nil, nil)
	reached := !slices.ContainsFunc(s.matchers, func(sets caddyhttp.MatcherSets) bool { return !mayMatch(sets, request) })
	hosts := s.hosts
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, host := range hosts {
		for _, listen := range server.Listen {
			address, err := caddy.ParseNetworkAddress(listen)
			if err != nil || address.IsUnixNetwork() {
				continue
			}
			name := or(host, or(address.Host, "localhost"))
			if port := int(address.StartPort); port != standard {
				name = net.JoinHostPort(name, strconv.Itoa(port))
			} else if strings.Contains(name, ":") {
				name = "[" + name + "]"
			}
			origins = append(origins, siteOrigin{scheme + "://" + name, reached})
		}
	}
	return origins
}

// mayMatch reports whether path matchers let a request through; other matchers are taken to match.
func mayMatch(sets caddyhttp.MatcherSets, request *http.Request) bool {
	return slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(matcher any) bool {
			match, ok := matcher.(*caddyhttp.MatchPath)
			return ok && !match.Match(request)
		})
	})
}
