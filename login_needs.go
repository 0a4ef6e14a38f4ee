package openidconnect

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddy-openid-connect/caddy-openid-connect/internal/provider"
)

// loginNeeds is what the handlers that share a session need of a login.
type loginNeeds struct {
	keeps    sessionContents
	userinfo userinfoPolicy
}

// sharedNeeds are the needs of all handlers that share sessions: whichever of them finishes a login has to serve the others too.
type sharedNeeds struct {
	mu     sync.Mutex
	of     map[uint64]loginNeeds      // by the number of the runtime
	united atomic.Pointer[loginNeeds] // nil until a login asks: there may be thousands of handlers
}

func newSharedNeeds() *sharedNeeds {
	return &sharedNeeds{of: make(map[uint64]loginNeeds)}
}

// add adds the needs of a runtime and returns what takes them away again.
func (s *sharedNeeds) add(number uint64, needs loginNeeds) (remove func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[number] = needs
	s.united.Store(nil)
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.of, number)
		s.united.Store(nil)
		return nil
	}
}

// load returns what serves all.
func (s *sharedNeeds) load() *loginNeeds {
	if united := s.united.Load(); united != nil {
		return united
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	united := new(loginNeeds)
	for _, needs := range s.of {
		united.keeps = united.keeps.union(needs.keeps)
		united.userinfo.mode = needs.userinfo.mode // the handlers have it in common
		united.userinfo.wanted = append(united.userinfo.wanted, needs.userinfo.wanted...)
		united.userinfo.scopes = append(united.userinfo.scopes, needs.userinfo.scopes...)
	}
	slices.SortFunc(united.userinfo.wanted, func(a, b claimPath) int {
		return slices.Compare(a.segments, b.segments)
	})
	united.userinfo.wanted = slices.CompactFunc(united.userinfo.wanted, func(a, b claimPath) bool {
		return slices.Equal(a.segments, b.segments)
	})
	slices.Sort(united.userinfo.scopes)
	united.userinfo.scopes = slices.Compact(united.userinfo.scopes)
	s.united.Store(united)
	return united
}

// wantUserinfo reports whether the provider has to be asked for more than these claims.
func (n *loginNeeds) wantUserinfo(claims map[string]any, metadata *provider.Metadata) bool {
	return (n.keeps.userinfo || n.userinfo.mode == userinfoOn) && n.userinfo.wants(claims, metadata)
}

// union keeps what either of the two needs.
func (c sessionContents) union(other sessionContents) sessionContents {
	return sessionContents{
		userinfo:      c.userinfo || other.userinfo,
		idTokenClaims: c.idTokenClaims || other.idTokenClaims,
		idTokenCopy:   c.idTokenCopy || other.idTokenCopy,
		rawIDToken:    c.rawIDToken || other.rawIDToken,
		accessToken:   c.accessToken || other.accessToken,
		refreshToken:  c.refreshToken || other.refreshToken,
	}
}
