package openidconnect

import "time"

// What becomes of a session whose renewal fails for want of the provider.
const (
	refreshFailureKeep = "keep"
	refreshFailureEnd  = "end"
)

// Where instances agree on who renews a session.
const (
	refreshCoordinationAuto    = "auto"
	refreshCoordinationLocal   = "local"
	refreshCoordinationStorage = "storage"
)

const maxAccessTokenLifetime = 365 * 24 * time.Hour

// renews reports whether the refresh tokens of logins are exchanged.
func (h *Handler) renews() bool {
	return h.RenewAccessTokenOnExpiry == nil || *h.RenewAccessTokenOnExpiry
}

// checkRefresh judges what cannot be judged by one setting alone.
func (h *Handler) checkRefresh() error {
	const field = "refresh_session_interval"
	interval, absolute := h.RefreshSessionInterval.or(0), defaultAbsoluteTimeout
	if h.Session != nil {
		absolute = h.Session.AbsoluteTimeout.or(absolute)
	}
	switch {
	case interval != 0 && (interval < time.Second || interval > absolute):
		return fieldError(field, "%s is neither 0 nor between 1s and the absolute_timeout of %s", interval, absolute)
	case interval != 0 && !h.BearerOnly && !h.renews():
		return fieldError(field, "contradicts renew_access_token_on_expiry off: both are done by the refresh token")
	}
	return nil
}
