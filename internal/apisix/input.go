package apisix

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/suggestion"
)

const pluginName = "openid-connect"

// foundPlugin is a plugin object, with the plugins that it stands among and the route that it belongs to, if there are such.
type foundPlugin struct {
	plugin, plugins, route *value
}

// findPlugin finds the one plugin object in what the admin API, a standalone configuration or a person may write around it.
func findPlugin(root *value) (foundPlugin, error) {
	var all []foundPlugin
	if err := collectPlugins(root, &all); err != nil {
		return foundPlugin{}, err
	}
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(all) > 1:
		var names []string
		for _, found := range all[:min(len(all), 8)] {
			names = append(names, fmt.Sprintf("line %d%s", found.plugin.line, found.name()))
		}
		return foundPlugin{}, fmt.Errorf("%d openid-connect plugins are in it (%s); give one route of them, for example with "+
			`jq '[.. | objects | select(.plugins | type == "object" and has("openid-connect"))][0]'`, len(all), strings.Join(names, "; "))
	case root.kind == kindList:
		return foundPlugin{}, errors.New("no openid-connect plugin is in the list")
	}
	if root.object("plugins") != nil || root.member("list") != nil || root.member("value") != nil {
		return foundPlugin{}, errors.New("no openid-connect plugin is in it")
	}
	return foundPlugin{plugin: root}, nil
}

// name tells plugins apart by the route that they belong to.
func (f foundPlugin) name() string {
	for _, name := range []string{"id", "name", "uri"} {
		if v := f.route.member(name); v != nil && (v.kind == kindText || v.kind == kindNumber) {
			return ", " + name + " " + shown(v.text)
		}
	}
	return ""
}

func collectPlugins(v *value, all *[]foundPlugin) error {
	if v.kind == kindList {
		for _, element := range v.elements {
			if element.kind == kindObject && element.member("discovery") != nil && element.member("plugins") == nil {
				*all = append(*all, foundPlugin{plugin: element})
				continue
			}
			if err := collectPlugins(element, all); err != nil {
				return err
			}
		}
		return nil
	}
	for _, within := range []struct{ holder, route *value }{{v, nil}, {v.object("plugins"), v}} {
		plugin, route := within.holder.member(pluginName), within.route
		switch {
		case plugin == nil:
		case plugin.kind != kindObject:
			return plugin.errorf("%s: expected an object, not %s", pluginName, plugin.kind)
		default:
			*all = append(*all, foundPlugin{plugin, within.holder, route})
		}
	}
	for _, name := range []string{"value", "node", "list", "nodes", "routes", "services", "plugin_configs", "global_rules", "consumers"} {
		if inner := v.member(name); inner != nil && (inner.kind == kindObject || inner.kind == kindList) {
			if err := collectPlugins(inner, all); err != nil {
				return err
			}
		}
	}
	return nil
}

// read takes the attributes out of a plugin object, and judges their types.
func (c *conversion) read(object *value, prefix string) error {
	for _, m := range object.members {
		name := prefix + m.name
		row := rows()[name]
		switch {
		case strings.Contains(m.name, "."):
			row = nil // a name that would pass for a nested one
		case name == "session.cookie" && m.value.kind == kindObject:
			if err := c.read(m.value, name+"."); err != nil {
				return err
			}
			continue
		}
		if row == nil {
			c.unknown(name)
			continue
		}
		if !row.accepts(m.value) {
			return m.value.errorf("%s: expected %s, not %s", name, row.kind, m.value.kind)
		}
		c.values[name] = m.value
		c.order = append(c.order, name)
		if row.kind == wholeNumber {
			if _, ok := whole(m.value.text); !ok {
				return m.value.errorf("%s: expected %s", name, row.kind)
			}
		}
		if row.kind == container {
			if err := c.read(m.value, name+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown notes what is not an attribute of the plugin. Its name is the input's, so it is made harmless.
func (c *conversion) unknown(name string) {
	note := "not an attribute of the plugin"
	if name == "_meta" {
		note = "what APISIX itself does with a plugin (disable, filter, priority, error_response); a disabled or filtered plugin is not translated as one"
	} else if near := nearest(name); near != "" {
		note += "; did you mean " + near + "?"
	}
	key := shown(name)
	for _, taken := c.outcomes[key]; taken; _, taken = c.outcomes[key] {
		key += "'" // of two that look alike, neither is passed over
	}
	c.order = append(c.order, key)
	c.outcomes[key] = Attribute{Name: key, Outcome: Refused, Note: note}
}

// attributeType is what an attribute has to be.
type attributeType string

const (
	textType    attributeType = "a string"
	flagType    attributeType = "true or false"
	wholeNumber attributeType = "a whole number"
	textList    attributeType = "a list of strings"
	container   attributeType = "an object"
	freeObject  attributeType = "an object " // whose members are not attributes
	verifyType  attributeType = `true, false or "no"`
	anyType     attributeType = "anything"
)

func (row *attribute) accepts(v *value) bool {
	switch row.kind {
	case textType:
		return v.kind == kindText
	case flagType:
		return v.kind == kindFlag
	case wholeNumber:
		return v.kind == kindNumber
	case container, freeObject:
		return v.kind == kindObject
	case verifyType:
		return v.kind == kindFlag || v.kind == kindText && (v.text == "no" || v.text == "yes")
	case textList:
		return v.kind == kindList && !slices.ContainsFunc(v.elements, func(element *value) bool { return element.kind != kindText })
	default:
		return true
	}
}

// whole reads a whole number as JSON Schema does: 3.0 and 3e0 are such.
func whole(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// shown is a text of the input as error texts and comments may repeat it: short, on one line, and nothing in it that Caddy would replace.
func shown(text string) string {
	const most = 60
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	plain := strings.Map(func(r rune) rune {
		switch {
		case r == '{':
			return '('
		case r == '}':
			return ')'
		case r < ' ' || r > '~' || r == '`' || r == '|':
			return '?'
		}
		return r
	}, text)
	if strings.ContainsAny(plain, ` "\`) || plain == "" || plain != text {
		return strconv.Quote(plain)
	}
	return plain
}

// nearest is the attribute whose name is nearest to a misspelt one, "" when none is near.
func nearest(name string) string {
	if len(name) > 60 {
		return ""
	}
	best, distance := "", 0
	for i := range table {
		candidate := table[i].name
		// session.secret may have been written without its object
		last := candidate[strings.LastIndexByte(candidate, '.')+1:]
		d := min(suggestion.Distance(name, candidate), suggestion.Distance(name, last)+1)
		if best == "" || d < distance {
			best, distance = candidate, d
		}
	}
	if distance > max(2, len(name)/4) {
		return ""
	}
	return best
}
