package provider

import "time"

// Status is what the tests look at.
type Status struct {
	Up        bool
	Keys      int
	LastFetch time.Time
	LastError error
}

// Status returns the state of the provider at this moment.
func (p *Provider) Status() Status {
	s := p.state.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	status := Status{Up: !p.down && p.complete(s), LastFetch: p.lastFetch, LastError: p.lastError}
	if s.keys != nil {
		status.Keys = s.keys.Len()
	}
	return status
}
