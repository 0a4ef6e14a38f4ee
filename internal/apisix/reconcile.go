package apisix

import (
	"errors"
	"fmt"
	"slices"
)

// reconcile judges what cannot be judged one by one.
func (c *conversion) reconcile() error {
	c.proxy()
	c.bearers(c.authenticate())
	if c.browser {
		c.storage()
		c.clocks()
		c.interval()
		c.contents()
		c.outlive()
		c.endpoints()
	}
	c.hold()
	if len(c.lines["client_id"]) == 0 {
		return fmt.Errorf("client_id: it %w", errUnwritable)
	}
	if len(c.lines["discovery"]) == 0 && len(c.lines["issuer"]) == 0 {
		return errors.New("discovery: " + c.outcomes["discovery"].Note)
	}
	if name := "required_scopes"; c.outcomes[name].Outcome == Refused {
		return errors.New("required_scopes: " + c.outcomes[name].Note)
	}
	return nil
}

// forget takes back what was told of an attribute that the input does not have.
func (c *conversion) forget(name string) {
	c.missing = slices.DeleteFunc(c.missing, func(other string) bool { return other == name })
	delete(c.outcomes, name)
}
