package session

import (
	"context"
	"maps"
	"time"
)

// Adopt takes over what another list has, such as that of an earlier configuration with another backend. It is in force at once, and
// written by [Revocations.WriteAdopted].
func (r *Revocations) Adopt(other *Revocations, now time.Time) {
	r.adopting.Lock()
	defer r.adopting.Unlock()
	if version := other.Version(); r.adoptedAt[other] != version {
		if r.adoptedAt == nil {
			r.adoptedAt = make(map[*Revocations]uint64)
		}
		r.adoptedAt[other] = version
	} else {
		return
	}
	other.mu.RLock()
	taken := maps.Clone(other.entries)
	other.mu.RUnlock()
	r.mu.RLock()
	maps.DeleteFunc(taken, func(key revocationKey, entry revocationEntry) bool { return r.entries[key].covers(entry) })
	r.mu.RUnlock()
	if len(taken) == 0 {
		return
	}
	r.merge(taken, now)
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
	r.adopted, r.adoptedAt = nil, nil
	r.adopting.Unlock()
	if len(adopted) == 0 || !r.shared {
		return nil
	}
	return r.writeIf(ctx, adopted, now, true)
}
