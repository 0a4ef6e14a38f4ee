package apisix

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	routePrefix     = "route."
	defaultSite     = "example.com"
	defaultUpstream = "localhost:8080"
)

var (
	hostPattern     = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	upstreamSchemes = []string{"", "http", "https", "h2c"}
)

// isAddress reports whether a text is a host with or without a scheme and a port, and nothing else.
func isAddress(text string, schemes []string, portRequired bool) bool {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		scheme, rest = "", text
	}
	host, port := rest, ""
	if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || port != strconv.Itoa(n) {
			return false
		}
	} else if strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]") {
		host = rest[1 : len(rest)-1]
	} else if strings.Contains(rest, ":") {
		return false
	}
	ip := net.ParseIP(host)
	switch {
	case !slices.Contains(schemes, scheme), portRequired && port == "" && scheme == "":
		return false
	case host == "":
		return port != "" && scheme == "" && !portRequired // :8080 listens on all hosts
	case strings.Contains(host, ":"):
		return ip != nil && strings.HasPrefix(rest, "[")
	}
	return len(host) <= 253 && hostPattern.MatchString(host)
}

// place decides on the site and the upstream.
func (c *conversion) place(found foundPlugin, options Options) error {
	c.site, c.upstream = options.Site, options.Upstream
	if c.site != "" {
		for address := range strings.SplitSeq(c.site, ",") {
			if !isAddress(strings.Trim(address, " "), []string{"", "http", "https"}, false) {
				return fmt.Errorf("%s is not the address of a site, such as example.com or http://localhost:8080", shown(c.site))
			}
		}
		c.site = strings.Join(strings.FieldsFunc(c.site, func(r rune) bool { return r == ',' || r == ' ' }), ", ")
	}
	if c.upstream != "" && (!isAddress(c.upstream, upstreamSchemes, true) || strings.Contains(c.upstream, "*")) {
		return fmt.Errorf("%s is not the address of an upstream, such as localhost:8080 or https://10.0.0.1:8443", shown(c.upstream))
	}
	c.besides(found.plugins)
	if route := found.route; route != nil {
		c.route(route)
	}
	if c.site == "" {
		c.site = siteOf(c.text("redirect_uri"))
	}
	if c.upstream == "" {
		c.upstream = defaultUpstream
	}
	return nil
}

// siteOf is the site that a callback of that address is at, else the default.
func siteOf(redirectURI string) string {
	u, err := url.Parse(redirectURI)
	if err != nil || !usableURL(redirectURI) || !isAddress(u.Host, []string{""}, false) || strings.HasPrefix(u.Host, ":") {
		return defaultSite
	}
	if u.Scheme == "http" {
		return "http://" + u.Host
	}
	return u.Host
}

// tellRoute tells what becomes of a member of the route.
func (c *conversion) tellRoute(member string, outcome Outcome, setting, note string) {
	name := routePrefix + member
	if _, told := c.outcomes[name]; !told {
		c.routeOrder = append(c.routeOrder, name)
	}
	c.outcomes[name] = Attribute{Name: name, Outcome: outcome, Setting: setting, Note: note}
}

// route takes from a route what is simple, and tells of everything else.
func (c *conversion) route(route *value) {
	for _, m := range route.members {
		switch m.name {
		case "host", "hosts":
			c.hostsOf(m)
		case "uri", "uris":
			c.settlePaths(route)
		case "upstream":
			c.nodes(m.value)
		case "status":
			if m.value.text != "1" {
				c.tellRoute(m.name, Refused, "", "the route is disabled, and the Caddyfile is not")
				c.opens = true
			}
		case "plugins", "id", "name", "desc", "labels", "create_time", "update_time", "priority", "key", "modifiedIndex", "createdIndex":
		default:
			c.tellRoute(shown(m.name), Refused, "", "not translated; look at what it does to requests")
			c.opens = true
		}
	}
	if route.member("uri") == nil && route.member("uris") == nil && len(route.members) > 1 {
		c.settlePaths(route) // a service, perhaps; an object with nothing but plugins says nothing about paths
	}
}

// besides tells of the plugins that stand beside ours.
func (c *conversion) besides(plugins *value) {
	if plugins == nil {
		return
	}
	for _, plugin := range plugins.members {
		if plugin.name != pluginName {
			c.tellRoute("plugins."+shown(plugin.name), Refused, "", "another plugin; only openid-connect is translated")
			c.opens = true
		}
	}
}

// global tells of rules for all routes.
func (c *conversion) global(root *value) {
	const name = "global_rules"
	if rules := root.member(name); rules != nil && len(rules.elements)+len(rules.members) > 0 {
		c.tellRoute(name, Refused, "", "rules for all routes are not translated; look at what they do to requests")
		c.opens = true
	}
}

// list are the texts of a text or a list of texts.
func (v *value) list() []string {
	if v.kind == kindText {
		return []string{v.text}
	}
	var all []string
	for _, element := range v.elements {
		if element.kind == kindText {
			all = append(all, element.text)
		}
	}
	return all
}

func (c *conversion) hostsOf(m member) {
	hosts := m.value.list()
	for _, host := range hosts {
		if !hostPattern.MatchString(host) || len(host) > 253 {
			hosts = nil
			break
		}
	}
	switch {
	case c.site != "":
		c.tellRoute(m.name, NoOp, "", "the address of the site is given")
	case len(hosts) == 0:
		c.tellRoute(m.name, Refused, "", "not a list of plain hosts; write the address of the site")
	default:
		slices.Sort(hosts)
		c.site = strings.Join(slices.Compact(hosts), ", ")
		c.tellRoute(m.name, Translated, "site", "")
	}
}

// namedMatcher stands for several paths.
const namedMatcher = "@apisix"

// matcher is what the directives are limited to, "" for the whole site.
func (c *conversion) matcher() string {
	switch len(c.paths) {
	case 0:
		return ""
	case 1:
		return c.paths[0]
	default:
		return namedMatcher
	}
}

// settlePaths takes the paths of a route, of both its members, where they are plain ones, with or without a star at the end.
func (c *conversion) settlePaths(route *value) {
	var members, paths []string
	plain := true
	for _, name := range []string{"uri", "uris"} {
		m := route.member(name)
		if m == nil {
			continue
		}
		members = append(members, name)
		list := m.list()
		plain = plain && len(list) > 0 && (m.kind == kindText || len(list) == len(m.elements))
		for _, path := range list {
			plain = plain && (path == "/" || path == "/*" || isPlainPath(path) || isPlainPath(strings.TrimSuffix(path, "*")))
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	if len(members) == 0 {
		c.tellRoute("uri", Changed, "", "not a route, or one without paths: the whole site is protected, and proxied too")
		c.opens = true
		return
	}
	whole := slices.Contains(paths, "/*")
	if plain && !whole {
		c.paths = paths
	}
	for _, name := range members {
		switch {
		case whole:
			c.tellRoute(name, NoOp, "", "the whole site")
		case plain:
			c.tellRoute(name, Translated, "matcher", "")
		default:
			c.tellRoute(name, Changed, "", "not plain paths alone, so the whole site is protected, and proxied too: requests reach the upstream that no "+
				"route led there")
			c.opens = true
		}
	}
}

// nodes takes the upstreams of a route.
func (c *conversion) nodes(upstream *value) {
	var addresses []string
	scheme := ""
	if s := upstream.member("scheme"); s != nil && s.text != "http" {
		scheme = s.text + "://"
	}
	weights, simple := make(map[string]bool), scheme == "" || scheme == "https://"
	add := func(host, port, weight string) {
		if port != "" {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		} else if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, map[bool]string{true: "443", false: "80"}[scheme != ""])
		}
		weights[weight] = true
		simple = simple && isAddress(host, upstreamSchemes, true) && !strings.ContainsAny(host, "*")
		addresses = append(addresses, scheme+host)
	}
	if nodes := upstream.member("nodes"); nodes != nil {
		for _, node := range nodes.members {
			add(node.name, "", node.value.text)
		}
		for _, node := range nodes.elements {
			text := func(name string) string {
				if v := node.member(name); v != nil {
					return v.text
				}
				return ""
			}
			add(text("host"), text("port"), text("weight"))
		}
	}
	switch {
	case c.upstream != "":
		c.tellRoute("upstream", NoOp, "", "the address of the upstream is given")
	case len(addresses) == 0, !simple, len(addresses) > 64:
		c.tellRoute("upstream", Refused, "", "no plain nodes; write the address of the upstream behind reverse_proxy")
	default:
		c.upstream = strings.Join(addresses, " ")
		note := ""
		for _, m := range upstream.members {
			if !isOneOf(m.name, "nodes", "scheme", "type") || m.name == "type" && m.value.text != "roundrobin" {
				note = "the nodes alone; balancing, health checks, time limits and the Host header are those of reverse_proxy"
			}
		}
		if len(weights) > 1 || note != "" {
			c.tellRoute("upstream", Changed, "reverse_proxy", "the nodes alone; balancing, health checks, time limits and the Host header are those of "+
				"reverse_proxy")
			return
		}
		c.tellRoute("upstream", Translated, "reverse_proxy", "")
	}
}
