package session

import (
	"context"
	"time"
)

// The folders of what instances share, each with one folder for each day on which some of it expires; that of revocations has one for each
// day on which some were written.
const (
	folderSessions = "sessions"
	folderRenewals = "renewals"
	folderSpent    = "spent"
	folderIndex    = "index"
	folderRevoked  = "revoked"
)

// bounded is a [Backend] whose calls, but for Lock, end in good time.
type bounded struct{ Backend }

func (b bounded) Load(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return b.Backend.Load(ctx, key)
}

func (b bounded) Store(ctx context.Context, key string, value []byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return b.Backend.Store(ctx, key, value, expires)
}

func (b bounded) Delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return b.Backend.Delete(ctx, key)
}

func (b bounded) Add(ctx context.Context, set, member string, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return b.Backend.Add(ctx, set, member, expires)
}

func (b bounded) Remove(ctx context.Context, set, member string) error {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return b.Backend.Remove(ctx, set, member)
}

func (b bounded) Members(ctx context.Context, set string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return b.Backend.Members(ctx, set)
}
