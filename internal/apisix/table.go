package apisix

import (
	"slices"
	"strings"
)

// attribute is one row of the table: an attribute of the plugin, and what becomes of it.
type attribute struct {
	name    string
	kind    attributeType
	outcome Outcome // as a rule; the input at hand may give another
	setting string  // ours
	note    string  // for the documentation
	near    string  // the setting that remarks stand at, where that is another or none
	guards  bool    // it keeps people or tokens out, so its refusal lets more in

	convert func(c *conversion, name string)
	absent  func(c *conversion, name string) // what APISIX does by default has to be told, nil where not
}

var (
	table   []attribute
	byNames map[string]*attribute
)

func rows() map[string]*attribute { return byNames }

func init() {
	// rows refer to functions that look into the table
	table = slices.Concat(providerTable(), clientTable(), bearerTable(), loginTable(), sessionTable(), redisTable(), refreshTable(),
		logoutTable(), headerTable(), passThroughTable())
	byNames = make(map[string]*attribute, len(table))
	for i := range table {
		byNames[table[i].name] = &table[i]
	}
}

// holder is the row of an object that only holds other attributes.
func holder(name, setting, note string) attribute {
	return attribute{name: name, kind: container, outcome: Translated, setting: setting, note: note, convert: later}
}

// hold tells of the objects that only hold other attributes what these say.
func (c *conversion) hold() {
	for _, row := range table {
		if row.kind != container || !c.has(row.name) || c.outcomes[row.name].Outcome == Changed {
			continue
		}
		if len(c.values[row.name].members) == 0 {
			c.noOp(row.name, "nothing is in it")
			continue
		}
		used := false
		for name, outcome := range c.outcomes {
			used = used || c.has(name) && strings.HasPrefix(name, row.name+".") && (outcome.Outcome == Translated || outcome.Outcome == Changed)
		}
		if used {
			c.translated(row.name, row.setting, "by what is in it")
			continue
		}
		c.noOp(row.name, "see what is in it")
	}
}

// later is for attributes that are judged together with others.
func later(*conversion, string) {}

// copied writes a text as it is.
func copied(setting string) func(*conversion, string) {
	return func(c *conversion, name string) {
		if c.text(name) == "" {
			c.noOp(name, "it is empty")
			return
		}
		c.write(name, setting, c.text(name))
	}
}

// switched writes a flag where it is not what we do anyway.
func switched(setting string, standard bool) func(*conversion, string) {
	return func(c *conversion, name string) {
		switch on := c.flag(name, standard); {
		case on == standard:
			c.translated(name, setting, "the default")
		case on:
			c.add(setting)
			c.translated(name, setting, "")
		default:
			c.add(setting, "off")
			c.translated(name, setting, "")
		}
	}
}

// spanned writes a number of seconds within our limits.
func spanned(setting string, least, most int64) func(*conversion, string) {
	return func(c *conversion, name string) { c.span(name, setting, least, most) }
}

// needless is for attributes that have nothing to do here.
func needless(note string) func(*conversion, string) {
	return func(c *conversion, name string) { c.noOp(name, note) }
}

// impossible is for attributes that have no counterpart.
func impossible(note string) func(*conversion, string) {
	return func(c *conversion, name string) { c.refused(name, note) }
}

// unlessOff is for flags that have no counterpart, and need none where they are off.
func unlessOff(note string) func(*conversion, string) {
	return func(c *conversion, name string) {
		if !c.flag(name, false) {
			c.noOp(name, "off, as here")
			return
		}
		c.refused(name, note)
	}
}

// ofLogins has an attribute ignored where nobody logs in.
func ofLogins(convert func(*conversion, string)) func(*conversion, string) {
	return func(c *conversion, name string) {
		if c.browser {
			convert(c, name)
			return
		}
		c.noOp(name, "bearer_only: nobody logs in")
	}
}

// ofBearers has an attribute ignored where no bearer token is looked at.
func ofBearers(convert func(*conversion, string)) func(*conversion, string) {
	return func(c *conversion, name string) {
		if c.bearer {
			convert(c, name)
			return
		}
		c.noOp(name, "no bearer token is looked at: neither bearer_only nor introspection_endpoint nor public_key nor use_jwks is set")
	}
}

// ofIntrospection has an attribute ignored where tokens are not introspected.
func ofIntrospection(convert func(*conversion, string)) func(*conversion, string) {
	return ofBearers(func(c *conversion, name string) {
		if !c.local {
			convert(c, name)
			return
		}
		c.noOp(name, "tokens are verified with keys, and not introspected")
	})
}
