package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const (
	// caddyPrefix is where the storage has all that is ours.
	caddyPrefix = "openid_connect/"

	// sweepDelay is how long after its end a day is removed, for clocks that do not agree.
	sweepDelay = time.Hour

	// listAttempts is how often a folder is read that changes meanwhile.
	listAttempts = 10
)

// CaddyBackend is a [Backend] in Caddy's storage. That knows no expiry: what expires is kept in folders of days, which
// [CaddyBackend.Sweep] removes. Those of revocations are named for the day of writing, and stay for as long as a session may.
type CaddyBackend struct {
	now     func() time.Time
	storage certmagic.Storage
	logger  *zap.Logger
	strays  atomic.Int64 // calls to the storage that nobody waits for
}

var _ Backend = (*CaddyBackend)(nil)

// NewCaddyBackend returns the backend that lives in this storage. It does not touch the storage.
func NewCaddyBackend(storage certmagic.Storage, now func() time.Time, logger *zap.Logger) *CaddyBackend {
	return &CaddyBackend{now: now, storage: storage, logger: logger}
}

// Load implements [Backend].
func (b *CaddyBackend) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := b.storage.Load(ctx, caddyPrefix+key)
	if err != nil {
		return nil, fmt.Errorf("loading from the storage: %w", err)
	}
	return value, nil
}

// Store implements [Backend]. The key has the day of the expiry, or of the writing, in it.
func (b *CaddyBackend) Store(ctx context.Context, key string, value []byte, _ time.Time) error {
	if err := b.storage.Store(ctx, caddyPrefix+key, value); err != nil {
		return fmt.Errorf("writing to the storage: %w", err)
	}
	return nil
}

// Delete implements [Backend].
func (b *CaddyBackend) Delete(ctx context.Context, key string) error {
	if err := b.storage.Delete(ctx, caddyPrefix+key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deleting from the storage: %w", err)
	}
	return nil
}

// Add implements [Backend]. Sets are folders of small files, below the day of their expiry.
func (b *CaddyBackend) Add(ctx context.Context, set, member string, expires time.Time) error {
	return b.Store(ctx, indexKey(expires.UTC().Format(time.DateOnly), set)+"/"+member, []byte{sealVersion}, expires)
}

// Remove implements [Backend].
func (b *CaddyBackend) Remove(ctx context.Context, set, member string) error {
	days, err := b.indexDays(ctx)
	for _, day := range days {
		err = errors.Join(err, b.Delete(ctx, indexKey(day, set)+"/"+member))
	}
	return err
}

// Members implements [Backend].
func (b *CaddyBackend) Members(ctx context.Context, set string) ([]string, error) {
	days, err := b.indexDays(ctx)
	if err != nil {
		return nil, err
	}
	var members []string
	for _, day := range days {
		more, err := children(ctx, b.storage, caddyPrefix+indexKey(day, set))
		if err != nil {
			return nil, err
		}
		members = append(members, more...)
	}
	slices.Sort(members)
	return slices.Compact(members), nil
}

func indexKey(day, set string) string { return folderIndex + "/" + day + "/" + set }

// indexDays are the days of the index that are not over.
func (b *CaddyBackend) indexDays(ctx context.Context) ([]string, error) {
	days, err := daysOf(ctx, b.storage, folderIndex)
	return slices.DeleteFunc(days, b.over), err
}

// days are the days that a folder has something for.
func daysOf(ctx context.Context, storage certmagic.Storage, folder string) ([]string, error) {
	names, err := children(ctx, storage, caddyPrefix+folder)
	return slices.DeleteFunc(names, func(name string) bool {
		_, err := time.Parse(time.DateOnly, name)
		return err != nil
	}), err
}

func (b *CaddyBackend) over(day string) bool { return b.overSince(day, sweepDelay) }

// overSince says that a day ended that long ago, or earlier.
func (b *CaddyBackend) overSince(day string, since time.Duration) bool {
	return day < b.now().Add(-since).UTC().Format(time.DateOnly)
}

// children returns the names right below a folder.
func children(ctx context.Context, storage certmagic.Storage, folder string) ([]string, error) {
	for range listAttempts {
		keys, err := storage.List(ctx, folder, false)
		switch {
		case err == nil:
			return namesBelow(folder, keys), nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("listing in the storage: %w", err)
		case len(keys) == 0 && !storage.Exists(ctx, folder):
			return nil, nil
		}
		// Caddy's file storage ends a list with this error where a file has gone meanwhile, or has got its name
	}
	return nil, fmt.Errorf("listing in the storage: %s changes all the time", folder)
}

func namesBelow(folder string, keys []string) []string {
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		if rest, ok := strings.CutPrefix(key, folder+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Sweep removes the days that are over, with all that expired on them.
func (b *CaddyBackend) Sweep(ctx context.Context) error {
	var errs error
	for _, folder := range [...]string{folderSessions, folderRenewals, folderSpent, folderIndex, folderRevoked} {
		kept := sweepDelay
		if folder == folderRevoked {
			kept += longestSession
		}
		days, err := daysOf(ctx, b.storage, folder)
		errs = errors.Join(errs, err)
		for _, day := range days {
			if !b.overSince(day, kept) {
				continue
			}
			if err := removeAll(ctx, b.storage, caddyPrefix+folder+"/"+day); err != nil {
				errs = errors.Join(errs, fmt.Errorf("deleting from the storage: %w", err))
				continue
			}
			b.logger.Debug("deleted what has expired", zap.String("folder", folder), zap.String("day", day))
		}
	}
	return errs
}

// removeAll deletes a folder. A storage should delete all that is below it, but some delete single keys only.
func removeAll(ctx context.Context, storage certmagic.Storage, folder string) error {
	if err := storage.Delete(ctx, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	left, err := storage.List(ctx, folder, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range left {
		if !strings.HasPrefix(key, folder+"/") {
			continue
		}
		if err := storage.Delete(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
