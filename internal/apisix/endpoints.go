package apisix

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// plainPath is a path that everybody reads alike.
var plainPath = regexp.MustCompile(`^(/\.?[A-Za-z0-9_~@:+,=-][A-Za-z0-9._~@:+,=-]*)+/?$`)

func isPlainPath(path string) bool {
	return plainPath.MatchString(path) && !strings.Contains(path, "..")
}

// pathOf is the path of what is a path or a URL.
func pathOf(address string) string {
	if strings.HasPrefix(address, "/") {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.EscapedPath()
}

func (c *conversion) redirectURI(name string) {
	text := c.text(name)
	switch {
	case text == "":
		c.noOp(name, "it is empty")
	case strings.Contains(text, "?"), !strings.HasPrefix(text, "/") && !usableURL(text), !isPlainPath(pathOf(text)):
		c.refused(name, "neither a plain path nor a URL with one; register /oauth2/callback, or write another")
	default:
		c.write(name, name, text)
	}
}

// ownEndpoints are the endpoints below a prefix.
func ownEndpoints(prefix string, names ...string) []string {
	all := make([]string, 0, len(names))
	for _, name := range names {
		all = append(all, prefix+name)
	}
	return all
}

// below reports whether a cookie of a path is sent to another path.
func below(cookiePath, path string) bool {
	return path == cookiePath || strings.HasPrefix(path, strings.TrimSuffix(cookiePath, "/")+"/")
}

// endpoints settles where the endpoints of the handler are, so that none is another's and the cookie reaches them all.
func (c *conversion) endpoints() {
	const redirect, logout, landing = "redirect_uri", "logout_path", "post_logout_redirect_uri"
	redirectURI := ""
	if len(c.lines[redirect]) > 0 {
		redirectURI = c.text(redirect)
	}
	prefix := c.prefix(redirectURI)
	callback := prefix + "/callback"
	if redirectURI != "" {
		callback = pathOf(redirectURI)
	}
	if slices.Contains(ownEndpoints(prefix, "/login", "/logout", "/logged-out", "/session", "/jwks.json", "/backchannel-logout", "/frontchannel-logout"), callback) {
		c.drop(redirect, redirect, "it is another endpoint of the handler; register "+prefix+"/callback instead")
		redirectURI, callback = "", prefix+"/callback"
	}
	c.hosts(redirectURI)

	path, cookiePath := "/logout", c.cookiePath()
	if c.has(logout) {
		path = c.text(logout)
	}
	taken := ownEndpoints(prefix, "/login", "/logged-out", "/session", "/jwks.json", "/backchannel-logout", "/frontchannel-logout")
	switch {
	case !isPlainPath(path), path == callback, slices.Contains(taken, path), !below(cookiePath, path):
		if c.has(logout) {
			c.refused(logout, "not a plain path that is free and that the cookie reaches; it is "+prefix+"/logout")
		}
		path = prefix + "/logout"
	default:
		argument, _ := token(path)
		c.add(logout, argument)
		if c.has(logout) {
			c.translated(logout, logout, "")
		} else {
			c.changed(logout, logout, "not in the plugin: the path of APISIX is kept; links to it must be page navigations of this site")
		}
	}
	if c.has(landing) {
		c.landing(landing, append(ownEndpoints(prefix, "/login", "/backchannel-logout", "/frontchannel-logout"), callback, path))
	}
}

// cookiePath is the path of the session's cookie.
func (c *conversion) cookiePath() string {
	if len(c.lines["session.cookie_path"]) == 0 {
		return "/"
	}
	return c.text("session.cookie_path")
}

// prefix settles the path that the cookie is for and the one that the endpoints are below.
func (c *conversion) prefix(redirectURI string) string {
	const standard, name = "/oauth2", "session.cookie_path"
	path := c.text(name)
	switch {
	case !c.has(name):
		return standard
	case path == "/" || path == "":
		c.translated(name, "session cookie_path", "the default")
		return standard
	case !isPlainPath(path):
		c.refused(name, "not a plain path; the cookie is for the whole host")
		return standard
	case redirectURI != "" && !below(path, pathOf(redirectURI)), c.has("logout_path") && !below(path, c.text("logout_path")):
		c.refused(name, "redirect_uri or logout_path is not below it, where no cookie would arrive; the cookie is for the whole host")
		return standard
	}
	prefix := strings.TrimSuffix(path, "/") + standard
	argument, _ := token(path)
	c.add(name, argument)
	c.translated(name, "session cookie_path", "with path_prefix below it")
	argument, _ = token(prefix)
	c.add("path_prefix", argument)
	return prefix
}

// hosts makes sure that cookies and the callback go together.
func (c *conversion) hosts(redirectURI string) {
	u, err := url.Parse(redirectURI)
	if err != nil || redirectURI == "" || strings.HasPrefix(redirectURI, "/") {
		return
	}
	host, domain := strings.ToLower(u.Hostname()), strings.Join(c.lines["session.cookie_domain"], "")
	if domain != "" && host != domain && !strings.HasSuffix(host, "."+domain) {
		c.drop("session.cookie_domain", "session.cookie_domain", "the host of redirect_uri is not under it, so the cookie would not get there")
	}
	if u.Scheme != "http" {
		return
	}
	secure := slices.Contains(c.lines["session.cookie_secure"], "on")
	if slices.Contains(c.lines["session.cookie_same_site"], "none") && !secure {
		c.drop("session.cookie_same_site", "session.cookie_same_site", "None takes a Secure cookie, which a redirect_uri of plain http rules out; it is lax")
	}
	if len(c.lines["response_mode"]) > 0 {
		c.drop("response_mode", "response_mode", "form_post takes a redirect_uri of https")
	}
}

func (c *conversion) landing(name string, taken []string) {
	text := c.text(name)
	switch {
	case text == "":
		c.noOp(name, "it is empty")
	case strings.HasPrefix(text, "/") && (text != "/" && !isPlainPath(text) || slices.Contains(taken, text)), !strings.HasPrefix(text, "/") && !usableURL(text):
		c.refused(name, "neither a plain path that is free nor a URL")
	default:
		c.write(name, name, text)
	}
}
