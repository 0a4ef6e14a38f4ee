package session

import (
	"context"
	"maps"
	"time"
)

// Adopt takes over what another list has, such as that of an earlier configuration with another backend. It is in force at once, and
// written by [Revocations.WriteAdopted].
func (r *Revocations) Adopt(other *Revocations, now time.Time) {
	other.mu.RLock()
	taken := maps.Clone(other.entries)
	other.mu.RUnlock()
	if len(taken) == 0 {
		return
	}
	r.merge(taken, now)
	r.adopting.Lock()
	defer r.adopting.Unlock()
	if r.adopted == nil {
		r.adopted = taken
		return
	}
	for key, entry := range taken {
		r.adopted[key] = r.adopted[key].with(entry)
	}
}

// WriteAdopted has the backend get what was taken over, and waits until it has it or the context ends.
func (r *Revocations) WriteAdopted(ctx context.Context, now time.Time) error {
	r.adopting.Lock()
	adopted := r.adopted
	r.adopted = nil
	r.adopting.Unlock()
	if len(adopted) == 0 || !r.shared {
		return nil
	}
	return r.writeIf(ctx, adopted, now, true)
}
