// Package apisix translates the openid-connect plugin of APISIX into a Caddyfile with the directive openid_connect.
//
// Every attribute of the plugin has one row in a table: what becomes of it, by which setting, and what is different afterwards. The rows
// are also the documentation. What cannot be written down truthfully is left out and said to be refused; nothing is passed over.
//
// Three things never happen: a secret of the input in the output, a value of the input that the Caddyfile reads as anything but a value,
// and a Caddyfile that does not load.
package apisix

import (
	"errors"
	"fmt"
	"slices"
)

// Outcome is what becomes of an attribute.
type Outcome string

const (
	// Translated attributes mean the same afterwards.
	Translated Outcome = "translated"

	// Changed attributes are translated with another meaning, or give way to a safer default.
	Changed Outcome = "changed"

	// Refused attributes have no counterpart.
	Refused Outcome = "refused"

	// NoOp attributes are needed no more.
	NoOp Outcome = "no_op"
)

// Attribute tells what becomes of one attribute of the plugin.
type Attribute struct {
	// The name, with dots between the parts of nested ones. What belongs to the route around the plugin begins with "route.".
	Name string `json:"attribute"`

	Outcome Outcome `json:"outcome"`

	// The setting that takes its place.
	Setting string `json:"setting,omitempty"`

	// What is different, or why there is no setting.
	Note string `json:"note,omitempty"`
}

// Options say what the plugin does not.
type Options struct {
	// The address of the site. Default: the hosts of the route around the plugin, else the host of redirect_uri, else example.com
	Site string

	// The address of the upstream. Default: the nodes of the route around the plugin, else localhost:8080
	Upstream string
}

// Conversion is a plugin in the words of Caddy.
type Conversion struct {
	// The whole Caddyfile.
	Caddyfile string `json:"caddyfile"`

	// The attributes that the input has, in its order. After them come those that it leaves to a default of APISIX that people or
	// upstreams would miss.
	Attributes []Attribute `json:"attributes"`
}

// Attributes returns the whole table: every attribute of the plugin, and those that its library takes without the plugin knowing them.
func Attributes() []Attribute {
	all := make([]Attribute, 0, len(table))
	for _, row := range table {
		all = append(all, Attribute{Name: row.name, Outcome: row.outcome, Setting: row.setting, Note: row.note})
	}
	return all
}

// maxInput is far beyond the routes of any gateway.
const maxInput = 16 << 20

// Convert translates a plugin object, a route that has the plugin, or an answer of the admin API with one such route. An error means that
// there is nothing to translate; what cannot be translated within a plugin is an outcome.
func Convert(input []byte, options Options) (*Conversion, error) {
	if len(input) > maxInput {
		return nil, fmt.Errorf("the input has more than %d MiB", maxInput>>20)
	}
	root, err := parseJSON(input)
	if err != nil {
		return nil, err
	}
	found, err := findPlugin(root)
	if err != nil {
		return nil, err
	}
	c := &conversion{
		values:    make(map[string]*value),
		outcomes:  make(map[string]Attribute),
		lines:     make(map[string][]string),
		remarks:   make(map[string]string),
		variables: make(map[string]string),
	}
	if err := c.read(found.plugin, ""); err != nil {
		return nil, err
	}
	for _, name := range []string{"client_id", "discovery"} {
		if c.text(name) == "" {
			return nil, fmt.Errorf("%s is missing: APISIX refuses such a plugin, and so does openid_connect", name)
		}
	}
	if err := c.place(found, options); err != nil {
		return nil, err
	}
	c.global(root)
	c.learn()
	for _, row := range table {
		if c.has(row.name) {
			row.convert(c, row.name)
		} else if row.absent != nil {
			row.absent(c, row.name)
		}
	}
	if err := c.reconcile(); err != nil {
		return nil, err
	}
	return &Conversion{Caddyfile: c.render(), Attributes: c.attributes()}, nil
}

// attributes are the outcomes in the order of the input.
func (c *conversion) attributes() []Attribute {
	all := make([]Attribute, 0, len(c.outcomes))
	for _, name := range slices.Concat(c.order, c.missing, c.routeOrder) {
		if outcome, ok := c.outcomes[name]; ok {
			all = append(all, outcome)
		}
	}
	return all
}

var errUnwritable = errors.New("cannot be written into a Caddyfile: it has control characters, or braces or quotes that the Caddyfile reads its own way")
