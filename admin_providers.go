package openidconnect

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// providerStatus is what the admin API tells of a provider. It holds no secret.
type providerStatus struct {
	Issuer          string            `json:"issuer"`
	ClientIDs       []string          `json:"client_ids"`
	State           string            `json:"state"`
	MetadataFetched time.Time         `json:"metadata_fetched,omitzero"`
	KeysFetched     time.Time         `json:"keys_fetched,omitzero"`
	NextFetch       time.Time         `json:"next_fetch,omitzero"`
	Keys            []keyStatus       `json:"keys"`
	LastError       string            `json:"last_error,omitempty"`
	LastErrorAt     time.Time         `json:"last_error_at,omitzero"`
	Endpoints       map[string]string `json:"endpoints"`
	Caches          cacheStatus       `json:"caches"`
	SessionStorage  []string          `json:"session_storage"`
}

type keyStatus struct {
	ID        string `json:"kid,omitempty"`
	Type      string `json:"kty"`
	Algorithm string `json:"alg,omitempty"`
	Curve     string `json:"crv,omitempty"`
}

// cacheStatus are numbers of entries, of which some may be over.
type cacheStatus struct {
	Tokens         int `json:"tokens"`
	Introspections int `json:"introspections"`
	Sessions       int `json:"sessions"`
	Renewals       int `json:"renewals"`
	Revocations    int `json:"revocations"`
}

// States of a provider.
const (
	stateUp      = "up"
	stateDown    = "down"
	stateUnknown = "unknown" // nothing was fetched yet
)

func serveProviders(w http.ResponseWriter, _ *http.Request) error {
	return writeAdminAnswer(w, statusOfProviders(activeHandlers()))
}

// statusOfProviders tells of each provider once, however many handlers share it. Those that talk to one issuer in different ways, or
// trust other keys, do not share it.
func statusOfProviders(handlers []*Handler) []providerStatus {
	var order []*sharedProvider
	sharers := make(map[*sharedProvider][]*Handler)
	for _, h := range handlers {
		shared := h.runtime.provider
		if sharers[shared] == nil {
			order = append(order, shared)
		}
		sharers[shared] = append(sharers[shared], h)
	}
	all := make([]providerStatus, 0, len(order))
	for _, shared := range order {
		all = append(all, statusOf(shared.Status(), sharers[shared]))
	}
	slices.SortStableFunc(all, func(a, b providerStatus) int {
		return cmp.Or(cmp.Compare(a.Issuer, b.Issuer), slices.Compare(a.ClientIDs, b.ClientIDs))
	})
	return all
}

func statusOf(known provider.Status, handlers []*Handler) providerStatus {
	status := providerStatus{
		Issuer:          or(known.Issuer, handlers[0].runtime.issuerName),
		ClientIDs:       []string{},
		State:           stateUnknown,
		MetadataFetched: known.MetadataFetched.UTC().Truncate(time.Second),
		KeysFetched:     known.KeysFetched.UTC().Truncate(time.Second),
		NextFetch:       known.NextFetch.UTC().Truncate(time.Second),
		Keys:            []keyStatus{},
		LastError:       known.LastError,
		LastErrorAt:     known.LastErrorAt.UTC().Truncate(time.Second),
		Endpoints:       make(map[string]string),
		Caches:          countCaches(handlers),
		SessionStorage:  []string{},
	}
	switch {
	case known.Up:
		status.State = stateUp
	case known.Asked:
		status.State = stateDown
	}
	for _, key := range known.Keys {
		status.Keys = append(status.Keys, keyStatus(key))
	}
	for name, address := range map[string]string{
		"authorization_endpoint": known.Endpoints.Authorization,
		"token_endpoint":         known.Endpoints.Token,
		"userinfo_endpoint":      known.Endpoints.Userinfo,
		"jwks_uri":               known.Endpoints.JWKSURI,
		"introspection_endpoint": known.Endpoints.Introspection,
		"revocation_endpoint":    known.Endpoints.Revocation,
		"end_session_endpoint":   known.Endpoints.EndSession,
	} {
		if address != "" {
			status.Endpoints[name] = withoutQuery(address)
		}
	}
	for _, h := range handlers {
		if id := h.runtime.policy.clientID; id != "" {
			status.ClientIDs = append(status.ClientIDs, id)
		}
		if h.runtime.login != nil {
			status.SessionStorage = append(status.SessionStorage, h.storageName())
		}
	}
	status.ClientIDs = sortedOnce(status.ClientIDs)
	status.SessionStorage = sortedOnce(status.SessionStorage)
	return status
}

// storageName is the name of where the handler's sessions live.
func (h *Handler) storageName() string {
	if h.Session == nil {
		return storageCookie
	}
	return h.Session.Storage.name()
}

func sortedOnce(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// withoutQuery leaves out where a URL may hold what is not for everybody.
func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	if u.User = nil; u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return u.String()
}

// countCaches counts what handlers remember, that which they share once.
func countCaches(handlers []*Handler) (count cacheStatus) {
	counted := make(map[any]bool)
	first := func(cache any) bool {
		was := counted[cache]
		counted[cache] = true
		return !was
	}
	for _, h := range handlers {
		rt := h.runtime
		if first(rt.tokens) {
			count.Tokens += int(rt.tokens.count.Load())
		}
		if shared := rt.introspection.shared; shared != nil && first(shared) {
			count.Introspections += int(shared.answers.count.Load())
		}
		l := rt.login
		if l == nil {
			continue
		}
		if first(l.opened) {
			count.Sessions += int(l.opened.count.Load())
		}
		if first(l.renewals) {
			count.Renewals += l.renewals.len()
		}
		if first(l.revocations) {
			count.Revocations += l.revocations.Len()
		}
	}
	return count
}

// len is the number of sessions whose renewals are remembered.
func (s *renewals) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.of)
}
