package session

import (
	"net/http"
	"slices"
	"strings"
)

// Write adds Set-Cookie lines to a response's header. Each name is set once: a later value takes the place of an earlier one.
func Write(header http.Header, cookies []string) {
	if len(cookies) == 0 {
		return
	}
	lines := slices.Clone(header["Set-Cookie"])
	for _, cookie := range cookies {
		name, _, _ := strings.Cut(cookie, "=")
		lines = slices.DeleteFunc(lines, func(line string) bool { return setName(line) == name })
		lines = append(lines, cookie)
	}
	header["Set-Cookie"] = lines
}

// FilterResponse drops the Set-Cookie lines of an upstream that carry one of our names.
func (c *Cookies) FilterResponse(header http.Header) {
	lines := header["Set-Cookie"]
	ours := func(line string) bool {
		if !strings.Contains(line, c.base) {
			return false
		}
		name := setName(line)
		for _, names := range [...]*names{&c.plain, &c.secure} {
			if kind, _ := names.match(name); kind != notOurs {
				return true
			}
		}
		return false
	}
	if !slices.ContainsFunc(lines, ours) {
		return
	}
	if lines = slices.DeleteFunc(slices.Clone(lines), ours); len(lines) == 0 {
		delete(header, "Set-Cookie")
		return
	}
	header["Set-Cookie"] = lines
}

// setName returns the name under which a browser sends back what a Set-Cookie line sets. A cookie without a name, "=a=b", is
// sent as "a=b".
func setName(line string) string {
	pair, _, _ := strings.Cut(line, ";")
	name, _, _ := strings.Cut(strings.TrimLeft(pair, "= \t"), "=")
	return strings.TrimRight(name, " \t")
}
