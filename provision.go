package openidconnect

import (
	"context"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Provision makes the immutable runtime that requests read. It opens no connection and writes no file.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := resolvePlaceholders(h); err != nil {
		return err
	}
	h.resolved = true
	if err := h.check(); err != nil {
		return err
	}
	rt, err := h.newRuntime(ctx)
	if err != nil {
		return err
	}
	h.runtime = rt
	return nil
}

// settleTimeout is for how long the end of the process waits for renewals under way: a provider may have spent a refresh token already.
const settleTimeout = 10 * time.Second

// Cleanup releases what Provision took, which may be nothing.
func (h *Handler) Cleanup() error {
	if h.runtime == nil {
		return nil
	}
	if l := h.runtime.login; l != nil && caddy.Exiting() {
		ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
		defer cancel()
		l.renewals.settle(ctx)
	}
	return h.runtime.release()
}
