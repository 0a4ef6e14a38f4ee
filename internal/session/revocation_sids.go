package session

import (
	"context"
	"fmt"
	"time"
)

// sidSeen is the one member of the set that says that a name has been seen.
const sidSeen = "seen"

// NoteSID has other instances, and this one after a restart, know that the provider has given a session that name. It does nothing
// without a backend.
func (r *Revocations) NoteSID(ctx context.Context, owner Owner, sid string, until time.Time) error {
	if !r.shared || sid == "" {
		return nil
	}
	if err := r.backend.Add(ctx, owner.seenSet(sid), sidSeen, until); err != nil {
		return fmt.Errorf("noting the name of a session: %w", err)
	}
	return nil
}

// KnowsSID reports whether [Revocations.NoteSID] has been told of a name. A backend that fails knows nothing.
func (r *Revocations) KnowsSID(ctx context.Context, owner Owner, sid string) bool {
	if !r.shared || sid == "" {
		return false
	}
	members, err := r.backend.Members(ctx, owner.seenSet(sid))
	return err == nil && len(members) > 0
}

func (o Owner) seenSet(sid string) string { return "seen/" + o.hash(sid) }
