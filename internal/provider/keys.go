package provider

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/jose"
)

// fetchKeys replaces the keys by the provider's current set. On any error the old keys stay, and so they do when a fetch that began
// later has been faster.
func (p *Provider) fetchKeys(ctx context.Context) error {
	fetch := p.keyFetches.Add(1)
	metadata := p.state.Load().metadata
	if metadata == nil || metadata.JWKSURI == "" {
		return fmt.Errorf("%w: the metadata names no jwks_uri", ErrKeys)
	}
	header, body, err := p.get(ctx, "jwks", metadata.JWKSURI)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	digest := sha256.Sum256(body)
	known := p.state.Load() // once, as another fetch may replace it at any moment
	keys := known.keys
	if digest != known.keysDigest {
		var skipped []jose.SkippedKey
		keys, skipped, err = jose.ParseKeySet(body)
		p.warnOfSkipped(digest, skipped)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrKeys, err)
		}
	}
	now := p.now()
	until := now.Add(p.keysLifetime(header))
	p.update(func(s *state) {
		if fetch > s.keysFetch {
			s.keys, s.keysDigest, s.keysFetch, s.keysAt, s.keysUntil = keys, digest, fetch, now, until
		}
	})
	return nil
}

// keysLifetime is the configured age, else the response's max-age, within bounds.
func (p *Provider) keysLifetime(header http.Header) time.Duration {
	if p.config.KeysLifetime != 0 {
		return p.config.KeysLifetime
	}
	lifetime := MaxKeysLifetime
	for directive := range strings.SplitSeq(header.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-cache", "no-store":
			lifetime = MinKeysLifetime
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				lifetime = min(lifetime, time.Duration(seconds)*time.Second)
			}
		}
	}
	return max(lifetime, MinKeysLifetime)
}

// warnOfSkipped reports unusable keys once for each document, however often it is fetched.
func (p *Provider) warnOfSkipped(digest [sha256.Size]byte, skipped []jose.SkippedKey) {
	p.mu.Lock()
	warned := digest == p.warnedOf
	p.warnedOf = digest
	p.mu.Unlock()
	if warned {
		return
	}
	for _, key := range skipped {
		p.observe(func(o Observer) { o.KeySkipped(key.Index, key.Reason) })
	}
}
