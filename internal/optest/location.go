package optest

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ResolveLocation returns the URL that a browser on the page at base goes to when
// it is given location. It reads URLs as browsers do (WHATWG URL Standard): spaces
// and controls around them and line breaks and tabs within do not count, a
// backslash is a slash, and any number of slashes may come before a host. It is an
// error where they would go nowhere, as with javascript: or without a host.
func ResolveLocation(base, location string) (string, error) {
	page, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("reading the base: %w", err)
	}
	text := strings.TrimFunc(location, func(r rune) bool { return r <= ' ' })
	text = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(text)
	scheme, rest := page.Scheme, text
	if name, after, ok := strings.Cut(text, ":"); ok && isScheme(name) {
		scheme, rest = strings.ToLower(name), after
		if scheme != "http" && scheme != "https" {
			return "", errors.New("not a web page")
		}
	}
	end := strings.IndexAny(rest, "?#")
	if end < 0 {
		end = len(rest)
	}
	rest = escapePercent(strings.ReplaceAll(rest[:end], `\`, "/") + rest[end:])
	// With a scheme other than the page's, a host follows however many slashes there are.
	if !strings.HasPrefix(rest, "//") && scheme == page.Scheme {
		if !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "?") && !strings.HasPrefix(rest, "#") && rest != "" {
			rest = "./" + rest // which may begin with a colon
		}
		relative, err := url.Parse(rest)
		if err != nil {
			return "", fmt.Errorf("reading the location: %w", err)
		}
		return page.ResolveReference(relative).String(), nil
	}
	rest = strings.TrimLeft(rest, "/")
	end = strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	// Names and passwords before the host do not change where it leads to.
	authority := rest[strings.LastIndexByte(rest[:end], '@')+1 : end]
	host, err := url.PathUnescape(authority)
	if err != nil || strings.ContainsAny(host, " %/?#@<>^|\\") || host == "" {
		return "", fmt.Errorf("no host in %q", location)
	}
	target, err := url.Parse(scheme + "://" + strings.ToLower(host) + rest[end:])
	if err != nil {
		return "", fmt.Errorf("reading the location: %w", err)
	}
	if target.Hostname() == "" {
		return "", fmt.Errorf("no host in %q", location)
	}
	return page.ResolveReference(target).String(), nil
}

// escapePercent escapes the percent signs that escape nothing, which browsers let
// stand.
func escapePercent(text string) string {
	parts := strings.Split(text, "%")
	for i, part := range parts[1:] {
		if len(part) < 2 || !isHex(part[0]) || !isHex(part[1]) {
			parts[i+1] = "25" + part
		}
	}
	return strings.Join(parts, "%")
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

func isScheme(name string) bool {
	for i := range len(name) {
		c := name[i] | 0x20
		if letter := c >= 'a' && c <= 'z'; !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(name[i]))) {
			return false
		}
	}
	return name != ""
}
