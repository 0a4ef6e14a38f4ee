package session

import (
	"context"
	"time"
)

// Backend is where instances keep what they share: small values, locks and sets. It sees sealed values and hashed names, nothing else.
// Keys are paths of lower-case letters, digits, "-", "_" and ".", separated by slashes. It is safe for concurrent use, heeds its contexts
// where it can, and may forget a value once it has expired, but none before.
type Backend interface {
	// Load returns the value of a key. The error wraps [io/fs.ErrNotExist] when there is none.
	Load(ctx context.Context, key string) ([]byte, error)

	// Store writes a value that nobody needs after expires.
	Store(ctx context.Context, key string, value []byte, expires time.Time) error

	// Delete removes a value; that there is none is no error.
	Delete(ctx context.Context, key string) error

	// Lock waits until no instance holds the lock of that name, takes it and returns what gives it back, which never blocks for long. Until
	// then it is held, also when the context has ended since. The lock of an instance that has died ends by itself. The error is the context's
	// when that ended first.
	Lock(ctx context.Context, key string) (unlock func(), err error)

	// Add puts a member into a set, where nobody looks for it after expires; Remove takes it out; Members returns those that are in it.
	Add(ctx context.Context, set, member string, expires time.Time) error
	Remove(ctx context.Context, set, member string) error
	Members(ctx context.Context, set string) ([]string, error)
}
