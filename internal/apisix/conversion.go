package apisix

import (
	"slices"
	"strconv"
	"strings"
)

// conversion is one plugin on its way.
type conversion struct {
	values     map[string]*value    // the attributes of the input
	outcomes   map[string]Attribute // what has become of them
	order      []string             // their order in the input
	missing    []string             // those that are not in the input, and yet told
	routeOrder []string             // what belongs to the route

	lines         map[string][]string // the settings: the arguments of each line
	remarks       map[string]string   // comments that are not about one attribute
	variables     map[string]string   // variables of the environment: what they have to hold
	variableOrder []string
	steps         []string // comments at the top

	site, upstream string
	paths          []string // where the site has more than the route

	bearerOnly bool   // no logins
	bearer     bool   // bearer tokens are looked at
	local      bool   // they are verified here, not by introspection
	browser    bool   // people log in
	opens      bool   // something that is not carried over has kept people out
	privateKey string // the kind of the client's key, "" without one
}

// learn finds out how the plugin works before single attributes are looked at.
func (c *conversion) learn() {
	c.bearerOnly = c.flag("bearer_only", false)
	c.browser = !c.bearerOnly
	c.local = c.has("public_key") || c.flag("use_jwks", false)
	c.bearer = c.bearerOnly || c.local || c.has("introspection_endpoint")
	c.privateKey = privateKeyKind(c.text("client_rsa_private_key"))
}

func (c *conversion) has(name string) bool { return c.values[name] != nil }

func (c *conversion) text(name string) string {
	if v := c.values[name]; v != nil && v.kind == kindText {
		return v.text
	}
	return ""
}

func (c *conversion) flag(name string, standard bool) bool {
	if v := c.values[name]; v != nil && v.kind == kindFlag {
		return v.text == "true"
	}
	return standard
}

func (c *conversion) number(name string, standard int64) int64 {
	if v := c.values[name]; v != nil && v.kind == kindNumber {
		if n, ok := whole(v.text); ok {
			return n
		}
	}
	return standard
}

func (c *conversion) texts(name string) []string {
	var texts []string
	if v := c.values[name]; v != nil {
		for _, element := range v.elements {
			texts = append(texts, element.text)
		}
	}
	return texts
}

// The outcomes. An attribute that the input does not have is told at the end.
func (c *conversion) translated(name, setting, note string) { c.tell(name, Translated, setting, note) }
func (c *conversion) changed(name, setting, note string)    { c.tell(name, Changed, setting, note) }
func (c *conversion) refused(name, note string)             { c.tell(name, Refused, "", note) }
func (c *conversion) noOp(name, note string)                { c.tell(name, NoOp, "", note) }

func (c *conversion) tell(name string, outcome Outcome, setting, note string) {
	if !c.has(name) && !slices.Contains(c.missing, name) {
		c.missing = append(c.missing, name)
	}
	c.outcomes[name] = Attribute{Name: name, Outcome: outcome, Setting: strings.ReplaceAll(setting, ".", " "), Note: note}
}

// add adds a line of a setting with arguments that are ours.
func (c *conversion) add(setting string, arguments ...string) {
	c.lines[setting] = append(c.lines[setting], strings.Join(arguments, " "))
}

// drop takes a setting back, and says why of the attribute that it came from.
func (c *conversion) drop(setting, name, why string) {
	delete(c.lines, setting)
	if c.has(name) {
		c.refused(name, why)
	} else {
		c.missing = slices.DeleteFunc(c.missing, func(other string) bool { return other == name })
		delete(c.outcomes, name)
	}
}

// write adds a line with values of the input. When it cannot be written, the attribute is refused.
func (c *conversion) write(name, setting string, values ...string) bool {
	arguments := make([]string, 0, len(values))
	for _, text := range values {
		if argument := reference(text); argument != "" {
			c.variable(strings.TrimSuffix(strings.TrimPrefix(argument, "{env."), "}"), "as for APISIX, for "+name)
			arguments = append(arguments, argument)
			continue
		}
		if isReference(text) {
			c.refused(name, "a reference that Caddy does not resolve: write the value, or a placeholder such as {env.NAME} or {file./path}")
			return false
		}
		argument, ok := token(text)
		if !ok {
			c.refused(name, "it "+errUnwritable.Error())
			return false
		}
		arguments = append(arguments, argument)
	}
	c.add(setting, arguments...)
	c.translated(name, setting, "")
	return true
}

// secret adds a line with a placeholder in place of a secret.
func (c *conversion) secret(name, setting, variable, note string) {
	argument := reference(c.text(name))
	if argument == "" {
		argument = "{env." + variable + "}"
		c.variable(variable, "the "+name+" of the plugin")
	} else {
		c.variable(strings.TrimSuffix(strings.TrimPrefix(argument, "{env."), "}"), "as for APISIX, for "+name)
	}
	c.add(setting, argument)
	c.translated(name, setting, note)
}

func (c *conversion) variable(name, holds string) {
	if _, known := c.variables[name]; !known {
		c.variableOrder = append(c.variableOrder, name)
		c.variables[name] = holds
	}
}

// duration writes a number of seconds as people do.
func duration(seconds int64) string {
	for _, unit := range []struct {
		seconds int64
		name    string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}} {
		if seconds >= unit.seconds && seconds%unit.seconds == 0 {
			return strconv.FormatInt(seconds/unit.seconds, 10) + unit.name
		}
	}
	return strconv.FormatInt(seconds, 10) + "s"
}

// between is the number nearest to n in a range.
func between(n, least, most int64) int64 { return min(max(n, least), most) }

// span adds a duration within its limits.
func (c *conversion) span(name, setting string, least, most int64) {
	n := c.number(name, 0)
	if fitting := between(n, least, most); fitting != n {
		c.add(setting, duration(fitting))
		c.changed(name, setting, "it is from "+duration(least)+" to "+duration(most)+" here")
		return
	}
	c.add(setting, duration(n))
	c.translated(name, setting, "")
}
