package apisix

import (
	"slices"
	"strings"
)

// schema turns a JSON Schema into rules where that loses nothing but the distinction between a value and a list of it: claims that must be
// there, and claims that must have one of some values. In sessions APISIX shows the schema another object than claims.
func (c *conversion) schema(name string) {
	rules, complete := schemaRules(c.values[name])
	switch {
	case complete && len(rules) == 0:
		c.noOp(name, "it demands nothing")
	case !c.bearerOnly, !complete:
		c.refused(name, "claims are not checked by a JSON Schema; write required_claim lines in its place")
	default:
		for _, rule := range rules {
			if !c.write(name, "required_claim", rule...) {
				delete(c.lines, "required_claim")
				c.refused(name, "claims are not checked by a JSON Schema, and a name or value in it cannot be written as required_claim")
				return
			}
		}
		c.changed(name, "required_claim", "claims that are missing are refused with 403 instead of 401. It is laxer: a list passes when one of its "+
			"elements does, an object by the name of a member, and the text true passes for true")
	}
}

// schemaRules are the arguments of the rules, and whether they say all that the schema says.
func schemaRules(schema *value) (rules [][]string, complete bool) {
	var required []string
	constrained := make(map[string]bool)
	for _, keyword := range schema.members {
		switch keyword.name {
		case "$schema", "$id", "title", "description", "$comment":
		case "type":
			if keyword.value.text != "object" {
				return nil, false
			}
		case "required":
			if keyword.value.kind != kindList {
				return nil, false
			}
			for _, element := range keyword.value.elements {
				if element.kind != kindText || element.text == "" {
					return nil, false
				}
				required = append(required, element.text)
			}
		case "properties":
			if keyword.value.kind != kindObject {
				return nil, false
			}
			for _, property := range keyword.value.members {
				values, ok := allowedValues(property.value)
				if !ok || property.name == "" {
					return nil, false
				}
				if len(values) > 0 {
					if slices.Contains(scopeClaims, property.name) {
						return nil, false // it would pass by one of its words
					}
					constrained[property.name] = true
					rules = append(rules, append([]string{claimPath(property.name)}, values...))
				}
			}
		default:
			return nil, false
		}
	}
	for _, claim := range required {
		if !constrained[claim] {
			constrained[claim] = true
			rules = append(rules, []string{claimPath(claim)})
		}
	}
	for claim := range constrained {
		// a claim that may be missing, yet not have another value, is not a rule of ours
		if !slices.Contains(required, claim) {
			return nil, false
		}
	}
	return rules, true
}

// scopeClaims are read as a list of words.
var scopeClaims = []string{"scope", "scp", "scopes"}

// allowedValues are the values that a property may have; none where it may have any.
func allowedValues(property *value) (values []string, ok bool) {
	if property.kind != kindObject || len(property.members) > 1 {
		return nil, property.kind == kindFlag && property.text == "true"
	}
	for _, keyword := range property.members {
		all := []*value{keyword.value}
		switch keyword.name {
		case "const":
		case "enum":
			if all = keyword.value.elements; len(all) == 0 {
				return nil, false
			}
		case "description", "title":
			continue
		default:
			return nil, false
		}
		for _, one := range all {
			if one.kind != kindText && one.kind != kindFlag || one.text == "" || isReference(one.text) {
				return nil, false
			}
			values = append(values, one.text)
		}
	}
	return values, true
}

// claimPath names a claim literally.
func claimPath(name string) string { return strings.NewReplacer(`\`, `\\`, ".", `\.`).Replace(name) }
