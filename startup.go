package openidconnect

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// originsOf finds the origins of the sites that a handler stands in, as far as their hosts are written in the configuration. It may run
// only after Caddy has started: nothing here changes what is running.
func originsOf(ctx caddy.Context, h *Handler) []string {
	loaded, err := ctx.App("http")
	if err != nil {
		return nil
	}
	app, ok := loaded.(*caddyhttp.App)
	if !ok {
		return nil
	}
	var origins []string
	for _, server := range app.Servers {
		scheme, standard := "http", caddyhttp.DefaultHTTPPort
		if len(server.TLSConnPolicies) > 0 {
			scheme, standard = "https", caddyhttp.DefaultHTTPSPort
		}
		for _, host := range hostsOf(server.Routes, h, nil) {
			for _, listen := range server.Listen {
				address, err := caddy.ParseNetworkAddress(listen)
				if err != nil || address.IsUnixNetwork() {
					continue
				}
				name := host
				if name == "" {
					name = or(address.Host, "localhost")
				}
				if port := int(address.StartPort); port != standard { //nolint:gosec // a port
					name = net.JoinHostPort(name, strconv.Itoa(port))
				} else if strings.Contains(name, ":") {
					name = "[" + name + "]"
				}
				origins = append(origins, scheme+"://"+name)
			}
		}
	}
	slices.Sort(origins)
	return slices.Compact(origins)
}

// hostsOf are the hosts whose requests get to the handler through these routes; "" stands for any. hosts are those of the routes around.
func hostsOf(routes caddyhttp.RouteList, h *Handler, hosts []string) []string {
	var found []string
	for i := range routes {
		inner := hosts
		for _, set := range routes[i].MatcherSets {
			for _, matcher := range set {
				if match, ok := matcher.(*caddyhttp.MatchHost); ok {
					inner = append(slices.Clip(inner), *match...)
				}
			}
		}
		for _, handler := range routes[i].Handlers {
			switch handler := handler.(type) {
			case *Handler:
				if handler != h {
					continue
				}
				if len(inner) == 0 {
					found = append(found, "")
				}
				found = append(found, inner...)
			case *caddyhttp.Subroute:
				found = append(found, hostsOf(handler.Routes, h, inner)...)
			}
		}
	}
	return found
}
