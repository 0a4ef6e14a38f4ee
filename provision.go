package openidconnect

import "github.com/caddyserver/caddy/v2"

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

// Cleanup releases what Provision took, which may be nothing.
func (h *Handler) Cleanup() error {
	if h.runtime == nil {
		return nil
	}
	return h.runtime.release()
}
