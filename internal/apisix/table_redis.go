package apisix

import (
	"net"
	"strconv"
	"strings"
)

const redis = "session.redis"

func redisTable() []attribute {
	row := func(name string, kind attributeType, note string) attribute {
		return attribute{
			name: redis + "." + name, kind: kind, outcome: Translated, setting: "session storage redis " + name, note: note,
			near: "session.storage." + name, convert: ofLogins(later),
		}
	}
	return []attribute{
		holder(redis, "session storage redis", "Time limits are milliseconds in APISIX; durations are written."),
		row("host", textType, ""),
		row("port", wholeNumber, ""),
		row("username", textType, "It needs a password."),
		row("password", textType, "Never repeated: a placeholder stands for it."),
		row("database", wholeNumber, ""),
		row("prefix", textType, "What APISIX has stored there cannot be read; no key of it is touched."),
		row("ssl", flagType, ""),
		row("ssl_verify", flagType, ""),
		row("server_name", textType, "With `ssl`."),
		row("connect_timeout", wholeNumber, "From 1ms to 1h."),
		row("send_timeout", wholeNumber, "From 1ms to 1h."),
		row("read_timeout", wholeNumber, "From 1ms to 1h."),
		row("keepalive_timeout", wholeNumber, "From 1s to 1h."),
	}
}

func milliseconds(n int64) string {
	if n >= 1000 && n%1000 == 0 {
		return duration(n / 1000)
	}
	return strconv.FormatInt(n, 10) + "ms"
}

// storage settles where sessions live.
func (c *conversion) storage() {
	const name = "session.storage"
	stored := c.text(name)
	host := c.text(redis + ".host")
	usable := host == "" || reference(host) != "" || isHost(host)
	if stored != "redis" || !usable {
		switch {
		case !c.has(name):
		case stored == "cookie":
			c.translated(name, "session storage", "the default")
		case stored == "redis":
			c.refused(name, "session.redis.host is not a host; sessions stay in cookies")
		default:
			c.refused(name, "neither cookie nor redis; sessions stay in cookies")
		}
		for _, row := range redisTable() {
			if row.name != redis && c.has(row.name) {
				c.noOp(row.name, "sessions are not in redis")
			}
		}
		return
	}
	c.add(name, "redis")
	c.translated(name, "session storage redis", "in a build with the module of that name")
	c.steps = append(c.steps, comment("Build Caddy with --with github.com/caddy-openid-connect/caddy-openid-connect/redis, for the storage redis.")...)
	inner := func(setting string) string { return name + "." + setting }
	text := func(setting string) {
		if attribute := redis + "." + setting; c.text(attribute) != "" {
			if c.write(attribute, inner(setting), c.text(attribute)) {
				c.translated(attribute, "session storage redis "+setting, "")
			}
		} else if c.has(attribute) {
			c.noOp(attribute, "it is empty")
		}
	}
	text("host")
	c.redisNumber("port", 1, 65535, func(n int64) string { return strconv.FormatInt(n, 10) })
	c.redisCredentials(text)
	c.redisNumber("database", 0, 1<<31-1, func(n int64) string { return strconv.FormatInt(n, 10) })
	if prefix := redis + ".prefix"; strings.ContainsFunc(c.text(prefix), func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		c.refused(prefix, "must have no spaces; the prefix is sessions")
	} else {
		text("prefix")
	}
	c.redisTLS(text)
	for _, timeout := range []string{"connect_timeout", "send_timeout", "read_timeout"} {
		c.redisNumber(timeout, 1, 3600_000, milliseconds)
	}
	c.redisNumber("keepalive_timeout", 1000, 3600_000, milliseconds)
}

// isHost reports whether a text is the name or address of a host, and no URL.
func isHost(text string) bool {
	return !strings.ContainsAny(text, "/@ []{}") && (!strings.Contains(text, ":") || net.ParseIP(text) != nil)
}

func (c *conversion) redisNumber(setting string, least, most int64, written func(int64) string) {
	name := redis + "." + setting
	if !c.has(name) {
		return
	}
	n := c.number(name, 0)
	if n < least || n > most {
		c.refused(name, "not from "+written(least)+" to "+written(most)+"; the default is taken")
		return
	}
	c.add("session.storage."+setting, written(n))
	c.translated(name, "session storage redis "+setting, "")
}

func (c *conversion) redisCredentials(text func(string)) {
	const username, password = redis + ".username", redis + ".password"
	if c.text(password) == "" {
		if c.has(password) {
			c.noOp(password, "it is empty")
		}
		if c.has(username) {
			c.refused(username, "a user needs a password")
		}
		return
	}
	text("username")
	c.secret(password, "session.storage.password", "REDIS_PASSWORD", "as a placeholder")
	c.translated(password, "session storage redis password", "as a placeholder")
}

func (c *conversion) redisTLS(text func(string)) {
	const ssl, verify, server = redis + ".ssl", redis + ".ssl_verify", redis + ".server_name"
	if !c.flag(ssl, false) {
		for _, name := range []string{ssl, verify, server} {
			if c.has(name) {
				c.noOp(name, "session.redis.ssl is off")
			}
		}
		return
	}
	c.add("session.storage.ssl")
	c.translated(ssl, "session storage redis ssl", "")
	if c.has(verify) {
		if !c.flag(verify, true) {
			c.add("session.storage.ssl_verify", "off")
		}
		c.translated(verify, "session storage redis ssl_verify", "")
	}
	text("server_name")
}
