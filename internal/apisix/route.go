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
func (c *conversion) place(route *value, options Options) error {
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
	if route != nil {
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
			c.paths(m)
		case "upstream":
			c.nodes(m.value)
		case "plugins":
			for _, plugin := range m.value.members {
				if plugin.name != pluginName {
					c.tellRoute("plugins."+shown(plugin.name), Refused, "", "another plugin; only openid-connect is translated")
					c.opens = true
				}
			}
		case "status":
			if m.value.text != "1" {
				c.tellRoute(m.name, Refused, "", "the route is disabled, and the Caddyfile is not")
			}
		case "id", "name", "desc", "labels", "create_time", "update_time", "priority", "key", "modifiedIndex", "createdIndex":
		default:
			c.tellRoute(shown(m.name), Refused, "", "not translated; look at what it does to requests")
			c.opens = true
		}
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

func (c *conversion) paths(m member) {
	paths := m.value.list()
	switch {
	case len(paths) == 1 && paths[0] == "/*":
		c.tellRoute(m.name, NoOp, "", "the whole site")
	case len(paths) == 1 && (isPlainPath(paths[0]) || isPlainPath(strings.TrimSuffix(paths[0], "*"))):
		c.matcher = paths[0]
		c.tellRoute(m.name, Translated, "matcher", "")
	default:
		c.tellRoute(m.name, Changed, "", "not one plain path, so the whole site is protected and proxied")
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
