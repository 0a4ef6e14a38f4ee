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

// originsOf finds the origins of the sites that a handler stands in, as far as their hosts are written in the configuration. It may run
// only after Caddy has started: nothing here changes what is running.
func originsOf(ctx caddy.Context, h *Handler) []siteOrigin {
	loaded, err := ctx.App("http")
	if err != nil {
		return nil
	}
	app, ok := loaded.(*caddyhttp.App)
	if !ok {
		return nil
	}
	var origins []siteOrigin
	for _, server := range app.Servers {
		scheme, standard := "http", caddyhttp.DefaultHTTPPort
		if len(server.TLSConnPolicies) > 0 {
			scheme, standard = "https", caddyhttp.DefaultHTTPSPort
		}
		for _, found := range placesOf(server.Routes, h, h.callbackPath(), []place{{reached: true}}, true) {
			for _, listen := range server.Listen {
				address, err := caddy.ParseNetworkAddress(listen)
				if err != nil || address.IsUnixNetwork() {
					continue
				}
				name := or(found.host, or(address.Host, "localhost"))
				if port := int(address.StartPort); port != standard {
					name = net.JoinHostPort(name, strconv.Itoa(port))
				} else if strings.Contains(name, ":") {
					name = "[" + name + "]"
				}
				origins = append(origins, siteOrigin{scheme + "://" + name, found.reached})
			}
		}
	}
	slices.SortFunc(origins, func(a, b siteOrigin) int {
		// a place that is reached counts: the handler may stand in several
		if a.origin == b.origin && a.reached != b.reached && a.reached {
			return -1
		}
		return strings.Compare(a.origin, b.origin)
	})
	return slices.CompactFunc(origins, func(a, b siteOrigin) bool { return a.origin == b.origin })
}

// place is where a handler stands in a configuration.
type place struct {
	host    string // "" for any
	reached bool   // by requests for a path, as far as path matchers tell
}

// placesOf finds a handler in these routes. around is what the routes around them say; known is false from where a rewrite has made
// another path of it.
func placesOf(routes caddyhttp.RouteList, h *Handler, path string, around []place, known bool) []place {
	var found []place
	for i := range routes {
		route := &routes[i]
		inner := slices.Clone(around)
		if known && !mayMatch(route.MatcherSets, path) {
			for j := range inner {
				inner[j].reached = false
			}
		}
		inner = withHosts(inner, route.MatcherSets)
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				if handler == h {
					found = append(found, inner...)
				}
			case *caddyhttp.Subroute:
				found = append(found, placesOf(handler.Routes, h, path, inner, known)...)
			case *rewrite.Rewrite:
				known = false
			}
		}
	}
	return found
}

// withHosts makes a place for each host that the matchers name.
func withHosts(places []place, sets caddyhttp.MatcherSets) []place {
	var hosts []string
	for _, set := range sets {
		for _, matcher := range set {
			if match, ok := matcher.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *match...)
			}
		}
	}
	if len(hosts) == 0 {
		return places
	}
	var named []place
	for _, host := range hosts {
		reached := slices.ContainsFunc(places, func(p place) bool { return p.reached })
		named = append(named, place{host, reached})
	}
	return named
}

// mayMatch reports whether path matchers let a path through; other matchers are taken to match.
func mayMatch(sets caddyhttp.MatcherSets, path string) bool {
	if len(sets) == 0 {
		return true
	}
	request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}}
	request = caddyhttp.PrepareRequest(request, caddy.NewReplacer(), nil, nil)
	return slices.ContainsFunc(sets, func(set caddyhttp.MatcherSet) bool {
		return !slices.ContainsFunc(set, func(matcher any) bool {
			match, ok := matcher.(*caddyhttp.MatchPath)
			return ok && !match.Match(request)
		})
	})
}
